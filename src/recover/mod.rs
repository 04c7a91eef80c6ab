//! Images whose store lost part of their registry form, as a source.
//!
//! An engine may keep layers uncompressed and no manifest; `docker save` writes images so. What is missing is looked
//! for in the store, then in the registry by digest; then manifests are rebuilt and layers recompressed. Everything
//! recovered hashes to the digest that the engine shows. What cannot be recovered is reported.
//!
//! - `source`: all of it as a [`crate::source::Source`]
//! - `recovery`: makes images ready; `draft`: one on its way, as one of its digests; `ready`: what is given out
//! - `manifests`: the documents from a digest down to an image's manifest, wherever they are
//! - `rebuild`: manifests that neither the store nor a registry has, rebuilt; `lost`: one of them, by trying templates
//! - `layers`: the form in which each layer is saved; [`recompress`]: layers in their original form
//! - `forms`: what other manifests say about stored layers
//! - `substitute`: images whose manifest cannot be recovered
//! - `choose`: which of several digests a tag gets
//! - `platforms`: which platforms are requested, and which are present
//! - `docker_save`: an archive of `docker save` as a store

mod choose;
mod docker_save;
mod draft;
mod forms;
mod layers;
pub(crate) mod lost;
mod manifests;
mod platforms;
mod ready;
mod rebuild;
pub mod recompress;
mod recovery;
mod source;
mod substitute;

use std::sync::Arc;

use crate::blob::Stored;
use crate::blob::Uncompressed;
use crate::blob::decompress::DEFAULT_LIMIT;
use crate::error::{Error, Place, Problem, Result};
use crate::oci::{Config, Digest, Reference, Repository};
use crate::progress::Progress;
use crate::source::{Listing, StoredForm};

pub use docker_save::DockerSaveStore;
pub use source::{Options, Rebuild, RecoverSource};

/// A store of images that may lack their registry form: an engine's, or an archive of `docker save`.
pub trait LocalStore: Uncompressed {
    /// Its name in messages and reports.
    fn label(&self) -> &str;

    /// Whether only root, or the group of an engine, may read it.
    fn is_private(&self) -> bool {
        true
    }

    /// Most uncompressed bytes of a layer.
    fn max_layer_size(&self) -> u64 {
        DEFAULT_LIMIT
    }

    /// Why an image without a digest has none.
    fn undigested(&self) -> &'static str {
        "the image has no digest of a registry: it was never pulled or pushed"
    }

    /// Prepares the images that will be requested, all at once and before the first [`LocalStore::find`].
    ///
    /// # Errors
    ///
    /// If they cannot be read. A missing image is not an error.
    fn gather(&self, references: &[Reference], progress: &dyn Progress) -> Result<()> {
        let _ = (references, progress);
        Ok(())
    }

    /// The image of a reference; `None` if the store does not have it.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or the image is damaged.
    fn find(&self, reference: &Reference) -> Result<Option<StoreImage>>;

    /// The images of the store. An image without a tag is listed by its digest.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn list(&self) -> Result<Listing>;

    /// The stored bytes of a manifest, index or config, verified against the digest; `None` if it is missing.
    ///
    /// # Errors
    ///
    /// If it exists and cannot be read, or does not match.
    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>>;

    /// The stored bytes of a blob; `None` if the store does not have them. The reader hashes them.
    ///
    /// # Errors
    ///
    /// If it exists and cannot be opened.
    fn stored(&self, digest: &Digest) -> Result<Option<Stored>>;

    /// The digests of a layer's stored forms in registries, as far as the store knows them, the likeliest for this
    /// repository first.
    fn stored_digests(&self, diff_id: &Digest, repository: &Repository) -> Vec<Digest>;

    /// The stored layers that the manifests in the store name. Unreadable manifests are skipped.
    fn stored_forms(&self) -> Vec<StoredForm> {
        Vec::new()
    }

    /// Images that share layers with one, each with a `NAME@DIGEST` that the store shows. Unreadable ones are skipped.
    fn relatives(&self, image: &BareImage) -> Vec<(Reference, BareImage)> {
        let _ = image;
        Vec::new()
    }
}

/// An image in a store.
#[derive(Debug, Clone)]
pub struct StoreImage {
    /// The `NAME@DIGEST` that the store shows in the repository of the name, each once and in order. Only these
    /// count as digests of the name.
    pub digests: Vec<Reference>,
    /// Those that it shows for the image in other repositories. Their manifests have the same content.
    pub elsewhere: Vec<Reference>,
    /// The only image of the name, in a store of images rather than indexes.
    pub image: Option<BareImage>,
}

impl StoreImage {
    /// Takes an image and every `NAME@DIGEST` that the store shows for it.
    pub fn new(repository: &Repository, shown: &[Reference], image: Option<BareImage>) -> StoreImage {
        let mut digests: Vec<Reference> = shown
            .iter()
            .filter_map(|name| Some(Reference::digested(name.repository(), name.digest()?)))
            .collect();
        digests.sort();
        digests.dedup();
        let (digests, elsewhere) = digests
            .into_iter()
            .partition(|name| name.repository() == repository);
        StoreImage {
            digests,
            elsewhere,
            image,
        }
    }
}

/// An image without its manifest: only a config, which names the layers by diff id.
#[derive(Debug, Clone)]
pub struct BareImage {
    /// Digest of the config.
    pub id: Digest,
    /// The config's stored bytes.
    pub raw: Arc<[u8]>,
    /// The config.
    pub config: Config,
}

impl BareImage {
    /// Parses a config's stored bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if they are not a config, or do not hash to `id`.
    pub fn new(id: Digest, raw: Vec<u8>, place: &str) -> Result<BareImage> {
        let refuse = |problem| Error::refused(Place::blob(id).within(place), problem);
        let found = id.of_same_algorithm(&raw);
        if found != id {
            return Err(refuse(Problem::DigestDiffers { expected: id, found }));
        }
        let config = Config::parse(&raw).map_err(|reason| refuse(Problem::Document { reason }))?;
        Ok(BareImage {
            id,
            raw: raw.into(),
            config,
        })
    }
}

/// The names of an image: its tags, and its digests in repositories where it has no tag.
pub fn names_of<'a>(tags: &'a [Reference], digests: &'a [Reference]) -> impl Iterator<Item = &'a Reference> {
    let is_tagged = |digest: &&Reference| tags.iter().any(|tag| tag.repository() == digest.repository());
    tags.iter()
        .chain(digests.iter().filter(move |digest| !is_tagged(digest)))
}

#[cfg(test)]
mod tests;
