//! Where images are read from: a registry, an engine, an archive.
//!
//! - `query`: what a source is asked for; `found`: an image that it gives; `listing`: all that it has
//! - `fallback`: several sources as one
//! - `others`: what the other sources of a save know about layers
//! - `upstream`: a registry that may be out of reach

mod fallback;
mod found;
mod listing;
mod others;
mod query;
mod upstream;

use std::io::Read;

use crate::error::{Error, Problem, Result};
use crate::oci::{Descriptor, Digest, PlatformSelection, Reference, Repository};

pub use fallback::Fallback;
pub use found::{About, Archived, Found, Unavailable};
pub use listing::Listing;
pub use others::{Others, StoredForm};
pub use query::{Answer, Query};
pub(crate) use query::{ends, naming};
pub use upstream::Upstream;

/// Where images are read from.
///
/// Implementations verify that the bytes of [`Source::metadata`] match their descriptor. The caller verifies
/// the bytes of [`Source::open`], which arrive in pieces. Descriptors come from [`Source::find`], and from the
/// documents below what it found.
pub trait Source: Send + Sync {
    /// Finds images: everything about them but their content. Returns one answer for each, in order.
    ///
    /// # Errors
    ///
    /// If no image can be found: see [`Query::each`].
    fn find(&self, query: &Query<'_>) -> Result<Vec<Answer<'_>>>;

    /// Reads a manifest, index or config: at most [`crate::oci::MAX_METADATA`] stored bytes, verified against
    /// size and digest.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Refused`] if the bytes do not match the descriptor.
    fn metadata(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>>;

    /// Opens a blob's stored bytes from `offset` on.
    ///
    /// The reader may end early or return wrong bytes; the caller counts and hashes. An error of the reader
    /// that wraps a [`crate::Error`] (by `io::Error::other`) keeps its meaning.
    ///
    /// # Errors
    ///
    /// If the blob cannot be opened; [`crate::Error::is_transient`] says whether to retry.
    fn open(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>>;

    /// Lists the images.
    ///
    /// # Errors
    ///
    /// If they cannot be listed now. A source that never can returns [`Listing::unknown`].
    fn list(&self) -> Result<Listing>;

    /// The error for an opened blob with wrong bytes, too few or too many.
    ///
    /// By default it is the registry's of that repository, and transient. A source that is a local file, or
    /// that knows which mirror it asked, returns a more specific one.
    fn fault(&self, repository: &Repository, descriptor: &Descriptor, problem: Problem) -> Error {
        registry_fault(repository, descriptor, &problem)
    }

    /// For other sources: the layers in its manifests, if it knows them. Unreadable manifests are skipped.
    fn stored_forms(&self) -> Vec<StoredForm> {
        Vec::new()
    }

    /// For stores of uncompressed layers: the bytes of one. `None` if it does not have it.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn uncompressed_size(&self, diff_id: &Digest) -> Result<Option<u64>> {
        let _ = diff_id;
        Ok(None)
    }

    /// For stores without manifests: those that it knows for an image, by its id.
    fn manifests_of(&self, image_id: &Digest) -> Vec<Reference> {
        let _ = image_id;
        Vec::new()
    }

    /// For other sources: what an archive has under a name. `None` if it does not have it, and for sources that
    /// are not archives.
    fn archived(&self, reference: &Reference) -> Option<Archived> {
        let _ = reference;
        None
    }
}

impl dyn Source + '_ {
    /// Resolves a reference to the manifest or index that it names now.
    ///
    /// # Errors
    ///
    /// As `find_one`.
    pub fn resolve(&self, reference: &Reference) -> Result<Descriptor> {
        Ok(self.find_one(reference, None)?.root)
    }

    /// Finds one image.
    ///
    /// # Errors
    ///
    /// If there is no such repository, tag or digest, or the source cannot give the image.
    pub fn find_one(&self, reference: &Reference, platforms: Option<&PlatformSelection>) -> Answer<'_> {
        let query = Query::new(std::slice::from_ref(reference), platforms);
        let answer = self.find(&query)?.pop();
        answer.unwrap_or_else(|| {
            let error = Error::NotFound {
                what: reference.familiar(),
                place: "the source".into(),
                hint: None,
            };
            Err(error.into())
        })
    }
}

fn registry_fault(repository: &Repository, descriptor: &Descriptor, problem: &Problem) -> Error {
    Error::Registry {
        registry: repository.domain().into(),
        subject: descriptor.digest.to_string(),
        problem: problem.to_string(),
        hint: None,
        transient: true,
    }
}
