//! An image with its name and its provenance: what is listed, saved and loaded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::graph::{Graph, Image};
use super::provenance::{Evidence, LayerOrigin, Provenance};
use super::referrers::{self, ReferrerGraph};
use super::selector::Identity;
use crate::oci::{Descriptor, Digest, Reference};

/// Most reasons for layers that are listed; each layer may have its own.
const MAX_REASONS: usize = 3;

/// An image with its name and its provenance.
#[derive(Debug, Clone)]
pub struct NamedImage {
    /// The name; `None` for an image that has only a digest.
    pub reference: Option<Reference>,
    /// The tag, if an OCI layout names it by a tag alone, as skopeo and buildx may.
    pub bare_tag: Option<String>,
    /// The image and everything below it.
    pub graph: Arc<Graph>,
    /// The evidence for its digest, and where its parts came from.
    pub provenance: Provenance,
    /// What refers to it: signatures, SBOMs, attestations. Sorted as an archive lists them.
    pub referrers: Arc<[ReferrerGraph]>,
}

impl NamedImage {
    /// Its digest: that of its manifest or index, or the recorded one; `None` if it is not known.
    pub fn digest(&self) -> Option<Digest> {
        self.provenance.digest(self.graph.root.digest)
    }

    /// The evidence for its digest.
    pub fn evidence(&self) -> Evidence {
        self.provenance.evidence()
    }

    /// What selects and renames it.
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            reference: self.reference.as_ref(),
            digest: self.digest(),
            root: self.graph.root.digest,
            image_ids: self.graph.runnable().map(Image::id).collect(),
        }
    }

    /// Every blob of it once: as [`Graph::blobs`], with uncompressed layers in place of those that could not be
    /// recompressed, then the blobs of its referrers.
    pub fn blobs(&self) -> Vec<Descriptor> {
        let mut seen = HashSet::new();
        let mut blobs = self.graph.blobs();
        for blob in &mut blobs {
            *blob = self.provenance.layer(blob).clone();
        }
        let referrers = self.referrers.iter();
        blobs.extend(referrers.flat_map(|referrer| referrer.graph.blobs()));
        blobs.retain(|blob| seen.insert(blob.digest));
        blobs
    }

    /// How many layers of one of its images are here only uncompressed, and why, for people: "2 of its 3 layers only
    /// uncompressed (zstd layers cannot be recompressed)". `None` if all are here as they were stored.
    pub fn uncompressed_layers(&self, image: &Image) -> Option<String> {
        let layers = &image.manifest.layers;
        let uncompressed = || {
            let digests = layers.iter().map(|layer| &layer.digest);
            digests.filter(|digest| self.provenance.uncompressed.contains_key(digest))
        };
        let count = uncompressed().count();
        if count == 0 {
            return None;
        }
        let mut reasons: Vec<&str> = uncompressed()
            .filter_map(
                |digest| match self.provenance.origins.as_ref()?.layers.get(digest)? {
                    LayerOrigin::Uncompressed { reason } => Some(reason.as_str()),
                    _ => None,
                },
            )
            .collect();
        reasons.sort_unstable();
        reasons.dedup();
        let more = reasons.len().saturating_sub(MAX_REASONS);
        reasons.truncate(MAX_REASONS);
        let why = match (reasons.as_slice(), more) {
            ([], _) => String::new(),
            (reasons, 0) => format!(" ({})", reasons.join("; ")),
            (reasons, more) => format!(" ({}; {more} more reasons)", reasons.join("; ")),
        };
        Some(format!(
            "{count} of its {} layers only uncompressed{why}",
            layers.len()
        ))
    }
}

/// Sorts images as an archive lists them, by name, and removes duplicate names. The order of the request does
/// not matter.
pub fn sort(images: &mut Vec<NamedImage>) {
    let key = |image: &NamedImage| {
        let name = image.reference.as_ref().map(Reference::full);
        (name, image.bare_tag.clone(), image.graph.root.digest)
    };
    images.sort_by_key(key);
    images.dedup_by_key(|image| key(image));
}

/// For each image the position of the first one with the same content, which may be its own. Work on content is
/// done once, not for each name.
pub fn firsts(images: &[NamedImage]) -> Vec<usize> {
    let mut known: HashMap<*const Graph, Vec<usize>> = HashMap::new();
    let mut firsts = Vec::with_capacity(images.len());
    for (at, image) in images.iter().enumerate() {
        let same = known.entry(Arc::as_ptr(&image.graph)).or_default();
        let has_same = |first: &&usize| {
            images.get(**first).is_some_and(|first| {
                first.provenance.uncompressed == image.provenance.uncompressed
                    && referrers::are_same(&first.referrers, &image.referrers)
            })
        };
        let first = same.iter().find(has_same).copied();
        firsts.push(first.unwrap_or_else(|| {
            same.push(at);
            at
        }));
    }
    firsts
}

/// The first image of each content.
pub fn distinct(images: &[NamedImage]) -> impl Iterator<Item = &NamedImage> {
    let firsts = firsts(images);
    let places = images.iter().enumerate().zip(firsts);
    places.filter_map(|((at, image), first)| (at == first).then_some(image))
}
