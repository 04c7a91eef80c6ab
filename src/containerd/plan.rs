//! What a load into containerd will do. Pure: depends on the candidates, the options and the inventory.

use std::collections::HashSet;

use super::address::Namespace;
use super::inventory::Inventory;
use super::{DEFAULT, records, snapshots};
use crate::error::{Remedy, Result};
use crate::image::Image;
use crate::image::referrers::ReferrerGraph;
use crate::load::{
    Candidate, Candidates, Change, DigestStatus, Form, LoadOptions, LoadedReferrers, Obstacle, Plan,
    PlannedImage, Requested, UploadBlob, substitute,
};
use crate::oci::{Descriptor, Digest, Platform};

/// Why nothing is kept that refers to the manifest of an archive.
const OWN_MANIFEST: &str = "containerd has the image with another manifest, to which they do not refer";

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
    let details = &inventory.details;
    let namespace = Namespace {
        name: namespace_of(inventory).into(),
        reason: details.reason,
    };
    let target = format!(
        "{} (version {}, namespace {namespace})",
        inventory.target,
        inventory.version.as_deref().unwrap_or_default(),
    );
    let mut plan = Plan::of_requested(target, candidates, options, inventory, |requested| {
        let planned = planned(requested, unpacks, inventory);
        obstacle(&planned, requested).map_or(Ok(planned), |obstacle| Err(obstacle.into()))
    })?;
    plan.send = upload(&plan.images, candidates, unpacks, inventory)?;
    let unpacked = match unpacks {
        true => unpacked(&plan.images, candidates, inventory)?,
        false => 0,
    };
    let removal = match details.has_cri {
        true => "crictl rmi".into(),
        false => format!("ctr -n {} images rm", namespace_of(inventory)),
    };
    plan.space = details.space.needed_for(plan.bytes(), unpacked, &removal);
    Ok(plan)
}

/// The namespace that an inventory is of.
fn namespace_of(inventory: &Inventory) -> &str {
    inventory.namespace.as_deref().unwrap_or(DEFAULT)
}

fn planned(requested: &Requested<'_>, unpacks: bool, inventory: &Inventory) -> PlannedImage {
    let Requested {
        candidate,
        image,
        name,
        ..
    } = requested;
    let same = substitute::with_own_manifest(candidate, image, name, inventory);
    let root = same.and_then(|known| known.id.parse().ok());
    let root: Digest = root.unwrap_or(candidate.image.graph.root.digest);
    let is_substitute = candidate.image.provenance.substitute.is_some() && candidate.digest() != Some(root);
    // A pull of `name:tag@digest` leaves no tag, because that may have moved on. Without a digest the tag is the only name.
    let tag = match (name.digest(), is_substitute) {
        (Some(_), false) => None,
        (Some(_), true) | (None, _) => name.without_digest(),
    };
    let mut planned = PlannedImage {
        root,
        present: same.is_some()
            || missing(candidate, image, unpacks, inventory).next().is_none()
                && (!unpacks || is_unpacked(image, inventory)),
        tag,
        referrers: match same {
            None => LoadedReferrers::all_shown(requested.referrers()),
            Some(_) => LoadedReferrers::all_dropped(requested.referrers(), OWN_MANIFEST),
        },
        ..requested.planned(inventory)
    };
    let names = |record: &String| inventory.details.records.get(record);
    let is_here = |record: &String| names(record).is_some_and(|digest| *digest == root.to_string());
    planned.tagged = records::of(&planned, namespace_of(inventory)).iter().all(is_here);
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
        (Some(_), Some(record)) => match hidden(&planned, candidate, inventory) {
            Some(obstacle) => DigestStatus::Unavailable {
                obstacles: obstacle.into(),
            },
            None if planned.present && is_here(&record) => DigestStatus::Present,
            None => DigestStatus::Native,
        },
    };
    planned
}

/// Why CRI will not show an image: it is for another platform, and containerd does not have the image of its index for
/// this host. CRI shows every image without an index, also if the host cannot run it.
fn hidden(planned: &PlannedImage, candidate: &Candidate<'_>, inventory: &Inventory) -> Option<Obstacle> {
    let graph = &candidate.image.graph;
    if !inventory.details.has_cri || !planned.is_foreign || graph.indexes.is_empty() {
        return None;
    }
    let is_own = |entry: &&Descriptor| {
        let platform = entry.platform.as_ref();
        platform.is_none_or(|platform| inventory.platforms.iter().any(|own| own.matches(platform)))
    };
    let mut own = graph
        .indexes
        .iter()
        .flat_map(|(_, index)| &index.manifests)
        .filter(is_own);
    if own.any(|entry| inventory.blobs.contains_key(&entry.digest)) {
        return None;
    }
    let runs = inventory.platform.clone().unwrap_or_else(Platform::host);
    Some(Obstacle::new(
        format!(
            "it is for {}, and CRI shows an index only if containerd has its image for {runs}",
            planned.platforms
        ),
        format!("pods of this host need the image for {runs}"),
    ))
}

/// Whether it is known that CRI will not show an image.
pub fn is_hidden(planned: &PlannedImage) -> bool {
    planned.is_foreign && !planned.obstacles().is_empty()
}

/// Why containerd cannot have an image: nothing would name it, or a layer is there only uncompressed.
fn obstacle(planned: &PlannedImage, requested: &Requested<'_>) -> Option<Obstacle> {
    if records::main(planned).is_none() {
        return Some(Obstacle::new(
            "its manifest could not be recovered, and containerd can name it only by a tag",
            Remedy::Rename(planned.name.familiar()),
        ));
    }
    let obstacle = requested.candidate.layer_obstacle(requested.image);
    obstacle.filter(|_| !planned.present)
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

/// The blobs of a referrer in the order in which they are sent.
pub fn blobs_of_referrer(referrer: &ReferrerGraph) -> impl Iterator<Item = (&Descriptor, Form)> {
    let images = &referrer.graph.images;
    let layers = images.iter().flat_map(|image| &image.manifest.layers);
    let configs = images.iter().map(|image| &image.manifest.config);
    let manifests = images.iter().map(|image| &image.descriptor);
    let indexes = referrer.graph.indexes.iter().rev().map(|(index, _)| index);
    let layers = layers.map(|layer| (layer, Form::Layer));
    let configs = configs.map(|config| (config, Form::Config));
    let documents = manifests
        .chain(indexes)
        .map(|document| (document, Form::Document));
    layers.chain(configs).chain(documents)
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
    let blobs = blobs(candidate, image).filter(move |(blob, _)| !unpacked.contains(&blob.digest));
    let referrers = candidate.referrers_of(image).into_iter();
    let blobs = blobs.chain(referrers.flat_map(blobs_of_referrer));
    blobs.filter(|(blob, _)| !inventory.has_blob(&blob.digest, blob.size))
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
