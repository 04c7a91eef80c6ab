//! Images that a policy does not accept: refused by name, all at once, or skipped.

use std::collections::BTreeMap;

use super::{Candidates, LoadOptions, Plan, Skipped};
use crate::blob::Blobs;
use crate::error::{Error, ErrorKind, Place, Result};
use crate::image::NamedImage;
use crate::oci::Reference;
use crate::trust::{FetchFrom, Subjects, Verdict};

impl Candidates<'_> {
    /// What the policy says of the planned images, by their positions. It is asked for their names in the archive, which is
    /// what was signed, and for the platforms that the target gets.
    ///
    /// # Errors
    ///
    /// If blobs of referrers cannot be read.
    pub(super) fn verdicts(&self, plan: &Plan, options: &LoadOptions) -> Result<BTreeMap<usize, Verdict>> {
        let mut verdicts = BTreeMap::new();
        let Some(check) = &options.policy else {
            return Ok(verdicts);
        };
        for planned in &plan.images {
            check.interrupt.check()?;
            let Some(candidate) = self.images.get(planned.candidate) else {
                continue;
            };
            let root = candidate.image.graph.root.digest;
            let same = self.images.iter();
            let same = same.filter(|other| other.image.graph.root.digest == root);
            let (parts, mut places): (Vec<&NamedImage>, Vec<&dyn Blobs>) =
                same.map(|other| (&other.image, other.blobs)).unzip();
            places.dedup_by(|one, other| std::ptr::addr_eq(*one, *other));
            let name = candidate.image.reference.clone();
            let name = name.unwrap_or_else(|| Reference::nameless(candidate.handle()));
            let taken = Some(planned.manifests.as_slice()).filter(|manifests| !manifests.is_empty());
            let subjects = Subjects::of(name, root, parts, taken);
            let verdict = check.check(&subjects, &mut FetchFrom::new(places, &check.interrupt))?;
            verdicts.insert(planned.candidate, verdict);
        }
        Ok(verdicts)
    }

    /// The images that the policy does not accept, by their positions: as skipped ones, and the errors if they are not to
    /// be skipped.
    pub(super) fn rejected(&self, verdicts: &BTreeMap<usize, Verdict>) -> BTreeMap<usize, (Skipped, Error)> {
        let rejected = verdicts.iter().filter_map(|(at, verdict)| {
            let candidate = self.images.get(*at)?;
            let (reason, problem) = (verdict.reason()?, verdict.problem()?);
            let skipped = Skipped {
                name: candidate.label(),
                reason: format!("it does not meet the policy: {reason}"),
                hint: None,
                kind: ErrorKind::Content,
            };
            let place = Place::blob(verdict.digest).within(candidate.blobs.label());
            Some((*at, (skipped, Error::refused(place, problem))))
        });
        rejected.collect()
    }
}

impl LoadOptions {
    /// The options for another plan, which skips these images.
    ///
    /// # Errors
    ///
    /// All of them if they are not to be skipped.
    pub(super) fn without_rejected(
        &self,
        rejected: BTreeMap<usize, (Skipped, Error)>,
    ) -> Result<LoadOptions> {
        if !self.keep_going {
            let errors = rejected.into_values().map(|(_, error)| error);
            return Err(Error::of_several(errors.collect()));
        }
        let mut options = self.clone();
        let skipped = rejected.into_iter().map(|(at, (skipped, _))| (at, skipped));
        options.rejected.extend(skipped);
        Ok(options)
    }
}
