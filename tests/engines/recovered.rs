//! Manifests that are lost: images that were built on a base with layers of unknown encoders, and pushed; the registry
//! is gone.

use std::fs;

use serde_json::{Value, json};

use crate::loading::assert_runs;
use crate::saving::{GO, at, saved};
use crate::support::{Built, Compression, Daemon, Engine, Image, Layer, Registry, Sealift, Store, run};

const OUT_OF: [&str; 3] = ["--from", "docker", "--offline"];

/// Pushes a base whose layers no known encoder makes: GNU gzip's, or those of the pgzip in skopeo.
fn push_base(registry: &Registry, sealift: &Sealift, to: &str, by_skopeo: bool) -> Built {
    let layout = sealift.path("layout");
    let layers = || {
        vec![
            Layer::busybox().real("/bin/bash"),
            Layer::new().real("/usr/bin/curl").noise("base/noise", 3, 100_000),
        ]
    };
    if !by_skopeo {
        let base = Image::single(layers())
            .compression(Compression::GnuGzip)
            .build(&layout, "gnu");
        registry.push(&base, to);
        return base;
    }
    let base = Image::single(layers())
        .compression(Compression::Plain)
        .build(&layout, "plain");
    let mut skopeo = registry.skopeo("copy", "--dest-");
    skopeo.args(["--dest-compress-format", "gzip"]);
    skopeo.arg(format!("oci:{}:plain", layout.display()));
    run(skopeo.arg(format!("docker://{}/{to}", registry.address()))).ok();
    base
}

/// The layer that the image has of its own.
fn own() -> Vec<Layer> {
    vec![
        Layer::new()
            .file("app/version", "1")
            .real("/bin/sed")
            .noise("app/noise", 5, 50_000),
    ]
}

/// The origins of the layers, each with the number of layers; the reason without the encoders that were tried.
fn ways(image: &Value) -> Vec<String> {
    let layers = image["provenance"]["layers"].as_object().unwrap().values();
    let mut ways: Vec<String> = layers
        .map(|layer| {
            let from = layer["from"].as_str().unwrap();
            match (layer["by"].as_str(), layer["reason"].as_str()) {
                (Some(by), _) => format!("{from}: {by}"),
                (_, Some(reason)) => format!("{from}: {}", reason.split(" (").next().unwrap()),
                _ => from.to_owned(),
            }
        })
        .collect();
    ways.sort();
    ways
}

/// Fails unless the image is proven, and another classic store shows its digest.
#[track_caller]
fn assert_proven_and_shown(sealift: &Sealift, image: &Value, archive: &str, name: &str, digest: &str) {
    let manifest = &image["provenance"]["manifest"];
    assert_eq!(
        json!([
            image["digest"],
            image["evidence"],
            manifest["from"],
            manifest["by"]
        ]),
        json!([digest, "verified", "rebuilt", "docker push"]),
        "{image:#}"
    );
    let other = Daemon::start(Engine::Docker20, Store::Classic);
    let rename = format!("{name}=app");
    at(sealift, &other, &["load", archive, "--rename", &rename]).ok();
    assert_eq!(other.images(), [format!("app:1 {digest}")]);
    assert_runs(&other, &format!("app@{digest}"), "1");
}

/// Takes what pulls have left of manifests from a daemon.
fn lose_manifests(daemon: &mut Daemon) {
    daemon.stop();
    let content = "containerd/daemon/io.containerd.content.v1.content/blobs/sha256";
    fs::remove_dir_all(daemon.data_root().join(content)).unwrap();
    daemon.start_again();
}

const NO_ENCODER: &str = "uncompressed: no known encoder reproduces it";

/// The commonest way in which images are made: on a base that was pulled, and pushed beside it.
fn built_on_a_base_of_an_unknown_encoder(engine: Engine) {
    for by_skopeo in [false, true] {
        let registry = Registry::start();
        let sealift = Sealift::new();
        push_base(&registry, &sealift, "library/base:1", by_skopeo);
        let daemon = Daemon::start(engine, Store::Classic);
        let base = format!("{}/library/base:1", registry.address());
        daemon.docker(&["pull", "--quiet", &base]).ok();
        daemon.build_on(&base, "app", &own());
        let name = format!("{}/team/app", registry.address());
        let digest = daemon.push("app", &format!("{name}:1"));
        drop(registry);
        let tagged = format!("{name}:1");
        let image = saved(&sealift, &daemon, &[&OUT_OF[..], &[&tagged]].concat(), "app.tar");
        // Debian's newest docker is built with a Go whose gzip is not known: its own layer's size is searched for.
        let own = match engine {
            Engine::Docker28 => NO_ENCODER,
            _ => GO,
        };
        let mut expected = vec![NO_ENCODER, NO_ENCODER, own];
        expected.sort_unstable();
        // What skopeo's encoder makes of bytes that do not compress is known.
        if !by_skopeo {
            assert_eq!(ways(&image), expected, "{image:#}");
        }
        assert_proven_and_shown(&sealift, &image, "app.tar", &name, &digest);

        // Without the base's name its manifest is still there.
        daemon.docker(&["rmi", "--no-prune", "app"]).ok();
        let again = saved(
            &sealift,
            &daemon,
            &[&OUT_OF[..], &[&tagged]].concat(),
            "again.tar",
        );
        assert_eq!(again["evidence"], "verified");
    }
}

#[test]
fn built_on_an_odd_base_with_docker_20() {
    built_on_a_base_of_an_unknown_encoder(Engine::Docker20);
}

#[cfg(feature = "test-all")]
#[test]
fn built_on_an_odd_base_with_docker_26() {
    built_on_a_base_of_an_unknown_encoder(Engine::Docker26);
}

#[test]
fn built_on_an_odd_base_with_docker_28() {
    built_on_a_base_of_an_unknown_encoder(Engine::Docker28);
}

/// An archive of the base has its layers as they are stored: every engine takes the image then.
#[test]
fn an_archive_of_the_base_completes_an_image() {
    for engine in [Engine::Docker20, Engine::Docker28] {
        let registry = Registry::start();
        let sealift = Sealift::new();
        let (mut daemon, name, digest) = built_and_pushed(engine, &registry, &sealift);
        let (base, tagged) = (
            format!("{}/library/base:1", registry.address()),
            format!("{name}:1"),
        );
        sealift
            .run(&["save", "--from", "registry", &base, "-o", "base.tar"])
            .ok();
        lose_manifests(&mut daemon);
        drop(registry);
        let from = ["--from", "docker", "--from", "base.tar", "--offline"];
        let image = saved(&sealift, &daemon, &[&from[..], &[&tagged]].concat(), "app.tar");
        let own = if engine == Engine::Docker28 {
            NO_ENCODER
        } else {
            GO
        };
        let mut expected = vec!["stored", "stored", own];
        expected.sort_unstable();
        assert_eq!(ways(&image), expected, "{image:#}");
        assert_proven_and_shown(&sealift, &image, "app.tar", &name, &digest);
        if engine == Engine::Docker20 {
            let other = Daemon::start(Engine::Docker28, Store::Containerd);
            let rename = format!("{name}=app");
            at(&sealift, &other, &["load", "app.tar", "--rename", &rename]).ok();
            assert_eq!(other.images(), [format!("app:1 {digest}")]);
        }
    }
}

/// A daemon that pulled a base, built an image on it and pushed that: the daemon, the image's repository and digest.
fn built_and_pushed(engine: Engine, registry: &Registry, sealift: &Sealift) -> (Daemon, String, String) {
    push_base(registry, sealift, "library/base:1", false);
    let daemon = Daemon::start(engine, Store::Classic);
    let base = format!("{}/library/base:1", registry.address());
    daemon.docker(&["pull", "--quiet", &base]).ok();
    daemon.build_on(&base, "app", &own());
    let name = format!("{}/team/app", registry.address());
    let digest = daemon.push("app", &format!("{name}:1"));
    (daemon, name, digest)
}

/// The registry lost the image's manifest, and has the base's, which Docker lost.
#[test]
fn a_registry_that_lost_the_manifest_still_tells_of_the_base() {
    let mut registry = Registry::start();
    let sealift = Sealift::new();
    let (mut daemon, name, digest) = built_and_pushed(Engine::Docker20, &registry, &sealift);
    let tagged = format!("{name}:1");
    registry.stop();
    registry.forget_manifests("team/app");
    registry.start_again();
    lose_manifests(&mut daemon);
    let image = saved(&sealift, &daemon, &["--from", "docker", &tagged], "app.tar");
    // The layer of its own was compressed to learn its size.
    assert_eq!(ways(&image), [GO, "registry", "registry"], "{image:#}");
    assert_proven_and_shown(&sealift, &image, "app.tar", &name, &digest);
}

/// What is missing is reported: where it was looked for, and the result for each layer.
#[test]
fn what_is_not_known_of_a_lost_manifest_is_told() {
    let registry = Registry::start();
    let sealift = Sealift::new();
    let (mut daemon, name, digest) = built_and_pushed(Engine::Docker20, &registry, &sealift);
    let tagged = format!("{name}:1");
    lose_manifests(&mut daemon);
    drop(registry);
    let save = [&["save", "--json", "-o", "app.tar"][..], &OUT_OF, &[&tagged]].concat();
    let said = at(&sealift, &daemon, &save).code(6).json();
    let image = &said["images"][0];
    assert_eq!(
        json!([image["digest"], image["evidence"]]),
        json!([digest, "recorded"])
    );
    let reason = image["provenance"]["manifest"]["reason"].as_str().unwrap();
    let says = "the compressed sizes of layers 1, 2 of 3 are not known";
    assert!(reason.ends_with(says), "{reason}");
    assert_eq!(
        ways(image),
        [
            NO_ENCODER,
            NO_ENCODER,
            "uncompressed: without the manifest nothing proves how it was compressed"
        ]
    );
    let listed = sealift.run(&["list", "app.tar"]).ok().stdout;
    assert!(listed.contains(says), "{listed}");
}
