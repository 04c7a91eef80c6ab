//! Inputs from descriptions: testdata/goflate/vectors.json says what each operation does.

use serde::Deserialize;

/// A 64-bit xorshift.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn byte(&mut self) -> u8 {
        (self.next() >> 56) as u8
    }

    pub fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 33) % n as u64) as usize
    }

    fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut left = self.below(weights.iter().sum());
        weights
            .iter()
            .position(|weight| left.checked_sub(*weight).map(|less| left = less).is_none())
            .unwrap()
    }
}

/// One part of an input.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Op {
    Hex {
        data: String,
    },
    Cycle {
        data: String,
        len: usize,
    },
    Count {
        len: usize,
    },
    Rng {
        len: usize,
        seed: u64,
    },
    Alpha {
        data: String,
        len: usize,
        seed: u64,
    },
    Words {
        len: usize,
        seed: u64,
    },
    Copy {
        len: usize,
        dist: usize,
    },
    Mix {
        len: usize,
        seed: u64,
        alpha: usize,
        maxrun: usize,
        maxcopy: usize,
        maxdist: usize,
    },
    Skew {
        len: usize,
        seed: u64,
        weights: Vec<usize>,
    },
    Dists {
        #[serde(default)]
        n: usize,
        seed: u64,
        copylen: usize,
        weights: Option<Vec<usize>>,
        counts: Option<Vec<usize>>,
    },
    Lens {
        n: usize,
        seed: u64,
        maxdist: usize,
        weights: Vec<usize>,
    },
    Tar {
        n: usize,
        seed: u64,
        maxsize: usize,
    },
}

/// What the operations refer to.
#[derive(Deserialize)]
pub struct Tables {
    pub lenbase: Vec<usize>,
    pub lenextra: Vec<u32>,
    pub distbase: Vec<usize>,
    pub distextra: Vec<u32>,
}

/// Words and tables, and the input so far.
pub struct Cook<'a> {
    pub words: &'a [String],
    pub tables: &'a Tables,
    pub input: Vec<u8>,
}

impl Cook<'_> {
    /// Appends what an operation makes.
    pub fn add(&mut self, op: &Op) {
        match op {
            Op::Hex { data } => self.input.extend(hex(data)),
            Op::Cycle { data, len } => self.input.extend(hex(data).iter().cycle().take(*len)),
            Op::Count { len } => self.input.extend((0..*len).map(|i| i as u8)),
            Op::Rng { len, seed } => self.random(*len, &mut Random::new(*seed)),
            Op::Alpha { data, len, seed } => {
                let (data, mut random) = (hex(data), Random::new(*seed));
                self.input
                    .extend((0..*len).map(|_| data[random.below(data.len())]));
            }
            Op::Words { len, seed } => self.words(*len, &mut Random::new(*seed)),
            Op::Copy { len, dist } => self.copy(*len, *dist),
            Op::Mix { .. } => self.mix(op),
            Op::Skew { len, seed, weights } => {
                let mut random = Random::new(*seed);
                self.input
                    .extend((0..*len).map(|_| random.weighted(weights) as u8));
            }
            Op::Dists {
                n,
                seed,
                copylen,
                weights,
                counts,
            } => {
                self.distances(
                    *n,
                    &mut Random::new(*seed),
                    *copylen,
                    weights.as_deref(),
                    counts.as_deref(),
                );
            }
            Op::Lens {
                n,
                seed,
                maxdist,
                weights,
            } => {
                self.lengths(*n, &mut Random::new(*seed), *maxdist, weights);
            }
            Op::Tar { n, seed, maxsize } => self.tar(*n, &mut Random::new(*seed), *maxsize),
        }
    }

    fn random(&mut self, len: usize, random: &mut Random) {
        self.input.extend((0..len).map(|_| random.byte()));
    }

    fn words(&mut self, len: usize, random: &mut Random) {
        let end = self.input.len() + len;
        while self.input.len() < end {
            let word = &self.words[random.below(self.words.len())];
            self.input.extend(word.bytes());
            self.input.push(if random.below(12) == 0 { b'\n' } else { b' ' });
        }
        self.input.truncate(end);
    }

    fn copy(&mut self, len: usize, distance: usize) {
        for _ in 0..len {
            self.input.push(self.input[self.input.len() - distance]);
        }
    }

    fn mix(&mut self, op: &Op) {
        let Op::Mix {
            len,
            seed,
            alpha,
            maxrun,
            maxcopy,
            maxdist,
        } = op
        else {
            unreachable!()
        };
        let mut random = Random::new(*seed);
        let end = self.input.len() + len;
        while self.input.len() < end {
            if random.below(3) == 0 || self.input.is_empty() {
                let n = 1 + random.below(*maxrun);
                self.input.extend((0..n).map(|_| random.below(*alpha) as u8));
            } else {
                let n = 3 + random.below(maxcopy - 2);
                let distance = 1 + random.below(self.input.len().min(*maxdist));
                self.copy(n, distance);
            }
        }
        self.input.truncate(end);
    }

    fn distances(
        &mut self,
        n: usize,
        random: &mut Random,
        len: usize,
        weights: Option<&[usize]>,
        counts: Option<&[usize]>,
    ) {
        let mut codes: Vec<usize> = Vec::new();
        for (code, count) in counts.into_iter().flatten().enumerate() {
            codes.extend(std::iter::repeat_n(code, *count));
        }
        for i in (1..codes.len()).rev() {
            codes.swap(i, random.below(i + 1));
        }
        let count = counts.map_or(n, |_| codes.len());
        let mut codes = codes.into_iter();
        for _ in 0..count {
            let code = codes.next().unwrap_or_else(|| random.weighted(weights.unwrap()));
            let more = random.below(1 << self.tables.distextra[code]);
            self.copy(len, self.tables.distbase[code] + more);
            self.input.push(random.byte());
        }
    }

    fn lengths(&mut self, n: usize, random: &mut Random, maxdist: usize, weights: &[usize]) {
        for _ in 0..n {
            let code = random.weighted(weights);
            let len = self.tables.lenbase[code] + random.below(1 << self.tables.lenextra[code]);
            let distance = 1 + random.below(self.input.len().min(maxdist));
            self.copy(len, distance);
            self.input.push(random.byte());
        }
    }

    fn tar(&mut self, n: usize, random: &mut Random, maxsize: usize) {
        for file in 0..n {
            let size = random.below(maxsize);
            self.input.extend(tar_header(file, size));
            match random.below(5) {
                0 | 1 => self.words(size, random),
                2 => self.random(size, random),
                3 => self.input.extend((0..size).map(|_| random.below(16) as u8)),
                _ => self.input.resize(self.input.len() + size, 0),
            }
            self.input.resize(self.input.len().next_multiple_of(512), 0);
        }
        self.input
            .resize((self.input.len() + 1024).next_multiple_of(10240), 0);
    }
}

fn tar_header(file: usize, size: usize) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, &format!("usr/share/doc/pkg{:04}/file{file:04}.txt", file / 7));
    put(100, "0000644\x000000000\x000000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, &format!("{:011o}\0", 1_700_000_000 + 13 * file));
    put(148, "        0");
    put(257, "ustar\x0000root");
    put(297, "root");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}
