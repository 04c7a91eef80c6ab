//! An archive of `docker save` as a store: configs and layers, without a digest of its own.

use std::collections::HashMap;
use std::io::Read;
use std::sync::OnceLock;

use super::{BareImage, LocalStore, StoreImage};
use crate::archive::{DockerSave, SavedImage, is_private_place};
use crate::blob::Stored;
use crate::blob::Uncompressed;
use crate::error::Result;
use crate::oci::{Compression, Descriptor, Digest, MediaType, Reference, Repository};
use crate::progress::Progress;
use crate::source::{Listing, StoredForm};

/// An archive, and what else is known about its images.
pub struct DockerSaveStore {
    archive: DockerSave,
    label: String,
    /// Names and digests by image id, if an engine reported them.
    shown: Option<HashMap<Digest, Vec<Reference>>>,
    /// Compressed layers, by the digests of their stored bytes.
    stored: HashMap<Digest, (Stored, Compression)>,
    stored_digests: HashMap<Digest, Vec<Digest>>,
    /// Whether more than one image was requested.
    are_several: OnceLock<bool>,
}

impl DockerSaveStore {
    /// Uses an archive as it is.
    ///
    /// # Errors
    ///
    /// If a compressed layer cannot be read.
    pub fn new(archive: DockerSave) -> Result<DockerSaveStore> {
        let mut saved = DockerSaveStore {
            label: archive.label().into(),
            shown: None,
            stored: HashMap::new(),
            stored_digests: HashMap::new(),
            are_several: OnceLock::new(),
            archive,
        };
        let diff_ids = saved
            .archive
            .images()
            .iter()
            .flat_map(|image| &image.config.diff_ids);
        for diff_id in diff_ids {
            for layer in saved.archive.stored(diff_id) {
                if layer.compression() == Compression::None || saved.stored_digests.contains_key(diff_id) {
                    continue;
                }
                let digest = saved.archive.digest(layer)?;
                let found = (layer.stored().clone(), layer.compression());
                saved.stored.insert(digest, found);
                saved.stored_digests.entry(*diff_id).or_default().push(digest);
            }
        }
        Ok(saved)
    }

    /// Uses an engine's export, with the names and digests that the engine shows for each image id.
    ///
    /// # Errors
    ///
    /// As [`DockerSaveStore::new`].
    pub fn of_engine(
        archive: DockerSave,
        label: &str,
        shown: HashMap<Digest, Vec<Reference>>,
    ) -> Result<DockerSaveStore> {
        Ok(DockerSaveStore {
            label: label.into(),
            shown: Some(shown),
            ..DockerSaveStore::new(archive)?
        })
    }

    fn image(&self, reference: &Reference) -> Option<&SavedImage> {
        let images = self.archive.images();
        if reference.is_nameless() {
            return images
                .iter()
                .find(|image| Some(image.image_id) == reference.digest());
        }
        if let Some(shown) = &self.shown {
            let is_shown = |image: &&SavedImage| {
                let names = shown.get(&image.image_id);
                names.is_some_and(|names| names.iter().any(|name| is_name(name, reference)))
            };
            return images.iter().find(is_shown);
        }
        let tag = reference.without_digest();
        let is_tagged = |image: &&SavedImage| image.tags.iter().any(|name| Some(name) == tag.as_ref());
        let is_of_repository = |image: &&SavedImage| {
            let mut names = image.tags.iter();
            names.any(|name| name.repository() == reference.repository())
        };
        if let Some(image) = images.iter().find(is_tagged) {
            return Some(image);
        }
        match images {
            // An image without a name gets the requested one, but only one.
            [only] if only.tags.is_empty() => {
                let is_certain = reference.digest().is_some() || self.are_several.get() != Some(&true);
                Some(only).filter(|_| is_certain)
            }
            // By digest alone: the archive does not say which image has it, so there must be only one.
            _ if reference.tag().is_none() => {
                let mut found = images.iter().filter(is_of_repository);
                found.next().filter(|_| found.next().is_none())
            }
            _ => None,
        }
    }
}

/// Whether a name that an engine shows is the requested one. If that has a tag and a digest, the digest
/// decides.
fn is_name(shown: &Reference, asked: &Reference) -> bool {
    match asked.digest() {
        Some(digest) => shown.repository() == asked.repository() && shown.digest() == Some(digest),
        None => shown == asked,
    }
}

impl Uncompressed for DockerSaveStore {
    fn size(&self, diff_id: &Digest) -> Result<Option<u64>> {
        self.archive.size(diff_id)
    }

    fn open(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>> {
        self.archive.open(diff_id)
    }
}

impl LocalStore for DockerSaveStore {
    /// An engine's export is private; an archive is as private as its file.
    fn is_private(&self) -> bool {
        self.shown.is_some() || is_private_place(&self.label)
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn max_layer_size(&self) -> u64 {
        self.archive.max_layer_size()
    }

    fn gather(&self, references: &[Reference], _: &dyn Progress) -> Result<()> {
        let are_several = references.iter().any(|one| references.first() != Some(one));
        // Images are gathered once.
        let _ = self.are_several.set(are_several);
        Ok(())
    }

    fn undigested(&self) -> &'static str {
        match self.shown {
            Some(_) => "the image has no digest of a registry: it was never pulled or pushed",
            None => {
                "archives of docker save and of podman's docker formats have none; to have it looked for, request the \
                 image as NAME@sha256:..."
            }
        }
    }

    fn find(&self, reference: &Reference) -> Result<Option<StoreImage>> {
        let Some(image) = self.image(reference) else {
            return Ok(None);
        };
        let shown = self.shown.as_ref().and_then(|shown| shown.get(&image.image_id));
        let shown = shown.map(Vec::as_slice).unwrap_or_default();
        let bare = BareImage {
            id: image.image_id,
            raw: image.config_raw.clone(),
            config: image.config.clone(),
        };
        Ok(Some(StoreImage::new(reference.repository(), shown, Some(bare))))
    }

    fn list(&self) -> Result<Listing> {
        let images = self.archive.images().iter();
        let names = |image: &SavedImage| match image.tags.as_slice() {
            [] => vec![Reference::nameless(image.image_id)],
            tags => tags.to_vec(),
        };
        let mut references: Vec<Reference> = images.clone().flat_map(names).collect();
        references.sort();
        references.dedup();
        Ok(Listing {
            references,
            ids: images.map(|image| image.image_id).collect(),
            ..Listing::default()
        })
    }

    fn document(&self, _: &Digest) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn stored(&self, digest: &Digest) -> Result<Option<Stored>> {
        Ok(self.stored.get(digest).map(|(stored, _)| stored.clone()))
    }

    fn stored_digests(&self, diff_id: &Digest, _: &Repository) -> Vec<Digest> {
        self.stored_digests.get(diff_id).cloned().unwrap_or_default()
    }

    fn stored_forms(&self) -> Vec<StoredForm> {
        let mut forms = Vec::new();
        for (diff_id, digests) in &self.stored_digests {
            for (digest, (stored, compression)) in
                digests.iter().filter_map(|one| self.stored.get_key_value(one))
            {
                let media_type = MediaType::new(match compression {
                    Compression::Gzip => MediaType::OCI_LAYER_GZIP,
                    Compression::Zstd => MediaType::OCI_LAYER_ZSTD,
                    Compression::None => MediaType::OCI_LAYER,
                });
                forms.push(StoredForm {
                    diff_id: Some(*diff_id),
                    layer: Descriptor::new(media_type, *digest, stored.size),
                    is_here: true,
                });
            }
        }
        forms
    }
}
