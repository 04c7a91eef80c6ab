//! Loads through the library, and what is there to compare with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sealift::archive::{self, Layout};
use sealift::docker::attach::Rules;
use sealift::docker::attach::folder::Folder;
use sealift::docker::endpoint::Environment;
use sealift::docker::{self, Docker};
use sealift::interrupt::Interrupt;
use sealift::load::{Candidates, LoadOptions, Plan, Report, Target};
use sealift::progress::Silent;
use sealift::verify;
use serde_json::Value;

use crate::support::{Built, Daemon, Engine, FileState, Image, Registry, Store, files_snapshot};

/// Images in a layout folder, under whole names.
pub struct Images {
    folder: tempfile::TempDir,
}

impl Images {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Adds an image under a name such as `httpd:2.4`.
    pub fn add(&self, name: &str, image: &Image) -> Built {
        image.build(self.folder.path(), &full(name))
    }

    /// Adds an image under `NAME@DIGEST`, where `NAME` may have a tag.
    pub fn add_by_digest(&self, name: &str, image: &Image) -> Built {
        let elsewhere = tempfile::tempdir().unwrap();
        let digest = image.build(elsewhere.path(), "x").digest;
        image.build(self.folder.path(), &format!("{}@{digest}", full(name)))
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().into()
    }
}

fn full(name: &str) -> String {
    match name.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.into(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

/// A sealift beside a daemon, with a journal of its own.
pub struct Loader {
    pub folder: tempfile::TempDir,
    environment: Environment,
    /// Which digests may be attached, and how.
    pub rules: Rules,
}

impl Loader {
    pub fn beside(daemon: &Daemon) -> Self {
        Self::at(Environment {
            host: Some(format!("unix://{}", daemon.socket().display())),
            ..Environment::default()
        })
    }

    pub fn at(environment: Environment) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            environment,
            rules: Rules::default(),
        }
    }

    pub fn journal_folder(&self) -> Folder {
        Folder::new(self.folder.path().join("run"))
    }

    pub fn connect(&self) -> sealift::Result<Docker> {
        Docker::connect(&docker::Options {
            environment: self.environment.clone(),
            folder: self.journal_folder(),
            attach: self.rules,
            ..docker::Options::default()
        })
    }

    /// Verifies, then does with the candidates what `what` says.
    pub fn with_candidates<T>(&self, images: &Images, what: impl FnOnce(&Docker, &Candidates<'_>) -> T) -> T {
        let layout = archive::open(&[images.path()], &archive::Options::default()).unwrap();
        let layout: &dyn Layout = &*layout;
        let interrupt = Interrupt::default();
        let report = archive::verify(layout, &verify::Options::default(), &Silent, &interrupt).unwrap();
        let mut candidates = Candidates::default();
        candidates.add(layout, &report).unwrap();
        what(&self.connect().unwrap(), &candidates)
    }

    pub fn plan(&self, images: &Images, options: &LoadOptions) -> sealift::Result<Plan> {
        self.with_candidates(images, |docker, candidates| {
            let inventory = docker.probe(candidates, &LoadOptions::default()).unwrap();
            docker.plan(candidates, options, &inventory)
        })
    }

    pub fn try_load(&self, images: &Images, options: &LoadOptions) -> sealift::Result<Report> {
        self.with_candidates(images, |docker, candidates| {
            let inventory = docker.probe(candidates, &LoadOptions::default())?;
            let plan = docker.plan(candidates, options, &inventory)?;
            docker.apply(candidates, &plan, &Silent, &Interrupt::default())
        })
    }

    #[track_caller]
    pub fn load(&self, images: &Images) -> Report {
        let report = self.try_load(images, &LoadOptions::default()).unwrap();
        assert_eq!(report.failure(), None, "{report:#?}");
        assert!(report.images.iter().all(|image| image.shown == Some(true)));
        report
    }
}

/// A daemon that has pulled these: the yardstick.
pub fn pulled(engine: Engine, store: Store, images: &[(&Built, &str)], references: &[String]) -> Daemon {
    let registry = Registry::start();
    for (image, to) in images {
        registry.push(image, to);
    }
    let daemon = Daemon::options(engine, store).mirror(&registry).start();
    for reference in references {
        daemon.docker(&["pull", "--quiet", reference]).ok();
    }
    daemon
}

/// What an engine says about an image, without what differs between any two engines that pulled it.
pub fn comparable(daemon: &Daemon, name: &str) -> Value {
    let mut answer = daemon
        .inspect(name)
        .unwrap_or_else(|| panic!("no {name}: {:?}", daemon.images()));
    // Folders with a random name.
    answer["GraphDriver"]["Data"] = Value::Null;
    if daemon.store() == Store::Containerd {
        // When the name was made.
        answer["Metadata"] = Value::Null;
        forget_annotation(&mut answer);
    }
    for list in ["RepoTags", "RepoDigests"] {
        if let Some(list) = answer[list].as_array_mut() {
            list.sort_by_key(Value::to_string);
        }
    }
    answer
}

/// The record `name@digest` can be made by a load alone, which keeps the annotation that said so.
fn forget_annotation(image: &mut Value) {
    let Some(descriptor) = image["Descriptor"].as_object_mut() else {
        return;
    };
    if let Some(annotations) = descriptor.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("io.containerd.image.name");
        if annotations.is_empty() {
            descriptor.remove("annotations");
        }
    }
}

/// `GET /images/json`, in order of ids.
pub fn listed(daemon: &Daemon) -> Vec<Value> {
    let mut list = daemon.api("/images/json").as_array().unwrap().clone();
    for image in &mut list {
        forget_annotation(image);
        for names in ["RepoTags", "RepoDigests"] {
            if let Some(names) = image[names].as_array_mut() {
                names.sort_by_key(Value::to_string);
            }
        }
    }
    list.sort_by_key(|image| image["Id"].to_string());
    list
}

/// Whether an image runs by a name, without any registry.
#[track_caller]
pub fn assert_runs(daemon: &Daemon, name: &str, says: &str) {
    let command = [
        "run",
        "--rm",
        "--network",
        "none",
        name,
        "/bin/busybox",
        "cat",
        "/app/version",
    ];
    let mut said = daemon.docker(&command).ok().stdout;
    // A busy engine may end a container before the client has attached to its output, which is then lost.
    for _ in 0..3 {
        if said.is_empty() {
            said = daemon.docker(&command).ok().stdout;
        }
    }
    assert_eq!(said, says, "{name}");
}

/// What an attach must not change: the file's bytes, inode, owner, mode, attributes, and the engine's memory.
#[derive(Debug, PartialEq)]
pub struct Untouched {
    files: BTreeMap<PathBuf, FileState>,
    hosts: Option<Vec<u8>>,
    info: Value,
    mounts: Vec<String>,
}

impl Untouched {
    pub fn of(daemon: &Daemon) -> Self {
        let mut info = daemon.info();
        let keep = [
            "RegistryConfig",
            "Labels",
            "Debug",
            "LiveRestoreEnabled",
            "DefaultRuntime",
            "Runtimes",
            "Driver",
            "SecurityOptions",
            "Name",
            "DockerRootDir",
            "HttpProxy",
        ];
        info.as_object_mut()
            .unwrap()
            .retain(|key, _| keep.contains(&key.as_str()));
        let config = daemon.config_file();
        let here = daemon.folder().to_path_buf();
        let mut mounts = daemon.mounts();
        let root = fs::read_link(format!("/proc/{}/root", daemon.pid())).unwrap();
        if root == Path::new("/") {
            // Other tests mount and unmount beside this one.
            mounts.retain(|point| Path::new(point).starts_with(&here));
        }
        // The host's own, which come and go with what the kernel mounts there by itself.
        mounts.retain(|point| {
            !["/sys", "/dev"]
                .iter()
                .any(|host| Path::new(point).starts_with(host))
        });
        Self {
            files: [config, daemon.hosts_file()]
                .iter()
                .filter(|file| file.exists() && *file != Path::new("/etc/hosts"))
                .flat_map(|file| files_snapshot(file))
                .collect(),
            hosts: daemon.hosts(),
            info,
            mounts,
        }
    }
}

/// Nothing of an attach is left in its folder.
#[track_caller]
pub fn assert_nothing_is_left(loader: &Loader) {
    let run = loader.folder.path().join("run");
    let mut names: Vec<String> = fs::read_dir(&run)
        .map(|entries| {
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        })
        .unwrap_or_default();
    names.retain(|name| name != "attach.lock");
    assert_eq!(names, [""; 0]);
}
