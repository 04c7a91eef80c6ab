//! The graphs of an archive's entries. An image with many names is followed once, and a document that many
//! images share is kept once.

use std::collections::HashMap;
use std::sync::Arc;

use super::format::Entry;
use super::layout::Layout;
use crate::error::{Error, Place, Problem, Result};
use crate::image::graph::MAX_ALL_DESCRIPTORS;
use crate::image::{Documents, Graph};
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
}

impl<'a> Graphs<'a> {
    /// Starts with none.
    pub fn new(layout: &'a dyn Layout) -> Graphs<'a> {
        Graphs {
            layout,
            documents: Documents::default(),
            known: HashMap::new(),
            descriptors: 0,
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
}
