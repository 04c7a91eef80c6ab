//! What a daemon is started with.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::containerd::{self, Process};
use super::super::engine::Root;
use super::super::{Engine, Folder, Registry, Store};
use super::{Daemon, process};

/// A daemon that is described, and starts at the end.
#[derive(Debug)]
pub struct Options {
    pub(super) engine: Engine,
    pub(super) store: Store,
    pub(super) config: Value,
    pub(super) text: Option<String>,
    pub(super) flags: Vec<String>,
    pub(super) files: Vec<(String, PathBuf)>,
    pub(super) containerd: bool,
    pub(super) env: Vec<(String, String)>,
    pub(super) stock: bool,
    pub(super) activated: bool,
    pub(super) unshared: Vec<&'static str>,
    pub(super) loopback_up: bool,
    pub(super) disk: Option<&'static str>,
    pub(super) containerd_disk: Option<&'static str>,
}

impl Options {
    pub(super) fn new(engine: Engine, store: Store) -> Self {
        Self {
            engine,
            store,
            config: json!({}),
            text: None,
            flags: Vec::new(),
            files: Vec::new(),
            containerd: false,
            env: Vec::new(),
            stock: false,
            activated: false,
            unshared: Vec::new(),
            loopback_up: true,
            disk: None,
            containerd_disk: None,
        }
    }

    /// Adds keys to daemon.json.
    #[must_use]
    pub fn config(mut self, keys: Value) -> Self {
        for (key, value) in keys.as_object().expect("an object") {
            self.config[key] = value.clone();
        }
        self
    }

    /// Makes daemon.json this text, which then has to contain the keys of the store and of a mirror.
    #[must_use]
    pub fn config_text(mut self, text: &str) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Makes a registry the mirror of docker.io.
    #[must_use]
    pub fn mirror(self, registry: &Registry) -> Self {
        self.config(json!({ "registry-mirrors": [registry.url()] }))
    }

    /// Adds a flag to dockerd's command line.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Adds a flag whose value is a file: a copy of this one, where the daemon sees it.
    #[must_use]
    pub fn file_flag(mut self, flag: &str, file: &Path) -> Self {
        self.files.push((flag.into(), file.into()));
        self
    }

    /// Gives it a containerd that was started before it, as the system's is: in `containerd` of its data.
    #[must_use]
    pub fn system_containerd(mut self) -> Self {
        self.containerd = true;
        self
    }

    /// Leaves `--config-file` out, and the file: `/etc/docker/daemon.json` counts, in an engine's own root only.
    #[must_use]
    pub fn stock(mut self) -> Self {
        assert!(
            self.engine.root().is_some(),
            "the host's own /etc/docker is not ours"
        );
        self.stock = true;
        self
    }

    /// Lets it inherit its socket, as from systemd.
    #[must_use]
    pub fn activated(mut self) -> Self {
        self.activated = true;
        self
    }

    /// Gives it a mount namespace of its own, as systemd does for a unit with `PrivateMounts`.
    #[must_use]
    pub fn own_mounts(mut self) -> Self {
        // Where the host's mounts would come along, tests with others would meet theirs.
        self.unshared.extend(["--mount", "--propagation=private"]);
        self
    }

    /// Gives it a network of its own, with nothing but a loopback device, which is up if `up` says so.
    #[must_use]
    pub fn own_network(mut self, up: bool) -> Self {
        self.unshared.push("--net");
        self.loopback_up = up;
        self
    }

    /// Starts it in a pid namespace of its own, as in a container.
    #[must_use]
    pub fn contained(mut self) -> Self {
        self.unshared
            .extend(["--mount", "--pid", "--fork", "--kill-child=SIGTERM"]);
        self
    }

    /// Puts its data root on a file system of this size, such as `16m`.
    #[must_use]
    pub fn disk(mut self, size: &'static str) -> Self {
        self.disk = Some(size);
        self
    }

    /// Puts the folder of a system's containerd on a file system of this size, such as `16m`.
    #[must_use]
    pub fn containerd_disk(mut self, size: &'static str) -> Self {
        assert!(self.containerd, "dockerd's own containerd is in the data root");
        self.containerd_disk = Some(size);
        self
    }

    /// Sets a variable in dockerd's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts the daemon and waits until it answers.
    #[track_caller]
    pub fn start(mut self) -> Daemon {
        if self.store == Store::Containerd {
            assert_ne!(self.engine, Engine::Docker20, "20.10 has no containerd store");
            self = self.config(json!({ "features": { "containerd-snapshotter": true } }));
        }
        let folder = Folder::new();
        let root = Root::new(self.engine, folder.path());
        if !self.stock {
            let text = self.text.clone().unwrap_or_else(|| self.config.to_string());
            fs::write(root.outside("daemon.json"), text).unwrap();
        }
        self.copy_files(&root);
        if let Some(size) = self.containerd_disk {
            root.mount_disk("containerd/root", size);
        }
        let containerd = self
            .containerd
            .then(|| Process::start(&folder, &root, containerd::WITHOUT_CRI));
        if containerd.is_some() {
            let socket = root.inside(containerd::SOCKET);
            self.flags.push(format!("--containerd={}", socket.display()));
        }
        if let Some(size) = self.disk {
            root.mount_disk("root", size);
        }
        let child = process::spawn(&folder, &root, &self);
        let mut daemon = Daemon {
            child,
            _containerd: containerd,
            root,
            options: self,
            folder,
        };
        daemon.wait_until_it_answers();
        daemon
    }

    fn copy_files(&mut self, root: &Root) {
        for (flag, file) in &self.files {
            let name = file.file_name().unwrap().to_str().unwrap();
            fs::copy(file, root.outside(name)).unwrap();
            self.flags.push(format!("{flag}={}", root.inside(name).display()));
        }
    }
}
