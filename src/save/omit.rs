//! What a save leaves out because the hosts that the archive is for have it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::LeftOut;
use crate::archive::format::Omitted;
use crate::image::named::{self, NamedImage};
use crate::inventory::KnownHost;
use crate::oci::{Descriptor, Digest};

/// The layers that are left out.
pub(super) struct Omission {
    /// What the archive declares.
    pub declared: Omitted,
    /// Stored bytes of the layers.
    bytes: u64,
    /// Whether any host was given.
    is_asked: bool,
}

/// A layer of images, and where it is in them.
struct Place<'i> {
    layer: &'i Descriptor,
    /// Chain ids of the layers up to it; `None` where that is not known.
    chains: BTreeSet<Option<Digest>>,
    /// Whether it is only a layer of images. What an artifact or attestation has is never left out.
    is_of_images: bool,
}

impl Omission {
    /// Finds the layers that every host takes as present, wherever they are in the images. Those are left out in each
    /// form.
    pub fn find(images: &mut [NamedImage], have: &[KnownHost]) -> Omission {
        let mut omission = Omission {
            declared: Omitted::default(),
            bytes: 0,
            is_asked: !have.is_empty(),
        };
        if have.is_empty() {
            return omission;
        }
        let mut places = places(images);
        places.retain(|_, place| {
            let has = |host: &KnownHost| {
                let mut chains = place.chains.iter();
                chains.all(|chain| host.has_layer(place.layer, chain.as_ref()))
            };
            place.is_of_images && have.iter().all(has)
        });
        // The same bytes may be something else too, which is never left out.
        let others = others(images, &|layer| places.contains_key(layer));
        for (digest, place) in places {
            if !others.contains(&digest) {
                omission.declared.layers.insert(digest);
                omission.bytes = omission.bytes.saturating_add(place.layer.size);
            }
        }
        omission.declared.inventories = have.iter().map(|host| host.id.clone()).collect();
        omission.declared.inventories.sort();
        omission.declared.inventories.dedup();
        for image in images {
            let is_here = |layer: &Digest| !omission.declared.layers.contains(layer);
            image.provenance.uncompressed.retain(|layer, _| is_here(layer));
            if let Some(origins) = &mut image.provenance.origins {
                origins.layers.retain(|layer, _| is_here(layer));
            }
        }
        omission
    }

    /// What was left out; `None` if no host was given.
    pub fn left_out(&self) -> Option<LeftOut> {
        self.is_asked.then(|| LeftOut {
            layers: self.declared.layers.len(),
            bytes: self.bytes,
            inventories: self.declared.inventories.clone(),
        })
    }
}

/// Every layer of these images, by its digest.
fn places(images: &[NamedImage]) -> BTreeMap<Digest, Place<'_>> {
    let mut places: BTreeMap<Digest, Place<'_>> = BTreeMap::new();
    for image in named::distinct(images).flat_map(|named| &named.graph.images) {
        for (layer, chain) in image.chained_layers() {
            let place = places.entry(layer.digest).or_insert_with(|| Place {
                layer,
                chains: BTreeSet::new(),
                is_of_images: true,
            });
            place.is_of_images &= image.is_runnable();
            place.chains.insert(chain);
        }
    }
    places
}

/// Everything that is in the archive besides these layers.
fn others(images: &[NamedImage], is_left_out: &dyn Fn(&Digest) -> bool) -> HashSet<Digest> {
    let mut others = HashSet::new();
    for named in named::distinct(images) {
        others.extend(named.graph.indexes.iter().map(|(index, _)| index.digest));
        let referrers = named.referrers.iter().flat_map(|referrer| referrer.graph.blobs());
        others.extend(referrers.map(|blob| blob.digest));
        for image in &named.graph.images {
            others.extend([image.descriptor.digest, image.manifest.config.digest]);
            let layers = image.manifest.layers.iter();
            let kept = layers.filter(|layer| !is_left_out(&layer.digest));
            others.extend(kept.map(|layer| named.provenance.layer(layer).digest));
        }
    }
    others
}

#[cfg(test)]
#[path = "omit_tests.rs"]
mod tests;
