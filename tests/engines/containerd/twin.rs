//! Loads into containerd, and the containerd that has pulled the same: the yardstick.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Contents, Cri, NAMESPACE};
use crate::support::containerd::{PAUSE, Version};
use crate::support::{Built, Containerd, Image, Layer, Registry, Run, Sealift};

/// A registry that serves images of all registries, and the archives that are saved from it.
pub struct Origin {
    pub registry: Registry,
    pub sealift: Sealift,
}

impl Origin {
    pub fn new() -> Self {
        Self {
            registry: Registry::start(),
            sealift: Sealift::new(),
        }
    }

    /// Adds an image under a full name, such as `quay.io/team/app:1`.
    pub fn push(&self, name: &str, image: &Image) -> Built {
        let layout = self.sealift.path("layout");
        let built = image.build(&layout, name);
        let (_, path) = name.split_once('/').expect("the name of a registry");
        self.registry.push(&built, path);
        built
    }

    /// Adds the image that keeps a pod's namespaces.
    pub fn push_pause(&self) {
        let mut image = Image::single(vec![Layer::busybox()]);
        image.cmd = ["/bin/busybox", "sleep", "1000000"].map(str::to_owned).into();
        self.push(PAUSE, &image);
    }

    /// Saves images into an archive.
    #[track_caller]
    pub fn save(&self, archive: &str, references: &[&str], more: &[&str]) -> PathBuf {
        let registries = references
            .iter()
            .map(|reference| reference.split('/').next().unwrap());
        let mirrors = registries.map(|registry| format!("--mirror={registry}={}", self.registry.address()));
        let mut args: Vec<String> = ["save", "-q", "--from=registry", "-o", archive]
            .map(str::to_owned)
            .into();
        args.extend(mirrors);
        args.extend(references.iter().chain(more).map(|arg| (*arg).to_owned()));
        self.sealift.run(&args).ok();
        self.sealift.path(archive)
    }

    /// A containerd that has pulled these.
    #[track_caller]
    pub fn pulled(&self, version: Version, references: &[&str]) -> Containerd {
        let containerd = Containerd::start(version);
        containerd.pull_from(&self.registry);
        let cri = Cri::of(&containerd);
        for reference in references {
            cri.pull(reference).unwrap_or_else(|e| panic!("{reference}: {e}"));
        }
        containerd
    }
}

/// Loads an archive, and gives the report.
#[track_caller]
pub fn load(sealift: &Sealift, containerd: &Containerd, archive: &Path, more: &[&str]) -> Value {
    try_load(sealift, containerd, archive, more).ok().json()
}

/// Loads an archive.
#[track_caller]
pub fn try_load(sealift: &Sealift, containerd: &Containerd, archive: &Path, more: &[&str]) -> Run {
    crate::support::run(&mut load_command(sealift, containerd, archive, more))
}

/// The command that loads an archive.
pub fn load_command(sealift: &Sealift, containerd: &Containerd, archive: &Path, more: &[&str]) -> Command {
    let socket = containerd.socket();
    let mut args = vec![
        "load",
        archive.to_str().unwrap(),
        "--json",
        "--to=containerd",
        "--containerd-address",
        socket.to_str().unwrap(),
    ];
    if !more.contains(&"--namespace") {
        args.extend(["--namespace", NAMESPACE]);
    }
    args.extend(more);
    sealift.command(&args)
}

/// Stored bytes of a blob of an image.
pub fn size(image: &Built, digest: &str) -> u64 {
    fs::metadata(image.blob(digest)).unwrap().len()
}

/// Fails unless the kubelet and containerd's own clients see the same in both.
#[track_caller]
pub fn assert_as_pulled(loaded: &Containerd, pulled: &Containerd, references: &[&str]) {
    let (cri, expected) = (Cri::of(loaded), Cri::of(pulled));
    let listed = expected.images();
    cri.wait_until(&format!("as after a pull: {listed:#?}"), |cri| {
        cri.images() == listed
    });
    for reference in references {
        assert!(expected.image(reference).is_some(), "{reference}");
        assert_eq!(cri.image(reference), expected.image(reference), "{reference}");
    }
    for image in &listed {
        let id = image["id"].as_str().unwrap();
        assert_eq!(cri.image(id), expected.image(id), "{id}");
    }
    let has = Contents::of(loaded, NAMESPACE);
    let mut expected = Contents::of(pulled, NAMESPACE);
    expected.take_more_sources(&has);
    has.assert_same(&expected, "records after a load and after a pull");
}

/// Fails unless a container runs, and finds this version in the image.
#[track_caller]
pub fn assert_runs(cri: &Cri, name: &str, version: &str) {
    let said = cri.run(name, &["/bin/busybox", "cat", "/app/version"]);
    assert_eq!(said.unwrap_or_else(|e| panic!("{name}: {e}")), version, "{name}");
}
