//! Images: what a reference stands for, as a closed set of descriptors.
//!
//! - `affected`: images that something wrong affects
//! - [`asked`]: what a save is asked for: names and image ids
//! - `choice`: which image of an index an engine chooses; `contest`: indexes of which engines choose differently
//! - `documents`: manifests, indexes and configs, parsed and kept once
//! - `graph`: a descriptor and everything below it; `walk`: how it is followed
//! - [`named`]: an image with its name and its provenance
//! - [`names`]: lists of names in messages
//! - `overview`: what an image consists of, in short
//! - [`provenance`]: the evidence for a digest, and where the parts of an image came from
//! - [`referrers`]: what refers to an image, such as signatures and SBOMs
//! - [`rename`], `selector`: selecting and renaming images

mod affected;
pub mod asked;
pub(crate) mod choice;
pub(crate) mod contest;
pub(crate) mod documents;
pub(crate) mod graph;
pub mod named;
pub mod names;
mod overview;
pub mod provenance;
pub mod referrers;
pub mod rename;
pub(crate) mod selector;
#[cfg(test)]
mod testing;
pub(crate) mod walk;

pub use affected::AffectedImage;
pub use documents::{Documents, Parsed};
pub use graph::{Graph, Image};
pub use named::NamedImage;
pub use overview::{ImageId, Overview, Variant};
pub use selector::{Identity, Selector};
