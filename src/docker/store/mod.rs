//! Docker's files on disk, read as root on its host, whether it runs or not. Docker's files are not changed.
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
//! - [`files`]: finds a store, by a running daemon or by its data root
//! - [`repositories`]: the list of names, pure
//! - `layers`: the layers and their folders
//! - `manifests`: manifests that sealift keeps for digests without a pull
//! - [`containerd`]: the content folders of Docker's containerd
//!
//! `crate::store` reads what other engines have as well: layers and containerd's content folder.

pub mod containerd;
pub mod files;
pub(crate) mod layers;
pub(crate) mod manifests;
pub(crate) mod replace;
pub mod repositories;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::api::Client;
use super::api::info::Info;
use crate::blob::Uncompressed;
use crate::blob::decompress::DEFAULT_LIMIT;
use crate::dir::Dir;
use crate::docker::daemon::process::{Process, obstacle};
use crate::docker::daemon::reach;
use crate::error::{Error, Remedy, Result};
use crate::load::Obstacle;
use crate::oci::{Digest, MAX_METADATA, Reference, json};
use crate::store::content::{self, ContentFolders};
use crate::store::layer::{self, LayerTar};
use crate::store::rooted::Rooted;
use crate::store::tar_split::Entries;
use files::Files;
use layers::{Layers, Layout};

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

/// An image of the store.
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
    /// The repository, as the daemon wrote it: `docker.io/library/httpd`.
    pub repository: String,
}

fn look(client: &Client) -> Result<(Process, Info), Obstacle> {
    if !rustix::process::geteuid().is_root() {
        return Err(Obstacle::new(
            "the engine's store can be used by root only",
            Remedy::RunAsRoot,
        ));
    }
    let info = Info::ask(client).map_err(|error| obstacle(&error))?;
    Ok((reach::process(client, &info)?, info))
}

/// The files of a running engine's classic store.
///
/// # Errors
///
/// Why they cannot be reached from here.
pub fn files_of(client: &Client) -> Result<Files, Obstacle> {
    let (process, info) = look(client)?;
    Files::of(&process, &info.docker_root_dir, &info.driver)
}

/// The content folders of a running engine, with either kind of store.
///
/// # Errors
///
/// Why they cannot be reached from here.
pub fn content_of(client: &Client) -> Result<ContentFolders, Obstacle> {
    let (process, info) = look(client)?;
    Ok(containerd::content_of(&process, &info.docker_root_dir))
}

impl ClassicStore {
    /// The store of a running engine, which has reported a classic one.
    ///
    /// # Errors
    ///
    /// Why it cannot be read from here.
    pub fn of(client: &Client) -> Result<ClassicStore, Obstacle> {
        ClassicStore::open(files_of(client)?).map_err(|error| obstacle(&error))
    }

    /// Opens a store; [`Files::find`] finds that of an engine that is not running.
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

    /// Sets the limit for the uncompressed bytes of a layer.
    #[must_use]
    pub fn with_max_layer_size(mut self, bytes: u64) -> ClassicStore {
        self.max_layer_size = bytes;
        self
    }

    /// Its files.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Why its layers cannot be read; everything else can.
    pub fn layers_obstacle(&self) -> Option<&Obstacle> {
        self.layers.as_ref().err()
    }

    /// All images by id, including those without a name and parents of others.
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
            // An invalid name cannot be requested, from dockerd neither.
            let Ok(name) = name.parse::<Reference>() else {
                continue;
            };
            // A name whose image is missing.
            let Some(kept) = images.get_mut(&id) else { continue };
            match name.digest() {
                Some(_) => kept.digests.push(name),
                None => kept.tags.push(name),
            }
        }
        Ok(images.into_values().collect())
    }

    /// The ids of those images that have neither a name nor a digest, and are no parent of another:
    /// `docker images` lists them as `<none>:<none>`. `images` must be all images of the store.
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

    /// Stored bytes of an image's config, verified against its id; `None` if there is no such image.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the digest differs; [`Error::Io`] if they cannot be read.
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

    /// The blobs that a layer was pulled from or pushed as, the newest first. Empty if none are known or the
    /// list is malformed; the daemon drops such a list too. Invalid digests are omitted.
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

    /// Opens a layer's `tar-split.json.gz`.
    fn entries(&self, path: &Path) -> Result<Entries<BufReader<File>>> {
        let opened = self
            .files
            .open_file(path)
            .and_then(|file| file.ok_or_else(|| io::ErrorKind::NotFound.into()));
        layer::entries(opened.map_err(Error::io("open", path))?, path)
    }

    /// Tries each folder of a layer until one can be read; `None` if there is none.
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
            layer::size(&mut self.entries(tar_split)?, tar_split)
        })
    }

    fn open(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>> {
        let opened = self.any(diff_id, |tar_split, folder| {
            let entries = self.entries(tar_split)?;
            let folder = Rooted::new(folder()?);
            Ok(LayerTar::new(entries, folder, self.max_layer_size))
        })?;
        match opened {
            Some(tar) => Ok(Box::new(tar)),
            None => Err(Error::NotFound {
                what: format!("layer {diff_id}"),
                place: format!("the store in {}", self.files.data_root.display()),
                hint: self
                    .layers_obstacle()
                    .map(|obstacle| obstacle.reason.clone().into()),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
