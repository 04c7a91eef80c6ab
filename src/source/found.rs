//! An image that a source gives, or why it does not.

use crate::error::{Error, Result};
use crate::image::Graph;
use crate::image::provenance::Provenance;
use crate::image::referrers::ListedReferrer;
use crate::oci::{Descriptor, Digest, PlatformSelection, Reference};

/// An image that a source gives: everything but its content.
pub struct Found<'s> {
    /// Its manifest or index.
    pub root: Descriptor,
    /// The platforms of it that the source gives.
    pub platforms: PlatformSelection,
    /// Whether the source may lack documents that the index names, as an engine or an archive may: engines pull images
    /// without their attestations.
    pub is_partial: bool,
    /// Where it comes from, for people.
    pub origin: String,
    /// Whether only root or the group of an engine may read the source; then so must the archive be.
    pub is_private: bool,
    /// Whether its digest is proven.
    pub is_proven: bool,
    /// Whether other sources must have some of its layers, because an archive leaves them out.
    pub lacks_layers: bool,
    /// The answers that cost something.
    pub about: Box<dyn About + 's>,
}

/// What a source tells about an image when it is asked, because the answer costs something.
pub trait About: Send + Sync {
    /// Whether the image is given without a document that its index names, although another source may have the
    /// document.
    fn omits(&self, document: &Descriptor) -> bool {
        let _ = document;
        false
    }

    /// The provenance of the image; by default all of it is as a registry serves it.
    ///
    /// # Errors
    ///
    /// If the source cannot tell now.
    fn provenance(&self, graph: &Graph) -> Result<Provenance> {
        let _ = graph;
        Ok(Provenance::default())
    }

    /// What refers to a manifest of the image, or to one of these referrers, as far as the source knows. None of it is read
    /// yet.
    ///
    /// # Errors
    ///
    /// If the source cannot tell now: what it cannot tell must not look as if there were nothing.
    fn referrers(&self, subject: &Digest) -> Result<Vec<ListedReferrer>> {
        let _ = subject;
        Ok(Vec::new())
    }

    /// Other digests, as `NAME@DIGEST`, that the source shows for the image and repository of a tag. It gives them,
    /// too.
    fn other_digests(&self) -> Vec<Reference> {
        Vec::new()
    }
}

/// An image as a registry serves it: there is nothing more to tell.
struct AsServed;

impl About for AsServed {}

impl<'s> Found<'s> {
    /// An image in a registry, which has all of it. It gives the platforms that are asked for, else this host's.
    pub fn in_registry(root: Descriptor, origin: String, asked: Option<&PlatformSelection>) -> Found<'s> {
        Found {
            root,
            platforms: asked.cloned().unwrap_or_else(PlatformSelection::host),
            is_partial: false,
            origin,
            is_private: false,
            is_proven: true,
            lacks_layers: false,
            about: Box::new(AsServed),
        }
    }

    /// An image in a store or an archive, which may have a part of it. It gives the platforms that are asked for, else
    /// those that it has.
    pub fn in_store(root: Descriptor, origin: String, asked: Option<&PlatformSelection>) -> Found<'s> {
        Found {
            platforms: asked.cloned().unwrap_or(PlatformSelection::Present),
            is_partial: true,
            ..Found::in_registry(root, origin, asked)
        }
    }
}

/// Why a source does not give an image.
#[derive(Debug)]
pub struct Unavailable {
    /// The reason.
    pub error: Error,
    /// Whether the source has the image and cannot give it.
    pub is_present: bool,
}

impl From<Error> for Unavailable {
    fn from(error: Error) -> Unavailable {
        Unavailable {
            error,
            is_present: false,
        }
    }
}

impl From<Unavailable> for Error {
    fn from(unavailable: Unavailable) -> Error {
        unavailable.error
    }
}

/// What an archive has under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// The digest of the image; `None` if it is not known.
    pub digest: Option<Digest>,
    /// Digest of its manifest or index.
    pub root: Digest,
    /// The archive, for people.
    pub origin: String,
}

impl Archived {
    /// Whether another archive certainly has a different image under the name.
    pub(super) fn differs(&self, other: &Archived) -> bool {
        match (self.digest, other.digest) {
            (Some(one), Some(other)) => one != other,
            _ => false,
        }
    }
}
