//! The signature of a file by an SSH key: OpenSSH's PROTOCOL.sshsig, as `ssh-keygen -Y sign` writes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use super::public_key::{KeyError, Mismatch, PublicKey};
use super::wire::{Malformed, Reader, Write as _};
use crate::error::SignatureProblem;

/// Largest file of a signature that is read, in bytes. One by an RSA key of 8,192 bits has 3 kB.
pub const MAX_SIGNATURE: u64 = 64 << 10;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
/// Letters of a line, as `ssh-keygen` writes them.
const LINE: usize = 70;

/// A signature of a file, which is not yet compared with one.
#[derive(Debug, Clone)]
pub struct Signature {
    key: PublicKey,
    namespace: String,
    hash: Hash,
    /// As SSH writes it.
    signature: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn name(self) -> &'static str {
        match self {
            Hash::Sha256 => "sha256",
            Hash::Sha512 => "sha512",
        }
    }

    fn digest(self, message: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, message)
    }
}

impl Signature {
    /// Parses a file of a signature.
    ///
    /// # Errors
    ///
    /// If it is not the text of a whole signature, or of a kind that is not supported.
    pub fn parse(text: &[u8]) -> Result<Signature, SignatureProblem> {
        let blob = unarmored(text)?;
        let mut reader = Reader(&blob);
        reader.expect(MAGIC)?;
        match reader.number()? {
            VERSION => {}
            other => {
                return Err(SignatureProblem::Unsupported {
                    what: format!("version {other} of SSH signatures"),
                });
            }
        }
        let key = PublicKey::parse(reader.string()?).map_err(|error| match error {
            KeyError::Malformed(reason) => SignatureProblem::from(reason),
            KeyError::Unsupported(what) => SignatureProblem::Unsupported { what },
        })?;
        let namespace = reader.text()?.to_string();
        if !reader.string()?.is_empty() {
            return Err(Malformed::new("its reserved field is not empty").into());
        }
        let hash = match reader.text()? {
            "sha256" => Hash::Sha256,
            "sha512" => Hash::Sha512,
            other => {
                return Err(SignatureProblem::Unsupported {
                    what: format!("a signature of the hash {other}"),
                });
            }
        };
        let signature = reader.string()?.to_vec();
        reader.end()?;
        Ok(Signature {
            key,
            namespace,
            hash,
            signature,
        })
    }

    /// Signs a message: `sign` gets the bytes to sign and gives the signature as SSH writes it. The key confirms it.
    pub(super) fn make<E>(
        key: &PublicKey,
        namespace: &str,
        message: &[u8],
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Result<Signature, Mismatch>, E> {
        // The hash that `ssh-keygen` takes by itself.
        let hash = Hash::Sha512;
        let signed = signed(namespace, hash, message);
        let signature = sign(&signed)?;
        Ok(key.verify(&signed, &signature).map(|()| Signature {
            key: key.clone(),
            namespace: namespace.into(),
            hash,
            signature,
        }))
    }

    /// The key that it says made it.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Checks that its key signed this message for this purpose. Whether that key is to be trusted,
    /// [`AllowedSigners`](super::AllowedSigners) say.
    ///
    /// # Errors
    ///
    /// If it did not.
    pub fn verify(&self, namespace: &'static str, message: &[u8]) -> Result<(), SignatureProblem> {
        if self.namespace != namespace {
            return Err(SignatureProblem::Namespace {
                expected: namespace,
                found: self.namespace.clone(),
            });
        }
        let signed = signed(namespace, self.hash, message);
        self.key
            .verify(&signed, &self.signature)
            .map_err(|error| match error {
                Mismatch::Malformed(reason) => reason.into(),
                Mismatch::Unsupported(what) => SignatureProblem::Unsupported { what },
                Mismatch::Differs => SignatureProblem::Differs {
                    key: self.key.fingerprint(),
                },
            })
    }

    /// The text of its file.
    pub fn armored(&self) -> String {
        let mut blob = MAGIC.to_vec();
        blob.extend(VERSION.to_be_bytes());
        blob.put(self.key.blob());
        blob.put(&self.namespace);
        blob.put("");
        blob.put(self.hash.name());
        blob.put(&self.signature);
        let mut text = format!("{BEGIN}\n");
        let letters = STANDARD.encode(blob);
        for line in letters.as_bytes().chunks(LINE) {
            text.extend(line.iter().copied().map(char::from));
            text.push('\n');
        }
        text.push_str(END);
        text.push('\n');
        text
    }
}

impl From<Malformed> for SignatureProblem {
    fn from(error: Malformed) -> SignatureProblem {
        SignatureProblem::Malformed { reason: error.0 }
    }
}

/// What a key signs in place of a message.
fn signed(namespace: &str, hash: Hash, message: &[u8]) -> Vec<u8> {
    let mut signed = MAGIC.to_vec();
    signed.put(namespace);
    signed.put("");
    signed.put(hash.name());
    signed.put(hash.digest(message));
    signed
}

/// The bytes in the text of a signature. Spaces and line ends may have been changed on the way.
fn unarmored(text: &[u8]) -> Result<Vec<u8>, Malformed> {
    let text = std::str::from_utf8(text).map_err(|_| Malformed::new("it is not text"))?;
    let is_space = |letter| matches!(letter, ' ' | '\t' | '\r' | '\n');
    let text = text.trim_matches(is_space);
    let inside = text
        .strip_prefix(BEGIN)
        .ok_or_else(|| Malformed::new(format!("it does not begin with {BEGIN}")))?;
    let inside = inside
        .strip_suffix(END)
        .ok_or_else(|| Malformed::new(format!("it does not end with {END}")))?;
    let letters: String = inside.chars().filter(|letter| !is_space(*letter)).collect();
    STANDARD
        .decode(letters)
        .map_err(|_| Malformed::new("what is in it is not base64"))
}
