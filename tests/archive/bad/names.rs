//! Names that say two things.

use sealift::oci::Digest;
use serde_json::json;

use super::contents::sample;
use super::{Case, case};
use crate::images::{NAME, Sample, layer};
use crate::tar_builder::TarBuilder;

const CONTAINERD: &str = "io.containerd.image.name";
const LAYOUT: &str = "org.opencontainers.image.ref.name";
const REFERENCE: &str = "dev.sealift.reference";

/// The sample with these names.
fn named(names: &[(&str, &str)]) -> Vec<u8> {
    sample(|sample| {
        for (key, name) in names {
            sample.index["manifests"][0]["annotations"][*key] = (*name).into();
        }
    })
}

/// Two images under these names.
fn two(first: &[(&str, &str)], second: &[(&str, &str)]) -> Vec<u8> {
    let (mut one, mut other) = (Sample::plain(), Sample::new(vec![layer("another")]));
    for (sample, names) in [(&mut one, first), (&mut other, second)] {
        let names = names.iter().map(|(key, name)| ((*key).to_string(), json!(name)));
        sample.entry["annotations"] = serde_json::Value::Object(names.collect());
    }
    one.index = json!({"schemaVersion": 2, "manifests": [one.entry, other.entry]});
    let mut files = one.files();
    files.retain(|file| file.0 != "manifest.json");
    TarBuilder::default().files(&other.blobs()).files(&files).end()
}

pub fn cases() -> Vec<Case> {
    let other = Digest::sha256(b"another").to_string();
    let (pinned, tagged) = (
        format!("docker.io/library/app@{other}"),
        format!("{NAME}@{other}"),
    );
    vec![
        case(
            "names-of-two-tags",
            &["names-differ"],
            "it has two names, docker.io/library/app:1 and 2",
            named(&[(LAYOUT, "2")]),
        ),
        case(
            "names-of-two-registries",
            &["names-differ"],
            "it has two names, docker.io/library/app:1 and quay.io/library/app:1",
            named(&[(LAYOUT, "quay.io/library/app:1")]),
        ),
        case(
            "name-and-reference-differ",
            &[
                "manifest-json",
                "manifest-json",
                "name-digest-differs",
                "names-differ",
            ],
            "and docker.io/library/app:1",
            named(&[(REFERENCE, &format!("docker.io/library/other:1@{other}"))]),
        ),
        case(
            "reference-with-another-digest",
            &["name-digest-differs"],
            "its name has another digest, sha256:",
            named(&[(REFERENCE, &tagged)]),
        ),
        case(
            "name-with-another-digest",
            &["name-digest-differs"],
            "its name has another digest, sha256:",
            two(
                &[(CONTAINERD, &pinned), (LAYOUT, &format!("@{other}"))],
                &[(LAYOUT, "1")],
            ),
        ),
        case(
            "name-of-a-layout-with-another-digest",
            &["name-digest-differs"],
            "its name has another digest, sha256:",
            two(&[(LAYOUT, &pinned)], &[]),
        ),
        case(
            "name-of-two-images",
            &["name-of-two-images", "name-of-two-images"],
            "docker.io/library/app:1 is also the name of sha256:",
            two(&[(CONTAINERD, NAME), (LAYOUT, "1")], &[(LAYOUT, "app:1")]),
        ),
    ]
}
