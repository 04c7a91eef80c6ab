//! An image on its way to being ready, as one of its digests.

use std::collections::HashMap;

use super::BareImage;
use super::manifests::Found;
use crate::error::{Error, Problem, Result};
use crate::oci::{Descriptor, Digest, Reference};
use crate::recover::lost::Unrecovered;

/// A requested reference.
pub(super) struct Asked {
    pub reference: Reference,
    /// Positions of its drafts, one for each possible digest.
    pub drafts: Vec<usize>,
}

/// An image on its way to being ready, as one of its digests.
pub(super) struct Draft {
    /// The requested reference.
    pub reference: Reference,
    /// The digest that it should have; `None` if not known.
    pub digest: Option<Digest>,
    /// Whether the store shows the image by this digest, or only the user says so.
    pub is_shown: bool,
    /// Whether its manifest is one that sealift made and no registry has.
    pub is_made: bool,
    /// Whether the store shows the image by digests of other repositories.
    pub has_others: bool,
    pub image: Option<BareImage>,
    pub found: Option<Found>,
    /// Why its manifest could not be rebuilt, if that was tried.
    pub unrecovered: Option<Unrecovered>,
    /// By diff id: why layers are uncompressed, if the manifest is not known.
    pub reasons: HashMap<Digest, String>,
    /// Layers of its manifests that must be recompressed, with their diff ids and positions among the missing
    /// layers.
    pub pending: Vec<(Descriptor, Digest, usize)>,
    /// Why it is not what was requested.
    pub left_out: Option<String>,
    /// Its error.
    pub failed: Option<Error>,
}

impl Draft {
    /// Takes the outcome of work on it. An error of this image alone is kept, so that the others are still made ready.
    pub fn take<T>(&mut self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(done) => Ok(Some(done)),
            Err(error) => {
                self.failed = Some(of_one_image(error)?);
                Ok(None)
            }
        }
    }

    /// Notes what is wrong with it.
    pub fn fail(&mut self, error: Error) {
        self.failed = Some(of(error, &self.reference));
    }

    pub fn is_lost(&self) -> bool {
        self.left_out.is_some() || self.failed.is_some()
    }

    /// Whether it has a digest and its manifest was not found.
    pub fn lacks_manifest(&self) -> bool {
        self.digest.is_some() && self.image.is_some() && self.found.is_none() && !self.is_lost()
    }
}

/// An error of one image.
///
/// # Errors
///
/// If it concerns all of them.
pub(super) fn of_one_image(error: Error) -> Result<Error> {
    match &error {
        // The limit may be that of all images together.
        Error::Refused(finding) if matches!(finding.problem, Problem::TooMany { .. }) => Err(error),
        Error::NotFound { .. } | Error::Refused(_) | Error::Registry { .. } | Error::Engine { .. } => {
            Ok(error)
        }
        _ => Err(error),
    }
}

/// The error of an image.
pub(super) fn of(error: Error, reference: &Reference) -> Error {
    match error {
        Error::NotFound { what, place, hint } => Error::NotFound {
            what: format!("{what} of {reference}"),
            place,
            hint,
        },
        other => other,
    }
}
