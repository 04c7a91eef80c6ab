//! Images that were made ready: what the source gives.

use std::collections::{HashMap, HashSet};

use super::LocalStore;
use super::layers::Layers;
use crate::error::{Error, Place, Problem, Result};
use crate::image::Graph;
use crate::image::provenance::{ManifestOrigin, Substitute};
use crate::oci::{Descriptor, Digest, Document, PlatformSelection, Reference};
use crate::source::Query;

/// The prepared images.
#[derive(Default)]
pub(super) struct Ready {
    /// By full reference.
    pub images: HashMap<String, ReadyImage>,
    pub documents: HashMap<Digest, Vec<u8>>,
    /// Whether the store's own documents are served too.
    pub is_open: bool,
    pub layers: Layers,
    /// By full reference of a tag: the other digests of its repository for the same image. They are prepared,
    /// too.
    pub others: HashMap<String, Vec<Reference>>,
    /// By full reference: why an image is skipped.
    pub left_out: HashMap<String, String>,
    /// By full reference: the error of an image.
    pub failed: HashMap<String, Error>,
    /// Full references of images that were asked for, and are not in the store.
    absent: HashSet<String>,
    /// The platforms that were asked for.
    platforms: Option<PlatformSelection>,
}

impl Ready {
    /// Whether an image was asked for already, for these platforms.
    pub fn is_known(&self, reference: &Reference, platforms: Option<&PlatformSelection>) -> bool {
        let name = reference.full();
        self.platforms.as_ref() == platforms
            && (self.images.contains_key(&name)
                || self.failed.contains_key(&name)
                || self.absent.contains(&name))
    }

    /// Adds what came of asking for more images.
    pub fn add(&mut self, more: Ready, query: &Query<'_>) {
        for reference in query.references {
            let name = reference.full();
            if !more.images.contains_key(&name) && !more.failed.contains_key(&name) {
                self.images.remove(&name);
                self.failed.remove(&name);
                self.absent.insert(name);
            }
        }
        self.images.extend(more.images);
        self.documents.extend(more.documents);
        self.is_open |= more.is_open;
        self.layers.extend(more.layers);
        self.others.extend(more.others);
        self.left_out.extend(more.left_out);
        self.failed.extend(more.failed);
        self.platforms = query.platforms.cloned();
    }

    /// A document or config to serve; `None` if it is missing.
    pub fn document(&self, store: &dyn LocalStore, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        let bytes = match self.documents.get(&descriptor.digest) {
            Some(bytes) => Some(bytes.clone()),
            None if self.is_open => store.document(&descriptor.digest)?,
            None => None,
        };
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        let (expected, found) = (descriptor.size, length(&bytes));
        if found != expected {
            let place = Place::blob(descriptor.digest).within(store.label());
            return Err(Error::refused(place, Problem::SizeDiffers { expected, found }));
        }
        if !self.is_open {
            return Ok(Some(bytes));
        }
        // For platforms that were not pulled, an engine may have the manifest but no config.
        if let Ok(Document::Manifest(manifest)) = Document::parse(&descriptor.media_type, bytes.clone())
            && store.stored(&manifest.config.digest)?.is_none()
        {
            return Ok(None);
        }
        Ok(Some(bytes))
    }

    /// Whether an image is given without a document of its index.
    pub fn omits(&self, store: &dyn LocalStore, reference: &Reference, document: &Descriptor) -> bool {
        // An unreadable document is not omitted: reading it returns the error.
        self.images.contains_key(&reference.full()) && matches!(self.document(store, document), Ok(None))
    }

    /// The graph below a manifest or index.
    pub fn walk(&self, store: &dyn LocalStore, root: &Descriptor) -> Result<Graph> {
        Graph::walk(root, &PlatformSelection::Present, &mut |descriptor| {
            self.document(store, descriptor)
        })
    }
}

/// One prepared image.
#[derive(Clone)]
pub(super) struct ReadyImage {
    pub root: Descriptor,
    /// Its only image, in a store of images rather than indexes.
    pub image_id: Option<Digest>,
    pub substitute: Option<Substitute>,
    pub origin: ManifestOrigin,
}

pub(super) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
