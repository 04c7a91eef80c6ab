//! Files that name images, and the same files with digests instead of tags.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift::image_list::{ImageFile, Options, Variables};
use sealift::oci::Digest;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = ImageFile::parse("list.yaml", bytes) else {
        return;
    };
    let options = Options {
        profiles: vec!["*".into()],
        variables: Variables::of([("TAG", "1"), ("REGISTRY", "quay.io")]),
        fields: vec!["X:spec.*[].image".parse().unwrap()],
    };
    let Ok(list) = file.images(&options) else {
        return;
    };
    let digest = Digest::sha256(b"x");
    let Ok(pinned) = file.pinned(&list, |_| Some(digest)) else {
        return;
    };
    // What was pinned names the same images, each by its digest.
    let again = ImageFile::parse("list.yaml", pinned.as_bytes()).unwrap();
    let again = again.images(&options).unwrap();
    assert_eq!(again.mentions.len(), list.mentions.len(), "{pinned}");
    for (one, other) in list.mentions.iter().zip(&again.mentions) {
        assert_eq!(one.repository(), other.repository(), "{pinned}");
        assert!(other.name.ends_with(&format!("@{digest}")), "{pinned}");
    }
});
