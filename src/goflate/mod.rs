//! The gzip encoder of Go 1.19 to 1.26, byte for byte: what `compress/gzip` writes at every level.
//!
//! A layer that a registry stored as gzip can be reproduced from its uncompressed tar if the encoder is known:
//! `docker push`, containerd and buildkit use Go's at [`Level::DEFAULT`], go-containerregistry and kaniko at
//! [`Level::FASTEST`]. Nothing here depends on images.
//!
//! - `encoder`: the gzip frame (RFC 1952) around a body, and the writer
//! - `pieces`: bodies at levels -2, 0 and 1, which divide the input every 65,535 bytes
//! - `fast`: the matcher of level 1
//! - `deep`: bodies at levels 2 to 9: the choice of matches, greedy or lazy
//! - `chains`: their window and hash chains
//! - `block`: the kind of DEFLATE block (RFC 1951) for a list of tokens, and its bits
//! - `header`: the code lengths at the start of a dynamic block
//! - `huffman`: code lengths and codes
//! - `token`, `bits`, `bytes`: literals and matches, the bit buffer, loads from a window
//!
//! Sizes are in bytes unless they are called bits. Memory is below 2 MiB at every level.

mod bits;
mod block;
mod bytes;
mod chains;
mod deep;
mod encoder;
mod fast;
mod header;
mod huffman;
mod pieces;
mod token;

pub use encoder::Encoder;

/// A level of Go's `compress/gzip`, -2 to 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Level(i8);

impl Level {
    /// Go's `gzip.DefaultCompression`, the same as level 6.
    pub const DEFAULT: Level = Level(6);
    /// Go's `gzip.BestSpeed`.
    pub const FASTEST: Level = Level(1);
    /// Go's `gzip.BestCompression`.
    pub const BEST: Level = Level(9);
    /// Go's `gzip.NoCompression`: stored blocks only.
    pub const STORED: Level = Level(0);
    /// Go's `gzip.HuffmanOnly`: literals only.
    pub const HUFFMAN_ONLY: Level = Level(-2);

    /// The level with Go's number, or `None` if Go has no such level; -1 is [`Level::DEFAULT`].
    pub fn new(number: i8) -> Option<Level> {
        match number {
            -1 => Some(Level::DEFAULT),
            -2..=9 => Some(Level(number)),
            _ => None,
        }
    }

    /// Go's number of the level; never -1.
    pub fn number(self) -> i8 {
        self.0
    }
}
