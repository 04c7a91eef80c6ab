//! An opened layout as a source of images, for subsets and merges.
//!
//! Names are as the writing tool left them. `podman save`, `ctr images export`, `docker save` and sealift write
//! full names; buildx writes a full name if it was given a tag; skopeo's `oci:DIR:TAG`, oras and crane often
//! write only a tag; `skopeo copy docker://x oci-archive:FILE` and `dir:` write no name. A reference is found
//! by full name, or else by tag among entries that have only a tag. If the layout's only image has no name, it
//! is used under the requested name. A digest is found anywhere.

mod forms;
mod places;

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::{Arc, OnceLock};

use self::places::{Places, key};
use super::format::{Entry, Omitted};
use super::graphs::Graphs;
use super::layout::Layout;
use super::privacy::is_private;
use crate::error::{Error, Place, Problem, Remedy, Result};
use crate::image::provenance::{Origins, Provenance, Substitute};
use crate::image::referrers::ListedReferrer;
use crate::image::{Graph, Image, graph};
use crate::oci::{Descriptor, Digest, Document, Reference, Repository};
use crate::source::{About, Answer, Archived, Found, Listing, Query, Source, StoredForm, Upstream};

pub use forms::stored_forms;

/// Listed referrers by what they refer to.
type BySubject = HashMap<Digest, Vec<ListedReferrer>>;

/// Any [`Layout`] as a [`Source`].
#[derive(Clone)]
pub struct ArchiveSource {
    layout: Arc<dyn Layout>,
    places: Arc<Places>,
    /// Whether other users may not read it.
    is_private: bool,
    /// What refers to each manifest.
    referrers: Arc<OnceLock<Result<BySubject>>>,
    /// The registry, which can prove digests that the layout cannot.
    upstream: Option<Arc<Upstream>>,
}

impl ArchiveSource {
    /// Takes an opened layout.
    ///
    /// # Errors
    ///
    /// As [`Layout::check_opening`].
    pub fn new(layout: impl Into<Arc<dyn Layout>>) -> Result<ArchiveSource> {
        let layout = layout.into();
        layout.check_opening()?;
        let places = Arc::new(Places::of(&*layout));
        Ok(ArchiveSource {
            is_private: is_private(&*layout),
            layout,
            places,
            referrers: Arc::default(),
            upstream: None,
        })
    }

    /// Asks a registry, if it can be reached, whether it has the images whose digests are not proven.
    #[must_use]
    pub fn asking(self, upstream: Upstream) -> ArchiveSource {
        ArchiveSource {
            upstream: Some(Arc::new(upstream)),
            ..self
        }
    }

    /// Whether an unproven manifest or index is that of a name, according to the user or the registry.
    fn is_proven(&self, reference: &Reference, root: Digest) -> Result<bool> {
        let repository = reference.repository();
        match &self.upstream {
            _ if reference.is_nameless() => Ok(false),
            _ if reference.digest() == Some(root) => Ok(true),
            Some(upstream) => Ok(upstream.resolve(repository, root)?.is_some()),
            None => Ok(false),
        }
    }

    fn at<'s>(&'s self, places: Option<&'s Vec<usize>>) -> impl Iterator<Item = &'s Entry> {
        let entries = self.layout.entries();
        places.into_iter().flatten().filter_map(|at| entries.get(*at))
    }

    /// The entries of a manifest or index.
    fn rooted(&self, digest: &Digest) -> impl Iterator<Item = &Entry> {
        self.at(self.places.roots.get(digest))
    }

    /// The entries that a reference by tag may select: by name, else by tag, else the only one.
    fn named(&self, reference: &Reference) -> Vec<&Entry> {
        let entries = self.layout.entries();
        let by_tag = |entry: &&Entry| {
            entry.reference.is_none()
                && entry.bare_tag.is_some()
                && entry.bare_tag.as_deref() == reference.tag()
        };
        let whole: Vec<&Entry> = self.at(self.places.names.get(&key(reference))).collect();
        if !whole.is_empty() {
            return whole;
        }
        let tagged: Vec<&Entry> = entries.iter().filter(by_tag).collect();
        if !tagged.is_empty() {
            return tagged;
        }
        let is_nameless = |entry: &Entry| entry.reference.is_none() && entry.bare_tag.is_none();
        match entries {
            [first, rest @ ..]
                if is_nameless(first)
                    && rest.iter().all(|entry| {
                        is_nameless(entry) && entry.descriptor.digest == first.descriptor.digest
                    }) =>
            {
                vec![first]
            }
            _ => Vec::new(),
        }
    }

    /// The manifest or index with a digest, anywhere below the entries.
    fn digested(&self, digest: Digest) -> Result<Option<Descriptor>> {
        let digest = self.places.substitutes.get(&digest).copied().unwrap_or(digest);
        if let Some(entry) = self.rooted(&digest).next() {
            return Ok(Some(entry.descriptor.bare()));
        }
        let mut level: Vec<Descriptor> = self
            .layout
            .entries()
            .iter()
            .map(|entry| entry.descriptor.clone())
            .collect();
        // A document of several entries is read once.
        let mut seen = HashSet::new();
        for _ in 0..=graph::MAX_DEPTH {
            if let Some(found) = level.iter().find(|descriptor| descriptor.digest == digest) {
                return Ok(Some(found.bare()));
            }
            let mut next = Vec::new();
            for descriptor in level
                .iter()
                .filter(|descriptor| descriptor.media_type.is_document() && seen.insert(descriptor.digest))
            {
                let Some(bytes) = self.layout.metadata(descriptor)? else {
                    continue;
                };
                let document = Document::parse(&descriptor.media_type, bytes)
                    .map_err(|problem| Error::refused(self.place(&descriptor.digest), problem))?;
                if let Document::Index(index) = document {
                    next.extend(index.manifests);
                }
                if next.len() > graph::MAX_DESCRIPTORS {
                    let problem = Problem::TooMany {
                        limit: graph::MAX_DESCRIPTORS,
                    };
                    return Err(Error::refused(self.place(&descriptor.digest), problem));
                }
            }
            level = next;
        }
        Ok(None)
    }

    /// The digest that selects an image without a name: its image id if the digest of its manifest was never reported
    /// anywhere.
    fn handle(&self, entry: &Entry) -> Digest {
        let root = entry.descriptor.digest;
        self.places.ids.get(&root).copied().unwrap_or(root)
    }

    /// Images without a name, also by another entry.
    fn without_a_name(&self) -> impl Iterator<Item = Digest> {
        let is_nameless = |entry: &&Entry| {
            let mut same = self.rooted(&entry.descriptor.digest);
            same.all(|entry| entry.reference.is_none())
        };
        let entries = self.layout.entries().iter().filter(is_nameless);
        entries.map(|entry| self.handle(entry))
    }

    /// Whether a digest is only that of a substitute, which no engine has reported.
    fn is_substitute(&self, digest: &Digest) -> bool {
        let mut same = self.rooted(digest).peekable();
        same.peek().is_some() && same.all(|entry| entry.substitute.is_some())
    }

    fn place(&self, digest: &Digest) -> Place {
        Place::blob(*digest).within(self.layout.label())
    }

    /// The name of an entry in a list.
    fn name_of(&self, entry: &Entry) -> String {
        match (&entry.reference, &entry.bare_tag) {
            (Some(reference), _) => reference.familiar(),
            (None, Some(tag)) => format!("an image with only the tag {tag:?} ({})", digest_of(entry)),
            (None, None) => format!("an image without a name ({})", self.handle(entry)),
        }
    }

    fn not_found(&self, what: String) -> Error {
        let mut names: Vec<String> = self
            .layout
            .entries()
            .iter()
            .map(|entry| self.name_of(entry))
            .collect();
        names.sort();
        names.dedup();
        Error::NotFound {
            what,
            place: self.layout.label().into(),
            hint: Some(match names.len() {
                0 => "it holds no image".into(),
                1..=10 => format!("it holds {}", names.join(", ")).into(),
                more => format!("it holds {} and {} more", names[..10].join(", "), more - 10).into(),
            }),
        }
    }
}

/// The inventories for which an archive leaves layers out, for messages.
fn hosts(omitted: &Omitted) -> String {
    let hosts: Vec<String> = omitted.inventories.iter().map(ToString::to_string).collect();
    match hosts.is_empty() {
        true => "a host that has it".into(),
        false => format!("the host with the inventory {}", hosts.join(" and ")),
    }
}

/// The digest of an entry, for messages.
fn digest_of(entry: &Entry) -> String {
    let digest = entry.digest();
    digest.map_or_else(|| "no digest".into(), |digest| digest.to_string())
}

impl ArchiveSource {
    /// Why a blob cannot be read: it is damage, unless the archive declares that it leaves the blob out.
    fn missing(&self, digest: &Digest) -> Error {
        let omitted = self.layout.omitted();
        match omitted.layers.contains(digest) {
            false => Error::refused(self.place(digest), Problem::Missing),
            true => Error::NotFound {
                what: format!("layer {digest}"),
                place: format!(
                    "{}, which leaves it out for {}",
                    self.layout.label(),
                    hosts(omitted)
                ),
                hint: Some(Remedy::FurtherSource.into()),
            },
        }
    }

    /// Resolves a reference to the manifest or index that it names.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the layout does not have it; a usage error if the name is that of two images.
    pub fn resolve(&self, reference: &Reference) -> Result<Descriptor> {
        if let Some(digest) = reference.digest() {
            let is_told = |_: &Descriptor| reference.is_nameless() || !self.is_substitute(&digest);
            let found = self.digested(digest)?.filter(is_told);
            let recorded = || {
                if reference.is_nameless() {
                    return None;
                }
                let mut entries = self.layout.entries().iter();
                let entry = entries.find(|entry| entry.digest() == Some(digest))?;
                Some(entry.descriptor.bare())
            };
            return found
                .or_else(recorded)
                .ok_or_else(|| self.not_found(reference.familiar()));
        }
        let found = self.named(reference);
        let Some(first) = found.first() else {
            return Err(self.not_found(reference.familiar()));
        };
        if let Some(other) = found
            .iter()
            .find(|entry| entry.descriptor.digest != first.descriptor.digest)
        {
            return Err(Error::Usage {
                message: format!(
                    "{}: {reference} is the name of two images, {} and {}",
                    self.layout.label(),
                    digest_of(first),
                    digest_of(other)
                ),
                hint: Some(format!("choose one by digest: {}@sha256:...", reference.repository()).into()),
            });
        }
        // The platform is kept, to compare it with the config's.
        Ok(Descriptor {
            platform: first.descriptor.platform.clone(),
            ..first.descriptor.bare()
        })
    }

    /// The provenance of an image in the layout.
    ///
    /// # Errors
    ///
    /// If the registry that could prove its digest was asked and the work was interrupted.
    pub fn provenance(&self, reference: &Reference, graph: &Graph) -> Result<Provenance> {
        let entries = self.layout.entries();
        let root = graph.root.digest;
        // One substitute may serve images of several digests.
        let is_pinned = |entry: &&Entry| entry.digest() == reference.digest();
        let pinned = reference
            .digest()
            .and_then(|_| self.rooted(&root).find(is_pinned));
        let mut named = self.named(reference).into_iter();
        let entry = pinned.or_else(|| named.find(|entry| entry.descriptor.digest == root));
        if let Some(entry) = entry.or_else(|| self.rooted(&root).next()) {
            let mut provenance = self.layout.provenance(entry, graph);
            // A recorded digest belongs to the entry's name.
            if reference.is_nameless() && provenance.substitute.is_some() {
                provenance.substitute = Some(Substitute { recorded: None });
            }
            if provenance.is_unproven && self.is_proven(reference, root)? {
                provenance.is_unproven = false;
                provenance.origins = None;
            }
            return Ok(provenance);
        }
        // One image of an index: the provenance of the entry above covers it.
        let images = graph.images.iter();
        let layers: Vec<&Descriptor> = images.flat_map(|image| &image.manifest.layers).collect();
        let mut provenance = Provenance::default();
        for entry in entries {
            let above = self.layout.provenance(entry, graph);
            provenance.uncompressed.extend(above.uncompressed);
            let knows = |said: &Origins| layers.iter().all(|layer| said.layers.contains_key(&layer.digest));
            if provenance.origins.is_none() && above.substitute.is_none() && !layers.is_empty() {
                provenance.origins = above.origins.filter(knows);
            }
        }
        Ok(provenance)
    }

    fn other_digests(&self, reference: &Reference) -> Vec<Reference> {
        let digests = (reference.repository().clone(), None);
        let others = self.places.names.get(&digests);
        if reference.tag().is_none() || others.is_none() {
            return Vec::new();
        }
        let mut graphs = Graphs::new(self.layout.as_ref());
        let mut ids = |entry: &Entry| -> Vec<Digest> {
            // Unreadable entries are reported when they are requested by name.
            let graph = graphs.of(entry).ok();
            graph.map_or_else(Vec::new, |graph| graph.runnable().map(Image::id).collect())
        };
        let own: Vec<Digest> = self.named(reference).into_iter().flat_map(&mut ids).collect();
        let of_same = self
            .at(others)
            .filter(|entry| ids(entry).iter().any(|id| own.contains(id)));
        of_same.filter_map(|entry| entry.reference.clone()).collect()
    }
}

/// An image in a layout.
struct InLayout<'s> {
    source: &'s ArchiveSource,
    reference: Reference,
}

impl About for InLayout<'_> {
    fn provenance(&self, graph: &Graph) -> Result<Provenance> {
        self.source.provenance(&self.reference, graph)
    }

    fn referrers(&self, subject: &Digest) -> Result<Vec<ListedReferrer>> {
        let source = self.source;
        let known = source.referrers.get_or_init(|| {
            let all = Graphs::new(source.layout.as_ref()).listed()?;
            let mut by_subject = BySubject::new();
            for one in all {
                by_subject.entry(one.subject).or_default().push(one);
            }
            Ok(by_subject)
        });
        let known = known.as_ref().map_err(Clone::clone)?;
        Ok(known.get(subject).cloned().unwrap_or_default())
    }

    fn other_digests(&self) -> Vec<Reference> {
        self.source.other_digests(&self.reference)
    }
}

impl Source for ArchiveSource {
    fn find(&self, query: &Query<'_>) -> Result<Vec<Answer<'_>>> {
        query.each(|reference| {
            let root = self.resolve(reference)?;
            Ok(Found {
                about: Box::new(InLayout {
                    source: self,
                    reference: reference.clone(),
                }),
                is_private: self.is_private,
                lacks_layers: !self.layout.omitted().layers.is_empty(),
                ..Found::in_store(root, self.layout.label().into(), query.platforms)
            })
        })
    }

    fn metadata(&self, _: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let absent = || {
            let platform = descriptor
                .platform
                .as_ref()
                .map(|platform| format!(" ({platform})"));
            Error::NotFound {
                what: format!("{}{}", descriptor.digest, platform.unwrap_or_default()),
                place: self.layout.label().into(),
                hint: Some("it holds only a part of this image: choose the platforms that it has".into()),
            }
        };
        self.layout.metadata(descriptor)?.ok_or_else(absent)
    }

    fn open(&self, _: &Repository, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let stored = self.layout.stored(&descriptor.digest);
        let stored = stored.ok_or_else(|| self.missing(&descriptor.digest))?;
        if stored.size != descriptor.size {
            let problem = Problem::SizeDiffers {
                expected: descriptor.size,
                found: stored.size,
            };
            return Err(Error::refused(self.place(&descriptor.digest), problem));
        }
        Ok(Box::new(stored.reader(offset)))
    }

    fn list(&self) -> Result<Listing> {
        let entries = self.layout.entries().iter();
        let mut references: Vec<Reference> = entries
            .filter_map(|entry| entry.reference.clone())
            .chain(self.without_a_name().map(Reference::nameless))
            .collect();
        references.sort();
        references.dedup();
        let ids = self.places.roots.keys().chain(self.places.substitutes.keys());
        Ok(Listing {
            references,
            ids: ids.copied().collect(),
            ..Listing::default()
        })
    }

    fn fault(&self, _: &Repository, descriptor: &Descriptor, problem: Problem) -> Error {
        let mut place = self.place(&descriptor.digest);
        if let Some(stored) = self.layout.stored(&descriptor.digest) {
            place = place.entry(stored.entry.clone());
        }
        Error::refused(place, problem)
    }

    fn stored_forms(&self) -> Vec<StoredForm> {
        stored_forms(&*self.layout)
    }

    fn archived(&self, reference: &Reference) -> Option<Archived> {
        if reference.digest().is_some() {
            return None;
        }
        let named = self.named(reference);
        let entry = named.first()?;
        Some(Archived {
            digest: entry.digest(),
            root: entry.descriptor.digest,
            origin: self.layout.label().into(),
        })
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
