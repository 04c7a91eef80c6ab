//! What a verification reads: documents that were fetched before, and other blobs as they are needed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::source::RegistrySource;
use crate::blob::{Blobs, OpenBlob};
use crate::error::{Error, Place, Result};
use crate::oci::{Descriptor, Digest, Kind, Repository};

/// Most bytes of documents that are kept until they are read. Others are fetched again.
const MAX_KEPT: usize = 16 << 20;

/// The blobs of images in registries.
pub(super) struct RegistryBlobs {
    pub source: Arc<RegistrySource>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The first repository with each blob.
    homes: HashMap<Digest, Arc<Repository>>,
    /// Documents that some worker fetches or has fetched.
    claimed: HashSet<Digest>,
    /// Documents that the verification has not read yet.
    documents: HashMap<Digest, Result<Kept>>,
    /// Bytes of those.
    kept: usize,
    /// The sizes of blobs for which the registry was asked; `None` for those that are missing.
    sizes: HashMap<Digest, Option<u64>>,
    /// Manifests of platforms that were not asked for.
    excluded: HashSet<Digest>,
    /// Layers that are elsewhere, as their manifests say, and not here.
    foreign: BTreeSet<Digest>,
    /// Blobs whose size the registry did not tell.
    unread: Vec<(Digest, Error)>,
    /// Why images cannot be verified, by their roots.
    refusals: HashMap<Digest, Error>,
}

/// A document that was fetched.
enum Kept {
    Missing,
    Bytes(Vec<u8>),
    /// It is fetched again when it is needed.
    Size(u64),
}

impl RegistryBlobs {
    pub fn new(source: Arc<RegistrySource>) -> RegistryBlobs {
        RegistryBlobs {
            source,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes which repository has a blob. Returns whether it is the first one.
    pub fn add_home(&self, digest: &Digest, repository: &Arc<Repository>) -> bool {
        let mut state = self.state();
        let before = state.homes.len();
        state
            .homes
            .entry(*digest)
            .or_insert_with(|| Arc::clone(repository));
        state.homes.len() > before
    }

    /// Takes on the fetching of a document; false if another worker has.
    pub fn claim(&self, digest: &Digest) -> bool {
        self.state().claimed.insert(*digest)
    }

    /// Keeps a document until the verification reads it, or that it was fetched if many are kept.
    pub fn keep(&self, digest: &Digest, document: Result<Option<Vec<u8>>>) {
        let mut state = self.state();
        let document = document.map(|bytes| match bytes {
            None => Kept::Missing,
            Some(bytes) if state.kept.saturating_add(bytes.len()) > MAX_KEPT => {
                Kept::Size(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            Some(bytes) => {
                state.kept += bytes.len();
                Kept::Bytes(bytes)
            }
        });
        state.documents.insert(*digest, document);
    }

    /// Leaves a manifest out.
    pub fn exclude(&self, digest: &Digest) {
        self.state().excluded.insert(*digest);
    }

    /// Refuses an image.
    pub fn refuse(&self, root: &Digest, error: Error) {
        self.state().refusals.insert(*root, error);
    }

    /// Why an image cannot be verified.
    pub fn refusal(&self, root: &Digest) -> Option<Error> {
        self.state().refusals.get(root).cloned()
    }

    /// Asks the registry for the size of a blob.
    pub fn ask_size(&self, repository: &Repository, blob: &Descriptor) -> Result<()> {
        let size = match self.source.stored_size(repository, blob) {
            Ok(size) => Some(size),
            Err(Error::NotFound { .. }) => None,
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => {
                self.state().unread.push((blob.digest, error));
                return Ok(());
            }
        };
        let mut state = self.state();
        state.sizes.insert(blob.digest, size);
        if size.is_none() && !blob.urls.is_empty() {
            state.foreign.insert(blob.digest);
        }
        Ok(())
    }

    /// The layers that are elsewhere, and not here.
    pub fn absent_foreign(&self) -> BTreeSet<Digest> {
        self.state().foreign.clone()
    }

    /// The blobs whose size the registry did not tell.
    pub fn take_unread(&self) -> Vec<(Digest, Error)> {
        std::mem::take(&mut self.state().unread)
    }

    fn home(&self, digest: &Digest) -> Option<Arc<Repository>> {
        self.state().homes.get(digest).cloned()
    }
}

impl Blobs for RegistryBlobs {
    fn label(&self) -> &str {
        "registry"
    }

    fn size(&self, blob: &Descriptor) -> Result<Option<u64>> {
        let state = self.state();
        if state.excluded.contains(&blob.digest) {
            return Ok(None);
        }
        if let Some(document) = state.documents.get(&blob.digest) {
            return Ok(match document {
                Ok(Kept::Missing) => None,
                Ok(Kept::Bytes(bytes)) => u64::try_from(bytes.len()).ok(),
                Ok(Kept::Size(size)) => Some(*size),
                Err(_) => Some(blob.size),
            });
        }
        // Otherwise it is missing if it cannot be opened.
        Ok(state.sizes.get(&blob.digest).copied().unwrap_or(Some(blob.size)))
    }

    fn metadata(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        let kept = self.state().documents.remove(&descriptor.digest);
        match kept.transpose()? {
            Some(Kept::Missing) => return Ok(None),
            Some(Kept::Bytes(bytes)) => {
                self.state().kept -= bytes.len();
                return Ok(Some(bytes));
            }
            Some(Kept::Size(_)) | None => {}
        }
        let Some(repository) = self.home(&descriptor.digest) else {
            return Ok(None);
        };
        match self.source.document(&repository, descriptor) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(&self, blob: &Descriptor) -> Result<Option<OpenBlob>> {
        let Some(repository) = self.home(&blob.digest) else {
            return Ok(None);
        };
        match self.source.stream(&repository, blob) {
            Ok(reader) => Ok(Some(OpenBlob::Stream(Box::new(reader)))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn rereads(&self) -> usize {
        1
    }

    fn place(&self, digest: &Digest) -> Place {
        let place = Place::blob(*digest);
        match self.home(digest) {
            Some(repository) => place.within(repository.familiar()),
            None => place.within(self.label()),
        }
    }
}

/// Whether a blob is read whole by those who read manifests.
pub(super) fn is_document(blob: &Descriptor) -> bool {
    blob.media_type.is_document() || blob.media_type.kind() == Kind::Config
}
