//! Pushing images into a registry.
//!
//! - `destination`: the registry, and the names that images get there
//! - `content`: what its repositories have already
//! - `plan`: what is pushed, and what keeps an image from it
//! - `order`: which blob goes to which repositories, and the manifests of an image from the bottom up
//! - `upload`, `part`: one blob on its way
//! - `referrers`: signatures and what else refers to the images; `union`: lists and tags with what is there already
//! - `requests`, `listed`, `location`: the requests, and what their responses mean
//!
//! Blobs are pushed first, each once: further repositories mount it. Then come manifests, those that an index names before
//! the index, then what refers to them, and at last the tags, one by one.

mod content;
mod destination;
mod listed;
mod location;
mod order;
mod part;
mod plan;
mod referrers;
mod requests;
mod union;
mod upload;

pub use content::{Details, RepositoryContent};
pub use destination::{Destination, DestinationError};

pub(super) use content::look;
pub(super) use order::{BlobToPush, blobs_to_push, documents};
pub(super) use plan::{choose, of_plan, plan};
pub(super) use referrers::{PushedReferrers, ReferrerPush};
pub(super) use requests::{Offered, sparse};
pub(super) use upload::Uploader;

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::image::Graph;
use crate::load::chosen::Chosen;
use crate::oci::Descriptor;

/// The configs and layers of an image, and of the referrers that its repository does not show, in their stored forms, each
/// once.
fn stored_blobs<'c>(image: &'c Chosen, details: &Details) -> impl Iterator<Item = &'c Descriptor> {
    let mut seen = HashSet::new();
    let referrers = details.unshown(image).map(|referrer| &*referrer.graph);
    let blobs = configs_and_layers(&image.named.graph).chain(referrers.flat_map(configs_and_layers));
    blobs.filter(move |blob| seen.insert(blob.digest))
}

fn configs_and_layers(graph: &Graph) -> impl Iterator<Item = &Descriptor> {
    let configs = graph.images.iter().map(|image| &image.manifest.config);
    let layers = graph.images.iter().flat_map(|image| &image.manifest.layers);
    configs.chain(layers)
}

/// Every blob of an image and of its referrers in its stored form.
pub(super) fn all_blobs(image: &Chosen) -> impl Iterator<Item = Descriptor> {
    let referrers = image.named.referrers.iter();
    let referrers = referrers.flat_map(|referrer| referrer.graph.blobs());
    image.named.graph.blobs().into_iter().chain(referrers)
}

/// The results of workers that stopped at the first error, or that error. Those that a stop has ended say only that they
/// were interrupted.
pub(super) fn first_error_first<T>(outcomes: Vec<Option<Result<T>>>) -> Result<Vec<T>> {
    let mut interrupted = None;
    let mut results = Vec::new();
    for outcome in outcomes.into_iter().flatten() {
        match outcome {
            Ok(result) => results.push(result),
            Err(Error::Interrupted) => interrupted = Some(Error::Interrupted),
            Err(error) => return Err(error),
        }
    }
    interrupted.map_or(Ok(results), Err)
}
