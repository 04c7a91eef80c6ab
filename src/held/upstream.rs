//! The registry, as far as it can be reached: what is missing here may be there.

use std::collections::HashSet;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Problem, Result};
use crate::oci::{Descriptor, Digest, Reference, Repository};
use crate::progress::Progress;
use crate::source::Source;

/// A registry that may be out of reach, which is no error.
pub(super) struct Upstream {
    source: Option<Arc<dyn Source>>,
    /// Registries that were asked in vain.
    given_up: Mutex<HashSet<String>>,
    progress: Arc<dyn Progress>,
}

impl Upstream {
    pub fn new(source: Option<Arc<dyn Source>>, progress: Arc<dyn Progress>) -> Upstream {
        Upstream {
            source,
            given_up: Mutex::default(),
            progress,
        }
    }

    /// What the registry answers; `None` if it does not have it or cannot be asked.
    fn ask<T>(
        &self,
        repository: &Repository,
        ask: impl FnOnce(&dyn Source) -> Result<T>,
    ) -> Result<Option<T>> {
        let given_up = || self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(source) = &self.source else {
            return Ok(None);
        };
        if given_up().contains(repository.domain()) {
            return Ok(None);
        }
        match ask(source.as_ref()) {
            Ok(answer) => Ok(Some(answer)),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => {
                given_up().insert(repository.domain().into());
                self.progress
                    .note(&format!("{error}; going on without this registry"));
                Ok(None)
            }
        }
    }

    /// The descriptor of a digest.
    pub fn resolve(&self, repository: &Repository, digest: Digest) -> Result<Option<Descriptor>> {
        let reference = Reference::digested(repository, digest);
        self.ask(repository, |source| source.resolve(&reference))
    }

    /// A document's or config's bytes.
    pub fn document(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        self.ask(repository, |source| source.metadata(repository, descriptor))
    }

    /// Whether the registry has a blob: its last byte is asked for.
    pub fn has(&self, repository: &Repository, blob: &Descriptor) -> Result<bool> {
        let last = blob.size.saturating_sub(1);
        let answer = self.ask(repository, |source| source.open(repository, blob, last).map(drop))?;
        Ok(answer.is_some())
    }

    /// Opens a blob that it has.
    pub fn open(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        match &self.source {
            Some(source) => source.open(repository, blob, offset),
            None => Err(Error::NotFound {
                what: blob.digest.to_string(),
                place: repository.full().into(),
                hint: None,
            }),
        }
    }

    /// As [`Source::fault`].
    pub fn fault(&self, repository: &Repository, blob: &Descriptor, problem: Problem) -> Option<Error> {
        let source = self.source.as_ref()?;
        Some(source.fault(repository, blob, problem))
    }
}
