//! A registry whose files are damaged, mended out of the Docker that built the image, or out of an archive.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::containerd::NAMESPACE;
use crate::containerd::twin;
use crate::save_podman;
use crate::saving::{at, layers};
use crate::support::podman::{Podman, User, Version};
use crate::support::{
    Built, Daemon, Engine, Image, Registry, Run, Sealift, Store, containerd, examples, run,
};

/// An image that Docker 20.10 built and pushed, and what the registry has of it.
struct Pushed {
    registry: Registry,
    builder: Daemon,
    sealift: Sealift,
    name: String,
    digest: String,
}

impl Pushed {
    fn new() -> Pushed {
        let registry = Registry::start();
        let builder = Daemon::start(Engine::Docker20, Store::Classic);
        builder.build("myapp:1", &layers("1"));
        let name = format!("{}/team/app:1", registry.address());
        let digest = builder.push("myapp:1", &name);
        Pushed {
            registry,
            builder,
            sealift: Sealift::new(),
            name,
            digest,
        }
    }

    fn manifest(&self) -> Value {
        let bytes = fs::read(self.registry.blob_path(&self.digest)).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    fn root(&self) -> String {
        self.registry.root().display().to_string()
    }

    /// Runs a command on the storage, on the builder.
    fn on_storage(&self, command: &str, more: &[&str]) -> Run {
        let root = self.root();
        let line = [&[command, "--json", "--registry-root", &root], more].concat();
        at(&self.sealift, &self.builder, &line)
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_registry_is_mended_by_the_docker_that_built_the_image() {
    let pushed = Pushed::new();
    let other = Daemon::start(Engine::Docker20, Store::Classic);
    let manifest = pushed.manifest();
    let layer = text(
        manifest["layers"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()
            .get("digest")
            .unwrap(),
    );
    let config = text(&manifest["config"]["digest"]);
    let archive = ["save", "-q", &pushed.name, "-o", "images.tar"];
    pushed.sealift.run(&archive).ok();
    for (blob, says, from) in [
        (layer, "filesystem layer verification failed", "docker"),
        (config, "image config verification failed", "docker"),
        (pushed.digest.as_str(), "", "docker"),
        (pushed.digest.as_str(), "", "images.tar"),
    ] {
        let path = pushed.registry.blob_path(blob);
        let good = fs::read(&path).unwrap();
        match says.is_empty() {
            true => fs::write(&path, &good[..good.len() / 2]).unwrap(),
            false => flip(&path),
        }
        let refused = other.docker(&["pull", &pushed.name]).code(1);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);

        let found = pushed.on_storage("verify", &[]).code(1).json();
        let finding = &found["storage"]["findings"][0];
        assert_eq!(finding["place"]["digest"], blob);
        let images = finding["images"].as_array().unwrap().iter();
        let mut tags = images.filter(|image| image["tag"] == "1");
        assert_eq!(tags.next().unwrap()["repository"], "team/app", "{found:#}");

        let planned = pushed
            .on_storage("repair", &["--from", from, "--dry-run"])
            .ok()
            .json();
        assert_eq!(
            planned["repair"]["blobs"][0]["result"], "available",
            "{planned:#}"
        );
        let mended = pushed.on_storage("repair", &["--from", from]).ok().json();
        assert_eq!(
            mended["repair"]["blobs"].as_array().unwrap().len(),
            1,
            "{mended:#}"
        );
        assert_eq!(mended["repair"]["blobs"][0]["from"], from);
        assert_eq!(fs::read(&path).unwrap(), good);
        pushed.on_storage("verify", &[]).ok();

        let pulled = other.docker(&["pull", &pushed.name]).ok();
        assert!(pulled.stdout.contains(&pushed.digest), "{}", pulled.stdout);
        other.docker(&["rmi", &pushed.name]).ok();
    }
}

#[test]
fn what_a_registry_lost_is_uploaded_by_the_docker_that_built_the_image() {
    let pushed = Pushed::new();
    let other = Daemon::start(Engine::Docker20, Store::Classic);
    let manifest = pushed.manifest();
    let layer = text(&manifest["layers"][2]["digest"]);
    let config = text(&manifest["config"]["digest"]);
    let repository = pushed.name.rsplit_once(':').unwrap().0;
    let by_digest = format!("{repository}@{}", pushed.digest);
    for (blobs, name) in [
        (vec![layer, config], pushed.name.as_str()),
        (vec![pushed.digest.as_str()], by_digest.as_str()),
    ] {
        let paths: Vec<_> = blobs.iter().map(|blob| pushed.registry.blob_path(blob)).collect();
        let right: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        for path in &paths {
            fs::remove_file(path).unwrap();
        }
        other.docker(&["pull", &pushed.name]).code(1);
        let line = ["repair", "--json", name, "--from", "docker", "--tries", "1"];
        let mended = at(&pushed.sealift, &pushed.builder, &line).ok().json();
        for blob in mended["repair"]["blobs"].as_array().unwrap() {
            assert_eq!(blob["result"], "mended", "{mended:#}");
            assert_eq!(blob["from"], "docker", "{mended:#}");
        }
        let found: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(found == right, "{mended:#}");
        let pulled = other.docker(&["pull", &pushed.name]).ok();
        assert!(pulled.stdout.contains(&pushed.digest), "{}", pulled.stdout);
        other.docker(&["rmi", &pushed.name]).ok();
    }
    // Without the name that it has in the registry, the image is found by its id.
    pushed.builder.docker(&["rmi", &pushed.name]).ok();
    let inspect = ["inspect", "--format", "{{.RepoTags}} {{.RepoDigests}}", "myapp:1"];
    let names = pushed.builder.docker(&inspect).ok();
    assert_eq!(names.stdout.trim(), "[myapp:1] []");
    let path = pushed.registry.blob_path(layer);
    let right = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let line = ["repair", "-q", &pushed.name, "--from", "docker"];
    at(&pushed.sealift, &pushed.builder, &line).ok();
    assert!(fs::read(&path).unwrap() == right);
}

/// Damages a layer of the image of this host, and mends the storage with `repair`.
#[track_caller]
fn assert_mended(registry: &Registry, image: &Built, from: &str, repair: impl FnOnce(&[&str]) -> Run) {
    let path = registry.blob_path(&image.host().layers[1].digest);
    let right = fs::read(&path).unwrap();
    flip(&path);
    let root = registry.root().display().to_string();
    let mended = repair(&["repair", "--json", "--registry-root", &root, "--from", from]);
    let mended = mended.ok().json();
    assert_eq!(mended["repair"]["blobs"][0]["from"], from, "{mended:#}");
    assert_eq!(mended["repair"]["good"], true, "{mended:#}");
    assert!(fs::read(&path).unwrap() == right);
}

#[test]
fn a_damaged_registry_is_mended_by_containerd() {
    let origin = twin::Origin::new();
    let image = origin.push("quay.io/team/app:1", &Image::sample("app", "1"));
    let containerd = origin.pulled(containerd::Version::V2_1, &["quay.io/team/app:1"]);
    let socket = containerd.socket();
    let place = [
        "--containerd-address",
        socket.to_str().unwrap(),
        "--namespace",
        NAMESPACE,
    ];
    assert_mended(&origin.registry, &image, "containerd", |line| {
        origin.sealift.run(&[line, &place].concat())
    });
}

#[test]
fn a_damaged_registry_is_mended_by_podman() {
    let origin = save_podman::Origin::new();
    let image = origin.push("team/app:1", &Image::sample("app", "1"));
    let podman = Podman::new(Version::Four, User::Root);
    podman.pull(&origin.registry, &["quay.io/team/app:1".into()]);
    assert_mended(&origin.registry, &image, "podman", |line| {
        run(podman.command("sealift").args(line).args(podman.storage()))
    });
}

#[test]
fn every_example_of_repair_does_what_it_says() {
    let pushed = Pushed::new();
    let mirror = Registry::start();
    pushed
        .builder
        .push("myapp:1", &format!("{}/mirror/team/app:1", mirror.address()));
    pushed
        .sealift
        .run(&["save", "-q", &pushed.name, "-o", "images.tar"])
        .ok();
    let manifest = pushed.manifest();
    let layer = pushed.registry.blob_path(text(&manifest["layers"][2]["digest"]));
    let good = fs::read(&layer).unwrap();
    let root = pushed.root();
    let host = format!("export DOCKER_HOST=unix://{}", pushed.builder.socket().display());
    let names = ["team/app:1", "team/app@"].map(|name| format!("{}/{name}", pushed.registry.address()));
    let web = format!("{}{}", names[1], pushed.digest);
    let replaced = [
        ("/var/lib/registry", root.as_str()),
        ("harbor.local/team/app:1", &names[0]),
        ("harbor.local/team/web@sha256:...", &web),
        ("harbor.local/app:1", &names[0]),
        ("harbor.local/web@sha256:...", &web),
        ("other.local", mirror.address()),
    ];
    for line in examples::with_documents(&pushed.sealift, "repair") {
        // Through its API, a registry takes what it lacks.
        match line.contains("--registry-root") {
            true => fs::write(&layer, &good[..good.len() / 2]).unwrap(),
            false => fs::remove_file(&layer).unwrap(),
        }
        let said = examples::execute(&pushed.sealift, &host, &line, &replaced);
        assert!(said.stderr.is_empty(), "{line}: {}", said.stderr);
        let is_mended = fs::read(&layer).is_ok_and(|found| found == good);
        assert_eq!(is_mended, !line.contains("--dry-run"), "{line}");
        fs::write(&layer, &good).unwrap();
    }
}
