//! The nouns of the OCI specifications. Pure: nothing here reads a file or a socket.
//!
//! - [`digest`]: content digests and the hasher that makes them
//! - `media_type`: what a descriptor says its content is
//! - `descriptor`: digest, size and media type of one blob
//! - [`json`]: strict JSON, because all documents come from outside; [`schema`]: what Go decodes each of them
//!   into
//! - `manifest`: manifests and indexes, raw bytes beside a parsed view
//! - `config`: the fields of an image config that sealift needs, platform and diff ids; `chain`: chains of
//!   layers
//! - `platform`: platforms and the selection of some
//! - `reference`: image names by Docker's rules
//! - `referrer`: manifests that refer to others, such as signatures

mod chain;
mod config;
mod descriptor;
pub mod digest;
pub mod json;
mod manifest;
mod media_type;
pub(crate) mod platform;
pub(crate) mod reference;
mod referrer;
pub mod schema;
#[cfg(test)]
pub(crate) mod testing;

pub use chain::chain_ids;
pub use config::Config;
pub use descriptor::Descriptor;
pub use digest::{Digest, Hasher};
pub use manifest::{Document, DocumentError, Index, Manifest};
pub use media_type::{Compression, Kind, MediaType};
pub use platform::{Platform, PlatformError, PlatformSelection};
pub use reference::{Reference, ReferenceError, Repository};
pub use referrer::Referrer;

/// Largest manifest, index or config that is read, in stored bytes.
///
/// The same cap as oras and registries use: 4 MiB.
pub const MAX_METADATA: u64 = 4 << 20;
