//! Extension headers, which describe the next entry.

use std::collections::HashMap;

use super::header::{Block, Format, Header, format};
use super::sparse::{Map, Region};

/// Pending records and names. A later header replaces an earlier one of its kind.
#[derive(Default)]
pub(super) struct Records {
    pax: HashMap<Vec<u8>, Vec<u8>>,
    long_name: Vec<u8>,
}

impl Records {
    /// Adds the data of an extension header.
    pub fn take(&mut self, kind: u8, data: &[u8]) -> Result<(), &'static str> {
        match kind {
            b'x' => self.pax = parse(data)?,
            // An entry of its own: pending records are dropped.
            b'g' => {
                parse(data)?;
                *self = Records::default();
            }
            b'L' => self.long_name = data.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
            _ => {}
        }
        Ok(())
    }

    /// Applies the pending records to an entry.
    pub fn merge(&self, header: &mut Header) -> Result<(), &'static str> {
        for (key, value) in self.pax.iter().filter(|(_, value)| !value.is_empty()) {
            match key.as_slice() {
                b"path" => header.is_slashed = value.ends_with(b"/"),
                b"size" => header.size = integer(value).ok_or("PAX size is not a number")?,
                b"uid" => drop(integer(value).ok_or("PAX uid is not a number")?),
                b"gid" => drop(integer(value).ok_or("PAX gid is not a number")?),
                b"mtime" => time(value).ok_or("PAX mtime is not a time")?,
                b"atime" => time(value).ok_or("PAX atime is not a time")?,
                b"ctime" => time(value).ok_or("PAX ctime is not a time")?,
                _ => {}
            }
        }
        if !self.long_name.is_empty() {
            header.is_slashed = self.long_name.ends_with(b"/");
        }
        Ok(())
    }

    /// The data ranges of a sparse entry; `None` if the entry is not sparse.
    pub fn sparse(&self, header: &Header, block: &Block) -> Result<Option<Region>, &'static str> {
        if header.kind == b'S' {
            return match format(block) {
                Format::Gnu => Map::old(block).map(Some),
                _ => Err("a sparse entry that is not GNU's"),
            };
        }
        let get = |key: &str| -> &[u8] {
            let key = format!("GNU.sparse.{key}");
            self.pax
                .get(key.as_bytes())
                .map(Vec::as_slice)
                .unwrap_or_default()
        };
        let is_in_data = match (get("major"), get("minor")) {
            (b"0", b"0" | b"1") => false,
            (b"1", b"0") => true,
            (b"", b"") if !get("map").is_empty() => false,
            _ => return Ok(None),
        };
        let sizes = [get("size"), get("realsize")];
        let size = match sizes.into_iter().find(|size| !size.is_empty()) {
            None => header.size,
            Some(size) => integer(size).ok_or("the size of a sparse file is not a number")?,
        };
        match is_in_data {
            true => Ok(Some(Region::InData(Map::in_data(size)))),
            false => Map::listed(size, get("numblocks"), get("map")).map(|map| Some(Region::Known(map))),
        }
    }
}

/// Parses PAX records: `length key=value\n`. The last of equal keys wins.
fn parse(mut data: &[u8]) -> Result<HashMap<Vec<u8>, Vec<u8>>, &'static str> {
    const WRONG: &str = "a malformed PAX record";
    let mut records = HashMap::new();
    // The oldest form of sparse maps has a record for each number.
    let mut map: Vec<Vec<u8>> = Vec::new();
    while !data.is_empty() {
        let space = data.iter().position(|byte| *byte == b' ').ok_or(WRONG)?;
        let length = integer(data.get(..space).unwrap_or_default())
            .filter(|length| *length >= 5)
            .and_then(|length| usize::try_from(length).ok())
            .ok_or(WRONG)?;
        let record = data.get(space + 1..length).ok_or(WRONG)?;
        let record = record.strip_suffix(b"\n").ok_or(WRONG)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(WRONG)?;
        let (key, value) = record.split_at(equals);
        let value = value.get(1..).unwrap_or_default();
        let checked = match key {
            b"path" | b"linkpath" | b"uname" | b"gname" => value,
            key => key,
        };
        if key.is_empty() || checked.contains(&0) {
            return Err(WRONG);
        }
        match key {
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                let is_offset = map.len().is_multiple_of(2);
                if is_offset != (key == b"GNU.sparse.offset") || value.contains(&b',') {
                    return Err("a malformed map of a sparse file");
                }
                map.push(value.to_vec());
            }
            _ => drop(records.insert(key.to_vec(), value.to_vec())),
        }
        data = data.get(length..).unwrap_or_default();
    }
    if !map.is_empty() {
        records.insert(b"GNU.sparse.map".to_vec(), map.join(&b','));
    }
    Ok(records)
}

/// A decimal number, with or without a sign.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn time(text: &[u8]) -> Option<()> {
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    integer(parts.next()?)?;
    let fraction = parts.next().unwrap_or_default();
    fraction.iter().all(u8::is_ascii_digit).then_some(())
}
