//! Maps of sparse files: where they have data. There are three forms, all of GNU tar.

use super::MAX_EXTENSION;
use super::header::{Block, number};
use super::records::integer;

/// What a sparse file has data for.
pub(super) struct Map {
    /// Bytes of the file with its holes.
    size: i64,
    /// Offsets and lengths of data.
    data: Vec<(i64, i64)>,
    /// Of a map in the data: what was read of it, and how many lines that is.
    text: Vec<u8>,
    lines: usize,
}

/// Where a map is.
pub(super) enum Region {
    /// It is whole.
    Known(Map),
    /// Further blocks of it follow.
    GoesOn(Map),
    /// It stands at the beginning of the data.
    InData(Map),
}

const WRONG: &str = "a malformed map of a sparse file";

impl Map {
    /// A map that begins in the header itself.
    pub fn old(block: &Block) -> Result<Region, &'static str> {
        let field = |range: std::ops::Range<usize>| block.get(range).unwrap_or_default();
        let mut map = Map::in_data(number(field(483..495)).ok_or(WRONG)?);
        match map.entries(field(386..483))? {
            true => Ok(Region::GoesOn(map)),
            false => Ok(Region::Known(map)),
        }
    }

    /// Takes a further block of such a map. Whether another follows.
    pub fn old_block(&mut self, block: &Block) -> Result<bool, &'static str> {
        self.entries(block)
    }

    /// Takes as many entries as a field has room for; the byte behind them says whether more follow.
    fn entries(&mut self, field: &[u8]) -> Result<bool, &'static str> {
        let room = field.len() / 24;
        for entry in field.chunks_exact(24) {
            let (offset, length) = entry.split_at(12);
            if offset.first() == Some(&0) {
                break;
            }
            self.data
                .push((number(offset).ok_or(WRONG)?, number(length).ok_or(WRONG)?));
        }
        Ok(field.get(24 * room).is_some_and(|byte| *byte != 0))
    }

    /// A map in PAX records.
    pub fn listed(size: i64, count: &[u8], list: &[u8]) -> Result<Map, &'static str> {
        let numbers: Vec<&[u8]> = match list {
            b"" => Vec::new(),
            list => list.split(|byte| *byte == b',').collect(),
        };
        let count = integer(count)
            .and_then(|count| usize::try_from(count).ok())
            .ok_or(WRONG)?;
        if Some(numbers.len()) != count.checked_mul(2) {
            return Err(WRONG);
        }
        let mut map = Map::in_data(size);
        map.numbers(&numbers)?;
        Ok(map)
    }

    /// A map that is to be read out of the data.
    pub fn in_data(size: i64) -> Map {
        Map {
            size,
            data: Vec::new(),
            text: Vec::new(),
            lines: 0,
        }
    }

    /// Takes a block of such a map: numbers in lines, the first of which says how many pairs there are. Whether
    /// another block follows.
    pub fn new_block(&mut self, block: &[u8]) -> Result<bool, &'static str> {
        self.text.extend(block);
        if self.text.len() > usize::try_from(MAX_EXTENSION).unwrap_or(usize::MAX) {
            return Err("a map of a sparse file of more than 1 MiB");
        }
        self.lines += block.iter().filter(|byte| **byte == b'\n').count();
        if self.lines == 0 {
            return Ok(true);
        }
        let mut lines = self.text.split(|byte| *byte == b'\n');
        let pairs = integer(lines.next().unwrap_or_default()).and_then(|pairs| usize::try_from(pairs).ok());
        let count = pairs.and_then(|pairs| pairs.checked_mul(2)).ok_or(WRONG)?;
        if self.lines - 1 < count {
            return Ok(true);
        }
        let numbers: Vec<Vec<u8>> = lines.take(count).map(<[u8]>::to_vec).collect();
        self.numbers(&numbers)?;
        Ok(false)
    }

    fn numbers(&mut self, numbers: &[impl AsRef<[u8]>]) -> Result<(), &'static str> {
        let mut numbers = numbers.iter().map(|number| integer(number.as_ref()).ok_or(WRONG));
        while let (Some(offset), Some(length)) = (numbers.next(), numbers.next()) {
            self.data.push((offset?, length?));
        }
        Ok(())
    }

    /// Checks that it makes sense, and that there is as much data as it says.
    pub fn check(&self, stored: u64) -> Result<(), &'static str> {
        if self.size < 0 {
            return Err("a negative size");
        }
        let (mut end, mut all) = (0, 0_i64);
        for (offset, length) in &self.data {
            if *offset < end || *length < 0 {
                return Err(WRONG);
            }
            end = offset
                .checked_add(*length)
                .filter(|end| *end <= self.size)
                .ok_or(WRONG)?;
            all = all.checked_add(*length).ok_or(WRONG)?;
        }
        match u64::try_from(all) == Ok(stored) {
            true => Ok(()),
            false => Err("a sparse file with more or less data than its map says"),
        }
    }
}
