//! Manifests, indexes, configs and `index.json`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift::archive::format::parse_index;
use sealift::oci::{Config, Document, MediaType};

fuzz_target!(|bytes: &[u8]| {
    for media_type in
        [MediaType::OCI_INDEX, MediaType::OCI_MANIFEST, MediaType::DOCKER_LIST, MediaType::DOCKER_MANIFEST]
    {
        let raw = match Document::parse(&MediaType::new(media_type), bytes.to_vec()) {
            Ok(Document::Manifest(manifest)) => manifest.raw,
            Ok(Document::Index(index)) => index.raw,
            Err(_) => continue,
        };
        assert_eq!(&*raw, bytes);
    }
    let _ = Document::sniff(bytes);
    let _ = Config::parse(bytes);
    let _ = parse_index(bytes);
});
