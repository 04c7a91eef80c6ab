//! The matcher of level 1: one candidate for each hash, and steps that grow while nothing is found.

use super::bytes::{SLACK, boxed, equal, load8, load32};
use super::token::Token;

/// Start of a block in its window. This many bytes of history precede it, the greatest distance of a match.
pub(super) const HISTORY: usize = 1 << 15;
/// A power of two with room for the history and a block.
pub(super) const WINDOW: usize = 1 << 17;
/// The shortest block that is searched for matches.
pub(super) const SHORTEST: usize = 128;

const SLOT_BITS: u32 = 14;
const LONGEST: usize = 258;
/// No search in a block's last bytes.
const MARGIN: usize = 15;
/// Offsets are lowered again when they reach this.
const OFFSET_MAX: u32 = 1 << 30;

/// Four bytes and their position: an index in the window plus the offset at that time.
///
/// Indices of a block begin at [`HISTORY`] and offsets at 1, so that the zero of an empty slot is out of reach.
#[derive(Clone, Copy, Default)]
struct Slot {
    bytes: u32,
    place: u32,
}

/// The matcher's table.
pub(super) struct Fast {
    slots: Box<[Slot; 1 << SLOT_BITS]>,
    offset: u32,
    offset_max: u32,
}

impl Fast {
    pub(super) fn new() -> Fast {
        Fast {
            slots: boxed(),
            offset: 1,
            offset_max: OFFSET_MAX,
        }
    }

    /// Finds the tokens of the block from [`HISTORY`] to `end`, at least [`SHORTEST`] bytes.
    pub(super) fn tokens(&mut self, window: &[u8; WINDOW + SLACK], end: usize, tokens: &mut Vec<Token>) {
        // At least 4 bytes follow every position below the limit.
        let limit = end - MARGIN;
        let (mut emitted, mut at) = (HISTORY, HISTORY);
        'search: loop {
            let mut skip = 32;
            let mut distance = loop {
                let step = skip >> 5;
                skip += step;
                if at + step > limit {
                    break 'search;
                }
                if let Some(distance) = self.exchange(load32(window, at), at) {
                    break distance;
                }
                at += step;
            };
            for literal in emitted..at {
                tokens.push(Token::literal(load8(window, literal)));
            }
            loop {
                let length = equal(window, at - distance, at, LONGEST.min(end - at));
                tokens.push(Token::matched(length, distance));
                at += length;
                emitted = at;
                if at >= limit {
                    break 'search;
                }
                self.exchange(load32(window, at - 1), at - 1);
                match self.exchange(load32(window, at), at) {
                    Some(further) => distance = further,
                    None => break,
                }
            }
            at += 1;
        }
        for literal in emitted..end {
            tokens.push(Token::literal(load8(window, literal)));
        }
    }

    /// Inserts a position, and returns the distance to the previous one in its slot if that is a match.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "an index is below 2^17")]
    fn exchange(&mut self, bytes: u32, at: usize) -> Option<usize> {
        let slot = &mut self.slots[(bytes.wrapping_mul(0x1E35_A7BD) >> (32 - SLOT_BITS)) as usize];
        let place = at as u32 + self.offset;
        let before = std::mem::replace(slot, Slot { bytes, place });
        let distance = (place - before.place) as usize;
        (before.bytes == bytes && distance <= HISTORY).then_some(distance)
    }

    /// Moves the window by a block of this length.
    #[allow(clippy::cast_possible_truncation, reason = "a block is below 2^16")]
    pub(super) fn advance(&mut self, length: usize) {
        self.offset += length as u32;
        if self.offset >= self.offset_max {
            let lower = self.offset - 1;
            self.slots
                .iter_mut()
                .for_each(|slot| slot.place = slot.place.saturating_sub(lower));
            self.offset = 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowered_offsets_change_nothing() {
        let mut often = Fast::new();
        often.offset_max = 1;
        let mut never = Fast::new();
        let mut window = boxed::<u8, { WINDOW + SLACK }>();
        let end = HISTORY + 20_000;
        for round in 0..9u64 {
            // Half of each block is noise, half repeats the block before.
            let mut state = round + 1;
            for (i, byte) in window[HISTORY..end].iter_mut().enumerate() {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                if i < 10_000 {
                    *byte = state.to_le_bytes()[7];
                }
            }
            let (mut a, mut b) = (Vec::new(), Vec::new());
            often.tokens(&window, end, &mut a);
            never.tokens(&window, end, &mut b);
            assert!(a == b, "block {round}");
            assert!(
                round == 0 || a.iter().any(|token| token.is_match()),
                "block {round} has no match"
            );
            often.advance(end - HISTORY);
            never.advance(end - HISTORY);
            assert_eq!(often.offset, 1);
            window.copy_within(end - HISTORY..end, 0);
        }
        assert!(never.offset > 9 * 20_000);
    }
}
