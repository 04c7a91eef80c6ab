//! Images that an engine or an archive holds without all that a registry had of them, as a source.
//!
//! An engine may keep layers unpacked and no manifest; `docker save` writes images so. What is missing is looked
//! for where it may be: in the holder, in the registry by digest, and in a rebuild, in this order. Whatever is
//! found hashes to the digest that the engine shows; where nothing is found, that is told.
//!
//! - `manifests`: the documents from a digest down to an image's manifest, wherever they are
//! - `layers`: in which form each layer goes into the archive
//! - `saved`: an archive of `docker save` as a holder
//! - `work`: making images ready
//! - `choose`: which of several digests a tag gets
//! - `known`: what other manifests tell of layers
//! - `recover`: manifests that are found nowhere, written again
//! - `unknown`: images whose manifest cannot be recovered either
//! - `platforms`: which platforms are wanted, and which are there
//! - `source`: all of it as a [`crate::source::Source`]

mod choose;
mod known;
mod layers;
mod manifests;
mod platforms;
mod recover;
mod saved;
mod source;
mod unknown;
mod work;

use std::sync::Arc;

use crate::blob::Stored;
use crate::blob::Uncompressed;
use crate::blob::decompress::DEFAULT_LIMIT;
use crate::error::{Error, Place, Problem, Result};
use crate::oci::{Config, Digest, Reference, Repository};
use crate::progress::Progress;
use crate::source::StoredForm;

pub use saved::Saved;
pub use source::{HeldSource, Options, Rebuild};

/// What holds images: an engine's store, or an archive of `docker save`. The bare minimum.
pub trait Holder: Uncompressed {
    /// What to call it in messages and reports.
    fn label(&self) -> &str;

    /// Whether only root, or the group of an engine, may read it.
    fn is_private(&self) -> bool {
        true
    }

    /// Most uncompressed bytes of a layer.
    fn max_layer_size(&self) -> u64 {
        DEFAULT_LIMIT
    }

    /// Why an image has no digest, where it has none.
    fn undigested(&self) -> &'static str {
        "the image has no digest of a registry: it was never pulled or pushed"
    }

    /// Is told which images will be asked for, all of them at once, before any is.
    ///
    /// # Errors
    ///
    /// If they cannot be had. An image that it does not have is no error.
    fn gather(&self, references: &[Reference], progress: &dyn Progress) -> Result<()> {
        let _ = (references, progress);
        Ok(())
    }

    /// The image of a reference; `None` if it has none.
    ///
    /// # Errors
    ///
    /// If it cannot be asked, or the image is there and damaged.
    fn find(&self, reference: &Reference) -> Result<Option<Holding>>;

    /// Every name that it has; an image without a tag by its digest.
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    fn references(&self) -> Result<Vec<Reference>>;

    /// Images that have neither a name nor a digest, each by the digest that it is found by as
    /// [`Reference::nameless`].
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    fn nameless(&self) -> Result<Vec<Digest>> {
        Ok(Vec::new())
    }

    /// The ids of its images, those with a name among them, by which each is found as [`Reference::nameless`].
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    fn ids(&self) -> Result<Vec<Digest>> {
        Ok(Vec::new())
    }

    /// The stored bytes of a manifest, index or config, which hash to the digest; `None` if it is not here.
    ///
    /// # Errors
    ///
    /// If it is here and cannot be read, or is something else.
    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>>;

    /// Where a blob's stored bytes are; `None` if it is not here, or can be had otherwise. Whoever reads them hashes
    /// them.
    ///
    /// # Errors
    ///
    /// If it is here and cannot be opened.
    fn stored(&self, digest: &Digest) -> Result<Option<Stored>>;

    /// The digests that a layer is known to have had in registries, the likeliest for this repository first.
    fn packed(&self, diff_id: &Digest, repository: &Repository) -> Vec<Digest>;

    /// The layers that manifests name which it has, of whatever images. What cannot be read is left out.
    fn stored_forms(&self) -> Vec<StoredForm> {
        Vec::new()
    }

    /// Images that share layers with one, each as `NAME@DIGEST` that it is shown by. What cannot be read is left out.
    fn relatives(&self, image: &HeldImage) -> Vec<(Reference, HeldImage)> {
        let _ = image;
        Vec::new()
    }
}

/// An image as it is held.
#[derive(Debug, Clone)]
pub struct Holding {
    /// `NAME@DIGEST` that the holder shows for the repository of the name, each once and in order: no others count
    /// as the name's digests.
    pub digests: Vec<Reference>,
    /// Those that it shows for the same image in other repositories. Their manifests name the same content.
    pub elsewhere: Vec<Reference>,
    /// The one image that the name stands for, where an engine keeps images and not indexes.
    pub image: Option<HeldImage>,
}

impl Holding {
    /// Takes an image with all that it is shown as by digest.
    pub fn new(repository: &Repository, shown: &[Reference], image: Option<HeldImage>) -> Holding {
        let mut digests: Vec<Reference> = shown
            .iter()
            .filter_map(|name| Some(Reference::digested(name.repository(), name.digest()?)))
            .collect();
        digests.sort();
        digests.dedup();
        let (digests, elsewhere) = digests
            .into_iter()
            .partition(|name| name.repository() == repository);
        Holding {
            digests,
            elsewhere,
            image,
        }
    }
}

/// One image without its manifest.
#[derive(Debug, Clone)]
pub struct HeldImage {
    /// Digest of the config.
    pub id: Digest,
    /// The config's stored bytes.
    pub raw: Arc<[u8]>,
    /// The config.
    pub config: Config,
}

impl HeldImage {
    /// Takes a config's stored bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if they are no config, or not those of `id`.
    pub fn new(id: Digest, raw: Vec<u8>, place: &str) -> Result<HeldImage> {
        let refuse = |problem| Error::refused(Place::blob(id).within(place), problem);
        let found = id.of_same_algorithm(&raw);
        if found != id {
            return Err(refuse(Problem::DigestDiffers { expected: id, found }));
        }
        let config = Config::parse(&raw).map_err(|reason| refuse(Problem::Document { reason }))?;
        Ok(HeldImage {
            id,
            raw: raw.into(),
            config,
        })
    }
}

/// The names that an image is listed by: its tags, and its digests in repositories where it has no tag.
pub fn names_of<'a>(tags: &'a [Reference], digests: &'a [Reference]) -> impl Iterator<Item = &'a Reference> {
    let is_tagged = |digest: &&Reference| tags.iter().any(|tag| tag.repository() == digest.repository());
    tags.iter()
        .chain(digests.iter().filter(move |digest| !is_tagged(digest)))
}

#[cfg(test)]
mod tests;
