//! The containerd store: names from the engine, everything else from containerd's content folder.

use std::io::Read;

use super::export::Listed;
use crate::blob::Stored;
use crate::blob::Uncompressed;
use crate::docker::api::Client;
use crate::error::{Error, Result};
use crate::oci::{Digest, Reference, Repository};
use crate::recover::{LocalStore, StoreImage};
use crate::source::{Listing, StoredForm};
use crate::store::content::ContentFolders;

/// A containerd store whose folder can be read.
pub(super) struct Content {
    client: Client,
    folders: ContentFolders,
    label: String,
}

impl Content {
    pub fn new(client: Client, folders: ContentFolders, label: String) -> Content {
        Content {
            client,
            folders,
            label,
        }
    }
}

/// This store keeps layers in their stored form only.
impl Uncompressed for Content {
    fn size(&self, _: &Digest) -> Result<Option<u64>> {
        Ok(None)
    }

    fn open(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>> {
        Err(Error::NotFound {
            what: format!("layer {diff_id}"),
            place: self.label.clone(),
            hint: None,
        })
    }
}

impl LocalStore for Content {
    fn label(&self) -> &str {
        &self.label
    }

    fn find(&self, reference: &Reference) -> Result<Option<StoreImage>> {
        let listed = Listed::find(&self.client, reference)?;
        Ok(listed.map(|listed| listed.root(reference.repository())))
    }

    fn list(&self) -> Result<Listing> {
        Listed::all(&self.client)
    }

    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        self.folders.metadata(digest)
    }

    fn stored(&self, digest: &Digest) -> Result<Option<Stored>> {
        self.folders.stored(digest)
    }

    fn stored_digests(&self, _: &Digest, _: &Repository) -> Vec<Digest> {
        Vec::new()
    }

    fn stored_forms(&self) -> Vec<StoredForm> {
        self.folders.stored_forms(|_| None)
    }
}
