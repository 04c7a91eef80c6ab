//! Public keys of signers and logs: RFC 5280, `SubjectPublicKeyInfo`, in the PEM that cosign and openssl write.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use x509_cert::der::asn1::{AnyRef, UintRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode as _, Reader as _, SliceReader};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use crate::oci::Digest;

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// Sizes of RSA keys, in bits, whose signatures can be checked.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What kind of key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// ECDSA on NIST P-521, which no signature can be checked with here.
    P521,
    /// RSA, with the size of its modulus in bits.
    Rsa(usize),
    /// Ed25519.
    Ed25519,
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PublicKey {
    /// The `SubjectPublicKeyInfo`, as DER.
    spki: Vec<u8>,
    kind: KeyKind,
    /// The key itself, as its algorithm encodes it.
    bits: Vec<u8>,
}

/// Why a signature is not one of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// The key did not sign this.
    WrongKey,
    /// It cannot be checked here.
    NotSupported(&'static str),
}

impl PublicKey {
    /// Reads a PEM file with one public key.
    ///
    /// # Errors
    ///
    /// The error says what is wrong, to come after the file's name.
    pub(crate) fn from_pem(text: &[u8]) -> Result<PublicKey, String> {
        let [key] = &mut PublicKey::all_of_pem(text)?[..] else {
            return Err("it has several public keys, expected one".into());
        };
        Ok(key.clone())
    }

    /// Reads all public keys of a PEM file; there is at least one.
    ///
    /// # Errors
    ///
    /// As [`PublicKey::from_pem`].
    pub(super) fn all_of_pem(text: &[u8]) -> Result<Vec<PublicKey>, String> {
        let mut keys = Vec::new();
        for block in SubjectPublicKeyInfoDer::pem_slice_iter(text) {
            let block = block.map_err(|error| format!("not PEM: {error}"))?;
            keys.push(PublicKey::from_der(&block)?);
        }
        match keys.is_empty() {
            true => Err("it has no block -----BEGIN PUBLIC KEY-----".into()),
            false => Ok(keys),
        }
    }

    /// Reads a `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    ///
    /// As [`PublicKey::from_pem`].
    pub(super) fn from_der(der: &[u8]) -> Result<PublicKey, String> {
        let spki =
            SubjectPublicKeyInfoRef::from_der(der).map_err(|error| format!("not a public key: {error}"))?;
        let bits = spki.subject_public_key.as_bytes().unwrap_or_default();
        let curve = || {
            let curve = spki.algorithm.parameters;
            let curve = curve.and_then(|curve: AnyRef<'_>| curve.decode_as().ok());
            curve.unwrap_or(EC)
        };
        let kind = match spki.algorithm.oid {
            EC => match (curve(), bits.len(), bits.first()) {
                (P256, 65, Some(4)) => KeyKind::P256,
                (P384, 97, Some(4)) => KeyKind::P384,
                (P521, 133, Some(4)) => KeyKind::P521,
                (P256 | P384 | P521, ..) => {
                    return Err("the point of the elliptic curve is not in uncompressed form".into());
                }
                (other, ..) => return Err(format!("the elliptic curve {other} is not supported")),
            },
            RSA => match modulus_bits(bits) {
                Some(size) if RSA_BITS.contains(&size) => KeyKind::Rsa(size),
                Some(size) => return Err(format!("an RSA key of {size} bits: 2048 to 8192 are supported")),
                None => return Err("not an RSA key".into()),
            },
            ED25519 if bits.len() == 32 => KeyKind::Ed25519,
            ED25519 => return Err("not an Ed25519 key".into()),
            other => return Err(format!("keys of the algorithm {other} are not supported")),
        };
        Ok(PublicKey {
            spki: der.into(),
            kind,
            bits: bits.into(),
        })
    }

    pub(super) fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The SHA-256 of the key's DER in base64: the hint of a sigstore bundle.
    pub(crate) fn id(&self) -> String {
        STANDARD.encode(Digest::sha256(&self.spki).bytes())
    }

    /// The SHA-256 of the key's DER: how an entry names the log with this key.
    pub(super) fn log_id(&self) -> Digest {
        Digest::sha256(&self.spki)
    }

    /// Checks a signature as cosign and Rekor make them: ECDSA in ASN.1, RSA with PKCS #1 v1.5.
    ///
    /// cosign 3 hashes by the size of the curve, older ones always with SHA-256.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Mismatch> {
        let algorithms: &[&'static dyn VerificationAlgorithm] = match self.kind {
            KeyKind::P256 => &[&signature::ECDSA_P256_SHA256_ASN1],
            KeyKind::P384 => &[
                &signature::ECDSA_P384_SHA384_ASN1,
                &signature::ECDSA_P384_SHA256_ASN1,
            ],
            KeyKind::P521 => return Err(Mismatch::NotSupported("ECDSA on the curve P-521")),
            KeyKind::Rsa(_) => &[&signature::RSA_PKCS1_2048_8192_SHA256],
            KeyKind::Ed25519 => &[&signature::ED25519],
        };
        let is_good = algorithms
            .iter()
            .any(|algorithm| self.verify_as(*algorithm, message, signature));
        match self.kind {
            _ if is_good => Ok(()),
            // It may be one. cosign 3 makes only these.
            KeyKind::Ed25519 => Err(Mismatch::NotSupported("Ed25519ph")),
            _ => Err(Mismatch::WrongKey),
        }
    }

    /// Whether a signature is one of this key, in this algorithm.
    pub(super) fn verify_as(
        &self,
        algorithm: &'static dyn VerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let key = UnparsedPublicKey::new(algorithm, &self.bits);
        key.verify(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.id())
    }
}

/// The size of the modulus of an `RSAPublicKey`: RFC 8017, appendix A.1.1.
fn modulus_bits(key: &[u8]) -> Option<usize> {
    let mut reader = SliceReader::new(key).ok()?;
    let modulus = reader
        .sequence(|reader| {
            let modulus = UintRef::decode(reader)?;
            UintRef::decode(reader)?;
            x509_cert::der::Result::Ok(modulus)
        })
        .ok()?;
    reader.finish().ok()?;
    let first = modulus.as_bytes().first()?;
    let unused = usize::try_from(first.leading_zeros()).ok()?;
    (modulus.as_bytes().len() * 8).checked_sub(unused)
}
