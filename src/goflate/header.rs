//! The beginning of a dynamic block: its two codes' lengths, in runs, in a code of their own (RFC 1951, 3.2.7).

use super::bits::Bits;
use super::huffman::Code;
use super::token::{DISTANCES, LITERALS};

/// Symbols of the code of code lengths, and the order in which its own lengths are written.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// The longest code of a code length.
const LONGEST: usize = 7;
/// Symbols for three or more of the length before, for three or more zeros, for eleven or more zeros.
const REPEAT: u8 = 16;
const ZEROS: u8 = 17;
const MANY_ZEROS: u8 = 18;

/// A dynamic block's header, ready to be written.
pub(super) struct Header {
    literals: usize,
    distances: usize,
    /// Symbols with their extra bits.
    runs: Vec<(u8, u8)>,
    code: Code<19>,
    /// Number of lengths in `code` that are written.
    written: usize,
    bits: u64,
}

impl Header {
    /// The header for two codes, the distances' with at least one symbol in use.
    pub(super) fn of(literals: &[u8; LITERALS], distances: &[u8; DISTANCES]) -> Header {
        let used = |lengths: &[u8]| {
            lengths
                .iter()
                .rposition(|length| *length > 0)
                .map_or(0, |last| last + 1)
        };
        let (literal_count, distance_count) = (used(literals).max(257), used(distances).max(1));
        let mut lengths = Vec::with_capacity(literal_count + distance_count);
        lengths.extend(literals.iter().take(literal_count));
        lengths.extend(distances.iter().take(distance_count));
        let mut runs = Vec::with_capacity(lengths.len());
        for run in lengths.chunk_by(|a, b| a == b) {
            put_run(&mut runs, run[0], run.len());
        }
        let mut frequencies = [0; 19];
        for (symbol, _) in &runs {
            frequencies[usize::from(*symbol)] += 1;
        }
        let code = Code::of(&frequencies, LONGEST);
        let written = ORDER
            .iter()
            .rposition(|symbol| frequencies[*symbol] > 0)
            .map_or(0, |last| last + 1)
            .max(4);
        let extra: u64 = runs
            .iter()
            .map(|(symbol, _)| u64::from(extra_bits(*symbol)))
            .sum();
        let bits = 3 + 5 + 5 + 4 + 3 * written as u64 + code.cost(&frequencies) + extra;
        Header {
            literals: literal_count,
            distances: distance_count,
            runs,
            code,
            written,
            bits,
        }
    }

    /// Its size, including the block's three header bits.
    pub(super) fn bits(&self) -> u64 {
        self.bits
    }

    /// Writes it for a block that is not the last; there is room for it.
    pub(super) fn put(&self, bits: &mut Bits) {
        bits.put(4, 3);
        bits.put(self.literals as u64 - 257, 5);
        bits.put(self.distances as u64 - 1, 5);
        bits.put(self.written as u64 - 4, 4);
        for symbol in ORDER.iter().take(self.written) {
            bits.put(u64::from(self.code.lengths()[*symbol]), 3);
        }
        for (symbol, value) in &self.runs {
            let (code, length) = self.code.symbol(usize::from(*symbol));
            bits.put(code, length);
            bits.put(u64::from(*value), extra_bits(*symbol));
        }
    }
}

fn extra_bits(symbol: u8) -> u32 {
    match symbol {
        REPEAT => 2,
        ZEROS => 3,
        MANY_ZEROS => 7,
        _ => 0,
    }
}

/// Appends a run of equal lengths, greedily: a run is never split for a better end.
#[allow(
    clippy::cast_possible_truncation,
    reason = "a run's parts are at most 138 long"
)]
fn put_run(runs: &mut Vec<(u8, u8)>, length: u8, count: usize) {
    let mut left = count;
    if length == 0 {
        while left >= 11 {
            let part = left.min(138);
            runs.push((MANY_ZEROS, (part - 11) as u8));
            left -= part;
        }
        if left >= 3 {
            runs.push((ZEROS, (left - 3) as u8));
            left = 0;
        }
    } else {
        runs.push((length, 0));
        left -= 1;
        while left >= 3 {
            let part = left.min(6);
            runs.push((REPEAT, (part - 3) as u8));
            left -= part;
        }
    }
    runs.extend(std::iter::repeat_n((length, 0), left));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(length: u8, count: usize) -> Vec<(u8, u8)> {
        let mut runs = Vec::new();
        put_run(&mut runs, length, count);
        runs
    }

    #[test]
    fn runs_are_greedy() {
        assert_eq!(runs(5, 1), [(5, 0)]);
        assert_eq!(runs(5, 3), [(5, 0); 3]);
        assert_eq!(runs(5, 4), [(5, 0), (16, 0)]);
        assert_eq!(runs(5, 9), [(5, 0), (16, 3), (5, 0), (5, 0)]);
        assert_eq!(runs(0, 2), [(0, 0); 2]);
        assert_eq!(runs(0, 10), [(17, 7)]);
        assert_eq!(runs(0, 11), [(18, 0)]);
        assert_eq!(runs(0, 140), [(18, 127), (0, 0), (0, 0)]);
        assert_eq!(runs(0, 150), [(18, 127), (18, 1)]);
    }
}
