//! Which container engines a host has, and which of them `auto` means.
//!
//! - this file: what is looked for
//! - `sockets`: where containerd listens
//! - `kubelet`: what runs the containers of a Kubernetes node
//! - `choice`: the rule by which one engine is chosen; pure

mod choice;
mod kubelet;
mod sockets;

use std::fmt;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

pub use choice::{Choice, absence};
pub use kubelet::{Kubelet, Runtime, may_be_of_kubelet};
pub use sockets::{CONTAINERD, ContainerdSocket};

/// Docker's socket on a stock installation. `/var/run` is a link to `/run`.
const DOCKER: &str = "run/docker.sock";
/// CRI-O's.
pub(crate) const CRIO: &str = "run/crio/crio.sock";
/// Where programs are, if `PATH` does not say more.
const PROGRAMS: [&str; 7] = [
    "usr/local/sbin",
    "usr/local/bin",
    "usr/sbin",
    "usr/bin",
    "sbin",
    "bin",
    "snap/bin",
];

/// A container engine that images are loaded into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Docker.
    Docker,
    /// containerd, alone or as the runtime of Kubernetes.
    Containerd,
    /// podman.
    Podman,
    /// CRI-O, whose storage is podman's.
    Crio,
}

impl Engine {
    /// Its name in lower case, as a word for programs.
    pub fn word(self) -> &'static str {
        match self {
            Engine::Docker => "docker",
            Engine::Containerd => "containerd",
            Engine::Podman => "podman",
            Engine::Crio => "crio",
        }
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Docker => "Docker",
            Engine::Containerd => "containerd",
            Engine::Podman => "podman",
            Engine::Crio => "CRI-O",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An engine that the environment names.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Named {
    /// The engine.
    pub engine: Engine,
    /// What names it, such as `DOCKER_HOST`.
    pub by: String,
    /// Its socket, if it is one of this host.
    pub socket: Option<PathBuf>,
}

/// What a host has. No socket was connected to: its program may not run.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Facts {
    /// The engines that the environment names, the most important first.
    pub named: Vec<Named>,
    /// What runs the containers of this Kubernetes node, if it is one.
    pub kubelet: Option<Kubelet>,
    /// Docker's socket.
    pub docker: Option<PathBuf>,
    /// The program that Docker's daemon is.
    pub dockerd: Option<PathBuf>,
    /// Whether podman answers on Docker's socket.
    pub is_docker_podman: bool,
    /// The sockets of containerd.
    pub containerd: Vec<PathBuf>,
    /// The socket of CRI-O.
    pub crio: Option<PathBuf>,
    /// podman's program.
    pub podman: Option<PathBuf>,
}

/// What the environment says about engines.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The setting that names Docker's address, such as `DOCKER_HOST`, with the socket that it names if it is one.
    pub docker: Option<(String, Option<PathBuf>)>,
    /// `CONTAINERD_ADDRESS`.
    pub containerd: Option<String>,
    /// `CONTAINER_HOST`.
    pub podman: Option<String>,
    /// `PATH`.
    pub path: Vec<PathBuf>,
}

impl Environment {
    /// Reads the process's environment. `docker` is what names Docker's address, if anything does.
    pub fn from_process(docker: Option<(String, Option<PathBuf>)>) -> Environment {
        let text = |name| {
            std::env::var(name)
                .ok()
                .filter(|value: &String| !value.is_empty())
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        Environment {
            docker,
            containerd: text("CONTAINERD_ADDRESS"),
            podman: text("CONTAINER_HOST"),
            path: std::env::split_paths(&path)
                .filter(|folder| folder.is_absolute())
                .collect(),
        }
    }

    fn named(&self, root: &Path) -> Vec<Named> {
        let docker = self.docker.as_ref().map(|(by, socket)| {
            let is_podman = socket.as_deref().is_some_and(|socket| is_podmans(root, socket));
            Named {
                engine: match is_podman {
                    true => Engine::Podman,
                    false => Engine::Docker,
                },
                by: by.clone(),
                socket: socket.clone(),
            }
        });
        let other = |engine: Engine, by: &str, address: &Option<String>| {
            address.as_ref().map(|address| Named {
                engine,
                by: by.into(),
                socket: socket_of(address),
            })
        };
        let containerd = other(Engine::Containerd, "CONTAINERD_ADDRESS", &self.containerd);
        let podman = other(Engine::Podman, "CONTAINER_HOST", &self.podman);
        docker.into_iter().chain(containerd).chain(podman).collect()
    }
}

impl Facts {
    /// Looks at this host.
    pub fn look(environment: &Environment) -> Facts {
        Facts::below(Path::new("/"), environment)
    }

    /// Looks at the host whose root is a folder.
    pub(crate) fn below(root: &Path, environment: &Environment) -> Facts {
        let program = |name: &str| {
            let usual = PROGRAMS.iter().map(|folder| root.join(folder));
            let folders = environment.path.iter().cloned().chain(usual);
            folders
                .map(|folder| folder.join(name))
                .find(|file| file.is_file())
        };
        let docker = Some(root.join(DOCKER)).filter(|path| is_socket(path));
        let sockets = CONTAINERD.iter().map(|socket| root.join(socket.below));
        Facts {
            named: environment.named(root),
            kubelet: Kubelet::find(root),
            is_docker_podman: docker.as_deref().is_some_and(|path| is_podmans(root, path)),
            docker,
            dockerd: program("dockerd"),
            containerd: sockets.filter(|path| is_live(path)).collect(),
            crio: Some(root.join(CRIO)).filter(|path| is_live(path)),
            podman: program("podman"),
        }
    }

    /// The engines that were found, each once.
    pub fn engines(&self) -> Vec<Engine> {
        let named = |engine| self.named.iter().any(|named| named.engine == engine);
        let has_docker = self.docker.is_some() && !self.is_docker_podman || self.dockerd.is_some();
        let has_podman = self.podman.is_some() || self.is_docker_podman;
        [
            (Engine::Docker, has_docker),
            (Engine::Containerd, !self.containerd.is_empty()),
            (Engine::Podman, has_podman),
            (Engine::Crio, self.crio.is_some()),
        ]
        .into_iter()
        .filter(|(engine, is_found)| *is_found || named(*engine))
        .map(|(engine, _)| engine)
        .collect()
    }
}

/// The path in an address such as `unix:///run/containerd/containerd.sock`, or in one that is only a path.
fn socket_of(address: &str) -> Option<PathBuf> {
    let path = address.strip_prefix("unix://").unwrap_or(address);
    path.starts_with('/').then(|| path.into())
}

/// Whether there is a socket.
fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

/// Whether there is a socket of a daemon that has not ended without removing it. Not for sockets by which systemd starts
/// a daemon: it would.
fn is_live(path: &Path) -> bool {
    let is_refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket(path) && !UnixStream::connect(path).is_err_and(is_refused)
}

/// Whether a socket is podman's, as where the package `podman-docker` has made Docker's a link to it.
fn is_podmans(root: &Path, socket: &Path) -> bool {
    let found = socket.canonicalize().unwrap_or_else(|_| socket.into());
    let found = found.strip_prefix(root).unwrap_or(&found);
    found.ends_with("podman/podman.sock")
}

#[cfg(test)]
mod tests;
