//! The registry itself as a source: what is good in it. Stores that lack manifests, or have layers only uncompressed,
//! learn from it what the registry has, so that they recompress only what is damaged.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Problem, Result};
use crate::oci::{Descriptor, Digest, Repository};
use crate::registry::source::RegistrySource;
use crate::source::{Answer, Found, Listing, Query, Source};

/// A registry without its bad blobs.
pub(super) struct GoodPart {
    source: Arc<RegistrySource>,
    bad: Mutex<BTreeSet<Digest>>,
}

impl GoodPart {
    /// A registry that is not verified yet.
    pub fn new(source: &Arc<RegistrySource>) -> GoodPart {
        GoodPart {
            source: Arc::clone(source),
            bad: Mutex::default(),
        }
    }

    /// Tells it which blobs are bad. It is asked for blobs only afterwards.
    pub fn set_bad(&self, bad: impl Iterator<Item = Digest>) {
        *self.bad.lock().unwrap_or_else(PoisonError::into_inner) = bad.collect();
    }

    /// Refuses a blob that is bad.
    fn check(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        match bad.contains(digest) {
            false => Ok(()),
            true => Err(absent(digest.to_string(), repository)),
        }
    }
}

fn absent(what: String, repository: &Repository) -> Error {
    Error::NotFound {
        what,
        place: repository.familiar().into(),
        hint: None,
    }
}

impl Source for GoodPart {
    fn find(&self, query: &Query<'_>) -> Result<Vec<Answer<'_>>> {
        query.each(|reference| {
            if let Some(digest) = reference.digest() {
                self.check(reference.repository(), &digest)?;
            }
            let root = match self.source.resolve(reference) {
                // A registry that fails for a damaged manifest is there all the same.
                Err(Error::Registry { .. } | Error::Refused(_)) => {
                    return Err(absent(reference.familiar(), reference.repository()).into());
                }
                root => root?,
            };
            let origin = format!("registry {}", reference.repository().domain());
            Ok(Found::in_registry(root, origin, query.platforms))
        })
    }

    fn metadata(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.check(repository, &descriptor.digest)?;
        self.source.metadata(repository, descriptor)
    }

    fn open(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        self.check(repository, &descriptor.digest)?;
        self.source.open(repository, descriptor, offset)
    }

    fn list(&self) -> Result<Listing> {
        Ok(Listing::unknown())
    }

    fn fault(&self, repository: &Repository, descriptor: &Descriptor, problem: Problem) -> Error {
        self.source.fault(repository, descriptor, problem)
    }
}
