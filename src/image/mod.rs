//! Images: what a reference stands for, as a closed set of descriptors.
//!
//! - `choice`: which image of an index engines take
//! - [`documents`]: manifests, indexes and configs, each parsed and kept once
//! - [`graph`]: everything that a reference stands for
//! - [`names`]: lists of names in messages

pub(crate) mod choice;
pub mod documents;
pub mod graph;
pub mod names;
pub mod rename;
pub mod selector;

pub use documents::{Documents, Parsed};
pub use graph::{Graph, Image};
