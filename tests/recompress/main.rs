//! Layers that encoders of other programs compressed, recompressed here.
//!
//! ```text
//! inputs.rs    uncompressed bytes of many kinds and lengths, made from a number
//! python.rs    the same through a real Python's zlib and gzip: digests.py
//! ```
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod inputs;
mod python;
