//! Tokens: a literal byte, or a match of a length and a distance; and their symbols after RFC 1951, 3.2.5.

/// The symbol of a block's end.
pub(super) const END: usize = 256;
/// Symbols of the literal and length alphabet, including the two unused ones of the fixed code.
pub(super) const LITERALS: usize = 288;
/// Symbols of the distance alphabet, including the two unused ones.
pub(super) const DISTANCES: usize = 32;

/// A literal, or a match: bit 31, the length less 3 from bit 16, the distance less 1 from bit 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(u32);

impl Token {
    #[inline(always)]
    pub(super) fn literal(byte: u8) -> Token {
        Token(u32::from(byte))
    }

    /// A match of 3 to 258 bytes at a distance of 1 to 32,768.
    #[inline(always)]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a length is at most 258, a distance at most 32,768"
    )]
    pub(super) fn matched(length: usize, distance: usize) -> Token {
        debug_assert!((3..=258).contains(&length) && (1..=32768).contains(&distance));
        Token(1 << 31 | ((length - 3) as u32) << 16 | (distance - 1) as u32)
    }

    #[inline(always)]
    pub(super) fn is_match(self) -> bool {
        self.0 >> 31 != 0
    }

    /// The symbol of a literal.
    #[inline(always)]
    pub(super) fn byte(self) -> usize {
        (self.0 & 0xFF) as usize
    }

    #[inline(always)]
    pub(super) fn length(self) -> Symbol {
        LENGTH_SYMBOLS[(self.0 >> 16 & 0xFF) as usize]
    }

    #[inline(always)]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "symbol, extra bits and their value are below 2^13"
    )]
    pub(super) fn distance(self) -> Symbol {
        let less_one = self.0 & 0x7FFF;
        if less_one < 2 {
            return Symbol {
                symbol: less_one as u16,
                extra: 0,
                value: 0,
            };
        }
        let high = less_one.ilog2();
        let extra = high - 1;
        Symbol {
            symbol: (2 * high + (less_one >> extra & 1)) as u16,
            extra: extra as u16,
            value: (less_one & ((1 << extra) - 1)) as u16,
        }
    }
}

/// A symbol with the extra bits that follow it.
#[derive(Clone, Copy)]
pub(super) struct Symbol {
    pub(super) symbol: u16,
    /// The number and value of the extra bits.
    pub(super) extra: u16,
    pub(super) value: u16,
}

/// Symbols of lengths, by the length less 3.
const LENGTH_SYMBOLS: [Symbol; 256] = {
    let mut symbols = [Symbol {
        symbol: 0,
        extra: 0,
        value: 0,
    }; 256];
    let mut less_three: u16 = 0;
    while less_three < 256 {
        symbols[less_three as usize] = length_symbol(less_three);
        less_three += 1;
    }
    symbols
};

#[allow(
    clippy::cast_possible_truncation,
    reason = "a logarithm of a number below 256"
)]
const fn length_symbol(less_three: u16) -> Symbol {
    if less_three == 255 {
        // 258 has a symbol of its own.
        return Symbol {
            symbol: 285,
            extra: 0,
            value: 0,
        };
    }
    if less_three < 8 {
        return Symbol {
            symbol: 257 + less_three,
            extra: 0,
            value: 0,
        };
    }
    let high = less_three.ilog2() as u16;
    let extra = high - 2;
    Symbol {
        symbol: 257 + 4 * (high - 1) + (less_three >> extra & 3),
        extra,
        value: less_three & ((1 << extra) - 1),
    }
}

/// Number of extra bits after a symbol of the literal and length alphabet.
pub(super) fn length_extra(symbol: usize) -> u64 {
    match symbol {
        265..=284 => (symbol as u64 - 261) / 4,
        _ => 0,
    }
}

/// Number of extra bits after a symbol of the distance alphabet.
pub(super) fn distance_extra(symbol: usize) -> u64 {
    (symbol as u64 / 2).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1951, 3.2.5.
    const LENGTH_BASE: [usize; 29] = [
        3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163,
        195, 227, 258,
    ];
    const DISTANCE_BASE: [usize; 30] = [
        1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049,
        3073, 4097, 6145, 8193, 12289, 16385, 24577,
    ];

    #[test]
    fn every_length_and_distance_comes_back_from_its_symbol() {
        for length in 3..=258 {
            let symbol = Token::matched(length, 1).length();
            let code = usize::from(symbol.symbol) - 257;
            assert_eq!(LENGTH_BASE[code] + usize::from(symbol.value), length);
            assert_eq!(u64::from(symbol.extra), length_extra(usize::from(symbol.symbol)));
            assert_eq!(code == 28, length == 258);
        }
        for distance in 1..=32768 {
            let symbol = Token::matched(3, distance).distance();
            assert_eq!(
                DISTANCE_BASE[usize::from(symbol.symbol)] + usize::from(symbol.value),
                distance
            );
            assert_eq!(
                u64::from(symbol.extra),
                distance_extra(usize::from(symbol.symbol))
            );
            assert!(u32::from(symbol.value) < 1 << symbol.extra);
        }
    }
}
