//! Checks that an uncompressed layer is a tar that engines can unpack.
//!
//! Docker, containerd and podman unpack layers with Go's `archive/tar` or a copy of it. If that reader fails on
//! a layer, no engine loads it, even if its digests are right. This code follows the reader step by step and
//! refuses exactly what it refuses: a missing end and data after the end are fine. Nothing else about a layer's
//! content is checked. The bytes arrive as they are hashed, in pieces of any length.
//!
//! Source: Go, `archive/tar/reader.go` and `strconv.go`, as of Go 1.24, with the limit on sparse maps of later
//! versions.
//!
//! - [`header`]: one header block; [`records`]: PAX records and long names, which describe the next entry
//! - [`sparse`]: the maps of sparse files, whose data must have the exact size

mod header;
mod records;
mod sparse;

use crate::blob::decompress::compression_of;
use crate::error::Problem;
use crate::oci::Compression;
pub(crate) use header::base_256;
use header::{Block, Header};
use records::Records;
use sparse::{Map, Region};

/// Longest extension header and longest map of a sparse file, in bytes.
const MAX_EXTENSION: u64 = 1 << 20;
const BLOCK: u64 = 512;

/// Checks a layer's uncompressed bytes.
pub(crate) struct LayerTar {
    state: State,
    /// Bytes of an incomplete block or extension header.
    held: Vec<u8>,
    records: Records,
    /// The first bytes of the layer.
    start: Vec<u8>,
    wrong: Option<&'static str>,
}

/// What is expected next.
enum State {
    /// A header, or the end.
    Header,
    /// The block after a block of zeros.
    SecondZeros,
    /// The data of an extension header of this type, and its padding.
    Extension { kind: u8, left: u64, padding: u64 },
    /// A further block of an old sparse map.
    OldMap { map: Map, left: u64 },
    /// A block of the map at the start of a sparse file's data.
    NewMap { map: Map, left: u64, padding: u64 },
    /// Data and the padding after it, where the tar may also end.
    Data { left: u64, padding: u64 },
    /// Everything relevant was read.
    Done,
}

impl LayerTar {
    pub fn new() -> LayerTar {
        LayerTar {
            state: State::Header,
            held: Vec::new(),
            records: Records::default(),
            start: Vec::new(),
            wrong: None,
        }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        if self.start.len() < 4 {
            self.start.extend(bytes.iter().take(4 - self.start.len()));
        }
        while !bytes.is_empty() && self.wrong.is_none() && !matches!(self.state, State::Done) {
            match self.step(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(wrong) => self.wrong = Some(wrong),
            }
        }
    }

    /// Returns whether it was a tar. `stored` is the compression of the layer.
    ///
    /// # Errors
    ///
    /// Why engines cannot unpack it.
    pub fn finish(self, stored: Compression) -> Result<(), Problem> {
        let looks = compression_of(&self.start);
        // Docker also recognises these by their first bytes. The name of an entry may begin with them.
        let other = match self.start.as_slice() {
            [b'B', b'Z', b'h', ..] => Some("bzip2"),
            [0xfd, b'7', b'z', b'X', ..] => Some("xz"),
            _ => None,
        };
        let end = match (&self.state, self.held.is_empty()) {
            (State::Header | State::SecondZeros, true) | (State::Done | State::Data { left: 0, .. }, _) => {
                Ok(())
            }
            _ => Err("it is truncated"),
        };
        let reason = match self.wrong.map_or(end, Err) {
            Err(_) if looks != Compression::None && stored != Compression::None => {
                format!("its content is compressed again, with {looks}")
            }
            // Docker and podman decompress this, containerd does not.
            _ if looks != Compression::None && stored == Compression::None => {
                format!("it is declared uncompressed, but begins like {looks}")
            }
            outcome => match (other, outcome) {
                (Some(other), _) if stored == Compression::None => {
                    format!("it is declared uncompressed, but begins like {other}")
                }
                (_, Err(wrong)) => wrong.to_string(),
                (_, Ok(())) => return Ok(()),
            },
        };
        Err(Problem::Layer { reason })
    }

    /// Reads some of the bytes, and returns how many.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        if let State::Data { left, padding } = &mut self.state {
            let count = pass(left, bytes.len());
            let count = count + pass(padding, bytes.len() - count);
            if (*left, *padding) == (0, 0) {
                self.state = State::Header;
            }
            return Ok(count);
        }
        let wanted = match &self.state {
            State::Extension { left, .. } => *left,
            _ => BLOCK,
        };
        let missing = usize::try_from(wanted).unwrap_or(usize::MAX) - self.held.len();
        let piece = bytes.get(..missing.min(bytes.len())).unwrap_or_default();
        self.held.extend(piece);
        if piece.len() == missing {
            let held = std::mem::take(&mut self.held);
            self.take(&held)?;
        }
        Ok(piece.len())
    }

    /// Reads a complete block or extension header.
    fn take(&mut self, held: &[u8]) -> Result<(), &'static str> {
        let state = std::mem::replace(&mut self.state, State::Header);
        let block = || held.first_chunk::<512>().ok_or("a block is missing");
        self.state = match state {
            State::Header if held.iter().all(|byte| *byte == 0) => State::SecondZeros,
            State::Header => self.header(block()?)?,
            State::SecondZeros if held.iter().all(|byte| *byte == 0) => State::Done,
            State::SecondZeros => return Err("a block of zeros, and then another"),
            State::Extension { kind, padding, .. } => {
                self.records.take(kind, held)?;
                data(0, padding)
            }
            State::OldMap { mut map, left } => match map.old_block(block()?)? {
                true => State::OldMap { map, left },
                false => map_ends(map, left, left)?,
            },
            State::NewMap {
                mut map,
                left,
                padding,
            } => {
                let left = left
                    .checked_sub(BLOCK)
                    .ok_or("a truncated map of a sparse file")?;
                match map.new_block(held)? {
                    true => new_map(map, left, padding)?,
                    false => {
                        map.check(left)?;
                        data(left, padding)
                    }
                }
            }
            other @ (State::Data { .. } | State::Done) => other,
        };
        Ok(())
    }

    /// Reads a header.
    fn header(&mut self, block: &Block) -> Result<State, &'static str> {
        let mut header = Header::parse(block)?;
        let kind = header.kind;
        if matches!(kind, b'x' | b'g' | b'L' | b'K') {
            let size = size(&header)?;
            if size > MAX_EXTENSION {
                return Err("an extension header of more than 1 MiB");
            }
            if size == 0 {
                self.records.take(kind, &[])?;
                return Ok(State::Header);
            }
            return Ok(State::Extension {
                kind,
                left: size,
                padding: padding(size),
            });
        }
        // The header's own size must be valid, even if a record replaces it.
        if header.size < 0 && !header.is_bare() {
            return Err("a negative size");
        }
        let records = std::mem::take(&mut self.records);
        records.merge(&mut header)?;
        let stored = size(&header)?;
        let Some(region) = records.sparse(&header, block)? else {
            return Ok(data(stored, padding(stored)));
        };
        if header.has_no_data() {
            return Err("a sparse entry of a kind that has no data");
        }
        match region {
            Region::Known(map) => {
                map.check(stored)?;
                Ok(data(stored, padding(stored)))
            }
            Region::GoesOn(map) => Ok(State::OldMap { map, left: stored }),
            Region::InData(map) => new_map(map, stored, padding(stored)),
        }
    }
}

/// Skips bytes that do not matter. Returns how many.
fn pass(left: &mut u64, available: usize) -> usize {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
    *left -= u64::try_from(count).unwrap_or_default();
    count
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}

fn data(left: u64, padding: u64) -> State {
    match (left, padding) {
        (0, 0) => State::Header,
        (left, padding) => State::Data { left, padding },
    }
}

/// The end of an old map: its blocks do not count as data.
fn map_ends(map: Map, left: u64, size: u64) -> Result<State, &'static str> {
    map.check(left)?;
    Ok(data(left, padding(size)))
}

/// A map at the start of the data, of which another block must follow.
fn new_map(map: Map, left: u64, padding: u64) -> Result<State, &'static str> {
    match left {
        0..BLOCK => Err("a truncated map of a sparse file"),
        _ => Ok(State::NewMap { map, left, padding }),
    }
}

/// Bytes of data after a header.
fn size(header: &Header) -> Result<u64, &'static str> {
    if header.has_no_data() {
        return Ok(0);
    }
    u64::try_from(header.size).map_err(|_| "a negative size")
}
