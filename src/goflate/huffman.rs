//! Code lengths and codes.
//!
//! Lengths come from package-merge, with a package before a leaf of the same weight. Ties decide which of
//! several optimal sets of lengths results, so no other algorithm will do, even where the limit does not
//! matter.

/// A Huffman code over `N` symbols; a symbol of length 0 is not used.
#[derive(Clone)]
pub(super) struct Code<const N: usize> {
    lengths: [u8; N],
    /// The code as it is written, with its bits mirrored.
    codes: [u16; N],
}

/// The longest code of RFC 1951.
const LONGEST: usize = 15;
/// Symbols of the largest alphabet.
const MOST: usize = super::token::LITERALS;

impl<const N: usize> Code<N> {
    /// The code for these frequencies with no length above the limit.
    pub(super) fn of(frequencies: &[u32; N], limit: usize) -> Code<N> {
        Code::with_lengths(lengths(frequencies, limit))
    }

    /// RFC 1951's canonical code: by length, then by symbol.
    #[allow(clippy::cast_possible_truncation, reason = "codes have at most 15 bits")]
    pub(super) fn with_lengths(lengths: [u8; N]) -> Code<N> {
        let mut count = [0u32; LONGEST + 1];
        for length in lengths {
            count[usize::from(length)] += 1;
        }
        let mut next = [0u32; LONGEST + 1];
        let mut code = 0;
        for length in 1..=LONGEST {
            next[length] = code;
            code = (code + count[length]) << 1;
        }
        let mut codes = [0; N];
        for (code, length) in codes.iter_mut().zip(lengths).filter(|(_, length)| *length > 0) {
            let value = &mut next[usize::from(length)];
            *code = (*value as u16).reverse_bits() >> (16 - u32::from(length));
            *value += 1;
        }
        Code { lengths, codes }
    }

    pub(super) fn lengths(&self) -> &[u8; N] {
        &self.lengths
    }

    /// A symbol's bits and their number.
    #[inline(always)]
    pub(super) fn symbol(&self, symbol: usize) -> (u64, u32) {
        (u64::from(self.codes[symbol]), u32::from(self.lengths[symbol]))
    }

    /// Bits that all symbols take at these frequencies.
    pub(super) fn cost(&self, frequencies: &[u32; N]) -> u64 {
        frequencies
            .iter()
            .zip(self.lengths)
            .map(|(times, length)| u64::from(*times) * u64::from(length))
            .sum()
    }
}

/// Code lengths by package-merge.
#[allow(
    clippy::cast_possible_truncation,
    reason = "there are at most 288 symbols, and 15 rows"
)]
fn lengths<const N: usize>(frequencies: &[u32; N], limit: usize) -> [u8; N] {
    const { assert!(N <= MOST) };
    let mut leaves = [0u64; MOST];
    let mut count = 0;
    for (symbol, times) in frequencies.iter().enumerate().filter(|(_, times)| **times > 0) {
        leaves[count] = u64::from(*times) << 16 | symbol as u64;
        count += 1;
    }
    let leaves = &mut leaves[..count];
    let mut lengths = [0; N];
    if count <= 2 {
        for leaf in leaves {
            lengths[symbol(*leaf)] = 1;
        }
        return lengths;
    }
    leaves.sort_unstable();
    let mut weights = [0u32; MOST];
    for (weight, leaf) in weights.iter_mut().zip(leaves.iter()) {
        *weight = (*leaf >> 16) as u32;
    }
    let rows = limit.min(LONGEST).min(count - 1);
    let taken = taken(&weights[..count], rows);
    for (place, leaf) in leaves.iter().enumerate() {
        lengths[symbol(*leaf)] = taken[..rows].iter().filter(|taken| **taken > place).count() as u8;
    }
    lengths
}

fn symbol(leaf: u64) -> usize {
    (leaf & 0xFFFF) as usize
}

/// How many of the lightest leaves each row uses, the first row first; at least three leaves.
fn taken(leaves: &[u32], rows: usize) -> [usize; LONGEST] {
    let count = leaves.len();
    let most = 2 * count - 2;
    // In each row, leaves among the first i items.
    let mut leaves_before = [[0u16; 2 * MOST]; LONGEST];
    let mut row = [0u32; 2 * MOST];
    row[..count].copy_from_slice(leaves);
    let mut length = count;
    for (before, i) in leaves_before[0].iter_mut().zip(0u16..) {
        *before = i.min(count.try_into().unwrap_or(u16::MAX));
    }
    let mut packages = [0u32; MOST + 1];
    for before in &mut leaves_before[1..rows] {
        let pairs = length / 2;
        for (package, pair) in packages.iter_mut().zip(row[..2 * pairs].chunks_exact(2)) {
            *package = pair[0] + pair[1];
        }
        packages[pairs] = u32::MAX;
        length = merge(leaves, &packages[..=pairs], &mut row[..most], before);
    }
    let mut taken = [0; LONGEST];
    let mut items = most;
    for (taken, before) in taken[..rows].iter_mut().zip(&leaves_before[..rows]).rev() {
        *taken = usize::from(before[items]);
        items = 2 * (items - *taken);
    }
    taken
}

/// Merges leaves and packages, which end in one that is never reached, until one of them or the row ends.
fn merge(leaves: &[u32], packages: &[u32], row: &mut [u32], leaves_before: &mut [u16]) -> usize {
    let (mut leaf, mut package) = (0, 0);
    let mut length = 0;
    for (item, before) in row.iter_mut().zip(&mut leaves_before[1..]) {
        let of_package = packages.get(package).copied().unwrap_or(u32::MAX);
        let of_leaf = leaves.get(leaf).copied().unwrap_or(u32::MAX);
        if of_package == u32::MAX && of_leaf == u32::MAX {
            break;
        }
        let packaged = of_package <= of_leaf;
        *item = if packaged { of_package } else { of_leaf };
        package += usize::from(packaged);
        leaf += usize::from(!packaged);
        *before = leaf.try_into().unwrap_or(u16::MAX);
        length += 1;
    }
    length
}
