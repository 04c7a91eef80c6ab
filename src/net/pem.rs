//! Certificates and keys in PEM files.

use std::io;
use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Error, Result};

/// A chain of certificates, the host's own first.
pub type Chain = Vec<CertificateDer<'static>>;

/// Reads the certificates of a file.
///
/// # Errors
///
/// If it cannot be read, or holds none.
pub fn read_certificates(path: &Path) -> Result<Chain> {
    let pem = std::fs::read(path).map_err(Error::io("read", path))?;
    let chain: Result<Chain, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(unusable(path, "it holds no certificate in PEM form")),
        Err(_) => Err(unusable(path, "its PEM form is damaged")),
    }
}

/// Reads the private key of a file: PKCS #8, PKCS #1 or SEC 1, not encrypted.
///
/// # Errors
///
/// If it cannot be read, or holds none.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let pem = std::fs::read(path).map_err(Error::io("read", path))?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| unusable(path, "it holds no unencrypted key in PEM form"))
}

/// The error of a file whose content is of no use.
pub fn unusable(path: &Path, reason: &str) -> Error {
    Error::io("use", path)(io::Error::new(io::ErrorKind::InvalidData, reason.to_string()))
}
