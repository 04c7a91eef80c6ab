//! The graphs of an archive's entries. An image with many names is followed once, and a document that many
//! images share is kept once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::format::{Entry, parse_referrers};
use super::layout::Layout;
use crate::error::{Error, Place, Problem, Result};
use crate::image::graph::MAX_ALL_DESCRIPTORS;
use crate::image::referrers::{ListedReferrer, ReferrerGraph, ReferrerWalk, StrayReason};
use crate::image::{Documents, Graph, NamedImage};
use crate::oci::{Descriptor, Digest, MediaType, PlatformSelection};

/// Digest, size and media type, and whether it is an attestation.
type Key = (Digest, u64, MediaType, bool);

/// The graphs of an archive's entries.
pub struct Graphs<'a> {
    layout: &'a dyn Layout,
    documents: Documents,
    /// By the descriptor of an entry's manifest or index.
    known: HashMap<Key, Arc<Graph>>,
    descriptors: usize,
    /// The referrers of images, by the digests of their roots and of their lists.
    referrers: HashMap<(Digest, Option<Digest>), Arc<[ReferrerGraph]>>,
}

impl<'a> Graphs<'a> {
    /// Starts with none.
    pub fn new(layout: &'a dyn Layout) -> Graphs<'a> {
        Graphs {
            layout,
            documents: Documents::default(),
            known: HashMap::new(),
            descriptors: 0,
            referrers: HashMap::new(),
        }
    }

    /// The graph of an entry's image, as far as it is present.
    ///
    /// # Errors
    ///
    /// As [`Graph::walk`]; [`Error::Refused`] if all of them together have too many descriptors.
    pub fn of(&mut self, entry: &Entry) -> Result<Arc<Graph>> {
        // A name and other annotations belong to the entry; the shared graph does not have them.
        let mut root = entry.descriptor.bare();
        let attests = entry.descriptor.attests().is_some();
        if attests {
            root.annotations.clone_from(&entry.descriptor.annotations);
        }
        let key = (root.digest, root.size, root.media_type.clone(), attests);
        if let Some(known) = self.known.get(&key) {
            return Ok(Arc::clone(known));
        }
        let (layout, documents) = (self.layout, &self.documents);
        let mut fetch = |descriptor: &Descriptor| documents.get(descriptor, || layout.metadata(descriptor));
        let graph = Graph::walk_shared(&root, &PlatformSelection::Present, &mut fetch)?;
        self.descriptors = self.descriptors.saturating_add(graph.descriptors());
        if self.descriptors > MAX_ALL_DESCRIPTORS {
            let limit = MAX_ALL_DESCRIPTORS;
            let place = Place::default().within(layout.label());
            return Err(Error::refused(place, Problem::TooMany { limit }));
        }
        let graph = Arc::new(graph);
        self.known.insert(key, Arc::clone(&graph));
        Ok(graph)
    }

    /// The image of an entry with its name, its provenance and what refers to it.
    ///
    /// # Errors
    ///
    /// As [`Graphs::of`] and [`Graphs::referrers`].
    pub fn named(&mut self, entry: &Entry) -> Result<NamedImage> {
        let graph = self.of(entry)?;
        Ok(NamedImage {
            reference: entry.reference.clone(),
            bare_tag: entry.bare_tag.clone(),
            provenance: self.layout.provenance(entry, &graph),
            referrers: self.referrers(entry, &graph)?,
            graph,
        })
    }

    /// What refers to an entry's image, of which this is the graph. What is listed and is no referrer is not among it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the list or a referrer is missing or malformed, or if there are too many.
    pub fn referrers(&mut self, entry: &Entry, graph: &Graph) -> Result<Arc<[ReferrerGraph]>> {
        let list = entry.referrers.or(self.layout.referrers().common);
        if list.is_none() && self.layout.referrers().is_empty() {
            return Ok(Arc::default());
        }
        let key = (graph.root.digest, list);
        if let Some(known) = self.referrers.get(&key) {
            return Ok(Arc::clone(known));
        }
        let mut own: HashMap<Digest, Vec<ListedReferrer>> = HashMap::new();
        if let Some(list) = list {
            for one in self.list(list)? {
                own.entry(one.subject).or_default().push(one);
            }
        }
        let others = self.layout.referrers();
        let (layout, documents) = (self.layout, &self.documents);
        let mut fetch = |descriptor: &Descriptor| documents.get(descriptor, || layout.metadata(descriptor));
        let mut walk = ReferrerWalk::new(graph);
        while !walk.subjects().is_empty() {
            let mut read = Vec::new();
            for subject in walk.subjects() {
                let listed = own.get(subject).into_iter().flatten().chain(others.of(subject));
                for one in listed.filter(|one| walk.wants(one)) {
                    read.push(one.read(&mut fetch)?);
                }
            }
            walk.add(read)?;
        }
        let found = walk.finish();
        if let Some(stray) = found
            .strays
            .iter()
            .find(|stray| stray.reason == StrayReason::Missing)
        {
            let place = Place::blob(stray.digest).within(layout.label());
            return Err(Error::refused(place, Problem::Missing));
        }
        self.referrers.insert(key, Arc::clone(&found.graphs));
        Ok(found.graphs)
    }

    /// Everything that the layout lists as a referrer of something in it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if a list is missing or malformed.
    pub fn listed(&self) -> Result<Vec<ListedReferrer>> {
        let others = self.layout.referrers();
        let own = self.layout.entries().iter().filter_map(|entry| entry.referrers);
        let lists: BTreeSet<Digest> = own.chain(others.common).collect();
        let mut listed: Vec<ListedReferrer> = others.all().cloned().collect();
        for list in lists {
            listed.extend(self.list(list)?);
        }
        Ok(listed)
    }

    /// A list of referrers.
    fn list(&self, digest: Digest) -> Result<Vec<ListedReferrer>> {
        let refuse = |problem| Error::refused(Place::blob(digest).within(self.layout.label()), problem);
        let stored = self.layout.stored(&digest);
        let size = stored.ok_or_else(|| refuse(Problem::Missing))?.size;
        let descriptor = Descriptor::new(MediaType::new(MediaType::OCI_INDEX), digest, size);
        let bytes = self.layout.metadata(&descriptor)?;
        let bytes = bytes.ok_or_else(|| refuse(Problem::Missing))?;
        parse_referrers(&bytes).map_err(refuse)
    }
}
