//! Loads into layout folders and archives.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Built, Image, Layer, Run, Sealift, assert_documented, run};

/// `one.tar` and `two.tar` with `one:1` and `two:1`.
fn archives() -> (Sealift, [Built; 2]) {
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

fn save(sealift: &Sealift, from: &[&str], images: &[&str], to: &str) {
    let mut args = vec!["save", "-q", "-o", to];
    from.iter().for_each(|from| args.extend(["--from", from]));
    args.extend(images);
    sealift.run(&args).ok();
}

/// Whole output with digests as names.
fn said(run: &Run, built: &[Built; 2]) -> String {
    let mut text = format!("{}{}", run.stdout, run.stderr);
    for (image, name) in built.iter().zip(["<digest of one>", "<digest of two>"]) {
        text = text.replace(&image.digest, name);
    }
    let lines = text.lines().map(|line| match line.split_once("sha256:") {
        Some(("archive ", _)) => "archive <digest of index.json>".to_owned(),
        _ => line.split_whitespace().collect::<Vec<_>>().join(" "),
    });
    lines.map(|line| line + "\n").collect()
}

/// Digests and names in a layout or archive, all of it verified.
fn names(sealift: &Sealift, content: &str) -> Vec<(String, String)> {
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
fn tree(folder: &Path) -> Vec<(String, Vec<u8>)> {
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
    let run = sealift
        .run(&["load", "one.tar", "--to", "oci:out", "--dry-run"])
        .ok();
    assert_eq!(
        said(&run, &built),
        "to OCI layout out\n\
         send 3 layers, 3265 bytes in 8 blobs\n\
         one:1 (linux/amd64, linux/arm64)\n\
         tag one:1\n\
         digest <digest of one>\n"
    );
    assert!(!sealift.path("out").exists());
    let run = sealift.run(&["load", "one.tar", "--to", "oci:out"]).ok();
    assert_eq!(
        said(&run, &built),
        "NAME TAG DIGEST EVIDENCE SHOWN CHANGE\n\
         one 1 <digest of one> verified yes new\n\
         1 image in OCI layout out, 3.2 kB sent\n\
         archive <digest of index.json>\n"
    );
    assert_eq!(
        names(&sealift, "out"),
        [("one:1".into(), built[0].digest.clone())]
    );

    // Nothing is written where nothing changes.
    let before = tree(&sealift.path("out"));
    let written = fs::metadata(sealift.path("out/index.json")).unwrap().ino();
    let run = sealift.run(&["load", "one.tar", "--to", "oci:out"]).ok();
    assert_eq!(
        said(&run, &built),
        "NAME TAG DIGEST EVIDENCE SHOWN CHANGE\n\
         one 1 <digest of one> verified yes unchanged\n\
         1 image in OCI layout out, 0 B sent\n\
         archive <digest of index.json>\n"
    );
    assert_eq!(tree(&sealift.path("out")), before);
    assert_eq!(
        fs::metadata(sealift.path("out/index.json")).unwrap().ino(),
        written
    );

    let run = sealift
        .run(&[
            "load",
            "one.tar",
            "two.tar",
            "--rename",
            "two:1=one:2",
            "--to",
            "oci:out",
        ])
        .ok();
    assert_eq!(
        said(&run, &built),
        "NAME TAG DIGEST EVIDENCE SHOWN CHANGE\n\
         one 1 <digest of one> verified yes unchanged\n\
         one 2 <digest of two> verified yes new\n\
         2 images in OCI layout out, 3.0 kB sent\n\
         archive <digest of index.json>\n"
    );
    let run = sealift
        .run(&[
            "load",
            "two.tar",
            "--rename",
            "two:1=one:1",
            "--to",
            "oci:out",
            "--dry-run",
        ])
        .ok();
    let short = &built[0].digest;
    assert_eq!(
        run.stdout,
        format!(
            "to OCI layout out\nsend 0 layers, 0 bytes in 0 blobs\none:1 (linux/amd64, linux/arm64)\n  \
             tag     one:1 (names {short} now)\n  digest  {}\n",
            built[1].digest
        )
    );
    let run = sealift
        .run(&["load", "two.tar", "--rename", "two:1=one:1", "--to", "oci:out"])
        .ok();
    let moved = format!(
        "one 1 <digest of two> verified yes moved from {}\n",
        &short[7..19]
    );
    assert!(said(&run, &built).contains(&moved), "{run:?}");
    let [one, two] = ["one:1", "one:2"].map(|name| (name.to_owned(), built[1].digest.clone()));
    assert_eq!(names(&sealift, "out"), [one, two]);
    // What the name led to is there, and can be had again without its archive.
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
    let run = sealift
        .run(&["load", "both.tar", "--image", "two", "--to", "archive:some.tar"])
        .ok();
    assert_eq!(
        said(&run, &built),
        "NAME TAG DIGEST EVIDENCE SHOWN CHANGE\n\
         two 1 <digest of two> verified yes new\n\
         1 image in archive some.tar, 13.8 kB sent\n\
         archive <digest of index.json>\n"
    );
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
fn what_cannot_be_is_refused_and_nothing_changes() {
    let (sealift, _) = archives();
    sealift.run(&["load", "-q", "one.tar", "--to", "oci:out"]).ok();
    sealift
        .run(&[
            "load",
            "-q",
            "two.tar",
            "--split",
            "4kB",
            "--to",
            "archive:part.tar",
        ])
        .ok();
    fs::create_dir(sealift.path("full")).unwrap();
    fs::write(sealift.path("full/note"), "mine").unwrap();
    sealift
        .run(&["load", "-q", "one.tar", "--to", "oci:unpacked"])
        .ok();
    fs::write(sealift.path("unpacked/manifest.json"), "[]").unwrap();
    fs::hard_link(sealift.path("one.tar"), sealift.path("same.tar")).unwrap();
    symlink("out", sealift.path("link")).unwrap();
    let before = tree(sealift.home());
    for (args, code, expected) in [
        (
            &["one.tar", "--to", "archive:one.tar"][..],
            2,
            "error: one.tar is both read and written\nhint: name another target\n",
        ),
        (
            &["one.tar", "two.tar", "--to", "archive:same.tar"],
            2,
            "error: same.tar is both read and written\nhint: name another target\n",
        ),
        (
            &["part.tar.001", "--split", "5kB", "--to", "archive:part.tar"],
            2,
            "error: part.tar.001 is both read and written\nhint: name another target\n",
        ),
        (
            &["out", "--to", "oci:link"],
            2,
            "error: link is both read and written\nhint: name another target\n",
        ),
        (
            &["one.tar", "--to", "oci:full"],
            2,
            "error: full is not an OCI layout, and not empty\nhint: name a layout, or a new folder\n",
        ),
        (
            &["one.tar", "--to", "oci:unpacked"],
            2,
            "error: unpacked has a manifest.json, which would no longer say what is in the layout\n\
             hint: it is for `docker load`, and can be removed; or load into another folder\n",
        ),
        (
            &["one.tar", "--to", "oci:one.tar"],
            2,
            "error: one.tar is both read and written\nhint: name another target\n",
        ),
        (
            &["one.tar", "--to", "oci:nowhere/out"],
            3,
            "error: cannot write to nowhere/out: No such file or directory (os error 2)\nhint: mkdir -p nowhere\n",
        ),
        (
            &["one.tar", "--to", "archive:out"],
            2,
            "error: out names a folder, not a file\nhint: --to archive:out/images.tar\n",
        ),
        (
            &[
                "one.tar",
                "two.tar",
                "--image",
                "one",
                "--platform",
                "linux/s390x",
                "--to",
                "oci:out",
            ],
            7,
            "error: platform linux/s390x of one:1 not found in one.tar, two.tar\n\
             hint: one:1 is only for linux/amd64, linux/arm64; --keep-going loads the others; \
             --platform linux/amd64 loads that platform; or save again with --platform linux/s390x\n",
        ),
        (
            &["one.tar", "two.tar", "--rename", "two:1=one:1", "--to", "oci:out"],
            2,
            "error: two different images would be named one:1\n\
             hint: choose one with --image, or another name with --rename\n",
        ),
        (
            &["one.tar", "--to", "oci:out", "--allow-restart"],
            2,
            "error: --allow-restart is for Docker, not for --to oci:out\n",
        ),
        (
            &["one.tar", "--to", "oci:out", "--attach", "none"],
            2,
            "error: --attach is for Docker, not for --to oci:out\n",
        ),
        (
            &["one.tar", "--to", "oci:out", "--split", "4G"],
            2,
            "error: --split is for --to archive:FILE, not for --to oci:out\n",
        ),
    ] {
        for dry_run in [&["--dry-run"][..], &[]] {
            let run = sealift.run(&[&["load"], args, dry_run].concat()).code(code);
            assert_eq!(run.stderr, expected, "{args:?}");
            assert_eq!(run.stdout, "", "{args:?}");
        }
    }
    assert!(tree(sealift.home()) == before);
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
fn a_blob_that_a_layout_has_wrong_is_written_again() {
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
    let run = sealift.run(&["load", "one.tar", "--to", "oci:out"]).ok();
    assert!(run.stdout.contains("unchanged"), "{run:?}");
    assert_eq!(names(&sealift, "out").len(), 1);
}

#[test]
fn what_is_damaged_is_left_out_if_asked() {
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
    for target in ["oci:out", "archive:out.tar"] {
        let run = sealift.run(&["load", "both.tar", "--to", target]).code(1);
        assert!(run.stderr.contains("nothing was loaded; --keep-going"), "{run:?}");
        assert!(!sealift.path("out").exists() && !sealift.path("out.tar").exists());
    }
    for target in ["oci:out", "archive:out.tar"] {
        let run = sealift
            .run(&["load", "both.tar", "--keep-going", "--to", target])
            .code(1);
        assert!(
            run.stderr
                .ends_with("warning: one:1 was skipped: it is damaged\n"),
            "{run:?}"
        );
        let content = target.split_once(':').unwrap().1;
        assert_eq!(
            names(&sealift, content),
            [("two:1".into(), built[1].digest.clone())]
        );
    }
}

#[test]
fn an_image_without_a_name_keeps_its_digest() {
    let (sealift, built) = archives();
    let id = &built[0].manifests[0].digest;
    let only = ["save", "-q", "--from", "one.tar", id, "-o", "nameless.tar"];
    sealift.run(&only).ok();
    for (target, content) in [("oci:out", "out"), ("archive:out.tar", "out.tar")] {
        let run = sealift.run(&["load", "nameless.tar", "--to", target]).ok();
        let line = format!("<none> <none> {id} verified yes new");
        assert_eq!(said(&run, &built).lines().nth(1), Some(line.as_str()));
        assert_eq!(names(&sealift, content), [("-".into(), id.clone())]);
    }
    let run = sealift.run(&["load", "nameless.tar", "--to", "oci:out"]).ok();
    assert!(run.stdout.contains("unchanged"), "{run:?}");
    assert_eq!(names(&sealift, "out").len(), 1);
}

#[test]
fn what_others_may_not_read_stays_so() {
    let (sealift, _) = archives();
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
fn it_takes_neither_root_nor_an_engine() {
    let (sealift, _) = archives();
    fs::set_permissions(sealift.home(), fs::Permissions::from_mode(0o777)).unwrap();
    for target in ["oci:out", "archive:out.tar"] {
        let mut command = sealift.command_of_another_user(&["load", "one.tar", "--to", target]);
        command.env("DOCKER_HOST", "unix:///nowhere.sock");
        run(&mut command).ok();
        names(&sealift, target.split_once(':').unwrap().1);
    }
}

/// sealift under strace, which makes the `k`th call of one kind fail or kill.
fn injected(sealift: &Sealift, call: &str, fault: &str, k: u32, args: &[&str]) -> Run {
    let inner = sealift.command(args);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e"]);
    command.arg(format!("trace={call}"));
    command.arg("-e").arg(format!("inject={call}:{fault}:when={k}"));
    command.arg(inner.get_program()).args(inner.get_args());
    command
        .current_dir(sealift.home())
        .env_clear()
        .stdin(Stdio::null());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(&mut command)
}

/// The steps of a load into a folder or file, and what may go wrong with each.
const STEPS: [(&str, &str); 7] = [
    ("write", "error=ENOSPC"),
    ("pwrite64", "error=ENOSPC"),
    ("fsync", "error=EIO"),
    ("fdatasync", "error=EIO"),
    ("mkdirat", "error=EACCES"),
    ("renameat", "error=EACCES"),
    ("unlinkat", "error=EACCES"),
];

#[test]
fn a_load_cut_at_any_step_leaves_what_was_there_and_the_next_completes_it() {
    let (sealift, built) = archives();
    let (old, new) = (
        ("one:1".to_owned(), built[0].digest.clone()),
        ("two:1".to_owned(), built[1].digest.clone()),
    );
    let prepare = |content: &str| {
        let _ = fs::remove_dir_all(sealift.path("out"));
        let _ = fs::remove_file(sealift.path("out.tar"));
        sealift.run(&["load", "-q", "one.tar", "--to", content]).ok();
    };
    for (target, content) in [("oci:out", "out"), ("archive:out.tar", "out.tar")] {
        let whole = match content {
            "out" => vec![old.clone(), new.clone()],
            _ => vec![new.clone()],
        };
        let load = ["load", "-q", "two.tar", "--to", target];
        let mut cut = 0;
        for (call, error) in STEPS {
            for fault in ["signal=SIGKILL", error] {
                for k in 1.. {
                    prepare(target);
                    let run = injected(&sealift, call, fault, k, &load);
                    let found = names(&sealift, content);
                    let case = format!("{target} {call} {k} {fault}: {found:?} {run:?}");
                    if run.code == Some(0) {
                        assert_eq!(found, whole, "{case}");
                        break;
                    }
                    cut += 1;
                    assert!(found == std::slice::from_ref(&old) || found == whole, "{case}");
                    if fault == error {
                        let left = tree(sealift.home()).into_iter().map(|(name, _)| name);
                        let left: Vec<String> = left.filter(|name| name.contains("sealift-part")).collect();
                        assert!(call == "unlinkat" || left.is_empty(), "{case} {left:?}");
                    }
                    sealift.run(&load).ok();
                    assert_eq!(names(&sealift, content), whole, "{case}");
                    let left = tree(sealift.home());
                    assert!(
                        left.iter().all(|(name, _)| !name.contains("sealift-part")),
                        "{case}"
                    );
                }
            }
        }
        assert!(cut >= 20, "only {cut} steps were cut");
    }
}

#[test]
fn a_signal_leaves_nothing_behind() {
    let (sealift, built) = archives();
    for (target, made) in [
        ("oci:fresh", "fresh"),
        ("oci:out", "out"),
        ("archive:out.tar", "out.tar"),
    ] {
        for (signal, number) in [("INT", 2), ("TERM", 15)] {
            sealift.run(&["load", "-q", "one.tar", "--to", "oci:out"]).ok();
            sealift
                .run(&["load", "-q", "one.tar", "--to", "archive:out.tar"])
                .ok();
            let before = tree(sealift.home());
            // Every blob takes a fifth of a second, so that the signal comes in the middle.
            let inner = sealift.command(&["load", "-q", "two.tar", "--to", target]);
            let mut slow = Command::new("strace");
            slow.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,pwrite64,write"]);
            slow.args(["-e", "inject=fsync,pwrite64,write:delay_exit=300000"]);
            slow.arg(inner.get_program())
                .args(inner.get_args())
                .current_dir(sealift.home());
            let child = slow
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let started = Instant::now();
            let is_begun = || {
                fs::read_dir(sealift.home())
                    .unwrap()
                    .chain(fs::read_dir(sealift.path("out")).unwrap())
                    .any(|entry| {
                        let entry = entry.unwrap();
                        entry.file_name().to_string_lossy().contains("sealift-part")
                            || entry.file_name() == "fresh"
                    })
            };
            while !is_begun() {
                assert!(started.elapsed() < Duration::from_secs(20), "no load began");
                std::thread::sleep(Duration::from_millis(20));
            }
            std::thread::sleep(Duration::from_millis(400));
            run(Command::new("pkill").args([&format!("-{signal}"), "-P", &child.id().to_string()])).ok();
            let ended = child.wait_with_output().unwrap();
            let ended_by = std::os::unix::process::ExitStatusExt::signal(&ended.status);
            assert_eq!(ended_by, Some(number), "{target}: {ended:?}");
            let now = tree(sealift.home());
            assert!(
                now == before,
                "{target}: {:?}",
                now.iter().map(|(name, _)| name).collect::<Vec<_>>()
            );
            assert!(made != "fresh" || !sealift.path(made).exists(), "{target}");
        }
    }
    assert_eq!(
        names(&sealift, "out"),
        [("one:1".into(), built[0].digest.clone())]
    );
}

#[test]
fn what_does_not_fit_is_told_before_anything_is_written() {
    let (sealift, _) = archives();
    let layers = vec![Layer::new().noise("data", 1, 400_000)];
    Image::single(layers).build(&sealift.path("large.layout"), "1");
    save(&sealift, &["large.layout"], &["large:1"], "large.tar");
    fs::create_dir(sealift.path("disk")).unwrap();
    let disk = sealift.path("disk");
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=300k", "none"])
        .arg(&disk))
    .ok();
    for target in ["oci:disk/out", "archive:disk/out.tar"] {
        let plan = sealift
            .run(&["load", "large.tar", "--json", "--dry-run", "--to", target])
            .code(3)
            .json();
        assert_eq!(plan["room"]["refused"], true, "{plan}");
        let run = sealift.run(&["load", "large.tar", "--to", target]).code(3);
        assert!(
            run.stderr.contains("nothing was sent; free some space"),
            "{run:?}"
        );
        assert_eq!(fs::read_dir(&disk).unwrap().count(), 0);
    }
    run(Command::new("umount").arg(&disk)).ok();
}
