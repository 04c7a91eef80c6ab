//! An image on its way to being ready, as one of its digests.

use std::collections::HashMap;

use super::BareImage;
use super::manifests::Found;
use crate::error::{Error, Problem, Result};
use crate::oci::{Descriptor, Digest, Reference};
use crate::recover::lost::Unrecovered;

/// A reference that was asked for.
pub(super) struct Asked {
    pub reference: Reference,
    /// Places among the drafts: one for each digest that it may be known by.
    pub drafts: Vec<usize>,
}

/// An image on its way to being ready, as one of its digests.
pub(super) struct Draft {
    /// The reference that it was asked for by.
    pub reference: Reference,
    /// The digest that it is to have; `None` if none is known.
    pub digest: Option<Digest>,
    /// Whether the store shows the image by this digest, or only the user says so.
    pub is_shown: bool,
    /// Whether its manifest is one that sealift made, and no registry has it.
    pub is_made: bool,
    /// Whether the store shows the image by digests of other repositories.
    pub has_others: bool,
    pub image: Option<BareImage>,
    pub found: Option<Found>,
    /// Why its manifest could not be written again, if that was tried in vain.
    pub unrecovered: Option<Unrecovered>,
    /// By diff id: why layers are uncompressed, if the manifest is not known.
    pub reasons: HashMap<Digest, String>,
    /// Layers of its manifests that have to be recompressed, with their diff ids and places among the missing layers.
    pub pending: Vec<(Descriptor, Digest, usize)>,
    /// Why it turned out not to be what was asked for.
    pub left_out: Option<String>,
    /// What is wrong with it.
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

    /// Whether it has a digest and its manifest is found nowhere.
    pub fn lacks_manifest(&self) -> bool {
        self.digest.is_some() && self.image.is_some() && self.found.is_none() && !self.is_lost()
    }
}

/// An error that concerns one image.
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
