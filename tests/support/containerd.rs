//! A containerd of the test's own, beside the host's and those of other tests.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::command::{Run, run};
use super::engine::Root;
use super::{Engine, Folder, Registry};

/// The socket of a containerd below its root's data.
pub const SOCKET: &str = "containerd/socket";

/// The configuration of a containerd for Docker.
pub const WITHOUT_CRI: &str = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";

/// The image that keeps a pod's namespaces, which every registry of a test may have.
pub const PAUSE: &str = "registry.example.com/pause:1";

/// A version of containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 1.6, of Debian 12.
    V1_6,
    /// 1.7, of Debian 13; only after `install.sh all`.
    V1_7,
    /// 2.1, of Debian forky.
    V2_1,
}

impl Version {
    /// The Docker that comes with it.
    fn engine(self) -> Engine {
        match self {
            Self::V1_6 => Engine::Docker20,
            Self::V1_7 => Engine::Docker26,
            Self::V2_1 => Engine::Docker28,
        }
    }

    /// What its version begins with.
    pub fn text(self) -> &'static str {
        match self {
            Self::V1_6 => "1.6.",
            Self::V1_7 => "1.7.",
            Self::V2_1 => "2.1.",
        }
    }
}

/// A containerd's process, with all its files in `containerd` of a root's data. It ends with the folder.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it with this configuration, and waits until it listens.
    #[track_caller]
    pub fn start(folder: &Folder, root: &Root, config: &str) -> Self {
        let seen = root.outside("containerd");
        fs::create_dir_all(&seen).unwrap();
        fs::write(seen.join("config.toml"), config).unwrap();
        let mut command = root.command("containerd");
        for (flag, name) in [
            ("--config", "containerd/config.toml"),
            ("--address", SOCKET),
            ("--root", "containerd/root"),
            ("--state", "containerd/state"),
        ] {
            command.arg(flag).arg(root.inside(name));
        }
        let log = seen.join("log");
        let child = folder.spawn(&mut command, &log);
        let until = Instant::now() + Duration::from_secs(30);
        // Its file is there before it listens; it answers once it does.
        while UnixStream::connect(root.outside(SOCKET)).is_err() {
            assert!(Instant::now() < until, "{}", fs::read_to_string(&log).unwrap());
            thread::sleep(Duration::from_millis(20));
        }
        Self { child }
    }

    fn end(&mut self, signal: Signal) {
        if self.child.try_wait().unwrap().is_none() {
            kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
        }
        self.child.wait().unwrap();
    }
}

/// A running containerd with the container runtime interface (CRI), as on a Kubernetes node. Dropping it stops it and
/// its containers, and removes its files.
#[derive(Debug)]
pub struct Containerd {
    // The process goes before the folder, whose drop ends it.
    process: Process,
    version: Version,
    root: Root,
    folder: Folder,
}

impl Containerd {
    /// Starts an empty one.
    #[track_caller]
    pub fn start(version: Version) -> Self {
        Self::start_on(version, None)
    }

    /// Starts an empty one whose images are on a file system of this size, such as `16m`.
    #[track_caller]
    pub fn start_with_disk(version: Version, size: &str) -> Self {
        Self::start_on(version, Some(size))
    }

    #[track_caller]
    fn start_on(version: Version, disk: Option<&str>) -> Self {
        let folder = Folder::new();
        let root = Root::new(version.engine(), folder.path());
        if let Some(size) = disk {
            root.mount_disk("containerd/root", size);
        }
        let process = Process::start(&folder, &root, &configuration(&root));
        Self {
            process,
            version,
            root,
            folder,
        }
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The folder of everything that it keeps; gone once it is dropped.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The host's path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.root.outside(SOCKET)
    }

    /// The host's path of a file that both a test and containerd reach.
    pub fn data(&self, name: &str) -> PathBuf {
        self.root.outside(name)
    }

    /// The path of that file as containerd sees it.
    pub fn data_inside(&self, name: &str) -> PathBuf {
        self.root.inside(name)
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.root.outside("containerd/log")).unwrap_or_default()
    }

    /// Makes a registry answer for every name.
    pub fn pull_from(&self, registry: &Registry) {
        let folder = self.root.outside("containerd/certs.d/_default");
        fs::create_dir_all(&folder).unwrap();
        let url = registry.url();
        let text =
            format!("server = \"{url}\"\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
        fs::write(folder.join("hosts.toml"), text).unwrap();
    }

    /// Runs the client of the same version in a namespace.
    #[track_caller]
    pub fn ctr(&self, namespace: &str, args: &[&str]) -> Run {
        run(&mut self.ctr_command(namespace, args))
    }

    /// The client of the same version, for a namespace.
    pub fn ctr_command(&self, namespace: &str, args: &[&str]) -> Command {
        let mut command = self.root.command("ctr");
        command.arg("--address").arg(self.root.inside(SOCKET));
        command.args(["--namespace", namespace]).args(args);
        command
    }

    /// Gives the file system that its images are on another size.
    #[track_caller]
    pub fn resize_disk(&self, size: &str) {
        self.root.resize_disk("containerd/root", size);
    }

    /// Ends it without a warning. Its containers' shims live on, as after a crash.
    pub fn kill(&mut self) {
        self.process.end(Signal::KILL);
    }

    /// Ends it in good order; its files stay, and `start_again` finds them.
    pub fn stop(&mut self) {
        self.process.end(Signal::TERM);
    }

    /// Starts it on the same files, after `stop` or `kill`.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.process = Process::start(&self.folder, &self.root, &configuration(&self.root));
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(15)..].join("\n");
            eprintln!("the end of the log of containerd {}:\n{end}", self.version.text());
        }
    }
}

/// Pods share the host's network, so that no plugins are needed, and keep the score that this process has for the
/// kernel's choice of what to kill when memory is short, which cannot be lowered in a container.
fn configuration(root: &Root) -> String {
    let inside = |name: &str| root.inside("containerd").join(name).display().to_string();
    format!(
        r#"version = 2
[plugins."io.containerd.internal.v1.opt"]
  path = "{opt}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_tcp_service = true
  restrict_oom_score_adj = true
  stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{cni}"
  conf_dir = "{cni}"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{registries}"
"#,
        opt = inside("opt"),
        cni = inside("cni"),
        registries = inside("certs.d"),
    )
}
