//! Images whose manifest is lost and cannot be recovered: a substitute replaces it.

use super::BareImage;
use super::draft::Draft;
use super::layers;
use super::manifests;
use super::ready::ReadyImage;
use super::recovery::Recovery;
use crate::error::Result;
use crate::image::provenance::{LayerOrigin, ManifestOrigin, Substitute};
use crate::oci::{Compression, Descriptor, Kind, MediaType};

/// Why a name has no digest, if its image has some under other names.
const UNTRIED: &str = "it was never pulled or pushed under this name";
/// Where the manifest of a digest was not found.
const NOWHERE: &str = "neither the store nor a registry has it";

impl Recovery<'_> {
    /// The substitute for a lost manifest: `same`, the manifest of the same image under another digest, if
    /// there is one, else one made over its layers.
    pub(super) fn substitute(
        &mut self,
        draft: &Draft,
        image: &BareImage,
        same: Option<&Descriptor>,
    ) -> Result<ReadyImage> {
        self.ready.documents.insert(image.id, image.raw.to_vec());
        let root = match same {
            Some(root) => self.in_place_of(image, root)?,
            None => self.made(draft, image)?,
        };
        let reason = match (draft.digest, &draft.unrecovered) {
            (None, _) if draft.reference.is_nameless() => "it was saved without a name".into(),
            (None, _) if draft.has_others => UNTRIED.into(),
            (None, _) => self.store.undigested().into(),
            (Some(_), None) => NOWHERE.into(),
            (Some(_), Some(why)) => format!("{NOWHERE}, and it cannot be rebuilt: {why}"),
        };
        Ok(ReadyImage {
            root,
            image_id: Some(image.id),
            substitute: Some(Substitute {
                recorded: draft.digest,
            }),
            origin: ManifestOrigin::Substitute { reason },
        })
    }

    /// A manifest of the same image, unchanged. If some of its layers are present only uncompressed, one that
    /// names those, because every engine accepts that.
    fn in_place_of(&mut self, image: &BareImage, root: &Descriptor) -> Result<Descriptor> {
        let graph = self.ready.walk(self.store, root)?;
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
        let (root, raw) = manifests::substitute(image, &list)?;
        self.ready.documents.insert(root.digest, raw);
        Ok(root)
    }

    /// A manifest over an image's layers as they are present.
    fn made(&mut self, draft: &Draft, image: &BareImage) -> Result<Descriptor> {
        let store = self.store;
        let mut list = Vec::new();
        for diff_id in &image.config.diff_ids {
            self.interrupt.check()?;
            let origins = &mut self.ready.layers.origins;
            if let Some(layer) = layers::stored(store, draft.reference.repository(), diff_id)? {
                layers::prove(store, &layer, *diff_id, self.interrupt)?;
                origins.entry(layer.digest).or_insert(LayerOrigin::Stored);
                list.push(layer);
                continue;
            }
            if let Some(reason) = draft.reasons.get(diff_id).cloned() {
                let origin = LayerOrigin::Uncompressed { reason };
                origins.entry(*diff_id).or_insert(origin);
            }
            let tar = layers::uncompressed(store, *diff_id)?;
            list.push(tar.ok_or_else(|| layers::absent(store, format!("layer {diff_id}")))?);
        }
        let (root, raw) = manifests::substitute(image, &list)?;
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
