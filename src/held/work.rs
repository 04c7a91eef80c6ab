//! Making images ready: their documents are looked for, then their layers; what is missing is packed; and then it
//! is settled what each image is.

use std::collections::HashMap;

use super::layers::{self, Layers, Missing};
use super::manifests::{self, Found};
use super::upstream::Upstream;
use super::{HeldImage, Holder, Holding};
use crate::archive::account::{LayerOrigin, ManifestOrigin, StandIn};
use crate::error::{Error, Place, Problem, Result};
use crate::interrupt::Interrupt;
use crate::oci::graph::MAX_ALL_DESCRIPTORS;
use crate::oci::{
    Descriptor, Digest, Document, Graph, Image as GraphImage, Platform, PlatformSelection, Reference,
};
use crate::rebuild::templates::{self, Blob};
use crate::rebuild::{Outcome, Packed};

/// Why an image is not given by a digest that nobody shows for it.
pub(super) const UNPROVEN: &str = "it has an image of that name, and nothing shows that it is the one of this digest: asked for \
                        without the digest it is saved as one that has none";

/// What was made ready.
#[derive(Default)]
pub(super) struct Ready {
    /// By full reference.
    pub images: HashMap<String, Image>,
    documents: HashMap<Digest, Vec<u8>>,
    /// Whether the holder's own documents are given out besides.
    pub is_open: bool,
    pub layers: Layers,
    /// By full reference: why an image that is here is not given for it.
    pub left_out: HashMap<String, String>,
}

impl Ready {
    /// A document or config that is given out; `None` if there is none.
    pub fn document(&self, holder: &dyn Holder, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        let bytes = match self.documents.get(&descriptor.digest) {
            Some(bytes) => Some(bytes.clone()),
            None if self.is_open => holder.document(&descriptor.digest)?,
            None => None,
        };
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        let (expected, found) = (descriptor.size, length(&bytes));
        if found != expected {
            let place = Place::blob(descriptor.digest).within(holder.label());
            return Err(Error::refused(place, Problem::SizeDiffers { expected, found }));
        }
        if !self.is_open {
            return Ok(Some(bytes));
        }
        // Of platforms that were not pulled an engine may have the manifest, but no config.
        if let Ok(Document::Manifest(manifest)) = Document::parse(&descriptor.media_type, bytes.clone())
            && holder.stored(&manifest.config.digest)?.is_none()
        {
            return Ok(None);
        }
        Ok(Some(bytes))
    }

    /// Whether an image is given without a document of its index.
    pub fn leaves_out(&self, holder: &dyn Holder, reference: &Reference, document: &Descriptor) -> bool {
        // What cannot be read is not left out: the error is told when it is.
        self.images.contains_key(&reference.full()) && matches!(self.document(holder, document), Ok(None))
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
    /// The digests that it may be known by, each with a repository, the likeliest first.
    digests: Vec<Reference>,
    found: Option<Found>,
    /// Layers of its manifests that have to be packed, with their diff ids and places among the missing.
    pending: Vec<(Descriptor, Digest, usize)>,
    /// Its layers, base first, if the manifest is not known.
    unknown: Vec<Unknown>,
    /// Whether it turned out not to be what was asked for.
    is_left_out: bool,
}

/// A layer of an image whose manifest is not known.
enum Unknown {
    /// The holder has it as it was stored somewhere.
    Stored(Descriptor),
    /// Its place among the missing.
    Missing(usize),
    /// The image has no digest: there is nothing that packing it could prove.
    Plain,
}

/// What is known of such a layer once the missing ones were packed.
enum Had<'a> {
    Stored(Descriptor),
    Packed(&'a Packed),
    Unmatched(String),
    Plain,
}

/// What it takes to make images ready.
pub(super) struct Work<'a> {
    pub holder: &'a dyn Holder,
    pub upstream: &'a Upstream,
    pub interrupt: &'a Interrupt,
    pub ready: Ready,
    pub missing: Missing,
    /// Layers of all images, each name's counted.
    pub layers: usize,
}

impl Work<'_> {
    /// Counts what is held in memory until all images are ready.
    fn count(&mut self, image: &HeldImage) -> Result<()> {
        self.layers = self.layers.saturating_add(image.config.diff_ids.len());
        if self.layers <= MAX_ALL_DESCRIPTORS {
            return Ok(());
        }
        let limit = MAX_ALL_DESCRIPTORS;
        let place = Place::default().within(format!("layers of all images in {}", self.holder.label()));
        Err(Error::refused(place, Problem::TooMany { limit }))
    }

    /// Looks for an image's documents. Nothing is given for an image that is not here, or is left out.
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
        if let Some(image) = &holding.image {
            self.count(image)?;
        }
        if let Some(image) = &holding.image
            && !fits(image, platforms)
        {
            self.leave_out(reference, format!("it has it for {}", image.config.platform));
            return Ok(None);
        }
        let digests = match reference.digest() {
            Some(digest) => vec![Reference::digested(reference.repository(), digest)],
            None => holding.digests.clone(),
        };
        let found = manifests::find(holder, self.upstream, &holding, &digests)?;
        if let (Some(found), Some(image)) = (&found, &holding.image)
            && found.is_part
            && platforms == Some(&PlatformSelection::All)
        {
            let reason = format!(
                "it has it for {} only, of several platforms",
                image.config.platform
            );
            self.leave_out(reference, reason);
            return Ok(None);
        }
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
            is_left_out: false,
        }))
    }

    fn leave_out(&mut self, reference: &Reference, reason: String) {
        self.ready.left_out.insert(reference.full(), reason);
    }

    /// Looks where an image's layers are.
    pub fn look(&mut self, draft: &mut Draft, platforms: Option<&PlatformSelection>) -> Result<()> {
        let Some(found) = &mut draft.found else {
            return self.look_for_unknown(draft);
        };
        let holder = self.holder;
        self.ready.is_open |= draft.holding.image.is_none();
        self.ready.documents.extend(std::mem::take(&mut found.documents));
        if let Some(image) = &draft.holding.image {
            self.ready.documents.insert(image.id, image.raw.to_vec());
        }
        let graph = self.ready.walk(holder, &found.root)?;
        let wanted = match (&draft.holding.image, platforms) {
            (None, Some(PlatformSelection::Only(wanted))) => wanted.as_slice(),
            _ => &[],
        };
        if let Some(offered) = lacking(&graph, wanted) {
            let reason = format!("it has it for {}", offered.join(", "));
            draft.is_left_out = true;
            self.leave_out(&draft.reference, reason);
            return Ok(());
        }
        for image in graph
            .images
            .iter()
            .filter(|image| is_among(image, &graph, wanted))
        {
            let diff_ids = image.config.as_ref().map(|config| config.diff_ids.as_slice());
            for (at, layer) in image.manifest.layers.iter().enumerate() {
                self.interrupt.check()?;
                let diff_id = diff_ids.and_then(|diff_ids| diff_ids.get(at)).copied();
                let (layers, missing) = (&mut self.ready.layers, &mut self.missing);
                let place = layers.look(holder, self.upstream, &found.repository, layer, diff_id, missing);
                let place = place.map_err(|error| of(error, &draft.reference))?;
                if let (Some(place), Some(diff_id)) = (place, diff_id) {
                    draft.pending.push((layer.clone(), diff_id, place));
                }
            }
        }
        Ok(())
    }

    /// The same for an image whose manifest is not known.
    fn look_for_unknown(&mut self, draft: &mut Draft) -> Result<()> {
        let (holder, repository) = (self.holder, draft.reference.repository());
        let image = draft.holding.image.iter();
        for diff_id in image.flat_map(|image| &image.config.diff_ids) {
            self.interrupt.check()?;
            draft
                .unknown
                .push(match layers::stored(holder, repository, diff_id)? {
                    Some(layer) => Unknown::Stored(layer),
                    None if draft.digests.is_empty() => Unknown::Plain,
                    None => Unknown::Missing(self.missing.unknown(holder, repository, *diff_id)),
                });
        }
        Ok(())
    }

    /// Takes in what came of packing, and settles what an image is.
    pub fn settle(&mut self, draft: Draft, outcomes: &[Outcome]) -> Result<()> {
        if draft.is_left_out {
            return Ok(());
        }
        for (layer, diff_id, place) in &draft.pending {
            let layers = &mut self.ready.layers;
            let settled = layers.settle(self.holder, layer, *diff_id, outcomes.get(*place));
            settled.map_err(|error| of(error, &draft.reference))?;
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
                let is_shown = |asked| {
                    draft
                        .holding
                        .digests
                        .iter()
                        .any(|name| name.digest() == Some(asked))
                };
                match self.rebuilt(image, &draft.digests, &had) {
                    Some(image) => image,
                    // Nobody but the user says that it is this digest.
                    None if !draft.reference.digest().is_none_or(is_shown) => {
                        self.leave_out(&draft.reference, UNPROVEN.into());
                        return Ok(());
                    }
                    None => self
                        .stand_in(image, &draft.digests, had)
                        .map_err(|error| of(error, &draft.reference))?,
                }
            }
            (None, None) => return Ok(()),
        };
        self.ready.images.insert(draft.reference.full(), image);
        Ok(())
    }

    /// The manifest that a tool would have written over the layers that were packed, if it hashes to a digest
    /// that the image is known by.
    fn rebuilt(&mut self, image: &HeldImage, digests: &[Reference], layers: &[Had<'_>]) -> Option<Image> {
        let config = Blob {
            digest: image.id,
            size: length(&image.raw),
        };
        let blobs: Vec<Blob> = layers.iter().map(Had::blob).collect::<Option<_>>()?;
        let found = digests
            .iter()
            .filter_map(Reference::digest)
            .find_map(|digest| Some((digest, templates::find(&digest, config, &blobs)?)));
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
                Had::Unmatched(_) | Had::Plain => {}
            }
        }
        let size = length(&rebuilt.bytes);
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
    fn stand_in(&mut self, image: &HeldImage, digests: &[Reference], layers: Vec<Had<'_>>) -> Result<Image> {
        let holder = self.holder;
        let mut list = Vec::new();
        for (diff_id, layer) in image.config.diff_ids.iter().zip(layers) {
            let origins = &mut self.ready.layers.origins;
            if let Had::Stored(layer) = layer {
                layers::prove(holder, &layer, *diff_id, self.interrupt)?;
                origins.entry(layer.digest).or_insert(LayerOrigin::Stored);
                list.push(layer);
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
        let reason = match digests {
            [] => holder.undigested(),
            _ => "neither the store nor a registry has it, and no known tool would have written it so",
        };
        Ok(Image {
            root,
            stand_in: Some(StandIn {
                recorded: digests.iter().find_map(Reference::digest),
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
        Unknown::Plain => Had::Plain,
    }
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

/// Whether an engine's one image is of a platform that was asked for.
fn fits(image: &HeldImage, platforms: Option<&PlatformSelection>) -> bool {
    match platforms {
        Some(PlatformSelection::Only(wanted)) => wanted
            .iter()
            .all(|platform| platform.matches(&image.config.platform)),
        _ => true,
    }
}

/// The platforms that there are, if those that are wanted are not all among them.
fn lacking(graph: &Graph, wanted: &[Platform]) -> Option<Vec<String>> {
    let absent = graph.absent.iter().filter_map(|entry| entry.platform.as_ref());
    let present = graph.runnable().filter_map(GraphImage::platform);
    let mut offered: Vec<&Platform> = present.chain(absent).collect();
    offered.retain(|platform| !platform.is_unknown());
    let is_there = |platform: &Platform| offered.iter().any(|offered| platform.matches(offered));
    if offered.is_empty() || wanted.iter().all(is_there) {
        return None;
    }
    let mut names: Vec<String> = offered.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    Some(names)
}

/// Whether an image is wanted, or goes along with what is. All are if none is named.
fn is_among(image: &GraphImage, graph: &Graph, wanted: &[Platform]) -> bool {
    if wanted.is_empty() {
        return true;
    }
    if let Some(attested) = image.descriptor.attests() {
        let mut images = graph.runnable();
        let attested = images.find(|image| image.descriptor.digest.to_string() == attested);
        return attested.is_some_and(|image| is_among(image, graph, wanted));
    }
    let platform = image.platform().filter(|platform| !platform.is_unknown());
    platform.is_none_or(|offered| wanted.iter().any(|platform| platform.matches(offered)))
}

/// The error of an image.
fn of(error: Error, reference: &Reference) -> Error {
    match error {
        Error::NotFound { what, place, hint } => Error::NotFound {
            what: format!("{what} of {reference}"),
            place,
            hint,
        },
        other => other,
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
