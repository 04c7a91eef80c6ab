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
