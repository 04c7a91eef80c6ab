//! Images that containerd has with their original manifests, when archives have substitutes for these.

use std::collections::{BTreeSet, HashMap};

use super::client::Client;
use super::content::Content;
use super::snapshots;
use crate::load::{Candidates, KnownImage, substitute};
use crate::oci::{Digest, Manifest};

/// Notes the configs of the images that are offered with a substitute, where their original manifests are whole: every layer
/// is there as a blob, or all are unpacked.
pub fn look_at_configs(
    client: &Client,
    images: &mut [KnownImage],
    candidates: &Candidates<'_>,
    chains: &BTreeSet<Digest>,
) {
    if !substitute::has_substitutes(candidates) {
        return;
    }
    let offered = candidates.images.iter();
    let offered = offered.filter(|candidate| candidate.image.provenance.substitute.is_some());
    // Of each config, the chain of all layers.
    let tops: HashMap<Digest, Option<Digest>> = offered
        .flat_map(|candidate| candidate.image.graph.runnable())
        .map(|image| (image.id(), snapshots::layers(image).pop().map(|top| top.chain)))
        .collect();
    let content = Content::new(client);
    let is_whole = |_: &Digest, manifest: &Manifest| {
        let Some(top) = tops.get(&manifest.config.digest) else {
            return false;
        };
        let has = |digest: &Digest| content.find(digest).is_ok_and(|found| found.is_some());
        let is_unpacked = top.is_some_and(|top| chains.contains(&top));
        has(&manifest.config.digest)
            && (is_unpacked || manifest.layers.iter().all(|layer| has(&layer.digest)))
    };
    let read = |digest: &Digest| content.metadata(digest).ok().flatten();
    for known in images {
        let Ok(root) = known.id.parse() else { continue };
        known.configs = Some(substitute::original_configs(root, &read, &is_whole));
    }
}
