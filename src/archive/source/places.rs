//! Where the images of a layout are in its `index.json`.

use std::collections::HashMap;

use crate::archive::graphs::Graphs;
use crate::archive::layout::Layout;
use crate::image::{Graph, Image};
use crate::oci::{Digest, Reference, Repository};

/// Positions of entries in `index.json`, of which there may be thousands.
#[derive(Default)]
pub(super) struct Places {
    /// By name with its tag.
    pub names: HashMap<(Repository, Option<String>), Vec<usize>>,
    /// By the digest of the manifest or index that is present.
    pub roots: HashMap<Digest, Vec<usize>>,
    /// Substitutes of images without a name, by image id.
    pub substitutes: HashMap<Digest, Digest>,
    /// Image ids of images without a name, by the digest of their substitutes.
    pub ids: HashMap<Digest, Digest>,
}

impl Places {
    /// Those of a layout.
    pub fn of(layout: &dyn Layout) -> Places {
        let mut places = Places::default();
        let mut graphs = Graphs::new(layout);
        for (at, entry) in layout.entries().iter().enumerate() {
            places.roots.entry(entry.descriptor.digest).or_default().push(at);
            if let Some(name) = &entry.reference {
                places.names.entry(key(name)).or_default().push(at);
            } else if entry.substitute.is_some() {
                // If it cannot be read, a request for it says so.
                let root = entry.descriptor.digest;
                let id = graphs.of(entry).ok().and_then(|graph| only_id(&graph));
                if let Some(id) = id.filter(|id| *places.substitutes.entry(*id).or_insert(root) == root) {
                    places.ids.insert(root, id);
                }
            }
        }
        places
    }
}

/// The image id, if there is only one.
fn only_id(graph: &Graph) -> Option<Digest> {
    let mut ids = graph.runnable().map(Image::id);
    ids.next().filter(|_| ids.next().is_none())
}

pub(super) fn key(name: &Reference) -> (Repository, Option<String>) {
    (name.repository().clone(), name.tag().map(str::to_string))
}
