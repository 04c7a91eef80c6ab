//! What a source is asked for, and what it answers.

use std::num::NonZeroUsize;

use super::{Found, Others, Unavailable};
use crate::error::{Error, Result};
use crate::oci::{PlatformSelection, Reference};
use crate::workers;

/// A source's answer for one image.
pub type Answer<'s> = Result<Found<'s>, Unavailable>;

/// What a source is asked for: images, all of them at once, because what a source lacks of several images may be
/// recovered together.
#[derive(Clone, Copy)]
pub struct Query<'q> {
    /// The images.
    pub references: &'q [Reference],
    /// Their platforms; `None` for the default of the source.
    pub platforms: Option<&'q PlatformSelection>,
    /// The other sources of a save. They may know what this one lacks.
    pub others: Others<'q>,
    /// Number of images to look for at the same time.
    pub jobs: NonZeroUsize,
    /// Whether an error that may concern every image is the answer for one, rather than the end of the search.
    pub keep_going: bool,
}

impl<'q> Query<'q> {
    /// Asks for images, one at a time.
    pub fn new(references: &'q [Reference], platforms: Option<&'q PlatformSelection>) -> Query<'q> {
        Query {
            references,
            platforms,
            others: Others::NONE,
            jobs: NonZeroUsize::MIN,
            keep_going: false,
        }
    }

    /// Asks for other images in the same way.
    pub fn of<'r>(&self, references: &'r [Reference]) -> Query<'r>
    where
        'q: 'r,
    {
        Query { references, ..*self }
    }

    /// Asks for each image, several at the same time, and returns the answers in order.
    ///
    /// # Errors
    ///
    /// All errors so far, if one of them ends the search: it is likely to occur for every other image too.
    pub fn each<T: Send>(
        &self,
        ask: impl Fn(&Reference) -> Result<T, Unavailable> + Sync,
    ) -> Result<Vec<Result<T, Unavailable>>> {
        let ends = |answer: &Result<T, Unavailable>| {
            answer
                .as_ref()
                .is_err_and(|unavailable| ends(&unavailable.error, self.keep_going))
        };
        let answers = workers::map(self.jobs.get(), self.references, ask, ends);
        if !answers.iter().flatten().any(ends) {
            return Ok(answers.into_iter().flatten().collect());
        }
        let mut errors = Vec::new();
        for (reference, answer) in self.references.iter().zip(answers) {
            match answer {
                Some(Err(Unavailable {
                    error: Error::Interrupted,
                    ..
                })) => return Err(Error::Interrupted),
                Some(Err(unavailable)) => errors.push(naming(unavailable.error, reference)),
                _ => {}
            }
        }
        Err(Error::of_several(errors))
    }
}

/// Whether an error is likely to occur for every other image too.
pub(crate) fn ends(error: &Error, keep_going: bool) -> bool {
    match error {
        Error::Interrupted => true,
        Error::Io { .. } | Error::Engine { .. } => !keep_going,
        error => error.is_transient() && !keep_going,
    }
}

/// Adds the reference to errors that only name a digest.
pub(crate) fn naming(error: Error, reference: &Reference) -> Error {
    match error {
        Error::Refused(mut finding) if finding.place.archive.is_none() => {
            finding.place = finding.place.within(reference);
            Error::Refused(finding)
        }
        Error::NotFound { what, place, hint } if !what.contains(&reference.familiar()) => Error::NotFound {
            what: format!("{reference}: {what}"),
            place,
            hint,
        },
        other => other,
    }
}
