//! The certificate of a server.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use crate::error::Result;
use crate::net::pem::{read_certificates, read_key, unusable};

/// A server's chain of certificates and its key.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

impl Tls {
    /// Reads both from PEM files.
    ///
    /// # Errors
    ///
    /// If one cannot be read, or they do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Tls> {
        let (chain, private) = (read_certificates(certificate)?, read_key(key)?);
        let failed = |error: rustls::Error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let reason = format!(
                    "it is not the key of the certificate in {}",
                    certificate.display()
                );
                unusable(key, &reason)
            }
            error => unusable(key, &error.to_string()),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(failed)?.with_no_client_auth();
        let mut config = builder.with_single_cert(chain, private).map_err(failed)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls(Arc::new(config)))
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0))
    }
}
