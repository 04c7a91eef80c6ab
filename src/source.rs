//! Where images are read from: a registry, an engine, an archive.
//!
//! - `found`: an image that a source gives
//! - `fallback`: several sources as one
//! - `others`: what the other sources of a save know about layers
//! - `upstream`: a registry that may be out of reach

mod fallback;
mod found;
mod others;
mod upstream;

use std::io::Read;

use crate::error::{Error, Problem, Result};
use crate::image::asked::ShortId;
use crate::oci::{Descriptor, Digest, PlatformSelection, Reference, Repository};

pub use fallback::Fallback;
pub use found::{About, Archived, Found, Unavailable};
pub use others::{Others, StoredForm};
pub use upstream::Upstream;

/// Where images are read from.
///
/// Implementations verify that the bytes of [`Source::metadata`] match their descriptor. The caller verifies
/// the bytes of [`Source::open`], which arrive in pieces.
pub trait Source: Send + Sync {
    /// Prepares images, all of them at once, before any is found. A source with uncompressed layers
    /// recompresses them here; the `others` may know what it lacks. An image that it does not have, or not for
    /// the requested platforms, is not an error yet.
    ///
    /// # Errors
    ///
    /// If an image that it has cannot be prepared.
    fn prepare(
        &self,
        references: &[Reference],
        platforms: Option<&PlatformSelection>,
        others: &Others<'_>,
    ) -> Result<()> {
        let _ = (references, platforms, others);
        Ok(())
    }

    /// Finds an image: everything about it but its content.
    ///
    /// # Errors
    ///
    /// If there is no such repository, tag or digest, or the source cannot give the image.
    fn find(
        &self,
        reference: &Reference,
        platforms: Option<&PlatformSelection>,
    ) -> Result<Found<'_>, Unavailable>;

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

    /// Every name in this source, for sources that know them.
    ///
    /// # Errors
    ///
    /// A usage error if that is not possible, as for a registry.
    fn references(&self) -> Result<Vec<Reference>>;

    /// Images that are not in [`Source::references`] because they have no name, each by the digest of its
    /// [`Reference::nameless`].
    ///
    /// # Errors
    ///
    /// If they cannot be listed now.
    fn nameless(&self) -> Result<Vec<Digest>> {
        Ok(Vec::new())
    }

    /// The images that a shortened id selects: one with that name, or else those whose ids begin with it, as
    /// [`Reference::nameless`]. Empty for sources without image ids.
    ///
    /// # Errors
    ///
    /// If they cannot be listed now.
    fn with_id(&self, id: &ShortId) -> Result<Vec<Reference>> {
        let _ = id;
        Ok(Vec::new())
    }

    /// The layers in its manifests, for sources that know them. Unreadable manifests are skipped.
    fn stored_forms(&self) -> Vec<StoredForm> {
        Vec::new()
    }

    /// What an archive has under a name; `None` if it does not have it, and for sources that are not archives.
    fn archived(&self, reference: &Reference) -> Option<Archived> {
        let _ = reference;
        None
    }

    /// The error for an opened blob with wrong bytes, too few or too many.
    ///
    /// By default it is the registry's of that repository, and transient. A source that is a local file, or
    /// that knows which mirror it asked, returns a more specific one.
    fn fault(&self, repository: &Repository, descriptor: &Descriptor, problem: Problem) -> Error {
        registry_fault(repository, descriptor, &problem)
    }
}

impl dyn Source + '_ {
    /// Resolves a reference to the manifest or index that it names now.
    ///
    /// # Errors
    ///
    /// As [`Source::find`].
    pub fn resolve(&self, reference: &Reference) -> Result<Descriptor> {
        Ok(self.find(reference, None)?.root)
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
