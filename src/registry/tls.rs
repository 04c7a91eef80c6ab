//! TLS: trusted roots and client certificates.
//!
//! Trusted are the system's roots, the CA files of the options, and `certs.d/HOST[:PORT]/*.crt` for one registry. A client
//! certificate is sent to registries only, never to the target of a redirect.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};

use crate::error::{Error, Result};
use crate::net::address::{Address, Insecure};
use crate::net::pem::{Chain, read_certificates, read_key};

/// A client's certificate chain and its private key, both as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The chain, the client's own certificate first.
    pub certificate: PathBuf,
    /// The key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: PathBuf,
}

/// TLS configurations by host.
pub(super) struct Trust {
    provider: Arc<CryptoProvider>,
    roots: Chain,
    identity: Option<(Chain, PrivateKeyDer<'static>)>,
    folders: Vec<PathBuf>,
    insecure: Vec<Insecure>,
    /// The verifier for hosts without a folder; loaded once, because it reads all of the system's roots.
    common: OnceLock<Result<Arc<dyn ServerCertVerifier>, rustls::Error>>,
    registries: Mutex<HashSet<Address>>,
    made: Mutex<HashMap<Address, Arc<ClientConfig>>>,
}

impl Trust {
    pub(super) fn new(
        ca_files: &[PathBuf],
        client: Option<&ClientCertificate>,
        folders: &[PathBuf],
        insecure: &[Insecure],
    ) -> Result<Trust> {
        let mut roots = Vec::new();
        for file in ca_files {
            roots.extend(read_certificates(file)?);
        }
        let identity = match client {
            Some(client) => Some((read_certificates(&client.certificate)?, read_key(&client.key)?)),
            None => None,
        };
        Ok(Trust {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            roots,
            identity,
            folders: folders.to_vec(),
            insecure: insecure.to_vec(),
            common: OnceLock::new(),
            registries: Mutex::default(),
            made: Mutex::default(),
        })
    }

    /// Marks a host as a registry, which may receive the client certificate.
    pub(super) fn name_registry(&self, address: &Address) {
        let mut registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        registries.insert(Address {
            port: address.port.or(Some(443)),
            ..address.clone()
        });
    }

    /// Whether anything was configured for a host that only TLS needs.
    pub(super) fn expects_tls(&self, address: &Address) -> bool {
        !self.roots.is_empty() || self.folder(address).is_some()
    }

    /// Whether the options name CAs.
    pub(super) fn has_given_cas(&self) -> bool {
        !self.roots.is_empty()
    }

    pub(super) fn is_insecure(&self, address: &Address) -> bool {
        self.insecure.iter().any(|set| set.covers(address))
    }

    /// The folder of certificates for a host, as in Docker's `/etc/docker/certs.d`.
    fn folder(&self, address: &Address) -> Option<PathBuf> {
        let mut names = vec![address.to_string()];
        if address.port == Some(443) {
            names.push(
                Address {
                    port: None,
                    ..address.clone()
                }
                .to_string(),
            );
        }
        if address.host == "registry-1.docker.io" {
            names.push("docker.io".into());
        }
        self.folders
            .iter()
            .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
            .find(|path| path.is_dir())
    }

    /// The configuration for a host with its port.
    pub(super) fn config(&self, address: &Address) -> Result<Arc<ClientConfig>, ConfigError> {
        if let Some(config) = self.made().get(address) {
            return Ok(config.clone());
        }
        let config = Arc::new(self.make(address)?);
        self.made().insert(address.clone(), config.clone());
        Ok(config)
    }

    fn made(&self) -> std::sync::MutexGuard<'_, HashMap<Address, Arc<ClientConfig>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, address: &Address) -> Result<ClientConfig, ConfigError> {
        let found = match self.folder(address) {
            Some(folder) => Some(read_folder(&folder)?),
            None => None,
        };
        let verifier: Arc<dyn ServerCertVerifier> = if self.is_insecure(address) {
            Arc::new(Verifier {
                trusted: Trusted::Anybody,
                provider: self.provider.clone(),
            })
        } else if let Some(found) = found.as_ref().filter(|found| !found.roots.is_empty()) {
            let roots = self.roots.iter().chain(&found.roots).cloned().collect();
            Arc::new(Verifier::with_roots(roots, self.provider.clone())?)
        } else {
            self.common()?
        };
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let is_registry = self
            .registries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(address);
        let identity = found
            .and_then(|found| found.identity)
            .or_else(|| {
                self.identity
                    .as_ref()
                    .map(|(chain, key)| (chain.clone(), key.clone_key()))
            })
            .filter(|_| is_registry);
        Ok(match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        })
    }

    fn common(&self) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
        self.common
            .get_or_init(|| {
                let verifier = Verifier::with_roots(self.roots.clone(), self.provider.clone())?;
                Ok(Arc::new(verifier) as Arc<dyn ServerCertVerifier>)
            })
            .clone()
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("roots", &self.roots.len())
            .field("folders", &self.folders)
            .finish_non_exhaustive()
    }
}

/// Why there is no TLS configuration for a host.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error(transparent)]
    Local(#[from] Error),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

struct Folder {
    roots: Chain,
    identity: Option<(Chain, PrivateKeyDer<'static>)>,
}

/// Reads `*.crt` as roots, and `*.cert` with the `*.key` of the same name as the client's certificate.
///
/// Source: Docker's documentation, "Verify repository client with certificates".
fn read_folder(folder: &Path) -> Result<Folder> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(Error::io("read", folder))?;
    names.sort();
    let mut found = Folder {
        roots: Vec::new(),
        identity: None,
    };
    for name in names {
        match name.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => found.roots.extend(read_certificates(&name)?),
            Some("cert") if found.identity.is_none() => {
                let key = read_key(&name.with_extension("key"))?;
                found.identity = Some((read_certificates(&name)?, key));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Whether a host's certificate is trusted. The signatures of the handshake are always verified.
#[derive(Debug)]
struct Verifier {
    trusted: Trusted,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Trusted {
    /// For registries that the options allow to be insecure.
    Anybody,
    /// There are no roots at all: the message is the same as for an unknown CA.
    Nobody,
    /// The system's roots and given ones.
    ///
    /// A self-signed certificate that was given as a root may also be the server's own, even if it is marked as
    /// a CA, as by the usual `openssl req -x509`: the user who named it trusts exactly that certificate.
    Roots {
        given: Chain,
        all: rustls_platform_verifier::Verifier,
    },
}

impl Verifier {
    fn with_roots(given: Chain, provider: Arc<CryptoProvider>) -> Result<Verifier, rustls::Error> {
        let made =
            rustls_platform_verifier::Verifier::new_with_extra_roots(given.iter().cloned(), provider.clone());
        let trusted = match made {
            Ok(all) => Trusted::Roots { given, all },
            Err(rustls::Error::General(_)) if given.is_empty() => Trusted::Nobody,
            Err(error) => return Err(error),
        };
        Ok(Verifier { trusted, provider })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (given, all) = match &self.trusted {
            Trusted::Anybody => return Ok(ServerCertVerified::assertion()),
            Trusted::Nobody => {
                return Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
            }
            Trusted::Roots { given, all } => (given, all),
        };
        match all.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The dates are checked before this.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(reason)))
                if reason.0.to_string().contains("CaUsedAsEndEntity")
                    && given.iter().any(|root| root == end_entity) =>
            {
                let parsed = ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&parsed, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
