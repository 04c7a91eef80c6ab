//! Images that a target cannot have: refused by name, all at once, or skipped.

use super::{Candidate, Candidates, LoadOptions, Obstacle, Plan, Skipped};
use crate::error::{Error, ErrorKind, Hint, Remedy, Result};
use crate::image::Image;

impl Plan {
    /// Refuses images that the target cannot have, by name and all at once, or skips them. A further digest of an
    /// image that it gets under another name is only skipped.
    ///
    /// # Errors
    ///
    /// [`Error::NotShown`] if they are not to be skipped.
    pub fn refuse_obstructed(
        &mut self,
        refused: Vec<(&Candidate<'_>, Obstacle)>,
        options: &LoadOptions,
    ) -> Result<()> {
        let gets = |image: &Image| {
            self.images
                .iter()
                .any(|planned| planned.image_id == Some(image.id()))
        };
        let is_had = |candidate: &Candidate<'_>| {
            candidate
                .image
                .reference
                .as_ref()
                .is_some_and(|name| name.tag().is_none())
                && candidate.image.provenance.substitute.is_some()
                && candidate.image.graph.runnable().any(gets)
        };
        let (skipped, refused): (Vec<_>, Vec<_>) = refused
            .into_iter()
            .partition(|(candidate, _)| options.keep_going || is_had(candidate));
        self.skipped
            .extend(skipped.into_iter().map(|(candidate, obstacle)| Skipped {
                name: candidate.label(),
                reason: obstacle.reason,
                hint: None,
                kind: ErrorKind::NotShown,
            }));
        if refused.is_empty() {
            return Ok(());
        }
        let reasons: Vec<String> = refused
            .iter()
            .map(|(candidate, obstacle)| format!("{}: {obstacle}", candidate.label()))
            .collect();
        let hint: Hint = refused
            .into_iter()
            .filter_map(|(_, obstacle)| obstacle.hint)
            .collect();
        Err(Error::NotShown {
            message: format!("{} cannot take {}", self.target, reasons.join("; ")),
            hint: Some(hint.and(Remedy::KeepGoing)),
        })
    }

    /// Refuses images without a name by their ids, all at once, or skips them.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if they are not to be skipped.
    pub fn refuse_unnamed(
        &mut self,
        unnamed: &[&Candidate<'_>],
        candidates: &Candidates<'_>,
        options: &LoadOptions,
    ) -> Result<()> {
        if options.keep_going {
            self.skipped.extend(unnamed.iter().map(|candidate| Skipped {
                name: candidate.label(),
                reason: "it has no name".into(),
                hint: Some(Remedy::Rename(candidate.label()).into()),
                kind: ErrorKind::Usage,
            }));
            return Ok(());
        }
        let Some(first) = unnamed.first() else {
            return Ok(());
        };
        let labels: Vec<String> = unnamed.iter().map(|candidate| candidate.label()).collect();
        let (images, have) = match labels.len() {
            1 => ("image", "has"),
            _ => ("images", "have"),
        };
        let (labels, place) = (labels.join(", "), candidates.place());
        Err(Error::Usage {
            message: format!("{images} {labels} {have} no name in {place}"),
            hint: Some(Hint::from(Remedy::Rename(first.label())).and(Remedy::KeepGoing)),
        })
    }
}
