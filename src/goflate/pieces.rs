//! Levels -2, 0 and 1: the input is divided every 65,535 bytes, and each piece becomes a block.

use super::Level;
use super::bits::Bits;
use super::block::{STORED_MAX, put_literals, put_matched, put_stored};
use super::bytes::{SLACK, boxed};
use super::fast::{Fast, HISTORY, SHORTEST, WINDOW};
use super::token::Token;

/// A last piece up to this length is stored at level 1, whatever its content.
const TINY: usize = 16;

/// The kind of block of a piece.
enum Kind {
    Stored,
    Literals,
    Matched(Fast, Vec<Token>),
}

/// A body at levels -2, 0 and 1.
pub(super) struct Pieces {
    kind: Kind,
    /// History of 32 KiB, then the piece.
    window: Box<[u8; WINDOW + SLACK]>,
    /// The current end of the piece.
    end: usize,
}

impl Pieces {
    /// A body for levels -2, 0 and 1; other levels are treated as 1.
    pub(super) fn new(level: Level) -> Pieces {
        let kind = match level {
            Level::STORED => Kind::Stored,
            Level::HUFFMAN_ONLY => Kind::Literals,
            _ => Kind::Matched(Fast::new(), Vec::with_capacity(STORED_MAX)),
        };
        Pieces {
            kind,
            window: boxed(),
            end: HISTORY,
        }
    }

    /// Adds bytes; how they are divided does not matter.
    pub(super) fn take(&mut self, mut bytes: &[u8], bits: &mut Bits) {
        while !bytes.is_empty() {
            let room = HISTORY + STORED_MAX - self.end;
            let (taken, rest) = bytes.split_at(bytes.len().min(room));
            self.window[self.end..self.end + taken.len()].copy_from_slice(taken);
            self.end += taken.len();
            bytes = rest;
            if taken.len() == room {
                self.put(bits);
            }
        }
    }

    /// Writes the rest.
    pub(super) fn finish(&mut self, bits: &mut Bits) {
        if self.end > HISTORY {
            self.put(bits);
        }
    }

    fn put(&mut self, bits: &mut Bits) {
        let raw = &self.window[HISTORY..self.end];
        match &mut self.kind {
            Kind::Stored => put_stored(bits, raw),
            Kind::Literals => put_literals(bits, raw),
            Kind::Matched(..) if raw.len() <= TINY => put_stored(bits, raw),
            Kind::Matched(..) if raw.len() < SHORTEST => put_literals(bits, raw),
            Kind::Matched(fast, tokens) => {
                tokens.clear();
                fast.tokens(&self.window, self.end, tokens);
                if tokens.len() > raw.len() - raw.len() / 16 {
                    put_literals(bits, raw);
                } else {
                    put_matched(bits, tokens, raw);
                }
                fast.advance(raw.len());
                self.window.copy_within(self.end - HISTORY..self.end, 0);
            }
        }
        self.end = HISTORY;
    }
}
