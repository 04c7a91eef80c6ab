//! Archives of `docker save`, and of tools that write the same format: configs and layers, combined to images
//! by `manifest.json`. They have no manifest that a registry served, so they prove no digest.
//!
//! Nothing in them says which tool wrote them, and it does not matter: configs and layers are at the paths in
//! `manifest.json`. These are:
//!
//! - Docker before 25: `<image id>.json`, `<v1 id>/layer.tar`; a layer that repeats is a symbolic link
//! - Docker from 25 on, with its classic store: `blobs/sha256/<image id>`, `blobs/sha256/<diff id>`, and an OCI
//!   layout over them, whose manifests Docker makes for each archive
//! - skopeo and podman, `docker-archive`: `<image id>.json`, `<diff id>.tar`, and symbolic links `<v1 id>/layer.tar`
//! - crane, ko and kaniko: `sha256:<image id>`, `<digest>.tar.gz`, compressed
//! - Bazel: any path, plain or compressed; Jib: `config.json`, `<digest>.tar.gz`
//!
//! Names are those in `manifest.json`, in its order. An `index.json` beside it is ignored: it describes the
//! manifests that were made for the archive.
//!
//! Source: moby, `image/tarexport/save.go` and `load.go`.
//!
//! - [`files`]: the files by name, with links followed inside the archive

mod files;

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::sync::{Arc, OnceLock};

use super::format;
use super::reader::read_small;
use super::spool::Options;
use crate::blob::Stored;
use crate::blob::Uncompressed;
use crate::blob::decompress::Decompressor;
use crate::blob::decompress::compression_of;
use crate::blob::map::Windows;
use crate::error::{Error, Place, Problem, Result};
use crate::interrupt::Interrupt;
use crate::oci::{Compression, Config, Digest, Hasher, Reference, json, schema};

pub(super) use files::Files;

/// Most bytes of all configs together, which are held in memory. Real ones have a few thousand each.
const MAX_CONFIGS: u64 = 64 << 20;
/// Uncompressed bytes that are counted at once.
const PIECE: usize = 256 << 10;

/// An opened archive of `docker save`.
pub struct DockerSave {
    label: String,
    images: Vec<SavedImage>,
    layers: BTreeMap<Digest, Vec<StoredLayer>>,
    max_layer_size: u64,
    interrupt: Interrupt,
}

/// An image in an archive of `docker save`.
#[derive(Debug, Clone)]
pub struct SavedImage {
    /// Digest of the config.
    pub image_id: Digest,
    /// The config's stored bytes.
    pub config_raw: Arc<[u8]>,
    /// The config. Its diff ids are the layers, base first.
    pub config: Config,
    /// The names in `manifest.json`. Empty if the image has only an id.
    pub tags: Vec<Reference>,
}

/// A layer in the archive. Only its bytes tell whether it is the one that a config names.
#[derive(Debug)]
pub struct StoredLayer {
    stored: Stored,
    compression: Compression,
    digest: OnceLock<Digest>,
    uncompressed: OnceLock<u64>,
}

impl StoredLayer {
    /// Where the stored bytes are.
    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// The compression, by the first bytes.
    pub fn compression(&self) -> Compression {
        self.compression
    }
}

/// One image in `manifest.json`.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

impl DockerSave {
    /// Reads the configs of an archive's files. Of layers, only the first bytes are read.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the first problem and its file; [`Error::Io`] if they cannot be read.
    pub(super) fn new(files: Files, options: &Options) -> Result<DockerSave> {
        let manifest = files.require(format::MANIFEST)?;
        let bytes = read_small(files.label(), manifest)?;
        let items: Vec<Item> = json::decode(&bytes, &schema::MANIFEST_JSON).map_err(|error| {
            let reason = error.to_string();
            files.refuse(format::MANIFEST, Problem::Json { reason })
        })?;
        if items.is_empty() {
            let reason = "names no image".into();
            return Err(files.refuse(format::MANIFEST, Problem::ManifestJson { reason }));
        }
        DockerSave::of_items(files, items, options)
    }

    /// Makes an image without a name from the files of its config and layers.
    ///
    /// # Errors
    ///
    /// As [`DockerSave::new`].
    pub(super) fn of_image(
        files: Files,
        config: String,
        layers: Vec<String>,
        options: &Options,
    ) -> Result<DockerSave> {
        let image = Item {
            config,
            repo_tags: None,
            layers: Some(layers),
        };
        DockerSave::of_items(files, vec![image], options)
    }

    fn of_items(files: Files, items: Vec<Item>, options: &Options) -> Result<DockerSave> {
        files.check_links()?;
        let mut reading = Reading::new(&files);
        for item in items {
            reading.item(item)?;
        }
        let Reading { images, layers, .. } = reading;
        Ok(DockerSave {
            images,
            layers,
            max_layer_size: options.max_layer_size,
            interrupt: options.interrupt.clone(),
            label: files.into_label(),
        })
    }

    /// Its name in messages: the path as given.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Most bytes that one layer may decompress to.
    pub fn max_layer_size(&self) -> u64 {
        self.max_layer_size
    }

    /// The images, each once, in the order of `manifest.json`.
    pub fn images(&self) -> &[SavedImage] {
        &self.images
    }

    /// The stored forms of a layer: usually one, but images that share it may each have their own. Empty if it
    /// is missing.
    pub fn stored(&self, diff_id: &Digest) -> &[StoredLayer] {
        self.layers.get(diff_id).map(Vec::as_slice).unwrap_or_default()
    }

    /// Digest of a layer's stored bytes, hashed at the first call.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if they cannot be read; [`Error::Interrupted`].
    pub fn digest(&self, layer: &StoredLayer) -> Result<Digest> {
        if let Some(known) = layer.digest.get() {
            return Ok(*known);
        }
        let mut hasher = Hasher::sha256();
        let mut windows = Windows::new(&layer.stored);
        while let Some(piece) = windows.next_piece()? {
            hasher.update(piece);
            self.interrupt.check()?;
        }
        Ok(*layer.digest.get_or_init(|| hasher.finish()))
    }

    /// Uncompressed bytes of a layer. A compressed one must be read to know.
    fn uncompressed_size(&self, layer: &StoredLayer) -> Result<u64> {
        if layer.compression == Compression::None {
            return Ok(layer.stored.size);
        }
        if let Some(known) = layer.uncompressed.get() {
            return Ok(*known);
        }
        let mut stream = self.decompress(layer)?;
        let mut buffer = vec![0; PIECE];
        while stream.next_bytes(&mut buffer)? > 0 {
            self.interrupt.check()?;
        }
        Ok(*layer.uncompressed.get_or_init(|| stream.count()))
    }

    fn decompress(&self, layer: &StoredLayer) -> Result<Decompressor<impl std::io::BufRead + Send + use<>>> {
        let place = layer.stored.locate(Place::default().within(&self.label));
        let input = BufReader::with_capacity(PIECE, layer.stored.reader(0));
        Decompressor::new(layer.compression, input, self.max_layer_size, place)
    }

    /// The form of a layer that is the cheapest to read.
    fn nearest(&self, diff_id: &Digest) -> Option<&StoredLayer> {
        let forms = self.stored(diff_id);
        let is_plain = |layer: &&StoredLayer| layer.compression == Compression::None;
        forms.iter().find(is_plain).or(forms.first())
    }
}

impl Uncompressed for DockerSave {
    fn size(&self, diff_id: &Digest) -> Result<Option<u64>> {
        self.nearest(diff_id)
            .map(|layer| self.uncompressed_size(layer))
            .transpose()
    }

    fn open(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>> {
        let Some(layer) = self.nearest(diff_id) else {
            return Err(Error::NotFound {
                what: format!("layer {diff_id}"),
                place: self.label.clone(),
                hint: None,
            });
        };
        Ok(Box::new(self.decompress(layer)?))
    }
}

/// The images read so far.
struct Reading<'a> {
    files: &'a Files,
    images: Vec<SavedImage>,
    layers: BTreeMap<Digest, Vec<StoredLayer>>,
    /// Configs that were read, by entry, as positions in `images`.
    configs: BTreeMap<String, usize>,
    /// The same by digest, because an image may have its config twice.
    image_ids: BTreeMap<Digest, usize>,
    /// Bytes of all configs.
    bytes: u64,
    /// The diff id that a config gives each layer's file, by entry.
    diff_ids: BTreeMap<String, Digest>,
    /// Names, with positions in `images`.
    tags: BTreeMap<Reference, usize>,
}

impl<'a> Reading<'a> {
    fn new(files: &'a Files) -> Reading<'a> {
        Reading {
            files,
            images: Vec::new(),
            layers: BTreeMap::new(),
            configs: BTreeMap::new(),
            image_ids: BTreeMap::new(),
            bytes: 0,
            diff_ids: BTreeMap::new(),
            tags: BTreeMap::new(),
        }
    }

    /// Adds an image of `manifest.json`.
    fn item(&mut self, item: Item) -> Result<()> {
        let at = self.config(&item.config)?;
        let diff_ids = self.images.get(at).map(|image| image.config.diff_ids.clone());
        let (diff_ids, paths) = (diff_ids.unwrap_or_default(), item.layers.unwrap_or_default());
        if paths.len() != diff_ids.len() {
            let problem = Problem::DiffIdCount {
                layers: paths.len(),
                diff_ids: diff_ids.len(),
            };
            return Err(self.files.refuse(&item.config, problem));
        }
        for (path, diff_id) in paths.iter().zip(&diff_ids) {
            self.layer(path, diff_id)?;
        }
        for text in item.repo_tags.unwrap_or_default() {
            self.tag(&text, at)
                .map_err(|problem| self.files.refuse(format::MANIFEST, problem))?;
        }
        Ok(())
    }

    /// Adds a name to the image at a position.
    fn tag(&mut self, text: &str, at: usize) -> Result<(), Problem> {
        let tag = tag_of(text)?;
        match self.tags.get(&tag) {
            None => {
                if let Some(image) = self.images.get_mut(at) {
                    image.tags.push(tag.clone());
                }
                self.tags.insert(tag, at);
                Ok(())
            }
            Some(known) if *known == at => Ok(()),
            Some(_) => Err(Problem::ManifestJson {
                reason: format!("names two images {tag}"),
            }),
        }
    }

    /// Reads a config. Returns the position of its image.
    fn config(&mut self, path: &str) -> Result<usize> {
        let stored = self.files.require(path)?;
        if let Some(known) = self.configs.get(&stored.entry) {
            return Ok(*known);
        }
        self.bytes = self.bytes.saturating_add(stored.size);
        if self.bytes > MAX_CONFIGS {
            let problem = Problem::TooLarge {
                limit: MAX_CONFIGS,
                found: self.bytes,
            };
            return Err(self.files.refuse(path, problem));
        }
        let raw = read_small(self.files.label(), stored)?;
        let image_id = Digest::sha256(&raw);
        if let Some(expected) = digest_in(&stored.entry).filter(|expected| *expected != image_id) {
            let problem = Problem::DigestDiffers {
                expected,
                found: image_id,
            };
            return Err(self.files.refuse(path, problem));
        }
        let config =
            Config::parse(&raw).map_err(|reason| self.files.refuse(path, Problem::Document { reason }))?;
        let at = *self.image_ids.entry(image_id).or_insert(self.images.len());
        if at == self.images.len() {
            self.images.push(SavedImage {
                image_id,
                config_raw: raw.into(),
                config,
                tags: Vec::new(),
            });
        }
        self.configs.insert(stored.entry.clone(), at);
        Ok(at)
    }

    fn layer(&mut self, path: &str, diff_id: &Digest) -> Result<()> {
        let stored = self.files.require(path)?;
        if let Some(known) = self.diff_ids.get(&stored.entry) {
            if known == diff_id {
                return Ok(());
            }
            let problem = Problem::DiffIdDiffers {
                expected: *diff_id,
                found: *known,
            };
            return Err(self.files.refuse(path, problem));
        }
        let magic = magic(stored)?;
        if let Some(tool) = unread_compression(&magic) {
            let reason = format!("layers that are compressed with {tool} are not read");
            return Err(self.files.refuse(path, Problem::Compression { reason }));
        }
        self.diff_ids.insert(stored.entry.clone(), *diff_id);
        self.layers.entry(*diff_id).or_default().push(StoredLayer {
            stored: stored.clone(),
            compression: compression_of(&magic),
            digest: OnceLock::new(),
            uncompressed: OnceLock::new(),
        });
        Ok(())
    }
}

/// The first bytes of a file.
fn magic(stored: &Stored) -> Result<Vec<u8>> {
    let mut magic = Vec::new();
    let head = stored.reader(0).take(10).read_to_end(&mut magic);
    head.map_err(|error| Error::from_reader(error, Error::io("read", &stored.entry)))?;
    Ok(magic)
}

/// The compression of a layer's file, by its first bytes.
pub(super) fn compression(stored: &Stored) -> Result<Compression> {
    Ok(compression_of(&magic(stored)?))
}

/// A compression that Docker reads, but no registry and no other engine.
fn unread_compression(magic: &[u8]) -> Option<&'static str> {
    match magic {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        // More than the three bytes that Docker compares: a tar may begin with a file name that has those.
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', b'&', b'S', b'Y'] => Some("bzip2"),
        _ => None,
    }
}

/// The digest in the name of a config's entry. All tools that use no fixed name put it there: `<hex>.json`,
/// `sha256:<hex>`, `blobs/sha256/<hex>`.
fn digest_in(entry: &str) -> Option<Digest> {
    let last = entry.rsplit('/').next().unwrap_or(entry);
    let last = last.strip_suffix(".json").unwrap_or(last);
    let hex = last.strip_prefix("sha256:").unwrap_or(last);
    format!("sha256:{hex}").parse().ok()
}

/// Parses a name in `RepoTags`, which has a tag and no digest.
fn tag_of(text: &str) -> Result<Reference, Problem> {
    let reference: Reference = text.parse().map_err(|error| Problem::Name {
        reason: format!("RepoTags: {error}"),
    })?;
    let last = text.rsplit('/').next().unwrap_or(text);
    if reference.digest().is_some() || !last.contains(':') {
        return Err(Problem::Name {
            reason: format!("RepoTags: {text:?} is not a name with a tag"),
        });
    }
    Ok(reference)
}
