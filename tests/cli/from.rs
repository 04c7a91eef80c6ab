//! Where `save` looks for images.

use serde_json::json;

use crate::support::{Built, Image, Layer, Sealift, image, layer};

/// A `docker save` archive of one image, `app:1`, without a digest, as Docker 20.10 writes it.
fn saved(sealift: &Sealift) -> String {
    let layer = Layer::new().file("etc/app", "text").tar();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [image::sha256(&layer)] },
    });
    let config = config.to_string().into_bytes();
    let config_name = format!("{}.json", &image::sha256(&config)["sha256:".len()..]);
    let manifest = json!([{
        "Config": config_name, "RepoTags": ["app:1", "quay.io/org/app:1"], "Layers": ["a/layer.tar"],
    }]);
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        (config_name.as_str(), config.as_slice()),
        ("a/layer.tar", &layer),
        ("manifest.json", manifest.to_string().as_bytes()),
    ] {
        layer::append(&mut builder, name, 0o644, tar::EntryType::Regular, bytes);
    }
    let path = sealift.path("saved.tar");
    std::fs::write(&path, builder.into_inner().unwrap()).unwrap();
    path.display().to_string()
}

#[test]
fn options_that_leave_nothing_to_ask_are_refused() {
    let sealift = Sealift::new();
    for (arguments, says) in [
        (&["--from", "registry", "--offline"][..], "--offline asks none"),
        (&["--offline"], "no source is available"),
        (&["--from", "registry", "--data-root", "/"], "--from asks none"),
        (
            &["--from", &saved(&sealift), "--data-root", "/"],
            "--from asks none",
        ),
    ] {
        let line = [&["save", "app:1", "-o", "out.tar"], arguments].concat();
        let run = sealift.run(&line).code(2);
        assert!(run.stderr.contains(says), "{line:?}: {}", run.stderr);
        assert!(run.stderr.contains("hint: "), "{line:?}: {}", run.stderr);
        assert!(!sealift.path("out.tar").exists());
    }
}

#[test]
fn a_registry_that_fails_is_told_with_the_docker_that_was_not_asked() {
    let sealift = Sealift::new().env("DOCKER_HOST", "unix:///nope.sock");
    let said = "note: the local Docker was not asked: /nope.sock does not exist";
    // Nothing listens at port 1.
    let save = ["save", "127.0.0.1:1/app:1", "-o", "out.tar"];
    assert!(sealift.run(&save).code(4).stderr.contains(said));
    let run = sealift
        .run(&[&save[..], &["--from", "registry"]].concat())
        .code(4);
    assert!(!run.stderr.contains("Docker"), "{}", run.stderr);
}

#[test]
fn a_name_that_is_not_there_is_answered_with_those_like_it() {
    let sealift = Sealift::new();
    let save = ["save", "--offline", "--from", &saved(&sealift), "-o", "out.tar"];
    for (name, hint) in [
        ("49eb034b73f3", "hint: no image has this id either; it has "),
        ("nothing", "hint: it has "),
    ] {
        let told = sealift.run(&[&save[..], &[name]].concat()).code(7).stderr;
        assert!(told.contains(hint), "{told}");
    }
    let told = sealift
        .run(&[&save[..], &["sha256:49eb"]].concat())
        .code(7)
        .stderr;
    assert!(
        told.contains("error: an image id that begins with sha256:49eb not found in "),
        "{told}"
    );
}

#[test]
fn a_docker_that_is_not_there_is_told_with_what_would_help() {
    let sealift = Sealift::new();
    let run = sealift
        .run(&["save", "--from", "docker", "app:1", "-o", "out.tar"])
        .code(5);
    assert!(run.stderr.contains("--data-root DIR reads"), "{}", run.stderr);
    let root = sealift.path("nothing");
    std::fs::create_dir(&root).unwrap();
    let root = root.display().to_string();
    let run = sealift
        .run(&["save", "--data-root", &root, "--all", "-o", "out.tar"])
        .code(2);
    assert!(run.stderr.contains("has no classic store"), "{}", run.stderr);
}

#[test]
fn an_archive_of_docker_save_becomes_one_that_says_what_it_is() {
    let sealift = Sealift::new();
    let save = ["save", "--offline", "--from", &saved(&sealift), "-o", "out.tar"];
    let run = sealift.run(&save).code(0);
    assert!(run.stdout.contains("<none>"), "{}", run.stdout);
    assert!(
        run.stdout
            .contains("neither docker save nor a docker format of podman keeps one"),
        "{}",
        run.stdout
    );
    let listed = sealift.run(&["list", "--json", "out.tar"]).code(0);
    assert!(
        listed.stdout.contains(r#""evidence": "none""#),
        "{}",
        listed.stdout
    );
    sealift.run(&["verify", "out.tar"]).code(0);

    let absent = format!("app@sha256:{}", "0".repeat(64));
    for (rebuild, code) in [("auto", 7), ("require", 6)] {
        let line = [&save[..], &[&absent, "--rebuild", rebuild]].concat();
        let before = std::fs::read(sealift.path("out.tar")).unwrap();
        let run = sealift.run(&line).code(code);
        assert!(run.stderr.contains("nothing shows that it is"), "{}", run.stderr);
        let after = std::fs::read(sealift.path("out.tar")).unwrap();
        assert_eq!(before, after, "the old file stays");
    }
}

/// An archive of one image under a name.
fn archive(sealift: &Sealift, name: &str, version: &str) -> (String, Built) {
    let layout = sealift.path(&format!("layout-{version}"));
    let built = Image::sample("app", version).build(&layout, name);
    let file = format!("{version}.tar");
    let layout = layout.display().to_string();
    sealift
        .run(&["save", "--from", &layout, "--offline", "-o", &file])
        .ok();
    (file, built)
}

#[test]
fn archives_that_name_different_images_alike_are_not_merged() {
    let sealift = Sealift::new();
    let name = "quay.io/org/app:1";
    let [(one, first), (two, second)] = ["1", "2"].map(|version| archive(&sealift, name, version));
    let from = [
        "save",
        "--offline",
        "--from",
        &one,
        "--from",
        &two,
        "-o",
        "out.tar",
    ];
    for what in [&[][..], &["--all"], &[name]] {
        let run = sealift.run(&[&from[..], what].concat()).code(2);
        let says = format!(
            "two different images would be named {name}: {} in {one} and {} in {two}",
            first.digest, second.digest
        );
        assert!(run.stderr.contains(&says), "{what:?}: {}", run.stderr);
        assert!(!sealift.path("out.tar").exists());
    }
    // One is chosen by its digest.
    let chosen = format!("{name}@{}", second.digest);
    let said = sealift
        .run(&[&from[..], &[&chosen, "--json"]].concat())
        .ok()
        .json();
    assert_eq!(said["images"][0]["digest"], second.digest.as_str());
    // The same image may be in both.
    let twice = ["save", "--offline", "--from", &one, "--from", "out.tar"];
    std::fs::copy(sealift.path(&one), sealift.path("out.tar")).unwrap();
    sealift.run(&[&twice[..], &["-o", "twice.tar"]].concat()).ok();
}
