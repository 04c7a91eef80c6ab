//! The registry, as far as it can be reached: it may have what is missing here.

use std::collections::HashSet;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use super::Source;
use crate::error::{Error, Problem, Result};
use crate::oci::{Descriptor, Digest, Reference, Repository};
use crate::progress::Progress;

/// A registry that may be unreachable, which is not an error.
pub struct Upstream {
    source: Option<Arc<dyn Source>>,
    asked: Mutex<Asked>,
    progress: Arc<dyn Progress>,
}

/// What is known about the registries.
#[derive(Default)]
struct Asked {
    /// Domains that have responded.
    answered: HashSet<String>,
    /// Domains and repositories that are not asked again.
    given_up: HashSet<String>,
}

impl Upstream {
    /// Uses the registry, if it may be asked.
    pub fn new(source: Option<Arc<dyn Source>>, progress: Arc<dyn Progress>) -> Upstream {
        Upstream {
            source,
            asked: Mutex::default(),
            progress,
        }
    }

    /// Whether a registry may be asked.
    pub fn is_there(&self) -> bool {
        self.source.is_some()
    }

    /// The registry's response; `None` if it does not have it or cannot be asked.
    fn ask<T>(
        &self,
        repository: &Repository,
        ask: impl FnOnce(&dyn Source) -> Result<T>,
    ) -> Result<Option<T>> {
        let asked = || self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(source) = &self.source else {
            return Ok(None);
        };
        let (domain, full) = (repository.domain(), repository.full());
        let is_given_up = |asked: &Asked| [domain, full].iter().any(|name| asked.given_up.contains(*name));
        if is_given_up(&asked()) {
            return Ok(None);
        }
        let answer = match ask(source.as_ref()) {
            Ok(answer) => Ok(Some(answer)),
            Err(Error::NotFound { .. }) => Ok(None),
            // This document must not be used. The next one may be good.
            Err(error @ Error::Refused(_)) => {
                self.note(&error);
                Ok(None)
            }
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => Err(error),
        };
        let error = match answer {
            Ok(answer) => {
                asked().answered.insert(domain.into());
                return Ok(answer);
            }
            Err(error) => error,
        };
        // A registry that has responded may refuse only this repository.
        let (lost, what) = match asked().answered.contains(domain) {
            true => (full, "this repository"),
            false => (domain, "this registry"),
        };
        asked().given_up.insert(lost.into());
        self.progress.note(&format!("{error}; continuing without {what}"));
        Ok(None)
    }

    /// Notes a problem that does not stop the work.
    pub fn note(&self, error: &Error) {
        self.tell(&format!("{error}; continuing without it"));
    }

    /// Notes something.
    pub fn tell(&self, text: &str) {
        self.progress.note(text);
    }

    /// The descriptor of a digest.
    pub fn resolve(&self, repository: &Repository, digest: Digest) -> Result<Option<Descriptor>> {
        let reference = Reference::digested(repository, digest);
        let found = self.ask(repository, |source| source.resolve(&reference))?;
        // Any other descriptor is not what was requested.
        Ok(found.filter(|descriptor| descriptor.digest == digest))
    }

    /// As [`Source::manifests_of`].
    pub fn manifests_of(&self, image_id: &Digest) -> Vec<Reference> {
        let source = self.source.as_ref();
        source.map_or_else(Vec::new, |source| source.manifests_of(image_id))
    }

    /// The current target of a tag.
    pub fn tagged(&self, reference: &Reference) -> Result<Option<Digest>> {
        let found = self.ask(reference.repository(), |source| source.resolve(reference))?;
        Ok(found.map(|descriptor| descriptor.digest))
    }

    /// A document's or config's bytes.
    pub fn document(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        self.ask(repository, |source| source.metadata(repository, descriptor))
    }

    /// Whether the registry has a blob: its last byte is requested.
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
