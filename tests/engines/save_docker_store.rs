//! The containerd store as a source, and either store for a user who is not root.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::saving::{BY_PUSH, GO, Nobody, assert_proven, at, ended_as_told, layers_with_twins, saved};
use crate::support::{Built, Daemon, Engine, Image, Platform, Registry, Sealift, Store};

const OUT_OF: [&str; 3] = ["--from", "docker", "--offline"];

/// A registry with a multi-platform image, and an engine that has pulled it.
fn pulled(sealift: &Sealift, engine: Engine, store: Store) -> (Registry, Built, Daemon) {
    let registry = Registry::start();
    let image = Image::sample("app", "1").build(&sealift.path("layout"), "app");
    registry.push(&image, "library/app:1");
    let daemon = Daemon::options(engine, store).mirror(&registry).start();
    daemon.docker(&["pull", "--quiet", "app:1"]).ok();
    (registry, image, daemon)
}

/// The document of an image that another user than root saved, and the archive's bytes.
#[track_caller]
fn saved_by_nobody(nobody: &Nobody, daemon: &Daemon, arguments: &[&str]) -> (serde_json::Value, Vec<u8>) {
    let line = [&["save", "--json", "-o", "images.tar"][..], arguments].concat();
    let said = ended_as_told(nobody.run(daemon, &line));
    assert!(said.stderr.contains("can be used by root only"), "{said:?}");
    let archive = nobody.path("images.tar");
    let bytes = fs::read(&archive).unwrap();
    Sealift::new().run(&["verify", archive.to_str().unwrap()]).ok();
    fs::remove_file(archive).unwrap();
    (said.json()["images"][0].clone(), bytes)
}

fn a_containerd_store_gives_the_originals(engine: Engine) {
    let sealift = Sealift::new();
    let (registry, image, daemon) = pulled(&sealift, engine, Store::Containerd);
    drop(registry);
    let out_of = [&OUT_OF[..], &["--rebuild", "require", "app:1"]].concat();
    let told = saved(&sealift, &daemon, &out_of, "images.tar");
    assert_proven(&told, &image.digest, "engine", &[("stored", 3)]);
    assert_eq!(told["platforms"], json!([Platform::host().to_string()]));
    let by_digest = format!("app@{}", image.digest);
    let told = saved(
        &sealift,
        &daemon,
        &[&OUT_OF[..], &[&by_digest]].concat(),
        "by-digest.tar",
    );
    assert_proven(&told, &image.digest, "engine", &[("stored", 3)]);

    let nobody = Nobody::new();
    let (told, bytes) = saved_by_nobody(&nobody, &daemon, &out_of);
    assert_proven(&told, &image.digest, "engine", &[("stored", 3)]);
    assert!(
        bytes == fs::read(sealift.path("images.tar")).unwrap(),
        "the archives differ"
    );
    let classic = Daemon::start(Engine::Docker20, Store::Classic);
    at(&sealift, &classic, &["load", "-q", "images.tar"]).ok();
    assert_eq!(classic.images(), [format!("app:1 {}", image.digest)]);
}

fn only(platform: &str) -> Vec<&str> {
    [&OUT_OF[..], &["app:1", "--platform", platform]].concat()
}

#[test]
fn a_containerd_store_gives_the_platforms_that_it_has() {
    let sealift = Sealift::new();
    let (registry, image, daemon) = pulled(&sealift, Engine::Docker28, Store::Containerd);
    let [host, foreign] = [Platform::host(), Platform::foreign()].map(|platform| platform.to_string());
    let absent = [&["save", "-o", "images.tar"][..], &only(&foreign)[..]].concat();
    let said = at(&sealift, &daemon, &absent).code(7);
    assert!(said.stderr.contains(&foreign), "{said:?}");
    daemon
        .docker(&["pull", "--quiet", "--platform", &foreign, "app:1"])
        .ok();
    drop(registry);
    let nobody = Nobody::new();
    let cases = [
        (&[&OUT_OF[..], &["app:1"]].concat()[..], vec![&host, &foreign]),
        (&only(&foreign), vec![&foreign]),
        (&only(&host), vec![&host]),
    ];
    for (arguments, platforms) in cases {
        let by_root = saved(&sealift, &daemon, arguments, "images.tar");
        let (by_nobody, _) = saved_by_nobody(&nobody, &daemon, arguments);
        for told in [by_root, by_nobody] {
            let mut found: Vec<_> = told["platforms"].as_array().unwrap().iter().collect();
            found.sort_by_key(|platform| **platform != host.as_str());
            assert_eq!(json!(found), json!(platforms));
            assert_eq!(
                (&told["digest"], &told["evidence"]),
                (&json!(image.digest), &json!("verified"))
            );
        }
    }
}

#[test]
fn a_containerd_store_of_docker_28_gives_the_originals() {
    a_containerd_store_gives_the_originals(Engine::Docker28);
}

#[cfg(feature = "test-all")]
#[test]
fn a_containerd_store_of_docker_26_gives_the_originals() {
    a_containerd_store_gives_the_originals(Engine::Docker26);
}

/// The file that a containerd store has a blob in.
fn blob(daemon: &Daemon, digest: &str) -> PathBuf {
    let content = daemon
        .data_root()
        .join("containerd/daemon/io.containerd.content.v1.content/blobs");
    content.join(digest.replace(':', "/"))
}

#[test]
fn a_containerd_store_that_lacks_a_layer_is_not_saved_as_if_it_had_it() {
    let sealift = Sealift::new();
    let (mut registry, image, mut daemon) = pulled(&sealift, Engine::Docker28, Store::Containerd);
    let layer = &image.host().layers[1].digest;
    daemon.stop();
    fs::remove_file(blob(&daemon, layer)).unwrap();
    daemon.start_again();
    registry.stop();

    let nobody = Nobody::new();
    let mirror = format!("docker.io={}", registry.address());
    let online = ["--from", "docker", "--mirror", &mirror];
    for out_of in [&OUT_OF[..], &online] {
        let line = [&["save", "-o", "images.tar", "app:1"][..], out_of].concat();
        let by_root = at(&sealift, &daemon, &line);
        let by_nobody = nobody.run(&daemon, &line);
        for said in [by_root.code(7), by_nobody.code(7)] {
            assert!(
                said.stderr.contains(layer) && said.stderr.contains("hint: "),
                "{said:?}"
            );
        }
        assert!(!sealift.path("images.tar").exists() && !nobody.path("images.tar").exists());
    }

    registry.start_again();
    let told = saved(
        &sealift,
        &daemon,
        &[&online[..], &["app:1"]].concat(),
        "images.tar",
    );
    assert_proven(&told, &image.digest, "engine", &[("registry", 1), ("stored", 2)]);
    let targets = [Engine::Docker20, Engine::Docker28];
    for daemon in targets.map(|engine| Daemon::start(engine, Store::Classic)) {
        at(&sealift, &daemon, &["load", "-q", "images.tar"]).ok();
        assert_eq!(daemon.images(), [format!("app:1 {}", image.digest)]);
    }
}

#[test]
fn one_incomplete_image_does_not_keep_a_containerd_store_from_being_saved() {
    let sealift = Sealift::new();
    let (registry, broken, mut daemon) = pulled(&sealift, Engine::Docker28, Store::Containerd);
    let others = ["here", "there", "zoo"].map(|name| {
        let built = Image::sample(name, "1").build(&sealift.path("layout"), name);
        registry.push(&built, &format!("library/{name}:1"));
        daemon.docker(&["pull", "--quiet", &format!("{name}:1")]).ok();
        (format!("{name}:1"), built.digest)
    });
    drop(registry);
    // The top layer is its own; the others share theirs.
    let layer = &broken.host().layers[2].digest;
    daemon.stop();
    fs::remove_file(blob(&daemon, layer)).unwrap();
    daemon.start_again();

    let nobody = Nobody::new();
    let names = ["app:1", "here:1", "there:1", "zoo:1"];
    let save = ["save", "--json", "-o", "images.tar"];
    for arguments in [&["--all"][..], &[&names[..], &["--keep-going"]].concat()] {
        let line = [&save[..], &OUT_OF, arguments].concat();
        let by_root = at(&sealift, &daemon, &line).code(7);
        let by_nobody = nobody.run(&daemon, &line).code(7);
        for said in [by_root, by_nobody] {
            let document = said.json();
            let left_out = &document["left_out"];
            assert_eq!(
                (&left_out[0]["name"], &left_out[0]["exit"]),
                (&json!("app:1"), &json!(7))
            );
            assert!(
                left_out[0]["reason"].as_str().unwrap().contains(layer),
                "{document}"
            );
            assert_eq!(left_out.as_array().unwrap().len(), 1);
            let images = document["images"].as_array().unwrap().iter();
            let found: Vec<_> = images
                .map(|image| json!([image["name"], image["digest"]]))
                .collect();
            let expected: Vec<_> = others
                .iter()
                .map(|(name, digest)| json!([name, digest]))
                .collect();
            assert_eq!(found, expected);
        }
        for archive in [sealift.path("images.tar"), nobody.path("images.tar")] {
            sealift.run(&["verify", "-q", archive.to_str().unwrap()]).ok();
            fs::remove_file(archive).unwrap();
        }
    }
    // If nothing may be left out, nothing is written.
    let line = [&save[..], &OUT_OF, &names[..]].concat();
    at(&sealift, &daemon, &line).code(7);
    at(
        &sealift,
        &daemon,
        &[&save[..], &OUT_OF, &["--all", "--rebuild", "require"]].concat(),
    )
    .code(7);
    assert!(!sealift.path("images.tar").exists());
}

#[test]
fn without_root_a_classic_store_is_exported() {
    let sealift = Sealift::new();
    let (registry, image, daemon) = pulled(&sealift, Engine::Docker20, Store::Classic);
    let name = format!("{}/pushed:1", registry.address());
    daemon.build("built", &layers_with_twins("1"));
    let digest = daemon.push("built", &name);
    let nobody = Nobody::new();

    // The registry has what the export lacks.
    let (told, _) = saved_by_nobody(
        &nobody,
        &daemon,
        &[
            "--from",
            "docker",
            "app:1",
            "--mirror",
            &format!("docker.io={}", registry.address()),
        ],
    );
    assert_proven(&told, &image.digest, "registry", &[("registry", 3)]);
    drop(registry);

    let pushed = [&OUT_OF[..], &[&name]].concat();
    let (told, bytes) = saved_by_nobody(&nobody, &daemon, &pushed);
    assert_proven(&told, &digest, BY_PUSH, &[(GO, 4)]);
    saved(&sealift, &daemon, &pushed, "pushed.tar");
    assert!(
        bytes == fs::read(sealift.path("pushed.tar")).unwrap(),
        "the archives differ"
    );

    let (told, _) = saved_by_nobody(&nobody, &daemon, &[&OUT_OF[..], &["app:1"]].concat());
    assert_eq!(
        json!([
            told["digest"],
            told["evidence"],
            told["provenance"]["manifest"]["from"]
        ]),
        json!([image.digest, "recorded", "stand-in"])
    );
    let reason = told["provenance"]["manifest"]["reason"].as_str().unwrap();
    assert!(
        reason.contains("neither the store nor a registry has it"),
        "{reason}"
    );
    let require = ["save", "-o", "images.tar", "--rebuild", "require", "app:1"];
    nobody.run(&daemon, &[&require[..], &OUT_OF].concat()).code(6);
    assert!(!nobody.path("images.tar").exists());
}

/// A layer's files were changed behind the engine's back.
#[test]
fn a_layer_that_was_changed_is_refused() {
    let sealift = Sealift::new();
    let (registry, image, daemon) = pulled(&sealift, Engine::Docker28, Store::Classic);
    let driver = &daemon.inspect("app:1").unwrap()["GraphDriver"]["Data"];
    let inside = driver["UpperDir"].as_str().unwrap().to_owned();
    let below = inside.strip_prefix("/sealift/root/").unwrap();
    fs::write(daemon.data_root().join(below).join("app/version"), "2").unwrap();
    let line = ["save", "-o", "images.tar", "app:1"];
    let said = at(&sealift, &daemon, &[&line[..], &OUT_OF].concat()).code(1);
    assert!(said.stderr.contains(&image.host().layers[2].diff_id), "{said:?}");
    assert!(!sealift.path("images.tar").exists());
    // The registry has it as it was.
    let mirror = format!("docker.io={}", registry.address());
    let told = saved(
        &sealift,
        &daemon,
        &["--from", "docker", "--mirror", &mirror, "app:1"],
        "images.tar",
    );
    assert_proven(&told, &image.digest, "engine", &[("registry", 3)]);
}
