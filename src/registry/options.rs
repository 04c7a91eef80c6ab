//! What a user says about registries, in a form that is independent of any command line.

use std::path::PathBuf;

use super::credentials::Credentials;
use super::mirror::Mirror;
use super::retry::Retry;
use super::tls::ClientCertificate;
use super::transport::Timeouts;
use crate::error::Result;
use crate::net::address::Insecure;
use crate::net::environment::Environment;
use crate::net::proxy::Proxies;

/// How registries are spoken to.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Places to look at before a registry itself, in this order. They are trusted for what a tag stands for, and
    /// for nothing else.
    pub mirrors: Vec<Mirror>,
    /// Registries that may be plain HTTP or have a certificate that nobody vouches for.
    pub insecure: Vec<Insecure>,
    /// CA certificates that are trusted besides the system's, PEM.
    pub ca_files: Vec<PathBuf>,
    /// The certificate that is shown to a registry that asks for one.
    pub client_certificate: Option<ClientCertificate>,
    /// Folders with a folder `HOST[:PORT]` for each registry with certificates of its own.
    pub certificate_folders: Vec<PathBuf>,
    /// How often to ask again.
    pub retry: Retry,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// Proxies.
    pub proxies: Proxies,
    /// Credentials.
    pub credentials: Credentials,
}

impl Options {
    /// The options of an environment: its proxies, its credential files, and the folders of certificates that
    /// Docker and podman use. Everything else has its default.
    ///
    /// # Errors
    ///
    /// A usage error if a proxy variable has a value that is no proxy.
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
