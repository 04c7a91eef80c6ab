//! Recompresses layers into their original, digest-identical form.
//!
//! Engines keep layers uncompressed, and `docker save` writes them so. The stored form that the registry had is
//! reproduced with the encoder that made it; the digest proves it.
//!
//! - `encoders`: the table of encoders, and which tools use them
//! - `layers`: recompresses many layers, each until it has its digest
//! - `attempt`: one layer, tried with one encoder after the other
//! - `boundaries`: where a tar was split when it was written to Go's encoder, as far as that matters
//! - `compressor`: the encoders at work
//! - `spool`: temporary files with recompressed layers

mod attempt;
mod boundaries;
mod compressor;
pub(crate) mod encoders;
pub(crate) mod layers;
mod spool;
#[cfg(test)]
mod tests;

pub use encoders::{Deflate, Encoder};
pub use layers::{Expected, MissingLayer, Options, Outcome, Reason, Recompressed, recompress};
