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

    /// The images of each store, the one that podman writes first. An image that several stores have occurs for each of
    /// them, with the names that it has there.
    fn entries(&self) -> impl Iterator<Item = &StoredImage> {
        self.storages.iter().flat_map(|storage| &storage.images)
    }

    /// Its images, each once.
    fn images(&self) -> impl Iterator<Item = &StoredImage> {
        let mut seen = HashSet::new();
        self.entries().filter(move |image| seen.insert(image.id))
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
        let mut names = self.entries().flat_map(|image| &image.pinned);
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
            .filter_map(|image| Some((image.id, history(image)?)))
            .collect()
    }

    fn manifests(&self) -> impl Iterator<Item = Manifest> {
        let digests = self.images().flat_map(|image| &image.manifests);
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
        let is_named = |image: &&StoredImage| match asked {
            Some(digest) if reference.is_nameless() => {
                image.id == digest || image.manifests.contains(&digest) && self.parsed(&digest).is_some()
            }
            Some(digest) => {
                let mut names = image.tags.iter().chain(&image.pinned);
                image.manifests.contains(&digest) && names.any(|name| name.repository() == repository)
            }
            None => image.tags.contains(reference),
        };
        let Some(image) = self.entries().find(is_named) else {
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
        let mut digests = self.digests(image, asked);
        if reference.is_nameless() {
            digests.push(reference.clone());
        }
        Ok(Some(StoreImage::new(repository, &digests, Some(bare))))
    }

    fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        let mut seen = HashSet::new();
        let mut named = HashSet::new();
        for image in self.entries() {
            for name in names_of(&image.tags, &image.pinned) {
                named.insert(image.id);
                if seen.insert(name) {
                    listing.references.push(name.clone());
                }
            }
        }
        let is_nameless = |image: &StoredImage| !named.contains(&image.id);
        let histories = match self.images().any(is_nameless) {
            true => self.histories(),
            false => HashMap::new(),
        };
        for image in self.images() {
            if is_nameless(image) && !self.is_parent(&image.id, &histories) {
                listing.nameless.push(image.id);
            }
            listing.ids.push(image.id);
            listing.ids.extend(&image.manifests);
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::storage::file_name;
    use super::*;
    use crate::oci::testing::{TestBlob, TestImage};
    use crate::progress::Silent;

    fn hex(digest: &Digest) -> String {
        digest.to_string().trim_start_matches("sha256:").to_string()
    }

    /// A store with images, each with its config and its names.
    fn storage(root: &Path, images: &[(&TestBlob, &[&str])]) -> Storage {
        let mut list = Vec::new();
        for (config, names) in images {
            let id = config.descriptor.digest;
            let folder = root.join("overlay-images").join(hex(&id));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(file_name(&id.to_string())), &config.bytes).unwrap();
            list.push(serde_json::json!({
                "id": hex(&id), "names": names, "big-data-digests": { id.to_string(): id.to_string() },
            }));
        }
        let list = serde_json::to_vec(&list).unwrap();
        fs::write(root.join("overlay-images/images.json"), list).unwrap();
        Storage::open(root, None).unwrap()
    }

    #[test]
    fn an_image_has_the_names_of_every_store() {
        let [app, web, bare] = ["app", "web", "bare"].map(|author| TestImage::new().author(author).config());
        let (app, web, bare) = (&app, &web, &bare);
        let roots = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let storages = vec![
            storage(
                roots[0].path(),
                &[
                    (bare, &[]),
                    (app, &["docker.io/library/app:1"]),
                    (web, &["docker.io/library/latest:1"]),
                ],
            ),
            storage(
                roots[1].path(),
                &[
                    (
                        app,
                        &[
                            "docker.io/library/app:1",
                            "docker.io/library/app:2",
                            "docker.io/library/latest:1",
                        ],
                    ),
                    (bare, &["docker.io/library/bare:1"]),
                ],
            ),
        ];
        let store = PodmanStore {
            label: "podman".into(),
            storages,
            unshared: Unshared::new(&Options::from_process(), None),
            max_layer_size: 0,
            progress: Arc::new(Silent),
        };
        let listing = store.list().unwrap();
        let names: Vec<String> = listing.references.iter().map(Reference::familiar).collect();
        assert_eq!(names, ["app:1", "latest:1", "app:2", "bare:1"]);
        assert_eq!(listing.nameless, []);
        assert_eq!(
            listing.ids,
            [bare, app, web].map(|config| config.descriptor.digest)
        );
        // The first store that has a name says what it means.
        for (name, config) in [("app:2", app), ("latest:1", web), ("bare:1", bare)] {
            let found = store.find(&name.parse().unwrap()).unwrap();
            let image = found.and_then(|found| found.image).unwrap();
            assert_eq!(image.raw[..], config.bytes[..], "{name}");
        }
    }
}
