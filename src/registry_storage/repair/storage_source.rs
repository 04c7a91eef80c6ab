//! The storage folder itself as a source: what is good in it. Stores that lack manifests, or have layers only
//! unpacked, learn from it what the registry has, so that they recompress only what is damaged.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::layout::{Link, Storage, read_link};
use super::document;
use crate::error::{Error, Place, Problem, Result};
use crate::oci::{Descriptor, Digest, Document, Reference, Repository};
use crate::source::{Answer, Found, Listing, Query, Source};

/// The good blobs of a storage folder, by the paths of repositories: the registry's host is not known here.
pub(super) struct StorageSource {
    storage: Arc<Storage>,
    /// The blobs that are bad.
    bad: Mutex<BTreeSet<Digest>>,
}

impl StorageSource {
    /// A storage folder that is not verified yet.
    pub fn new(storage: &Arc<Storage>) -> StorageSource {
        StorageSource {
            storage: Arc::clone(storage),
            bad: Mutex::default(),
        }
    }

    /// Tells it which blobs are bad. It is asked for blobs only afterwards.
    pub fn set_bad(&self, bad: impl Iterator<Item = Digest>) {
        *self.bad.lock().unwrap_or_else(PoisonError::into_inner) = bad.collect();
    }

    fn is_bad(&self, digest: &Digest) -> bool {
        let bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        bad.contains(digest)
    }

    fn absent(&self, what: String) -> Error {
        Error::NotFound {
            what,
            place: self.storage.label().into(),
            hint: None,
        }
    }

    /// The digest that a reference names.
    fn digest_of(&self, reference: &Reference) -> Result<Digest> {
        let absent = || self.absent(reference.familiar());
        if let Some(digest) = reference.digest() {
            return Ok(digest);
        }
        let path = reference.repository().path();
        let dir = self.storage.repository(path).map_err(|_| absent())?;
        let tag = reference.tag().unwrap_or_default();
        match read_link(&dir, &format!("_manifests/tags/{tag}/current")) {
            Ok(Link::To(digest)) => Ok(digest),
            _ => Err(absent()),
        }
    }
}

impl Source for StorageSource {
    fn find(&self, query: &Query<'_>) -> Result<Vec<Answer<'_>>> {
        query.each(|reference| {
            let digest = self.digest_of(reference)?;
            let absent = || self.absent(reference.familiar());
            let bytes = document(&self.storage, &digest).ok_or_else(absent)?;
            let media_type = Document::sniff(&bytes).ok_or_else(absent)?;
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let root = Descriptor::new(media_type, digest, size);
            let label = self.storage.label().to_owned();
            Ok(Found::in_registry(root, label, query.platforms))
        })
    }

    fn metadata(&self, _: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = document(&self.storage, &descriptor.digest);
        bytes.ok_or_else(|| self.absent(descriptor.digest.to_string()))
    }

    fn open(&self, _: &Repository, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let absent = || self.absent(descriptor.digest.to_string());
        if self.is_bad(&descriptor.digest) {
            return Err(absent());
        }
        let opened = self.storage.open_blob(&descriptor.digest)?;
        let (stored, state) = opened.ok_or_else(absent)?;
        match state.size == descriptor.size {
            true => Ok(Box::new(io::BufReader::new(stored.reader(offset)))),
            false => Err(absent()),
        }
    }

    fn list(&self) -> Result<Listing> {
        Ok(Listing::unknown())
    }

    fn fault(&self, _: &Repository, descriptor: &Descriptor, problem: Problem) -> Error {
        Error::refused(
            Place::blob(descriptor.digest).within(self.storage.label()),
            problem,
        )
    }
}
