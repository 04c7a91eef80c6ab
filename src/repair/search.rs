//! Looks for good bytes in sources: by digest, in the images that use them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::offer::{Offer, is_read_whole};
use super::registry::Registry;
use super::{BlobRepair, Copies, Fate, Names, Open};
use crate::error::{Error, Finding, Problem, Result};
use crate::image::graph::MAX_DEPTH;
use crate::image::provenance::LayerOrigin;
use crate::image::{AffectedImage, Graph};
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, Digest, Document, Kind, MediaType, PlatformSelection, Reference, Repository};
use crate::progress::Progress;
use crate::source::{Found, Listing, Query, Source};

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
    /// Other images of their repositories; in a registry, the same images in repositories with a shorter path.
    Repositories,
    /// All images.
    All,
}

/// Searches places.
#[derive(Default)]
pub(crate) struct Search {
    copies: Vec<Copies>,
    /// What is good in the registry that is repaired.
    registry: Option<Arc<Registry>>,
    pub offers: HashMap<Digest, Offer>,
    /// Why sources could not be searched.
    pub failures: Vec<Error>,
    /// Why a source that knows a blob does not have its bytes, or why it could not be asked.
    reasons: BTreeMap<Digest, String>,
    /// The repositories of registries that were asked for a blob in vain.
    looked: BTreeMap<Digest, BTreeSet<String>>,
    asked: HashSet<(usize, String)>,
    lists: HashMap<usize, Rc<Listing>>,
}

impl Search {
    /// Opens the places. `good` is what is good in the registry that is repaired, which is at `host`.
    ///
    /// # Errors
    ///
    /// Those of `open`.
    pub fn open(good: Arc<dyn Source>, host: Option<&str>, open: &mut Open<'_>) -> Result<Search> {
        let registry = Arc::new(Registry::new(good, host));
        Ok(Search {
            registry: Some(Arc::clone(&registry)),
            copies: open(registry)?,
            ..Search::default()
        })
    }

    /// Looks for blobs, in one source after the other.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`].
    pub fn look(&mut self, wanted: &BTreeMap<Digest, Wanted>) -> Result<()> {
        let users = users(wanted);
        if let Some(registry) = &self.registry {
            registry.learn(wanted)?;
        }
        for at in 0..self.copies.len() {
            for stage in [Stage::Users, Stage::Repositories, Stage::All] {
                if wanted.keys().all(|digest| self.offers.contains_key(digest)) {
                    return Ok(());
                }
                let references = self.references(at, stage, &users, wanted)?;
                self.ask(at, stage, &references, wanted)?;
                if stage != Stage::All {
                    self.directly(at, stage, wanted)?;
                }
            }
        }
        Ok(())
    }

    /// Notes why a source could not be searched. What several images fail for is told once.
    fn fail(&mut self, error: Error) {
        let text = error.to_string();
        if self.failures.iter().all(|known| known.to_string() != text) {
            self.failures.push(error);
        }
    }

    /// Asks for blobs without asking for images.
    fn directly(&mut self, at: usize, stage: Stage, wanted: &BTreeMap<Digest, Wanted>) -> Result<()> {
        for (digest, wanted) in wanted {
            let images = wanted.images.iter();
            let paths: BTreeSet<&str> = images.map(|image| image.repository.as_ref()).collect();
            let places = paths.iter().flat_map(|path| self.places(at, stage, path));
            for repository in places.collect::<Vec<_>>() {
                if self.offers.contains_key(digest) {
                    break;
                }
                if let Some(descriptor) = &wanted.descriptor {
                    self.offer(at, &repository, descriptor)?;
                }
                // A store is asked by digest alone.
                if self.is_registry(at) && !self.offers.contains_key(digest) {
                    let looked = self.looked.entry(*digest).or_default();
                    looked.insert(repository.familiar().into());
                }
            }
        }
        Ok(())
    }

    fn is_registry(&self, at: usize) -> bool {
        let copies = self.copies.get(at);
        copies.is_some_and(|copies| matches!(copies.names, Names::Below(_)))
    }

    /// The repositories where a source may have what the registry has in one.
    fn places(&self, at: usize, stage: Stage, path: &str) -> Vec<Repository> {
        let names: Vec<String> = match (self.copies.get(at).map(|copies| &copies.names), stage) {
            (Some(Names::Below(prefix)), Stage::Users) => vec![format!("{prefix}/{path}")],
            // Below a prefix, the registry has images of other registries: `mirror/library/web`.
            (Some(Names::Below(prefix)), Stage::Repositories) => {
                shorter(path).map(|path| format!("{prefix}/{path}")).collect()
            }
            (Some(Names::Listed { .. }), Stage::Users) => vec![format!("localhost/{path}")],
            _ => Vec::new(),
        };
        names.iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// The images to ask a source for.
    fn references(
        &mut self,
        at: usize,
        stage: Stage,
        users: &BTreeMap<String, Users>,
        wanted: &BTreeMap<Digest, Wanted>,
    ) -> Result<Vec<Reference>> {
        let Some(copies) = self.copies.get(at) else {
            return Ok(Vec::new());
        };
        let mut references = Vec::new();
        match &copies.names {
            Names::Below(_) => {
                for (name, users) in users {
                    for repository in self.places(at, stage, name) {
                        let digests = users.digests.iter();
                        references.extend(digests.map(|digest| Reference::digested(&repository, *digest)));
                        // Elsewhere, a tag need not be that of the same image.
                        let tags = users.tags.iter().filter(|_| stage == Stage::Users);
                        let name = repository.full();
                        references.extend(tags.filter_map(|tag| format!("{name}:{tag}").parse().ok()));
                    }
                }
            }
            Names::Listed { .. } => {
                let searches_all = copies.names == Names::Listed { all: true };
                let listing = self.listed(at)?;
                for reference in &listing.references {
                    let path = reference.repository().path();
                    let same = users.iter().filter(|(name, _)| is_same(path, name));
                    let mut same = same.map(|(_, users)| users);
                    let is_asked = match stage {
                        Stage::Users => {
                            // A store may know digests of the repository that it does not list.
                            let repository = reference.repository();
                            let digests = same.clone().flat_map(|users| &users.digests);
                            references.extend(digests.map(|digest| Reference::digested(repository, *digest)));
                            let (tag, digest) = (reference.tag(), reference.digest());
                            same.any(|users| tag.is_some_and(|tag| users.tags.contains(tag)))
                                || digest.is_some_and(|digest| self.is_affected(&digest, wanted))
                        }
                        Stage::Repositories => same.next().is_some(),
                        Stage::All => searches_all,
                    };
                    if is_asked {
                        references.push(reference.clone());
                    }
                }
                if stage == Stage::Users {
                    let ids = listing.ids.iter().filter(|id| self.is_affected(id, wanted));
                    references.extend(ids.map(|id| Reference::nameless(*id)));
                }
            }
        }
        references.retain(|reference| self.asked.insert((at, reference.full())));
        Ok(references)
    }

    /// Whether this is the digest or the image id of an image that uses a wanted blob, or the blob itself.
    fn is_affected(&self, digest: &Digest, wanted: &BTreeMap<Digest, Wanted>) -> bool {
        let registry = self.registry.as_ref();
        wanted.contains_key(digest) || registry.is_some_and(|registry| registry.is_affected(digest))
    }

    /// The images that a source lists. It is asked once.
    fn listed(&mut self, at: usize) -> Result<Rc<Listing>> {
        if let Some(known) = self.lists.get(&at) {
            return Ok(Rc::clone(known));
        }
        let listing = self.copies.get(at).map(|copies| copies.source.list());
        let listed = match listing {
            Some(Ok(listing)) => listing,
            Some(Err(Error::Interrupted)) => return Err(Error::Interrupted),
            Some(Err(error)) => {
                self.fail(error);
                Listing::default()
            }
            None => Listing::default(),
        };
        let listed = Rc::new(listed);
        self.lists.insert(at, Rc::clone(&listed));
        Ok(listed)
    }

    /// Asks a source for images, and notes which wanted blobs it has of them.
    fn ask(
        &mut self,
        at: usize,
        stage: Stage,
        references: &[Reference],
        wanted: &BTreeMap<Digest, Wanted>,
    ) -> Result<()> {
        // A registry may deny access to repositories that it does not have. Shorter paths are guesses.
        let is_guess = stage == Stage::Repositories && self.is_registry(at);
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
                if !is_guess {
                    self.fail(error);
                }
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
                Err(unavailable) if unavailable.is_present => self.fail(unavailable.error),
                Err(unavailable) => match unavailable.error {
                    Error::Interrupted => return Err(Error::Interrupted),
                    Error::NotFound { .. } => {}
                    _ if is_guess => {}
                    error => self.fail(error),
                },
            }
        }
        more.retain(|reference| self.asked.insert((at, reference.full())));
        self.ask(at, stage, &more, wanted)
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
        let looked = || {
            let looked: Vec<&str> = self.looked.get(digest)?.iter().map(String::as_str).collect();
            Some(format!("no source has it; looked in {}", looked.join(", ")))
        };
        Fate::NotFound(self.reasons.get(digest).cloned().or_else(looked))
    }

    /// What would become of a blob.
    pub fn plan(&self, digest: &Digest) -> Fate {
        match self.offers.get(digest) {
            Some(offer) => Fate::Available(offer.good()),
            None => self.not_found(digest),
        }
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

/// Whether a source may have the images of a repository under this path: the same one, or one that lacks a prefix of the
/// other. An image that was pulled through a mirror has no prefix, and `load` may have added one in the registry.
fn is_same(path: &str, repository: &str) -> bool {
    path == repository
        || shorter(repository).any(|end| end == path)
        || shorter(path).any(|end| end == repository)
}

/// The ends of a path: `b/c` and `c` of `a/b/c`.
fn shorter(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(at, _)| path.get(at + 1..))
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
