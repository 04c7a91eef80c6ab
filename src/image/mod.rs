//! Images: what a reference stands for, as a closed set of descriptors.
//!
//! - `choice`: which image of an index engines take
//! - [`documents`]: manifests, indexes and configs, each parsed and kept once
//! - [`graph`]: everything that a reference stands for
//! - [`names`]: lists of names in messages
//! - [`provenance`]: the evidence for a digest, and where the parts of an image came from
//! - [`rename`], [`selector`]: how people say which images they mean, and what they shall be called

pub(crate) mod choice;
pub mod documents;
pub mod graph;
pub mod names;
pub mod provenance;
pub mod rename;
pub mod selector;
#[cfg(test)]
mod testing;

pub use documents::{Documents, Parsed};
pub use graph::{Graph, Image};
