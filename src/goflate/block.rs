//! Blocks of DEFLATE: the kind of block for a list of tokens, by its size in bits, and its bits.

use std::sync::LazyLock;

use super::bits::Bits;
use super::header::Header;
use super::huffman::Code;
use super::token::{DISTANCES, END, LITERALS, Token, distance_extra, length_extra};

/// Most bytes of a stored block.
pub(super) const STORED_MAX: usize = 65535;
/// The longest code of a literal, length or distance.
const LONGEST: usize = 15;
/// The most bits of one token: codes of 15, extra bits of 5 and 13.
const TOKEN_BITS: u64 = 48;

/// RFC 1951, 3.2.6.
static FIXED: LazyLock<(Code<LITERALS>, Code<DISTANCES>)> = LazyLock::new(|| {
    let mut lengths = [8; LITERALS];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    (Code::with_lengths(lengths), Code::with_lengths([5; DISTANCES]))
});

/// How often each symbol occurs in a block.
struct Frequencies {
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
}

impl Frequencies {
    fn of(tokens: &[Token]) -> Frequencies {
        let (mut literals, mut distances) = ([0; LITERALS], [0; DISTANCES]);
        for token in tokens {
            if token.is_match() {
                literals[usize::from(token.length().symbol)] += 1;
                distances[usize::from(token.distance().symbol)] += 1;
            } else {
                literals[token.byte()] += 1;
            }
        }
        Frequencies::finished(literals, distances)
    }

    fn of_bytes(bytes: &[u8]) -> Frequencies {
        let mut literals = [0; LITERALS];
        for byte in bytes {
            literals[usize::from(*byte)] += 1;
        }
        Frequencies::finished(literals, [0; DISTANCES])
    }

    /// Counts the end, and one distance that is never written if there is no other: sizes include it.
    fn finished(mut literals: [u32; LITERALS], mut distances: [u32; DISTANCES]) -> Frequencies {
        literals[END] = 1;
        if distances.iter().all(|times| *times == 0) {
            distances[0] = 1;
        }
        Frequencies { literals, distances }
    }

    fn extra_bits(&self) -> u64 {
        let lengths = self
            .literals
            .iter()
            .enumerate()
            .map(|(s, times)| u64::from(*times) * length_extra(s));
        let distances = self
            .distances
            .iter()
            .enumerate()
            .map(|(s, times)| u64::from(*times) * distance_extra(s));
        lengths.sum::<u64>() + distances.sum::<u64>()
    }
}

/// The codes of a dynamic block.
struct Dynamic {
    literals: Code<LITERALS>,
    distances: Code<DISTANCES>,
    header: Header,
    /// Header and codes, without extra bits, and including the distance that is never written.
    bits: u64,
}

impl Dynamic {
    fn of(frequencies: &Frequencies) -> Dynamic {
        let literals = Code::of(&frequencies.literals, LONGEST);
        let distances = Code::of(&frequencies.distances, LONGEST);
        let header = Header::of(literals.lengths(), distances.lengths());
        let bits =
            header.bits() + literals.cost(&frequencies.literals) + distances.cost(&frequencies.distances);
        Dynamic {
            literals,
            distances,
            header,
            bits,
        }
    }
}

/// A block of levels 2 to 9: the smallest kind; stored only if the raw bytes are available.
pub(super) fn put_smallest(bits: &mut Bits, tokens: &[Token], raw: Option<&[u8]>) {
    let frequencies = Frequencies::of(tokens);
    let extra = frequencies.extra_bits();
    let (literals, distances) = &*FIXED;
    let fixed = 3 + literals.cost(&frequencies.literals) + distances.cost(&frequencies.distances) + extra;
    let codes = Dynamic::of(&frequencies);
    let dynamic = codes.bits + extra;
    if let Some(raw) = raw.filter(|raw| stored_bits(raw) < fixed.min(dynamic)) {
        put_stored(bits, raw);
    } else if dynamic < fixed {
        bits.reserve(dynamic);
        codes.header.put(bits);
        put_tokens(bits, tokens, &codes.literals, &codes.distances);
    } else {
        bits.reserve(fixed);
        bits.put(2, 3);
        put_tokens(bits, tokens, literals, distances);
    }
}

/// A block of level 1 that has matches: dynamic, or stored if that is smaller by a margin.
pub(super) fn put_matched(bits: &mut Bits, tokens: &[Token], raw: &[u8]) {
    let codes = Dynamic::of(&Frequencies::of(tokens));
    if stores_by_margin(raw, codes.bits) {
        return put_stored(bits, raw);
    }
    bits.reserve(codes.header.bits() + TOKEN_BITS * (tokens.len() as u64 + 1));
    codes.header.put(bits);
    put_tokens(bits, tokens, &codes.literals, &codes.distances);
}

/// A block of literals: dynamic, or stored if that is smaller by a margin.
pub(super) fn put_literals(bits: &mut Bits, raw: &[u8]) {
    let codes = Dynamic::of(&Frequencies::of_bytes(raw));
    if stores_by_margin(raw, codes.bits) {
        return put_stored(bits, raw);
    }
    bits.reserve(codes.bits);
    codes.header.put(bits);
    for byte in raw {
        let (code, length) = codes.literals.symbol(usize::from(*byte));
        bits.put(code, length);
    }
    let (code, length) = codes.literals.symbol(END);
    bits.put(code, length);
}

/// A stored block that is not the last.
pub(super) fn put_stored(bits: &mut Bits, raw: &[u8]) {
    put_stored_bytes(bits, raw, 0);
}

/// The last block of every stream: stored, of no bytes.
pub(super) fn put_last(bits: &mut Bits) {
    put_stored_bytes(bits, &[], 1);
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "no caller has more than STORED_MAX bytes"
)]
fn put_stored_bytes(bits: &mut Bits, raw: &[u8], last: u64) {
    debug_assert!(raw.len() <= STORED_MAX);
    let length = raw.len() as u16;
    bits.reserve(64);
    bits.put(last, 3);
    bits.align();
    bits.put(u64::from(length) | u64::from(!length) << 16, 32);
    bits.put_bytes(raw);
}

/// Without the padding of the header.
fn stored_bits(raw: &[u8]) -> u64 {
    8 * (raw.len() as u64 + 5)
}

fn stores_by_margin(raw: &[u8], size: u64) -> bool {
    stored_bits(raw) < size + size / 16
}

/// Writes tokens and the end of the block; there is room for them.
fn put_tokens(bits: &mut Bits, tokens: &[Token], literals: &Code<LITERALS>, distances: &Code<DISTANCES>) {
    for token in tokens {
        if !token.is_match() {
            let (code, length) = literals.symbol(token.byte());
            bits.put(code, length);
            continue;
        }
        let (length, distance) = (token.length(), token.distance());
        let (mut value, mut count) = literals.symbol(usize::from(length.symbol));
        value |= u64::from(length.value) << count;
        count += u32::from(length.extra);
        let (code, bits_of_code) = distances.symbol(usize::from(distance.symbol));
        value |= code << count;
        count += bits_of_code;
        value |= u64::from(distance.value) << count;
        count += u32::from(distance.extra);
        bits.put(value, count);
    }
    let (code, length) = literals.symbol(END);
    bits.put(code, length);
}
