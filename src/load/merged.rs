//! The blobs of all archives of a load.

use super::Candidates;
use crate::archive::format::Entry;
use crate::archive::layout::Layout;
use crate::blob::Stored;
use crate::error::{Finding, Result};
use crate::oci::{Descriptor, Digest};

/// The blobs of several archives as one.
pub struct MergedBlobs<'a>(Vec<&'a dyn Layout>);

impl<'a> MergedBlobs<'a> {
    /// All blobs of the candidates.
    pub fn new(candidates: &Candidates<'a>) -> MergedBlobs<'a> {
        MergedBlobs(
            candidates
                .images
                .iter()
                .map(|candidate| candidate.layout)
                .collect(),
        )
    }
}

impl Layout for MergedBlobs<'_> {
    fn label(&self) -> &str {
        self.0.first().map_or("the archive", |layout| layout.label())
    }

    fn index(&self) -> &[u8] {
        &[]
    }

    fn entries(&self) -> &[Entry] {
        &[]
    }

    fn stored(&self, digest: &Digest) -> Option<&Stored> {
        self.0.iter().find_map(|layout| layout.stored(digest))
    }

    fn blobs(&self) -> Vec<Digest> {
        self.0.iter().flat_map(|layout| layout.blobs()).collect()
    }

    fn manifest_json(&self) -> Option<&[u8]> {
        None
    }

    fn unknown_files(&self) -> Vec<String> {
        Vec::new()
    }

    fn findings(&self) -> &[Finding] {
        &[]
    }

    fn metadata(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        for layout in &self.0 {
            if let Some(bytes) = layout.metadata(descriptor)? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}
