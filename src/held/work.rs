//! Making images ready: their documents are looked for, then their layers; what is missing is packed; and then it
//! is settled what each image is.

use std::collections::HashMap;

use super::layers::{self, Layers, Missing};
use super::manifests::{self, Found};
use super::upstream::Upstream;
use super::{HeldImage, Holder, Holding};
use crate::archive::account::{LayerOrigin, ManifestOrigin, StandIn};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, Digest, Document, Graph, Platform, PlatformSelection, Reference};
use crate::rebuild::templates::{self, Blob};
use crate::rebuild::{Outcome, Packed};

/// What was made ready.
#[derive(Default)]
pub(super) struct Ready {
    /// By full reference.
    pub images: HashMap<String, Image>,
    /// The platforms of images that are there and were not asked for, by full reference.
    pub others: HashMap<String, Platform>,
    documents: HashMap<Digest, Vec<u8>>,
    /// Whether the holder's own documents are given out besides.
    pub is_open: bool,
    pub layers: Layers,
}

impl Ready {
    /// A document or config that is given out; `None` if there is none.
    pub fn document(&self, holder: &dyn Holder, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        if let Some(bytes) = self.documents.get(&descriptor.digest) {
            return Ok(Some(bytes.clone()));
        }
        if !self.is_open {
            return Ok(None);
        }
        let Some(bytes) = holder.document(&descriptor.digest)? else {
            return Ok(None);
        };
        // Of platforms that were not pulled an engine may have the manifest, but no config.
        if let Ok(Document::Manifest(manifest)) = Document::parse(&descriptor.media_type, bytes.clone())
            && holder.stored(&manifest.config.digest).is_none()
        {
            return Ok(None);
        }
        Ok(Some(bytes))
    }

    /// Everything below a manifest or index that is given out.
    pub fn walk(&self, holder: &dyn Holder, root: &Descriptor) -> Result<Graph> {
        Graph::walk(root, &PlatformSelection::Present, &mut |descriptor| {
            self.document(holder, descriptor)
        })
    }
}

/// One image that was made ready.
#[derive(Clone)]
pub(super) struct Image {
    pub root: Descriptor,
    pub stand_in: Option<StandIn>,
    pub origin: ManifestOrigin,
}

/// One image on the way there.
pub(super) struct Draft {
    reference: Reference,
    holding: Holding,
    /// The digests that it may be known by, the likeliest first.
    digests: Vec<Digest>,
    found: Option<Found>,
    /// Layers of its manifests that have to be packed, with their diff ids and places among the missing.
    pending: Vec<(Descriptor, Digest, usize)>,
    /// Its layers, base first, if the manifest is not known.
    unknown: Vec<Unknown>,
}

/// A layer of an image whose manifest is not known.
enum Unknown {
    /// The holder has it as it was stored somewhere.
    Stored(Descriptor),
    /// Its place among the missing.
    Missing(usize),
}

/// What is known of such a layer once the missing ones were packed.
enum Had<'a> {
    Stored(Descriptor),
    Packed(&'a Packed),
    Unmatched(String),
}

/// What it takes to make images ready.
pub(super) struct Work<'a> {
    pub holder: &'a dyn Holder,
    pub upstream: &'a Upstream,
    pub interrupt: &'a Interrupt,
    pub ready: Ready,
    pub missing: Missing,
}

impl Work<'_> {
    /// Looks for an image's documents.
    pub fn draft(
        &mut self,
        reference: &Reference,
        platforms: Option<&PlatformSelection>,
    ) -> Result<Option<Draft>> {
        self.interrupt.check()?;
        let holder = self.holder;
        let Some(holding) = holder.find(reference)? else {
            return Ok(None);
        };
        if let Some(platform) = misfit(&holding, platforms) {
            self.ready.others.insert(reference.full(), platform.clone());
            return Ok(None);
        }
        let digests = match reference.digest() {
            Some(digest) => vec![digest],
            None => holding.digests.clone(),
        };
        let repository = reference.repository();
        let found = manifests::find(holder, self.upstream, repository, &holding, &digests)?;
        if found.is_none() && holding.image.is_none() {
            return Err(Error::NotFound {
                what: format!("the manifest of {reference}"),
                place: holder.label().into(),
                hint: Some("the store names the image and does not hold it: pull it again".into()),
            });
        }
        Ok(Some(Draft {
            reference: reference.clone(),
            holding,
            digests,
            found,
            pending: Vec::new(),
            unknown: Vec::new(),
        }))
    }

    /// Looks where an image's layers are.
    pub fn look(&mut self, draft: &mut Draft) -> Result<()> {
        let holder = self.holder;
        let repository = draft.reference.repository();
        let Some(found) = &draft.found else {
            let image = draft.holding.image.iter();
            for diff_id in image.flat_map(|image| &image.config.diff_ids) {
                draft
                    .unknown
                    .push(match layers::stored(holder, repository, diff_id)? {
                        Some(layer) => Unknown::Stored(layer),
                        // Without a digest there is nothing that packing it could prove.
                        None if draft.digests.is_empty() => continue,
                        None => Unknown::Missing(self.missing.unknown(holder, repository, *diff_id)),
                    });
            }
            return Ok(());
        };
        self.ready.is_open |= draft.holding.image.is_none();
        self.ready.documents.extend(found.documents.clone());
        if let Some(image) = &draft.holding.image {
            self.ready.documents.insert(image.id, image.raw.to_vec());
        }
        let graph = self.ready.walk(holder, &found.root)?;
        for image in &graph.images {
            let diff_ids = image.config.as_ref().map(|config| config.diff_ids.as_slice());
            for (at, layer) in image.manifest.layers.iter().enumerate() {
                self.interrupt.check()?;
                let diff_id = diff_ids.and_then(|diff_ids| diff_ids.get(at)).copied();
                let (layers, missing) = (&mut self.ready.layers, &mut self.missing);
                let place = layers.look(holder, self.upstream, repository, layer, diff_id, missing)?;
                if let (Some(place), Some(diff_id)) = (place, diff_id) {
                    draft.pending.push((layer.clone(), diff_id, place));
                }
            }
        }
        Ok(())
    }

    /// Takes in what came of packing, and settles what an image is.
    pub fn settle(&mut self, draft: Draft, outcomes: &[Outcome]) -> Result<()> {
        for (layer, diff_id, place) in &draft.pending {
            self.ready
                .layers
                .settle(self.holder, layer, *diff_id, outcomes.get(*place))?;
        }
        let image = match (draft.found, &draft.holding.image) {
            (Some(found), _) => Image {
                root: found.root,
                stand_in: None,
                origin: found.origin,
            },
            (None, Some(image)) => {
                let had: Vec<Had<'_>> = draft
                    .unknown
                    .into_iter()
                    .map(|layer| had(layer, outcomes))
                    .collect();
                self.ready.documents.insert(image.id, image.raw.to_vec());
                match self.rebuilt(image, &draft.digests, &had) {
                    Some(image) => image,
                    // Only what the holder shows can be recorded.
                    None if draft.holding.digests.is_empty() && !draft.digests.is_empty() => {
                        return Err(unproven(&draft.reference, had, self.holder));
                    }
                    None => self.stand_in(image, &draft.digests, had)?,
                }
            }
            (None, None) => return Ok(()),
        };
        self.ready.images.insert(draft.reference.full(), image);
        Ok(())
    }

    /// The manifest that a tool would have written over the layers that were packed, if it hashes to a digest
    /// that the image is known by.
    fn rebuilt(&mut self, image: &HeldImage, digests: &[Digest], layers: &[Had<'_>]) -> Option<Image> {
        if layers.len() != image.config.diff_ids.len() {
            return None;
        }
        let config = Blob {
            digest: image.id,
            size: u64::try_from(image.raw.len()).unwrap_or(u64::MAX),
        };
        let blobs: Vec<Blob> = layers.iter().map(Had::blob).collect::<Option<_>>()?;
        let found = digests
            .iter()
            .find_map(|digest| Some((*digest, templates::find(digest, config, &blobs)?)));
        let (digest, rebuilt) = found?;
        for layer in layers {
            match layer {
                Had::Stored(layer) => drop(
                    self.ready
                        .layers
                        .origins
                        .insert(layer.digest, LayerOrigin::Stored),
                ),
                Had::Packed(packed) => self.ready.layers.pack(packed.digest, packed),
                Had::Unmatched(_) => {}
            }
        }
        let size = u64::try_from(rebuilt.bytes.len()).unwrap_or(u64::MAX);
        self.ready.documents.insert(digest, rebuilt.bytes);
        Some(Image {
            root: Descriptor::new(rebuilt.media_type, digest, size),
            stand_in: None,
            origin: ManifestOrigin::Rebuilt {
                by: rebuilt.template.users.into(),
            },
        })
    }

    /// The manifest that stands in for one that could not be had.
    fn stand_in(&mut self, image: &HeldImage, digests: &[Digest], layers: Vec<Had<'_>>) -> Result<Image> {
        let holder = self.holder;
        let mut list = Vec::new();
        let layers = layers
            .into_iter()
            .map(Some)
            .chain(std::iter::repeat_with(|| None));
        for (diff_id, layer) in image.config.diff_ids.iter().zip(layers) {
            if let Some(Had::Stored(layer)) = layer {
                self.ready
                    .layers
                    .origins
                    .insert(layer.digest, LayerOrigin::Stored);
                list.push(layer);
                continue;
            }
            if let Some(Had::Unmatched(reason)) = layer {
                let origin = LayerOrigin::Uncompressed { reason };
                self.ready.layers.origins.insert(*diff_id, origin);
            }
            let tar = layers::uncompressed(holder, *diff_id)?;
            list.push(tar.ok_or_else(|| layers::absent(holder, format!("layer {diff_id}")))?);
        }
        let (root, raw) = manifests::stand_in(image, &list)?;
        self.ready.documents.insert(root.digest, raw);
        let reason = match digests {
            [] => holder.undigested(),
            _ => "neither the store nor a registry has it, and no known tool would have written it so",
        };
        Ok(Image {
            root,
            stand_in: Some(StandIn {
                recorded: digests.first().copied(),
            }),
            origin: ManifestOrigin::StandIn {
                reason: reason.into(),
            },
        })
    }
}

/// What came of looking for a layer of an image whose manifest is not known.
fn had(layer: Unknown, outcomes: &[Outcome]) -> Had<'_> {
    match layer {
        Unknown::Stored(layer) => Had::Stored(layer),
        Unknown::Missing(place) => match outcomes.get(place) {
            Some(Outcome::Packed(packed)) => Had::Packed(packed),
            Some(Outcome::Unmatched { reason, .. }) => Had::Unmatched(reason.to_string()),
            None => Had::Unmatched(layers::SWITCHED_OFF.into()),
        },
    }
}

impl Had<'_> {
    fn blob(&self) -> Option<Blob> {
        let (digest, size) = match self {
            Had::Stored(layer) => (layer.digest, layer.size),
            Had::Packed(packed) => (packed.digest, packed.size),
            Had::Unmatched(_) => return None,
        };
        Some(Blob { digest, size })
    }
}

/// What is said where a digest was asked for that nothing here shows or proves.
fn unproven(reference: &Reference, layers: Vec<Had<'_>>, holder: &dyn Holder) -> Error {
    let unmatched = layers.into_iter().find_map(|layer| match layer {
        Had::Unmatched(reason) => Some(format!("a layer cannot be packed as it was: {reason}")),
        Had::Stored(_) | Had::Packed(_) => None,
    });
    let reason =
        unmatched.unwrap_or_else(|| "no known tool would have written a manifest with this digest".into());
    Error::NotShown {
        message: format!(
            "{reference}: {} does not prove the digest: {reason}",
            holder.label()
        ),
        hint: Some("asked for by its tag, the image is saved without a digest".into()),
    }
}

/// The platform of an engine's one image, if it is none, or not all, of those that are asked for.
fn misfit<'a>(holding: &'a Holding, platforms: Option<&PlatformSelection>) -> Option<&'a Platform> {
    let platform = &holding.image.as_ref()?.config.platform;
    match platforms {
        Some(PlatformSelection::Only(wanted)) => {
            let is_all = wanted.iter().all(|one| one.matches(platform));
            (!is_all).then_some(platform)
        }
        _ => None,
    }
}
