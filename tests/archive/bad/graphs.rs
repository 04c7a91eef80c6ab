//! Broken graphs: indexes, names, and the image list of `docker save`.

use sealift::oci::Digest;
use serde_json::{Value, json};

use super::contents::{sample, text, without};
use super::{Case, case};
use crate::images::{NAME, OCI_INDEX, OCI_MANIFEST, Sample, blob, descriptor, layer};
use crate::tar_builder::TarBuilder;

pub fn cases() -> Vec<Case> {
    let mut cases = graphs();
    cases.extend(manifest_json());
    cases
}

/// The sample behind this many indexes.
fn nested(depth: usize) -> Vec<u8> {
    let (mut sample, index) = Sample::plain().wrap(&[]);
    let mut blobs = vec![index];
    for _ in 1..depth {
        let inner = descriptor(OCI_INDEX, &blobs[blobs.len() - 1].1);
        let outer = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner]}).to_string();
        let annotations = sample.index["manifests"][0]["annotations"].take();
        sample.index["manifests"][0] = descriptor(OCI_INDEX, outer.as_bytes());
        sample.index["manifests"][0]["annotations"] = annotations;
        blobs.push(blob(outer.as_bytes()));
    }
    TarBuilder::default().files(&blobs).files(&sample.files()).end()
}

fn graphs() -> Vec<Case> {
    let absent = |architecture: &str| {
        let mut absent = descriptor(OCI_MANIFEST, architecture.as_bytes());
        absent["platform"] = json!({"os": "linux", "architecture": architecture});
        absent
    };
    let declared = |platforms: &str, others: &[Value]| {
        let (mut sample, index) = Sample::plain().wrap(others);
        sample.index["manifests"][0]["annotations"]["dev.sealift.platforms"] = platforms.into();
        TarBuilder::default().files(&[index]).files(&sample.files()).end()
    };
    let says = |said: &str, config: &str, others: &[Value]| {
        let mut sample = Sample::plain();
        let platform = |text: &str| {
            let parts: Vec<&str> = text.split('/').collect();
            let mut platform = json!({"os": parts[0], "architecture": parts[1]});
            if let Some(variant) = parts.get(2) {
                platform["variant"] = json!(variant);
            }
            platform
        };
        let fields = platform(config);
        for (key, value) in fields.as_object().unwrap() {
            sample.config[key] = value.clone();
        }
        sample.reseal();
        let (sample, index) = sample.wrap_as(&platform(said), others);
        TarBuilder::default().files(&[index]).files(&sample.files()).end()
    };
    vec![
        case(
            "platform-of-another-architecture",
            &["platform-differs"],
            "its index says that it is for linux/arm64, its config linux/amd64",
            says("linux/arm64", "linux/amd64", &[absent("s390x")]),
        ),
        case(
            "platform-of-another-system",
            &["platform-differs"],
            "its index says that it is for linux/amd64, its config windows/amd64",
            says("linux/amd64", "windows/amd64", &[]),
        ),
        case(
            "platform-of-a-lower-level",
            &["platform-differs"],
            "its index says that it is for linux/arm/v6, its config linux/arm/v7",
            says("linux/arm/v6", "linux/arm/v7", &[]),
        ),
        case(
            "platform-in-the-layout-of-another-architecture",
            &["platform-differs"],
            "its index says that it is for linux/arm64, its config linux/amd64",
            sample(|sample| {
                sample.index["manifests"][0]["platform"] = json!({"os": "linux", "architecture": "arm64"});
            }),
        ),
        case(
            "index-without-platforms-lacks-what-is-declared",
            &["document", "manifest-json"],
            "declared to hold linux/amd64",
            {
                let (mut sample, index) = Sample::plain().wrap_as(&Value::Null, &[]);
                sample.index["manifests"][0]["annotations"]["dev.sealift.platforms"] = "linux/amd64".into();
                let manifest = blob(sample.manifest.to_string().as_bytes());
                let mut files = sample.files();
                files.retain(|file| *file != manifest);
                TarBuilder::default().files(&[index]).files(&files).end()
            },
        ),
        case(
            "index-declared-to-hold-nothing",
            &["manifest-json", "missing"],
            "missing",
            {
                let (mut sample, index) = Sample::plain().wrap(&[]);
                sample.index["manifests"][0]["annotations"]["dev.sealift.platforms"] = "".into();
                let manifest = blob(sample.manifest.to_string().as_bytes());
                let mut files = sample.files();
                files.retain(|file| *file != manifest);
                TarBuilder::default().files(&[index]).files(&files).end()
            },
        ),
        case(
            "indexes-too-deep",
            &["manifest-json", "too-deep"],
            "deeper than 8",
            nested(9),
        ),
        case("descriptors-too-many", &["too-many"], "more than 10000", {
            let many: Vec<Value> = (0..10_001).map(|n| absent(&n.to_string())).collect();
            let (sample, index) = Sample::plain().wrap(&many);
            TarBuilder::default().files(&[index]).files(&sample.files()).end()
        }),
        case(
            "descriptors-of-all-too-many",
            &["too-many"; 11],
            "more than 500000",
            {
                let many: Vec<Value> = (0..8000).map(|n| absent(&n.to_string())).collect();
                let (mut sample, index) = Sample::plain().wrap(&many);
                let mut files = vec![index];
                // Indexes of their own that all lead to one.
                for n in 0..72 {
                    let outer = json!({
                        "schemaVersion": 2,
                        "mediaType": OCI_INDEX,
                        "manifests": [descriptor(OCI_INDEX, &files[0].1)],
                        "annotations": {"n": n.to_string()},
                    });
                    let outer = outer.to_string();
                    let mut entry = descriptor(OCI_INDEX, outer.as_bytes());
                    entry["annotations"] = json!({"org.opencontainers.image.ref.name": n.to_string()});
                    sample.index["manifests"].as_array_mut().unwrap().push(entry);
                    files.push(blob(outer.as_bytes()));
                }
                TarBuilder::default().files(&files).files(&sample.files()).end()
            },
        ),
        case(
            "index-with-nothing-here",
            &["manifest-json", "missing", "missing"],
            "missing",
            {
                let (sample, index) = Sample::plain().wrap(&[absent("arm64")]);
                let manifest = blob(sample.manifest.to_string().as_bytes());
                let mut files = sample.files();
                files.retain(|file| *file != manifest);
                TarBuilder::default().files(&[index]).files(&files).end()
            },
        ),
        case("platform-declared-but-absent", &["missing"], "missing", {
            declared("linux/amd64,linux/arm64", &[absent("arm64")])
        }),
        case(
            "platform-declared-but-unknown",
            &["document"],
            "declared to hold linux/s390x",
            declared("linux/s390x", &[absent("arm64")]),
        ),
    ]
}

fn manifest_json() -> Vec<Case> {
    let listed = |change: fn(&mut Value)| sample(|sample| change(&mut sample.manifest_json));
    let (only, other) = (Sample::plain(), Sample::new(vec![layer("hostile")]));
    let both = |change: &dyn Fn(&mut Sample)| {
        let mut sample = only.clone();
        change(&mut sample);
        TarBuilder::default()
            .files(&other.blobs()[1..])
            .files(&sample.files())
            .end()
    };
    vec![
        case(
            "no-manifest-json",
            &["missing"],
            "manifest.json: missing",
            without("manifest.json"),
        ),
        case(
            "manifest-json-of-another-image",
            &["manifest-json"],
            "that no image of index.json has",
            both(&|sample| sample.manifest_json = other.manifest_json.clone()),
        ),
        case(
            "manifest-json-with-another-layer",
            &["manifest-json"],
            "that no image of index.json has",
            {
                both(&|sample| {
                    sample.manifest_json[0]["Layers"] = other.manifest_json[0]["Layers"].clone();
                })
            },
        ),
        case(
            "manifest-json-with-a-layer-less",
            &["manifest-json"],
            "that no image of index.json has",
            listed(|list| list[0]["Layers"] = json!([])),
        ),
        case(
            "manifest-json-with-another-name",
            &["manifest-json", "manifest-json"],
            "index.json does not",
            listed(|list| list[0]["RepoTags"] = json!(["docker.io/library/httpd:2.4"])),
        ),
        case(
            "manifest-json-without-a-name",
            &["manifest-json"],
            "does not give the name",
            listed(|list| list[0]["RepoTags"] = Value::Null),
        ),
        case(
            "manifest-json-with-names-swapped",
            &["manifest-json", "manifest-json"],
            "to another image than",
            {
                let mut sample = only.clone();
                let mut entry = other.entry.clone();
                let name = "docker.io/library/other:1";
                entry["annotations"] = json!({"io.containerd.image.name": name});
                sample.index["manifests"].as_array_mut().unwrap().push(entry);
                let mut second = other.manifest_json[0].clone();
                second["RepoTags"] = json!([NAME]);
                sample.manifest_json[0]["RepoTags"] = json!([name]);
                sample.manifest_json.as_array_mut().unwrap().push(second);
                TarBuilder::default()
                    .files(&other.blobs())
                    .files(&sample.files())
                    .end()
            },
        ),
        case(
            "manifest-json-with-a-name-twice",
            &["manifest-json"],
            "names two images",
            {
                listed(|list| {
                    let again = list[0].clone();
                    list.as_array_mut().unwrap().push(again);
                })
            },
        ),
        case(
            "manifest-json-names-a-nameless-image",
            &["manifest-json"],
            "which index.json does not",
            sample(|sample| {
                let entry = sample.index["manifests"][0].as_object_mut().unwrap();
                entry.remove("annotations");
            }),
        ),
        case(
            "manifest-json-with-no-name",
            &["manifest-json", "name"],
            "invalid image name",
            listed(|list| list[0]["RepoTags"] = json!(["-x\n:1"])),
        ),
        case(
            "manifest-json-names-a-digest",
            &["manifest-json", "name"],
            "not a name",
            listed(|list| list[0]["RepoTags"] = json!([Digest::sha256(b"x")])),
        ),
        case(
            "manifest-json-names-a-file",
            &["manifest-json", "manifest-json"],
            "which is not a blob",
            listed(|list| list[0]["Config"] = "../../etc/passwd".into()),
        ),
        case(
            "manifest-json-names-what-is-missing",
            &["manifest-json", "missing"],
            "missing",
            listed(|list| list[0]["Layers"] = json!([blob(b"nowhere").0])),
        ),
        case("manifest-json-key-twice", &["json"], "\"Config\" occurs twice", {
            text("manifest.json", |text| {
                text.replacen('{', "{\"Config\":\"x\",", 1)
            })
        }),
    ]
}
