//! Packing layers again as they were packed once, so that their digests are what they were.
//!
//! Engines keep layers unpacked, and `docker save` writes them so. What the registry had can be made again if
//! the same encoder is known: the digest proves it.
//!
//! - [`encoders`]: the table of encoders, and who uses them
//! - [`layers`]: packs many layers, each until it has its digest
//! - `attempt`: one layer, tried with one encoder after the other
//! - `boundaries`: where Go's encoder was given a tar in parts, as far as that shows
//! - `packer`: the encoders at work
//! - `spool`: temporary files that packed layers are in
//! - [`templates`]: the manifests that tools write for a config and layers
//! - [`lost`]: a lost manifest from what is known of its layers, by trying the templates
//! - `sizes`: the search for a stored size that is not known

mod attempt;
mod boundaries;
pub mod encoders;
pub mod layers;
pub mod lost;
mod packer;
mod sizes;
mod spool;
pub mod templates;
#[cfg(test)]
mod tests;

pub use encoders::{Deflate, Encoder};
pub use layers::{Expected, Options, Outcome, Packed, Reason, Wanted, pack};

use std::io::Read;

use crate::error::Result;
use crate::oci::Digest;

/// Uncompressed layers, as an engine's store or an archive of `docker save` has them.
pub trait Unpacked: Send + Sync {
    /// Uncompressed bytes of a layer's tar; `None` if it is not here.
    ///
    /// # Errors
    ///
    /// If the layer is there and cannot be read.
    fn size(&self, diff_id: &Digest) -> Result<Option<u64>>;

    /// Opens a layer's tar at its first byte.
    ///
    /// The bytes are not checked: whoever reads them hashes them. An error of the reader that wraps a
    /// [`crate::Error`] (by `io::Error::other`) keeps its meaning.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NotFound`] if it is not here.
    fn open(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>>;
}
