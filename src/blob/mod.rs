//! Blobs as bytes: where they are, how they are read, and the proof that they match a descriptor.
//!
//! - `stored`: where a blob's stored bytes are
//! - `verified`: the proof that bytes match a descriptor
//! - `blobs`: where blobs are read from by digest
//! - `reader`: one blob's stored bytes, hashed while they are read
//! - `map`: bulk hashing over a memory map; the only unsafe code
//! - `decompress`: a layer's uncompressed bytes

mod blobs;
pub(crate) mod decompress;
pub(crate) mod map;
mod reader;
pub(crate) mod stored;
mod verified;

pub use blobs::{Blobs, OpenBlob};
pub use reader::BlobReader;
pub use stored::{Extent, Stored, StoredReader, Uncompressed};
pub use verified::{Verified, Verifier};
