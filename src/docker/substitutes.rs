//! Images with a substitute manifest, for a containerd store that has the same image with its own manifest:
//! there the image is not replaced.
//!
//! The store names images by their manifests, and no response of the API has the config's digest. It is read
//! from the store's content folder, which needs root.

use super::api::Client;
use super::api::info::Store;
use super::inventory::Inventory;
use super::plan::has_name;
use super::store::content_of;
use crate::archive::format::SUBSTITUTE;
use crate::image::Image;
use crate::image::graph::MAX_DESCRIPTORS;
use crate::load::{Candidate, Candidates, KnownImage};
use crate::oci::{Descriptor, Digest, Document, Reference};
use crate::store::content::ContentFolders;

/// Notes the configs of a containerd store's images, if there are candidates with a substitute and its content
/// can be read.
pub fn look_at_configs(
    client: &Client,
    images: &mut [KnownImage],
    candidates: &Candidates<'_>,
    tells_content: bool,
) {
    if !candidates
        .images
        .iter()
        .any(|candidate| candidate.image.provenance.substitute.is_some())
    {
        return;
    }
    let Ok(folders) = content_of(client) else { return };
    for known in images {
        let Ok(root) = known.id.parse() else { continue };
        let is_whole = |manifest: &Digest| !tells_content || known.manifests.contains(manifest);
        known.configs = Some(configs(&folders, root, &is_whole));
    }
}

/// The configs below a manifest or index, of manifests that are complete and not substitutes. Unreadable ones
/// are omitted.
fn configs(folders: &ContentFolders, root: Digest, is_whole: &dyn Fn(&Digest) -> bool) -> Vec<Digest> {
    let read = |digest: &Digest| {
        let bytes = folders.metadata(digest).ok()??;
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
                let is_own = !manifest.annotations.contains_key(SUBSTITUTE);
                configs.extend((is_own && is_whole(&digest)).then_some(manifest.config.digest));
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

/// The image that a containerd store has with its own manifest, and the candidate with a substitute: under the
/// tag that is set, or under the recorded digest.
pub fn same<'i>(
    candidate: &Candidate<'_>,
    image: &Image,
    name: &Reference,
    inventory: &'i Inventory,
) -> Option<&'i KnownImage> {
    let substitute = candidate.image.provenance.substitute?;
    if inventory.details.store != Store::Containerd {
        return None;
    }
    let recorded = substitute.recorded.map(|digest| digest.to_string());
    let is_recorded = |known: &KnownImage| recorded.as_ref() == Some(&known.id);
    let is_named = |known: &KnownImage| match (name.digest(), name.without_digest()) {
        (None, Some(tag)) => is_recorded(known) || has_name(&known.tags, &tag),
        _ => is_recorded(known) && has_name(&known.digests, name),
    };
    let is_same = |known: &KnownImage| match &known.configs {
        Some(configs) => configs.contains(&image.id()),
        // Without root: the recorded digest and the layers are the same.
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
