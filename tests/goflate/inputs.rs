//! Inputs made from a number: text, programs, runs, noise, mixtures, and lengths around the encoder's boundaries.

use std::fs;

use crate::recipe::Random;

/// An input, and the lengths of its writes.
pub struct Input {
    pub bytes: Vec<u8>,
    pub writes: Vec<usize>,
}

impl Input {
    /// The input's writes.
    pub fn cut(&self) -> Vec<&[u8]> {
        let mut rest = &*self.bytes;
        let writes = self.writes.iter().map(|length| {
            let (write, further) = rest.split_at(*length);
            rest = further;
            write
        });
        writes.collect()
    }
}

/// Where inputs come from.
pub struct Source {
    /// Programs of this machine.
    programs: Vec<Vec<u8>>,
}

impl Source {
    /// Reads this program, and others that are on every machine with these tests.
    pub fn new() -> Source {
        let this = std::env::current_exe().unwrap();
        let paths = [this.to_str().unwrap(), "/bin/sh", "/usr/bin/env", "/bin/bash"];
        let programs = paths.iter().map(|path| fs::read(path).unwrap());
        Source {
            programs: programs.collect(),
        }
    }

    /// The input of a number.
    pub fn input(&self, number: u64) -> Input {
        let mut random = Random::new(number + 1);
        let length = match number {
            // A few of several MiB.
            number if number % 500 == 499 => (3 << 20) + random.below(3 << 20),
            _ => length(&mut random),
        };
        let mut bytes = Vec::with_capacity(length);
        // One kind, or a mixture of parts.
        let part = if random.below(3) == 0 {
            1 + random.below(length.max(1))
        } else {
            length.max(1)
        };
        while bytes.len() < length {
            let end = length.min(bytes.len() + 1 + random.below(part).max(part / 2));
            self.add(&mut bytes, end, &mut random);
        }
        let writes = writes(length, &mut random);
        Input { bytes, writes }
    }

    /// Appends one kind up to a length.
    fn add(&self, bytes: &mut Vec<u8>, end: usize, random: &mut Random) {
        let wanted = end - bytes.len();
        match random.below(10) {
            0 | 1 => {
                let program = &self.programs[random.below(self.programs.len())];
                let from = random.below(program.len());
                bytes.extend(program.iter().cycle().skip(from).take(wanted));
            }
            2 => bytes.extend((0..wanted).map(|_| random.byte())),
            3 => runs(bytes, end, random),
            4 => {
                let most = [4, 256][random.below(2)];
                let symbols = 1 + random.below(most);
                bytes.extend((0..wanted).map(|_| random.below(symbols) as u8));
            }
            5 => skewed(bytes, end, random),
            6 => text(bytes, end, random),
            kind => copies(bytes, end, kind, random),
        }
        bytes.truncate(end);
    }
}

/// Lengths: most are small, many are near what the encoder counts to.
fn length(random: &mut Random) -> usize {
    let near = |centre: usize, random: &mut Random| centre + random.below(9) - 4;
    match random.below(20) {
        0..3 => random.below(600),
        3..8 => random.below(9000),
        8..12 => random.below(70_000),
        12 => random.below(400_000),
        // Blocks of 65,535 bytes, windows of 65,536, slides of 32,768, the lookahead of 262.
        13 => near(65535 * (1 + random.below(3)), random),
        14 => near(32768 * (1 + random.below(5)), random),
        15 => near(32768 * (2 + random.below(3)) - 262, random),
        16 => near(32768 * (2 + random.below(3)) + 262, random),
        // Blocks of 16,384 tokens, where all are literals.
        17 => near(16384 * (1 + random.below(6)), random),
        18 => near(65535 + [16, 17, 127, 128, 258][random.below(5)], random),
        _ => near([16, 17, 128, 262, 258, 4096][random.below(6)], random),
    }
}

/// One write, or several: of a size, at any place, or ending shortly before a multiple of 32 KiB.
fn writes(length: usize, random: &mut Random) -> Vec<usize> {
    let mut writes = Vec::new();
    let kind = random.below(4);
    let most = [300, 70_000][random.below(2)];
    let size = 1 + random.below(most);
    let mut at = 0;
    while at < length {
        let next = match kind {
            0 => length,
            1 => at + size,
            2 => at + 1 + random.below(50_000),
            _ => (at + 400).next_multiple_of(32768) - random.below(300),
        };
        let next = next.clamp(at + 1, length);
        writes.push(next - at);
        at = next;
    }
    writes
}

fn runs(bytes: &mut Vec<u8>, end: usize, random: &mut Random) {
    let most = [3, 20, 300, 3000, 100_000][random.below(5)];
    let symbols = 1 + random.below(256);
    while bytes.len() < end {
        let byte = random.below(symbols) as u8;
        bytes.resize(bytes.len() + 1 + random.below(most), byte);
    }
}

/// Each symbol about as often as all rarer ones together, which makes the longest codes.
fn skewed(bytes: &mut Vec<u8>, end: usize, random: &mut Random) {
    let symbols = 2 + random.below(40);
    let rare = 2 + random.below(3);
    while bytes.len() < end {
        let level = (0..symbols).find(|_| random.below(rare) > 0).unwrap_or(symbols);
        bytes.push((level * 7 + random.below(1 + level / 8)) as u8);
    }
}

fn text(bytes: &mut Vec<u8>, end: usize, random: &mut Random) {
    let words = 2 + random.below(3000);
    while bytes.len() < end {
        let most = 1 + random.below(words);
        let mut word = Random::new(random.below(most) as u64);
        bytes.extend((0..1 + word.below(10)).map(|_| b'a' + word.below(26) as u8));
        bytes.push(if random.below(12) == 0 { b'\n' } else { b' ' });
    }
}

/// Literals and copies from before, near or far, up to the greatest distance and just past it.
fn copies(bytes: &mut Vec<u8>, end: usize, kind: usize, random: &mut Random) {
    let symbols = 1 + random.below(256);
    let longest = [5, 12, 40, 300, 1000][random.below(5)];
    let literals = [1, 3, 30][random.below(3)];
    while bytes.len() < end {
        for _ in 0..random.below(literals + 1) {
            bytes.push(random.below(symbols) as u8);
        }
        let distance = match kind {
            7 => 1 + random.below(40_000),
            8 => [32768, 32769, 32767, 4096, 4097, 32506, 32507][random.below(7)],
            _ => {
                let most = 2 << random.below(15);
                1 + random.below(most)
            }
        };
        if distance > bytes.len() {
            bytes.push(random.byte());
            continue;
        }
        for _ in 0..3 + random.below(longest - 2) {
            bytes.push(bytes[bytes.len() - distance]);
        }
    }
}
