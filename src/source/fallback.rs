//! Several sources as one.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Archived, Found, Others, Source, Unavailable, registry_fault};
use crate::error::{Error, Problem, Result};
use crate::image::asked::ShortId;
use crate::oci::{Descriptor, Digest, PlatformSelection, Reference, Repository};
use crate::progress::Progress;

/// Several sources as one: each is asked in order until one has the image.
///
/// Content is found by digest, so it does not matter which of them had the name.
pub struct Fallback {
    sources: Vec<Box<dyn Source>>,
    /// Places of sources by the digests of the blobs that they opened last.
    opened: Mutex<HashMap<Digest, usize>>,
    proof: Option<Proof>,
}

impl Fallback {
    /// Takes sources in the order in which they are asked.
    pub fn new(sources: Vec<Box<dyn Source>>) -> Fallback {
        Fallback {
            sources,
            opened: Mutex::default(),
            proof: None,
        }
    }

    /// Prefers the last source for an image whose digest the others cannot prove. `probe`, the same source with
    /// shorter timeouts, is asked whether it has the image.
    #[must_use]
    pub fn preferring_proof(mut self, probe: Box<dyn Source>, progress: Arc<dyn Progress>) -> Fallback {
        self.proof = Some(Proof {
            probe,
            progress,
            given_up: Mutex::default(),
        });
        self
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<Digest, usize>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn first<T>(&self, ask: impl Fn(usize, &dyn Source) -> Result<T>) -> Result<T> {
        let mut last = None;
        for (at, source) in self.sources.iter().enumerate() {
            match ask(at, source.as_ref()) {
                Err(error) if is_passed_over(&error) => last = Some(error),
                outcome => return outcome,
            }
        }
        Err(last.unwrap_or_else(no_source))
    }

    /// Refuses a name that archives give to different images, because it is ambiguous.
    fn check_archives(&self, reference: &Reference) -> Result<()> {
        let mut first: Option<Archived> = None;
        for archived in self
            .sources
            .iter()
            .filter_map(|source| source.archived(reference))
        {
            let Some(known) = &first else {
                first = Some(archived);
                continue;
            };
            if known.differs(&archived) {
                let said = |has: &Archived| format!("{} in {}", has.digest.unwrap_or(has.root), has.origin);
                return Err(Error::Usage {
                    message: format!(
                        "two different images would be named {reference}: {} and {}",
                        said(known),
                        said(&archived)
                    ),
                    hint: Some(format!(
                        "name the images to save, and this one by its digest: {reference}@sha256:..."
                    )),
                });
            }
        }
        Ok(())
    }

    /// The image in the last source, if that has it and the digest of the one that was found is not proven.
    fn proven(
        &self,
        reference: &Reference,
        platforms: Option<&PlatformSelection>,
        found: &Found<'_>,
    ) -> Result<Option<Found<'_>>, Unavailable> {
        let (Some(proof), Some(better)) = (&self.proof, self.sources.last()) else {
            return Ok(None);
        };
        if found.is_proven || !proof.has(reference)? {
            return Ok(None);
        }
        let proven = better.find(reference, platforms)?;
        proof.progress.note(&format!(
            "{reference} is taken from the registry: the digest of the one in {} is not proven",
            found.origin
        ));
        Ok(Some(proven))
    }
}

/// Whether the next source may have what this one does not.
fn is_passed_over(error: &Error) -> bool {
    match error {
        Error::NotFound { .. } | Error::NotShown { .. } => true,
        // One archive's index may be sparse where another's is not.
        Error::Refused(finding) => finding.problem == Problem::Missing,
        _ => false,
    }
}

fn no_source() -> Error {
    Error::Usage {
        message: "no source was named".into(),
        hint: None,
    }
}

/// A source that proves digests.
struct Proof {
    probe: Box<dyn Source>,
    progress: Arc<dyn Progress>,
    /// Registries that did not answer.
    given_up: Mutex<HashSet<String>>,
}

impl Proof {
    /// Whether it has an image. A registry that does not answer has none.
    fn has(&self, reference: &Reference) -> Result<bool> {
        let domain = reference.repository().domain();
        let given_up = || self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        if given_up().contains(domain) {
            return Ok(false);
        }
        match self.probe.resolve(reference) {
            Ok(_) => Ok(true),
            Err(error @ (Error::Interrupted | Error::Io { .. })) => Err(error),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => {
                // Several threads may ask at once.
                if !error.is_transient() || given_up().insert(domain.into()) {
                    self.progress.note(&format!("{error}; going on without it"));
                }
                Ok(false)
            }
        }
    }
}

impl Source for Fallback {
    /// Each source prepares what those before it lack.
    fn prepare(
        &self,
        references: &[Reference],
        platforms: Option<&PlatformSelection>,
        _: &Others<'_>,
    ) -> Result<()> {
        let mut wanted = references.to_vec();
        for (at, source) in self.sources.iter().enumerate() {
            source.prepare(&wanted, platforms, &Others::beside(&self.sources, at))?;
            if at + 1 < self.sources.len() {
                let suffices = |found: &Found<'_>| found.is_proven || self.proof.is_none();
                wanted.retain(|reference| {
                    let found = source.find(reference, platforms);
                    !found.as_ref().is_ok_and(suffices)
                });
            }
        }
        Ok(())
    }

    /// If no source gives the image, the error of one that has it ranks before those of sources that do not.
    fn find(
        &self,
        reference: &Reference,
        platforms: Option<&PlatformSelection>,
    ) -> Result<Found<'_>, Unavailable> {
        let mut last: Option<Unavailable> = None;
        for (at, source) in self.sources.iter().enumerate() {
            let unavailable = match source.find(reference, platforms) {
                Ok(found) => {
                    self.check_archives(reference)?;
                    let is_last = at + 1 == self.sources.len();
                    let proven = match is_last {
                        true => None,
                        false => self.proven(reference, platforms, &found)?,
                    };
                    return Ok(proven.unwrap_or(found));
                }
                Err(unavailable) => unavailable,
            };
            let is_final = !is_passed_over(&unavailable.error);
            if !last.as_ref().is_some_and(|last| last.is_present) {
                last = Some(unavailable);
            }
            if is_final {
                break;
            }
        }
        Err(last.unwrap_or_else(|| no_source().into()))
    }

    fn metadata(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.first(|_, source| source.metadata(repository, descriptor))
    }

    fn open(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        let opened = self.first(|at, source| Ok((at, source.open(repository, descriptor, offset)?)));
        let (at, blob) = opened?;
        self.opened().insert(descriptor.digest, at);
        Ok(blob)
    }

    fn references(&self) -> Result<Vec<Reference>> {
        let mut all = Vec::new();
        for source in &self.sources {
            for reference in source.references()? {
                if !all.contains(&reference) {
                    all.push(reference);
                }
            }
        }
        Ok(all)
    }

    fn nameless(&self) -> Result<Vec<Digest>> {
        let mut all = Vec::new();
        for source in &self.sources {
            all.extend(source.nameless()?);
        }
        Ok(all)
    }

    fn with_id(&self, id: &ShortId) -> Result<Vec<Reference>> {
        let mut all = Vec::new();
        for source in &self.sources {
            all.extend(source.with_id(id)?);
        }
        Ok(all)
    }

    fn fault(&self, repository: &Repository, descriptor: &Descriptor, problem: Problem) -> Error {
        let opened = self.opened().get(&descriptor.digest).copied();
        match opened.and_then(|at| self.sources.get(at)) {
            Some(source) => source.fault(repository, descriptor, problem),
            None => registry_fault(repository, descriptor, &problem),
        }
    }
}
