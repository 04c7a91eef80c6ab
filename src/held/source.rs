//! What a holder has, as a source: made ready all at once, then given out like anything else.

use std::collections::HashMap;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::layers::{self, Layers, Missing};
use super::manifests::{self, Found};
use super::upstream::Upstream;
use super::{HeldImage, Holder, Holding};
use crate::archive::account::{Account, Evidence, LayerOrigin, ManifestOrigin, Provenance, StandIn};
use crate::error::{Error, Place, Problem, Result};
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, Digest, Document, Graph, PlatformSelection, Reference, Repository};
use crate::progress::Progress;
use crate::rebuild::templates::{self, Blob};
use crate::rebuild::{Outcome, Packed};
use crate::source::Source;
use crate::transfer;

/// Whether what is missing is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rebuild {
    /// Where it can be; layers that cannot be packed as they were go uncompressed.
    #[default]
    Auto,
    /// Never.
    Never,
    /// An image of which something cannot be proven is an error.
    Require,
}

/// How images are made ready.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether what is missing is made again.
    pub rebuild: Rebuild,
    /// Where layers that were packed again are kept until they are in the archive: about as many bytes.
    pub tmpdir: PathBuf,
    /// Layers that are packed at once.
    pub jobs: NonZeroUsize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            rebuild: Rebuild::default(),
            tmpdir: std::env::temp_dir(),
            jobs: transfer::JOBS,
        }
    }
}

/// A [`Holder`] as a [`Source`].
pub struct HeldSource {
    holder: Box<dyn Holder>,
    upstream: Upstream,
    options: Options,
    progress: Arc<dyn Progress>,
    interrupt: Interrupt,
    ready: Mutex<Ready>,
}

/// What was made ready.
#[derive(Default)]
struct Ready {
    /// By full reference.
    images: HashMap<String, Image>,
    documents: HashMap<Digest, Vec<u8>>,
    /// Whether the holder's own documents are given out besides.
    is_open: bool,
    layers: Layers,
}

/// One image that was made ready.
#[derive(Clone)]
struct Image {
    root: Descriptor,
    stand_in: Option<StandIn>,
    origin: ManifestOrigin,
}

/// One image on the way there.
struct Draft {
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

impl HeldSource {
    /// Makes a source of a holder, and of a registry that may be out of reach.
    pub fn new(
        holder: Box<dyn Holder>,
        upstream: Option<Arc<dyn Source>>,
        options: Options,
        progress: Arc<dyn Progress>,
        interrupt: Interrupt,
    ) -> HeldSource {
        HeldSource {
            holder,
            upstream: Upstream::new(upstream, progress.clone()),
            options,
            progress,
            interrupt,
            ready: Mutex::default(),
        }
    }

    fn ready(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for an image's documents.
    fn draft(&self, reference: &Reference, platforms: Option<&PlatformSelection>) -> Result<Option<Draft>> {
        self.interrupt.check()?;
        let holder = self.holder.as_ref();
        let Some(holding) = holder.find(reference)? else {
            return Ok(None);
        };
        if !fits(&holding, platforms) {
            return Ok(None);
        }
        let digests = match reference.digest() {
            Some(digest) => vec![digest],
            None => holding.digests.clone(),
        };
        let repository = reference.repository();
        let found = manifests::find(holder, &self.upstream, repository, &holding, &digests)?;
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
    fn look(&self, draft: &mut Draft, ready: &mut Ready, missing: &mut Missing) -> Result<()> {
        let holder = self.holder.as_ref();
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
                        None => Unknown::Missing(missing.unknown(holder, repository, *diff_id)),
                    });
            }
            return Ok(());
        };
        ready.is_open |= draft.holding.image.is_none();
        ready.documents.extend(found.documents.clone());
        if let Some(image) = &draft.holding.image {
            ready.documents.insert(image.id, image.raw.to_vec());
        }
        let graph = Graph::walk(&found.root, &PlatformSelection::Present, &mut |descriptor| {
            self.document(ready, descriptor)
        })?;
        for image in &graph.images {
            let diff_ids = image.config.as_ref().map(|config| config.diff_ids.as_slice());
            for (at, layer) in image.manifest.layers.iter().enumerate() {
                self.interrupt.check()?;
                let diff_id = diff_ids.and_then(|diff_ids| diff_ids.get(at)).copied();
                let layers = &mut ready.layers;
                let place = layers.look(holder, &self.upstream, repository, layer, diff_id, missing)?;
                if let (Some(place), Some(diff_id)) = (place, diff_id) {
                    draft.pending.push((layer.clone(), diff_id, place));
                }
            }
        }
        Ok(())
    }

    /// A document or config that is given out; `None` if there is none.
    fn document(&self, ready: &Ready, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        if let Some(bytes) = ready.documents.get(&descriptor.digest) {
            return Ok(Some(bytes.clone()));
        }
        if !ready.is_open {
            return Ok(None);
        }
        let Some(bytes) = self.holder.document(&descriptor.digest)? else {
            return Ok(None);
        };
        // Of platforms that were not pulled an engine may have the manifest, but no config.
        if let Ok(Document::Manifest(manifest)) = Document::parse(&descriptor.media_type, bytes.clone())
            && self.holder.stored(&manifest.config.digest).is_none()
        {
            return Ok(None);
        }
        Ok(Some(bytes))
    }

    /// Takes in what came of packing, and settles what an image is.
    fn settle(&self, draft: Draft, ready: &mut Ready, outcomes: &[Outcome]) -> Result<()> {
        let holder = self.holder.as_ref();
        for (layer, diff_id, place) in &draft.pending {
            ready
                .layers
                .settle(holder, layer, *diff_id, outcomes.get(*place))?;
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
                ready.documents.insert(image.id, image.raw.to_vec());
                match self.rebuilt(image, &draft.digests, &had, ready) {
                    Some(image) => image,
                    None => self.stand_in(image, &draft.digests, had, ready)?,
                }
            }
            (None, None) => return Ok(()),
        };
        ready.images.insert(draft.reference.full(), image);
        Ok(())
    }

    /// The manifest that a tool would have written over the layers that were packed, if it hashes to a digest
    /// that the image is known by.
    fn rebuilt(
        &self,
        image: &HeldImage,
        digests: &[Digest],
        layers: &[Had<'_>],
        ready: &mut Ready,
    ) -> Option<Image> {
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
                Had::Stored(layer) => drop(ready.layers.origins.insert(layer.digest, LayerOrigin::Stored)),
                Had::Packed(packed) => ready.layers.pack(packed.digest, packed),
                Had::Unmatched(_) => {}
            }
        }
        let size = u64::try_from(rebuilt.bytes.len()).unwrap_or(u64::MAX);
        ready.documents.insert(digest, rebuilt.bytes);
        Some(Image {
            root: Descriptor::new(rebuilt.media_type, digest, size),
            stand_in: None,
            origin: ManifestOrigin::Rebuilt {
                by: rebuilt.template.users.into(),
            },
        })
    }

    /// The manifest that stands in for one that could not be had.
    fn stand_in(
        &self,
        image: &HeldImage,
        digests: &[Digest],
        layers: Vec<Had<'_>>,
        ready: &mut Ready,
    ) -> Result<Image> {
        let holder = self.holder.as_ref();
        let mut list = Vec::new();
        let layers = layers
            .into_iter()
            .map(Some)
            .chain(std::iter::repeat_with(|| None));
        for (diff_id, layer) in image.config.diff_ids.iter().zip(layers) {
            if let Some(Had::Stored(layer)) = layer {
                ready.layers.origins.insert(layer.digest, LayerOrigin::Stored);
                list.push(layer);
                continue;
            }
            if let Some(Had::Unmatched(reason)) = layer {
                let origin = LayerOrigin::Uncompressed { reason };
                ready.layers.origins.insert(*diff_id, origin);
            }
            let tar = layers::uncompressed(holder, *diff_id)?;
            list.push(tar.ok_or_else(|| self.absent(format!("layer {diff_id}")))?);
        }
        let (root, raw) = manifests::stand_in(image, &list)?;
        ready.documents.insert(root.digest, raw);
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

    /// Refuses images of which something is not proven.
    fn require(&self, references: &[Reference]) -> Result<()> {
        let mut unproven = Vec::new();
        for reference in references {
            let Some(image) = self.ready().images.get(&reference.full()).cloned() else {
                continue;
            };
            let graph = self.walk(&image.root)?;
            let account = self.account(reference, &graph)?;
            let Some(provenance) = &account.provenance else {
                continue;
            };
            if account.evidence() != Evidence::Verified || !account.uncompressed.is_empty() {
                unproven.push(format!("{reference}: {provenance}"));
            }
        }
        if unproven.is_empty() {
            return Ok(());
        }
        Err(Error::NotShown {
            message: unproven.join("; "),
            hint: Some("nothing was written; --rebuild auto saves what there is, and says what it is".into()),
        })
    }

    fn walk(&self, root: &Descriptor) -> Result<Graph> {
        let ready = self.ready();
        Graph::walk(root, &PlatformSelection::Present, &mut |descriptor| {
            self.document(&ready, descriptor)
        })
    }

    fn absent(&self, what: String) -> Error {
        Error::NotFound {
            what,
            place: self.holder.label().into(),
            hint: self.holder.references().ok().map(|names| match names.as_slice() {
                [] => "it has no images".into(),
                names => {
                    let shown: Vec<String> = names.iter().take(10).map(Reference::familiar).collect();
                    let more = match names.len() - shown.len() {
                        0 => String::new(),
                        more => format!(" and {more} more"),
                    };
                    format!("it has {}{more}", shown.join(", "))
                }
            }),
        }
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

/// Whether an engine's one image is of a platform that was asked for.
fn fits(holding: &Holding, platforms: Option<&PlatformSelection>) -> bool {
    match (&holding.image, platforms) {
        (Some(image), Some(PlatformSelection::Only(wanted))) => wanted
            .iter()
            .all(|platform| platform.matches(&image.config.platform)),
        _ => true,
    }
}

impl Source for HeldSource {
    fn prepare(&self, references: &[Reference], platforms: Option<&PlatformSelection>) -> Result<()> {
        self.progress.phase("looking for manifests", None);
        self.holder.gather(references)?;
        let mut drafts = Vec::new();
        for reference in references {
            drafts.extend(self.draft(reference, platforms)?);
        }
        let mut missing = Missing::default();
        let mut ready = Ready::default();
        for draft in &mut drafts {
            self.look(draft, &mut ready, &mut missing)?;
        }
        let (progress, interrupt) = (self.progress.as_ref(), &self.interrupt);
        let outcomes = missing.pack(self.holder.as_ref(), &self.options, progress, interrupt)?;
        for draft in drafts {
            self.settle(draft, &mut ready, &outcomes)?;
        }
        *self.ready() = ready;
        match self.options.rebuild {
            Rebuild::Require => self.require(references),
            Rebuild::Auto | Rebuild::Never => Ok(()),
        }
    }

    fn selection(&self, _: &Reference, asked: Option<&PlatformSelection>) -> PlatformSelection {
        // An engine's image is of one platform, which was compared already.
        match asked {
            Some(asked) if self.ready().is_open => asked.clone(),
            _ => PlatformSelection::Present,
        }
    }

    fn origin(&self, _: &Reference) -> String {
        self.holder.label().into()
    }

    fn resolve(&self, reference: &Reference) -> Result<Descriptor> {
        let root = self
            .ready()
            .images
            .get(&reference.full())
            .map(|image| image.root.clone());
        root.ok_or_else(|| self.absent(reference.familiar()))
    }

    fn account(&self, reference: &Reference, graph: &Graph) -> Result<Account> {
        let ready = self.ready();
        let Some(image) = ready.images.get(&reference.full()) else {
            return Ok(Account::default());
        };
        let mut account = Account {
            stand_in: image.stand_in,
            ..Account::default()
        };
        let mut provenance = Provenance {
            manifest: image.origin.clone(),
            layers: std::collections::BTreeMap::new(),
        };
        for layer in graph.images.iter().flat_map(|image| &image.manifest.layers) {
            if let Some(tar) = ready.layers.uncompressed.get(&layer.digest) {
                account.uncompressed.insert(layer.digest, tar.clone());
            }
            if let Some(origin) = ready.layers.origins.get(&layer.digest) {
                provenance.layers.insert(layer.digest, origin.clone());
            }
        }
        account.provenance = Some(provenance);
        Ok(account)
    }

    fn metadata(&self, _: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.document(&self.ready(), descriptor)?
            .ok_or_else(|| self.absent(descriptor.digest.to_string()))
    }

    fn open(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        let digest = &descriptor.digest;
        let (packed, is_upstream) = {
            let ready = self.ready();
            (
                ready.layers.packed.get(digest).cloned(),
                ready.layers.upstream.contains(digest),
            )
        };
        if let Some(stored) = packed.or_else(|| self.holder.stored(digest)) {
            return Ok(Box::new(stored.reader(offset)));
        }
        if is_upstream {
            return self.upstream.open(repository, descriptor, offset);
        }
        let mut tar = self.holder.open(digest)?;
        skip(&mut tar, offset)?;
        Ok(tar)
    }

    fn references(&self) -> Result<Vec<Reference>> {
        self.holder.references()
    }

    fn fault(&self, repository: &Repository, descriptor: &Descriptor, problem: Problem) -> Error {
        if self.ready().layers.upstream.contains(&descriptor.digest)
            && let Some(error) = self.upstream.fault(repository, descriptor, problem.clone())
        {
            return error;
        }
        Error::refused(
            Place::blob(descriptor.digest).within(self.holder.label()),
            problem,
        )
    }
}

/// Reads over the first bytes of what can only be read from its start.
fn skip(tar: &mut dyn Read, bytes: u64) -> Result<()> {
    let skipped = io::copy(&mut tar.take(bytes), &mut io::sink());
    skipped
        .map(drop)
        .map_err(|error| Error::from_reader(error, Error::io("read", "a layer")))
}
