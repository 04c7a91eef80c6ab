//! Images that have nothing for a target: they are for another platform, or are artifacts.

use super::{Candidate, Candidates, LoadOptions, Plan, Skipped};
use crate::error::{Error, ErrorKind, Hint, Remedy, Result};
use crate::image::Image;

impl Candidate<'_> {
    /// What it is, for messages: an artifact, or for which platforms.
    pub fn nature(&self) -> String {
        if let Some(artifact) = self.image.graph.artifact_type() {
            return format!("an artifact of type {artifact}, not an image");
        }
        let platforms = self.image.graph.runnable().filter_map(Image::offered);
        let mut platforms: Vec<String> = platforms.map(ToString::to_string).collect();
        platforms.sort();
        platforms.dedup();
        match platforms.as_slice() {
            [] => "no image that runs".into(),
            platforms => format!("only for {}", platforms.join(", ")),
        }
    }
}

impl Plan {
    /// Refuses candidates that have nothing for a platform, all at once, or skips them.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if they are not to be skipped.
    pub fn skip_unmatched(
        &mut self,
        unmatched: &[&Candidate<'_>],
        candidates: &Candidates<'_>,
        options: &LoadOptions,
        platform: &str,
    ) -> Result<()> {
        if options.keep_going || unmatched.is_empty() {
            self.skipped.extend(unmatched.iter().map(|candidate| Skipped {
                name: candidate.label(),
                reason: format!("it is {}", candidate.nature()),
                hint: None,
                kind: ErrorKind::NotFound,
            }));
            return Ok(());
        }
        let (artifacts, images): (Vec<&Candidate<'_>>, Vec<&Candidate<'_>>) = unmatched
            .iter()
            .partition(|candidate| candidate.image.graph.artifact_type().is_some());
        let names = |candidates: &[&Candidate<'_>]| -> Option<String> {
            let names: Vec<String> = candidates.iter().map(|candidate| candidate.label()).collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        let missing = [
            names(&images).map(|names| format!("platform {platform} of {names}")),
            names(&artifacts).map(|names| match artifacts.len() {
                1 => format!("image {names}"),
                _ => format!("images {names}"),
            }),
        ];
        let missing: Vec<String> = missing.into_iter().flatten().collect();
        let natures = unmatched
            .iter()
            .map(|candidate| Hint::from(format!("{} is {}", candidate.label(), candidate.nature())));
        let mut hint = natures.collect::<Hint>().and(Remedy::KeepGoing);
        if let Some(offered) = images
            .first()
            .and_then(|candidate| candidate.image.graph.runnable().find_map(Image::offered))
        {
            hint = hint.and(Remedy::OtherPlatform {
                offered: offered.clone(),
                wanted: platform.into(),
            });
        }
        Err(Error::NotFound {
            what: missing.join(" and "),
            place: candidates.place(),
            hint: Some(hint),
        })
    }
}
