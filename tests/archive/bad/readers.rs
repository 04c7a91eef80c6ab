//! What Go's readers, which every engine has, take for something else, or do not read at all.

use serde_json::{Value, json};

use super::contents::{document, sample, text};
use super::docker_saves::replaced;
use super::{Case, case};
use crate::images::Sample;

pub fn cases() -> Vec<Case> {
    let mut cases = keys();
    cases.extend(values());
    cases
}

/// Keys that only fold to the name of a field.
fn keys() -> Vec<Case> {
    let config = |change: fn(&mut Value)| {
        sample(|sample| {
            change(&mut sample.config);
            sample.reseal();
        })
    };
    let manifest = |change: fn(&mut Value)| {
        sample(|sample| {
            change(&mut sample.manifest);
            sample.rename();
        })
    };
    let entry = |change: fn(&mut Value)| sample(|sample| change(&mut sample.index["manifests"][0]));
    let bad_manifest: &[_] = &["json", "manifest-json"];
    let bad_config: &[_] = &["document"];
    vec![
        case(
            "key-folds-in-the-marker",
            &["json"],
            "\"ImageLayoutVersion\" is not",
            text("oci-layout", |text| {
                text.replacen('{', "{\"ImageLayoutVersion\":\"2\",", 1)
            }),
        ),
        case(
            "key-folds-in-index-json",
            &["json"],
            "\"Manifests\" is not \"manifests\"",
            text("index.json", |text| text.replacen('{', "{\"Manifests\":[],", 1)),
        ),
        case(
            "key-folds-in-a-descriptor",
            &["json"],
            "\"Digest\" is not \"digest\"",
            entry(|entry| entry["Digest"] = "sha256:".into()),
        ),
        case(
            "key-folds-in-a-platform",
            &["json"],
            "\"Architecture\" is not \"architecture\"",
            entry(|entry| {
                entry["platform"] = json!({"os": "linux", "architecture": "amd64", "Architecture": "arm64"})
            }),
        ),
        case(
            "key-folds-in-an-index",
            &["json", "manifest-json"],
            "\"MANIFESTS\" is not \"manifests\"",
            {
                let (sample, index) = Sample::plain().wrap(&[]);
                document(&sample, &index, |text| {
                    text.replacen('{', "{\"MANIFESTS\":null,", 1)
                })
            },
        ),
        case(
            "key-folds-in-a-manifest",
            bad_manifest,
            "\"Layers\" is not \"layers\", but Go programs such as Docker take it for that",
            manifest(|manifest| manifest["Layers"] = json!([])),
        ),
        case(
            "key-folds-beyond-ascii",
            bad_manifest,
            "\"layer\\u{17f}\" is not \"layers\"",
            manifest(|manifest| manifest["layer\u{17f}"] = json!([])),
        ),
        case(
            "key-folds-in-a-config",
            bad_config,
            "\"RootFS\" is not \"rootfs\"",
            config(|config| config["RootFS"] = json!({"type": "layers", "diff_ids": []})),
        ),
        case(
            "key-folds-in-a-rootfs",
            bad_config,
            "\"Diff_IDs\" is not \"diff_ids\"",
            config(|config| config["rootfs"]["Diff_IDs"] = json!([])),
        ),
        case(
            "key-folds-in-a-container-config",
            bad_config,
            "\"Networ\\u{212a}Disabled\" is not \"NetworkDisabled\"",
            config(|config| config["config"] = json!({"Networ\u{212a}Disabled": true})),
        ),
        case(
            "key-folds-in-manifest-json",
            &["json"],
            "\"layers\" is not \"Layers\"",
            sample(|sample| sample.manifest_json[0]["layers"] = json!([])),
        ),
        case(
            "save-key-folds",
            &["json"],
            "\"repoTags\" is not \"RepoTags\"",
            replaced("manifest.json", "{", "{\"repoTags\":[\"other:1\"],"),
        ),
    ]
}

/// Values that Go does not decode into a field, though nobody here looks at it.
fn values() -> Vec<Case> {
    let entry = |change: fn(&mut Value)| sample(|sample| change(&mut sample.index["manifests"][0]));
    vec![
        case(
            "size-beyond-63-bits",
            &["json"],
            "9223372036854775808`, expected an integer of 64 bits",
            entry(|entry| entry["size"] = 9_223_372_036_854_775_808_u64.into()),
        ),
        case(
            "size-with-a-fraction",
            &["json"],
            "expected an integer",
            entry(|entry| entry["size"] = 1.5.into()),
        ),
        case(
            "urls-no-list",
            &["json"],
            "expected an array",
            entry(|entry| entry["urls"] = "https://example.com".into()),
        ),
        case(
            "data-of-another-blob",
            &["document"],
            "data is not the content of sha256:",
            entry(|entry| entry["data"] = "b3RoZXI=".into()),
        ),
        case(
            "created-no-time",
            &["document"],
            "expected a time by RFC 3339",
            sample(|sample| {
                sample.config["created"] = "yesterday".into();
                sample.reseal();
            }),
        ),
        case(
            "layer-sources-no-descriptors",
            &["json"],
            "expected an object",
            replaced("manifest.json", "{", "{\"LayerSources\":{\"sha256:00\":\"x\"},"),
        ),
    ]
}
