//! The sockets of containerd, and the namespace that is meant.

use std::fmt;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use super::api::version::version_client::VersionClient;
use super::client::Client;
use super::cri::Cri;
use super::images::Images;
use super::{DEFAULT, KUBERNETES, Options};
use crate::error::{Error, Result};
use crate::host::{self, CONTAINERD, ContainerdSocket};
use crate::inventory::is_namespace;

/// A namespace, and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: NamespaceReason,
}

/// Why a namespace was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamespaceReason {
    /// It was named.
    Requested,
    /// The socket is that of a Kubernetes distribution.
    Distribution,
    /// CRI has images there.
    HasImages,
    /// CRI is offered, and there is a kubelet on this host.
    Kubelet,
    /// CRI is offered, and nothing on this host uses it.
    NoKubelet,
    /// CRI is not offered, as in the containerd of a Docker installation.
    NoCri,
}

impl fmt::Display for NamespaceReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NamespaceReason::Requested => "as requested",
            NamespaceReason::Distribution => "the socket is that of a Kubernetes distribution",
            NamespaceReason::HasImages => "Kubernetes has images there",
            NamespaceReason::Kubelet => "this host has a kubelet",
            NamespaceReason::NoKubelet => "there is no sign of Kubernetes",
            NamespaceReason::NoCri => "this containerd does not serve Kubernetes",
        })
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            NamespaceReason::Requested => f.write_str(&self.name),
            reason => write!(f, "{}, because {reason}", self.name),
        }
    }
}

/// A containerd that answers.
pub struct Found {
    /// A connection, without a namespace of its own.
    pub client: Client,
    /// Its version.
    pub version: String,
    /// What its CRI tells; `None` if it does not offer CRI.
    pub cri: Option<Cri>,
    /// The namespace that is meant.
    pub namespace: Namespace,
    /// Whether there are signs of Kubernetes.
    is_of_kubernetes: bool,
}

/// Connects to the socket of the options, or to the best of the known ones: one that Kubernetes uses, else the first that
/// answers.
///
/// # Errors
///
/// [`Error::Engine`] if none answers.
pub fn find(options: &Options) -> Result<Found> {
    if let Some(address) = &options.address {
        return look(&socket(address), options);
    }
    let mut first = None;
    let mut errors = Vec::new();
    let known = CONTAINERD.map(|socket| socket.path());
    for path in known.iter().filter(|path| is_socket(path)) {
        match look(path, options) {
            Ok(found) if found.is_of_kubernetes => return Ok(found),
            Ok(found) => first = first.or(Some(found)),
            Err(error) => errors.push(error),
        }
    }
    match (first, errors.is_empty()) {
        (Some(found), _) => Ok(found),
        (None, false) => Err(Error::of_several(errors)),
        (None, true) => Err(Error::Engine {
            engine: "containerd".into(),
            action: "connect".into(),
            problem: format!("there is no socket at {}", ContainerdSocket::list()),
            hint: Some("is containerd running? (systemctl status containerd); CONTAINERD_ADDRESS names another socket".into()),
        }),
    }
}

/// Connects to a socket, and finds out which namespace is meant.
fn look(path: &Path, options: &Options) -> Result<Found> {
    let client = Client::connect(path, DEFAULT, &options.timeouts)?;
    // The first question also tells whether it answers at all.
    let version = version(&client)?;
    let cri = Cri::find(&client);
    let reason = reason(&client, path, cri.is_some())?;
    let is_of_kubernetes = !matches!(reason, NamespaceReason::NoKubelet | NamespaceReason::NoCri);
    let namespace = match &options.namespace {
        Some(name) => Namespace {
            name: name.clone(),
            reason: NamespaceReason::Requested,
        },
        None => Namespace {
            name: if is_of_kubernetes { KUBERNETES } else { DEFAULT }.into(),
            reason,
        },
    };
    Ok(Found {
        client,
        version,
        cri,
        namespace,
        is_of_kubernetes,
    })
}

fn version(client: &Client) -> Result<String> {
    let mut stub = VersionClient::new(client.channel());
    let answer = client.wait("ask for the version", stub.version(client.request(())))?;
    Ok(answer.version)
}

/// Which signs of Kubernetes there are.
fn reason(client: &Client, path: &Path, has_cri: bool) -> Result<NamespaceReason> {
    let mut known = CONTAINERD.iter();
    if known.any(|socket| socket.is_of_distribution && socket.path() == path) {
        return Ok(NamespaceReason::Distribution);
    }
    if !has_cri {
        return Ok(NamespaceReason::NoCri);
    }
    if !Images::new(&client.with_namespace(KUBERNETES)?)
        .list()?
        .is_empty()
    {
        return Ok(NamespaceReason::HasImages);
    }
    Ok(match host::may_be_of_kubelet(path) {
        true => NamespaceReason::Kubelet,
        false => NamespaceReason::NoKubelet,
    })
}

/// Whether there is a socket.
fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// The path of an address, which may be a URL.
fn socket(address: &Path) -> PathBuf {
    match address.to_str().and_then(|text| text.strip_prefix("unix://")) {
        Some(path) => path.into(),
        None => address.into(),
    }
}

/// Checks that containerd takes a namespace of this name.
///
/// # Errors
///
/// [`Error::Usage`].
pub fn check_namespace(name: &str) -> Result<()> {
    match is_namespace(name) {
        true => Ok(()),
        false => Err(Error::Usage {
            message: format!(
                "{name:?} is no name of a namespace: letters and digits, with single . _ or - between them"
            ),
            hint: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_a_url() {
        assert_eq!(socket(Path::new("unix:///run/x.sock")), Path::new("/run/x.sock"));
        assert_eq!(socket(Path::new("/run/x.sock")), Path::new("/run/x.sock"));
    }
}
