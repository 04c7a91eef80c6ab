//! Archives of `docker save`: right ones, where a layout is asked for, and ones with something wrong in them.

use serde_json::Value;
use tar::EntryType;

use super::{Case, case};
use crate::saved::{self, Image, Links as _, app};
use crate::tar_builder::{TarBuilder, header};

type Files = Vec<(String, Vec<u8>)>;

fn tar(files: Files) -> Vec<u8> {
    TarBuilder::default().files(&files).end()
}

/// An image of one layer, as rules_docker writes it, with its files changed.
fn changed(change: impl FnOnce(&mut Files)) -> Vec<u8> {
    let mut files = saved::rules_docker(&[one()]);
    change(&mut files);
    tar(files)
}

fn one() -> Image {
    Image::new(&["base"], &["app:1"])
}

fn layer() -> String {
    format!("{}/layer.tar", saved::hex("base"))
}

fn file<'a>(files: &'a mut Files, end: &str) -> &'a mut Vec<u8> {
    let found = files.iter_mut().find(|(name, _)| name.ends_with(end));
    &mut found.unwrap().1
}

pub(super) fn replaced(end: &'static str, from: &str, to: &str) -> Vec<u8> {
    changed(|files| {
        let file = file(files, end);
        let text = String::from_utf8(file.clone()).unwrap();
        assert!(text.contains(from), "{text}");
        *file = text.replacen(from, to, 1).into_bytes();
    })
}

/// The config, replaced together with its name, as a digest does not find this.
fn config(from: &str, to: &str) -> Vec<u8> {
    let mut image = one();
    assert!(image.config.contains(from));
    image.config = image.config.replacen(from, to, 1);
    tar(saved::rules_docker(&[image]))
}

fn tagged(tag: &str) -> Vec<u8> {
    replaced("manifest.json", "\"app:1\"", &Value::from(tag).to_string())
}

fn layer_path(path: &str) -> Vec<u8> {
    replaced("manifest.json", &layer(), path)
}

/// The layer is what `put` makes of the tar, instead of a file.
fn layer_is(put: impl FnOnce(TarBuilder, &str) -> TarBuilder) -> Vec<u8> {
    let files = saved::rules_docker(&[one()]);
    let rest: Files = files.into_iter().filter(|(name, _)| *name != layer()).collect();
    put(TarBuilder::default().files(&rest), &layer()).end()
}

/// An archive with nothing wrong but what is added.
fn with(put: impl FnOnce(TarBuilder) -> TarBuilder) -> Vec<u8> {
    put(TarBuilder::default().files(&saved::rules_docker(&[one()]))).end()
}

pub fn cases() -> Vec<Case> {
    let mut cases = forms();
    cases.extend(manifests());
    cases.extend(names());
    cases.extend(configs());
    cases.extend(layers());
    cases.extend(links());
    cases
}

fn forms() -> Vec<Case> {
    let says = "an archive of `docker save`, or written like one: it has layers but no manifest";
    let codes = &["docker-save"];
    vec![
        case("docker-save-of-20.10", codes, says, saved::docker20(&app()).end()),
        case(
            "docker-save-of-25.0",
            codes,
            says,
            tar(saved::docker28(&app(), false)),
        ),
        case(
            "docker-save-of-28",
            codes,
            says,
            tar(saved::docker28(&app(), true)),
        ),
        case("docker-save-of-28-by-id", codes, says, {
            tar(saved::docker28(&Image::new(&["base"], &[]), true))
        }),
        case(
            "docker-save-of-skopeo",
            codes,
            says,
            saved::skopeo(&[app()]).end(),
        ),
        case("docker-save-of-crane", codes, says, tar(saved::crane(&[app()]))),
        case("docker-save-of-1.9", &["document"], "of Docker before 1.10", {
            TarBuilder::default()
                .file("0a/layer.tar", b"x")
                .file("0a/json", b"{}")
                .file("repositories", b"{}")
                .end()
        }),
    ]
}

fn manifests() -> Vec<Case> {
    let huge = "x".repeat(4 << 20);
    vec![
        case("save-of-nothing", &["manifest-json"], "names no image", {
            changed(|files| *file(files, "manifest.json") = b"[]".to_vec())
        }),
        case("save-key-twice", &["json"], "\"Config\" occurs twice", {
            replaced("manifest.json", "{", "{\"Config\":\"x\",")
        }),
        case(
            "save-key-twice-beside-a-layout",
            &["json"],
            "\"LayerSources\" occurs twice",
            {
                let mut files = saved::docker28(&one(), true);
                let text = String::from_utf8(file(&mut files, "manifest.json").clone()).unwrap();
                *file(&mut files, "manifest.json") =
                    text.replacen('{', "{\"LayerSources\":{},", 1).into_bytes();
                tar(files)
            },
        ),
        case("save-without-a-config", &["json"], "missing field `Config`", {
            replaced("manifest.json", "\"Config\"", "\"Konfig\"")
        }),
        case(
            "save-without-manifest-json",
            &["missing"],
            "manifest.json: missing",
            {
                let mut files = saved::docker28(&one(), true);
                files.retain(|(name, _)| name != "manifest.json");
                tar(files)
            },
        ),
        case("save-with-a-damaged-mark", &["json"], "manifest.json at byte", {
            let mut files = saved::docker28(&one(), true);
            let text = String::from_utf8(file(&mut files, "manifest.json").clone()).unwrap();
            *file(&mut files, "manifest.json") =
                text.replacen("LayerSources\"", "LayerSources", 1).into_bytes();
            tar(files)
        }),
        case("save-manifest-json-cut", &["json"], "manifest.json at byte", {
            replaced("manifest.json", "]}]", "]}")
        }),
        case(
            "save-manifest-json-too-large",
            &["too-large"],
            "over the limit of 4194304",
            replaced("manifest.json", "{", &format!("{{\"x\":\"{huge}\",")),
        ),
        case(
            "save-manifest-json-twice",
            &["duplicate"],
            "manifest.json at byte",
            with(|tar| tar.file("./manifest.json", b"[]")),
        ),
        case(
            "save-manifest-json-is-a-link",
            &["missing"],
            "oci-layout: missing",
            {
                let files = saved::rules_docker(&[one()]);
                let (last, rest) = files.split_last().unwrap();
                TarBuilder::default()
                    .files(rest)
                    .file("m", &last.1)
                    .symlink("manifest.json", "m")
                    .end()
            },
        ),
    ]
}

fn names() -> Vec<Case> {
    let digested = format!("app@{}", saved::digest("x"));
    vec![
        case(
            "save-name-is-an-option",
            &["name"],
            "RepoTags: invalid image name",
            tagged("-v:1"),
        ),
        case(
            "save-name-with-a-newline",
            &["name"],
            "invalid image name",
            tagged("app:1\nb"),
        ),
        case(
            "save-name-without-a-tag",
            &["name"],
            "is not a name with a tag",
            tagged("localhost:5000/app"),
        ),
        case(
            "save-name-with-a-digest",
            &["name"],
            "is not a name with a tag",
            tagged(&digested),
        ),
        case(
            "save-name-of-two-images",
            &["manifest-json"],
            "names two images app:1",
            {
                tar(saved::rules_docker(&[
                    one(),
                    Image::new(&["top"], &["docker.io/library/app:1"]),
                ]))
            },
        ),
    ]
}

fn configs() -> Vec<Case> {
    let huge = format!("{{\"x\":\"{}\",", "x".repeat(4 << 20));
    vec![
        case("save-config-missing", &["missing"], ".json: missing", {
            changed(|files| files.retain(|(name, _)| !name.ends_with(".json") || name == "manifest.json"))
        }),
        case("save-config-damaged", &["digest-differs"], ".json at byte", {
            changed(|files| file(files, ".json")[2] ^= 1)
        }),
        case(
            "save-config-damaged-beside-a-layout",
            &["digest-differs"],
            "blobs/sha256/",
            {
                let mut files = saved::docker28(&one(), true);
                file(&mut files, &one().id().hex())[2] ^= 1;
                tar(files)
            },
        ),
        case(
            "save-config-key-twice",
            &["document"],
            "\"os\" occurs twice",
            config("{", "{\"os\":\"x\","),
        ),
        case(
            "save-config-without-rootfs",
            &["document"],
            "missing field `rootfs`",
            config("\"rootfs\"", "\"rootfz\""),
        ),
        case(
            "save-config-with-a-short-diff-id",
            &["document"],
            "64 hex digits",
            config("\"sha256:", "\"sha256:0"),
        ),
        case(
            "save-config-too-large",
            &["too-large"],
            "over the limit of 4194304",
            config("{", &huge),
        ),
        case("save-config-path-climbs", &["name"], "could place elsewhere", {
            replaced("manifest.json", "\"Config\":\"", "\"Config\":\"../")
        }),
    ]
}

fn layers() -> Vec<Case> {
    let path = layer();
    let two = format!("{path}\",\"{path}");
    vec![
        case(
            "save-layer-missing",
            &["missing"],
            "/layer.tar: missing",
            layer_is(|tar, _| tar),
        ),
        case("save-layer-twice", &["duplicate"], "/layer.tar at byte", {
            with(|tar| tar.file(&path, b"base"))
        }),
        case(
            "save-layer-too-many",
            &["diff-id-count"],
            "2 layers, but the config names 1",
            layer_path(&two),
        ),
        case(
            "save-without-layers",
            &["diff-id-count"],
            "0 layers, but the config names 1",
            replaced("manifest.json", &format!("[\"{path}\"]"), "null"),
        ),
        case(
            "save-layer-of-two-diff-ids",
            &["diff-id-differs"],
            "layer.tar at byte",
            {
                let files = saved::rules_docker(&[Image::new(&["base", "top"], &["app:1"])]);
                let text = String::from_utf8(files.last().unwrap().1.clone()).unwrap();
                let text = text.replacen(&saved::hex("top"), &saved::hex("base"), 1);
                let rest = &files[..files.len() - 1];
                TarBuilder::default()
                    .files(rest)
                    .file("manifest.json", text.as_bytes())
                    .end()
            },
        ),
        case(
            "save-layer-path-climbs",
            &["name"],
            "could place elsewhere",
            layer_path("../layer.tar"),
        ),
        case(
            "save-layer-path-absolute",
            &["name"],
            "could place elsewhere",
            layer_path("/etc/passwd"),
        ),
        case(
            "save-layer-name-climbs",
            &["name"],
            "../x at byte",
            with(|tar| tar.file("../x", b"x")),
        ),
        case("save-layer-is-a-folder", &["missing"], "/layer.tar: missing", {
            layer_is(|tar, path| tar.kind(path, EntryType::Directory, b""))
        }),
        case("save-layer-is-a-fifo", &["not-a-file"], "is a FIFO", {
            layer_is(|tar, path| tar.kind(path, EntryType::Fifo, b""))
        }),
        case(
            "save-layer-is-xz",
            &["compression"],
            "compressed with xz are not read",
            layer_is(|tar, path| tar.file(path, b"\xfd7zXZ\0\0\x04")),
        ),
        case(
            "save-layer-is-bzip2",
            &["compression"],
            "compressed with bzip2 are not read",
            layer_is(|tar, path| tar.file(path, b"BZh91AY&SY\0")),
        ),
    ]
}

fn links() -> Vec<Case> {
    let symbolic = |target: &str| layer_is(|tar, path| tar.symlink(path, target));
    let hard = |target: &str| layer_is(|tar, path| tar.link(EntryType::Link, path, target));
    let out = "leads out of the archive";
    let circle = "leads through more than 8 links, or in a circle";
    let nothing = "which is not a file of this archive";
    let names = |name: &str| format!("{name}\0").into_bytes();
    vec![
        case("save-link-climbs", &["link"], out, symbolic("../../etc/passwd")),
        case(
            "save-link-climbs-in-the-middle",
            &["link"],
            out,
            symbolic("../../x/../manifest.json"),
        ),
        case("save-link-absolute", &["link"], out, symbolic("/etc/passwd")),
        case("save-link-to-an-empty-name", &["link"], out, symbolic("")),
        case("save-link-to-itself", &["link"], circle, symbolic("layer.tar")),
        case("save-link-in-a-circle", &["link"], circle, {
            layer_is(|tar, path| tar.symlink(path, "../other").symlink("other", path))
        }),
        case("save-link-to-nothing", &["link"], nothing, symbolic("../absent")),
        case("save-link-to-a-folder", &["link"], nothing, {
            layer_is(|tar, path| tar.kind("d", EntryType::Directory, b"").symlink(path, "../d"))
        }),
        case(
            "save-link-that-nobody-follows",
            &["link"],
            out,
            with(|tar| tar.symlink("x", "../x")),
        ),
        case("save-link-through-a-link", &["link"], nothing, {
            layer_is(|tar, path| tar.symlink("d", "manifest.json").symlink(path, "../d/x"))
        }),
        case(
            "save-file-below-a-link",
            &["link"],
            "a link, and the folder of \"d/x\"",
            with(|tar| tar.symlink("d", "manifest.json").file("d/x", b"x")),
        ),
        case(
            "save-link-below-a-link",
            &["link"],
            "the folder of \"d/x\"",
            with(|tar| {
                tar.symlink("d", "manifest.json")
                    .symlink("d/x", "../manifest.json")
            }),
        ),
        case("save-link-to-a-long-name", &["link"], "more than 4096 bytes", {
            let target = "a/../".repeat(900) + "manifest.json";
            with(|tar| tar.pax(&[("linkpath", &target)]).symlink("x", "x"))
        }),
        case("save-hard-link-climbs", &["link"], out, hard("../etc/passwd")),
        case("save-hard-link-absolute", &["link"], out, hard("/etc/passwd")),
        case("save-hard-link-to-nothing", &["link"], nothing, hard("absent")),
        case("save-link-with-data", &["tar"], "a symbolic link with 1 bytes", {
            with(|tar| tar.entry(&header("x", EntryType::Symlink, 1, |_| {}), b"x"))
        }),
        case("save-link-with-two-targets", &["tar"], "give two targets", {
            with(|tar| {
                tar.pax(&[("linkpath", "manifest.json")])
                    .kind("././@LongLink", EntryType::GNULongLink, &names("other"))
                    .symlink("x", "manifest.json")
            })
        }),
        case(
            "save-link-to-a-name-with-nul",
            &["tar"],
            "PAX linkpath with a NUL",
            with(|tar| tar.pax(&[("linkpath", "manifest.json\0x")]).symlink("x", "y")),
        ),
        case(
            "save-link-to-what-is-not-utf8",
            &["tar"],
            "a link to a name that is not UTF-8",
            {
                let set = |header: &mut tar::Header| header.as_mut_bytes()[157] = 0xff;
                with(|tar| tar.entry(&header("x", EntryType::Symlink, 0, set), b""))
            },
        ),
        case(
            "save-link-by-a-global-header",
            &["tar"],
            "a global PAX header sets linkpath",
            with(|tar| tar.kind("g", EntryType::XGlobalHeader, b"14 linkpath=x\n")),
        ),
        case(
            "save-link-name-with-a-tail",
            &["tar"],
            "a long name with data after its end",
            {
                with(|tar| {
                    tar.kind("././@LongLink", EntryType::GNULongLink, b"a\0b")
                        .symlink("x", "y")
                })
            },
        ),
    ]
}
