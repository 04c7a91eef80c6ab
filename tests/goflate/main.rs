//! The encoder of Go's gzip: known digests, properties, and a real Go beside it.
//!
//! ```text
//! recipe.rs         inputs from descriptions, as testdata/goflate/vectors.json defines them
//! vectors.rs        every digest of that file
//! properties.rs     what holds for any input
//! inputs.rs         further inputs, made from a seed
//! differential.rs   those, through this encoder and through a real Go
//! go.rs             that Go: go.sh installs it, digests.go asks its library
//! ```
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "lengths and random numbers here are made to fit"
)]

mod differential;
mod go;
mod inputs;
mod properties;
mod recipe;
mod vectors;

use std::io::Write;

use sealift::goflate::{Encoder, Level};
use sha2::{Digest, Sha256};

/// All levels of Go, -1 too.
const LEVELS: std::ops::RangeInclusive<i8> = -2..=9;

/// Encodes writes, with the place between two of them made known.
fn encode<'a>(writes: impl IntoIterator<Item = &'a [u8]>, level: i8) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), Level::new(level).unwrap());
    for write in writes {
        encoder.write_all(write).unwrap();
        encoder.cut();
    }
    encoder.finish().unwrap()
}

/// Encodes an input in one write.
fn encode_whole(input: &[u8], level: i8) -> Vec<u8> {
    encode([input], level)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
