//! The blobs of all archives of a load.

use std::collections::HashMap;

use super::Candidates;
use crate::blob::{Blobs, OpenBlob};
use crate::error::Result;
use crate::oci::{Descriptor, Digest};

/// The blobs of several archives as one. A blob comes from the archive of the first image that has it: that one was
/// verified, and another may have the same blob damaged or in part.
pub struct MergedBlobs<'a> {
    all: Vec<&'a dyn Blobs>,
    /// Positions of the archives that are known to have a blob whole.
    owners: HashMap<Digest, usize>,
}

impl<'a> MergedBlobs<'a> {
    /// All blobs of the candidates.
    pub fn new(candidates: &Candidates<'a>) -> MergedBlobs<'a> {
        let mut owners = HashMap::new();
        for (at, candidate) in candidates.images.iter().enumerate() {
            for blob in candidate.image.blobs() {
                owners.entry(blob.digest).or_insert(at);
            }
        }
        let images = candidates.images.iter();
        MergedBlobs {
            all: images.map(|candidate| candidate.blobs).collect(),
            owners,
        }
    }

    /// What the archive of a blob has, or else the first of the others.
    fn first<T>(&self, digest: &Digest, find: impl Fn(&dyn Blobs) -> Result<Option<T>>) -> Result<Option<T>> {
        let owner = self.owners.get(digest).and_then(|at| self.all.get(*at));
        for blobs in owner.into_iter().chain(&self.all) {
            let found = find(*blobs)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

impl Blobs for MergedBlobs<'_> {
    fn label(&self) -> &str {
        self.all.first().map_or("the archive", |blobs| blobs.label())
    }

    fn size(&self, blob: &Descriptor) -> Result<Option<u64>> {
        self.first(&blob.digest, |blobs| blobs.size(blob))
    }

    fn open(&self, blob: &Descriptor) -> Result<Option<OpenBlob>> {
        self.first(&blob.digest, |blobs| blobs.open(blob))
    }
}
