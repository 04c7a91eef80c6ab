//! Images: what a reference stands for, as a closed set of descriptors.
//!
//! - [`documents`]: manifests, indexes and configs, each parsed and kept once
//! - [`graph`]: everything that a reference stands for

pub mod documents;
pub mod graph;
pub mod rename;
pub mod selector;

pub use documents::{Documents, Parsed};
pub use graph::{Graph, Image};
