//! containerd, over its gRPC API: of Kubernetes nodes, k3s, RKE2 and MicroK8s, and of hosts without an orchestrator.
//!
//! - `address`: the sockets, and the namespace that is meant; `cri`: what CRI tells about itself
//! - `client`: calls from threads; `failure`: what a failed call means; `api`: generated stubs
//! - `content`, `upload`: blobs; `images`: names; `snapshots`: unpacked layers
//! - `labels`: what garbage collection, CRI and mirrors read; `leases`: what protects a load in progress;
//!   `owner`: whether its process has ended
//! - [`inventory`]: what a containerd has; `substitutes`: what it has with original manifests
//! - `plan`: what a load will do; pure
//! - `records`: the names that a pull leaves
//! - `deliver`: sends blobs and unpacks layers; `schedule`: in which order, on several threads; `repack`: layers in a form
//!   that is unpacked faster
//! - `target`: the load itself
//! - `source`: its images as a source; `discarded`: layers from their snapshots
//! - `space`: free space in its folders

mod address;
mod api;
mod client;
mod content;
mod cri;
mod deliver;
mod discarded;
mod failure;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod fake_tests;
mod images;
pub mod inventory;
mod labels;
mod leases;
mod owner;
mod plan;
mod records;
mod repack;
mod schedule;
mod snapshots;
mod source;
mod space;
mod substitutes;
mod target;
mod upload;

use std::path::PathBuf;

use crate::error::{Error, Remedy, Result};
use address::Namespace;
pub use address::NamespaceReason;
use client::Client;
pub use client::Timeouts;
use cri::Cri;
pub use source::ContainerdStore;

/// The namespace of CRI, and so of Kubernetes.
pub const KUBERNETES: &str = "k8s.io";
/// The namespace of containerd's own clients.
pub const DEFAULT: &str = "default";
/// The snapshotter that containerd and its clients use by default.
const DEFAULT_SNAPSHOTTER: &str = "overlayfs";

/// How to reach containerd, and how it gets images.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its socket; without it, the known ones are tried.
    pub address: Option<PathBuf>,
    /// The namespace; without it, that of Kubernetes where there are signs of it.
    pub namespace: Option<String>,
    /// The snapshotter; without it, CRI's.
    pub snapshotter: Option<String>,
    /// Whether the kubelet must never remove the images.
    pub is_pinned: bool,
    /// Whether layers are unpacked.
    pub unpacks: bool,
    /// How long containerd may take.
    pub timeouts: Timeouts,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            address: None,
            namespace: None,
            snapshotter: None,
            is_pinned: false,
            unpacks: true,
            timeouts: Timeouts::default(),
        }
    }
}

impl Options {
    /// The options of the process's environment, by the variables of containerd's own clients.
    pub fn from_process() -> Options {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| variable(name).map(|value| value.to_string_lossy().into_owned());
        Options {
            address: variable("CONTAINERD_ADDRESS").map(PathBuf::from),
            namespace: text("CONTAINERD_NAMESPACE"),
            snapshotter: text("CONTAINERD_SNAPSHOTTER"),
            ..Options::default()
        }
    }
}

/// A containerd, after it has answered.
pub struct Containerd {
    client: Client,
    version: String,
    namespace: Namespace,
    snapshotter: String,
    /// Whether CRI is offered for the namespace.
    has_cri: bool,
    options: Options,
}

impl Containerd {
    /// Connects to the containerd of the options, or to the first of the known ones. One that Kubernetes uses comes before the
    /// others.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] if none answers; [`Error::Usage`] if the options contradict each other.
    pub fn connect(options: &Options) -> Result<Containerd> {
        if let Some(namespace) = &options.namespace {
            address::check_namespace(namespace)?;
        }
        let found = address::find(options)?;
        if options.is_pinned && found.namespace.name != KUBERNETES {
            return Err(Error::Usage {
                message: format!(
                    "only images in namespace {KUBERNETES} can be pinned, and the namespace is {}",
                    found.namespace
                ),
                hint: Some(Remedy::KubernetesNamespace.into()),
            });
        }
        let snapshotter = match (&options.snapshotter, &found.cri) {
            (Some(name), _) => name.clone(),
            (
                None,
                Some(Cri {
                    snapshotter: Some(name),
                }),
            ) if found.namespace.name == KUBERNETES => name.clone(),
            _ => DEFAULT_SNAPSHOTTER.into(),
        };
        Ok(Containerd {
            has_cri: found.cri.is_some() && found.namespace.name == KUBERNETES,
            client: found.client.with_namespace(&found.namespace.name)?,
            version: found.version,
            namespace: found.namespace,
            snapshotter,
            options: options.clone(),
        })
    }

    /// What a user should know if images are to be pinned, and this containerd may not tell the kubelet that they are.
    fn pin_warning(&self) -> Option<String> {
        let version = &self.version;
        (self.options.is_pinned && !knows_pins(version)).then(|| {
            format!(
                "containerd {version} may not tell the kubelet that images are pinned, and the kubelet may remove them \
                 all the same: 1.7.24 and newer are tested to do so"
            )
        })
    }

    /// The namespace, and why it was chosen.
    pub fn namespace(&self) -> (&str, NamespaceReason) {
        (&self.namespace.name, self.namespace.reason)
    }
}

/// Whether CRI of this version is known to report pinned images: 1.6.20 does not, 1.7.24 does.
fn knows_pins(version: &str) -> bool {
    let numbers = version
        .trim_start_matches('v')
        .split(|letter: char| !letter.is_ascii_digit());
    let numbers: Vec<u64> = numbers.map_while(|number| number.parse().ok()).take(3).collect();
    // A version of another form is a newer one.
    numbers.is_empty() || numbers.as_slice() >= [1, 7, 24].as_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_may_not_report_pinned_images() {
        for (version, knows) in [
            ("1.6.20~ds1", false),
            ("v1.7.2", false),
            ("1.7.24~ds1", true),
            ("v2.1.9", true),
            ("v2.0", true),
            ("dev", true),
        ] {
            assert_eq!(knows_pins(version), knows, "{version}");
        }
    }
}
