//! Rebuilds manifests that neither the store nor a registry has, as the tool that pushed them wrote them: from
//! what is known about their layers, then from the results of recompressing them. The digest proves them.

use std::collections::HashMap;
use std::time::Duration;

use super::BareImage;
use super::draft::Draft;
use super::layers::{MissingLayers, SWITCHED_OFF};
use super::manifests::Found;
use super::ready::length;
use super::recovery::Recovery;
use crate::error::Result;
use crate::image::provenance::ManifestOrigin;
use crate::oci::{Descriptor, Digest, Kind};
use crate::recover::lost::templates::{Blob, Rebuilt};
use crate::recover::lost::{Candidate, Layer, LostManifest, PATIENCE};
use crate::recover::recompress::Outcome;

/// Why a layer that could be recompressed stays uncompressed.
const UNPROVEN: &str = "without the manifest nothing proves how it was compressed";

/// Recompresses layers.
pub(super) type Recompress<'a> = dyn Fn(&MissingLayers) -> Result<Vec<Outcome>> + 'a;

/// The results of recompressing an image's layers, by diff id.
type Outcomes<'a> = HashMap<Digest, &'a Outcome>;

impl Recovery<'_> {
    /// Recovers the manifests of all images that need it.
    pub(super) fn recover(&mut self, recompress: &Recompress<'_>) -> Result<()> {
        let mut drafts = std::mem::take(&mut self.drafts);
        let mut lost: Vec<&mut Draft> = drafts.iter_mut().filter(|draft| draft.lacks_manifest()).collect();
        for draft in &mut lost {
            self.recover_one(draft, &HashMap::new(), None)?;
        }
        lost.retain(|draft| draft.lacks_manifest());
        self.ask_registry(&mut lost)?;
        lost.retain(|draft| draft.lacks_manifest());

        let mut missing = MissingLayers::default();
        let mut places: Vec<HashMap<Digest, usize>> = Vec::new();
        for draft in &mut lost {
            let found = self.to_recompress(draft, &mut missing);
            places.push(draft.take(found)?.unwrap_or_default());
        }
        let recompressed = recompress(&missing)?;
        for (draft, places) in lost.iter_mut().zip(&places) {
            if !draft.lacks_manifest() {
                continue;
            }
            let outcome = |(diff_id, place): (&Digest, &usize)| Some((*diff_id, recompressed.get(*place)?));
            let outcomes: Outcomes<'_> = places.iter().filter_map(outcome).collect();
            self.recover_one(draft, &outcomes, Some(PATIENCE))?;
            self.note_outcomes(draft, &outcomes);
        }
        for draft in &drafts {
            self.look_at_names(draft);
        }
        self.drafts = drafts;
        Ok(())
    }

    /// Looks up related images in the registry, if the image's own manifest is not there.
    fn ask_registry(&mut self, lost: &mut [&mut Draft]) -> Result<()> {
        for draft in lost {
            let Some(image) = draft.image.clone() else {
                continue;
            };
            let asked = self.known.ask_registry(self.upstream, &image);
            if draft.take(asked)? == Some(true) {
                self.recover_one(draft, &HashMap::new(), None)?;
            }
        }
        Ok(())
    }

    /// Recovers a manifest from what is known so far. With `patience`, an unknown size is searched for that
    /// long.
    fn recover_one(
        &self,
        draft: &mut Draft,
        outcomes: &Outcomes<'_>,
        patience: Option<Duration>,
    ) -> Result<()> {
        let (Some(image), Some(digest)) = (&draft.image, draft.digest) else {
            return Ok(());
        };
        self.interrupt.check()?;
        let lost = self.lost(draft, image, digest, outcomes);
        let Some(lost) = draft.take(lost)? else {
            return Ok(());
        };
        match lost.recover(patience, self.interrupt)? {
            Ok(rebuilt) => draft.found = Some(found(draft, digest, rebuilt)),
            Err(why) => draft.unrecovered = Some(why),
        }
        Ok(())
    }

    fn lost(
        &self,
        draft: &Draft,
        image: &BareImage,
        digest: Digest,
        outcomes: &Outcomes<'_>,
    ) -> Result<LostManifest> {
        let mut layers = Vec::new();
        for diff_id in &image.config.diff_ids {
            let outcome = outcomes.get(diff_id).copied();
            let mut candidates = Vec::new();
            for digest in self.store.stored_digests(diff_id, draft.reference.repository()) {
                let size = self.size(&digest, diff_id, outcome)?;
                candidates.push(Candidate { digest, size });
            }
            let told = self.known.candidates(diff_id);
            let is_assumed = candidates.is_empty() && told.is_empty();
            let made = outcome.and_then(|outcome| match outcome {
                Outcome::Recompressed(recompressed) => Some(Candidate {
                    digest: recompressed.digest,
                    size: Some(recompressed.size),
                }),
                Outcome::Unmatched { .. } | Outcome::Failed(_) => None,
            });
            for candidate in made.into_iter().chain(told) {
                if !candidates.iter().any(|known| known.digest == candidate.digest) {
                    candidates.push(candidate);
                }
            }
            let near = match outcome {
                Some(Outcome::Unmatched { made, .. }) => made.clone(),
                _ => candidates.iter().filter_map(|candidate| candidate.size).collect(),
            };
            layers.push(Layer {
                diff_id: *diff_id,
                candidates,
                is_assumed,
                uncompressed: self.store.size(diff_id)?.unwrap_or_default(),
                near,
            });
        }
        let config = Blob {
            digest: image.id,
            size: length(&image.raw),
        };
        Ok(LostManifest {
            digest,
            config,
            layers,
        })
    }

    /// Stored bytes of a blob that may be a layer.
    fn size(&self, digest: &Digest, diff_id: &Digest, outcome: Option<&Outcome>) -> Result<Option<u64>> {
        if let Some(Outcome::Recompressed(recompressed)) = outcome
            && recompressed.digest == *digest
        {
            return Ok(Some(recompressed.size));
        }
        if digest == diff_id {
            return self.store.size(diff_id);
        }
        if let Some(size) = self.known.size(digest) {
            return Ok(Some(size));
        }
        Ok(self.store.stored(digest)?.map(|stored| stored.size))
    }

    /// The layers of an image whose stored form is not sufficiently known. Returns their positions among the
    /// missing layers.
    fn to_recompress(&self, draft: &Draft, missing: &mut MissingLayers) -> Result<HashMap<Digest, usize>> {
        let mut places = HashMap::new();
        let repository = draft.reference.repository();
        for diff_id in draft.image.iter().flat_map(|image| &image.config.diff_ids) {
            let mut is_known = true;
            let digests = self.store.stored_digests(diff_id, repository);
            for digest in &digests {
                is_known &= self.size(digest, diff_id, None)?.is_some();
            }
            if digests.is_empty() || !is_known {
                places.insert(*diff_id, missing.unknown(self.store, repository, *diff_id));
            }
        }
        Ok(places)
    }

    /// Finds layers that a push has given a wrong type, as `docker push` calls all of them gzip.
    fn look_at_names(&mut self, draft: &Draft) {
        let found = draft.found.as_ref();
        let rebuilt = found.filter(|found| matches!(found.origin, ManifestOrigin::Rebuilt { .. }));
        for layer in rebuilt.map(Found::layers).unwrap_or_default() {
            let kind = self.known.kind(&layer.digest);
            if let Some(Kind::Layer(other)) = kind.filter(|kind| *kind != layer.media_type.kind()) {
                let reason = format!("it is {other}, and its manifest calls it {}", layer.media_type);
                self.ready.layers.mislabelled.insert(layer.digest, reason);
            }
        }
    }

    /// Keeps the recompressed layers that a recovered manifest names, or notes why layers stay uncompressed.
    fn note_outcomes(&mut self, draft: &mut Draft, outcomes: &Outcomes<'_>) {
        let layers = &mut self.ready.layers;
        let named = draft.found.as_ref().map(|found| {
            let layers = found.layers();
            layers.iter().map(|layer| layer.digest).collect::<Vec<_>>()
        });
        for diff_id in draft.image.iter().flat_map(|image| &image.config.diff_ids) {
            let reason = match (outcomes.get(diff_id), &named) {
                (Some(Outcome::Recompressed(recompressed)), Some(named)) => {
                    if named.contains(&recompressed.digest) {
                        layers.keep(recompressed.digest, recompressed);
                    }
                    continue;
                }
                (Some(Outcome::Unmatched { reason, .. }), Some(named)) => {
                    let tried = self.store.stored_digests(diff_id, draft.reference.repository());
                    for digest in tried.iter().filter(|digest| named.contains(digest)) {
                        layers.unmatched.insert(*digest, reason.to_string());
                    }
                    continue;
                }
                // It may be elsewhere, if its manifest is found; otherwise the image cannot be saved.
                (Some(Outcome::Failed(_)) | None, Some(_)) => continue,
                (Some(Outcome::Failed(error)), None) => {
                    draft.fail(error.clone());
                    return;
                }
                (Some(Outcome::Unmatched { reason, .. }), None) => reason.to_string(),
                (Some(Outcome::Recompressed(_)), None) => UNPROVEN.into(),
                (None, None) if outcomes.is_empty() => SWITCHED_OFF.into(),
                (None, None) => UNPROVEN.into(),
            };
            draft.reasons.insert(*diff_id, reason);
        }
    }
}

/// The documents of a recovered manifest.
fn found(draft: &Draft, digest: Digest, rebuilt: Rebuilt) -> Found {
    let size = length(&rebuilt.bytes);
    Found {
        root: Descriptor::new(rebuilt.media_type, digest, size),
        documents: HashMap::from([(digest, rebuilt.bytes)]),
        origin: ManifestOrigin::Rebuilt {
            by: rebuilt.template.users.into(),
        },
        repository: draft.reference.repository().clone(),
        is_part: false,
    }
}
