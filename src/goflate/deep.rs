//! Levels 2 to 9: the choice of matches.
//!
//! Data is processed only when more arrives than the window has room for, or at the end. A position is decided
//! when the longest match and four bytes more are known to follow it. The window slides when the next position
//! has less.

use super::Level;
use super::bits::Bits;
use super::block::{STORED_MAX, put_smallest};
use super::chains::{Chains, Effort, NO_MATCH, SLIDE, WINDOW};
use super::token::Token;

/// The lookahead that a decision needs before the end.
const LOOKAHEAD: usize = 262;
/// Tokens of a block.
const TOKENS: usize = 16384;

/// How matches are chosen.
#[derive(Clone, Copy)]
enum Taking {
    /// At once. Positions inside one up to this length are inserted.
    Greedy { insert_all: usize },
    /// Unless the next position has a longer one. After one of this length there is no search.
    Lazy { enough: usize },
}

/// A body at levels 2 to 9.
pub(super) struct Deep {
    chains: Chains,
    taking: Taking,
    effort: Effort,
    /// The next position to decide.
    at: usize,
    /// Start of the block's raw bytes, as long as the window has them.
    start: Option<usize>,
    tokens: Vec<Token>,
    /// Whether a Write ended after the last byte.
    cut: bool,
    previous: Previous,
}

/// The previous position, for lazy matching.
#[derive(Clone, Copy)]
struct Previous {
    length: usize,
    distance: usize,
    /// Whether its byte has no token yet.
    pending: bool,
}

impl Previous {
    const NONE: Previous = Previous {
        length: NO_MATCH,
        distance: 0,
        pending: false,
    };
}

impl Deep {
    /// A body for levels 2 to 9; lower levels are treated as 2.
    pub(super) fn new(level: Level) -> Deep {
        let greedy = |insert_all| Taking::Greedy { insert_all };
        let lazy = |enough| Taking::Lazy { enough };
        let (taking, nice, chain) = match level.number() {
            ..=2 => (greedy(5), 16, 8),
            3 => (greedy(6), 32, 32),
            4 => (lazy(4), 16, 16),
            5 => (lazy(16), 32, 32),
            6 => (lazy(16), 128, 128),
            7 => (lazy(32), 128, 256),
            8 => (lazy(128), 258, 1024),
            9.. => (lazy(258), 258, 4096),
        };
        Deep {
            chains: Chains::new(),
            taking,
            effort: Effort { nice, chain },
            at: 0,
            start: Some(0),
            tokens: Vec::with_capacity(TOKENS),
            cut: false,
            previous: Previous::NONE,
        }
    }

    /// Adds bytes. They continue the previous Write unless it was cut.
    pub(super) fn take(&mut self, mut bytes: &[u8], bits: &mut Bits) {
        while !bytes.is_empty() {
            if self.cut || self.chains.end() == WINDOW {
                self.cut = false;
                self.step(false, bits);
                if self.at >= WINDOW - LOOKAHEAD {
                    self.slide();
                }
            }
            bytes = self.chains.fill(bytes);
        }
    }

    /// Marks that the next byte begins another Write.
    pub(super) fn cut(&mut self) {
        self.cut = true;
    }

    /// Writes the rest.
    pub(super) fn finish(&mut self, bits: &mut Bits) {
        self.step(true, bits);
        if self.previous.pending {
            self.tokens.push(self.chains.literal(self.at - 1));
        }
        if !self.tokens.is_empty() {
            self.flush(self.at, bits);
        }
    }

    fn slide(&mut self) {
        self.chains.slide();
        self.at -= SLIDE;
        self.start = self.start.and_then(|start| start.checked_sub(SLIDE));
    }

    fn step(&mut self, last: bool, bits: &mut Bits) {
        // Before the end, positions with a full lookahead are decided.
        let until = if last {
            self.chains.end()
        } else {
            (self.chains.end() + 1).saturating_sub(LOOKAHEAD)
        };
        match self.taking {
            Taking::Greedy { insert_all } => self.step_greedy(until, insert_all, bits),
            Taking::Lazy { enough } => self.step_lazy(until, enough, bits),
        }
    }

    fn step_greedy(&mut self, until: usize, insert_all: usize, bits: &mut Bits) {
        while self.at < until {
            let at = self.at;
            let (length, distance) = match self.chains.insert(at) {
                Some(first) => self.chains.search(at, first, self.effort),
                None => (NO_MATCH, 0),
            };
            if length > NO_MATCH {
                self.at += length;
                if length <= insert_all {
                    self.chains.insert_all(at + 1, self.at);
                }
                self.push(Token::matched(length, distance), self.at, bits);
            } else {
                self.at += 1;
                self.push(self.chains.literal(at), self.at, bits);
            }
        }
    }

    fn step_lazy(&mut self, until: usize, enough: usize, bits: &mut Bits) {
        while self.at < until {
            let at = self.at;
            let before = self.previous;
            let first = self.chains.insert(at);
            let (length, distance) = match first {
                Some(first) if before.length < enough && self.chains.end() - at > before.length => {
                    self.chains.search(at, first, self.effort)
                }
                _ => (NO_MATCH, 0),
            };
            if before.length > NO_MATCH && length <= before.length {
                self.at = at - 1 + before.length;
                self.chains.insert_all(at + 1, self.at);
                self.previous = Previous::NONE;
                self.push(Token::matched(before.length, before.distance), self.at, bits);
            } else {
                if before.pending {
                    self.push(self.chains.literal(at - 1), at, bits);
                }
                self.at = at + 1;
                self.previous = Previous {
                    length,
                    distance,
                    pending: true,
                };
            }
        }
    }

    /// Appends a token. A full block ends at `end`.
    #[inline(always)]
    fn push(&mut self, token: Token, end: usize, bits: &mut Bits) {
        self.tokens.push(token);
        if self.tokens.len() == TOKENS {
            self.flush(end, bits);
        }
    }

    #[inline(never)]
    fn flush(&mut self, end: usize, bits: &mut Bits) {
        let raw = self
            .start
            .map(|start| self.chains.bytes(start, end))
            .filter(|raw| raw.len() <= STORED_MAX);
        put_smallest(bits, &self.tokens, raw);
        self.start = Some(end);
        self.tokens.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far and near repeats over several slides.
    fn input() -> Vec<u8> {
        let mut state = 1u64;
        let mut input = Vec::new();
        for i in 0..60_000usize {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            input.extend_from_slice(&state.to_le_bytes()[6..]);
            let distance = 1 + (state >> 40) as usize % 33_000;
            if i % 3 == 0 && distance <= input.len() {
                let from = input.len() - distance;
                input.extend_from_within(from..(from + 9).min(input.len()));
            }
        }
        input
    }

    fn encoded(mut deep: Deep) -> Vec<u8> {
        let (mut bits, mut output) = (Bits::new(), Vec::new());
        deep.take(&input(), &mut bits);
        deep.finish(&mut bits);
        bits.align();
        bits.drain(&mut output, 0).unwrap();
        output
    }

    #[test]
    fn lowered_offsets_change_nothing() {
        for number in 2..=9 {
            let level = Level::new(number).unwrap();
            let mut often = Deep::new(level);
            often.chains.lower_offsets_at(70_000);
            assert!(encoded(often) == encoded(Deep::new(level)), "level {number}");
        }
    }
}
