//! Pushing images into a registry.
//!
//! - `destination`: the registry, and the names that images get there
//! - `content`: what its repositories have already
//! - `plan`: what is pushed, and what keeps an image from it
//! - `order`: which blob goes to which repositories, and the manifests of an image from the bottom up
//! - `upload`, `part`: one blob on its way
//! - `requests`, `location`: the requests, and what their responses mean
//!
//! Blobs are pushed first, each once: further repositories mount it. Then come manifests, those that an index names before
//! the index, and at last the tags, one by one.

mod content;
mod destination;
mod location;
mod order;
mod part;
mod plan;
mod requests;
mod upload;

pub use content::{Details, RepositoryContent};
pub use destination::{Destination, DestinationError};

pub(super) use content::look;
pub(super) use order::{BlobToPush, blobs_to_push, documents};
pub(super) use plan::{choose, of_plan, plan};
pub(super) use requests::sparse;
pub(super) use upload::Uploader;

use std::collections::HashSet;

use crate::image::Graph;
use crate::oci::Descriptor;

/// The configs and layers of a graph in their stored forms, each once.
fn stored_blobs(graph: &Graph) -> impl Iterator<Item = &Descriptor> {
    let mut seen = HashSet::new();
    let configs = graph.images.iter().map(|image| &image.manifest.config);
    let layers = graph.images.iter().flat_map(|image| &image.manifest.layers);
    configs.chain(layers).filter(move |blob| seen.insert(blob.digest))
}
