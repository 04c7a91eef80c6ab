//! podman's images as a source: documents and layers from the files of its storage, and of the additional stores that it
//! reads. CRI-O's are the same.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::answers::Info;
use super::own_digests::is_made_here;
use super::program::Program;
use super::storage::{Storage, StoredImage};
use super::storage_conf;
use super::unshared::{Layer, Unshared};
use super::{Options, Podman};
use crate::archive;
use crate::blob::{Stored, Uncompressed};
use crate::error::{Error, Remedy, Result};
use crate::escape::Escaped;
use crate::oci::{Config, Digest, Document, Manifest, Reference, Repository};
use crate::progress::Progress;
use crate::recover::{BareImage, LocalStore, StoreImage, names_of};
use crate::source::{Listing, StoredForm};
use crate::store::layer;

/// Why an image whose manifest podman made has no digest.
const MADE_HERE: &str =
    "podman made its manifest on this host, in a build or a load, and shows a digest that no registry has";

/// What is to be saved in place of a list.
const LIST: &str = "it is a list of `podman manifest`, which has no layers; save the images that it names";

/// podman's storage, and the additional stores.
pub struct PodmanStore {
    label: String,
    storages: Vec<Storage>,
    unshared: Unshared,
    max_layer_size: u64,
    progress: Arc<dyn Progress>,
}

/// An image with the store that has it.
type Held<'s> = (&'s Storage, &'s StoredImage);

impl PodmanStore {
    /// Opens the storage that podman uses, or the one of the options, which needs no podman. `reader` is the program that
    /// reads layers where only the user's namespace may: see [`super::write_layer`].
    ///
    /// # Errors
    ///
    /// If there is none, or it cannot be read.
    pub fn open(
        options: &Options,
        reader: Option<PathBuf>,
        spool: &archive::Options,
        progress: Arc<dyn Progress>,
    ) -> Result<PodmanStore> {
        let storages = storages(options, progress.as_ref())?;
        let root = storages.first().map(|first| first.root().path().to_path_buf());
        let label = format!("{} with {}", options.engine, root.unwrap_or_default().display());
        if let Some(obstacle) = storages.iter().find_map(Storage::layers_obstacle) {
            return Err(Error::Engine {
                engine: label,
                action: "read its layers".into(),
                problem: obstacle,
                hint: Some(Remedy::SaveWithPodman.into()),
            });
        }
        Ok(PodmanStore {
            label,
            storages,
            unshared: Unshared::new(options, reader),
            max_layer_size: spool.max_layer_size,
            progress,
        })
    }

    /// Whether podman has no storage, which can be seen without running it.
    pub fn is_absent() -> bool {
        storage_conf::is_absent()
    }

    /// Its images, each once: an additional store may have an image as well.
    fn images(&self) -> impl Iterator<Item = Held<'_>> {
        let all = self.storages.iter();
        let all = all.flat_map(|storage| storage.images.iter().map(move |image| (storage, image)));
        let mut seen = HashSet::new();
        all.filter(move |(_, image)| seen.insert(image.id))
    }

    fn bare(&self, image: &StoredImage) -> Result<Option<BareImage>> {
        let raw = self.document(&image.id)?;
        raw.map(|raw| BareImage::new(image.id, raw, &self.label))
            .transpose()
    }

    /// The `NAME@DIGEST` of an image that may be a registry's. A manifest below one of its indexes counts only if it was
    /// asked for, or pulled by its digest.
    fn digests(&self, image: &StoredImage, asked: Option<Digest>) -> Vec<Reference> {
        let documents = image
            .manifests
            .iter()
            .filter_map(|digest| Some((*digest, self.parsed(digest)?)));
        let documents: Vec<(Digest, Document)> = documents.collect();
        let mut below = HashSet::new();
        for (_, document) in &documents {
            if let Document::Index(index) = document {
                below.extend(index.manifests.iter().map(|entry| entry.digest));
            }
        }
        let is_pinned = |digest: &Digest| image.pinned.iter().any(|name| name.digest() == Some(*digest));
        let is_shown = |digest: &Digest, document: &Document| match document {
            Document::Index(_) => true,
            Document::Manifest(_) => is_pinned(digest) || asked == Some(*digest) || !below.contains(digest),
        };
        let shown = documents
            .iter()
            .filter(|(digest, document)| is_shown(digest, document));
        let shown: Vec<Digest> = shown.map(|(digest, _)| *digest).collect();
        let names = image.tags.iter().chain(&image.pinned);
        names
            .flat_map(|name| {
                shown
                    .iter()
                    .map(|digest| Reference::digested(name.repository(), *digest))
            })
            .collect()
    }

    fn parsed(&self, digest: &Digest) -> Option<Document> {
        let bytes = self.document(digest).ok()??;
        Document::parse(&Document::sniff(&bytes)?, bytes).ok()
    }

    /// The bytes of a document in one of the stores, verified.
    fn raw(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let mut found = self
            .storages
            .iter()
            .map(|storage| storage.document(digest).transpose());
        found.find_map(|found| found).transpose()
    }

    /// Whether a pull by this digest left a name.
    fn is_pulled(&self, digest: &Digest) -> bool {
        let mut names = self.images().flat_map(|(_, image)| &image.pinned);
        names.any(|name| name.digest() == Some(*digest))
    }

    /// Whether a document is a manifest of no registry: see [`is_made_here`].
    fn is_made_here(&self, document: &[u8]) -> Result<bool> {
        let kind = Document::sniff(document);
        let parsed = kind.and_then(|kind| Document::parse(&kind, document.to_vec()).ok());
        let Some(Document::Manifest(manifest)) = parsed else {
            return Ok(false);
        };
        let config = self.raw(&manifest.config.digest)?;
        let config = config.and_then(|config| Config::parse(&config).ok());
        let diff_ids = config.map(|config| config.diff_ids);
        Ok(is_made_here(&manifest, diff_ids.as_deref()))
    }

    /// Whether another image was built on one: `podman images` hides it if it has no name.
    fn is_parent(&self, id: &Digest, histories: &HashMap<Digest, Vec<Value>>) -> bool {
        let own = histories.get(id).map(Vec::as_slice).unwrap_or_default();
        let mut others = histories.values();
        !own.is_empty() && others.any(|other| other.len() > own.len() && other.starts_with(own))
    }

    /// How images were built, by their configs. Unreadable ones are skipped.
    fn histories(&self) -> HashMap<Digest, Vec<Value>> {
        let history = |image: &StoredImage| {
            let raw = self.document(&image.id).ok()??;
            let mut config: Value = serde_json::from_slice(&raw).ok()?;
            serde_json::from_value(config.get_mut("history")?.take()).ok()
        };
        let images = self.images();
        images
            .filter_map(|(_, image)| Some((image.id, history(image)?)))
            .collect()
    }

    fn manifests(&self) -> impl Iterator<Item = Manifest> {
        let digests = self.images().flat_map(|(_, image)| &image.manifests);
        digests.filter_map(|digest| match self.parsed(digest)? {
            Document::Manifest(manifest) => Some(manifest),
            Document::Index(_) => None,
        })
    }

    /// Tries each place of a layer until one can be read; `None` if there is none.
    fn any<T>(
        &self,
        diff_id: &Digest,
        act: impl Fn(&Storage, super::storage::LayerPlace) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut last = Ok(None);
        for storage in &self.storages {
            for place in storage.layers(diff_id) {
                match act(storage, place) {
                    Ok(done) => return Ok(Some(done)),
                    Err(error) => last = Err(error),
                }
            }
        }
        last
    }
}

/// The stores to read, the one that podman writes first.
fn storages(options: &Options, progress: &dyn Progress) -> Result<Vec<Storage>> {
    if let Some(root) = &options.root {
        return Ok(vec![Storage::open(root, options.driver.as_deref())?]);
    }
    if !Program::is_installed(options) {
        // Hosts of CRI-O need no podman.
        let (root, driver) = storage_conf::configured()?;
        if let Some(root) = root.filter(|root| root.exists()) {
            let driver = options.driver.as_deref().or(driver.as_deref());
            return Ok(vec![Storage::open(&root, driver)?]);
        }
    }
    let Info { store, version, .. } = Podman::connect(options)?.info;
    let driver = store.graph_driver_name.as_str();
    let mut storages = vec![Storage::open(&store.graph_root, Some(driver))?];
    for folder in store.additional() {
        storages.push(Storage::open(&folder, Some(driver))?);
        if store.may_have_more() {
            progress.note(&format!(
                "podman {} lists only the last additional image store: images in others are not found; {} is read",
                Escaped(&version.version),
                Escaped(&folder.display().to_string())
            ));
        }
    }
    Ok(storages)
}

impl Uncompressed for PodmanStore {
    fn size(&self, diff_id: &Digest) -> Result<Option<u64>> {
        self.any(diff_id, |storage, place| {
            let path = storage.root().join(&place.tar_split);
            let file = place.open_tar_split(storage.root())?;
            layer::size(&mut layer::entries(file, &path)?, &path)
        })
    }

    fn open(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>> {
        let opened = self.any(diff_id, |storage, place| {
            Layer::open(storage.root(), &place, self.max_layer_size, &self.unshared)
        })?;
        match opened {
            Some(tar) => Ok(Box::new(tar)),
            None => Err(Error::NotFound {
                what: format!("layer {diff_id}"),
                place: self.label.clone(),
                hint: None,
            }),
        }
    }
}

impl LocalStore for PodmanStore {
    fn label(&self) -> &str {
        &self.label
    }

    fn max_layer_size(&self) -> u64 {
        self.max_layer_size
    }

    fn undigested(&self) -> &'static str {
        MADE_HERE
    }

    fn find(&self, reference: &Reference) -> Result<Option<StoreImage>> {
        let repository = reference.repository();
        let asked = reference.digest();
        let is_named = |(_, image): &Held<'_>| match asked {
            Some(digest) if reference.is_nameless() => image.id == digest,
            Some(digest) => {
                let mut names = image.tags.iter().chain(&image.pinned);
                image.manifests.contains(&digest) && names.any(|name| name.repository() == repository)
            }
            None => image.tags.contains(reference),
        };
        let Some((_, image)) = self.images().find(is_named) else {
            let mut lists = self.storages.iter().flat_map(|storage| &storage.lists);
            return match lists.any(|name| *name == reference.full()) {
                true => Err(Error::NotFound {
                    what: format!("an image named {}", reference.familiar()),
                    place: self.label.clone(),
                    hint: Some(LIST.into()),
                }),
                false => Ok(None),
            };
        };
        // Removed since the list was read.
        let Some(bare) = self.bare(image)? else {
            return Ok(None);
        };
        let digests = self.digests(image, asked);
        Ok(Some(StoreImage::new(repository, &digests, Some(bare))))
    }

    fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        let is_nameless = |image: &StoredImage| image.tags.is_empty() && image.pinned.is_empty();
        let histories = match self.images().any(|(_, image)| is_nameless(image)) {
            true => self.histories(),
            false => HashMap::new(),
        };
        for (_, image) in self.images() {
            let names = names_of(&image.tags, &image.pinned).cloned();
            listing.references.extend(names);
            if is_nameless(image) && !self.is_parent(&image.id, &histories) {
                listing.nameless.push(image.id);
            }
            listing.ids.push(image.id);
        }
        for name in self.storages.iter().flat_map(|storage| &storage.lists) {
            let name = Escaped(name);
            self.progress.note(&format!("{name} is left out: {LIST}"));
        }
        Ok(listing)
    }

    /// A manifest that was made here is none: it would prove a digest that no registry has.
    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let Some(document) = self.raw(digest)? else {
            return Ok(None);
        };
        match self.is_made_here(&document)? && !self.is_pulled(digest) {
            true => Ok(None),
            false => Ok(Some(document)),
        }
    }

    /// It keeps no layer in its stored form.
    fn stored(&self, _: &Digest) -> Result<Option<Stored>> {
        Ok(None)
    }

    fn stored_digests(&self, diff_id: &Digest, _: &Repository) -> Vec<Digest> {
        let blobs = self.storages.iter().flat_map(|storage| storage.blobs(diff_id));
        let mut digests: Vec<Digest> = Vec::new();
        for blob in blobs {
            if !digests.contains(blob) {
                digests.push(*blob);
            }
        }
        digests
    }

    fn stored_forms(&self) -> Vec<StoredForm> {
        let forms = self.manifests().flat_map(|manifest| {
            let config = self.document(&manifest.config.digest).ok().flatten();
            let config = config.and_then(|bytes| Config::parse(&bytes).ok());
            StoredForm::of(&manifest, config.as_ref(), |_| false)
        });
        forms.collect()
    }
}
