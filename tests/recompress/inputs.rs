//! Uncompressed bytes of many kinds and lengths, made from a number.

use std::fs::File;
use std::io::Read as _;

/// How many there are.
pub const COUNT: u32 = 120;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}

/// The beginning of this program.
pub fn program() -> Vec<u8> {
    let mut program = Vec::new();
    let file = File::open(std::env::current_exe().unwrap()).unwrap();
    file.take(4 << 20).read_to_end(&mut program).unwrap();
    program
}

/// The bytes of a number below [`COUNT`].
pub fn input(number: u32, program: &[u8]) -> Vec<u8> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (u64::from(number) << 20));
    random.next();
    let length = match number {
        // Where zlib's own counts lie: 16,383 symbols of a block, a window of 32 KiB, two of them.
        0..4 => [0, 1, 2, 3][usize::try_from(number).unwrap()],
        4..40 => {
            let centre = [16_383, 32_768, 65_536, 32_768 - 262, 16_383 * 2, 258][random.below(6)];
            centre + random.below(7) - 3
        }
        40..110 => random.below(300_000),
        110..117 => 1_000_000 + random.below(1_500_000),
        _ => 4_000_000 + random.below(3_000_000),
    };
    let mut bytes: Vec<u8> = Vec::with_capacity(length);
    while bytes.len() < length {
        let part = 1 + random.below(length);
        match random.below(6) {
            0 => bytes.extend((0..part).map(|_| random.byte())),
            1 => {
                let from = random.below(program.len());
                bytes.extend(program.iter().cycle().skip(from).take(part));
            }
            2 => {
                let byte = random.byte();
                bytes.extend(std::iter::repeat_n(byte, part));
            }
            3 => {
                let symbols = 1 + random.below(20);
                bytes.extend((0..part).map(|_| u8::try_from(random.below(symbols)).unwrap()));
            }
            _ => words(&mut bytes, part, &mut random),
        }
    }
    bytes.truncate(length);
    bytes
}

/// Text, and copies of what came before, near and far.
fn words(bytes: &mut Vec<u8>, part: usize, random: &mut Random) {
    let end = bytes.len() + part;
    while bytes.len() < end {
        if bytes.len() > 40_000 && random.below(3) == 0 {
            let distance = 1 + random.below(33_000);
            for _ in 0..3 + random.below(300) {
                bytes.push(bytes[bytes.len() - distance]);
            }
        } else {
            let word = random.below(2000);
            bytes.extend_from_slice(format!("{:x} ", word * word).as_bytes());
        }
    }
}
