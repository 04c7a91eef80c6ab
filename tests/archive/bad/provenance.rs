//! What sealift says of images beside their documents, and what is not so.

use sealift::oci::Digest;
use serde_json::json;

use super::contents::sample;
use super::{Case, case};
use crate::images::{Sample, blob, layer, plain};
use crate::tar_builder::TarBuilder;

/// A file of an archive: its name and bytes.
type File = (String, Vec<u8>);

pub fn cases() -> Vec<Case> {
    let says = |key: &'static str, value: &str| {
        let value = value.to_string();
        sample(move |sample| sample.index["manifests"][0]["annotations"][key] = value.into())
    };
    let uncompressed = || Sample::new(vec![layer("one"), layer("two")]).uncompress(&[1]);
    let changed = |change: fn(&mut Vec<File>)| {
        let mut files = uncompressed().files();
        change(&mut files);
        TarBuilder::default().files(&files).end()
    };
    let mut undeclared = uncompressed();
    let annotations = undeclared.index["manifests"][0]["annotations"].as_object_mut();
    annotations.unwrap().remove("dev.sealift.uncompressed");
    let mut short = Sample::new(vec![layer("one"), layer("two")]);
    short.config["rootfs"]["diff_ids"] = json!([Digest::sha256(&plain("one"))]);
    short.reseal();
    let other = Digest::sha256(b"other").to_string();
    vec![
        case(
            "uncompressed-layer-missing",
            &["missing", "missing"],
            "missing, and so is sha256:",
            changed(|files| files.retain(|file| *file != blob(&plain("two")))),
        ),
        case(
            "uncompressed-layer-damaged",
            &["digest-differs"],
            "digest is",
            changed(|files| {
                let spoilt = files.iter_mut().filter(|file| **file == blob(&plain("two")));
                spoilt.for_each(|file| file.1[0] ^= 1);
            }),
        ),
        case(
            "uncompressed-layer-not-declared",
            &["missing"],
            "missing",
            undeclared.tar(),
        ),
        case(
            "uncompressed-layer-without-a-diff-id",
            &["diff-id-count", "manifest-json", "missing"],
            "missing",
            short.uncompress(&[1]).tar(),
        ),
        case(
            "uncompressed-layer-of-no-manifest",
            &["document"],
            "which none of its manifests names",
            says("dev.sealift.uncompressed", &other),
        ),
        case(
            "uncompressed-layer-no-digest",
            &["document"],
            "dev.sealift.uncompressed: ",
            says("dev.sealift.uncompressed", "sha256:12"),
        ),
        case(
            "recorded-no-digest",
            &["document"],
            "dev.sealift.recorded: ",
            says("dev.sealift.recorded", "None"),
        ),
    ]
}
