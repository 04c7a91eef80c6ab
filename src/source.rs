//! The sources of images: a registry, an engine, an archive.

mod others;
mod upstream;

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Problem, Result};
use crate::image::Graph;
use crate::image::asked::ShortId;
use crate::image::provenance::Provenance;
use crate::oci::{Descriptor, Digest, PlatformSelection, Reference, Repository};
use crate::progress::Progress;

pub use others::{Others, StoredForm};
pub use upstream::Upstream;

/// Where images are read from.
///
/// Implementations verify that the bytes of [`Source::metadata`] match their descriptor. The caller verifies
/// the bytes of [`Source::open`], which arrive in pieces.
pub trait Source: Send + Sync {
    /// Prepares images, all of them at once, before any is resolved. A source with uncompressed layers
    /// recompresses them here; the `others` may know what it lacks. An image that it does not have, or not for
    /// the requested platforms, is not an error yet.
    ///
    /// # Errors
    ///
    /// If an image that it has cannot be prepared.
    fn prepare(
        &self,
        references: &[Reference],
        platforms: Option<&PlatformSelection>,
        others: &Others<'_>,
    ) -> Result<()> {
        let _ = (references, platforms, others);
        Ok(())
    }

    /// Other digests, as `NAME@DIGEST`, that this source shows for the image and repository of a tag that it
    /// has prepared and resolved. They are prepared, too.
    fn other_digests(&self, reference: &Reference) -> Vec<Reference> {
        let _ = reference;
        Vec::new()
    }

    /// The layers in its manifests, for sources that know them. Unreadable manifests are skipped.
    fn stored_forms(&self) -> Vec<StoredForm> {
        Vec::new()
    }

    /// The platforms of an image that it provides: by default the requested ones, else those that are present.
    fn selection(&self, reference: &Reference, asked: Option<&PlatformSelection>) -> PlatformSelection {
        let _ = reference;
        asked.cloned().unwrap_or(PlatformSelection::Present)
    }

    /// Whether an image is provided without a document that its index names, although another source may have
    /// it: an engine has one platform's image of an index.
    fn omits(&self, reference: &Reference, document: &Descriptor) -> bool {
        let _ = (reference, document);
        false
    }

    /// What this source has of a prepared image.
    fn standing(&self, reference: &Reference) -> Standing {
        match self.resolve(reference) {
            Ok(_) => Standing::Proven,
            Err(_) => Standing::Absent,
        }
    }

    /// What an archive has under a name; `None` if it does not have it, and for sources that are not archives.
    fn archived(&self, reference: &Reference) -> Option<Archived> {
        let _ = reference;
        None
    }

    /// Where an image comes from, for people.
    fn origin(&self, reference: &Reference) -> String;

    /// Whether an image comes from a place that only root, or the group of an engine, may read: its archive
    /// must be private too.
    fn is_private(&self, reference: &Reference) -> bool {
        let _ = reference;
        false
    }

    /// The provenance of an image: by default everything is as a registry served it.
    ///
    /// # Errors
    ///
    /// If it is not known now.
    fn provenance(&self, reference: &Reference, graph: &Graph) -> Result<Provenance> {
        let _ = (reference, graph);
        Ok(Provenance::default())
    }

    /// Resolves a reference to the manifest or index that it names now.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NotFound`] if there is no such repository, tag or digest.
    fn resolve(&self, reference: &Reference) -> Result<Descriptor>;

    /// Reads a manifest, index or config: at most [`crate::oci::MAX_METADATA`] stored bytes, verified against
    /// size and digest.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Refused`] if the bytes do not match the descriptor.
    fn metadata(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>>;

    /// Opens a blob's stored bytes from `offset` on.
    ///
    /// The reader may end early or return wrong bytes; the caller counts and hashes. An error of the reader
    /// that wraps a [`crate::Error`] (by `io::Error::other`) keeps its meaning.
    ///
    /// # Errors
    ///
    /// If the blob cannot be opened; [`crate::Error::is_transient`] says whether to retry.
    fn open(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>>;

    /// Every name in this source, for sources that know them.
    ///
    /// # Errors
    ///
    /// A usage error if that is not possible, as for a registry.
    fn references(&self) -> Result<Vec<Reference>>;

    /// Images that are not in [`Source::references`] because they have no name, each by the digest of its
    /// [`Reference::nameless`].
    ///
    /// # Errors
    ///
    /// If they cannot be listed now.
    fn nameless(&self) -> Result<Vec<Digest>> {
        Ok(Vec::new())
    }

    /// The images that a shortened id selects: one with that name, or else those whose ids begin with it, as
    /// [`Reference::nameless`]. Empty for sources without image ids.
    ///
    /// # Errors
    ///
    /// If they cannot be listed now.
    fn with_id(&self, id: &ShortId) -> Result<Vec<Reference>> {
        let _ = id;
        Ok(Vec::new())
    }

    /// The error for an opened blob with wrong bytes, too few or too many.
    ///
    /// By default it is the registry's of that repository, and transient. A source that is a local file, or
    /// that knows which mirror it asked, returns a more specific one.
    fn fault(&self, repository: &Repository, descriptor: &Descriptor, problem: Problem) -> Error {
        registry_fault(repository, descriptor, &problem)
    }
}

/// What an archive has under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// Its digest; `None` if not known.
    pub digest: Option<Digest>,
    /// Digest of its manifest or index; of the config, if the archive has no manifests.
    pub root: Digest,
}

impl Archived {
    /// Whether another archive has another image under the name, as far as that is known.
    fn differs(&self, other: &Archived) -> bool {
        match (self.digest, other.digest) {
            (Some(one), Some(other)) => one != other,
            _ => false,
        }
    }
}

/// What a source has of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does not have it, or not for the requested platforms.
    Absent,
    /// It has it and cannot provide it: [`Source::resolve`] says why.
    Failed,
    /// It provides it without a proven digest.
    Unproven,
    /// It provides it with its digest.
    Proven,
}

/// Several sources as one: each is asked in order until one has the image.
///
/// Content is found by digest, so it does not matter which of them had the name.
pub struct Several {
    sources: Vec<Box<dyn Source>>,
    known: Mutex<Known>,
    proof: Option<Proof>,
}

/// Which source had what. Asking a registry for the same again counts against its rate limits.
#[derive(Default)]
struct Known {
    /// By full reference: the positions of sources, and the descriptors.
    names: HashMap<String, (usize, Descriptor)>,
    /// Positions of sources by the digests of what they opened last.
    blobs: HashMap<Digest, usize>,
}

impl Several {
    /// Takes sources in the order in which they are asked.
    pub fn new(sources: Vec<Box<dyn Source>>) -> Several {
        Several {
            sources,
            known: Mutex::default(),
            proof: None,
        }
    }

    /// Prefers the last source for an image whose digest the others cannot prove. `probe`, the same source with
    /// shorter timeouts, is asked whether it has the image.
    #[must_use]
    pub fn preferring_proof(mut self, probe: Box<dyn Source>, progress: Arc<dyn Progress>) -> Several {
        self.proof = Some(Proof {
            probe,
            progress,
            given_up: Mutex::default(),
        });
        self
    }

    /// Whether no later source need be asked for an image.
    fn suffices(&self, source: &dyn Source, reference: &Reference) -> bool {
        match source.standing(reference) {
            Standing::Proven => true,
            Standing::Unproven => self.proof.is_none(),
            Standing::Absent | Standing::Failed => false,
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn first<T>(&self, ask: impl Fn(usize, &dyn Source) -> Result<T>) -> Result<T> {
        let mut last = None;
        for (at, source) in self.sources.iter().enumerate() {
            match ask(at, source.as_ref()) {
                Err(error @ (Error::NotFound { .. } | Error::NotShown { .. })) => last = Some(error),
                // One archive's index may be sparse where another's is not.
                Err(Error::Refused(finding)) if finding.problem == Problem::Missing => {
                    last = Some(Error::Refused(finding));
                }
                outcome => return outcome,
            }
        }
        Err(last.unwrap_or_else(|| Error::Usage {
            message: "no source was named".into(),
            hint: None,
        }))
    }

    /// Which source has an image by its name, and its descriptor there.
    fn find(&self, reference: &Reference) -> Result<(usize, Descriptor)> {
        let name = reference.full();
        let known = self.known().names.get(&name).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let found = self.first(|at, source| Ok((at, source.resolve(reference)?)));
        let found = found.map_err(|error| self.failure(reference).unwrap_or(error))?;
        self.one_image(reference)?;
        let found = self.proven(reference, found.0)?.unwrap_or(found);
        self.known().names.insert(name, found.clone());
        Ok(found)
    }

    /// Refuses a name that archives give to different images, because it is ambiguous.
    fn one_image(&self, reference: &Reference) -> Result<()> {
        let mut first: Option<(&dyn Source, Archived)> = None;
        for source in &self.sources {
            let Some(archived) = source.archived(reference) else {
                continue;
            };
            let Some((other, known)) = &first else {
                first = Some((source.as_ref(), archived));
                continue;
            };
            if known.differs(&archived) {
                let said = |source: &dyn Source, has: &Archived| {
                    format!(
                        "{} in {}",
                        has.digest.unwrap_or(has.root),
                        source.origin(reference)
                    )
                };
                return Err(Error::Usage {
                    message: format!(
                        "two different images would be named {reference}: {} and {}",
                        said(*other, known),
                        said(source.as_ref(), &archived)
                    ),
                    hint: Some(format!(
                        "name the images to save, and this one by its digest: {reference}@sha256:..."
                    )),
                });
            }
        }
        Ok(())
    }

    /// Why a source does not provide an image that it has.
    fn failure(&self, reference: &Reference) -> Option<Error> {
        let mut sources = self.sources.iter();
        let failed = sources.find(|source| source.standing(reference) == Standing::Failed)?;
        failed.resolve(reference).err()
    }

    /// What the last source has of an image that the one at `at` cannot prove.
    fn proven(&self, reference: &Reference, at: usize) -> Result<Option<(usize, Descriptor)>> {
        let (Some(proof), Some(source), last) = (&self.proof, self.sources.get(at), self.sources.len() - 1)
        else {
            return Ok(None);
        };
        let better = self.sources.get(last).filter(|_| at != last);
        let Some(better) = better else { return Ok(None) };
        if source.standing(reference) != Standing::Unproven || !proof.has(reference)? {
            return Ok(None);
        }
        let root = better.resolve(reference)?;
        proof.progress.note(&format!(
            "{reference} is taken from the registry: the digest of the one in {} is not proven",
            source.origin(reference)
        ));
        Ok(Some((last, root)))
    }

    fn owner(&self, reference: &Reference) -> Result<&dyn Source> {
        let (at, _) = self.find(reference)?;
        let source = self.sources.get(at).map(Box::as_ref);
        source.ok_or_else(|| Error::NotFound {
            what: reference.familiar(),
            place: "all sources".into(),
            hint: None,
        })
    }
}

/// Where to look for an image whose digest is not proven.
struct Proof {
    probe: Box<dyn Source>,
    progress: Arc<dyn Progress>,
    /// Registries that did not answer.
    given_up: Mutex<HashSet<String>>,
}

impl Proof {
    /// Whether it exists; false if nothing answers.
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
                // Several may ask at the same time.
                if !error.is_transient() || given_up().insert(domain.into()) {
                    self.progress.note(&format!("{error}; continuing without it"));
                }
                Ok(false)
            }
        }
    }
}

impl Source for Several {
    /// Each is asked for what the previous ones lack.
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
                wanted.retain(|reference| !self.suffices(source.as_ref(), reference));
            }
        }
        Ok(())
    }

    fn other_digests(&self, reference: &Reference) -> Vec<Reference> {
        let owner = self.known().names.get(&reference.full()).map(|(at, _)| *at);
        let owner = owner.and_then(|at| self.sources.get(at));
        owner.map_or_else(Vec::new, |source| source.other_digests(reference))
    }

    fn selection(&self, reference: &Reference, asked: Option<&PlatformSelection>) -> PlatformSelection {
        match self.owner(reference) {
            Ok(source) => source.selection(reference, asked),
            Err(_) => asked.cloned().unwrap_or(PlatformSelection::Present),
        }
    }

    fn omits(&self, reference: &Reference, document: &Descriptor) -> bool {
        let owner = self.owner(reference);
        owner.is_ok_and(|source| source.omits(reference, document))
    }

    fn origin(&self, reference: &Reference) -> String {
        let owner = self.owner(reference);
        owner.map_or_else(|_| String::new(), |source| source.origin(reference))
    }

    fn is_private(&self, reference: &Reference) -> bool {
        // If that is not known, it may be private.
        let owner = self.owner(reference);
        owner.map_or(true, |source| source.is_private(reference))
    }

    fn provenance(&self, reference: &Reference, graph: &Graph) -> Result<Provenance> {
        self.owner(reference)?.provenance(reference, graph)
    }

    fn resolve(&self, reference: &Reference) -> Result<Descriptor> {
        Ok(self.find(reference)?.1)
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
        self.known().blobs.insert(descriptor.digest, at);
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
        let opened = self.known().blobs.get(&descriptor.digest).copied();
        match opened.and_then(|at| self.sources.get(at)) {
            Some(source) => source.fault(repository, descriptor, problem),
            None => registry_fault(repository, descriptor, &problem),
        }
    }
}

fn registry_fault(repository: &Repository, descriptor: &Descriptor, problem: &Problem) -> Error {
    Error::Registry {
        registry: repository.domain().into(),
        subject: descriptor.digest.to_string(),
        problem: problem.to_string(),
        hint: None,
        transient: true,
    }
}
