//! Images with a substitute manifest, for a target that has the same image with its own manifest: there the image is not
//! replaced.
//!
//! It concerns targets that name images by their manifests. Those that name them by their configs have one image for both.

use super::{Candidate, Candidates};
use crate::archive::format::SUBSTITUTE;
use crate::image::Image;
use crate::image::graph::MAX_DESCRIPTORS;
use crate::inventory::{Inventory, KnownImage};
use crate::oci::{Descriptor, Digest, Document, Manifest, Reference};

/// Whether any of these images has a substitute manifest.
pub fn has_substitutes(candidates: &Candidates<'_>) -> bool {
    let mut images = candidates.images.iter();
    images.any(|candidate| candidate.image.provenance.substitute.is_some())
}

/// The configs below a manifest or index, of manifests that are whole and not substitutes. `read` gives the bytes of a
/// manifest or index; those that it cannot give are omitted.
pub fn original_configs(
    root: Digest,
    read: &dyn Fn(&Digest) -> Option<Vec<u8>>,
    is_whole: &dyn Fn(&Digest, &Manifest) -> bool,
) -> Vec<Digest> {
    configs(root, read, &|digest, manifest| {
        !manifest.annotations.contains_key(SUBSTITUTE) && is_whole(digest, manifest)
    })
}

/// The configs below a manifest or index, of the manifests that are meant.
pub fn configs(
    root: Digest,
    read: &dyn Fn(&Digest) -> Option<Vec<u8>>,
    is_meant: &dyn Fn(&Digest, &Manifest) -> bool,
) -> Vec<Digest> {
    let read = |digest: &Digest| {
        let bytes = read(digest)?;
        Document::parse(&Document::sniff(&bytes)?, bytes).ok()
    };
    let mut configs = Vec::new();
    let mut left = vec![root];
    let mut seen = 0;
    while let Some(digest) = left.pop() {
        seen += 1;
        if seen > MAX_DESCRIPTORS {
            break;
        }
        match read(&digest) {
            Some(Document::Manifest(manifest)) => {
                configs.extend(is_meant(&digest, &manifest).then_some(manifest.config.digest));
            }
            Some(Document::Index(index)) => {
                let images = index.manifests.iter();
                let images = images.filter(|entry: &&Descriptor| entry.attests().is_none());
                left.extend(images.map(|entry| entry.digest));
            }
            None => {}
        }
    }
    configs
}

/// The image that a target has with its own manifest, and the candidate with a substitute: under the tag that is set, or
/// under the recorded digest. The target names images by their manifests.
pub fn with_own_manifest<'i, D>(
    candidate: &Candidate<'_>,
    image: &Image,
    name: &Reference,
    inventory: &'i Inventory<D>,
) -> Option<&'i KnownImage> {
    let substitute = candidate.image.provenance.substitute?;
    let recorded = substitute.recorded.map(|digest| digest.to_string());
    let is_recorded = |known: &KnownImage| recorded.as_ref() == Some(&known.id);
    let is_named = |known: &KnownImage| match (name.digest(), name.without_digest()) {
        (None, Some(tag)) => is_recorded(known) || has_name(&known.tags, &tag),
        _ => is_recorded(known) && has_name(&known.digests, name),
    };
    let is_same = |known: &KnownImage| match &known.configs {
        Some(configs) => configs.contains(&image.id()),
        // If its manifest cannot be read: the recorded digest and the layers are the same.
        None => {
            let diff_ids = image.config.as_ref().map(|config| &config.diff_ids);
            is_recorded(known) && !known.diff_ids.is_empty() && diff_ids == Some(&known.diff_ids)
        }
    };
    let same = inventory
        .images
        .iter()
        .filter(|known| is_named(known) && is_same(known));
    same.max_by_key(|known| is_recorded(known))
}

/// Whether a target's list of names has this one.
pub fn has_name(names: &[String], wanted: &Reference) -> bool {
    // There may be thousands: only those with the same end are parsed.
    let end = match (wanted.digest(), wanted.tag()) {
        (Some(digest), _) => format!("@{digest}"),
        (None, Some(tag)) => format!(":{tag}"),
        (None, None) => String::new(),
    };
    let mut alike = names.iter().filter(|name| name.ends_with(&end));
    alike.any(|name| name.parse::<Reference>().is_ok_and(|name| name == *wanted))
}
