//! Content digests: `algorithm:hex`, as in the OCI image specification, "Digests".

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;

/// A digest of content, in an algorithm that can be verified.
///
/// Only lower-case hex of the exact length parses, so equal content has one spelling, and a digest is safe in a
/// path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// SHA-256, the algorithm of nearly all content.
    Sha256([u8; 32]),
    /// SHA-512, which the specification also allows.
    Sha512([u8; 64]),
}

impl Digest {
    /// Computes the SHA-256 digest of a whole slice.
    pub fn sha256(bytes: &[u8]) -> Digest {
        Digest::Sha256(sha2::Sha256::digest(bytes).into())
    }

    /// Computes the digest of a slice in the same algorithm as `self`, to compare with it.
    pub fn of_same_algorithm(&self, bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::like(self);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm's name, the part before the colon.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Digest::Sha256(_) => "sha256",
            Digest::Sha512(_) => "sha512",
        }
    }

    /// The hex digits, the part after the colon.
    pub fn hex(&self) -> String {
        let mut hex = String::with_capacity(128);
        for byte in self.bytes() {
            for nibble in [byte >> 4, byte & 15] {
                hex.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        hex
    }

    /// The first twelve hex digits, as engines abbreviate a digest for people.
    pub fn short(&self) -> String {
        self.hex().chars().take(12).collect()
    }

    /// The bytes that the digits stand for.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Digest::Sha256(bytes) => bytes,
            Digest::Sha512(bytes) => bytes,
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No `algorithm:` in front.
    #[error("a digest is written algorithm:hex, for example sha256:4bf5...")]
    NoAlgorithm,
    /// An algorithm that cannot be verified here.
    #[error("digest algorithm {0:?} cannot be verified: sha256 and sha512 can")]
    UnknownAlgorithm(String),
    /// The hex part has another length than the algorithm's.
    #[error("a {algorithm} digest has {expected} hex digits, found {found}")]
    Length {
        /// The algorithm that was named.
        algorithm: &'static str,
        /// Hex digits that it has.
        expected: usize,
        /// Characters that were found.
        found: usize,
    },
    /// A character that is not a lower-case hex digit.
    #[error("a digest has lower-case hex digits only, found {0:?}")]
    NotHex(char),
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::NoAlgorithm)?;
        match algorithm {
            "sha256" => Ok(Digest::Sha256(decode("sha256", hex)?)),
            "sha512" => Ok(Digest::Sha512(decode("sha512", hex)?)),
            other => Err(DigestError::UnknownAlgorithm(other.chars().take(32).collect())),
        }
    }
}

fn decode<const N: usize>(algorithm: &'static str, hex: &str) -> Result<[u8; N], DigestError> {
    let mut bytes = [0; N];
    let found = hex.chars().count();
    if found != N * 2 {
        return Err(DigestError::Length {
            algorithm,
            expected: N * 2,
            found,
        });
    }
    for (position, char) in hex.chars().enumerate() {
        let value = match char {
            '0'..='9' => u32::from(char) - u32::from('0'),
            'a'..='f' => u32::from(char) - u32::from('a') + 10,
            _ => return Err(DigestError::NotHex(char)),
        };
        let shift = if position % 2 == 0 { 4 } else { 0 };
        if let (Some(byte), Ok(value)) = (bytes.get_mut(position / 2), u8::try_from(value)) {
            *byte |= value << shift;
        }
    }
    Ok(bytes)
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes the digest of bytes that arrive in pieces.
#[derive(Clone)]
pub struct Hasher(Algorithm);

#[derive(Clone)]
enum Algorithm {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// Starts a SHA-256 digest.
    pub fn sha256() -> Hasher {
        Hasher(Algorithm::Sha256(sha2::Sha256::new()))
    }

    /// Starts a digest in the algorithm of `expected`, to compare with it at the end.
    pub fn like(expected: &Digest) -> Hasher {
        match expected {
            Digest::Sha256(_) => Hasher::sha256(),
            Digest::Sha512(_) => Hasher(Algorithm::Sha512(sha2::Sha512::new())),
        }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Algorithm::Sha256(state) => state.update(bytes),
            Algorithm::Sha512(state) => state.update(bytes),
        }
    }

    /// Returns the digest of all bytes added.
    pub fn finish(self) -> Digest {
        match self.0 {
            Algorithm::Sha256(state) => Digest::Sha256(state.finalize().into()),
            Algorithm::Sha512(state) => Digest::Sha512(state.finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn parses_what_it_prints() {
        assert_eq!(Digest::sha256(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(Digest::sha256(b"")));
        let mut hasher = Hasher(Algorithm::Sha512(sha2::Sha512::new()));
        hasher.update(b"abc");
        let digest = hasher.finish();
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!(digest.hex().starts_with("ddaf35a193617aba"));
    }

    #[test]
    fn refuses_every_other_spelling() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (text, expected) in [
            (hex.to_string(), DigestError::NoAlgorithm),
            (format!("sha256:{}", hex.to_uppercase()), DigestError::NotHex('E')),
            (
                format!("sha256:{}", &hex[1..]),
                DigestError::Length {
                    algorithm: "sha256",
                    expected: 64,
                    found: 63,
                },
            ),
            (
                format!("sha512:{hex}"),
                DigestError::Length {
                    algorithm: "sha512",
                    expected: 128,
                    found: 64,
                },
            ),
            (format!("md5:{hex}"), DigestError::UnknownAlgorithm("md5".into())),
            (format!("sha256:../{}", &hex[3..]), DigestError::NotHex('.')),
            (
                format!("SHA256:{hex}"),
                DigestError::UnknownAlgorithm("SHA256".into()),
            ),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(expected), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn hash_of_pieces_is_hash_of_the_whole(bytes: Vec<u8>, cut: usize) {
            let cut = cut % (bytes.len() + 1);
            let mut hasher = Hasher::sha256();
            hasher.update(&bytes[..cut]);
            hasher.update(&bytes[cut..]);
            assert_eq!(hasher.finish(), Digest::sha256(&bytes));
        }
    }
}
