//! Maps of sparse files: where they have data. There are three forms, all of GNU tar.

use super::MAX_EXTENSION;
use super::header::{Block, number};
use super::records::integer;

/// What a sparse file has data for. Only what is left to check is kept: a map may be as long as the layer.
pub(super) struct Map {
    /// Bytes of the file with its holes.
    size: i64,
    /// Where the last stretch of data ends.
    end: i64,
    /// Bytes of data in all.
    data: i64,
    text: Text,
}

/// What was read of a map in the data.
#[derive(Default)]
struct Text {
    /// Bytes of it.
    length: u64,
    /// The line that is not whole yet.
    line: Vec<u8>,
    /// Numbers that are still to come, once the first line has said how many there are.
    left: Option<u64>,
    /// The offset that waits for its length.
    offset: Option<i64>,
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
            self.add(number(offset).ok_or(WRONG)?, number(length).ok_or(WRONG)?)?;
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
        for pair in numbers.chunks_exact(2) {
            if let [offset, length] = pair {
                map.add(integer(offset).ok_or(WRONG)?, integer(length).ok_or(WRONG)?)?;
            }
        }
        Ok(map)
    }

    /// A map that is to be read out of the data.
    pub fn in_data(size: i64) -> Map {
        Map {
            size,
            end: 0,
            data: 0,
            text: Text::default(),
        }
    }

    /// Takes a block of such a map: numbers in lines, the first of which says how many pairs there are. Whether
    /// another block follows.
    pub fn new_block(&mut self, block: &[u8]) -> Result<bool, &'static str> {
        self.text.length += u64::try_from(block.len()).unwrap_or_default();
        if self.text.length > MAX_EXTENSION {
            return Err("a map of a sparse file of more than 1 MiB");
        }
        for byte in block {
            if *byte != b'\n' {
                self.text.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.text.line);
            if self.number(integer(&line).ok_or(WRONG)?)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes the number of a line. Whether it is the last.
    fn number(&mut self, number: i64) -> Result<bool, &'static str> {
        let left = match self.text.left {
            None => u64::try_from(number)
                .ok()
                .and_then(|pairs| pairs.checked_mul(2))
                .ok_or(WRONG)?,
            Some(left) => {
                match self.text.offset.take() {
                    None => self.text.offset = Some(number),
                    Some(offset) => self.add(offset, number)?,
                }
                left - 1
            }
        };
        self.text.left = Some(left);
        Ok(left == 0)
    }

    /// Takes a stretch of data, which must lie behind the one before.
    fn add(&mut self, offset: i64, length: i64) -> Result<(), &'static str> {
        if offset < self.end || length < 0 {
            return Err(WRONG);
        }
        self.end = offset
            .checked_add(length)
            .filter(|end| *end <= self.size)
            .ok_or(WRONG)?;
        self.data = self.data.checked_add(length).ok_or(WRONG)?;
        Ok(())
    }

    /// Checks that there is as much data as it says.
    pub fn check(&self, stored: u64) -> Result<(), &'static str> {
        if self.size < 0 {
            return Err("a negative size");
        }
        match u64::try_from(self.data) == Ok(stored) {
            true => Ok(()),
            false => Err("a sparse file with more or less data than its map says"),
        }
    }
}
