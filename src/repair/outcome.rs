//! What became of bad and missing blobs.

use crate::error::{Error, ErrorKind, Finding};
use crate::image::AffectedImage;
use crate::oci::Digest;

/// A blob that was bad or missing.
#[derive(Debug)]
pub struct BlobRepair {
    /// Its digest.
    pub digest: Digest,
    /// What was wrong with it.
    pub finding: Finding,
    /// The images that use it, sorted.
    pub images: Vec<AffectedImage>,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a blob.
#[derive(Debug)]
pub enum Fate {
    /// Good bytes are in its place.
    Mended(Good),
    /// A place has good bytes, and a dry run changed nothing.
    Available(Good),
    /// No place has good bytes. The reason, if one is known.
    NotFound(Option<String>),
    /// The registry accepted an upload of good bytes, and still serves the bad ones.
    Kept(Error),
    /// It could not be replaced.
    Failed(Error),
}

/// Good bytes.
#[derive(Debug, Clone)]
pub struct Good {
    /// Where they come from.
    pub from: String,
    /// How many.
    pub size: u64,
}

impl Fate {
    /// The kind of failure, if it is one.
    fn failure(&self) -> Option<ErrorKind> {
        match self {
            Fate::Mended(_) | Fate::Available(_) => None,
            Fate::NotFound(_) => Some(ErrorKind::NotFound),
            Fate::Kept(error) | Fate::Failed(error) => Some(error.kind()),
        }
    }
}

/// The most severe kind of what became of blobs. `unsearched` is why places could not be searched: what was not found
/// may be there.
pub(crate) fn failure(blobs: &[BlobRepair], unsearched: &[Error]) -> Option<ErrorKind> {
    let mut kinds: Vec<ErrorKind> = blobs.iter().filter_map(|blob| blob.fate.failure()).collect();
    if kinds.contains(&ErrorKind::NotFound) {
        kinds.extend(unsearched.iter().map(Error::kind));
    }
    kinds.into_iter().max()
}
