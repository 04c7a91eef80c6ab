//! Images that a policy does not accept. They are refused where they can still be signed.

use std::collections::HashMap;
use std::io::Read as _;

use super::resolve::{Images, Resolver};
use super::{Options, ReferrerSelection, Skipped};
use crate::blob::Verifier;
use crate::error::{Error, Place, Problem, Result};
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, MAX_METADATA, Reference, Repository};
use crate::source::Source;
use crate::trust::{Fetch, PolicyCheck, Subjects, Verdict};

/// Reads the blobs of referrers from where the image is saved from.
struct FromSource<'a> {
    source: &'a dyn Source,
    repository: &'a Repository,
    interrupt: &'a Interrupt,
}

impl Fetch for FromSource<'_> {
    fn blob(&mut self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        self.interrupt.check()?;
        if descriptor.size <= MAX_METADATA {
            return self.source.metadata(self.repository, descriptor);
        }
        if descriptor.size > limit {
            let found = descriptor.size;
            let place = Place::blob(descriptor.digest);
            return Err(Error::refused(place, Problem::TooLarge { limit, found }));
        }
        let mut verifier = Verifier::new(descriptor);
        let body = self.source.open(self.repository, descriptor, 0)?;
        let mut bytes = Vec::new();
        // One byte more shows that there are more.
        let read = body
            .take(descriptor.size.saturating_add(1))
            .read_to_end(&mut bytes);
        let fault = |problem| self.source.fault(self.repository, descriptor, problem);
        read.map_err(|error| {
            Error::from_reader(error, |error| {
                fault(Problem::Unreadable {
                    reason: error.to_string(),
                })
            })
        })?;
        verifier.update(&bytes).map_err(fault)?;
        verifier.finish().map_err(fault)?;
        Ok(bytes)
    }
}

impl Images {
    /// Checks all images by a policy, each by the name that it has in the source, and by the platforms that are saved. Notes
    /// the verdicts. Removes images whose signatures cannot be read.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`].
    fn check(
        &mut self,
        source: &dyn Source,
        check: &PolicyCheck,
        interrupt: &Interrupt,
    ) -> Result<Vec<Skipped>> {
        let mut faults: Vec<Option<Error>> = Vec::with_capacity(self.named.len());
        for (named, asked) in self.named.iter().zip(&mut self.asked) {
            interrupt.check()?;
            let root = named.graph.root.digest;
            let subjects = Subjects::of(asked.reference.clone(), root, [named], None);
            let mut fetch = FromSource {
                source,
                repository: asked.reference.repository(),
                interrupt,
            };
            let verdict = check.check(&subjects, &mut fetch);
            faults.push(match verdict {
                Ok(verdict) => {
                    asked.verdict = Some(verdict);
                    None
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => Some(error),
            });
        }
        let mut faults = faults.into_iter();
        Ok(self.take_out(|_, _| faults.next().flatten()))
    }

    /// Removes the images that a policy does not accept, and notes the verdicts of the others.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`].
    pub(super) fn without_unaccepted(
        &mut self,
        source: &dyn Source,
        check: &PolicyCheck,
        interrupt: &Interrupt,
    ) -> Result<Vec<Skipped>> {
        let mut skipped = self.check(source, check, interrupt)?;
        let problems = self.asked.iter().map(|asked| {
            let verdict = asked.verdict.as_ref()?;
            Some(Error::refused(Place::blob(verdict.digest), verdict.problem()?))
        });
        let mut problems = problems.collect::<Vec<_>>().into_iter();
        skipped.extend(self.take_out(|_, _| problems.next().flatten()));
        Ok(skipped)
    }
}

/// What a policy says of images where they are, without saving them. Returns one answer for each reference, in order.
///
/// # Errors
///
/// [`Error::Interrupted`], and what keeps all images from being resolved.
pub fn verdicts(
    source: &dyn Source,
    references: &[Reference],
    check: &PolicyCheck,
    options: &Options,
    interrupt: &Interrupt,
) -> Result<Vec<Result<Verdict>>> {
    let options = Options {
        referrers: ReferrerSelection::All,
        keep_going: true,
        ..options.clone()
    };
    let (mut images, skipped) = Resolver::new(source, &options, interrupt).resolve(references)?;
    let failed = skipped.into_iter().chain(images.check(source, check, interrupt)?);
    let mut answers: HashMap<String, Result<Verdict>> = HashMap::new();
    for image in failed {
        answers.insert(image.reference.full(), Err(image.error));
    }
    for asked in images.asked {
        if let Some(verdict) = asked.verdict {
            answers.insert(asked.reference.full(), Ok(verdict));
        }
    }
    let answer = |reference: &Reference| {
        answers.get(&reference.full()).cloned().unwrap_or_else(|| {
            Err(Error::NotFound {
                what: reference.familiar(),
                place: "the source".into(),
                hint: None,
            })
        })
    };
    Ok(references.iter().map(answer).collect())
}
