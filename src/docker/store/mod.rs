//! What a Docker keeps on disk, read as root on its host, whether or not it runs. Nothing of
//! Docker's is changed.
//!
//! ```text
//! DATA-ROOT/image/DRIVER/
//!   repositories.json                          names and digests -> image ids
//!   imagedb/content/sha256/IMAGE-ID            the config
//!   layerdb/sha256/CHAIN/{diff,cache-id}       diff id, and where the layer's files are
//!   layerdb/sha256/CHAIN/tar-split.json.gz     what of its tar is not in its files
//!   distribution/v2metadata-by-diffid/sha256/  as which blobs a layer was pulled or pushed
//! DATA-ROOT/overlay2/CACHE-ID/diff/            the files
//! DATA-ROOT/sealift/DRIVER/                    manifests that sealift keeps
//! ROOT/io.containerd.content.v1.content/       of its containerd: original manifests, or all blobs
//! ```
//!
//! - [`files`]: where a store is, by a running daemon or by its data root
//! - [`repositories`]: the list of names, pure
//! - [`layers`]: which layers there are, and where
//! - [`tar_split`], [`rooted`], [`layer`]: the parts of a layer's tar, its files, and both put together
//! - [`manifests`]: manifests that sealift keeps where no pull has left them
//! - [`content`], [`containerd`]: blobs in containerd's folder, and which folder that is

pub mod containerd;
pub mod content;
pub mod files;
pub mod layer;
pub mod layers;
pub mod manifests;
pub mod replace;
pub mod repositories;
pub mod rooted;
pub mod tar_split;

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::Path;

use super::api::Client;
use super::api::info::Info;
use crate::blob::Uncompressed;
use crate::blob::decompress::DEFAULT_LIMIT;
use crate::dir::Dir;
use crate::docker::daemon::process::{Process, obstacle};
use crate::docker::daemon::reach;
use crate::error::{Error, Result};
use crate::load::Obstacle;
use crate::oci::{Digest, MAX_METADATA, Reference, json};
use content::ContentFolders;
use files::Files;
use layer::LayerTar;
use layers::{Layers, Layout};
use rooted::Rooted;

/// Largest list of a layer's blobs, in bytes; the daemon keeps a hundred of them.
pub(super) const MAX_BLOBS: u64 = 1 << 20;
/// Largest file with an image id, in bytes.
const MAX_ID: u64 = 1 << 10;

/// A classic store.
#[derive(Debug)]
pub struct ClassicStore {
    files: Files,
    layers: Result<Layers, Obstacle>,
    max_layer_size: u64,
}

/// An image that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// Digest of its config.
    pub id: Digest,
    /// Its tags.
    pub tags: Vec<Reference>,
    /// Its `name@digest`.
    pub digests: Vec<Reference>,
}

/// A blob that a layer was pulled from, or pushed as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of its stored bytes.
    pub digest: Digest,
    /// The repository that has it, as the daemon wrote it: `docker.io/library/httpd`.
    pub repository: String,
}

fn look(client: &Client) -> Result<(Process, Info), Obstacle> {
    if !rustix::process::geteuid().is_root() {
        return Err(Obstacle::new(
            "the engine's store can be used by root only",
            "run the same command with sudo",
        ));
    }
    let info = Info::ask(client).map_err(|error| obstacle(&error))?;
    Ok((reach::process(client, &info)?, info))
}

/// Where a running engine's classic store is.
///
/// # Errors
///
/// Why it cannot be reached from here.
pub fn files_of(client: &Client) -> Result<Files, Obstacle> {
    let (process, info) = look(client)?;
    Files::of(&process, &info.docker_root_dir, &info.driver)
}

/// The folders that a running engine's blobs may be in, of either kind of store.
///
/// # Errors
///
/// Why they cannot be reached from here.
pub fn content_of(client: &Client) -> Result<ContentFolders, Obstacle> {
    let (process, info) = look(client)?;
    Ok(ContentFolders::of(&process, &info.docker_root_dir))
}

impl ClassicStore {
    /// That of an engine that runs, and answers that its store is a classic one.
    ///
    /// # Errors
    ///
    /// Why it cannot be read from here.
    pub fn of(client: &Client) -> Result<ClassicStore, Obstacle> {
        ClassicStore::open(files_of(client)?).map_err(|error| obstacle(&error))
    }

    /// Opens one by where it is; [`Files::find`] knows that of an engine that does not run.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read.
    pub fn open(files: Files) -> Result<ClassicStore> {
        let layers = match Layout::of(&files.driver) {
            Ok(layout) => Ok(Layers::scan(&files, layout)?),
            Err(obstacle) => Err(obstacle),
        };
        Ok(ClassicStore {
            files,
            layers,
            max_layer_size: DEFAULT_LIMIT,
        })
    }

    /// The same with another limit for the uncompressed bytes of a layer.
    #[must_use]
    pub fn with_max_layer_size(mut self, bytes: u64) -> ClassicStore {
        self.max_layer_size = bytes;
        self
    }

    /// Where it is.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Why its layers cannot be read; everything else can.
    pub fn layers_obstacle(&self) -> Option<&Obstacle> {
        self.layers.as_ref().err()
    }

    /// All images, those without a name and those that others were built from among them, in order of their ids.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the list of names or of images cannot be read.
    pub fn images(&self) -> Result<Vec<StoredImage>> {
        let mut images: BTreeMap<Digest, StoredImage> = BTreeMap::new();
        for id in layers::digests(&self.files, &self.files.configs().join("sha256"))? {
            images.insert(id, StoredImage::unnamed(id));
        }
        for (name, id) in self.files.repositories()?.names() {
            // One that is no name at all cannot be asked for, of dockerd neither.
            let Ok(name) = name.parse::<Reference>() else {
                continue;
            };
            // A name whose image is gone is no image.
            let Some(kept) = images.get_mut(&id) else { continue };
            match name.digest() {
                Some(_) => kept.digests.push(name),
                None => kept.tags.push(name),
            }
        }
        Ok(images.into_values().collect())
    }

    /// Of these images, all that the store has, the ids of those that have neither a name nor a digest, and that no
    /// other image was built from: what `docker images` lists as `<none>:<none>`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the store cannot be read.
    pub fn nameless(&self, images: &[StoredImage]) -> Result<Vec<Digest>> {
        let mut parents = HashSet::new();
        for image in images {
            let path = self.files.parent(&image.id);
            let bytes = self
                .files
                .read_file(&path, MAX_ID)
                .map_err(Error::io("read", &path))?;
            let parent = bytes.and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse::<Digest>().ok());
            parents.extend(parent);
        }
        let is_nameless = |image: &&StoredImage| {
            image.tags.is_empty() && image.digests.is_empty() && !parents.contains(&image.id)
        };
        Ok(images.iter().filter(is_nameless).map(|image| image.id).collect())
    }

    /// Stored bytes of an image's config, checked against its id; `None` if there is no such image.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if they have another digest; [`Error::Io`] if they cannot be read.
    pub fn config(&self, image_id: &Digest) -> Result<Option<Vec<u8>>> {
        let path = self.files.config(image_id);
        let bytes = self
            .files
            .read_file(&path, MAX_METADATA)
            .map_err(Error::io("read", &path))?;
        bytes
            .map(|bytes| content::checked(bytes, image_id, &path))
            .transpose()
    }

    /// The blobs that a layer was pulled from or pushed as, the newest first. Empty if none are known, or the
    /// list cannot be understood, in which case the daemon forgets it, too. Digests that are none are left out.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read.
    pub fn pushed(&self, diff_id: &Digest) -> Result<Vec<Pushed>> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Blob {
            digest: Digest,
            #[serde(default)]
            source_repository: String,
        }
        let path = self.files.blobs(diff_id);
        let bytes = self
            .files
            .read_file(&path, MAX_BLOBS)
            .map_err(Error::io("read", &path))?;
        let entries: Vec<serde_json::Value> = bytes
            .and_then(|bytes| json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let newest_first = entries.into_iter().rev();
        Ok(newest_first
            .filter_map(|entry| serde_json::from_value::<Blob>(entry).ok())
            .map(|blob| Pushed {
                digest: blob.digest,
                repository: blob.source_repository,
            })
            .collect())
    }

    /// Does the same with each folder of a layer until one can be read; `None` if there is none.
    fn any<T>(
        &self,
        diff_id: &Digest,
        act: impl Fn(&Path, &dyn Fn() -> Result<Dir>) -> Result<T>,
    ) -> Result<Option<T>> {
        let Ok(layers) = &self.layers else { return Ok(None) };
        let mut last = Ok(None);
        for chain in layers.chains(diff_id) {
            match act(&layers.tar_split(chain), &|| layers.folder(chain)) {
                Ok(done) => return Ok(Some(done)),
                Err(error) => last = Err(error),
            }
        }
        last
    }
}

impl StoredImage {
    fn unnamed(id: Digest) -> StoredImage {
        StoredImage {
            id,
            tags: Vec::new(),
            digests: Vec::new(),
        }
    }
}

impl Uncompressed for ClassicStore {
    fn size(&self, diff_id: &Digest) -> Result<Option<u64>> {
        self.any(diff_id, |tar_split, _| {
            layer::size(&mut layer::entries(&self.files, tar_split)?, tar_split)
        })
    }

    fn open(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>> {
        let opened = self.any(diff_id, |tar_split, folder| {
            let entries = layer::entries(&self.files, tar_split)?;
            let folder = Rooted::new(folder()?);
            Ok(LayerTar::new(entries, folder, self.max_layer_size))
        })?;
        match opened {
            Some(tar) => Ok(Box::new(tar)),
            None => Err(Error::NotFound {
                what: format!("layer {diff_id}"),
                place: format!("the store in {}", self.files.data_root.display()),
                hint: self.layers_obstacle().map(|obstacle| obstacle.reason.clone()),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
