//! The blobs of all archives of a load.

use super::Candidates;
use crate::blob::{Blobs, OpenBlob};
use crate::error::Result;
use crate::oci::Descriptor;

/// The blobs of several archives as one.
pub struct MergedBlobs<'a>(Vec<&'a dyn Blobs>);

impl<'a> MergedBlobs<'a> {
    /// All blobs of the candidates.
    pub fn new(candidates: &Candidates<'a>) -> MergedBlobs<'a> {
        MergedBlobs(
            candidates
                .images
                .iter()
                .map(|candidate| candidate.blobs)
                .collect(),
        )
    }
}

impl Blobs for MergedBlobs<'_> {
    fn label(&self) -> &str {
        self.0.first().map_or("the archive", |blobs| blobs.label())
    }

    fn size(&self, blob: &Descriptor) -> Result<Option<u64>> {
        first(&self.0, |blobs| blobs.size(blob))
    }

    fn open(&self, blob: &Descriptor) -> Result<Option<OpenBlob>> {
        first(&self.0, |blobs| blobs.open(blob))
    }
}

/// What the first of them has.
fn first<T>(all: &[&dyn Blobs], find: impl Fn(&dyn Blobs) -> Result<Option<T>>) -> Result<Option<T>> {
    all.iter().find_map(|blobs| find(*blobs).transpose()).transpose()
}
