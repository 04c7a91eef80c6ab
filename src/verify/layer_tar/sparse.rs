//! Maps of sparse files: which ranges have data. There are three forms, all of GNU tar.

use super::MAX_EXTENSION;
use super::header::{Block, number};
use super::records::integer;

/// The data ranges of a sparse file. Only what is needed for the checks is kept, because a map may be as long
/// as the layer.
pub(super) struct Map {
    /// Size of the file, including its holes.
    size: i64,
    /// End of the last range.
    end: i64,
    /// Bytes of data in total.
    data: i64,
    text: Text,
}

/// State of reading a map from the data.
#[derive(Default)]
struct Text {
    /// Bytes read so far.
    length: u64,
    /// The incomplete line.
    line: Vec<u8>,
    /// Numbers still to come, once the first line was read.
    left: Option<u64>,
    /// The offset of an incomplete pair.
    offset: Option<i64>,
}

/// The location of a map.
pub(super) enum Region {
    /// It is complete.
    Known(Map),
    /// Further blocks follow.
    GoesOn(Map),
    /// It is at the start of the data.
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

    /// Adds a block of such a map. Returns whether another follows.
    pub fn old_block(&mut self, block: &Block) -> Result<bool, &'static str> {
        self.entries(block)
    }

    /// Adds as many entries as the field has room for; the byte after them says whether more follow.
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

    /// A map to be read from the data.
    pub fn in_data(size: i64) -> Map {
        Map {
            size,
            end: 0,
            data: 0,
            text: Text::default(),
        }
    }

    /// Adds a block of such a map: lines with numbers, the first of which is the number of pairs. Returns
    /// whether another block follows.
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

    /// Adds the number of a line. Returns whether it is the last.
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

    /// Adds a range, which must be after the previous one.
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

    /// Checks that there is as much data as the map says.
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
