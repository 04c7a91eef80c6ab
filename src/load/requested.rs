//! What engines that take one platform of each image plan alike.

use super::{
    Candidate, Candidates, Change, DigestStatus, LoadOptions, LoadedReferrers, Plan, PlannedImage, Refusal,
};
use crate::error::Result;
use crate::image::Image;
use crate::inventory::Inventory;
use crate::oci::{Platform, Reference};

/// A requested image, and what an engine gets of it.
pub struct Requested<'c> {
    /// Its position among the candidates.
    pub position: usize,
    /// The candidate.
    pub candidate: &'c Candidate<'c>,
    /// The image for the platform.
    pub image: &'c Image,
    /// Its name.
    pub name: Reference,
}

/// Why an engine shows nothing that refers to its images, if nothing else is said.
const NO_REFERRERS: &str = "this engine has no place for signatures, SBOMs and attestations";

impl Requested<'_> {
    /// A plan for it in an engine that has nothing of it and shows its digest without further work.
    pub fn planned<D>(&self, inventory: &Inventory<D>) -> PlannedImage {
        let platform = self.image.offered().or(inventory.platform.as_ref());
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        PlannedImage {
            candidate: self.position,
            name: self.name.clone(),
            tag: self.name.without_digest(),
            digest: self.candidate.digest(),
            root: self.candidate.image.graph.root.digest,
            manifests: vec![self.image.descriptor.digest],
            image_id: Some(self.image.id()),
            is_foreign: !inventory.platforms.iter().any(|taken| taken.matches(&platform)),
            platforms: platform.into(),
            evidence: self.candidate.evidence(),
            present: false,
            tagged: false,
            change: Change::New,
            digest_status: DigestStatus::Native,
            referrers: LoadedReferrers::all_dropped(self.referrers(), NO_REFERRERS),
            policy: None,
        }
    }
}

impl Plan {
    /// Plans the requested images in an engine that takes one platform of each. `plan` says what keeps an image from the
    /// engine, if something does.
    ///
    /// # Errors
    ///
    /// As [`super::Target::plan`], without checks of space.
    pub fn of_requested<D>(
        target: String,
        candidates: &Candidates<'_>,
        options: &LoadOptions,
        inventory: &Inventory<D>,
        mut plan: impl FnMut(&Requested<'_>) -> Result<PlannedImage, Refusal>,
    ) -> Result<Plan> {
        let platform = options.platform()?;
        let selected = options.select(candidates)?;
        let mut planned = Plan::new(target);
        planned.skipped = selected.skipped;
        let mut unmatched = Vec::new();
        let mut unnamed = Vec::new();
        let mut obstructed = Vec::new();
        for (position, name) in selected.images {
            let Some(candidate) = candidates.images.get(position) else {
                continue;
            };
            let Some(image) = candidate.image_to_load(platform, &inventory.platforms) else {
                unmatched.push(candidate);
                continue;
            };
            let Some(name) = name else {
                unnamed.push(candidate);
                continue;
            };
            candidate.check_name(&name)?;
            let requested = Requested {
                position,
                candidate,
                image,
                name,
            };
            match plan(&requested) {
                Ok(image) => planned.images.push(image),
                Err(refusal) => obstructed.push((candidate, refusal)),
            }
        }
        let own = inventory.platform.clone().unwrap_or_else(Platform::host);
        let wanted = platform.unwrap_or(&own);
        planned.skip_unmatched(&unmatched, candidates, options, &wanted.to_string())?;
        planned.refuse_unnamed(&unnamed, candidates, options)?;
        planned.refuse_obstructed(obstructed, options)?;
        Ok(planned)
    }
}
