//! The proof that bytes match a descriptor. Nothing outside this module can make one without bytes of the right
//! size and digest, so everything that is named or tagged has been verified.

use crate::error::Problem;
use crate::oci::digest::Hasher;
use crate::oci::{Descriptor, Digest};

/// Content whose size and digest match its descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verified {
    digest: Digest,
    size: u64,
}

impl Verified {
    /// Compares hashed bytes with a descriptor; `count` is the number of stored bytes in `hasher`.
    ///
    /// # Errors
    ///
    /// [`Problem::SizeDiffers`] before [`Problem::DigestDiffers`].
    pub(crate) fn check(expected: &Descriptor, hasher: Hasher, count: u64) -> Result<Verified, Problem> {
        if count != expected.size {
            return Err(Problem::SizeDiffers {
                expected: expected.size,
                found: count,
            });
        }
        let found = hasher.finish();
        if found != expected.digest {
            return Err(Problem::DigestDiffers {
                expected: expected.digest,
                found,
            });
        }
        Ok(Verified {
            digest: expected.digest,
            size: expected.size,
        })
    }

    /// Digest of the stored bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Stored bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Counts and hashes bytes that arrive in pieces, against a descriptor.
#[derive(Clone)]
pub struct Verifier {
    expected: Descriptor,
    hasher: Hasher,
    count: u64,
}

impl Verifier {
    /// Starts with no bytes, for the content that `expected` names.
    pub fn new(expected: &Descriptor) -> Verifier {
        Verifier {
            expected: expected.bare(),
            hasher: Hasher::like(&expected.digest),
            count: 0,
        }
    }

    /// Adds the next stored bytes.
    ///
    /// # Errors
    ///
    /// [`Problem::SizeDiffers`] as soon as there are more bytes than the descriptor says; they are not hashed.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let count = self.count.saturating_add(more);
        if count > self.expected.size {
            return Err(Problem::SizeDiffers {
                expected: self.expected.size,
                found: count,
            });
        }
        self.hasher.update(bytes);
        self.count = count;
        Ok(())
    }

    /// Stored bytes added so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the proof, if size and digest match.
    ///
    /// # Errors
    ///
    /// As `Verified::check`: a wrong size or a wrong digest.
    pub fn finish(self) -> Result<Verified, Problem> {
        Verified::check(&self.expected, self.hasher, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;
    use crate::oci::testing::describe;

    fn expected(bytes: &[u8]) -> Descriptor {
        describe(MediaType::OCI_MANIFEST, bytes)
    }

    #[test]
    fn only_the_right_bytes_are_verified() {
        for (bytes, outcome) in [
            (&b"abc"[..], Ok(())),
            (b"ab", Err("size-differs")),
            (b"abd", Err("digest-differs")),
        ] {
            let mut verifier = Verifier::new(&expected(b"abc"));
            for piece in bytes.chunks(2) {
                verifier.update(piece).unwrap();
            }
            let found = verifier.finish();
            assert_eq!(
                found.as_ref().map(|_| ()).map_err(Problem::code),
                outcome,
                "{bytes:?}"
            );
            if let Ok(verified) = found {
                assert_eq!((verified.size(), *verified.digest()), (3, Digest::sha256(b"abc")));
            }
        }
    }

    #[test]
    fn too_many_bytes_are_refused_as_they_come() {
        let mut verifier = Verifier::new(&expected(b"abc"));
        verifier.update(b"ab").unwrap();
        let problem = verifier.update(b"cd").unwrap_err();
        assert_eq!(
            problem,
            Problem::SizeDiffers {
                expected: 3,
                found: 4
            }
        );
        assert_eq!(verifier.count(), 2, "what was refused is not counted");
        verifier.update(b"c").unwrap();
        assert!(verifier.finish().is_ok());
    }
}
