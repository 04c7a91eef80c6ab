//! The classic store from its files, whether its engine is running or not.

use std::io::Read;

use crate::blob::Stored;
use crate::blob::Uncompressed;
use crate::docker::store::manifests::KeptManifests;
use crate::docker::store::{ClassicStore, StoredImage};
use crate::error::Result;
use crate::oci::{Config, Digest, Reference, Repository};
use crate::progress::Progress;
use crate::recover::{BareImage, LocalStore, StoreImage, names_of};
use crate::source::{Listing, StoredForm};
use crate::store::content::ContentFolders;

/// A classic store.
pub(super) struct Disk {
    store: ClassicStore,
    folders: ContentFolders,
    /// The manifests that sealift keeps for digests without a pull.
    manifests: Option<KeptManifests>,
    images: Vec<StoredImage>,
    label: String,
}

impl Disk {
    pub fn new(
        store: ClassicStore,
        folders: ContentFolders,
        label: String,
        progress: &dyn Progress,
    ) -> Result<Disk> {
        let manifests = KeptManifests::open(store.files()).unwrap_or_else(|error| {
            progress.note(&format!(
                "{label}: manifests that were kept for it are not used: {error}"
            ));
            None
        });
        // A store that cannot be written to is only read.
        let _ = KeptManifests::tidy(store.files());
        Ok(Disk {
            images: store.images()?,
            store,
            folders,
            manifests,
            label,
        })
    }
}

impl Uncompressed for Disk {
    fn size(&self, diff_id: &Digest) -> Result<Option<u64>> {
        self.store.size(diff_id)
    }

    fn open(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>> {
        self.store.open(diff_id)
    }
}

impl LocalStore for Disk {
    fn label(&self) -> &str {
        &self.label
    }

    fn find(&self, reference: &Reference) -> Result<Option<StoreImage>> {
        let is_named = |image: &&StoredImage| match reference.digest() {
            Some(digest) if reference.is_nameless() => image.id == digest,
            Some(digest) => image
                .digests
                .contains(&Reference::digested(reference.repository(), digest)),
            None => image.tags.contains(reference),
        };
        let Some(image) = self.images.iter().find(is_named) else {
            return Ok(None);
        };
        // Removed since the list was read.
        let Some(raw) = self.store.config(&image.id)? else {
            return Ok(None);
        };
        let bare = BareImage::new(image.id, raw, &self.label)?;
        Ok(Some(StoreImage::new(
            reference.repository(),
            &image.digests,
            Some(bare),
        )))
    }

    fn list(&self) -> Result<Listing> {
        let images = self.images.iter();
        let names = images.flat_map(|image| names_of(&image.tags, &image.digests).cloned());
        Ok(Listing {
            references: names.collect(),
            nameless: self.store.nameless(&self.images)?,
            ids: self.images.iter().map(|image| image.id).collect(),
            is_partial: false,
        })
    }

    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let kept = |manifests: &KeptManifests| manifests.get(digest).transpose();
        let found = self.folders.metadata(digest).transpose();
        found
            .or_else(|| self.manifests.as_ref().and_then(kept))
            .transpose()
    }

    fn stored(&self, digest: &Digest) -> Result<Option<Stored>> {
        // A layer that cannot be opened can be recompressed.
        Ok(self.folders.stored(digest).ok().flatten())
    }

    fn stored_digests(&self, diff_id: &Digest, repository: &Repository) -> Vec<Digest> {
        let mut pushed = self.store.pushed(diff_id).unwrap_or_default();
        pushed.sort_by_key(|blob| blob.repository != repository.full());
        let mut digests: Vec<Digest> = Vec::new();
        for blob in pushed {
            if !digests.contains(&blob.digest) {
                digests.push(blob.digest);
            }
        }
        digests
    }

    fn stored_forms(&self) -> Vec<StoredForm> {
        let config = |id: &Digest| self.store.config(id).ok().flatten();
        let mut forms = self.folders.stored_forms(config);
        for manifest in self.manifests.iter().flat_map(KeptManifests::manifests) {
            let config = config(&manifest.config.digest).and_then(|bytes| Config::parse(&bytes).ok());
            forms.extend(StoredForm::of(&manifest, config.as_ref(), |_| false));
        }
        forms
    }

    fn relatives(&self, image: &BareImage) -> Vec<(Reference, BareImage)> {
        let Some(base) = image.config.diff_ids.first() else {
            return Vec::new();
        };
        let mut relatives = Vec::new();
        let others = self.images.iter().filter(|kept| kept.id != image.id);
        for kept in others.filter(|kept| !kept.digests.is_empty()) {
            let raw = self.store.config(&kept.id).ok().flatten();
            let bare = raw.and_then(|raw| BareImage::new(kept.id, raw, &self.label).ok());
            if let Some(bare) = bare.filter(|bare| bare.config.diff_ids.first() == Some(base)) {
                let names = kept.digests.iter();
                relatives.extend(names.map(|name| (name.clone(), bare.clone())));
            }
        }
        relatives
    }
}
