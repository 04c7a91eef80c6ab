//! A local store as a source: its images are prepared all at once, then served like any others.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::LocalStore;
use super::layers::MissingLayers;
use super::ready::Ready;
use super::recovery::{self, Recovery};
use crate::blob::Stored;
use crate::error::{Error, Hint, Place, Problem, Remedy, Result};
use crate::image::provenance::{Evidence, Origins, Provenance};
use crate::image::selector::Selector;
use crate::image::{Graph, names};
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, Digest, PlatformSelection, Reference, Repository};
use crate::progress::Progress;
use crate::source::{About, Answer, Found, Listing, Query, Source, StoredForm, Unavailable, Upstream};
use crate::transfer;

/// Whether missing manifests are rebuilt and missing layers recompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rebuild {
    /// Where possible; layers that cannot be recompressed stay uncompressed.
    #[default]
    Auto,
    /// Manifests where possible, to learn their digests. Layers are recompressed only for that.
    Manifests,
    /// Never.
    Never,
    /// Refuses an image of which something cannot be proven.
    Require,
}

/// How images are prepared.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether missing manifests are rebuilt and missing layers recompressed.
    pub rebuild: Rebuild,
    /// Folder for recompressed layers until they are in the archive; it needs room for their stored bytes.
    pub tmpdir: PathBuf,
    /// Number of layers to recompress at the same time.
    pub jobs: NonZeroUsize,
    /// Whether layers are recompressed only to see whether they can be: they cannot be read then, and take no space.
    pub is_trial: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            rebuild: Rebuild::default(),
            tmpdir: std::env::temp_dir(),
            jobs: transfer::JOBS,
            is_trial: false,
        }
    }
}

/// A [`LocalStore`] as a [`Source`].
pub struct RecoverSource {
    store: Box<dyn LocalStore>,
    upstream: Upstream,
    options: Options,
    progress: Arc<dyn Progress>,
    interrupt: Interrupt,
    ready: Mutex<Ready>,
    /// Names in the store, for messages.
    names: OnceLock<Option<Vec<Reference>>>,
}

impl RecoverSource {
    /// Makes a source of a store, and of a registry that may be unreachable.
    pub fn new(
        store: Box<dyn LocalStore>,
        upstream: Option<Arc<dyn Source>>,
        options: Options,
        progress: Arc<dyn Progress>,
        interrupt: Interrupt,
    ) -> RecoverSource {
        RecoverSource {
            store,
            upstream: Upstream::new(upstream, progress.clone()),
            options,
            progress,
            interrupt,
            ready: Mutex::default(),
            names: OnceLock::new(),
        }
    }

    fn ready(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Recovers images. An image that the store does not have, or not for the requested platforms, is not an error.
    fn recover(&self, query: &Query<'_>) -> Result<()> {
        let (store, progress) = (self.store.as_ref(), self.progress.as_ref());
        store.gather(query.references, progress)?;
        progress.phase("looking for manifests", None);
        let recompress =
            |missing: &MissingLayers| missing.recompress(store, &self.options, progress, &self.interrupt);
        let mut work = Recovery::new(
            store,
            &self.upstream,
            &self.interrupt,
            query.platforms,
            &query.others,
        );
        for reference in query.references {
            work.ask(reference)?;
        }
        work.recover(&recompress)?;
        work.find_layers()?;
        let outcomes = match self.options.rebuild {
            Rebuild::Manifests => Vec::new(),
            _ => recompress(&work.missing)?,
        };
        let recovered = work.settle(&outcomes)?;
        self.ready().add(recovered, query);
        match self.options.rebuild {
            Rebuild::Require => self.require(query.references),
            Rebuild::Auto | Rebuild::Manifests | Rebuild::Never => Ok(()),
        }
    }

    /// The answer for an image that was recovered, or could not be.
    fn answer(&self, reference: &Reference, platforms: Option<&PlatformSelection>) -> Answer<'_> {
        let name = reference.full();
        let ready = self.ready();
        let Some(image) = ready.images.get(&name) else {
            let failed = ready.failed.get(&name).cloned();
            drop(ready);
            return Err(match failed {
                Some(error) => Unavailable {
                    error,
                    is_present: true,
                },
                None => self.absent(reference).into(),
            });
        };
        // An engine's image is for one platform, which was compared already.
        let asked = platforms.filter(|_| ready.is_open);
        Ok(Found {
            is_private: self.store.is_private(),
            is_proven: image.substitute.is_none(),
            about: Box::new(Recovered {
                source: self,
                reference: reference.clone(),
            }),
            ..Found::in_store(image.root.clone(), self.store.label().into(), asked)
        })
    }

    /// Refuses images of which something is not proven.
    fn require(&self, references: &[Reference]) -> Result<()> {
        let others = |reference| self.ready().others.get(&Reference::full(reference)).cloned();
        let others: Vec<Reference> = references.iter().filter_map(others).flatten().collect();
        for reference in references.iter().chain(&others) {
            let name = reference.full();
            let (image, left_out) = {
                let ready = self.ready();
                (
                    ready.images.get(&name).cloned(),
                    ready.left_out.get(&name).cloned(),
                )
            };
            let mut reason = left_out.filter(|reason| reason.starts_with(recovery::UNPROVEN));
            if let Some(image) = image {
                let graph = self.ready().walk(self.store.as_ref(), &image.root)?;
                let provenance = self.provenance(reference, &graph);
                let is_short =
                    provenance.evidence() != Evidence::Verified || !provenance.uncompressed.is_empty();
                let origins = provenance.origins.as_ref().filter(|_| is_short);
                reason = origins.map(ToString::to_string);
            }
            if let Some(reason) = reason {
                let error = Error::NotShown {
                    message: format!("{reference}: {reason}"),
                    hint: Some(Remedy::SaveWhatCanBeRecovered.into()),
                };
                self.ready().images.remove(&name);
                self.ready().failed.insert(name, error);
            }
        }
        Ok(())
    }

    /// The error for a document that an index names and the store does not have.
    fn not_pulled(&self, descriptor: &Descriptor) -> Error {
        let platform = descriptor.platform.as_ref();
        Error::NotFound {
            what: platform.map_or_else(
                || descriptor.digest.to_string(),
                |platform| format!("{} for {platform}", descriptor.digest),
            ),
            place: self.store.label().into(),
            hint: Some(Hint::from("it was not pulled").and(Remedy::FromRegistry)),
        }
    }

    /// The error for an image that the store does not have, with what it has.
    fn absent(&self, reference: &Reference) -> Error {
        let left_out = self.ready().left_out.get(&reference.full()).cloned();
        let names = self
            .names
            .get_or_init(|| self.store.list().ok().map(|listing| listing.references));
        Error::NotFound {
            what: reference.familiar(),
            place: self.store.label().into(),
            hint: left_out
                .or(names.as_ref().map(|names| match names.as_slice() {
                    [] => "none of its images has a name".into(),
                    names => {
                        let names = names.iter().map(Reference::familiar).collect();
                        let known = names::instead_of(&reference.familiar(), names);
                        match is_like_an_id(reference) {
                            true => format!("no image has this id either; {known}"),
                            false => known,
                        }
                    }
                }))
                .map(Hint::from),
        }
    }

    /// The provenance of an image that is ready.
    fn provenance(&self, reference: &Reference, graph: &Graph) -> Provenance {
        let ready = self.ready();
        let Some(image) = ready.images.get(&reference.full()) else {
            return Provenance::default();
        };
        let mut provenance = Provenance {
            substitute: image.substitute,
            ..Provenance::default()
        };
        let mut origins = Origins {
            manifest: image.origin.clone(),
            layers: BTreeMap::new(),
        };
        for layer in graph.images.iter().flat_map(|image| &image.manifest.layers) {
            if let Some(tar) = ready.layers.uncompressed.get(&layer.digest) {
                provenance.uncompressed.insert(layer.digest, tar.clone());
            }
            if let Some(origin) = ready.layers.origins.get(&layer.digest) {
                origins.layers.insert(layer.digest, origin.clone());
            }
        }
        provenance.origins = Some(origins);
        provenance
    }
}

/// An image in the store.
struct Recovered<'s> {
    source: &'s RecoverSource,
    reference: Reference,
}

impl About for Recovered<'_> {
    fn omits(&self, document: &Descriptor) -> bool {
        let source = self.source;
        source
            .ready()
            .omits(source.store.as_ref(), &self.reference, document)
    }

    fn provenance(&self, graph: &Graph) -> Result<Provenance> {
        Ok(self.source.provenance(&self.reference, graph))
    }

    fn other_digests(&self) -> Vec<Reference> {
        let others = self.source.ready().others.get(&self.reference.full()).cloned();
        others.unwrap_or_default()
    }
}

impl Source for RecoverSource {
    /// Recovers the images that it was not asked for before, all at once.
    fn find(&self, query: &Query<'_>) -> Result<Vec<Answer<'_>>> {
        let fresh: Vec<Reference> = {
            let ready = self.ready();
            let references = query.references.iter();
            let fresh = references.filter(|reference| !ready.is_known(reference, query.platforms));
            fresh.cloned().collect()
        };
        if !fresh.is_empty() {
            self.recover(&query.of(&fresh))?;
        }
        let references = query.references.iter();
        Ok(references
            .map(|reference| self.answer(reference, query.platforms))
            .collect())
    }

    fn metadata(&self, _: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.ready()
            .document(self.store.as_ref(), descriptor)?
            .ok_or_else(|| self.not_pulled(descriptor))
    }

    fn open(&self, _: &Repository, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let digest = &descriptor.digest;
        let (recompressed, upstream) = {
            let ready = self.ready();
            let upstream = ready.layers.upstream.get(digest).cloned();
            (ready.layers.recompressed.get(digest).cloned(), upstream)
        };
        if let (None, Some(repository)) = (&recompressed, upstream) {
            return self.upstream.open(&repository, descriptor, offset);
        }
        // While an engine fetches a blob, only part of it is there.
        let is_whole = |stored: &Stored| stored.size == descriptor.size;
        let stored = match recompressed {
            Some(recompressed) => Some(recompressed),
            None => self.store.stored(digest)?.filter(is_whole),
        };
        if let Some(stored) = stored {
            return Ok(Box::new(stored.reader(offset)));
        }
        let mut tar = self.store.open(digest)?;
        skip(&mut tar, offset)?;
        Ok(tar)
    }

    fn list(&self) -> Result<Listing> {
        self.store.list()
    }

    fn fault(&self, _: &Repository, descriptor: &Descriptor, problem: Problem) -> Error {
        let upstream = {
            let ready = self.ready();
            let is_recompressed = ready.layers.recompressed.contains_key(&descriptor.digest);
            let upstream = ready.layers.upstream.get(&descriptor.digest);
            upstream.filter(|_| !is_recompressed).cloned()
        };
        if let Some(repository) = upstream
            && let Some(error) = self.upstream.fault(&repository, descriptor, problem.clone())
        {
            return error;
        }
        Error::refused(Place::blob(descriptor.digest).within(self.store.label()), problem)
    }

    fn stored_forms(&self) -> Vec<StoredForm> {
        self.store.stored_forms()
    }

    fn uncompressed_size(&self, diff_id: &Digest) -> Result<Option<u64>> {
        self.store.size(diff_id)
    }
}

/// Whether a name may be an IMAGE ID of `docker images`.
fn is_like_an_id(reference: &Reference) -> bool {
    let name = reference.familiar();
    Selector::id(name.strip_suffix(":latest").unwrap_or(&name)).is_some()
}

/// Skips the first bytes of a reader without random access.
fn skip(tar: &mut dyn Read, bytes: u64) -> Result<()> {
    let skipped = io::copy(&mut tar.take(bytes), &mut io::sink());
    skipped
        .map(drop)
        .map_err(|error| Error::from_reader(error, Error::io("read", "a layer")))
}
