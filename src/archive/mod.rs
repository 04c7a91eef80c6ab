//! The archive: an OCI image layout in a plain tar that other tools read too.
//!
//! - [`format`]: entry names, annotations, `index.json` and `manifest.json`
//! - [`content`]: what can be read as a layout
//! - [`layout`]: where everything stands, before a byte is written
//! - [`writer`]: fills and seals an archive
//! - [`source`]: an archive that was read as a source of images
//! - [`verified`]: the proof that bytes are what a descriptor says

pub mod content;
pub mod format;
pub mod layout;
pub mod source;
pub mod verified;
pub mod writer;

pub use layout::Layout;
pub use source::ArchiveSource;
pub use verified::{Verified, Verifier};
