//! What runs the containers of a Kubernetes node: a kubelet, k3s, RKE2 or MicroK8s is recognised by its process, or by
//! the socket of its containerd.
//!
//! Source: kubelet's flags (kubernetes.io, "kubelet"); k3s, `pkg/agent/containerd` and `docs.k3s.io/advanced`; MicroK8s,
//! `microk8s-resources/default-args`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{CONTAINERD, CRIO, is_live, is_socket, socket_of};
use crate::dir::read_setting;

/// The kubelet's runtime if nothing names another one.
const DEFAULT: &str = CONTAINERD[0].below;
/// The containerd of k3s and RKE2.
const K3S: &str = CONTAINERD[1].below;
/// The containerd of MicroK8s.
const MICROK8S: &str = CONTAINERD[2].below;
/// The socket of a kubelet that uses Docker itself, up to Kubernetes 1.23.
const DOCKERSHIM: &str = "run/dockershim.sock";
/// Folders of a kubelet: its data, and the manifests that its package or kubeadm creates.
const FOLDERS: [&str; 2] = ["var/lib/kubelet", "etc/kubernetes"];
/// The settings of k3s.
const K3S_CONFIG: &str = "etc/rancher/k3s/config.yaml";

/// What makes a host a Kubernetes node.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Kubelet {
    /// Its name, such as `kubelet`, `k3s` or `MicroK8s`; `CRI-O` if only that was found.
    pub name: &'static str,
    /// What it runs containers with.
    pub runtime: Runtime,
}

/// What a kubelet runs containers with.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// containerd, at this socket.
    Containerd(PathBuf),
    /// CRI-O.
    Crio,
    /// Docker.
    Docker,
}

/// A process of this host that may be a kubelet.
struct Process {
    name: String,
    arguments: Vec<String>,
}

impl Kubelet {
    /// Finds that of the host whose root is a folder.
    pub(super) fn find(root: &Path) -> Option<Kubelet> {
        let processes = processes(root);
        let named = |name: &str| processes.iter().find(|process| process.name == name);
        let containerd = |path: &str| Runtime::Containerd(root.join(path));
        if let Some(kubelet) = named("kubelet") {
            return Some(Kubelet {
                name: "kubelet",
                runtime: runtime_of(root, &kubelet.arguments),
            });
        }
        if named("k3s-server").or_else(|| named("k3s-agent")).is_some() {
            return Some(Kubelet {
                name: "k3s",
                runtime: runtime_of_k3s(root),
            });
        }
        let is_rke2 = named("rke2").is_some();
        if is_rke2 || is_live(&root.join(K3S)) {
            return Some(Kubelet {
                name: if is_rke2 { "RKE2" } else { "k3s or RKE2" },
                runtime: containerd(K3S),
            });
        }
        if named("kubelite").is_some() || is_live(&root.join(MICROK8S)) {
            return Some(Kubelet {
                name: "MicroK8s",
                runtime: containerd(MICROK8S),
            });
        }
        is_live(&root.join(CRIO)).then_some(Kubelet {
            name: "CRI-O",
            runtime: Runtime::Crio,
        })
    }
}

/// Whether the containerd at a socket is, or will be, that of this host's kubelet: the kubelet that runs uses it, or none
/// runs and its folders are there, as before `kubeadm init`.
pub fn may_be_of_kubelet(socket: &Path) -> bool {
    is_of_kubelet(Path::new("/"), socket)
}

/// The same for the host whose root is a folder.
pub(super) fn is_of_kubelet(root: &Path, socket: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into());
    match Kubelet::find(root).map(|kubelet| kubelet.runtime) {
        Some(Runtime::Containerd(known)) => real(&known) == real(socket),
        Some(Runtime::Crio | Runtime::Docker) => false,
        None => FOLDERS.iter().any(|folder| root.join(folder).is_dir()),
    }
}

/// The processes of root with such a name, outside of containers.
fn processes(root: &Path) -> Vec<Process> {
    const NAMES: [&str; 5] = ["kubelet", "k3s-server", "k3s-agent", "rke2", "kubelite"];
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join("proc")).into_iter().flatten().flatten() {
        let folder = entry.path();
        let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        let name = name.trim_end();
        // Every user can give a process such a name.
        if !NAMES.contains(&name) || !is_of_root(&folder) || is_in_container(&folder) {
            continue;
        }
        let line = fs::read(folder.join("cmdline")).unwrap_or_default();
        let words = line.split(|byte| *byte == 0);
        found.push(Process {
            name: name.into(),
            arguments: words
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect(),
        });
    }
    found
}

fn is_of_root(process: &Path) -> bool {
    // Folders made for a test are this user's.
    let own = rustix::process::geteuid().as_raw();
    let is_real = process.starts_with("/proc");
    fs::metadata(process).is_ok_and(|meta| meta.uid() == 0 || !is_real && meta.uid() == own)
}

/// Whether a process has another id in a namespace below ours, as in a node of kind.
fn is_in_container(process: &Path) -> bool {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    ids.is_some_and(|ids| ids.split_whitespace().count() > 1)
}

/// The runtime of a kubelet with these arguments.
fn runtime_of(root: &Path, arguments: &[String]) -> Runtime {
    if option(arguments, "container-runtime").is_some_and(|name| name == "docker") {
        return Runtime::Docker;
    }
    let configured = || {
        let path = PathBuf::from(option(arguments, "config")?);
        let path = root.join(path.strip_prefix("/").ok()?);
        setting(&path, "containerRuntimeEndpoint")
    };
    let endpoint = option(arguments, "container-runtime-endpoint").map(str::to_string);
    match endpoint
        .or_else(configured)
        .filter(|endpoint| !endpoint.is_empty())
    {
        Some(endpoint) => runtime_at(root, &endpoint),
        None if is_socket(&root.join(DOCKERSHIM)) => Runtime::Docker,
        None => Runtime::Containerd(root.join(DEFAULT)),
    }
}

/// The runtime of a k3s, which hides its arguments.
fn runtime_of_k3s(root: &Path) -> Runtime {
    let path = root.join(K3S_CONFIG);
    if setting(&path, "docker").is_some_and(|value| value == "true") {
        return Runtime::Docker;
    }
    match setting(&path, "container-runtime-endpoint").filter(|endpoint| !endpoint.is_empty()) {
        Some(endpoint) => runtime_at(root, &endpoint),
        None => Runtime::Containerd(root.join(K3S)),
    }
}

/// The runtime that answers at an endpoint.
fn runtime_at(root: &Path, endpoint: &str) -> Runtime {
    let lower = endpoint.to_lowercase();
    if lower.contains("crio") || lower.contains("cri-o") {
        return Runtime::Crio;
    }
    if lower.contains("docker") {
        return Runtime::Docker;
    }
    match socket_of(endpoint) {
        Some(path) => Runtime::Containerd(root.join(path.strip_prefix("/").unwrap_or(&path))),
        None => Runtime::Containerd(root.join(DEFAULT)),
    }
}

/// The value of a long option, in one word with its name or in the next.
fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let Some(rest) = argument
            .strip_prefix("--")
            .and_then(|long| long.strip_prefix(name))
        else {
            continue;
        };
        if rest.is_empty() {
            return arguments.next().map(String::as_str);
        }
        if let Some(value) = rest.strip_prefix('=') {
            return Some(value);
        }
    }
    None
}

/// A scalar at the top of a YAML file, without its quotes.
fn setting(path: &Path, key: &str) -> Option<String> {
    let text = read_setting(path).ok()?;
    let text = String::from_utf8(text).ok()?;
    text.lines().find_map(|line| {
        let value = line.strip_prefix(key)?.strip_prefix(':')?;
        let value = value.split(" #").next().unwrap_or_default().trim();
        Some(value.trim_matches(['"', '\'']).to_string())
    })
}
