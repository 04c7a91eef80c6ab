//! Images that a target cannot have: refused by name, all at once, or skipped.

use super::{Candidate, Candidates, LoadOptions, Obstacle, Plan, Skipped};
use crate::error::{Error, ErrorKind, Hint, Remedy, Result};
use crate::image::Image;

/// Why a target cannot have an image.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// The image has not the form that the target needs, or a name that it can have.
    Unfit(Obstacle),
    /// The engine refuses the image, as its host is configured.
    ByEngine(Obstacle),
}

impl Refusal {
    fn obstacle(&self) -> &Obstacle {
        match self {
            Refusal::Unfit(obstacle) | Refusal::ByEngine(obstacle) => obstacle,
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Refusal::Unfit(_) => ErrorKind::NotShown,
            Refusal::ByEngine(_) => ErrorKind::Engine,
        }
    }
}

impl From<Obstacle> for Refusal {
    fn from(obstacle: Obstacle) -> Refusal {
        Refusal::Unfit(obstacle)
    }
}

impl Plan {
    /// Refuses images that the target cannot have, by name and all at once, or skips them. A further digest of an
    /// image that it gets under another name is only skipped.
    ///
    /// # Errors
    ///
    /// [`Error::NotShown`] and [`Error::Engine`] if they are not to be skipped.
    pub fn refuse_obstructed(
        &mut self,
        refused: Vec<(&Candidate<'_>, Refusal)>,
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
            .extend(skipped.into_iter().map(|(candidate, refusal)| Skipped {
                name: candidate.label(),
                reason: refusal.obstacle().reason.clone(),
                hint: None,
                kind: refusal.kind(),
            }));
        match refused.is_empty() {
            true => Ok(()),
            false => Err(Error::of_several(self.refusals(&refused))),
        }
    }

    /// An error for all images that are unfit, and one for each reason of the engine's.
    fn refusals(&self, refused: &[(&Candidate<'_>, Refusal)]) -> Vec<Error> {
        let mut unfit: (Vec<String>, Hint) = Default::default();
        let mut by_engine: Vec<(&Obstacle, Vec<String>)> = Vec::new();
        for (candidate, refusal) in refused {
            let label = candidate.label();
            match refusal {
                Refusal::Unfit(obstacle) => {
                    unfit.0.push(format!("{label}: {obstacle}"));
                    unfit.1 = unfit.1.and(obstacle.hint.clone().unwrap_or_default());
                }
                Refusal::ByEngine(obstacle) => {
                    match by_engine.iter_mut().find(|(known, _)| *known == obstacle) {
                        Some((_, labels)) => labels.push(label),
                        None => by_engine.push((obstacle, vec![label])),
                    }
                }
            }
        }
        let (reasons, hint) = unfit;
        let unfit = (!reasons.is_empty()).then(|| Error::NotShown {
            message: format!("{} cannot take {}", self.target, reasons.join("; ")),
            hint: Some(hint.and(Remedy::KeepGoing)),
        });
        let by_engine = by_engine.into_iter().map(|(obstacle, labels)| Error::Engine {
            engine: self.target.clone(),
            action: format!("load {}", labels.join(", ")),
            problem: obstacle.to_string(),
            hint: Some(obstacle.hint.clone().unwrap_or_default().and(Remedy::KeepGoing)),
        });
        unfit.into_iter().chain(by_engine).collect()
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
