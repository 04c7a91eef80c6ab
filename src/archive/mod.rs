//! The archive: an OCI image layout in a plain tar that other tools read too.
//!
//! - [`format`]: entry names, annotations, `index.json` and `manifest.json`
//! - [`content`]: what can be read as a layout
//! - [`verified`]: the proof that bytes are what a descriptor says

pub mod content;
pub mod format;
pub mod verified;

pub use verified::{Verified, Verifier};
