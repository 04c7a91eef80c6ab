//! The sockets on which containerd listens by default.

use std::path::{Path, PathBuf};

/// containerd's own socket, that of k3s and RKE2, and that of MicroK8s.
pub const CONTAINERD: [ContainerdSocket; 3] = [
    ContainerdSocket {
        below: "run/containerd/containerd.sock",
        is_of_distribution: false,
    },
    ContainerdSocket {
        below: "run/k3s/containerd/containerd.sock",
        is_of_distribution: true,
    },
    ContainerdSocket {
        below: "var/snap/microk8s/common/run/containerd.sock",
        is_of_distribution: true,
    },
];

/// A default socket of containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerdSocket {
    /// Its path below the host's root.
    pub(super) below: &'static str,
    /// Whether it belongs to a Kubernetes distribution.
    pub is_of_distribution: bool,
}

impl ContainerdSocket {
    /// Its path.
    pub fn path(&self) -> PathBuf {
        Path::new("/").join(self.below)
    }

    /// The paths of all of them, for messages.
    pub fn list() -> String {
        let paths = CONTAINERD.map(|socket| format!("/{}", socket.below));
        paths.join(", ")
    }
}
