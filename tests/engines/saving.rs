//! Saves from engines, and the checks that every target must pass.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::loading::assert_runs;
use crate::support::{
    Daemon, Engine, Folder, Layer, Platform, Registry, Run, Sealift, Store, command, engine, folder, image,
    run,
};

/// A manifest or index as a registry served it.
pub struct Served {
    pub digest: String,
    pub raw: String,
}

impl Served {
    #[track_caller]
    pub fn by(registry: &Registry, reference: &str) -> Self {
        let raw = registry.raw(reference);
        let digest = image::sha256(raw.as_bytes());
        Self { digest, raw }
    }

    /// The manifest for this machine, as text: its own, or that of which an index has the digest.
    pub fn host_manifest(&self) -> Option<String> {
        let document: Value = serde_json::from_str(&self.raw).unwrap();
        let host = Platform::host();
        let is_host = |entry: &&Value| {
            let platform = &entry["platform"];
            platform["os"] == host.os.as_str() && platform["architecture"] == host.architecture.as_str()
        };
        let entry = document["manifests"].as_array()?.iter().find(is_host).unwrap();
        Some(entry["digest"].as_str().unwrap().to_owned())
    }
}

/// The layers of an image that runs: a shell, programs of this machine, and a version.
pub fn layers(version: &str) -> Vec<Layer> {
    vec![
        Layer::busybox(),
        Layer::new().real("/usr/bin/curl").real("/bin/bash"),
        Layer::new()
            .file("app/version", version)
            .noise("app/noise", 5, 300_000),
    ]
}

/// The same with one more layer, twice: engines keep it once.
pub fn layers_with_twins(version: &str) -> Vec<Layer> {
    let mut all = layers(version);
    all.extend([
        Layer::new().file("same", "same"),
        Layer::new().file("same", "same"),
    ]);
    all
}

/// Runs sealift beside a daemon.
#[track_caller]
pub fn at(sealift: &Sealift, daemon: &Daemon, arguments: &[&str]) -> Run {
    let host = format!("unix://{}", daemon.socket().display());
    run(sealift.command(arguments).env("DOCKER_HOST", host))
}

/// Saves one image of a daemon and returns the image's part of the document. The archive must pass `verify`.
#[track_caller]
pub fn saved(sealift: &Sealift, daemon: &Daemon, arguments: &[&str], archive: &str) -> Value {
    let line = [&["save", "--json", "-o", archive][..], arguments].concat();
    let said = ended_as_told(at(sealift, daemon, &line));
    assert_eq!(mode(sealift, archive), 0o600, "as docker save has it");
    told(sealift, &said, archive)
}

/// A save that ended with exit code 6 if a digest is only recorded, and well otherwise.
#[track_caller]
pub fn ended_as_told(said: Run) -> Run {
    let images = said.json()["images"].as_array().unwrap().clone();
    let is_recorded = images.iter().any(|image| image["evidence"] == "recorded");
    said.code(if is_recorded { 6 } else { 0 })
}

/// Who may read and write a file.
pub fn mode(sealift: &Sealift, file: &str) -> u32 {
    std::fs::metadata(sealift.path(file)).unwrap().mode() & 0o777
}

/// The image's part of a save's document, compared with what `verify` finds in the archive.
#[track_caller]
pub fn told(sealift: &Sealift, said: &Run, archive: &str) -> Value {
    let document = said.json();
    let images = document["images"].as_array().unwrap();
    assert_eq!(images.len(), 1, "{document}");
    let verified = sealift.run(&["verify", "--json", archive]).ok().json();
    let verified = &verified["archives"][0];
    assert_eq!(verified["digest"], document["digest"]);
    for key in ["name", "digest", "evidence"] {
        assert_eq!(verified["images"][0][key], images[0][key], "{key}");
    }
    images[0].clone()
}

/// The origins of the layers, each with the number of layers.
pub fn origins(image: &Value) -> Vec<(String, usize)> {
    let mut ways: Vec<(String, usize)> = Vec::new();
    for layer in image["provenance"]["layers"].as_object().unwrap().values() {
        let from = layer["from"].as_str().unwrap();
        let way = match layer["by"].as_str() {
            Some(by) => format!("{from}: {by}"),
            None => from.to_owned(),
        };
        match ways.iter_mut().find(|(known, _)| *known == way) {
            Some((_, count)) => *count += 1,
            None => ways.push((way, 1)),
        }
    }
    ways.sort();
    ways
}

/// Fails unless an image is proven to have this digest, by a manifest and layers that came so.
#[track_caller]
pub fn assert_proven(image: &Value, digest: &str, manifest: &str, layers: &[(&str, usize)]) {
    assert_eq!(
        (&image["digest"], &image["evidence"]),
        (&digest.into(), &"verified".into()),
        "{image:#}"
    );
    let from = image["provenance"]["manifest"]["from"].as_str().unwrap();
    let by = image["provenance"]["manifest"]["by"].as_str();
    let found = by.map_or_else(|| from.to_owned(), |by| format!("{from}: {by}"));
    assert_eq!(found, manifest, "{image:#}");
    let expected: Vec<_> = layers
        .iter()
        .map(|(way, count)| ((*way).to_owned(), *count))
        .collect();
    assert_eq!(origins(image), expected, "{image:#}");
}

/// How `docker push` from the classic store shows in a report.
pub const BY_PUSH: &str = "rebuilt: docker push";
/// How its layers do.
pub const GO: &str = "rebuilt: Go gzip -1";

/// Where proven archives go: both stores, and a registry that has nothing.
pub struct Targets {
    classic: Daemon,
    containerd: Daemon,
    registry: Registry,
    tools: engine::Root,
    _folder: Folder,
}

impl Targets {
    pub fn start(classic: Engine) -> Self {
        let folder = Folder::new();
        Self {
            classic: Daemon::start(classic, Store::Classic),
            containerd: Daemon::start(Engine::Docker28, Store::Containerd),
            registry: Registry::start(),
            tools: engine::Root::new(Engine::Docker28, folder.path()),
            _folder: folder,
        }
    }

    /// The archive's one image, of this repository, has the digest that a registry served everywhere, as `name:1`.
    #[track_caller]
    pub fn take(&self, sealift: &Sealift, archive: &str, repository: &str, name: &str, served: &Served) {
        self.load(sealift, &self.classic, archive, repository, name, served);
        self.load(sealift, &self.containerd, archive, repository, name, served);
        self.push(&sealift.path(archive), name, served);
    }

    #[track_caller]
    fn load(
        &self,
        sealift: &Sealift,
        daemon: &Daemon,
        archive: &str,
        repository: &str,
        name: &str,
        served: &Served,
    ) {
        let rename = format!("{repository}={name}");
        at(sealift, daemon, &["load", "-q", archive, "--rename", &rename]).ok();
        let shown = daemon.images();
        let line = format!("{name}:1 {}", served.digest);
        assert!(shown.contains(&line), "{:?}: {line}: {shown:?}", daemon.store());
        assert_runs(daemon, &format!("{name}@{}", served.digest), "1");
    }

    /// Of a sparse index the manifest for this machine is pushed: registries refuse the index.
    #[track_caller]
    fn push(&self, archive: &Path, name: &str, served: &Served) {
        let inside = self.tools.inside("images.tar").display().to_string();
        let outside = self.tools.outside("images.tar");
        let _ = fs::remove_file(&outside);
        folder::linked(archive, &outside);
        let digest = served.host_manifest().unwrap_or_else(|| served.digest.clone());
        let to = format!("{}/{name}", self.registry.address());
        let mut oras = self.tools.command("oras");
        oras.args(["cp", "--from-oci-layout", "--to-plain-http"]);
        run(oras.arg(format!("{inside}@{digest}")).arg(&to)).ok();
        let found = self.registry.raw(&format!("{name}@{digest}"));
        assert_eq!(image::sha256(found.as_bytes()), digest);
        if digest == served.digest {
            assert_eq!(found, served.raw);
        }
    }
}

/// A user who is not root and may use a daemon's socket, as in the group docker.
pub struct Nobody {
    home: tempfile::TempDir,
}

impl Nobody {
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        folder::linked(
            Path::new(env!("CARGO_BIN_EXE_sealift")),
            &home.path().join("sealift"),
        );
        std::os::unix::fs::chown(home.path(), Some(65534), Some(65534)).unwrap();
        Self { home }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs sealift as that user beside a daemon.
    #[track_caller]
    pub fn run(&self, daemon: &Daemon, arguments: &[&str]) -> Run {
        let socket = daemon.socket();
        let mine = |folder: &&Path| folder.starts_with(folder::base());
        for folder in socket.ancestors().skip(1).take_while(mine) {
            run(Command::new("chmod").arg("a+x").arg(folder)).ok();
        }
        run(Command::new("chgrp").arg("65534").arg(&socket)).ok();
        let mut command = command::clean("/usr/bin/setpriv", self.home.path());
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(self.path("sealift")).args(arguments);
        command.current_dir(self.home.path());
        run(command.env("DOCKER_HOST", format!("unix://{}", socket.display())))
    }
}
