//! Looks for good bytes in sources: by digest, in the images that use them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::super::layout::Storage;
use super::super::report::StorageFinding;
use super::{Copies, Names, document};
use crate::error::{Error, Problem, Result};
use crate::image::Graph;
use crate::image::graph::MAX_DEPTH;
use crate::image::provenance::LayerOrigin;
use crate::oci::{
    Descriptor, Digest, Document, Kind, MAX_METADATA, MediaType, PlatformSelection, Reference, Repository,
};
use crate::source::{Found, Query};

/// Where the bytes of a blob are.
#[derive(Clone)]
pub(super) struct Offer {
    /// The position of the source.
    pub source: usize,
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

pub(super) struct Search<'a> {
    pub storage: &'a Storage,
    pub copies: Vec<Copies>,
    pub offers: HashMap<Digest, Offer>,
    /// Why a source that knows a blob does not have its bytes, or why it could not be asked.
    pub reasons: BTreeMap<Digest, String>,
    /// Why sources could not be searched.
    pub failures: Vec<Error>,
    asked: HashSet<(usize, String)>,
    lists: HashMap<usize, Rc<[Reference]>>,
}

impl<'a> Search<'a> {
    pub fn new(storage: &'a Storage, copies: Vec<Copies>) -> Search<'a> {
        Search {
            storage,
            copies,
            offers: HashMap::new(),
            reasons: BTreeMap::new(),
            failures: Vec::new(),
            asked: HashSet::new(),
            lists: HashMap::new(),
        }
    }

    /// Looks for blobs, in one source after the other.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`].
    pub fn look(&mut self, wanted: &BTreeMap<Digest, StorageFinding>) -> Result<()> {
        let users = users(wanted);
        let described = self.described(wanted);
        for at in 0..self.copies.len() {
            for stage in [Stage::Users, Stage::Repositories, Stage::All] {
                if wanted.keys().all(|digest| self.offers.contains_key(digest)) {
                    return Ok(());
                }
                let references = self.references(at, stage, &users)?;
                self.ask(at, &references, wanted)?;
                if stage == Stage::Users {
                    self.directly(at, &described, &users)?;
                }
            }
        }
        Ok(())
    }

    /// The descriptors of wanted blobs, by the good manifests in the storage.
    fn described(
        &self,
        wanted: &BTreeMap<Digest, StorageFinding>,
    ) -> BTreeMap<Digest, (Descriptor, BTreeSet<String>)> {
        let mut described: BTreeMap<Digest, (Descriptor, BTreeSet<String>)> = BTreeMap::new();
        let mut read: HashMap<Digest, Vec<Descriptor>> = HashMap::new();
        for (digest, found) in wanted {
            for image in &found.images {
                let Some(manifest) = image.digest else { continue };
                let below = match read.entry(manifest) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unread) => {
                        let bytes = document(self.storage, &manifest);
                        unread.insert(bytes.map(references_of).unwrap_or_default())
                    }
                };
                for descriptor in below.iter().filter(|descriptor| descriptor.digest == *digest) {
                    let known = described.entry(*digest);
                    let (_, repositories) = known.or_insert_with(|| (descriptor.clone(), BTreeSet::new()));
                    repositories.insert(image.repository.to_string());
                }
            }
        }
        described
    }

    /// Asks for blobs without asking for images.
    fn directly(
        &mut self,
        at: usize,
        described: &BTreeMap<Digest, (Descriptor, BTreeSet<String>)>,
        users: &BTreeMap<String, Users>,
    ) -> Result<()> {
        for (digest, (descriptor, repositories)) in described {
            for repository in repositories.iter().filter(|name| users.contains_key(*name)) {
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
    fn ask(
        &mut self,
        at: usize,
        references: &[Reference],
        wanted: &BTreeMap<Digest, StorageFinding>,
    ) -> Result<()> {
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
        wanted: &BTreeMap<Digest, StorageFinding>,
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
                    source: at,
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
        wanted: &BTreeMap<Digest, StorageFinding>,
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
}

/// The images of each repository that use wanted blobs.
fn users(wanted: &BTreeMap<Digest, StorageFinding>) -> BTreeMap<String, Users> {
    let mut all: BTreeMap<String, Users> = BTreeMap::new();
    for image in wanted.values().flat_map(|found| &found.images) {
        let users = all.entry(image.repository.to_string()).or_default();
        users.tags.extend(image.tag.clone());
        users.digests.extend(image.digest);
    }
    all
}

/// What a manifest or index names.
fn references_of(bytes: Vec<u8>) -> Vec<Descriptor> {
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

/// Whether a blob is a manifest, index or config, which sources give as a whole.
pub(super) fn is_read_whole(descriptor: &Descriptor) -> bool {
    let kind = descriptor.media_type.kind();
    descriptor.size <= MAX_METADATA && (descriptor.media_type.is_document() || kind == Kind::Config)
}
