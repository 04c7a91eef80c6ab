//! Where one Write of a tar to Go's encoder ended and another began, as far as that can show in its output.
//!
//! Who assembles a layer's tar writes headers, contents and padding each on its own. At levels 2 to 9 a Write can
//! show that ends within the last 258 bytes before a multiple of 32 KiB, and from 65,278 bytes on: Go's window
//! then slides early. Ends at multiples of 512 are none of these, so that in a tar only those before a padding
//! are left.

use tar::{EntryType, Header, PaxExtensions};

use super::encoders::Writes;

const BLOCK: usize = 512;
/// Where Go's window can slide for the first time, in bytes from the start.
const FIRST: u64 = 65_278;
/// How far Go's window slides.
const SLIDE: u64 = 32 << 10;
/// How much of it must lie behind an end that shows.
const LATE: u64 = FIRST % SLIDE;
/// The longest extended header that is looked into, in bytes; Go takes no longer ones.
const LONGEST_HEADER: u64 = 1 << 20;

/// Follows a tar, and gathers where Writes ended.
#[derive(Debug)]
pub(super) struct Boundaries {
    /// Bytes of the tar so far.
    at: u64,
    state: State,
    /// The size that an extended header gave for the next entry.
    size: Option<u64>,
    found: Vec<(u64, Of)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Content,
    ExtendedHeader,
}

#[derive(Debug)]
enum State {
    Header(Vec<u8>),
    /// Data of which so much is left; `pax` gathers it if it may name the next entry's size.
    Data {
        left: u64,
        of: Of,
        pax: Option<Vec<u8>>,
    },
    /// Padding of which so much is left.
    Padding(u64),
    /// This is no tar: there are no ends in it.
    Lost,
}

impl Boundaries {
    pub(super) fn new() -> Boundaries {
        Boundaries {
            at: 0,
            state: State::Header(Vec::with_capacity(BLOCK)),
            size: None,
            found: Vec::new(),
        }
    }

    /// Takes the next bytes of the tar.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = match &mut self.state {
                State::Lost => return,
                State::Padding(left) | State::Data { left, .. } => clamp(*left, bytes.len()),
                State::Header(header) => (BLOCK - header.len()).min(bytes.len()),
            };
            let (taken, rest) = bytes.split_at(count);
            bytes = rest;
            let length = u64::try_from(count).unwrap_or(u64::MAX);
            self.at = self.at.saturating_add(length);
            self.step(taken, length);
        }
    }

    /// The ends that show, by how it was written, in order.
    pub(super) fn ends(&self, writes: Writes) -> Vec<u64> {
        let counts = |of: Of| match writes {
            Writes::Whole => false,
            Writes::Contents => of == Of::Content,
            Writes::ContentsAndHeaders => true,
        };
        self.found
            .iter()
            .filter_map(|(at, of)| counts(*of).then_some(*at))
            .collect()
    }

    /// The ends that show behind `start` bytes and up to `end`.
    pub(super) fn ends_within(&self, start: u64, end: u64, writes: Writes) -> Vec<u64> {
        let mut ends = self.ends(writes);
        ends.retain(|at| (start + 1..=end).contains(at));
        ends
    }

    fn step(&mut self, taken: &[u8], length: u64) {
        match &mut self.state {
            State::Lost => {}
            State::Padding(left) => {
                *left -= length;
                if *left == 0 {
                    self.state = State::Header(Vec::with_capacity(BLOCK));
                }
            }
            State::Data { left, pax, .. } => {
                *left -= length;
                if let Some(pax) = pax {
                    pax.extend_from_slice(taken);
                }
                if *left == 0 {
                    self.end_data();
                }
            }
            State::Header(header) => {
                header.extend_from_slice(taken);
                if header.len() == BLOCK {
                    let header = std::mem::take(header);
                    self.state = self.after(&header);
                }
            }
        }
    }

    fn end_data(&mut self) {
        let State::Data { of, pax, .. } = std::mem::replace(&mut self.state, State::Lost) else {
            return;
        };
        if let Some(pax) = pax {
            self.size = size_in(&pax);
        }
        if self.at >= FIRST && self.at % SLIDE >= LATE {
            self.found.push((self.at, of));
        }
        let block = BLOCK as u64;
        self.state = match self.at % block {
            0 => State::Header(Vec::with_capacity(BLOCK)),
            used => State::Padding(block - used),
        };
    }

    /// What follows a header.
    fn after(&mut self, block: &[u8]) -> State {
        let next = || State::Header(Vec::with_capacity(BLOCK));
        if block.iter().all(|byte| *byte == 0) {
            return next();
        }
        let header = Header::from_byte_slice(block);
        let Ok(size) = header.entry_size() else {
            return State::Lost;
        };
        let kind = header.entry_type();
        let extended = kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions()
            || kind.is_gnu_longname()
            || kind.is_gnu_longlink();
        let (left, of) = if extended {
            (size, Of::ExtendedHeader)
        } else {
            (self.size.take().unwrap_or(size), Of::Content)
        };
        if extended && size > LONGEST_HEADER {
            return State::Lost;
        }
        if left == 0 || has_no_data(kind) {
            return next();
        }
        let pax = kind.is_pax_local_extensions().then(Vec::new);
        State::Data { left, of, pax }
    }
}

/// Whether an entry has no data whatever its size says, as Go's reader has it.
fn has_no_data(kind: EntryType) -> bool {
    kind.is_hard_link()
        || kind.is_symlink()
        || kind.is_character_special()
        || kind.is_block_special()
        || kind.is_dir()
        || kind.is_fifo()
}

/// The size that an extended header's data give, if they do.
fn size_in(pax: &[u8]) -> Option<u64> {
    PaxExtensions::new(pax)
        .flatten()
        .filter(|record| record.key_bytes() == b"size")
        .last()
        .and_then(|record| record.value().ok()?.parse().ok())
}

fn clamp(left: u64, length: usize) -> usize {
    usize::try_from(left).map_or(length, |left| left.min(length))
}
