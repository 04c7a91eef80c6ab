//! Which of several digests a tag gets.
//!
//! Docker shows every digest of a repository that an image was pulled or pushed by, but not which of them is
//! the tag's. The registry knows. Without it the choice is a guess, and the user is told so.

use super::draft::{Asked, Draft};
use super::ready::ReadyImage;
use super::recovery::Recovery;
use crate::archive::format;
use crate::error::Result;
use crate::oci::{Digest, Kind, Reference};

/// Most guesses that are reported one by one.
const MAX_GUESSES: usize = 3;

/// One of the digests that a name may get.
struct Candidate<'a> {
    draft: &'a Draft,
    /// Its image; `None` if it is skipped or has errors.
    image: Option<&'a ReadyImage>,
}

impl Candidate<'_> {
    /// Its rank among the others if no registry can be asked: first what is proven, complete or not, and an
    /// index before one of its manifests.
    fn rank(&self) -> (u8, bool) {
        let root = match (self.image, &self.draft.found) {
            (Some(image), _) => Some(&image.root),
            (None, found) => found.as_ref().map(|found| &found.root),
        };
        let order = match self.image {
            _ if self.draft.failed.is_some() => 2,
            Some(image) if image.substitute.is_some() => 1,
            None if self.draft.found.is_none() => 2,
            Some(_) | None => 0,
        };
        (
            order,
            root.is_none_or(|root| root.media_type.kind() != Kind::Index),
        )
    }
}

impl Recovery<'_> {
    /// Chooses the image of a reference. The other digests of a tag are added beside it.
    pub(super) fn choose(
        &mut self,
        asked: &Asked,
        drafts: &[Draft],
        images: &[Option<ReadyImage>],
    ) -> Result<()> {
        let mut candidates = Vec::new();
        for at in &asked.drafts {
            if let (Some(draft), Some(image)) = (drafts.get(*at), images.get(*at)) {
                let image = image.as_ref();
                candidates.push(Candidate { draft, image });
            }
        }
        candidates.sort_by_key(Candidate::rank);
        if asked.reference.digest().is_none() && candidates.len() > 1 {
            self.by_registry(&asked.reference, &mut candidates)?;
        }
        let mut candidates = candidates.into_iter();
        let Some(first) = candidates.next() else {
            return Ok(());
        };
        let reference = &asked.reference;
        let Some(image) = first.image else {
            if let Some(error) = &first.draft.failed {
                self.ready.failed.insert(reference.full(), error.clone());
            } else if let Some(reason) = &first.draft.left_out {
                self.leave_out(reference, reason.clone());
            }
            for other in candidates {
                self.not_saved(reference, &other, "it is skipped with its tag");
            }
            return Ok(());
        };
        let is_asked_by_digest = reference.digest().is_some() && !reference.is_nameless();
        if is_asked_by_digest
            && image
                .substitute
                .is_some_and(|substitute| substitute.recorded.is_none())
        {
            self.leave_out(reference, format!("{}: ask for it by its tag", format::MADE));
            return Ok(());
        }
        self.ready.images.insert(reference.full(), image.clone());
        let mut others = Vec::new();
        for other in candidates {
            let Some(name) = name_of(reference, &other) else {
                continue;
            };
            match (other.image, &other.draft.failed, &other.draft.left_out) {
                (_, Some(error), _) => drop(self.ready.failed.insert(name.full(), error.clone())),
                (Some(image), ..) => drop(self.ready.images.insert(name.full(), image.clone())),
                (None, None, reason) => {
                    self.not_saved(reference, &other, reason.as_deref().unwrap_or_default());
                    continue;
                }
            }
            others.push(name);
        }
        if !others.is_empty() {
            self.ready.others.insert(reference.full(), others);
        }
        Ok(())
    }

    /// Puts the digest first that the registry has for a tag, and notes if that is not known.
    fn by_registry(&mut self, reference: &Reference, candidates: &mut [Candidate<'_>]) -> Result<()> {
        let proven = candidates.iter().filter(|candidate| candidate.rank().0 == 0);
        let now = match proven.count() {
            // A digest that the registry has would be proven.
            0 | 1 => None,
            _ => self.upstream.tagged(reference)?,
        };
        let is_now = |candidate: &Candidate<'_>| candidate.draft.digest == now;
        if now.is_some() && candidates.iter().any(is_now) {
            candidates.sort_by_key(|candidate| !is_now(candidate));
            return Ok(());
        }
        // A recorded digest is reported as such.
        let first = candidates.first().filter(|first| first.rank().0 == 0);
        if let Some(first) = first.and_then(|first| first.draft.digest) {
            self.guesses
                .push(guessed(reference, candidates.len(), &first, now.as_ref()));
        }
        Ok(())
    }

    /// Reports the tags whose digest is a guess.
    pub(super) fn tell_guesses(&self) {
        let (told, rest) = self.guesses.split_at(self.guesses.len().min(MAX_GUESSES));
        told.iter().for_each(|text| self.upstream.tell(text));
        if !rest.is_empty() {
            let count = rest.len();
            self.upstream
                .tell(&format!("the digests of {count} more tags are guesses"));
        }
    }

    /// Reports that a digest of a tag's image is not saved with it.
    fn not_saved(&self, reference: &Reference, other: &Candidate<'_>, reason: &str) {
        if let Some(name) = name_of(reference, other) {
            let tag = reference.familiar();
            self.upstream.tell(&format!(
                "{} also belongs to the image of {tag}, and is not saved: {reason}",
                name.familiar()
            ));
        }
    }
}

fn name_of(reference: &Reference, candidate: &Candidate<'_>) -> Option<Reference> {
    let digest = candidate.draft.digest?;
    Some(Reference::digested(reference.repository(), digest))
}

fn guessed(reference: &Reference, count: usize, first: &Digest, now: Option<&Digest>) -> String {
    let registry = match now {
        Some(now) => format!("the registry has another now, {now}"),
        None => "no registry says which is the tag's".into(),
    };
    format!(
        "{} is saved with a guessed digest, {first}: its image has {count} digests, and {registry}",
        reference.familiar()
    )
}
