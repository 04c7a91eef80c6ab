//! Broken contents: layouts, documents, blobs and layers.

use sealift::oci::Digest;
use serde_json::{Value, json};
use tar::EntryType;

use super::{Case, case};
use crate::images::{
    GZIP, OCI_CONFIG, PLAIN, Sample, ZSTD, blob, descriptor, gzip, layer, only, plain, zstd, zstd_window,
};
use crate::tar_builder::{TarBuilder, header};

/// The usual sample, changed and sealed again by `change`.
pub(super) fn sample(change: impl FnOnce(&mut Sample)) -> Vec<u8> {
    let mut sample = Sample::plain();
    change(&mut sample);
    sample.tar()
}

/// The usual sample with another text for one of its files.
pub(super) fn text(name: &str, change: impl Fn(String) -> String) -> Vec<u8> {
    let mut files = Sample::plain().files();
    for file in files.iter_mut().filter(|file| file.0 == name) {
        file.1 = change(String::from_utf8(file.1.clone()).unwrap()).into_bytes();
    }
    TarBuilder::default().files(&files).end()
}

/// The sample with another text for one of its blobs, under the digest that this has then. It must be one that
/// `index.json` names.
pub(super) fn document(
    sample: &Sample,
    old: &(String, Vec<u8>),
    change: impl Fn(String) -> String,
) -> Vec<u8> {
    let new = change(String::from_utf8(old.1.clone()).unwrap());
    let (mut index, mut files) = (sample.index.clone(), sample.files());
    let entry = &mut index["manifests"][0];
    let named = descriptor("", new.as_bytes());
    entry["digest"] = named["digest"].clone();
    entry["size"] = named["size"].clone();
    files.retain(|file| file != old);
    for file in files.iter_mut().filter(|file| file.0 == "index.json") {
        file.1 = index.to_string().into_bytes();
    }
    TarBuilder::default()
        .files(&[blob(new.as_bytes())])
        .files(&files)
        .end()
}

pub(super) fn without(name: &str) -> Vec<u8> {
    let mut files = Sample::plain().files();
    files.retain(|file| file.0 != name);
    TarBuilder::default().files(&files).end()
}

/// The sample with another text for its manifest, which everything that refers to it follows.
fn manifest(change: impl Fn(String) -> String) -> Vec<u8> {
    let sample = Sample::plain();
    document(&sample, &blob(sample.manifest.to_string().as_bytes()), change)
}

/// The sample with another text for its config, which the manifest names.
pub(super) fn config_text(change: impl Fn(String) -> String) -> Vec<u8> {
    let mut sample = Sample::plain();
    let config = change(sample.config.to_string());
    sample.manifest["config"] = descriptor(OCI_CONFIG, config.as_bytes());
    sample.rename();
    TarBuilder::default()
        .files(&[blob(config.as_bytes())])
        .files(&sample.files())
        .end()
}

fn with(extra: &[(String, Vec<u8>)]) -> Vec<u8> {
    TarBuilder::default()
        .files(extra)
        .files(&Sample::plain().files())
        .end()
}

fn layers(layers: Vec<crate::images::Layer>) -> Vec<u8> {
    Sample::new(layers).tar()
}

fn named(key: &str, name: &str) -> Vec<u8> {
    sample(|sample| sample.index["manifests"][0]["annotations"][key] = name.into())
}

pub fn cases() -> Vec<Case> {
    let mut cases = layouts();
    cases.extend(documents());
    cases.extend(blobs());
    cases.extend(streams());
    cases
}

fn layouts() -> Vec<Case> {
    let index = |change: fn(&mut Value)| sample(|sample| change(&mut sample.index));
    let huge = "x".repeat(4 << 20);
    vec![
        case(
            "no-index",
            &["missing"],
            "index.json: missing",
            without("index.json"),
        ),
        case(
            "no-marker",
            &["missing"],
            "oci-layout: missing",
            without("oci-layout"),
        ),
        case(
            "marker-of-a-later-version",
            &["document"],
            "imageLayoutVersion is \"2.0.0\"",
            text("oci-layout", |text| text.replace("1.0.0", "2.0.0")),
        ),
        case(
            "platform-with-many-features",
            &["document"],
            "65 os.features, over the limit of 64",
            index(|index| {
                let features = vec![""; 65];
                index["manifests"][0]["platform"] =
                    json!({"os": "windows", "architecture": "amd64", "os.features": features});
            }),
        ),
        case(
            "format-too-new",
            &["format"],
            "archive format 2, this sealift reads up to 1",
            index(|index| index["annotations"]["dev.sealift.format"] = "2".into()),
        ),
        case("index-key-twice", &["json"], "\"manifests\" occurs twice", {
            text("index.json", |text| text.replacen('{', "{\"manifests\":[],", 1))
        }),
        case("index-too-deep", &["json"], "nested deeper", {
            text("index.json", |text| {
                text.replacen('{', &format!("{{\"x\":{}{},", "[".repeat(99), "]".repeat(99)), 1)
            })
        }),
        case("index-cut", &["json"], "index.json: not valid JSON", {
            text("index.json", |text| text[..text.len() - 1].into())
        }),
        case("index-too-large", &["too-large"], "over the limit of 4194304", {
            text("index.json", move |text| {
                text.replacen('{', &format!("{{\"x\":\"{huge}\","), 1)
            })
        }),
        case(
            "index-is-a-manifest-too",
            &["ambiguous"],
            "both a manifest and an index",
            index(|index| index["layers"] = json!([])),
        ),
        case("index-digest-upper-case", &["document"], "lower-case hex", {
            index(|index| index["manifests"][0]["digest"] = format!("sha256:{}", "AB".repeat(32)).into())
        }),
        case("index-digest-climbs", &["document"], "digits only", {
            index(|index| index["manifests"][0]["digest"] = format!("sha256:../{}", "0".repeat(61)).into())
        }),
        case("index-digest-unknown", &["document"], "cannot be verified", {
            index(|index| index["manifests"][0]["digest"] = "sha1:00".into())
        }),
        case(
            "name-with-a-newline",
            &["name"],
            "\\n",
            named("io.containerd.image.name", "docker.io/a/b\nc:1"),
        ),
        case(
            "name-with-bidi",
            &["name"],
            "\\u{202e}",
            named("org.opencontainers.image.ref.name", "1\u{202e}2"),
        ),
        case("name-is-an-option", &["name"], "--privileged", {
            named("org.opencontainers.image.ref.name", "--privileged")
        }),
        case(
            "name-no-reference",
            &["name"],
            "lower case",
            named("io.containerd.image.name", "docker.io/A:1"),
        ),
        case(
            "name-is-a-digest",
            &["name"],
            "not a name",
            named("io.containerd.image.name", &Digest::sha256(b"x").to_string()),
        ),
        case(
            "name-of-a-layout-is-a-digest",
            &["name"],
            "not a name",
            named(
                "org.opencontainers.image.ref.name",
                &Digest::sha256(b"x").to_string(),
            ),
        ),
    ]
}

fn documents() -> Vec<Case> {
    let config = |change: fn(&mut Value)| {
        sample(|sample| {
            change(&mut sample.config);
            sample.reseal();
        })
    };
    vec![
        case(
            "manifest-key-twice",
            &["json", "manifest-json"],
            "\"layers\" occurs twice",
            manifest(|text| text.replacen('{', "{\"layers\":[],", 1)),
        ),
        case(
            "manifest-is-an-index-too",
            &["ambiguous", "manifest-json"],
            "both a manifest and an index",
            manifest(|text| text.replacen('{', "{\"manifests\":[],", 1)),
        ),
        case(
            "manifest-of-another-type",
            &["manifest-json", "media-type-differs"],
            "its descriptor says",
            {
                manifest(|text| {
                    text.replacen(
                        "vnd.oci.image.manifest.v1",
                        "vnd.docker.distribution.manifest.v2",
                        1,
                    )
                })
            },
        ),
        case("manifest-schema-1", &["manifest-json", "schema1"], "schema 1", {
            manifest(|_| r#"{"schemaVersion":1,"fsLayers":[]}"#.into())
        }),
        case(
            "manifest-too-large",
            &["manifest-json", "too-large"],
            "over the limit of 4194304",
            manifest(|text| text.replacen('{', &format!("{{\"x\":\"{}\",", "x".repeat(4 << 20)), 1)),
        ),
        case(
            "config-key-twice",
            &["document", "manifest-json"],
            "\"os\" occurs twice",
            config_text(|text| text.replacen('{', "{\"os\":\"windows\",", 1)),
        ),
        case(
            "config-without-rootfs",
            &["document"],
            "missing field `rootfs`",
            config(|config| drop(config.as_object_mut().unwrap().remove("rootfs"))),
        ),
        case(
            "diff-id-too-few",
            &["diff-id-count"],
            "1 layers, but the config names 0 diff ids",
            config(|config| config["rootfs"]["diff_ids"] = json!([])),
        ),
        case("diff-id-wrong", &["diff-id-differs"], "diff id is sha256:", {
            config(|config| config["rootfs"]["diff_ids"] = json!([Digest::sha256(b"other")]))
        }),
    ]
}

fn blobs() -> Vec<Case> {
    let only = only();
    let flipped = |name: &str| {
        let mut files = Sample::plain().files();
        for file in files.iter_mut().filter(|file| file.0 == name) {
            let last = file.1.len() - 1;
            file.1[last] ^= 1;
        }
        TarBuilder::default().files(&files).end()
    };
    let sample = Sample::plain();
    let (config, document) = (sample.config.to_string(), sample.manifest.to_string());
    let path = |bytes: &[u8]| blob(bytes).0;
    vec![
        case("layer-missing", &["missing"], "missing", without(&path(&only))),
        case(
            "config-missing",
            &["missing"],
            "missing",
            without(&path(config.as_bytes())),
        ),
        case(
            "manifest-missing",
            &["manifest-json", "missing"],
            "missing",
            without(&path(document.as_bytes())),
        ),
        case(
            "layer-damaged",
            &["digest-differs"],
            "blobs/sha256/",
            flipped(&path(&only)),
        ),
        case(
            "config-damaged",
            &["digest-differs"],
            "digest is",
            flipped(&path(config.as_bytes())),
        ),
        case(
            "manifest-damaged",
            &["digest-differs", "manifest-json"],
            "digest is",
            flipped(&path(document.as_bytes())),
        ),
        case("layer-size-wrong", &["size-differs"], "expected 99", {
            let mut sample = sample.clone();
            sample.manifest["layers"][0]["size"] = 99.into();
            sample.rename();
            sample.tar()
        }),
        case(
            "manifest-size-wrong",
            &["manifest-json", "size-differs"],
            "expected 1",
            {
                let mut sample = sample.clone();
                sample.index["manifests"][0]["size"] = 1.into();
                sample.tar()
            },
        ),
        case(
            "layer-is-another-images-config",
            &["diff-id-differs", "layer"],
            "the config says",
            {
                let other = Sample::new(vec![layer("other")]);
                let config = other.config.to_string().into_bytes();
                let mut sample = Sample::new(vec![(PLAIN, config, plain("what the config says"))]);
                let name = "docker.io/library/other:1";
                let mut entry = other.entry.clone();
                entry["annotations"] = json!({"io.containerd.image.name": name});
                sample.index["manifests"].as_array_mut().unwrap().push(entry);
                let mut listed = other.manifest_json[0].clone();
                listed["RepoTags"] = json!([name]);
                sample.manifest_json.as_array_mut().unwrap().push(listed);
                let mut files = other.blobs();
                files.retain(|file| !sample.blobs().contains(file));
                TarBuilder::default().files(&files).files(&sample.files()).end()
            },
        ),
        case("layer-with-two-sizes", &["size-differs"], "expected 7", {
            let mut sample = Sample::new(vec![layer("twice"), layer("twice")]);
            sample.manifest["layers"][1]["size"] = 7.into();
            sample.rename();
            let mut files = sample.files();
            files.dedup();
            TarBuilder::default().files(&files).end()
        }),
        case(
            "layer-of-two-types",
            &["media-type-differs"],
            "another manifest",
            {
                let mut sample = Sample::new(vec![layer("twice"), layer("twice")]);
                sample.manifest["layers"][1]["mediaType"] = ZSTD.into();
                sample.rename();
                let mut files = sample.files();
                files.dedup();
                TarBuilder::default().files(&files).end()
            },
        ),
        case(
            "layer-with-two-diff-ids",
            &["diff-id-differs"],
            "diff id is sha256:",
            {
                let mut sample = Sample::new(vec![layer("twice"), layer("twice")]);
                sample.config["rootfs"]["diff_ids"][1] = json!(Digest::sha256(b"other"));
                sample.reseal();
                let mut files = sample.files();
                files.dedup();
                TarBuilder::default().files(&files).end()
            },
        ),
        case("unreferenced-damaged", &["digest-differs"], "digest is", {
            with(&[(blob(b"a").0, b"b".to_vec())])
        }),
    ]
}

fn streams() -> Vec<Case> {
    let plain = || plain("the layer");
    let tailed = |stored: Vec<u8>| [stored, b"tail".to_vec()].concat();
    let cut = |stored: Vec<u8>| stored[..stored.len() - 1].to_vec();
    let bomb: Vec<u8> = std::iter::repeat_n(gzip(&[0; 60_000]), 18).flatten().collect();
    vec![
        case(
            "gzip-layer-with-a-tail",
            &["data-after-stream"],
            "data follows",
            layers(vec![(GZIP, tailed(gzip(&plain())), plain())]),
        ),
        case(
            "gzip-layer-with-zeros-behind",
            &["data-after-stream"],
            "data follows",
            layers(vec![(GZIP, [gzip(&plain()), vec![0; 8]].concat(), plain())]),
        ),
        case("gzip-layer-cut", &["compression"], "cannot be decompressed", {
            layers(vec![(GZIP, cut(gzip(&plain())), plain())])
        }),
        case(
            "gzip-layer-is-plain",
            &["compression"],
            "cannot be decompressed",
            layers(vec![(GZIP, plain(), plain())]),
        ),
        case(
            "gzip-layer-is-zstd",
            &["compression"],
            "cannot be decompressed",
            layers(vec![(GZIP, zstd(&plain()), plain())]),
        ),
        case(
            "zstd-layer-with-a-tail",
            &["data-after-stream"],
            "data follows",
            layers(vec![(ZSTD, tailed(zstd(&plain())), plain())]),
        ),
        case("zstd-layer-cut", &["compression"], "cannot be decompressed", {
            layers(vec![(ZSTD, cut(zstd(&plain())), plain())])
        }),
        case(
            "zstd-layer-with-a-large-window",
            &["compression"],
            "cannot be decompressed",
            layers(vec![(ZSTD, zstd_window(&plain(), 28), plain())]),
        ),
        case(
            "plain-layer-is-gzip",
            &["diff-id-differs", "layer"],
            "it is declared uncompressed, but begins like gzip",
            layers(vec![(PLAIN, gzip(&plain()), plain())]),
        ),
        case(
            "plain-layer-is-gzip-to-its-diff-id",
            &["layer"],
            "it is declared uncompressed, but begins like gzip",
            layers(vec![(PLAIN, gzip(&plain()), gzip(&plain()))]),
        ),
        case(
            "plain-layer-is-zstd-to-its-diff-id",
            &["layer"],
            "it is declared uncompressed, but begins like zstd",
            layers(vec![(PLAIN, zstd(&plain()), zstd(&plain()))]),
        ),
        case(
            "plain-layer-begins-like-bzip2",
            &["layer"],
            "it is declared uncompressed, but begins like bzip2",
            {
                let tar = TarBuilder::default().file("BZh", b"text").end();
                layers(vec![(PLAIN, tar.clone(), tar)])
            },
        ),
        case(
            "plain-layer-begins-like-gzip",
            &["layer"],
            "it is declared uncompressed, but begins like gzip",
            {
                let gzip_name =
                    |header: &mut tar::Header| header.as_mut_bytes()[..2].copy_from_slice(b"\x1f\x8b");
                let named = TarBuilder::default()
                    .entry(&header("..", EntryType::Regular, 0, gzip_name), b"")
                    .end();
                layers(vec![(PLAIN, named.clone(), named)])
            },
        ),
        case(
            "gzip-layer-is-gzip-again",
            &["layer"],
            "its content is compressed again, with gzip",
            layers(vec![(GZIP, gzip(&gzip(&plain())), gzip(&plain()))]),
        ),
        case(
            "gzip-layer-is-zstd-again",
            &["layer"],
            "its content is compressed again, with zstd",
            layers(vec![(GZIP, gzip(&zstd(&plain())), zstd(&plain()))]),
        ),
        case(
            "layer-is-text",
            &["layer"],
            "engines cannot unpack this layer: it is truncated",
            layers(vec![(GZIP, gzip(b"text"), b"text".to_vec())]),
        ),
        case("layer-is-a-script", &["layer"], "a header's checksum", {
            let script = b"#!/bin/sh\n".repeat(100);
            layers(vec![(ZSTD, zstd(&script), script)])
        }),
        case("layer-is-a-cut-tar", &["layer"], "it is truncated", {
            let cut = plain()[..514].to_vec();
            layers(vec![(GZIP, gzip(&cut), cut)])
        }),
        case(
            "layer-expands",
            &["expands"],
            "decompresses to more than 1048576 bytes",
            layers(vec![(GZIP, bomb, vec![0; 18 * 60_000])]),
        ),
    ]
}
