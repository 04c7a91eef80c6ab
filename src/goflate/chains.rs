//! The window of levels 2 to 9, and its chains of positions with the same hash.
//!
//! A position is an index in the window, 0 to 65,535. `head` has an index plus `offset`, which grows when the
//! window slides, so that the table need not be changed then. A value below `offset` has left the window.

use super::bytes::{SLACK, boxed, equal, load8, load32};
use super::token::Token;

/// Bytes of the window.
pub(super) const WINDOW: usize = 1 << 16;
/// How far the window slides, and the greatest distance of a match.
pub(super) const SLIDE: usize = 1 << 15;
/// The greatest length of a match.
const LONGEST: usize = 258;
/// A match counts if it is longer than this.
pub(super) const NO_MATCH: usize = 3;
/// A match of this length counts only up to this distance.
const SHORT: usize = 4;
const SHORT_DISTANCE: usize = 4096;

const HASH_BITS: u32 = 17;
/// Offsets are lowered again when they reach this.
const OFFSET_MAX: u32 = 1 << 30;

/// When a search ends.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    /// A match of this length is used at once.
    pub(super) nice: usize,
    /// Number of candidates that are compared.
    pub(super) chain: usize,
}

/// A window and the chains of the positions that were inserted.
pub(super) struct Chains {
    window: Box<[u8; WINDOW + SLACK]>,
    /// The latest position of each hash.
    head: Box<[u32; 1 << HASH_BITS]>,
    /// Distance from a position to the next older one of its chain; 0 if there is none in reach.
    back: Box<[u16; SLIDE]>,
    offset: u32,
    offset_max: u32,
    end: usize,
}

impl Chains {
    pub(super) fn new() -> Chains {
        Chains {
            window: boxed(),
            head: boxed(),
            back: boxed(),
            offset: 1,
            offset_max: OFFSET_MAX,
            end: 0,
        }
    }

    /// Lowers offsets more often than the inputs of a test would.
    #[cfg(test)]
    pub(super) fn lower_offsets_at(&mut self, offset: u32) {
        self.offset_max = offset;
    }

    /// End of the data in the window.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// A literal token for the byte at an index.
    #[inline(always)]
    pub(super) fn literal(&self, at: usize) -> Token {
        Token::literal(load8(&self.window, at))
    }

    /// The bytes from one index to another.
    pub(super) fn bytes(&self, from: usize, to: usize) -> &[u8] {
        self.window.get(from..to).unwrap_or_default()
    }

    /// Adds as many bytes as fit, and returns the rest.
    pub(super) fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(bytes.len().min(WINDOW - self.end));
        self.window[self.end..self.end + taken.len()].copy_from_slice(taken);
        self.end += taken.len();
        rest
    }

    /// Drops the window's first half. All indices decrease by [`SLIDE`].
    #[allow(clippy::cast_possible_truncation, reason = "a constant of 2^15")]
    pub(super) fn slide(&mut self) {
        self.window.copy_within(SLIDE..WINDOW, 0);
        self.end -= SLIDE;
        self.offset += SLIDE as u32;
        if self.offset >= self.offset_max {
            let lower = self.offset - 1;
            self.head
                .iter_mut()
                .for_each(|value| *value = value.saturating_sub(lower));
            self.offset = 1;
        }
    }

    /// Inserts a position, unless fewer than four bytes follow, and returns the previous head of its chain.
    #[inline(always)]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "an index is below 2^16, and so is what is stored back"
    )]
    pub(super) fn insert(&mut self, at: usize) -> Option<usize> {
        if at + 4 > self.end {
            return None;
        }
        let product = load32(&self.window, at).swap_bytes().wrapping_mul(0x1E35_A7BD);
        let head = &mut self.head[(product >> (32 - HASH_BITS)) as usize];
        let value = at as u32 + self.offset;
        let before = std::mem::replace(head, value);
        let distance = value - before;
        self.back[at % SLIDE] = if distance <= SLIDE as u32 && before > 0 {
            distance as u16
        } else {
            0
        };
        if before >= self.offset && distance <= SLIDE as u32 {
            Some(at - distance as usize)
        } else {
            None
        }
    }

    /// Inserts a range of positions.
    #[inline(always)]
    pub(super) fn insert_all(&mut self, from: usize, to: usize) {
        for at in from..to {
            self.insert(at);
        }
    }

    /// The length and distance of the best match at a position, or [`NO_MATCH`] and 0.
    ///
    /// At least four bytes must follow the position, and `first` is the result of its insertion.
    #[inline(always)]
    pub(super) fn search(&self, at: usize, first: usize, effort: Effort) -> (usize, usize) {
        let window = &*self.window;
        let limit = LONGEST.min(self.end - at);
        let nice = effort.nice.min(limit);
        let lowest = at.saturating_sub(SLIDE);
        let (mut best, mut distance) = (NO_MATCH, 0);
        // A longer match has these four bytes at the end of the best one, and the byte after it.
        let mut wanted = load32(window, at);
        let mut candidate = first;
        for _ in 0..effort.chain {
            if load32(window, candidate + best - NO_MATCH) == wanted {
                let length = equal(window, candidate, at, limit);
                if length > best && (length > SHORT || at - candidate <= SHORT_DISTANCE) {
                    (best, distance) = (length, at - candidate);
                    if length >= nice {
                        break;
                    }
                    wanted = load32(window, at + best - NO_MATCH);
                }
            }
            let back = usize::from(self.back[candidate % SLIDE]);
            if back == 0 || back > candidate - lowest {
                break;
            }
            candidate -= back;
        }
        (best, distance)
    }
}
