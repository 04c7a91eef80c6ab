//! Looks for good bytes in sources: by digest, in the images that use them. Fetches them, verified on the way.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::{BlobRepair, Copies, Fate, Good, Names};
use crate::blob::Verifier;
use crate::error::{Error, Finding, Place, Problem, Result};
use crate::image::graph::MAX_DEPTH;
use crate::image::provenance::LayerOrigin;
use crate::image::{AffectedImage, Graph};
use crate::interrupt::Interrupt;
use crate::oci::{
    Descriptor, Digest, Document, Kind, MAX_METADATA, MediaType, PlatformSelection, Reference, Repository,
};
use crate::progress::Progress;
use crate::retry::Retry;
use crate::source::{Found, Query, Source};
use crate::transfer::{self, Sink, Transfer};

/// A blob that is bad or missing.
#[derive(Clone)]
pub(crate) struct Wanted {
    /// What is wrong with it.
    pub finding: Finding,
    /// The images that use it.
    pub images: Vec<AffectedImage>,
    /// Its descriptor, if some good manifest names it.
    pub descriptor: Option<Descriptor>,
}

impl Wanted {
    /// What became of it.
    pub fn with(self, digest: Digest, fate: Fate) -> BlobRepair {
        BlobRepair {
            digest,
            finding: self.finding,
            images: self.images,
            fate,
        }
    }
}

/// Where the bytes of a blob are.
#[derive(Clone)]
pub(crate) struct Offer {
    /// The name of the place.
    pub label: String,
    pub source: Arc<dyn Source>,
    pub repository: Repository,
    pub descriptor: Descriptor,
}

/// What images use a wanted blob in a repository.
#[derive(Default)]
struct Users {
    tags: BTreeSet<String>,
    digests: BTreeSet<Digest>,
}

/// How far a source is searched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The images that use the blobs.
    Users,
    /// Other images of their repositories.
    Repositories,
    /// All images.
    All,
}

/// How blobs are fetched.
pub(crate) struct Fetch<'a> {
    /// How many times a blob is requested, and the pauses between.
    pub retry: Retry,
    pub progress: &'a dyn Progress,
    pub interrupt: &'a Interrupt,
}

/// Searches places.
#[derive(Default)]
pub(crate) struct Search {
    copies: Vec<Copies>,
    pub offers: HashMap<Digest, Offer>,
    /// Why sources could not be searched.
    pub failures: Vec<Error>,
    /// Why a source that knows a blob does not have its bytes, or why it could not be asked.
    reasons: BTreeMap<Digest, String>,
    asked: HashSet<(usize, String)>,
    lists: HashMap<usize, Rc<[Reference]>>,
}

impl Search {
    /// Searches these places.
    pub fn among(copies: Vec<Copies>) -> Search {
        Search {
            copies,
            ..Search::default()
        }
    }

    /// Looks for blobs, in one source after the other.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`].
    pub fn look(&mut self, wanted: &BTreeMap<Digest, Wanted>) -> Result<()> {
        let users = users(wanted);
        for at in 0..self.copies.len() {
            for stage in [Stage::Users, Stage::Repositories, Stage::All] {
                if wanted.keys().all(|digest| self.offers.contains_key(digest)) {
                    return Ok(());
                }
                let references = self.references(at, stage, &users)?;
                self.ask(at, &references, wanted)?;
                if stage == Stage::Users {
                    self.directly(at, wanted)?;
                }
            }
        }
        Ok(())
    }

    /// Asks for blobs without asking for images.
    fn directly(&mut self, at: usize, wanted: &BTreeMap<Digest, Wanted>) -> Result<()> {
        for (digest, wanted) in wanted {
            let Some(descriptor) = &wanted.descriptor else {
                continue;
            };
            let repositories: BTreeSet<&str> = wanted
                .images
                .iter()
                .map(|image| image.repository.as_ref())
                .collect();
            for repository in repositories {
                if self.offers.contains_key(digest) {
                    break;
                }
                let repository = match self.copies.get(at).map(|copies| &copies.names) {
                    Some(Names::Below(prefix)) => format!("{prefix}/{repository}").parse(),
                    // A store is asked by digest alone.
                    _ => format!("localhost/{repository}").parse::<Repository>(),
                };
                if let Ok(repository) = repository {
                    self.offer(at, &repository, descriptor)?;
                }
            }
        }
        Ok(())
    }

    /// The images to ask a source for.
    fn references(
        &mut self,
        at: usize,
        stage: Stage,
        users: &BTreeMap<String, Users>,
    ) -> Result<Vec<Reference>> {
        let Some(copies) = self.copies.get(at) else {
            return Ok(Vec::new());
        };
        let mut references = Vec::new();
        match &copies.names {
            Names::Below(prefix) if stage == Stage::Users => {
                for (name, users) in users {
                    let Ok(repository) = format!("{prefix}/{name}").parse::<Repository>() else {
                        continue;
                    };
                    let digests = users.digests.iter();
                    references.extend(digests.map(|digest| Reference::digested(&repository, *digest)));
                    let tags = users.tags.iter();
                    references.extend(tags.filter_map(|tag| format!("{repository}:{tag}").parse().ok()));
                }
            }
            Names::Below(_) => {}
            Names::Listed { .. } => {
                let searches_all = copies.names == Names::Listed { all: true };
                for reference in self.listed(at)?.iter() {
                    let of = users.get(reference.repository().path());
                    let is_user = of.is_some_and(|users| {
                        reference.tag().is_some_and(|tag| users.tags.contains(tag))
                            || reference
                                .digest()
                                .is_some_and(|digest| users.digests.contains(&digest))
                    });
                    let is_asked = match stage {
                        Stage::Users => is_user,
                        Stage::Repositories => of.is_some(),
                        Stage::All => searches_all,
                    };
                    // A store may know digests of the repository that it does not list.
                    if let (Stage::Users, Some(users)) = (stage, of) {
                        let of = reference.repository();
                        let digests = users.digests.iter();
                        references.extend(digests.map(|digest| Reference::digested(of, *digest)));
                    }
                    if is_asked {
                        references.push(reference.clone());
                    }
                }
            }
        }
        references.retain(|reference| self.asked.insert((at, reference.full())));
        Ok(references)
    }

    /// The images that a source lists. It is asked once.
    fn listed(&mut self, at: usize) -> Result<Rc<[Reference]>> {
        if let Some(known) = self.lists.get(&at) {
            return Ok(Rc::clone(known));
        }
        let listing = self.copies.get(at).map(|copies| copies.source.list());
        let listed: Rc<[Reference]> = match listing {
            Some(Ok(listing)) => listing.references.into(),
            Some(Err(Error::Interrupted)) => return Err(Error::Interrupted),
            Some(Err(error)) => {
                self.failures.push(error);
                Rc::new([])
            }
            None => Rc::new([]),
        };
        self.lists.insert(at, Rc::clone(&listed));
        Ok(listed)
    }

    /// Asks a source for images, and notes which wanted blobs it has of them.
    fn ask(&mut self, at: usize, references: &[Reference], wanted: &BTreeMap<Digest, Wanted>) -> Result<()> {
        let Some(copies) = self.copies.get(at).filter(|_| !references.is_empty()) else {
            return Ok(());
        };
        let source = copies.source.clone();
        let query = Query {
            keep_going: true,
            ..Query::new(references, None)
        };
        let answers = match source.find(&query) {
            Ok(answers) => answers,
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => {
                self.failures.push(error);
                return Ok(());
            }
        };
        let mut more = Vec::new();
        for (reference, answer) in references.iter().zip(answers) {
            match answer {
                Ok(found) => {
                    self.below(at, reference.repository(), &found.root, wanted)?;
                    self.explain(at, reference.repository(), &found, wanted);
                    more.extend(found.about.other_digests());
                }
                Err(unavailable) if unavailable.is_present => self.failures.push(unavailable.error),
                Err(unavailable) => match unavailable.error {
                    Error::Interrupted => return Err(Error::Interrupted),
                    Error::NotFound { .. } => {}
                    error => self.failures.push(error),
                },
            }
        }
        more.retain(|reference| self.asked.insert((at, reference.full())));
        self.ask(at, &more, wanted)
    }

    /// Follows an image down to its layers, as far as the source has it.
    fn below(
        &mut self,
        at: usize,
        repository: &Repository,
        root: &Descriptor,
        wanted: &BTreeMap<Digest, Wanted>,
    ) -> Result<()> {
        let Some(copies) = self.copies.get(at) else {
            return Ok(());
        };
        let source = copies.source.clone();
        let mut level = vec![root.clone()];
        let mut seen = HashSet::new();
        for _ in 0..=MAX_DEPTH {
            let mut next = Vec::new();
            for descriptor in level {
                if !seen.insert(descriptor.digest) {
                    continue;
                }
                if wanted.contains_key(&descriptor.digest) {
                    self.offer(at, repository, &descriptor)?;
                }
                if descriptor.media_type.is_document() {
                    match source.metadata(repository, &descriptor) {
                        Ok(bytes) => next.extend(references_of(bytes)),
                        Err(Error::Interrupted) => return Err(Error::Interrupted),
                        Err(_) => {}
                    }
                }
            }
            level = next;
        }
        Ok(())
    }

    /// Notes that a source has a blob, if it does.
    fn offer(&mut self, at: usize, repository: &Repository, descriptor: &Descriptor) -> Result<()> {
        let Some(copies) = self.copies.get(at) else {
            return Ok(());
        };
        if self.offers.contains_key(&descriptor.digest) {
            return Ok(());
        }
        let has = match is_read_whole(descriptor) {
            true => copies.source.metadata(repository, descriptor).map(drop),
            false => {
                let last = descriptor.size.saturating_sub(1);
                copies.source.open(repository, descriptor, last).map(drop)
            }
        };
        match has {
            Ok(()) => {
                let offer = Offer {
                    label: copies.label.clone(),
                    source: copies.source.clone(),
                    repository: repository.clone(),
                    descriptor: descriptor.clone(),
                };
                self.offers.insert(descriptor.digest, offer);
            }
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(Error::NotFound { .. }) => {}
            // An archive without it.
            Err(Error::Refused(finding)) if finding.problem == Problem::Missing => {}
            Err(error) => drop(self.reasons.insert(descriptor.digest, error.to_string())),
        }
        Ok(())
    }

    /// Notes why the layers of an image are there in another form only.
    fn explain(
        &mut self,
        at: usize,
        repository: &Repository,
        found: &Found<'_>,
        wanted: &BTreeMap<Digest, Wanted>,
    ) {
        let Some(copies) = self.copies.get(at) else { return };
        if wanted.keys().all(|digest| self.offers.contains_key(digest)) {
            return;
        }
        let graph = Graph::walk(&found.root, &PlatformSelection::Present, &mut |descriptor| {
            Ok(copies.source.metadata(repository, descriptor).ok())
        });
        let provenance = graph.and_then(|graph| found.about.provenance(&graph));
        let origins = provenance.ok().and_then(|provenance| provenance.origins);
        for (layer, origin) in origins.into_iter().flat_map(|origins| origins.layers) {
            if let LayerOrigin::Uncompressed { reason } = origin
                && wanted.contains_key(&layer)
                && !self.offers.contains_key(&layer)
            {
                let label = &copies.label;
                self.reasons.insert(
                    layer,
                    format!("{label} has it only uncompressed, and it could not be recompressed: {reason}"),
                );
            }
        }
    }

    /// Mends blobs with `mend`, manifests and indexes last: registries refuse a manifest whose blobs they lack.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`].
    pub fn mend(
        &self,
        wanted: BTreeMap<Digest, Wanted>,
        progress: &dyn Progress,
        interrupt: &Interrupt,
        mend: impl Fn(&Digest, &Offer) -> Result<Fate>,
    ) -> Result<Vec<BlobRepair>> {
        let mut wanted: Vec<_> = wanted
            .into_iter()
            .map(|(digest, wanted)| (digest, wanted, self.offers.get(&digest)))
            .collect();
        wanted.sort_by_key(|(.., offer)| offer.map(|offer| rank(&offer.descriptor)));
        let sizes = wanted
            .iter()
            .filter_map(|(.., offer)| Some(offer.as_ref()?.descriptor.size));
        progress.phase("repairing", Some(sizes.fold(0, u64::saturating_add)));
        let mut mended = Vec::with_capacity(wanted.len());
        for (digest, wanted, offer) in wanted {
            interrupt.check()?;
            let fate = match offer.map(|offer| mend(&digest, offer)) {
                None => self.not_found(&digest),
                Some(Err(Error::Interrupted)) => return Err(Error::Interrupted),
                Some(Err(error)) => Fate::Failed(error),
                Some(Ok(fate)) => fate,
            };
            mended.push(wanted.with(digest, fate));
        }
        Ok(mended)
    }

    /// What becomes of a blob that no place has.
    pub fn not_found(&self, digest: &Digest) -> Fate {
        Fate::NotFound(self.reasons.get(digest).cloned())
    }

    /// What would become of a blob.
    pub fn plan(&self, digest: &Digest) -> Fate {
        match self.offers.get(digest) {
            Some(offer) => Fate::Available(offer.good()),
            None => self.not_found(digest),
        }
    }
}

impl Offer {
    /// Where its bytes come from.
    pub fn good(&self) -> Good {
        Good {
            from: self.label.clone(),
            size: self.descriptor.size,
        }
    }

    /// The bytes of a manifest, index or config, verified.
    ///
    /// # Errors
    ///
    /// If they cannot be read, or are wrong.
    pub fn document(&self) -> Result<Vec<u8>> {
        let bytes = self.source.metadata(&self.repository, &self.descriptor)?;
        let mut verifier = Verifier::new(&self.descriptor);
        let verified = verifier.update(&bytes).and_then(|()| verifier.finish());
        let place = || Place::blob(self.descriptor.digest).within(&self.label);
        verified.map_err(|problem| Error::refused(place(), problem))?;
        Ok(bytes)
    }

    /// Fetches the blob into an empty file, which is at `path` for messages. On success the file has its verified bytes.
    ///
    /// # Errors
    ///
    /// If they cannot be read or written, or are wrong.
    pub fn fetch(&self, file: &File, path: &Path, fetch: &Fetch<'_>) -> Result<()> {
        let sink = Replacement { file, path };
        if is_read_whole(&self.descriptor) {
            return sink.write(&self.descriptor, 0, &self.document()?);
        }
        let transfer = Transfer {
            source: self.source.as_ref(),
            sink: &sink,
            jobs: NonZeroUsize::MIN,
            retry: fetch.retry,
            keep_going: false,
            progress: fetch.progress,
            interrupt: fetch.interrupt,
        };
        let wanted = transfer::Wanted {
            repository: self.repository.clone(),
            descriptor: self.descriptor.clone(),
        };
        // It returns only once the bytes are verified.
        transfer.run(vec![wanted]).map(drop)
    }
}

/// The file of a blob that is being written.
struct Replacement<'f> {
    file: &'f File,
    path: &'f Path,
}

impl Sink for Replacement<'_> {
    fn begin(&self, _: &Descriptor, _: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        Ok(())
    }

    fn write(&self, _: &Descriptor, at: u64, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all_at(bytes, at);
        written.map_err(Error::io("write", self.path))
    }

    fn is_ordered(&self) -> bool {
        false
    }

    fn is_rewritable(&self) -> bool {
        true
    }
}

/// The images of each repository that use wanted blobs.
fn users(wanted: &BTreeMap<Digest, Wanted>) -> BTreeMap<String, Users> {
    let mut all: BTreeMap<String, Users> = BTreeMap::new();
    for image in wanted.values().flat_map(|wanted| &wanted.images) {
        let users = all.entry(image.repository.to_string()).or_default();
        users.tags.extend(image.tag.clone());
        users.digests.extend(image.digest);
    }
    all
}

/// What a manifest or index names.
pub(crate) fn references_of(bytes: Vec<u8>) -> Vec<Descriptor> {
    let media_type = Document::sniff(&bytes).unwrap_or_else(|| MediaType::new(""));
    match Document::parse(&media_type, bytes) {
        Ok(Document::Manifest(manifest)) => {
            let mut below = manifest.layers;
            below.push(manifest.config);
            below
        }
        Ok(Document::Index(index)) => index.manifests,
        Err(_) => Vec::new(),
    }
}

/// The position of a blob in the order in which blobs are mended.
fn rank(blob: &Descriptor) -> u8 {
    match blob.media_type.kind() {
        Kind::Index => 2,
        Kind::Manifest => 1,
        _ => 0,
    }
}

/// Whether a blob is a manifest, index or config, which sources give as a whole.
fn is_read_whole(descriptor: &Descriptor) -> bool {
    let kind = descriptor.media_type.kind();
    descriptor.size <= MAX_METADATA && (descriptor.media_type.is_document() || kind == Kind::Config)
}
