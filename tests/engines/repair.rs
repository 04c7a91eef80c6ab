//! A registry whose files are damaged, mended out of the Docker that built the image, or out of an archive.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::saving::{at, layers};
use crate::support::{Daemon, Engine, Registry, Run, Sealift, Store, examples};

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
    let replaced = [
        ("/var/lib/registry", root.as_str()),
        ("harbor.local", mirror.address()),
    ];
    for line in examples::of(&pushed.sealift, "repair") {
        fs::write(&layer, &good[..good.len() / 2]).unwrap();
        let said = examples::execute(&pushed.sealift, &host, &line, &replaced);
        assert!(said.stderr.is_empty(), "{line}: {}", said.stderr);
        let is_mended = fs::read(&layer).unwrap() == good;
        assert_eq!(is_mended, !line.contains("--dry-run"), "{line}");
    }
}
