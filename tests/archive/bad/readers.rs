//! What Go's readers, which every engine has, take for something else, or do not read at all.

use serde_json::{Value, json};
use tar::EntryType;

use super::contents::{config_text, document, sample, text};
use super::docker_saves::replaced;
use super::tars::{field, with};
use super::{Case, case};
use crate::images::{Sample, blob, only};
use crate::tar_builder::TarBuilder;

pub fn cases() -> Vec<Case> {
    let mut cases = keys();
    cases.extend(values());
    cases.extend(headers());
    cases.extend(names());
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

/// Values that Go does not decode into a field, though sealift does not use it.
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
            "created-with-an-escape",
            &["document", "manifest-json"],
            "expected a time by RFC 3339",
            config_text(|text| text.replacen('{', "{\"created\":\"2023-11-14\\u005422:13:20Z\",", 1)),
        ),
        case(
            "layer-sources-no-descriptors",
            &["json"],
            "expected an object",
            replaced("manifest.json", "{", "{\"LayerSources\":{\"sha256:00\":\"x\"},"),
        ),
    ]
}

fn global(tar: TarBuilder) -> TarBuilder {
    tar.kind("pax_global_header", EntryType::XGlobalHeader, b"13 comment=x\n")
}

/// Headers of a tar that Go reads otherwise, or ends at.
fn headers() -> Vec<Case> {
    let forgotten = "a global PAX header between an entry and its own headers";
    let long = |kind| move |tar: TarBuilder| tar.kind("././@LongLink", kind, b"index.json\0");
    let pax = |data: &'static [u8]| with(|tar| tar.kind("p", EntryType::XHeader, data).file("x", b""));
    let header = |range, bytes: &[u8]| with(|tar| tar.entry(&field(range, bytes), b""));
    vec![
        case("global-header-behind-a-pax-name", &["tar"], forgotten, {
            with(|tar| global(tar.pax(&[("path", "index.json")])).file("x", b"{}"))
        }),
        case("global-header-behind-a-pax-size", &["tar"], forgotten, {
            with(|tar| global(tar.pax(&[("size", "512")])).file("x", b""))
        }),
        case("global-header-behind-a-long-name", &["tar"], forgotten, {
            with(|tar| global(long(EntryType::GNULongName)(tar)).file("x", b"{}"))
        }),
        case("global-header-behind-a-long-link", &["tar"], forgotten, {
            with(|tar| global(long(EntryType::GNULongLink)(tar)).file("x", b"{}"))
        }),
        case(
            "ustar-of-another-version",
            &["tar"],
            "a ustar header of another version",
            header(263..265, b"01"),
        ),
        case(
            "ustar-without-a-version",
            &["tar"],
            "a ustar header of another version",
            header(263..265, b"\0\0"),
        ),
        case("ustar-half-gnu", &["tar"], "a ustar header of another version", {
            header(262..265, b" 00")
        }),
        case("mtime-beyond-63-bits", &["tar"], "mtime is not a number", {
            header(136..148, b"\x80\0\0\0\x80\0\0\0\0\0\0\0")
        }),
        case("mtime-below-63-bits", &["tar"], "mtime is not a number", {
            header(136..148, b"\xff\xff\xff\xff\x7f\0\0\0\0\0\0\0")
        }),
        case("pax-mtime-no-number", &["tar"], "PAX mtime is not a number", {
            pax(b"14 mtime=1.5x\n")
        }),
        case("pax-uid-no-number", &["tar"], "PAX uid is not a number", {
            pax(b"11 uid=0x1\n")
        }),
        case(
            "pax-uname-with-nul",
            &["tar"],
            "PAX uname with a NUL",
            pax(b"13 uname=a\0b\n"),
        ),
        case("pax-linkpath-empty", &["tar"], "PAX linkpath is empty", {
            pax(b"13 linkpath=\n")
        }),
        case("long-name-empty", &["tar"], "a long name that is empty", {
            with(|tar| tar.kind("l", EntryType::GNULongName, b"\0").file("x", b""))
        }),
        case("pax-key-with-nul", &["tar"], "with a NUL", pax(b"7 a\0=b\n")),
        case(
            "pax-size-of-star",
            &["tar"],
            "sparse",
            pax(b"21 SCHILY.realsize=9\n"),
        ),
    ]
}

/// Names that some readers look for in any kind of document.
fn names() -> Vec<Case> {
    let files = Sample::plain().files();
    let label = |name: &str| {
        let label = TarBuilder::default().kind(name, EntryType::new(b'V'), b"");
        label.files(&files).end()
    };
    let layer = blob(&only()).0;
    let global = |name: &str| with(|tar| tar.kind(name, EntryType::XGlobalHeader, b"13 comment=x\n"));
    let below = "and of the folder of others";
    vec![
        case(
            "label-of-a-file",
            &["duplicate"],
            "index.json",
            label("index.json"),
        ),
        case("label-of-a-folder", &["name"], below, label("blobs")),
        case(
            "label-that-climbs",
            &["tar"],
            "a name that climbs",
            label("x/../index.json"),
        ),
        case(
            "label-in-the-middle",
            &["tar"],
            "entries of type 'V' are not read",
            with(|tar| tar.kind("label", EntryType::new(b'V'), b"")),
        ),
        case(
            "global-header-of-a-file",
            &["duplicate"],
            "occurs twice",
            global(&layer),
        ),
        case(
            "global-header-at-the-root",
            &["duplicate"],
            "occurs twice",
            global("//index.json"),
        ),
        case(
            "global-header-that-climbs",
            &["tar"],
            "a name that climbs",
            global("x/../y"),
        ),
        case(
            "file-and-folder-of-others",
            &["name"],
            below,
            with(|tar| tar.file("blobs", b"")),
        ),
        case(
            "file-and-folder-below",
            &["name"],
            below,
            with(|tar| tar.file("a/b", b"").file("a.c", b"").file("a/b/c/d", b"")),
        ),
    ]
}
