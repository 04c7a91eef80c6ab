//! Several sources as one.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Answer, Archived, Listing, Query, Source, StoredForm, registry_fault};
use crate::error::{Error, Problem, Result};
use crate::oci::{Descriptor, Digest, Reference, Repository};
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
                    hint: Some(
                        format!(
                            "name the images to save, and this one by its digest: {reference}@sha256:..."
                        )
                        .into(),
                    ),
                });
            }
        }
        Ok(())
    }

    /// Replaces images whose digests are not proven by those of the last source, where that has them.
    fn prefer_proof<'s>(&'s self, query: &Query<'_>, answers: &mut [Asked<'s>]) -> Result<()> {
        let (Some(proof), Some(better)) = (&self.proof, self.sources.last()) else {
            return Ok(());
        };
        let last = self.sources.len().saturating_sub(1);
        let is_doubtful =
            |asked: &&mut Asked<'_>| asked.source < last && asked.answer.as_ref().is_some_and(is_unproven);
        let doubtful: Vec<&mut Asked<'_>> = answers.iter_mut().filter(is_doubtful).collect();
        let references: Vec<Reference> = doubtful.iter().map(|asked| asked.reference.clone()).collect();
        let probed = query
            .of(&references)
            .each(|reference| Ok(proof.has(reference)?))?;
        let mut chosen = Vec::new();
        for (asked, has) in doubtful.into_iter().zip(probed) {
            match has {
                Ok(true) => chosen.push(asked),
                Ok(false) => {}
                Err(unavailable) => asked.answer = Some(Err(unavailable)),
            }
        }
        let references: Vec<Reference> = chosen.iter().map(|asked| asked.reference.clone()).collect();
        if references.is_empty() {
            return Ok(());
        }
        let proven = better.find(&query.of(&references))?;
        for (asked, proven) in chosen.iter_mut().zip(proven) {
            if let (Ok(_), Some(Ok(found))) = (&proven, &asked.answer) {
                proof.progress.note(&format!(
                    "{} is taken from the registry: the digest of the one in {} is not proven",
                    asked.reference, found.origin
                ));
            }
            asked.answer = Some(proven);
        }
        Ok(())
    }
}

/// An image that is asked for, and the answer so far.
struct Asked<'s> {
    reference: Reference,
    /// The position of the source that answered.
    source: usize,
    answer: Option<Answer<'s>>,
    /// Whether no further source is asked.
    is_settled: bool,
}

impl<'s> Asked<'s> {
    fn new(reference: &Reference) -> Asked<'s> {
        Asked {
            reference: reference.clone(),
            source: 0,
            answer: None,
            is_settled: false,
        }
    }

    /// Whether it was found, and later sources must have some of its layers.
    fn lacks_layers(&self) -> bool {
        matches!(&self.answer, Some(Ok(found)) if found.lacks_layers)
    }

    /// Takes a source's answer. The error of a source that has the image ranks before those of sources that do not.
    fn take(&mut self, source: usize, answer: Answer<'s>) {
        self.is_settled = match &answer {
            Ok(_) => true,
            Err(unavailable) => !is_passed_over(&unavailable.error),
        };
        let ranks_first = match &self.answer {
            Some(Err(known)) => known.is_present && answer.is_err(),
            _ => false,
        };
        if !ranks_first {
            (self.source, self.answer) = (source, Some(answer));
        }
    }
}

fn is_unproven(answer: &Answer<'_>) -> bool {
    answer.as_ref().is_ok_and(|found| !found.is_proven)
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
    /// Each source is asked for what those before it lack: images, and layers of images.
    fn find(&self, query: &Query<'_>) -> Result<Vec<Answer<'_>>> {
        if self.sources.is_empty() {
            return Err(no_source());
        }
        let mut all: Vec<Asked<'_>> = query.references.iter().map(Asked::new).collect();
        for (at, source) in self.sources.iter().enumerate() {
            let others = query.others.beside(&self.sources, at);
            let query = Query { others, ..*query };
            let lacking = all.iter().filter(|asked| asked.lacks_layers());
            let lacking: Vec<Reference> = lacking.map(|asked| asked.reference.clone()).collect();
            let open: Vec<&mut Asked<'_>> = all.iter_mut().filter(|asked| !asked.is_settled).collect();
            let references: Vec<Reference> = open.iter().map(|asked| asked.reference.clone()).collect();
            if !references.is_empty() {
                let answers = source.find(&query.of(&references))?;
                for (asked, answer) in open.into_iter().zip(answers) {
                    asked.take(at, answer);
                }
            }
            // A store gives only the layers of images that it was asked for. Where it does not have the image, the layer is
            // missed when it is opened.
            if !lacking.is_empty()
                && let Err(Error::Interrupted) = source.find(&query.of(&lacking))
            {
                return Err(Error::Interrupted);
            }
        }
        for asked in &mut all {
            if let (Some(Ok(_)), Err(error)) = (&asked.answer, self.check_archives(&asked.reference)) {
                asked.answer = Some(Err(error.into()));
            }
        }
        self.prefer_proof(query, &mut all)?;
        let answers = all.into_iter();
        Ok(answers
            .map(|asked| asked.answer.unwrap_or_else(|| Err(no_source().into())))
            .collect())
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

    fn list(&self) -> Result<Listing> {
        let mut all = Listing::default();
        for source in &self.sources {
            all.extend(source.list()?);
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

    fn stored_forms(&self) -> Vec<StoredForm> {
        let sources = self.sources.iter();
        sources.flat_map(|source| source.stored_forms()).collect()
    }

    fn uncompressed_size(&self, diff_id: &Digest) -> Result<Option<u64>> {
        for source in &self.sources {
            let size = source.uncompressed_size(diff_id)?;
            if size.is_some() {
                return Ok(size);
            }
        }
        Ok(None)
    }

    fn archived(&self, reference: &Reference) -> Option<Archived> {
        self.sources.iter().find_map(|source| source.archived(reference))
    }
}
