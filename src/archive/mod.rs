//! The archive: an OCI image layout in a plain tar that other tools read too.
//!
//! - [`format`]: entry names, annotations, `index.json` and `manifest.json`
//! - [`content`]: what can be read as a layout
//! - [`verified`]: the proof that bytes are what a descriptor says
//!
//! Reading, from the bottom up:
//!
//! - `map`: bulk hashing over a memory map; the only unsafe code
//! - [`segments`]: one file, or the parts that it was cut into
//! - [`tar_index`]: where everything stands in a tar, strictly
//! - `spool`: standard input and compressed archives, into a temporary file
//! - [`reader`]: an archive opened; [`folder`]: a layout folder opened
//! - [`blob`]: one blob's stored bytes, hashed; [`decompress`]: a layer's uncompressed bytes

pub mod blob;
pub mod content;
pub mod decompress;
pub mod folder;
pub mod format;
mod map;
pub mod reader;
pub mod segments;
mod spool;
pub mod tar_index;
pub mod verified;

pub use blob::BlobReader;
pub use reader::{Archive, open};
pub use spool::Options;
pub use verified::{Verified, Verifier};
