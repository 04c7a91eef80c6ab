//! The blobs that manifests refer to, in four bytes per blob.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::oci::Digest;

/// Bits for each blob.
const BITS: u64 = 32;
/// Bits that one blob sets.
const SET: usize = 4;

/// A set of digests (a Bloom filter) that never forgets one, and takes about one in 5000 others for a member: so a
/// blob that manifests refer to is never called unreferenced, and few unreferenced ones are missed.
pub(super) struct Marks {
    words: Vec<AtomicU64>,
}

impl Marks {
    /// Makes room for this many blobs.
    pub fn for_blobs(count: u64) -> Marks {
        let words = (count.saturating_mul(BITS) / 64).saturating_add(64);
        let words = usize::try_from(words).unwrap_or(usize::MAX);
        Marks {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Adds a blob.
    pub fn add(&self, digest: &Digest) {
        for (word, bit) in self.places(digest) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether a blob was added; rarely also if it was not.
    pub fn has(&self, digest: &Digest) -> bool {
        self.places(digest)
            .all(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// The bits of a blob: its digest is as good as random numbers.
    fn places<'a>(&'a self, digest: &'a Digest) -> impl Iterator<Item = (&'a AtomicU64, u64)> {
        let bytes: &[u8] = match digest {
            Digest::Sha256(bytes) => bytes,
            Digest::Sha512(bytes) => bytes,
        };
        let bits = u64::try_from(self.words.len())
            .unwrap_or(u64::MAX)
            .saturating_mul(64);
        let numbers = bytes.as_chunks::<8>().0.iter().take(SET);
        numbers.filter_map(move |number| {
            let bit = u64::from_be_bytes(*number) % bits;
            let word = self.words.get(usize::try_from(bit / 64).ok()?)?;
            Some((word, 1 << (bit % 64)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_kept_and_others_are_rare() {
        let digest = |n: u32| Digest::sha256(&n.to_le_bytes());
        let marks = Marks::for_blobs(20_000);
        (0..20_000).for_each(|n| marks.add(&digest(n)));
        assert!((0..20_000).all(|n| marks.has(&digest(n))));
        let wrong = (20_000..40_000).filter(|n| marks.has(&digest(*n))).count();
        assert!(wrong < 40, "{wrong} of 20000");
    }
}
