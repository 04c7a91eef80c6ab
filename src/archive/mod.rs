//! The archive: an OCI image layout in a plain tar that other tools read too.
//!
//! - [`format`]: entry names, annotations, `index.json` and `manifest.json`
//! - [`content`]: what can be read as a layout

pub mod content;
pub mod format;
