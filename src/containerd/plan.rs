//! What a load into containerd will do. Pure: depends on the candidates, the options and the inventory.

use std::collections::HashSet;

use super::address::Namespace;
use super::inventory::Inventory;
use super::{records, snapshots};
use crate::error::{Remedy, Result};
use crate::image::Image;
use crate::load::{
    Candidate, Candidates, Change, DigestStatus, Form, LoadOptions, Obstacle, Plan, PlannedImage, UploadBlob,
    substitute,
};
use crate::oci::{Descriptor, Digest, Platform, Reference};

/// Plans a load.
///
/// # Errors
///
/// As [`crate::load::Target::plan`].
pub fn plan(
    candidates: &Candidates<'_>,
    options: &LoadOptions,
    unpacks: bool,
    inventory: &Inventory,
) -> Result<Plan> {
    let platform = options.platform()?;
    let selected = options.select(candidates)?;
    let details = &inventory.details;
    let namespace = Namespace {
        name: details.namespace.clone(),
        reason: details.reason,
    };
    let mut plan = Plan::new(format!(
        "{} (version {}, namespace {namespace})",
        inventory.target,
        inventory.version.as_deref().unwrap_or_default(),
    ));
    plan.skipped = selected.skipped;
    let mut unmatched = Vec::new();
    let mut unnamed = Vec::new();
    let mut obstructed = Vec::new();
    for (at, name) in selected.images {
        let Some(candidate) = candidates.images.get(at) else {
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
        let planned = planned(at, candidate, image, name, unpacks, inventory);
        match obstacle(&planned, candidate, image) {
            Some(obstacle) => obstructed.push((candidate, obstacle)),
            None => plan.images.push(planned),
        }
    }
    let own = inventory.platform.clone().unwrap_or_else(Platform::host);
    let wanted = platform.unwrap_or(&own);
    plan.skip_unmatched(&unmatched, candidates, options, &wanted.to_string())?;
    plan.refuse_unnamed(&unnamed, candidates, options)?;
    plan.refuse_obstructed(obstructed, options)?;
    plan.send = upload(&plan.images, candidates, unpacks, inventory)?;
    let unpacked = match unpacks {
        true => unpacked(&plan.images, candidates, inventory)?,
        false => 0,
    };
    plan.space = details.space.needed_for(plan.bytes(), unpacked);
    Ok(plan)
}

fn planned(
    at: usize,
    candidate: &Candidate<'_>,
    image: &Image,
    name: Reference,
    unpacks: bool,
    inventory: &Inventory,
) -> PlannedImage {
    let same = substitute::with_own_manifest(candidate, image, &name, inventory);
    let root = same.and_then(|known| known.id.parse().ok());
    let root: Digest = root.unwrap_or(candidate.image.graph.root.digest);
    let is_substitute = candidate.image.provenance.substitute.is_some() && candidate.digest() != Some(root);
    // A pull of `name:tag@digest` leaves no tag, because that may have moved on. Without a digest the tag is the only name.
    let tag = match (name.digest(), is_substitute) {
        (Some(_), false) => None,
        (Some(_), true) | (None, _) => name.without_digest(),
    };
    let platform = image.offered().or(inventory.platform.as_ref());
    let platform = platform.cloned().unwrap_or_else(Platform::host);
    let mut planned = PlannedImage {
        candidate: at,
        digest: candidate.digest(),
        root,
        manifests: vec![image.descriptor.digest],
        image_id: Some(image.id()),
        is_foreign: !inventory.platforms.iter().any(|taken| taken.matches(&platform)),
        platforms: platform.into(),
        evidence: candidate.evidence(),
        present: same.is_some()
            || missing(candidate, image, unpacks, inventory).next().is_none()
                && (!unpacks || is_unpacked(image, inventory)),
        tagged: false,
        change: Change::New,
        digest_status: DigestStatus::Native,
        name,
        tag,
    };
    let names = |record: &String| inventory.details.records.get(record);
    let is_here = |record: &String| names(record).is_some_and(|digest| *digest == root.to_string());
    planned.tagged = records::of(&planned, &inventory.details.namespace)
        .iter()
        .all(is_here);
    planned.change = match records::main(&planned).as_ref().and_then(names) {
        None => Change::New,
        Some(digest) if *digest == root.to_string() => Change::Unchanged,
        Some(digest) => Change::Moved { from: digest.clone() },
    };
    planned.digest_status = match (planned.digest, records::digest(&planned)) {
        (None, _) => DigestStatus::NoDigest {
            reason: candidate.no_digest(),
        },
        (Some(digest), None) => DigestStatus::Unavailable {
            obstacles: Obstacle::new(
                format!("{digest} was recorded without its manifest, and containerd shows digests of manifests only"),
                "save the image again from a registry that has it",
            )
            .into(),
        },
        (Some(_), Some(record)) if planned.present && is_here(&record) => DigestStatus::Present,
        (Some(_), Some(_)) => DigestStatus::Native,
    };
    planned
}

/// Why containerd cannot have an image: nothing would name it, or a layer is there only uncompressed.
fn obstacle(planned: &PlannedImage, candidate: &Candidate<'_>, image: &Image) -> Option<Obstacle> {
    if records::main(planned).is_none() {
        return Some(Obstacle::new(
            "its manifest could not be recovered, and containerd can name it only by a tag",
            Remedy::Rename(planned.name.familiar()),
        ));
    }
    candidate.layer_obstacle(image).filter(|_| !planned.present)
}

/// The blobs of an image in the order in which they are sent: layers, the config, the manifest, indexes.
pub fn blobs<'i>(
    candidate: &'i Candidate<'_>,
    image: &'i Image,
) -> impl Iterator<Item = (&'i Descriptor, Form)> {
    let layers = image.manifest.layers.iter().map(|layer| (layer, Form::Layer));
    let config = [(&image.manifest.config, Form::Config)];
    let manifest = [(&image.descriptor, Form::Document)];
    let indexes = candidate.image.graph.indexes.iter().rev();
    let indexes = indexes.map(|(index, _)| (index, Form::Document));
    layers.chain(config).chain(manifest).chain(indexes)
}

/// The blobs of an image that containerd lacks. As in a pull, a layer that is unpacked needs no blob.
fn missing<'i>(
    candidate: &'i Candidate<'_>,
    image: &'i Image,
    unpacks: bool,
    inventory: &'i Inventory,
) -> impl Iterator<Item = (&'i Descriptor, Form)> {
    // A blob may be several layers of an image.
    let (unpacked, packed): (Vec<_>, Vec<_>) = snapshots::layers(image)
        .into_iter()
        .partition(|layer| unpacks && inventory.chains.contains(&layer.chain));
    let mut unpacked: HashSet<_> = unpacked.iter().map(|layer| layer.blob.digest).collect();
    for layer in packed {
        unpacked.remove(&layer.blob.digest);
    }
    blobs(candidate, image).filter(move |(blob, _)| {
        !unpacked.contains(&blob.digest) && !inventory.has_blob(&blob.digest, blob.size)
    })
}

/// Whether containerd has an image with its own manifest, and the candidate has a substitute: nothing of it is sent.
pub fn has_own_manifest(planned: &PlannedImage, candidate: &Candidate<'_>) -> bool {
    planned.root != candidate.image.graph.root.digest
}

/// Whether all layers of an image are unpacked.
fn is_unpacked(image: &Image, inventory: &Inventory) -> bool {
    let top = snapshots::layers(image).pop();
    top.is_none_or(|top| inventory.chains.contains(&top.chain))
}

/// The blobs to send, each once. Layers that the archives leave out are not among them.
fn upload(
    images: &[PlannedImage],
    candidates: &Candidates<'_>,
    unpacks: bool,
    inventory: &Inventory,
) -> Result<Vec<UploadBlob>> {
    let mut seen = HashSet::new();
    let mut upload = Vec::new();
    for (position, planned) in images.iter().enumerate() {
        let (candidate, image) = planned.content(candidates)?;
        if has_own_manifest(planned, candidate) {
            continue;
        }
        for (blob, form) in missing(candidate, image, unpacks, inventory) {
            if !candidate.is_omitted(blob) && seen.insert(blob.digest) {
                upload.push(UploadBlob {
                    digest: blob.digest,
                    size: blob.size,
                    form,
                    image: position,
                });
            }
        }
    }
    Ok(upload)
}

/// Bytes of the layers that are unpacked: one for each chain that containerd lacks.
fn unpacked(images: &[PlannedImage], candidates: &Candidates<'_>, inventory: &Inventory) -> Result<u64> {
    let mut seen = HashSet::new();
    let mut bytes = 0_u64;
    for planned in images {
        let (candidate, image) = planned.content(candidates)?;
        if has_own_manifest(planned, candidate) {
            continue;
        }
        for layer in snapshots::layers(image) {
            if !inventory.chains.contains(&layer.chain) && seen.insert(layer.chain) {
                // Before it is verified, at least its stored bytes.
                let size = candidate.layer_sizes.get(&layer.diff_id).copied();
                bytes = bytes.saturating_add(size.unwrap_or(layer.blob.size));
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
