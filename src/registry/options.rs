//! How to reach registries, independent of any command line.

use std::path::PathBuf;

use super::credentials::Credentials;
use super::mirror::Mirror;
use super::tls::ClientCertificate;
use super::transport::Timeouts;
use crate::error::Result;
use crate::net::address::Insecure;
use crate::net::environment::Environment;
use crate::net::proxy::Proxies;
use crate::retry::Retry;

/// How to reach registries.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Hosts to ask before a registry itself, in this order. They are trusted for the digest of a tag, and for
    /// nothing else.
    pub mirrors: Vec<Mirror>,
    /// Registries for which plain HTTP and unverified certificates are allowed.
    pub insecure: Vec<Insecure>,
    /// CA certificates that are trusted besides the system's (PEM).
    pub ca_files: Vec<PathBuf>,
    /// The certificate for a registry that requires one.
    pub client_certificate: Option<ClientCertificate>,
    /// Folders with a folder `HOST[:PORT]` for each registry with its own certificates.
    pub certificate_folders: Vec<PathBuf>,
    /// How many times a request is made, and the pauses between.
    pub retry: Retry,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Proxies.
    pub proxies: Proxies,
    /// Credentials.
    pub credentials: Credentials,
}

impl Options {
    /// The options of an environment: its proxies, its credential files, and the certificate folders of Docker
    /// and podman. Everything else has its default.
    ///
    /// # Errors
    ///
    /// A usage error if a proxy variable has an invalid value.
    pub fn from_environment(environment: &Environment) -> Result<Options> {
        Ok(Options {
            certificate_folders: vec![
                PathBuf::from("/etc/docker/certs.d"),
                PathBuf::from("/etc/containers/certs.d"),
            ],
            proxies: Proxies::read(environment)?,
            credentials: Credentials::locate(environment),
            ..Options::default()
        })
    }
}
