//! Public keys, and what they say about signatures: RFC 4253, 5656, 8332, 8709, and OpenSSH's PROTOCOL.u2f for keys in
//! security keys.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::signature as verification;

use super::wire::{Malformed, Reader, Write as _, without_zeros};

/// Smallest RSA key, in bits.
const MIN_RSA: usize = 2048;
/// Largest RSA key, in bits.
const MAX_RSA: usize = 8192;
/// Bit in the flags of a security key: it was touched for the signature (user presence).
const TOUCHED: u8 = 1;

/// A public key that signatures can be checked with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: Kind,
    /// As SSH writes it.
    blob: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Ed25519 { point: [u8; 32] },
    Ecdsa { curve: Curve, point: Vec<u8> },
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    SecurityEd25519 { point: [u8; 32], application: Vec<u8> },
    SecurityEcdsa { point: Vec<u8>, application: Vec<u8> },
}

/// A curve of NIST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
}

/// Why bytes are no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyError {
    /// They are of none.
    Malformed(Malformed),
    /// They are of a kind of key that is not supported.
    Unsupported(String),
}

impl From<Malformed> for KeyError {
    fn from(error: Malformed) -> KeyError {
        KeyError::Malformed(error)
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Malformed(Malformed(reason)) => write!(f, "not a key: {reason}"),
            KeyError::Unsupported(what) => write!(f, "{what} is not supported"),
        }
    }
}

/// Why a signature is not one of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// It is no signature.
    Malformed(Malformed),
    /// It was made in a way that is not supported.
    Unsupported(String),
    /// It is of something else, or was altered.
    Differs,
}

impl From<Malformed> for Mismatch {
    fn from(error: Malformed) -> Mismatch {
        Mismatch::Malformed(error)
    }
}

impl Curve {
    /// As in the names of algorithms.
    pub fn name(self) -> &'static str {
        match self {
            Curve::P256 => "nistp256",
            Curve::P384 => "nistp384",
        }
    }

    /// Bytes of a coordinate.
    pub fn size(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
        }
    }

    fn algorithm(self) -> &'static str {
        match self {
            Curve::P256 => "ecdsa-sha2-nistp256",
            Curve::P384 => "ecdsa-sha2-nistp384",
        }
    }
}

impl PublicKey {
    /// Parses a key as SSH writes it.
    pub(super) fn parse(blob: &[u8]) -> Result<PublicKey, KeyError> {
        let mut reader = Reader(blob);
        let algorithm = reader.text()?;
        let kind = match algorithm {
            "ssh-ed25519" => Kind::Ed25519 {
                point: ed25519_point(reader.string()?)?,
            },
            "ecdsa-sha2-nistp256" => ecdsa(Curve::P256, &mut reader)?,
            "ecdsa-sha2-nistp384" => ecdsa(Curve::P384, &mut reader)?,
            "ssh-rsa" => {
                let (exponent, modulus) = (reader.integer()?.to_vec(), reader.integer()?.to_vec());
                check_rsa(&modulus, &exponent)?;
                Kind::Rsa { modulus, exponent }
            }
            "sk-ssh-ed25519@openssh.com" => Kind::SecurityEd25519 {
                point: ed25519_point(reader.string()?)?,
                application: reader.string()?.to_vec(),
            },
            "sk-ecdsa-sha2-nistp256@openssh.com" => match ecdsa(Curve::P256, &mut reader)? {
                Kind::Ecdsa { point, .. } => Kind::SecurityEcdsa {
                    point,
                    application: reader.string()?.to_vec(),
                },
                other => other,
            },
            "ecdsa-sha2-nistp521" => return Err(unsupported("a key of type ecdsa-sha2-nistp521 (P-521)")),
            certificate if certificate.contains("-cert-v") => {
                return Err(unsupported(&format!("a certificate ({certificate})")));
            }
            other => return Err(unsupported(&format!("a key of type {other}"))),
        };
        reader.end()?;
        let blob = kind.blob();
        Ok(PublicKey { kind, blob })
    }

    /// Parses the two words of a key in a text file: its algorithm, and the rest in base64.
    pub(super) fn of_words(algorithm: &str, base64: &str) -> Result<PublicKey, KeyError> {
        let blob = blob_of_words(algorithm, base64)?;
        PublicKey::parse(&blob)
    }

    /// As SSH writes it.
    pub(super) fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The name of its algorithm, as in `ssh-ed25519`.
    pub fn algorithm(&self) -> &'static str {
        self.kind.algorithm()
    }

    /// Its fingerprint, as `ssh-keygen -l` prints it: `SHA256:` and base64 without padding.
    pub fn fingerprint(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.blob);
        format!("SHA256:{}", STANDARD_NO_PAD.encode(digest))
    }

    /// Whether it is of RSA, where an agent has to be asked for a hash that is not SHA-1.
    pub(super) fn is_rsa(&self) -> bool {
        matches!(self.kind, Kind::Rsa { .. })
    }

    /// Checks a signature as SSH writes it, of these bytes.
    pub(super) fn verify(&self, signed: &[u8], signature: &[u8]) -> Result<(), Mismatch> {
        let mut reader = Reader(signature);
        let algorithm = reader.text()?;
        let bytes = reader.string()?;
        match &self.kind {
            Kind::Ed25519 { point } => {
                self.expect(algorithm)?;
                reader.end()?;
                check(&verification::ED25519, point, signed, bytes)
            }
            Kind::Ecdsa { curve, point } => {
                self.expect(algorithm)?;
                reader.end()?;
                ecdsa_check(*curve, point, signed, bytes)
            }
            Kind::Rsa { modulus, exponent } => {
                reader.end()?;
                let parameters = match algorithm {
                    "rsa-sha2-256" => &verification::RSA_PKCS1_2048_8192_SHA256,
                    "rsa-sha2-512" => &verification::RSA_PKCS1_2048_8192_SHA512,
                    "ssh-rsa" => return Err(Mismatch::Unsupported("a signature by RSA with SHA-1".into())),
                    other => return Err(wrong_algorithm(other)),
                };
                let bytes = fitted(bytes, modulus.len())?;
                let key = ring::rsa::PublicKeyComponents {
                    n: modulus,
                    e: exponent,
                };
                key.verify(parameters, signed, &bytes)
                    .map_err(|_| Mismatch::Differs)
            }
            Kind::SecurityEd25519 { point, application } => {
                self.expect(algorithm)?;
                let signed = security_key_signed(&mut reader, application, signed)?;
                check(&verification::ED25519, point, &signed, bytes)
            }
            Kind::SecurityEcdsa { point, application } => {
                self.expect(algorithm)?;
                let signed = security_key_signed(&mut reader, application, signed)?;
                ecdsa_check(Curve::P256, point, &signed, bytes)
            }
        }
    }

    fn expect(&self, algorithm: &str) -> Result<(), Mismatch> {
        match algorithm == self.algorithm() {
            true => Ok(()),
            false => Err(wrong_algorithm(algorithm)),
        }
    }
}

impl Kind {
    fn algorithm(&self) -> &'static str {
        match self {
            Kind::Ed25519 { .. } => "ssh-ed25519",
            Kind::Ecdsa { curve, .. } => curve.algorithm(),
            Kind::Rsa { .. } => "ssh-rsa",
            Kind::SecurityEd25519 { .. } => "sk-ssh-ed25519@openssh.com",
            Kind::SecurityEcdsa { .. } => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    fn blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        blob.put(self.algorithm());
        match self {
            Kind::Ed25519 { point } => blob.put(point),
            Kind::Ecdsa { curve, point } => {
                blob.put(curve.name());
                blob.put(point);
            }
            Kind::Rsa { modulus, exponent } => {
                blob.put_integer(exponent);
                blob.put_integer(modulus);
            }
            Kind::SecurityEd25519 { point, application } => {
                blob.put(point);
                blob.put(application);
            }
            Kind::SecurityEcdsa { point, application } => {
                blob.put(Curve::P256.name());
                blob.put(point);
                blob.put(application);
            }
        }
        blob
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

/// As people name it: the algorithm and the fingerprint.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm(), self.fingerprint())
    }
}

/// The bytes of a key in a text file, of any algorithm.
pub(super) fn blob_of_words(algorithm: &str, base64: &str) -> Result<Vec<u8>, Malformed> {
    let blob = STANDARD.decode(base64);
    let blob = blob.map_err(|_| Malformed::new("it is not base64"))?;
    match Reader(&blob).text()? == algorithm {
        true => Ok(blob),
        false => Err(Malformed::new(format!("it is not of type {algorithm}"))),
    }
}

fn unsupported(what: &str) -> KeyError {
    KeyError::Unsupported(what.into())
}

fn wrong_algorithm(algorithm: &str) -> Mismatch {
    Mismatch::Malformed(Malformed::new(format!(
        "the signature is of type {algorithm}, the key of another"
    )))
}

fn ed25519_point(bytes: &[u8]) -> Result<[u8; 32], Malformed> {
    bytes
        .try_into()
        .map_err(|_| Malformed::new("the key has a wrong length"))
}

fn ecdsa(curve: Curve, reader: &mut Reader<'_>) -> Result<Kind, Malformed> {
    if reader.text()? != curve.name() {
        return Err(Malformed::new("the curve is not that of the key's type"));
    }
    let point = reader.string()?;
    // RFC 5656, 3.1: points are uncompressed, which a 4 marks.
    if point.len() != 2 * curve.size() + 1 || point.first() != Some(&4) {
        return Err(Malformed::new(
            "the point is not an uncompressed one of its curve",
        ));
    }
    Ok(Kind::Ecdsa {
        curve,
        point: point.to_vec(),
    })
}

fn check_rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), KeyError> {
    let first = modulus.first().copied().unwrap_or_default();
    let zeros = usize::try_from(first.leading_zeros()).unwrap_or_default();
    let bits = (modulus.len() * 8).saturating_sub(zeros);
    match bits {
        0 => Err(Malformed::new("the modulus is 0").into()),
        MIN_RSA..=MAX_RSA if exponent.len() <= 4 => Ok(()),
        MIN_RSA..=MAX_RSA => Err(unsupported("an RSA key with a large exponent")),
        _ => Err(unsupported(&format!(
            "an RSA key of {bits} bits (it must have {MIN_RSA} to {MAX_RSA})"
        ))),
    }
}

fn check(
    algorithm: &'static dyn verification::VerificationAlgorithm,
    key: &[u8],
    signed: &[u8],
    signature: &[u8],
) -> Result<(), Mismatch> {
    let key = verification::UnparsedPublicKey::new(algorithm, key);
    key.verify(signed, signature).map_err(|_| Mismatch::Differs)
}

fn ecdsa_check(curve: Curve, point: &[u8], signed: &[u8], signature: &[u8]) -> Result<(), Mismatch> {
    let mut reader = Reader(signature);
    let (r, s) = (reader.integer()?, reader.integer()?);
    reader.end()?;
    let signature = [fitted(r, curve.size())?, fitted(s, curve.size())?].concat();
    match curve {
        Curve::P256 => check(&verification::ECDSA_P256_SHA256_FIXED, point, signed, &signature),
        Curve::P384 => check(&verification::ECDSA_P384_SHA384_FIXED, point, signed, &signature),
    }
}

/// A number with zeros before it, of this many bytes.
pub(super) fn fitted(number: &[u8], size: usize) -> Result<Vec<u8>, Malformed> {
    let number = without_zeros(number);
    let zeros = size.checked_sub(number.len());
    let zeros = zeros.ok_or_else(|| Malformed::new("a number in the signature is too large"))?;
    let mut fitted = vec![0; zeros];
    fitted.extend_from_slice(number);
    Ok(fitted)
}

/// What a security key signs in place of the bytes that it was given: PROTOCOL.u2f, "Signature format".
fn security_key_signed(
    reader: &mut Reader<'_>,
    application: &[u8],
    signed: &[u8],
) -> Result<Vec<u8>, Mismatch> {
    let (flags, counter) = (reader.byte()?, reader.number()?);
    reader.end()?;
    if flags & TOUCHED == 0 {
        return Err(Mismatch::Unsupported(
            "a signature by a security key without user presence".into(),
        ));
    }
    let sha256 = |bytes| ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut whole = sha256(application).as_ref().to_vec();
    whole.push(flags);
    whole.extend(counter.to_be_bytes());
    whole.extend_from_slice(sha256(signed).as_ref());
    Ok(whole)
}
