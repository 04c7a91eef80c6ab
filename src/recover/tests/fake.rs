//! A store and a registry in memory, with real image content, and with the gaps and errors that a test needs.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use crate::blob::Uncompressed;
use crate::blob::{Extent, Stored};
use crate::error::{Error, Place, Problem, Result};
use crate::goflate::{self, Level};
use crate::interrupt::Interrupt;
use crate::oci::testing::{self, TestBlob, TestImage, describe};
use crate::oci::{Config, Descriptor, Digest, Document, MediaType, Reference, Repository};
use crate::progress::Progress;
use crate::recover::lost::templates::{Blob, DOCKER_PUSH};
use crate::recover::{BareImage, LocalStore, StoreImage};
use crate::source::{Answer, Found, Listing, Query, Source, StoredForm};

/// How a layer is stored in a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Compressed like `docker push`.
    Push,
    /// Compressed like crane.
    Crane,
    /// Compressed like no known encoder.
    UnknownEncoder,
    Zstd,
    Plain,
}

/// An image in a registry.
#[derive(Debug, Clone)]
pub struct Image {
    pub config: Vec<u8>,
    pub tars: Vec<Vec<u8>>,
    /// The layers' stored bytes.
    pub stored: Vec<Vec<u8>>,
    pub layers: Vec<Descriptor>,
    /// The manifest's stored bytes, and its descriptor in an index.
    pub manifest: Vec<u8>,
    pub root: Descriptor,
}

/// A tar of one file with compressible bytes, different for each seed.
pub fn tar(seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut bytes = Vec::new();
    while bytes.len() < 20_000 {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend_from_slice(format!("{:x} ", state % 4099).as_bytes());
    }
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(size(&bytes));
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "file", bytes.as_slice())
        .unwrap();
    builder.into_inner().unwrap()
}

fn go(tar: &[u8], level: Level) -> Vec<u8> {
    let mut encoder = goflate::Encoder::new(Vec::new(), level);
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap()
}

pub fn stored(tar: &[u8], form: Form) -> Vec<u8> {
    match form {
        Form::Push => go(tar, Level::DEFAULT),
        Form::Crane => go(tar, Level::FASTEST),
        // Tools that compress layers do not set the time.
        Form::UnknownEncoder => {
            let noted = flate2::GzBuilder::new().mtime(1_700_000_000);
            let mut encoder = noted.write(Vec::new(), flate2::Compression::new(3));
            encoder.write_all(tar).unwrap();
            encoder.finish().unwrap()
        }
        Form::Zstd => zstd::bulk::compress(tar, 3).unwrap(),
        Form::Plain => tar.to_vec(),
    }
}

pub fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap()
}

impl Image {
    /// One whose manifest only its registry has: no known tool would write it.
    pub fn unknown_encoder(platform: &str, layers: &[(u32, Form)]) -> Image {
        Image::with_manifest(platform, layers, |image, _| {
            image.clone().annotation("made", "by hand").manifest()
        })
    }

    /// One with the manifest that `docker push` writes.
    pub fn pushed(platform: &str, layers: &[(u32, Form)]) -> Image {
        let blob = |descriptor: &Descriptor| Blob {
            digest: descriptor.digest,
            size: descriptor.size,
        };
        Image::with_manifest(platform, layers, |image, layers| {
            let layers: Vec<Blob> = layers.iter().map(blob).collect();
            let manifest = DOCKER_PUSH.write(blob(&image.config().descriptor), &layers);
            TestBlob::new(MediaType::DOCKER_MANIFEST, manifest)
        })
    }

    /// One whose manifest is written from its config and the descriptors of its layers.
    fn with_manifest(
        platform: &str,
        layers: &[(u32, Form)],
        write: impl Fn(&TestImage, &[Descriptor]) -> TestBlob,
    ) -> Image {
        let platform = platform.parse().unwrap();
        let tars: Vec<Vec<u8>> = layers.iter().map(|(seed, _)| tar(*seed)).collect();
        let mut image = TestImage::new().platform(&platform);
        let mut list = Vec::new();
        let mut stored_layers = Vec::new();
        for (tar, (_, form)) in tars.iter().zip(layers) {
            let bytes = stored(tar, *form);
            let media_type = match form {
                Form::Push | Form::Crane | Form::UnknownEncoder => MediaType::OCI_LAYER_GZIP,
                Form::Zstd => MediaType::OCI_LAYER_ZSTD,
                Form::Plain => MediaType::OCI_LAYER,
            };
            let layer = describe(media_type, &bytes);
            image = image.stored_layer(Digest::sha256(tar), layer.clone());
            list.push(layer);
            stored_layers.push(bytes);
        }
        let mut manifest = write(&image, &list);
        manifest.descriptor.platform = Some(platform);
        Image {
            config: image.config().bytes,
            tars,
            stored: stored_layers,
            layers: list,
            manifest: manifest.bytes,
            root: manifest.descriptor,
        }
    }

    pub fn id(&self) -> Digest {
        Digest::sha256(&self.config)
    }

    pub fn digest(&self) -> Digest {
        self.root.digest
    }

    pub fn diff_id(&self, at: usize) -> Digest {
        Digest::sha256(&self.tars[at])
    }
}

/// An attestation of the first image of each index.
pub fn attestation() -> Image {
    Image::unknown_encoder("unknown/unknown", &[(99, Form::Plain)])
}

/// An index over images, with an attestation of the first one.
pub fn index(images: &[&Image]) -> Vec<u8> {
    let mut manifests: Vec<Descriptor> = images.iter().map(|image| image.root.clone()).collect();
    let mut attestation = attestation().root;
    attestation.annotations = [
        ("vnd.docker.reference.type", "attestation-manifest".to_string()),
        ("vnd.docker.reference.digest", images[0].digest().to_string()),
    ]
    .map(|(key, value)| (key.to_string(), value))
    .into();
    manifests.push(attestation);
    testing::index(&manifests).bytes
}

/// Bytes in a file of their own.
pub fn in_file(bytes: &[u8]) -> Stored {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Stored {
        extents: vec![Extent {
            file: Arc::new(file),
            path: Arc::new("blob".into()),
            offset: 0,
            length: size(bytes),
        }],
        size: size(bytes),
        entry: "blob".into(),
        offset: None,
    }
}

/// A name that a store shows.
#[derive(Default)]
struct Shown {
    digests: Vec<Reference>,
    /// The image's config; none in a store of indexes.
    config: Option<Vec<u8>>,
}

/// A store.
#[derive(Default)]
pub struct Store {
    names: HashMap<String, Shown>,
    documents: HashMap<Digest, Vec<u8>>,
    blobs: HashMap<Digest, Vec<u8>>,
    tars: HashMap<Digest, Vec<u8>>,
    stored_digests: HashMap<Digest, Vec<Digest>>,
    /// A blob that exists and cannot be opened.
    pub unreadable: Option<Digest>,
    /// Layers that were opened at their first byte.
    pub opened: Arc<Mutex<Vec<Digest>>>,
    /// Number of times that its names were listed.
    pub listed: Arc<Mutex<usize>>,
    /// Stops the run when a layer is opened.
    pub stops: Option<Interrupt>,
}

pub fn reference(text: &str) -> Reference {
    Reference::parse_any(text).unwrap()
}

impl Store {
    /// Keeps an image with uncompressed layers, under a name. The digests are shown as `NAME@sha256:...`.
    pub fn keep_uncompressed(mut self, name: &str, image: &Image, shown: &[&str]) -> Store {
        let digests: Vec<Reference> = shown.iter().map(|text| reference(text)).collect();
        for name in std::iter::once(&reference(name)).chain(&digests) {
            let shown = Shown {
                digests: digests.clone(),
                config: Some(image.config.clone()),
            };
            self.names.insert(name.full(), shown);
        }
        for tar in &image.tars {
            self.tars.insert(Digest::sha256(tar), tar.clone());
        }
        self
    }

    /// Keeps an image with uncompressed layers that was pulled by its manifest's digest.
    pub fn pull(self, name: &str, image: &Image) -> Store {
        let digest = Reference::digested(reference(name).repository(), image.digest());
        self.keep_uncompressed(name, image, &[&digest.full()])
    }

    /// Names an index or manifest, in a store that keeps everything in its stored form.
    pub fn name(mut self, name: &str, root: &[u8]) -> Store {
        let name = reference(name);
        let digest = Reference::digested(name.repository(), Digest::sha256(root));
        for name in [&name, &digest] {
            let shown = Shown {
                digests: vec![digest.clone()],
                config: None,
            };
            self.names.insert(name.full(), shown);
        }
        self.document(root)
    }

    /// Adds a document.
    pub fn document(mut self, bytes: &[u8]) -> Store {
        self.documents.insert(Digest::sha256(bytes), bytes.to_vec());
        self.blob(bytes)
    }

    /// Adds stored bytes.
    pub fn blob(mut self, bytes: &[u8]) -> Store {
        self.blobs.insert(Digest::sha256(bytes), bytes.to_vec());
        self
    }

    /// Stores other bytes under this digest.
    pub fn damaged(mut self, bytes: &[u8], instead: &[u8]) -> Store {
        self.blobs.insert(Digest::sha256(bytes), instead.to_vec());
        self
    }

    /// Adds manifest, config and layers in their stored form.
    pub fn keep(self, image: &Image) -> Store {
        let store = self.document(&image.manifest).document(&image.config);
        image.stored.iter().fold(store, |store, layer| store.blob(layer))
    }

    /// Records the blobs from which an image's layers were pulled.
    pub fn remember(mut self, image: &Image) -> Store {
        for (tar, layer) in image.tars.iter().zip(&image.layers) {
            let digests = self.stored_digests.entry(Digest::sha256(tar)).or_default();
            digests.push(layer.digest);
        }
        self
    }

    /// Removes a layer's tar.
    pub fn without(mut self, diff_id: Digest) -> Store {
        self.tars.remove(&diff_id);
        self
    }
}

impl Uncompressed for Store {
    fn size(&self, diff_id: &Digest) -> Result<Option<u64>> {
        Ok(self.tars.get(diff_id).map(|tar| size(tar)))
    }

    fn open(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>> {
        self.opened.lock().unwrap().push(*diff_id);
        if let Some(interrupt) = &self.stops {
            interrupt.stop();
        }
        match self.tars.get(diff_id) {
            Some(tar) => Ok(Box::new(io::Cursor::new(tar.clone()))),
            None => Err(absent(&format!("layer {diff_id}"), "the store")),
        }
    }
}

impl LocalStore for Store {
    fn label(&self) -> &str {
        "the store"
    }

    fn find(&self, reference: &Reference) -> Result<Option<StoreImage>> {
        let name = match reference.digest() {
            Some(digest) => Reference::digested(reference.repository(), digest),
            None => reference.clone(),
        };
        let is_image = |shown: &&Shown| {
            let config = shown.config.as_ref();
            reference.is_nameless() && config.map(|raw| Digest::sha256(raw)) == reference.digest()
        };
        let by_id = self.names.values().find(is_image);
        let Some(shown) = self.names.get(&name.full()).or(by_id) else {
            return Ok(None);
        };
        let image = shown.config.as_ref();
        let image = image.map(|raw| BareImage::new(Digest::sha256(raw), raw.clone(), "the store"));
        Ok(Some(StoreImage::new(
            reference.repository(),
            &shown.digests,
            image.transpose()?,
        )))
    }

    fn list(&self) -> Result<Listing> {
        *self.listed.lock().unwrap() += 1;
        let mut references: Vec<Reference> = self.names.keys().map(|name| reference(name)).collect();
        references.sort();
        Ok(Listing {
            references,
            ..Listing::default()
        })
    }

    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let Some(bytes) = self.documents.get(digest) else {
            return Ok(None);
        };
        if self.blobs.get(digest) == Some(bytes) {
            return Ok(Some(bytes.clone()));
        }
        let (expected, found) = (*digest, Digest::sha256(&self.blobs[digest]));
        Err(Error::refused(
            Place::blob(expected).within("the store"),
            Problem::DigestDiffers { expected, found },
        ))
    }

    fn stored(&self, digest: &Digest) -> Result<Option<Stored>> {
        if self.unreadable == Some(*digest) {
            return Err(Error::io("open", "blob")(io::ErrorKind::PermissionDenied.into()));
        }
        Ok(self.blobs.get(digest).map(|bytes| in_file(bytes)))
    }

    fn stored_digests(&self, diff_id: &Digest, _: &Repository) -> Vec<Digest> {
        self.stored_digests.get(diff_id).cloned().unwrap_or_default()
    }

    fn stored_forms(&self) -> Vec<StoredForm> {
        let configs = self.names.values().filter_map(|shown| shown.config.as_ref());
        let configs: HashMap<Digest, &Vec<u8>> = configs
            .chain(self.documents.values())
            .map(|raw| (Digest::sha256(raw), raw))
            .collect();
        let mut forms = Vec::new();
        for bytes in self.documents.values() {
            let parsed = Document::sniff(bytes).map(|found| Document::parse(&found, bytes.clone()));
            if let Some(Ok(Document::Manifest(manifest))) = parsed {
                let config = configs.get(&manifest.config.digest);
                let config = config.and_then(|raw| Config::parse(raw).ok());
                forms.extend(StoredForm::of(&manifest, config.as_ref(), |layer| {
                    self.blobs.contains_key(&layer.digest)
                }));
            }
        }
        forms
    }

    fn relatives(&self, image: &BareImage) -> Vec<(Reference, BareImage)> {
        let mut relatives = Vec::new();
        for shown in self.names.values() {
            let Some(raw) = &shown.config else { continue };
            let held = BareImage::new(Digest::sha256(raw), raw.clone(), "the store").unwrap();
            if held.id != image.id && held.config.diff_ids.first() == image.config.diff_ids.first() {
                let names = shown.digests.iter();
                relatives.extend(names.map(|name| (name.clone(), held.clone())));
            }
        }
        relatives
    }
}

fn absent(what: &str, place: &str) -> Error {
    Error::NotFound {
        what: what.into(),
        place: place.into(),
        hint: None,
    }
}

/// A registry.
#[derive(Default)]
pub struct Registry {
    /// By repository.
    blobs: HashMap<String, HashMap<Digest, Vec<u8>>>,
    /// Repositories, or whole domains, that return only errors.
    closed: HashSet<String>,
    /// Blobs for which it returns other bytes.
    wrong: HashSet<Digest>,
    /// The targets of tags.
    pub tags: HashMap<String, Digest>,
    /// The response to every request.
    pub confused: Option<Descriptor>,
    /// The requests, in order.
    pub asked: Mutex<Vec<String>>,
}

impl Registry {
    /// Adds bytes to a repository.
    pub fn has(mut self, repository: &str, bytes: &[u8]) -> Registry {
        let repository: Repository = repository.parse().unwrap();
        let blobs = self.blobs.entry(repository.full().into()).or_default();
        blobs.insert(Digest::sha256(bytes), bytes.to_vec());
        self
    }

    /// Adds manifest, config and layers.
    pub fn has_all(self, repository: &str, image: &Image) -> Registry {
        let some = self
            .has(repository, &image.manifest)
            .has(repository, &image.config);
        image
            .stored
            .iter()
            .fold(some, |registry, layer| registry.has(repository, layer))
    }

    /// Returns only errors for a repository or domain.
    pub fn closed(mut self, name: &str) -> Registry {
        self.closed.insert(name.into());
        self
    }

    /// Returns other bytes instead.
    pub fn wrong(mut self, bytes: &[u8]) -> Registry {
        self.wrong.insert(Digest::sha256(bytes));
        self
    }

    pub fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn error(registry: &str, subject: &Digest, problem: &str) -> Error {
        Error::Registry {
            registry: registry.into(),
            subject: subject.to_string(),
            problem: problem.into(),
            hint: None,
            transient: false,
        }
    }

    fn get(&self, what: &str, repository: &Repository, digest: &Digest) -> Result<Vec<u8>> {
        let (domain, full) = (repository.domain(), repository.full());
        self.asked
            .lock()
            .unwrap()
            .push(format!("{what} {full}@{}", digest.short()));
        if self.closed.contains(domain) || self.closed.contains(full) {
            return Err(Registry::error(domain, digest, "no"));
        }
        let blobs = self.blobs.get(full);
        let bytes = blobs.and_then(|blobs| blobs.get(digest)).cloned();
        let mut bytes = bytes.ok_or_else(|| absent(&digest.to_string(), full))?;
        if self.wrong.contains(digest) {
            bytes[7] ^= 1;
        }
        Ok(bytes)
    }

    fn checked(&self, what: &str, repository: &Repository, digest: &Digest) -> Result<Vec<u8>> {
        let bytes = self.get(what, repository, digest)?;
        match Digest::sha256(&bytes) == *digest {
            true => Ok(bytes),
            false => {
                let (expected, found) = (*digest, Digest::sha256(&bytes));
                let place = Place::blob(expected).within(repository.domain());
                Err(Error::refused(place, Problem::DigestDiffers { expected, found }))
            }
        }
    }

    fn root(&self, reference: &Reference) -> Result<Descriptor> {
        let tagged = || self.tags.get(&reference.full()).copied();
        let Some(digest) = reference.digest().or_else(tagged) else {
            return Err(absent(&reference.familiar(), "the registry"));
        };
        let bytes = self.checked("resolve", reference.repository(), &digest)?;
        if let Some(other) = &self.confused {
            return Ok(other.clone());
        }
        Ok(describe(
            Document::sniff(&bytes).unwrap_or(MediaType::new("none")).as_str(),
            &bytes,
        ))
    }
}

impl Source for Registry {
    fn find(&self, query: &Query<'_>) -> Result<Vec<Answer<'_>>> {
        query.each(|reference| {
            let root = self.root(reference)?;
            Ok(Found::in_store(root, "the registry".into(), query.platforms))
        })
    }

    fn metadata(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.checked("metadata", repository, &descriptor.digest)
    }

    fn open(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        let mut bytes = io::Cursor::new(self.get("open", repository, &descriptor.digest)?);
        bytes.set_position(offset);
        Ok(Box::new(bytes))
    }

    fn list(&self) -> Result<Listing> {
        Ok(Listing::default())
    }

    fn fault(&self, repository: &Repository, descriptor: &Descriptor, problem: Problem) -> Error {
        Registry::error(repository.domain(), &descriptor.digest, &problem.to_string())
    }
}

/// Collects notes.
#[derive(Default)]
pub struct Notes(pub Mutex<Vec<String>>);

impl Progress for Notes {
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.into());
    }
}
