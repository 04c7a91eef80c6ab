//! Indexes of which engines take different images, and what a bare `docker load` would take instead.

use serde_json::{Value, json};

use super::{Case, case};
use crate::images::{NAME, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Sample, blob, descriptor, layer};
use crate::tar_builder::TarBuilder;

/// A file of an archive: its name and bytes.
type File = (String, Vec<u8>);

const ACME: &str = "application/vnd.acme.config+json";

fn platform(text: &str) -> Value {
    let parts: Vec<&str> = text.split('/').collect();
    let mut platform = json!({"os": parts[0], "architecture": parts[1]});
    if let Some(variant) = parts.get(2) {
        platform["variant"] = json!(variant);
    }
    platform
}

/// Another image than the usual one.
fn other(architecture: &str, config_type: &str) -> Sample {
    let mut other = Sample::new(vec![layer("other")]);
    other.config["architecture"] = json!(architecture);
    other.reseal();
    other.manifest["config"]["mediaType"] = json!(config_type);
    other
}

fn entry(sample: &Sample, said: Option<&str>) -> Value {
    let mut entry = descriptor(OCI_MANIFEST, sample.manifest.to_string().as_bytes());
    if let Some(said) = said {
        entry["platform"] = platform(said);
    }
    entry
}

/// The usual image under one name, in an index of these entries, beside other blobs.
fn archive(others: &[File], entries: &[Value], change: impl FnOnce(&mut Sample)) -> Vec<u8> {
    let mut sample = Sample::plain();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string();
    let mut named = descriptor(OCI_INDEX, index.as_bytes());
    named["annotations"] = sample.index["manifests"][0]["annotations"].take();
    sample.index["manifests"][0] = named;
    change(&mut sample);
    TarBuilder::default()
        .files(&[blob(index.as_bytes())])
        .files(others)
        .files(&sample.files())
        .end()
}

fn switched(sample: &mut Sample, other: &Sample) {
    sample.manifest_json = other.manifest_json.clone();
    sample.manifest_json[0]["RepoTags"] = json!([NAME]);
}

fn descriptor_of_absent(architecture: &str) -> Value {
    let mut absent = descriptor(OCI_MANIFEST, architecture.as_bytes());
    absent["platform"] = json!({"os": "linux", "architecture": architecture});
    absent
}

/// The usual image, and another one for which a digest was recorded.
fn recorded(other: &Sample, digest: &Value, extra: &[File]) -> Vec<u8> {
    let mut sample = Sample::plain();
    let mut named = entry(other, None);
    named["annotations"] = json!({
        "io.containerd.image.name": "docker.io/library/other:1",
        "org.opencontainers.image.ref.name": "docker.io/library/other:1",
        "dev.sealift.recorded": digest,
    });
    sample.index["manifests"].as_array_mut().unwrap().push(named);
    let mut item = other.manifest_json[0].clone();
    item["RepoTags"] = json!(["docker.io/library/other:1"]);
    sample.manifest_json.as_array_mut().unwrap().push(item);
    TarBuilder::default()
        .files(extra)
        .files(&other.blobs())
        .files(&sample.files())
        .end()
}

pub fn cases() -> Vec<Case> {
    let plain = Sample::plain();
    let amd64 = Some("linux/amd64");
    let two = other("amd64", OCI_CONFIG);
    let arm = other("arm64", OCI_CONFIG);
    let acme = other("amd64", ACME);
    let nested =
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry(&two, amd64)]}).to_string();
    let mut cases = vec![
        case(
            "platform-of-two-images",
            &["platform-of-two-images"],
            "two images in it are for linux/amd64, and engines choose differently",
            archive(&two.blobs(), &[entry(&plain, amd64), entry(&two, amd64)], |_| {}),
        ),
        case(
            "platform-of-two-images-by-other-names",
            &["platform-of-two-images"],
            "two images in it are for linux/amd64",
            archive(
                &two.blobs(),
                &[entry(&plain, amd64), entry(&two, Some("linux/x86_64"))],
                |_| {},
            ),
        ),
        case(
            "platform-of-two-images-by-their-configs",
            &["platform-of-two-images"],
            "two images in it are for linux/amd64",
            archive(&two.blobs(), &[entry(&plain, None), entry(&two, None)], |_| {}),
        ),
        case(
            "platform-of-two-images-and-no-system",
            &["platform-of-two-images"],
            "two images in it are for linux/amd64",
            archive(
                &two.blobs(),
                &[entry(&plain, amd64), entry(&two, Some("/amd64"))],
                |_| {},
            ),
        ),
        case(
            "platform-of-two-images-one-of-them-a-substitute",
            &["platform-of-two-images"],
            "two images in it are for linux/amd64",
            {
                let x86 = other("386", OCI_CONFIG);
                archive(
                    &x86.blobs(),
                    &[entry(&plain, None), entry(&x86, Some("linux/386"))],
                    |_| {},
                )
            },
        ),
        case(
            "platform-of-an-attestation",
            &["platform-of-two-images"],
            "two images in it are for linux/amd64",
            {
                let mut attests = entry(&two, amd64);
                attests["annotations"] = json!({
                    "vnd.docker.reference.type": "attestation-manifest",
                    "vnd.docker.reference.digest": entry(&plain, None)["digest"],
                });
                archive(&two.blobs(), &[attests, entry(&plain, amd64)], |_| {})
            },
        ),
        case(
            "attestation-with-the-config-of-an-image",
            &["platform-of-no-image"],
            "for linux/amd64, which is not an image",
            {
                let mut attests = entry(&two, None);
                attests["annotations"] = json!({
                    "vnd.docker.reference.type": "attestation-manifest",
                    "vnd.docker.reference.digest": entry(&plain, None)["digest"],
                });
                archive(&two.blobs(), &[attests, entry(&plain, None)], |_| {})
            },
        ),
        case(
            "platform-of-no-image",
            &["platform-of-no-image"],
            "in it for linux/amd64, which is not an image",
            archive(
                &acme.blobs(),
                &[entry(&acme, amd64), entry(&plain, amd64)],
                |_| {},
            ),
        ),
        case(
            "platform-of-no-image-at-a-higher-level",
            &["platform-of-no-image"],
            "in it for linux/amd64/v3, which is not an image",
            archive(
                &acme.blobs(),
                &[entry(&plain, amd64), entry(&acme, Some("linux/amd64/v3"))],
                |_| {},
            ),
        ),
        case(
            "platform-of-no-image-before-none",
            &["platform-of-no-image"],
            "in it for linux/amd64, which is not an image",
            archive(&acme.blobs(), &[entry(&acme, None), entry(&plain, None)], |_| {}),
        ),
        case(
            "manifest-json-of-another-platform",
            &["manifest-json"],
            "gives \"docker.io/library/app:1\" the image with config",
            archive(
                &arm.blobs(),
                &[entry(&plain, amd64), entry(&arm, Some("linux/arm64"))],
                |sample| {
                    switched(sample, &arm);
                },
            ),
        ),
        case(
            "manifest-json-of-an-artifact",
            &["manifest-json"],
            "names an image with config",
            archive(
                &acme.blobs(),
                &[entry(&plain, amd64), entry(&acme, None)],
                |sample| {
                    switched(sample, &acme);
                },
            ),
        ),
        case(
            "recorded-digest-of-another-image",
            &["recorded-digest-differs"],
            "which is here and is another image's: its config is sha256:",
            recorded(&two, &entry(&plain, None)["digest"], &[]),
        ),
        case(
            "recorded-digest-of-an-index-of-others",
            &["recorded-digest-differs"],
            "which is here and is another image's: its config is sha256:",
            {
                let list = [entry(&plain, amd64), descriptor_of_absent("arm64")];
                let index =
                    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list}).to_string();
                let digest = descriptor(OCI_INDEX, index.as_bytes())["digest"].clone();
                recorded(&two, &digest, &[blob(index.as_bytes())])
            },
        ),
        case(
            "manifest-json-without-the-platform-that-it-is-for",
            &["manifest-json"],
            "the image with config",
            archive(
                &arm.blobs(),
                &[entry(&plain, amd64), entry(&arm, Some("linux/arm64"))],
                |sample| {
                    sample.index["annotations"]["dev.sealift.manifest-json-platform"] = "linux/arm64".into();
                },
            ),
        ),
        case(
            "manifest-json-platform-is-none",
            &["document"],
            "dev.sealift.manifest-json-platform: ",
            archive(
                &arm.blobs(),
                &[entry(&plain, amd64), entry(&arm, Some("linux/arm64"))],
                |sample| {
                    sample.index["annotations"]["dev.sealift.manifest-json-platform"] = "linux/".into();
                },
            ),
        ),
    ];
    let inner = descriptor(OCI_INDEX, nested.as_bytes());
    let mut blobs = two.blobs();
    blobs.push(blob(nested.as_bytes()));
    cases.push(case(
        "platform-of-two-images-in-nested-indexes",
        &["platform-of-two-images"],
        "two images in it are for linux/amd64",
        archive(&blobs, &[inner, entry(&plain, None)], |_| {}),
    ));
    cases
}
