//! Images whose manifest is not known: it is written again as a tool would have, which its digest proves; else
//! another one stands in for it.

use super::HeldImage;
use super::layers;
use super::manifests;
use super::work::{Draft, Image, Work, length};
use crate::archive::account::{LayerOrigin, ManifestOrigin, StandIn};
use crate::error::Result;
use crate::oci::{Compression, Descriptor, Kind, MediaType};
use crate::rebuild::templates::{self, Blob};
use crate::rebuild::{Outcome, Packed};

/// Why a name has no digest whose image has some under other names.
const UNTRIED: &str = "it was never pulled or pushed under this name";

/// A layer of an image whose manifest is not known.
pub(super) enum Unknown {
    /// The holder has it as it was stored somewhere.
    Stored(Descriptor),
    /// Its place among the missing.
    Missing(usize),
    /// The image has no digest: there is nothing that packing it could prove.
    Plain,
}

/// What is known of such a layer once the missing ones were packed.
enum Had<'a> {
    Stored(&'a Descriptor),
    Packed(&'a Packed),
    Unmatched(String),
    Plain,
}

impl Work<'_> {
    /// Looks where the layers of an image are whose manifest is not known.
    pub(super) fn look_for_unknown(&mut self, draft: &mut Draft) -> Result<()> {
        let (holder, repository) = (self.holder, draft.reference.repository());
        let image = draft.image.iter();
        for diff_id in image.flat_map(|image| &image.config.diff_ids) {
            self.interrupt.check()?;
            draft
                .unknown
                .push(match layers::stored(holder, repository, diff_id)? {
                    Some(layer) => Unknown::Stored(layer),
                    None if draft.digest.is_none() => Unknown::Plain,
                    None => Unknown::Missing(self.missing.unknown(holder, repository, *diff_id)),
                });
        }
        Ok(())
    }

    /// The manifest that a tool would have written over the layers that were packed, if it hashes to the digest
    /// that the image is to have.
    pub(super) fn rebuilt(
        &mut self,
        draft: &Draft,
        image: &HeldImage,
        outcomes: &[Outcome],
    ) -> Option<Image> {
        let digest = draft.digest?;
        let layers = had(&draft.unknown, outcomes);
        let config = Blob {
            digest: image.id,
            size: length(&image.raw),
        };
        let blobs: Vec<Blob> = layers.iter().map(Had::blob).collect::<Option<_>>()?;
        let rebuilt = templates::find(&digest, config, &blobs)?;
        for layer in layers {
            match layer {
                Had::Stored(layer) => drop(
                    self.ready
                        .layers
                        .origins
                        .insert(layer.digest, LayerOrigin::Stored),
                ),
                Had::Packed(packed) => self.ready.layers.pack(packed.digest, packed),
                Had::Unmatched(_) | Had::Plain => {}
            }
        }
        let size = length(&rebuilt.bytes);
        self.ready.documents.insert(image.id, image.raw.to_vec());
        self.ready.documents.insert(digest, rebuilt.bytes);
        Some(Image {
            root: Descriptor::new(rebuilt.media_type, digest, size),
            image_id: Some(image.id),
            stand_in: None,
            origin: ManifestOrigin::Rebuilt {
                by: rebuilt.template.users.into(),
            },
        })
    }

    /// The manifest that stands in for one that could not be had: `same`, which was found for the same image under
    /// another digest, else one that is made over its layers.
    pub(super) fn stand_in(
        &mut self,
        draft: &Draft,
        image: &HeldImage,
        same: Option<&Descriptor>,
        outcomes: &[Outcome],
    ) -> Result<Image> {
        self.ready.documents.insert(image.id, image.raw.to_vec());
        let root = match same {
            Some(root) => self.in_place_of(image, root)?,
            None => self.made(draft, image, outcomes)?,
        };
        let reason = match draft.digest {
            None if draft.reference.is_nameless() => "it was saved without a name",
            None if draft.has_others => UNTRIED,
            None => self.holder.undigested(),
            Some(_) => "neither the store nor a registry has it, and no known tool would have written it so",
        };
        Ok(Image {
            root,
            image_id: Some(image.id),
            stand_in: Some(StandIn {
                recorded: draft.digest,
            }),
            origin: ManifestOrigin::StandIn {
                reason: reason.into(),
            },
        })
    }

    /// A manifest of the same image as it is; if some of its layers are here only uncompressed, one that names
    /// those so, as every engine takes that.
    fn in_place_of(&mut self, image: &HeldImage, root: &Descriptor) -> Result<Descriptor> {
        let graph = self.ready.walk(self.holder, root)?;
        let manifest = graph.images.iter().find(|found| found.id() == image.id);
        let layers = &mut self.ready.layers;
        let mut is_whole = true;
        let mut list = Vec::new();
        for layer in manifest.iter().flat_map(|found| &found.manifest.layers) {
            let tar = layers.uncompressed.get(&layer.digest).cloned();
            if let (Some(tar), Some(origin)) = (&tar, layers.origins.get(&layer.digest).cloned()) {
                is_whole = false;
                layers.origins.entry(tar.digest).or_insert(origin);
            }
            list.push(tar.unwrap_or_else(|| in_oci_terms(layer)));
        }
        if is_whole {
            return Ok(root.clone());
        }
        let (root, raw) = manifests::stand_in(image, &list)?;
        self.ready.documents.insert(root.digest, raw);
        Ok(root)
    }

    /// A manifest over an image's layers as they are here.
    fn made(&mut self, draft: &Draft, image: &HeldImage, outcomes: &[Outcome]) -> Result<Descriptor> {
        let holder = self.holder;
        let mut list = Vec::new();
        for (diff_id, layer) in image.config.diff_ids.iter().zip(had(&draft.unknown, outcomes)) {
            let origins = &mut self.ready.layers.origins;
            if let Had::Stored(layer) = layer {
                layers::prove(holder, layer, *diff_id, self.interrupt)?;
                origins.entry(layer.digest).or_insert(LayerOrigin::Stored);
                list.push(layer.clone());
                continue;
            }
            if let Had::Unmatched(reason) = layer {
                let origin = LayerOrigin::Uncompressed { reason };
                origins.entry(*diff_id).or_insert(origin);
            }
            let tar = layers::uncompressed(holder, *diff_id)?;
            list.push(tar.ok_or_else(|| layers::absent(holder, format!("layer {diff_id}")))?);
        }
        let (root, raw) = manifests::stand_in(image, &list)?;
        self.ready.documents.insert(root.digest, raw);
        Ok(root)
    }
}

/// A layer's descriptor for an OCI manifest.
fn in_oci_terms(layer: &Descriptor) -> Descriptor {
    let media_type = match layer.media_type.kind() {
        Kind::Layer(Compression::Gzip) => MediaType::OCI_LAYER_GZIP,
        Kind::Layer(Compression::Zstd) => MediaType::OCI_LAYER_ZSTD,
        Kind::Layer(Compression::None) => MediaType::OCI_LAYER,
        _ => return layer.clone(),
    };
    Descriptor::new(MediaType::new(media_type), layer.digest, layer.size)
}

/// What came of looking for the layers of an image whose manifest is not known.
fn had<'a>(layers: &'a [Unknown], outcomes: &'a [Outcome]) -> Vec<Had<'a>> {
    let one = |layer: &'a Unknown| match layer {
        Unknown::Stored(layer) => Had::Stored(layer),
        Unknown::Missing(place) => match outcomes.get(*place) {
            Some(Outcome::Packed(packed)) => Had::Packed(packed),
            Some(Outcome::Unmatched { reason, .. }) => Had::Unmatched(reason.to_string()),
            None => Had::Unmatched(layers::SWITCHED_OFF.into()),
        },
        Unknown::Plain => Had::Plain,
    };
    layers.iter().map(one).collect()
}

impl Had<'_> {
    fn blob(&self) -> Option<Blob> {
        let (digest, size) = match self {
            Had::Stored(layer) => (layer.digest, layer.size),
            Had::Packed(packed) => (packed.digest, packed.size),
            Had::Unmatched(_) | Had::Plain => return None,
        };
        Some(Blob { digest, size })
    }
}
