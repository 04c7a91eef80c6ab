//! Images that were made ready: what the source gives.

use std::collections::HashMap;

use super::LocalStore;
use super::layers::Layers;
use crate::error::{Error, Place, Problem, Result};
use crate::image::Graph;
use crate::image::provenance::{ManifestOrigin, Substitute};
use crate::oci::{Descriptor, Digest, Document, PlatformSelection, Reference};

/// What was made ready.
#[derive(Default)]
pub(super) struct Ready {
    /// By full reference.
    pub images: HashMap<String, ReadyImage>,
    pub documents: HashMap<Digest, Vec<u8>>,
    /// Whether the store's own documents are given out besides.
    pub is_open: bool,
    pub layers: Layers,
    /// By full reference of a tag: the other digests of its repository that the same image is shown by. They are
    /// made ready, too.
    pub others: HashMap<String, Vec<Reference>>,
    /// By full reference: why an image that is here is not given for it.
    pub left_out: HashMap<String, String>,
    /// By full reference: what is wrong with an image that is here.
    pub failed: HashMap<String, Error>,
}

impl Ready {
    /// A document or config that is given out; `None` if there is none.
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
        // Of platforms that were not pulled an engine may have the manifest, but no config.
        if let Ok(Document::Manifest(manifest)) = Document::parse(&descriptor.media_type, bytes.clone())
            && store.stored(&manifest.config.digest)?.is_none()
        {
            return Ok(None);
        }
        Ok(Some(bytes))
    }

    /// Whether an image is given without a document of its index.
    pub fn omits(&self, store: &dyn LocalStore, reference: &Reference, document: &Descriptor) -> bool {
        // What cannot be read is not left out: the error is told when it is.
        self.images.contains_key(&reference.full()) && matches!(self.document(store, document), Ok(None))
    }

    /// Everything below a manifest or index that is given out.
    pub fn walk(&self, store: &dyn LocalStore, root: &Descriptor) -> Result<Graph> {
        Graph::walk(root, &PlatformSelection::Present, &mut |descriptor| {
            self.document(store, descriptor)
        })
    }
}

/// One image that was made ready.
#[derive(Clone)]
pub(super) struct ReadyImage {
    pub root: Descriptor,
    /// The one image that it is, where an engine keeps images and not indexes.
    pub image_id: Option<Digest>,
    pub substitute: Option<Substitute>,
    pub origin: ManifestOrigin,
}

pub(super) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
