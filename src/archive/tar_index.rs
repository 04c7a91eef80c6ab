//! Where everything stands in a tar, found by reading headers only. Strict: whatever two readers could
//! understand differently is refused, as the digests that are shown afterwards are worth nothing if another
//! reader sees other content.
//!
//! What is wrong but leaves no doubt about where the next entry begins is a finding; everything else ends
//! the reading. Sources: POSIX.1-2017, `pax`, "ustar Interchange Format" and "pax Header Block"; GNU tar
//! manual, "Basic Tar Format".

use std::collections::{HashMap, HashSet};

use tar::{EntryType, Header};

use super::content::Stored;
use super::layout::BLOCK;
use super::segments::Segments;
use crate::error::{Error, Finding, Place, Problem, Result};

/// Longest extension header that is read, in bytes; real ones have some hundred.
const MAX_EXTENSION: u64 = 1 << 20;
/// Most entries of one archive: their names and places, or what is wrong with them, are held in memory.
const MAX_ENTRIES: usize = 65_536;
/// Most bytes of all names together, for the same reason; a blob's has 77, or 141.
const MAX_NAMES: usize = 16 << 20;

/// The regular files of a tar, by name without a leading `./`, and what is wrong with its entries.
#[derive(Debug, Default)]
pub struct TarIndex {
    /// Names with where their stored bytes are, in the archive's order.
    pub files: Vec<(String, Stored)>,
    /// What is wrong without hiding what follows.
    pub findings: Vec<Finding>,
}

impl TarIndex {
    /// Reads the headers of a tar, to its end.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the offset where the tar cannot be followed further, or has no end;
    /// [`Error::Io`] if it cannot be read.
    pub fn read(segments: &Segments) -> Result<TarIndex> {
        let mut walk = Walk {
            segments,
            offset: 0,
            index: TarIndex::default(),
            seen: HashMap::new(),
            entries: 0,
            names: 0,
            next: Extension::default(),
        };
        while walk.entry()? {}
        Ok(walk.index)
    }
}

/// What extension headers say about the entry that follows them.
#[derive(Default)]
struct Extension {
    pax_path: Option<String>,
    pax_size: Option<u64>,
    /// A PAX header came; two in a row would be understood differently.
    pax: bool,
    long_name: Option<String>,
    long_link: bool,
}

impl Extension {
    fn is_pending(&self) -> bool {
        self.pax || self.long_name.is_some() || self.long_link
    }
}

struct Walk<'a> {
    segments: &'a Segments,
    /// Where the next header begins.
    offset: u64,
    index: TarIndex,
    /// Names taken, and whether by a folder.
    seen: HashMap<String, bool>,
    /// Entries so far, whatever became of them, and bytes of their names.
    entries: usize,
    names: usize,
    next: Extension,
}

fn tar(reason: impl Into<String>) -> Problem {
    Problem::Tar {
        reason: reason.into(),
    }
}

impl Walk<'_> {
    fn place(&self) -> Place {
        Place::default().within(self.segments.label()).at(self.offset)
    }

    fn refuse<T>(&self, problem: Problem) -> Result<T> {
        Err(Error::refused(self.place(), problem))
    }

    fn find(&mut self, name: &str, problem: Problem) {
        let place = self.place().entry(name);
        self.index.findings.push(Finding { place, problem });
    }

    /// Reads one header and steps behind its data. False at the end of the archive.
    fn entry(&mut self) -> Result<bool> {
        let mut block = [0; 512];
        match self.segments.read_at(self.offset, &mut block)? {
            512 => {}
            0 => return self.refuse(Problem::NoEnd),
            found => {
                return self.refuse(Problem::Truncated {
                    expected: BLOCK,
                    found: u64::try_from(found).unwrap_or_default(),
                });
            }
        }
        if block == [0; 512] {
            return self.end();
        }
        let header = Header::from_byte_slice(&block);
        if let Err(problem) = check_fields(header) {
            return self.refuse(problem);
        }
        let stored_size = match size_of(header) {
            Ok(size) => size,
            Err(problem) => return self.refuse(problem),
        };
        let kind = header.entry_type();
        let is_extension = matches!(
            kind,
            EntryType::XHeader | EntryType::XGlobalHeader | EntryType::GNULongName | EntryType::GNULongLink
        );
        if is_extension {
            self.extension(kind, stored_size)?;
        } else {
            self.real_entry(header, kind, stored_size)?;
        }
        Ok(true)
    }

    /// Where the data at the present header ends, and where the next header begins.
    fn data(&self, size: u64) -> Result<(u64, u64)> {
        let begin = self.offset.saturating_add(BLOCK);
        let padded = size.checked_next_multiple_of(BLOCK);
        let next = padded.and_then(|padded| begin.checked_add(padded));
        match next {
            Some(next) if next <= self.segments.length() => Ok((begin, next)),
            _ => self.refuse(Problem::Truncated {
                expected: size,
                found: self.segments.length().saturating_sub(begin).min(size),
            }),
        }
    }

    /// An entry that says something about the next one.
    fn extension(&mut self, kind: EntryType, size: u64) -> Result<()> {
        if size > MAX_EXTENSION {
            return self.refuse(Problem::TooLarge {
                limit: MAX_EXTENSION,
                found: size,
            });
        }
        let (begin, next) = self.data(size)?;
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.segments.read_at(begin, &mut bytes)?;
        let outcome = match kind {
            EntryType::GNULongLink if self.next.long_link => Err(tar("two long link names for one entry")),
            EntryType::GNULongLink => {
                self.next.long_link = true;
                Ok(())
            }
            EntryType::GNULongName if self.next.long_name.is_some() => {
                Err(tar("two long names for one entry"))
            }
            EntryType::GNULongName => long_name(&bytes).map(|name| self.next.long_name = Some(name)),
            EntryType::XHeader if self.next.pax => Err(tar("two PAX headers for one entry")),
            EntryType::XHeader => pax_records(&bytes).and_then(|records| self.next.take_in(&records)),
            // A global header goes on to hold for every entry: only what changes none of them is read over.
            _ => pax_records(&bytes).and_then(|records| {
                Extension::default().take_in(&records)?;
                let harmful = records.iter().find(|(key, _)| matches!(*key, "path" | "size"));
                harmful.map_or(Ok(()), |(key, _)| {
                    Err(tar(format!("a global PAX header sets {key}")))
                })
            }),
        };
        if let Err(problem) = outcome {
            return self.refuse(problem);
        }
        self.offset = next;
        Ok(())
    }

    /// A file, folder or link.
    fn real_entry(&mut self, header: &Header, kind: EntryType, header_size: u64) -> Result<()> {
        let extension = std::mem::take(&mut self.next);
        let size = match (header_size, extension.pax_size) {
            (size, None) => size,
            (0, Some(size)) => size,
            (a, Some(b)) if a == b => a,
            (a, Some(b)) => {
                return self.refuse(tar(format!("the header says {a} bytes, its PAX header {b}")));
            }
        };
        let name = match (extension.pax_path, extension.long_name) {
            (Some(pax), Some(gnu)) if pax != gnu => {
                return self.refuse(tar("a PAX header and a long name give two names"));
            }
            (Some(name), _) | (None, Some(name)) => name,
            (None, None) => match String::from_utf8(header.path_bytes().into_owned()) {
                Ok(name) => name,
                Err(_) => return self.refuse(tar("a name that is not UTF-8")),
            },
        };
        let what = match kind {
            EntryType::Regular => "file",
            EntryType::Directory => "folder",
            EntryType::Symlink => "symbolic link",
            EntryType::Link => "hard link",
            EntryType::Char => "character device",
            EntryType::Block => "block device",
            EntryType::Fifo => "FIFO",
            EntryType::GNUSparse => return self.refuse(tar("sparse entries are not read")),
            other => {
                let byte = other.as_byte().escape_ascii();
                return self.refuse(tar(format!("entries of type '{byte}' are not read")));
            }
        };
        if kind != EntryType::Regular && size != 0 {
            // Some readers skip that many bytes, others none.
            return self.refuse(tar(format!("a {what} with {size} bytes")));
        }
        let (begin, next) = self.data(size)?;
        self.take(&name, what, begin, size)?;
        self.offset = next;
        Ok(())
    }

    /// Takes an entry into the index.
    fn take(&mut self, name: &str, what: &'static str, begin: u64, size: u64) -> Result<()> {
        self.entries += 1;
        self.names = self.names.saturating_add(name.len());
        if self.entries > MAX_ENTRIES {
            return self.refuse(Problem::TooMany { limit: MAX_ENTRIES });
        }
        if self.names > MAX_NAMES {
            return self.refuse(tar("its names take more than 16 MiB"));
        }
        let is_folder = what == "folder";
        let entry = match plain_name(name, is_folder) {
            Ok(entry) => entry,
            Err(problem) => {
                self.find(name, problem);
                return Ok(());
            }
        };
        match self.seen.insert(entry.to_string(), is_folder) {
            // The same folder again changes nothing.
            Some(true) if is_folder => {}
            Some(_) => self.find(entry, Problem::Duplicate),
            None if what == "file" => {
                let stored = Stored {
                    extents: self.segments.extents(begin, size),
                    size,
                    entry: entry.to_string(),
                    offset: Some(begin),
                };
                self.index.files.push((entry.to_string(), stored));
            }
            None if is_folder => {}
            None => self.find(entry, Problem::NotAFile { kind: what }),
        }
        Ok(())
    }

    /// The first block of zeros: a second one, then nothing but zeros, end the archive.
    fn end(&mut self) -> Result<bool> {
        if self.next.is_pending() {
            return self.refuse(tar("an extension header with no entry behind it"));
        }
        let mut buffer = vec![0; 1 << 16];
        let begin = self.offset;
        self.offset = begin.saturating_add(BLOCK);
        loop {
            let count = self.segments.read_at(self.offset, &mut buffer)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
                self.offset = self.offset.saturating_add(u64::try_from(at).unwrap_or_default());
                return self.refuse(Problem::DataAfterEnd);
            }
            if count < buffer.len() {
                let length = self.segments.length();
                if length < begin.saturating_add(2 * BLOCK) {
                    self.offset = length;
                    return self.refuse(Problem::NoEnd);
                }
                return Ok(false);
            }
            self.offset = self
                .offset
                .saturating_add(u64::try_from(count).unwrap_or_default());
        }
    }
}

impl Extension {
    /// Takes in the records of a PAX header for the next entry.
    fn take_in(&mut self, records: &[(&str, &[u8])]) -> Result<(), Problem> {
        self.pax = true;
        for (key, value) in records {
            let text = || std::str::from_utf8(value).map_err(|_| tar(format!("PAX {key} is not UTF-8")));
            match *key {
                "path" => {
                    if value.contains(&0) {
                        return Err(tar("PAX path with a NUL"));
                    }
                    self.pax_path = Some(text()?.to_string());
                }
                "size" => {
                    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                    let size = text()?.parse().ok().filter(|_| digits);
                    self.pax_size = Some(size.ok_or_else(|| tar("PAX size is no number"))?);
                }
                key if key.starts_with("GNU.sparse.") => return Err(tar("sparse entries are not read")),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Parses PAX records: `length key=value\n`, where length counts the whole record.
///
/// Not by the tar crate's iterator: that takes any newline for the end of a record, and ends without an
/// error at an empty line, where others read on.
fn pax_records(mut bytes: &[u8]) -> Result<Vec<(&str, &[u8])>, Problem> {
    let malformed = || tar("a malformed PAX record");
    let mut records: Vec<(&str, &[u8])> = Vec::new();
    let mut keys = HashSet::new();
    while !bytes.is_empty() {
        let space = bytes
            .iter()
            .position(|byte| *byte == b' ')
            .ok_or_else(malformed)?;
        let digits = bytes.get(..space).ok_or_else(malformed)?;
        if digits.is_empty() || digits.len() > 7 || !digits.iter().all(u8::is_ascii_digit) {
            return Err(malformed());
        }
        let length = digits
            .iter()
            .fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
        let record = bytes.get(space + 1..length).ok_or_else(malformed)?;
        let record = record.strip_suffix(b"\n").ok_or_else(malformed)?;
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or_else(malformed)?;
        let (key, value) = record.split_at(equals);
        let key = std::str::from_utf8(key).map_err(|_| malformed())?;
        if key.is_empty() || !keys.insert(key) {
            return Err(tar(format!("the PAX key {key:?} stands twice or is empty")));
        }
        records.push((key, value.get(1..).unwrap_or_default()));
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(records)
}

/// The name in a GNU long name entry, which ends in a NUL.
fn long_name(bytes: &[u8]) -> Result<String, Problem> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (name, rest) = bytes.split_at(end);
    if rest.iter().any(|byte| *byte != 0) {
        return Err(tar("a long name with data behind its end"));
    }
    String::from_utf8(name.to_vec()).map_err(|_| tar("a name that is not UTF-8"))
}

/// Refuses what a stream begins with if no archive begins so, before the rest of it is taken in.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn check_first(block: &[u8]) -> Result<(), Problem> {
    match block.first_chunk::<512>() {
        Some(block) if *block == [0; 512] => Err(tar("it ends where it begins: nothing is in it")),
        Some(block) => check_fields(Header::from_byte_slice(block)),
        // Too short to be one, which is found when it is read.
        None => Ok(()),
    }
}

/// Checks what makes a block a header that all readers understand the same way.
fn check_fields(header: &Header) -> Result<(), Problem> {
    let bytes = header.as_bytes();
    let sum: u32 = bytes
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            if (148..156).contains(&at) {
                32
            } else {
                u32::from(*byte)
            }
        })
        .sum();
    let field = |range: std::ops::Range<usize>| bytes.get(range).unwrap_or_default();
    if octal(field(148..156)) != Some(u64::from(sum)) {
        return Err(tar("a header's checksum is wrong, or this is no tar"));
    }
    // mode, uid, gid, mtime: their values mean nothing here, but other readers end at a malformed one.
    for (name, range) in [
        ("mode", 100..108),
        ("uid", 108..116),
        ("gid", 116..124),
        ("mtime", 136..148),
    ] {
        if !is_number(field(range)) {
            return Err(tar(format!("{name} is no number")));
        }
    }
    let is_gnu = header.as_gnu().is_some();
    if header.as_ustar().is_some() || is_gnu {
        for (name, range) in [("devmajor", 329..337), ("devminor", 337..345)] {
            if !is_number(field(range)) {
                return Err(tar(format!("{name} is no number")));
            }
        }
    }
    // Some readers take a text where GNU tar has two times for a part of the name.
    if is_gnu && !(is_number(field(345..357)) && is_number(field(357..369))) {
        return Err(tar("a GNU header with a name prefix"));
    }
    if header.as_ustar().is_some() && field(508..512) == b"tar\0" {
        return Err(tar("a star header, which has another prefix"));
    }
    Ok(())
}

/// A field of octal digits, padded with blanks or NULs; empty is zero. `None` for anything else.
fn octal(field: &[u8]) -> Option<u64> {
    let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let text = field.get(start..)?;
    let end = text
        .iter()
        .position(|byte| matches!(byte, 0 | b' '))
        .unwrap_or(text.len());
    let (digits, padding) = text.split_at(end);
    if !padding.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn is_number(field: &[u8]) -> bool {
    field.first().is_some_and(|byte| byte & 0x80 != 0) || octal(field).is_some()
}

/// The header's size field: octal, or base-256 as GNU tar writes beyond 8 GiB.
fn size_of(header: &Header) -> Result<u64, Problem> {
    let field = header.as_bytes().get(124..136).unwrap_or_default();
    match field.first() {
        // 0xff is a negative number. Bits above 64 are cut off by some readers.
        Some(byte) if byte & 0x80 != 0 => {
            if field.get(..4) != Some(&[0x80, 0, 0, 0]) {
                return Err(tar("a size that is negative or too large"));
            }
            header.entry_size().map_err(|error| tar(error.to_string()))
        }
        _ => octal(field).ok_or_else(|| tar("size is no number")),
    }
}

/// The name without a leading `./` and, for a folder, a trailing slash.
fn plain_name(name: &str, is_folder: bool) -> Result<&str, Problem> {
    let mut plain = name;
    while let Some(rest) = plain.strip_prefix("./") {
        plain = rest;
    }
    if is_folder {
        plain = plain.strip_suffix('/').unwrap_or(plain);
        if matches!(plain, "" | ".") {
            return Ok(".");
        }
    }
    let odd = |part: &str| matches!(part, "" | "." | "..");
    if plain.split('/').any(odd) {
        return Err(Problem::Name {
            reason: "a name that other readers could place elsewhere".into(),
        });
    }
    Ok(plain)
}
