//! What a load into podman will do. Pure: depends on the candidates, the options and the inventory.

use std::collections::{BTreeSet, HashSet};

use super::inventory::{Inventory, has_name};
use super::{replacement, space, twin};
use crate::error::{Remedy, Result};
use crate::load::{
    Candidate, Candidates, Change, DigestStatus, Form, KnownImage, LoadOptions, Obstacle, Plan, PlannedImage,
    Refusal, Requested, UploadBlob, chains,
};
use crate::oci::{Descriptor, Digest, Reference, chain_ids};

/// Plans a load. `replaces` says whether images that show a wrong digest are replaced.
///
/// # Errors
///
/// As [`crate::load::Target::plan`].
pub fn plan(
    candidates: &Candidates<'_>,
    options: &LoadOptions,
    replaces: bool,
    inventory: &Inventory,
) -> Result<Plan> {
    let target = format!(
        "{} (version {})",
        inventory.target,
        inventory.version.as_deref().unwrap_or_default()
    );
    let mut plan = Plan::of_requested(target, candidates, options, inventory, |requested| {
        let planned = planned(requested, inventory);
        refusal(&planned, requested, inventory).map_or(Ok(planned), Err)
    })?;
    match replaces {
        true => replacement::plan(&mut plan, candidates, inventory),
        false => replacement::report(&mut plan, candidates, inventory),
    }
    let (send, unpacked) = send(&plan, candidates, inventory)?;
    let mut staged = vec![0; plan.images.len()];
    for blob in send.iter().filter(|blob| blob.form == Form::Layer) {
        if let Some(staged) = staged.get_mut(blob.image) {
            *staged += blob.size;
        }
    }
    plan.space = space::needed(&staged, &unpacked, &inventory.details);
    plan.send = send;
    let pulled = to_pull(&plan, candidates)?.into_iter();
    let pulled = pulled.filter_map(|at| plan.images.get(at));
    let records: Vec<Reference> = pulled.map(|planned| record(&planned.name)).collect();
    let warnings = inventory.details.policy.warnings(records.iter());
    plan.details.warnings.extend(warnings);
    plan.details.keeps_going = options.keep_going;
    Ok(plan)
}

/// The name by which podman keeps an image. A pull of `name:tag@digest` leaves the digest alone, because the tag may
/// have moved on.
pub(super) fn record(name: &Reference) -> Reference {
    match name.digest() {
        Some(digest) => Reference::digested(name.repository(), digest),
        None => name.clone(),
    }
}

fn planned(requested: &Requested<'_>, inventory: &Inventory) -> PlannedImage {
    let Requested {
        candidate,
        image,
        name,
        ..
    } = requested;
    let known = inventory.image(&image.id());
    let record = record(name);
    let names =
        |known: &KnownImage| has_name(&known.tags, &record) || has_name(&pinned(known, inventory), &record);
    let tagged = known.is_some_and(names);
    let change = match (tagged, inventory.images.iter().find(|other| names(other))) {
        (true, _) => Change::Unchanged,
        (false, Some(other)) => Change::Moved {
            from: other.id.clone(),
        },
        (false, None) => Change::New,
    };
    PlannedImage {
        present: known.is_some_and(|known| has_manifest(candidate, known)),
        tagged,
        digest_status: digest_status(candidate, name, known),
        tag: name.digest().is_none().then(|| name.clone()),
        change,
        ..requested.planned(inventory)
    }
}

/// The names with a digest that an image has.
fn pinned(known: &KnownImage, inventory: &Inventory) -> Vec<String> {
    let shown = inventory.details.shown.get(&known.id);
    shown.map(|shown| shown.pinned.clone()).unwrap_or_default()
}

/// How a candidate's digest gets shown.
fn digest_status(candidate: &Candidate<'_>, name: &Reference, known: Option<&KnownImage>) -> DigestStatus {
    let Some(digest) = candidate.digest() else {
        return DigestStatus::NoDigest {
            reason: candidate.no_digest(),
        };
    };
    let pinned = Reference::digested(name.repository(), digest);
    if known.is_some_and(|known| has_name(&known.digests, &pinned)) {
        return DigestStatus::Present;
    }
    if candidate.image.provenance.substitute.is_some() {
        return DigestStatus::Unavailable {
            obstacles: vec![Obstacle::new(
                format!(
                    "{digest} was recorded without its manifest, and podman shows digests of manifests only"
                ),
                "save the image again from a registry that has it",
            )],
        };
    }
    DigestStatus::Native
}

/// The images that podman pulls, by their positions in the plan.
pub(super) fn to_pull(plan: &Plan, candidates: &Candidates<'_>) -> Result<Vec<usize>> {
    let mut pulled = Vec::new();
    for (at, planned) in plan.images.iter().enumerate() {
        if !is_done(planned) && !is_only_tagged(planned, planned.content(candidates)?.0) {
            pulled.push(at);
        }
    }
    Ok(pulled)
}

/// Why podman does not get an image; `None` if it can, or has it.
fn refusal(planned: &PlannedImage, requested: &Requested<'_>, inventory: &Inventory) -> Option<Refusal> {
    if let Some(obstacle) = obstacle(planned, requested, inventory) {
        return Some(obstacle.into());
    }
    if is_done(planned) || is_only_tagged(planned, requested.candidate) {
        return None;
    }
    let rejection = inventory.details.policy.rejection(&record(&planned.name));
    rejection.map(Refusal::ByEngine)
}

/// Why podman cannot have an image in the form or under the name that it would get; `None` if it can, or has it.
fn obstacle(planned: &PlannedImage, requested: &Requested<'_>, inventory: &Inventory) -> Option<Obstacle> {
    let candidate = requested.candidate;
    if is_done(planned) {
        return None;
    }
    if planned
        .tag
        .as_ref()
        .and_then(Reference::tag)
        .is_some_and(twin::is_tag)
    {
        return Some(Obstacle::new(
            "such a tag is for an image that sealift is replacing",
            Remedy::Rename(planned.name.familiar()),
        ));
    }
    let details = &inventory.details;
    if let Some(unserved) = details
        .unserved
        .clone()
        .filter(|_| !is_only_tagged(planned, candidate))
    {
        return Some(unserved);
    }
    let repository = planned.name.repository().full();
    if details.redirected.iter().any(|prefix| prefix == repository) {
        return Some(Obstacle::new(
            format!(
                "a file in registries.conf.d has an entry for {repository}, which podman prefers to sealift's"
            ),
            "take that entry out for the load",
        ));
    }
    if candidate.image.provenance.substitute.is_some() && planned.tag.is_none() {
        return Some(Obstacle::new(
            "its manifest could not be recovered, and podman can name it only by a tag",
            Remedy::Rename(planned.name.familiar()),
        ));
    }
    candidate
        .layer_obstacle(requested.image)
        .filter(|_| !planned.present)
}

/// Whether nothing is to be done for an image.
pub(super) fn is_done(planned: &PlannedImage) -> bool {
    planned.present && planned.tagged
}

/// Whether podman has an image with its manifest or index, and not only its layers and config. A substitute is not
/// wanted where the image is.
fn has_manifest(candidate: &Candidate<'_>, known: &KnownImage) -> bool {
    let end = format!("@{}", candidate.image.graph.root.digest);
    candidate.image.provenance.substitute.is_some() || known.digests.iter().any(|name| name.ends_with(&end))
}

/// Whether an image only gets another name: podman has it, and a pull would give it the digest of a substitute.
pub(super) fn is_only_tagged(planned: &PlannedImage, candidate: &Candidate<'_>) -> bool {
    planned.present && candidate.image.provenance.substitute.is_some()
}

/// What podman will request, and the uncompressed bytes of the layers that it will unpack for each image.
fn send(
    plan: &Plan,
    candidates: &Candidates<'_>,
    inventory: &Inventory,
) -> Result<(Vec<UploadBlob>, Vec<u64>)> {
    let store = Store::after(plan, inventory);
    let mut seen = HashSet::new();
    let mut unpacked_chains = HashSet::new();
    let (mut send, mut unpacked) = (Vec::new(), vec![0_u64; plan.images.len()]);
    for (at, planned) in plan.images.iter().enumerate() {
        let (candidate, image) = planned.content(candidates)?;
        if is_done(planned) || is_only_tagged(planned, candidate) {
            continue;
        }
        let mut add = |blob: &Descriptor, form: Form| {
            if seen.insert(blob.digest) {
                send.push(UploadBlob {
                    digest: blob.digest,
                    size: blob.size,
                    form,
                    image: at,
                });
            }
        };
        let graph = &candidate.image.graph;
        let mut indexes = graph.indexes.iter().map(|(index, _)| index);
        let root = indexes.find(|index| index.digest == graph.root.digest);
        root.into_iter().for_each(|root| add(root, Form::Document));
        add(&image.descriptor, Form::Document);
        add(&image.manifest.config, Form::Config);
        let diff_ids: &[Digest] = image.config.as_ref().map_or(&[], |config| &config.diff_ids);
        let layers = image
            .manifest
            .layers
            .iter()
            .zip(diff_ids)
            .zip(chain_ids(diff_ids));
        for ((layer, diff_id), chain) in layers {
            if !store.has(layer, diff_id) {
                add(layer, Form::Layer);
            }
            if !store.chains.contains(&chain) && unpacked_chains.insert(chain) {
                let size = candidate.layer_sizes.get(diff_id).copied().unwrap_or(layer.size);
                if let Some(unpacked) = unpacked.get_mut(at) {
                    *unpacked = unpacked.saturating_add(size);
                }
            }
        }
    }
    Ok((send, unpacked))
}

/// What is in the store once the images to replace are removed.
struct Store<'i> {
    inventory: &'i Inventory,
    chains: BTreeSet<Digest>,
    /// The layers of the images that stay, if some go.
    kept: Option<HashSet<Digest>>,
}

impl<'i> Store<'i> {
    fn after(plan: &Plan, inventory: &'i Inventory) -> Store<'i> {
        let is_kept = |known: &&KnownImage| {
            let mut replaced = plan.details.replaced.iter();
            !replaced.any(|replaced| replaced.image_id.to_string() == known.id)
        };
        let kept = || inventory.images.iter().filter(is_kept);
        let goes = !plan.details.replaced.is_empty();
        Store {
            inventory,
            chains: match goes {
                true => chains(kept()),
                false => inventory.chains.clone(),
            },
            kept: goes.then(|| kept().flat_map(|known| known.diff_ids.iter().copied()).collect()),
        }
    }

    /// Whether podman does not request a layer: it unpacked it from the same blob.
    fn has(&self, layer: &Descriptor, diff_id: &Digest) -> bool {
        let stays = self.kept.as_ref().is_none_or(|kept| kept.contains(diff_id));
        stays && self.inventory.blobs.contains_key(&layer.digest)
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
