//! Good copies of bad and missing blobs, for what repairs a registry through its API or in its storage folder.
//!
//! - `search`: where the good bytes are
//! - `offer`: fetches them
//! - `registry`: what is good in the registry, for stores that lack manifests
//! - `outcome`: what became of each blob

mod offer;
mod outcome;
mod registry;
mod search;

use std::sync::Arc;

use crate::error::Result;
use crate::source::Source;

pub(crate) use offer::{Fetch, Offer};
pub(crate) use outcome::failure;
pub use outcome::{BlobRepair, Fate, Good};
pub(crate) use search::{Search, Wanted, references_of};

/// A place that has good bytes.
pub struct Copies {
    /// Its name in the report.
    pub label: String,
    /// The place.
    pub source: Arc<dyn Source>,
    /// The names of its images.
    pub names: Names,
}

/// Under which names a place may have the images of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// The place lists its images. Those are searched that have the id or digest of an image in the registry, or the path
    /// of its repository: `harbor.local/team/app` is the repository `team/app`, and `mirror/team/app`.
    Listed {
        /// Whether images of other repositories are searched, too.
        all: bool,
    },
    /// As in the registry, below this host and path.
    Below(String),
}

/// Opens places. It is given the good part of the registry, for stores that recover images with the help of a registry.
/// What is good is known only once the registry is verified, so it may be kept, and not asked yet.
pub type Open<'a> = dyn FnMut(Arc<dyn Source>) -> Result<Vec<Copies>> + 'a;
