//! Loads into layout folders and archives.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use insta::assert_snapshot;

use crate::support::{Built, Image, Sealift, Transcript, assert_documented, run};

/// `one.tar` and `two.tar` with `one:1` and `two:1`.
pub fn archives() -> (Sealift, [Built; 2]) {
    let sealift = Sealift::new();
    let built = ["one", "two"].map(|name| {
        let built = Image::small(name).build(&sealift.path(&format!("{name}.layout")), "1");
        save(
            &sealift,
            &[&format!("{name}.layout")],
            &[&format!("{name}:1")],
            &format!("{name}.tar"),
        );
        built
    });
    (sealift, built)
}

pub fn save(sealift: &Sealift, from: &[&str], images: &[&str], to: &str) {
    let mut args = vec!["save", "-q", "-o", to];
    from.iter().for_each(|from| args.extend(["--from", from]));
    args.extend(images);
    sealift.run(&args).ok();
}

/// A transcript that names the digests of both images.
fn transcript<'a>(sealift: &'a Sealift, [one, two]: &[Built; 2]) -> Transcript<'a> {
    let mut transcript = Transcript::of(sealift);
    transcript.image("one", one).image("two", two);
    transcript
}

/// Digests and names in a layout or archive, all of it verified.
pub fn names(sealift: &Sealift, content: &str) -> Vec<(String, String)> {
    let document = sealift.run(&["verify", "--json", content]).ok().json();
    let images = document["archives"][0]["images"].as_array().unwrap().clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    assert!(
        images.iter().all(|image| image["evidence"] == "verified"),
        "{images:?}"
    );
    images
        .iter()
        .map(|image| (text(&image["name"]), text(&image["digest"])))
        .collect()
}

fn bytes(sealift: &Sealift, name: &str) -> Vec<u8> {
    fs::read(sealift.path(name)).unwrap()
}

/// What is in a folder, with contents.
pub fn tree(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let name = path.strip_prefix(folder).unwrap().display().to_string();
                    all.push((name, fs::read(path).unwrap()));
                }
            }
        }
    }
    all.sort();
    all
}

#[test]
fn a_layout_is_created_and_added_to() {
    let (sealift, built) = archives();
    let mut transcript = transcript(&sealift, &built);
    transcript.run("load one.tar --to oci:out --dry-run").ok();
    assert!(!sealift.path("out").exists());
    transcript.run("load one.tar --to oci:out").ok();
    assert_eq!(
        names(&sealift, "out"),
        [("one:1".into(), built[0].digest.clone())]
    );

    // Nothing is written where nothing changes.
    let before = tree(&sealift.path("out"));
    let written = fs::metadata(sealift.path("out/index.json")).unwrap().ino();
    transcript.run("load one.tar --to oci:out").ok();
    assert_eq!(tree(&sealift.path("out")), before);
    assert_eq!(
        fs::metadata(sealift.path("out/index.json")).unwrap().ino(),
        written
    );

    transcript
        .run("load one.tar two.tar --rename two:1=one:2 --to oci:out")
        .ok();
    let moves = "load two.tar --rename two:1=one:1 --to oci:out";
    transcript.run(&format!("{moves} --dry-run")).ok();
    transcript.run(moves).ok();
    assert_snapshot!(transcript.text(), @"
    $ sealift load one.tar --to oci:out --dry-run
    to OCI layout out
    send 3 layers, 3265 bytes in 8 blobs
    needs 36477 bytes in out, which are free
    one:1 (linux/amd64, linux/arm64)
      tag     one:1
      digest  <one>

    $ sealift load one.tar --to oci:out
    NAME   TAG   DIGEST   EVIDENCE   SHOWN   CHANGE
    one    1     <one>    verified   yes     new
    1 image in OCI layout out, 3.2 kB sent
    archive <digest 1>

    $ sealift load one.tar --to oci:out
    NAME   TAG   DIGEST   EVIDENCE   SHOWN   CHANGE
    one    1     <one>    verified   yes     unchanged
    1 image in OCI layout out, 0 B sent
    archive <digest 1>

    $ sealift load one.tar two.tar --rename two:1=one:2 --to oci:out
    NAME   TAG   DIGEST   EVIDENCE   SHOWN   CHANGE
    one    1     <one>    verified   yes     unchanged
    one    2     <two>    verified   yes     new
    2 images in OCI layout out, 3.0 kB sent
    archive <digest 2>

    $ sealift load two.tar --rename two:1=one:1 --to oci:out --dry-run
    to OCI layout out
    send 0 layers, 0 bytes in 0 blobs
    needs 725 bytes in out, which are free
    one:1 (linux/amd64, linux/arm64)
      tag     one:1 (names <one> now)
      digest  <two>

    $ sealift load two.tar --rename two:1=one:1 --to oci:out
    NAME   TAG   DIGEST   EVIDENCE   SHOWN   CHANGE
    one    1     <two>    verified   yes     moved from <one, short>
    1 image in OCI layout out, 0 B sent
    archive <digest 3>
    ");
    let [one, two] = ["one:1", "one:2"].map(|name| (name.to_owned(), built[1].digest.clone()));
    assert_eq!(names(&sealift, "out"), [one, two]);
    // The image that had the name is still in the layout.
    sealift
        .run(&["save", "-q", "--from", "one.tar", "one:1", "-o", "again.tar"])
        .ok();
    assert!(
        sealift
            .path("out")
            .join(
                built[0]
                    .blob(&built[0].digest)
                    .strip_prefix(&built[0].layout)
                    .unwrap()
            )
            .exists()
    );
}

#[test]
fn the_documents_are_those_of_an_engine() {
    let (sealift, built) = archives();
    let load = ["load", "--json", "one.tar", "two.tar", "--image", "one", "--to"];
    for (target, name) in [
        ("oci:out", "OCI layout out"),
        ("archive:out.tar", "archive out.tar"),
    ] {
        let plan = sealift
            .run(&[&load[..], &[target, "--dry-run"]].concat())
            .ok()
            .json();
        assert_documented(&plan);
        let image = serde_json::json!({
            "name": "one:1", "tag": "one:1", "change": "new", "digest": built[0].digest, "image_id": null,
            "platform": null, "platforms": ["linux/amd64", "linux/arm64"], "foreign": false,
            "evidence": "verified", "present": false, "tagged": false, "showing": { "way": "inherent" },
        });
        assert_eq!(plan["images"], serde_json::json!([image]));
        assert_eq!(
            (
                &plan["target"],
                &plan["left_out"],
                &plan["attach"],
                &plan["room"]["refused"]
            ),
            (
                &name.into(),
                &serde_json::json!([]),
                &serde_json::json!([]),
                &false.into()
            )
        );
        let forms = plan["send"]
            .as_array()
            .unwrap()
            .iter()
            .map(|blob| blob["form"].as_str().unwrap());
        let count = |form: &str| forms.clone().filter(|found| *found == form).count();
        assert_eq!(["document", "config", "layer"].map(count), [3, 2, 3]);

        let report = sealift.run(&[&load[..], &[target]].concat()).ok().json();
        assert_documented(&report);
        assert_eq!(
            report["images"],
            serde_json::json!([{
                "name": "one:1", "tag": "one:1", "change": "new", "digest": built[0].digest, "image_id": null,
                "platform": null, "platforms": ["linux/amd64", "linux/arm64"], "foreign": false,
                "evidence": "verified", "shown": true, "obstacles": [], "sent": 3265,
            }])
        );
        // What `--expect` is given on the other side.
        let digest = report["digest"].as_str().unwrap();
        let content = target.split_once(':').unwrap().1;
        sealift.run(&["verify", content, "--expect", digest]).ok();
    }
}

#[test]
fn an_archive_is_what_save_writes_of_the_same_images() {
    let (sealift, built) = archives();
    let load = |args: &[&str]| sealift.run(&[&["load", "-q"], args].concat()).ok();
    load(&["two.tar", "one.tar", "--to", "archive:both.tar"]);
    save(&sealift, &["one.tar", "two.tar"], &[], "expected.tar");
    assert!(bytes(&sealift, "both.tar") == bytes(&sealift, "expected.tar"));
    let mut transcript = transcript(&sealift, &built);
    transcript
        .run("load both.tar --image two --to archive:some.tar")
        .ok();
    assert_snapshot!(transcript.text(), @"
    $ sealift load both.tar --image two --to archive:some.tar
    NAME   TAG   DIGEST   EVIDENCE   SHOWN   CHANGE
    two    1     <two>    verified   yes     new
    1 image in archive some.tar, 13.8 kB sent
    archive <digest 1>
    ");
    assert!(bytes(&sealift, "some.tar") == bytes(&sealift, "two.tar"));

    // One platform of an index, and both again out of two archives with one each.
    for platform in ["linux/amd64", "linux/arm64"] {
        let [to, expected] = [("archive:", ""), ("", ".expected")]
            .map(|(before, after)| format!("{before}{}.tar{after}", platform.split_once('/').unwrap().1));
        load(&["one.tar", "--platform", platform, "--to", &to]);
        let only = [
            "save",
            "-q",
            "--from",
            "one.tar",
            "one:1",
            "--platform",
            platform,
            "-o",
            &expected,
        ];
        sealift.run(&only).ok();
        assert!(
            bytes(&sealift, &to[8..]) == bytes(&sealift, &expected),
            "{platform}"
        );
    }
    load(&["arm64.tar", "amd64.tar", "--to", "archive:whole.tar"]);
    assert!(bytes(&sealift, "whole.tar") == bytes(&sealift, "one.tar"));
    load(&[
        "one.tar",
        "--platform",
        "linux/arm64,linux/amd64",
        "--to",
        "archive:named.tar",
    ]);
    assert!(bytes(&sealift, "named.tar") == bytes(&sealift, "one.tar"));

    // A layout gets one after the other.
    load(&["arm64.tar", "--to", "oci:out"]);
    let platforms = |content: &str| {
        let document = sealift.run(&["verify", "--json", content]).ok().json();
        let image = document["archives"][0]["images"][0].clone();
        (image["platforms"].to_string(), image["absent"].to_string())
    };
    assert_eq!(
        platforms("out"),
        (r#"["linux/arm64"]"#.into(), r#"["linux/amd64"]"#.into())
    );
    load(&["amd64.tar", "--to", "oci:out"]);
    assert_eq!(
        platforms("out"),
        (r#"["linux/amd64","linux/arm64"]"#.into(), "[]".into())
    );
    load(&["out", "--to", "archive:out.tar"]);
    assert!(bytes(&sealift, "out.tar") == bytes(&sealift, "one.tar"));

    // Split and joined.
    load(&["one.tar", "--split", "4kB", "--to", "archive:part.tar"]);
    assert!(sealift.path("part.tar.003").exists() && !sealift.path("part.tar").exists());
    load(&["part.tar", "--to", "archive:joined.tar"]);
    assert!(bytes(&sealift, "joined.tar") == bytes(&sealift, "one.tar"));
}

#[test]
fn a_layout_of_another_tool_keeps_what_it_has() {
    let (sealift, built) = archives();
    let folder = sealift.path("one.layout");
    let path = folder.join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut other = index["manifests"][0].clone();
    other["annotations"] =
        serde_json::json!({ "org.opencontainers.image.ref.name": "2.4", "org.example": "x" });
    index["manifests"].as_array_mut().unwrap().push(other.clone());
    index["annotations"] = serde_json::json!({ "org.example.layout": "mine" });
    fs::write(&path, index.to_string()).unwrap();
    fs::write(folder.join("README"), "mine").unwrap();
    sealift
        .run(&["load", "-q", "two.tar", "--to", "oci:one.layout"])
        .ok();
    let now: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(now["annotations"], index["annotations"]);
    let entries = now["manifests"].as_array().unwrap();
    assert_eq!(entries[..2], index["manifests"].as_array().unwrap()[..]);
    assert_eq!(
        (entries.len(), &entries[2]["digest"]),
        (3, &built[1].digest.clone().into())
    );
    assert_eq!(fs::read(folder.join("README")).unwrap(), b"mine");
    // The name of an entry that has more annotations moves with them left behind, and stays with them kept.
    let mut both = index.clone();
    both["manifests"][1]["annotations"]["io.containerd.image.name"] = "docker.io/library/two:1".into();
    both["manifests"][1]["annotations"]["org.opencontainers.image.ref.name"] = "1".into();
    fs::write(&path, both.to_string()).unwrap();
    sealift
        .run(&[
            "load",
            "-q",
            "one.tar",
            "--rename",
            "one:1=two:1",
            "--to",
            "oci:one.layout",
        ])
        .ok();
    let now: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(now["manifests"][1]["annotations"]["org.example"], "x");
    sealift
        .run(&["load", "-q", "two.tar", "--to", "oci:one.layout"])
        .ok();
    let now: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(now["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(now["manifests"][1]["digest"], built[1].digest);
    assert_eq!(
        now["manifests"][1]["annotations"]["org.example"],
        serde_json::Value::Null
    );
}

#[test]
fn a_damaged_blob_of_a_layout_is_replaced() {
    let (sealift, built) = archives();
    sealift.run(&["load", "-q", "one.tar", "--to", "oci:out"]).ok();
    let blobs = sealift.path("out/blobs/sha256");
    let layer = &built[0].manifests[0].layers[0].digest[7..];
    let mut wrong = fs::read(blobs.join(layer)).unwrap();
    wrong[20] ^= 1;
    fs::write(blobs.join(layer), &wrong).unwrap();
    let config = &built[0].manifests[1].config[7..];
    fs::write(blobs.join(config), "short").unwrap();
    sealift.run(&["verify", "-q", "out"]).code(1);
    let mut transcript = transcript(&sealift, &built);
    transcript.run("load one.tar --to oci:out").ok();
    assert_snapshot!(transcript.text(), @"
    $ sealift load one.tar --to oci:out
    NAME   TAG   DIGEST   EVIDENCE   SHOWN   CHANGE
    one    1     <one>    verified   yes     unchanged
    1 image in OCI layout out, 589 B sent
    archive <digest 1>
    ");
    assert_eq!(names(&sealift, "out").len(), 1);
}

#[test]
fn damaged_images_are_skipped_with_keep_going() {
    let (sealift, built) = archives();
    save(&sealift, &["one.tar", "two.tar"], &[], "both.tar");
    let mut both = bytes(&sealift, "both.tar");
    let layer = fs::read(built[0].blob(&built[0].manifests[0].layers[0].digest)).unwrap();
    let at = both
        .windows(layer.len())
        .position(|bytes| *bytes == layer[..])
        .unwrap();
    both[at + 20] ^= 1;
    fs::write(sealift.path("both.tar"), both).unwrap();
    let mut transcript = transcript(&sealift, &built);
    for target in ["oci:out", "archive:out.tar"] {
        transcript.run(&format!("load both.tar --to {target}")).code(1);
        assert!(!sealift.path("out").exists() && !sealift.path("out.tar").exists());
    }
    for (target, content) in [("oci:out", "out"), ("archive:out.tar", "out.tar")] {
        transcript
            .run(&format!("load both.tar --keep-going --to {target}"))
            .code(1);
        assert_eq!(
            names(&sealift, content),
            [("two:1".into(), built[1].digest.clone())]
        );
    }
    assert_snapshot!(transcript.text(), @"
    $ sealift load both.tar --to oci:out
    2> warning: both.tar: blobs/sha256/<one linux/amd64 layer 1> at byte 15872: digest is <digest 1>, expected <one linux/amd64 layer 1>
    2> error: both.tar: 1 of the archive's checks failed
    2> hint: nothing was loaded; --keep-going loads the others
    exit 1

    $ sealift load both.tar --to archive:out.tar
    2> warning: both.tar: blobs/sha256/<one linux/amd64 layer 1> at byte 15872: digest is <digest 1>, expected <one linux/amd64 layer 1>
    2> error: both.tar: 1 of the archive's checks failed
    2> hint: nothing was loaded; --keep-going loads the others
    exit 1

    $ sealift load both.tar --keep-going --to oci:out
    NAME   TAG   DIGEST   EVIDENCE   SHOWN   CHANGE
    two    1     <two>    verified   yes     new
    1 image in OCI layout out, 3.2 kB sent
    archive <digest 2>
    2> warning: both.tar: blobs/sha256/<one linux/amd64 layer 1> at byte 15872: digest is <digest 1>, expected <one linux/amd64 layer 1>
    2> warning: one:1 was skipped: it is damaged
    exit 1

    $ sealift load both.tar --keep-going --to archive:out.tar
    NAME   TAG   DIGEST   EVIDENCE   SHOWN   CHANGE
    two    1     <two>    verified   yes     new
    1 image in archive out.tar, 13.8 kB sent
    archive <digest 3>
    2> warning: both.tar: blobs/sha256/<one linux/amd64 layer 1> at byte 15872: digest is <digest 1>, expected <one linux/amd64 layer 1>
    2> warning: one:1 was skipped: it is damaged
    exit 1
    ");
}

/// Of an archive of which all images are damaged, nothing is loaded, and the other archive is. An image that is damaged in
/// one and whole in the other comes from that.
#[test]
fn images_of_the_whole_archive_are_loaded_with_keep_going() {
    let (sealift, built) = archives();
    save(&sealift, &["one.tar", "two.tar"], &[], "both.tar");
    let layer = fs::read(built[0].blob(&built[0].manifests[0].layers[0].digest)).unwrap();
    for name in ["one.tar", "both.tar"] {
        let mut archive = bytes(&sealift, name);
        let at = archive.windows(layer.len()).position(|bytes| *bytes == layer[..]);
        archive[at.unwrap() + 20] ^= 1;
        fs::write(sealift.path(&format!("bad-{name}")), archive).unwrap();
    }
    let said = sealift
        .run(&[
            "load",
            "bad-one.tar",
            "two.tar",
            "--keep-going",
            "--to",
            "oci:out",
        ])
        .code(1);
    assert_eq!(
        names(&sealift, "out"),
        [("two:1".into(), built[1].digest.clone())]
    );
    assert!(
        said.stderr.contains("one:1 was skipped: it is damaged"),
        "{said:?}"
    );
    for (archives, out) in [
        (["bad-both.tar", "one.tar"], "first"),
        (["one.tar", "bad-both.tar"], "last"),
    ] {
        let to = format!("oci:{out}");
        let said = sealift
            .run(&["load", archives[0], archives[1], "--keep-going", "--to", &to])
            .ok();
        assert!(
            said.stderr.contains("digest is") && !said.stderr.contains("skipped"),
            "{said:?}"
        );
        assert_eq!(names(&sealift, out).len(), 2);
        sealift.run(&["verify", out]).ok();
    }
}

#[test]
fn an_image_without_a_name_keeps_its_digest() {
    let (sealift, built) = archives();
    let id = &built[0].manifests[0].digest;
    let only = ["save", "-q", "--from", "one.tar", id, "-o", "nameless.tar"];
    sealift.run(&only).ok();
    let mut transcript = transcript(&sealift, &built);
    for (target, content) in [("oci:out", "out"), ("archive:out.tar", "out.tar")] {
        transcript.run(&format!("load nameless.tar --to {target}")).ok();
        assert_eq!(names(&sealift, content), [("-".into(), id.clone())]);
    }
    transcript.run("load nameless.tar --to oci:out").ok();
    assert_snapshot!(transcript.text(), @"
    $ sealift load nameless.tar --to oci:out
    NAME     TAG      DIGEST              EVIDENCE   SHOWN   CHANGE
    <none>   <none>   <one linux/amd64>   verified   yes     new
    1 image in OCI layout out, 1.3 kB sent
    archive <digest 1>

    $ sealift load nameless.tar --to archive:out.tar
    NAME     TAG      DIGEST              EVIDENCE   SHOWN   CHANGE
    <none>   <none>   <one linux/amd64>   verified   yes     new
    1 image in archive out.tar, 8.7 kB sent
    archive <digest 2>

    $ sealift load nameless.tar --to oci:out
    NAME     TAG      DIGEST              EVIDENCE   SHOWN   CHANGE
    <none>   <none>   <one linux/amd64>   verified   yes     unchanged
    1 image in OCI layout out, 0 B sent
    archive <digest 3>
    ");
    assert_eq!(names(&sealift, "out").len(), 1);
}

#[test]
fn a_quiet_load_prints_what_to_expect() {
    let (sealift, _) = archives();
    let quiet = sealift.run(&["load", "-q", "one.tar", "--to", "oci:layout"]).ok();
    let digest = quiet.stdout.trim().strip_prefix("archive ").unwrap();
    sealift.run(&["verify", "layout", "--expect", digest]).ok();
}

#[test]
fn an_index_that_is_no_file_is_called_what_it_is() {
    let (sealift, _) = archives();
    let index = sealift.path("one.layout/index.json");
    fs::rename(&index, sealift.path("index.json")).unwrap();
    std::os::unix::fs::symlink(sealift.path("index.json"), &index).unwrap();
    let refused = sealift.run(&["list", "one.layout"]);
    assert_eq!(refused.code, Some(1));
    assert_eq!(
        refused.stderr,
        "error: one.layout: index.json: is a symbolic link, expected a regular file\n"
    );
}

#[test]
fn private_archives_stay_private() {
    let (sealift, built) = archives();
    let mode = |name: &str| fs::metadata(sealift.path(name)).unwrap().mode() & 0o777;
    for (archive, file, folder) in [(0o644, 0o644, 0o755), (0o600, 0o600, 0o700)] {
        fs::set_permissions(sealift.path("one.tar"), fs::Permissions::from_mode(archive)).unwrap();
        let _ = fs::remove_dir_all(sealift.path("out"));
        sealift.run(&["load", "-q", "one.tar", "--to", "oci:out"]).ok();
        sealift
            .run(&["load", "-q", "one.tar", "--to", "archive:out.tar"])
            .ok();
        assert_eq!(
            ["out.tar", "out/index.json", "out/oci-layout"].map(mode),
            [file; 3]
        );
        assert_eq!(["out", "out/blobs", "out/blobs/sha256"].map(mode), [folder; 3]);
    }
    // A layout that everybody may read names the images of a private archive, and keeps their blobs private.
    let _ = fs::remove_dir_all(sealift.path("shared"));
    sealift.run(&["load", "-q", "two.tar", "--to", "oci:shared"]).ok();
    sealift.run(&["load", "-q", "one.tar", "--to", "oci:shared"]).ok();
    let blob = built[0].digest.replace("sha256:", "shared/blobs/sha256/");
    assert_eq!((mode("shared/index.json"), mode(&blob)), (0o644, 0o600));
    // One blob of a folder that everybody may enter is enough.
    for entry in fs::read_dir(sealift.path("out/blobs/sha256")).unwrap() {
        fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o600)).unwrap();
    }
    for name in ["out", "out/blobs", "out/blobs/sha256"] {
        fs::set_permissions(sealift.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    sealift
        .run(&["load", "-q", "out", "--to", "archive:again.tar"])
        .ok();
    assert_eq!(mode("again.tar"), 0o600);
}

#[test]
fn a_load_into_files_needs_neither_root_nor_an_engine() {
    let (sealift, _) = archives();
    fs::set_permissions(sealift.home(), fs::Permissions::from_mode(0o777)).unwrap();
    for target in ["oci:out", "archive:out.tar"] {
        let mut command = sealift.command_of_another_user(&["load", "one.tar", "--to", target]);
        command.env("DOCKER_HOST", "unix:///nowhere.sock");
        run(&mut command).ok();
        names(&sealift, target.split_once(':').unwrap().1);
    }
}
