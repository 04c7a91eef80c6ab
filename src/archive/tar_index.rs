//! The positions of everything in a tar, found by reading its headers. Strict: refuses everything that two
//! readers could understand differently, because a digest proves nothing if another reader sees other content.
//!
//! A problem that leaves no doubt about where the next entry begins is a finding. Any other one ends the
//! reading. Sources: POSIX.1-2017, `pax`, "ustar Interchange Format" and "pax Header Block"; GNU tar manual,
//! "Basic Tar Format".

mod extension;
mod header;
mod input;

use std::collections::HashMap;
use std::io::BufRead;

use tar::{EntryType, Header};

use super::segments::Segments;
use super::spool::{Options, Spool};
use super::tar_plan::BLOCK;
use crate::blob::{Extent, Stored};
use crate::error::{Error, Finding, Place, Problem, Result};

use extension::Extension;
pub(super) use header::plain_name;
use header::{check_fields, free_name, long_name, pax_records, size_of, tar};
use input::InPlace;
pub(super) use input::Input;

/// Longest extension header in bytes; real ones have a few hundred.
const MAX_EXTENSION: u64 = 1 << 20;
/// Most entries of one archive, which are held in memory with their names, positions and problems.
const MAX_ENTRIES: usize = 65_536;
/// Most bytes of all names together, for the same reason. A blob's name has 77 or 141.
const MAX_NAMES: usize = 16 << 20;
/// Most zeros after the end of a compressed archive. Tools fill a record, of 10 KiB by default; a tape's has
/// some MiB.
const MAX_PADDING: u64 = 16 << 20;

/// The regular files of a tar, by name without a leading `./`, and the problems of its entries.
#[derive(Debug, Default)]
pub struct TarIndex {
    /// Names and positions of the stored bytes, in the archive's order.
    pub files: Vec<(String, Stored)>,
    /// Links. Whether they are allowed depends on the kind of archive: an OCI layout has none.
    pub links: Vec<Link>,
    /// Problems that do not hide what follows.
    pub findings: Vec<Finding>,
}

/// A link of a tar. Its target was not looked up.
#[derive(Debug, Clone)]
pub struct Link {
    /// The entry's name, without a leading `./`.
    pub name: String,
    /// How its target is resolved.
    pub kind: LinkKind,
    /// Its target, unchanged.
    pub target: String,
    /// Offset of its header in the archive.
    pub offset: u64,
}

/// How a link's target is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A path relative to the folder of the link.
    Symbolic,
    /// Another entry's name.
    Hard,
}

impl Link {
    /// The finding about a link in a layout, which must not have any.
    pub fn finding(&self, label: &str) -> Finding {
        let kind = match self.kind {
            LinkKind::Symbolic => SYMBOLIC,
            LinkKind::Hard => HARD,
        };
        Finding {
            place: self.place(label),
            problem: Problem::NotAFile { kind },
        }
    }

    /// Its place.
    pub fn place(&self, label: &str) -> Place {
        Place::default().within(label).entry(&self.name).at(self.offset)
    }
}

const SYMBOLIC: &str = "symbolic link";
const HARD: &str = "hard link";
const FOLDER: &str = "folder";
/// The entry that `tar -V` writes first.
const LABEL: &str = "volume label";
/// A global PAX header, which has a name too.
const GLOBAL: &str = "global PAX header";

impl TarIndex {
    /// Reads the headers of a tar, to its end.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the offset where the tar cannot be followed further, or has no end;
    /// [`Error::Io`] if it cannot be read.
    pub fn read(segments: &Segments) -> Result<TarIndex> {
        TarIndex::walk(&mut InPlace::new(segments))
    }

    /// Reads a stream or a compressed tar, and keeps the data of its entries in a temporary file without a
    /// name. Nothing is kept before its header was found valid.
    ///
    /// # Errors
    ///
    /// As [`TarIndex::read`]; [`Error::Refused`] also if it does not decompress, if an entry is larger than
    /// [`Options::max_layer_size`], and, if it is compressed, for the first finding; [`Error::Io`] also if
    /// there is no room for an entry.
    pub fn read_stream(label: &str, input: impl BufRead, options: &Options) -> Result<TarIndex> {
        TarIndex::walk(&mut Spool::new(label, input, options)?)
    }

    fn walk(input: &mut dyn Input) -> Result<TarIndex> {
        let mut walk = Walk {
            input,
            offset: 0,
            index: TarIndex::default(),
            seen: HashMap::new(),
            entries: 0,
            names: 0,
            next: Extension::default(),
        };
        while walk.entry()? {}
        walk.nested()?;
        Ok(walk.index)
    }
}

/// A parsed entry.
enum Taken {
    File { size: u64 },
    Link(LinkKind, String),
    Other(&'static str),
}

/// The kind of a named entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    File,
    Folder,
    Link,
    /// A label or global header: not a file, but some readers look files up by name alone.
    Note,
}

impl Taken {
    fn named(&self) -> Named {
        match self {
            Taken::Link(..) => Named::Link,
            Taken::Other(FOLDER) => Named::Folder,
            Taken::Other(LABEL | GLOBAL) => Named::Note,
            Taken::File { .. } | Taken::Other(_) => Named::File,
        }
    }
}

struct Walk<'a> {
    input: &'a mut dyn Input,
    /// Offset of the current header.
    offset: u64,
    index: TarIndex,
    /// Names that occurred, and their kinds.
    seen: HashMap<String, Named>,
    /// Number of entries so far, including bad ones, and bytes of their names.
    entries: usize,
    names: usize,
    next: Extension,
}

impl Walk<'_> {
    fn place(&self) -> Place {
        Place::default().within(self.input.label()).at(self.offset)
    }

    fn refuse<T>(&self, problem: Problem) -> Result<T> {
        Err(Error::refused(self.place(), problem))
    }

    fn find(&mut self, place: Place, problem: Problem) -> Result<()> {
        if self.input.expands() {
            return Err(Error::refused(place, problem));
        }
        self.index.findings.push(Finding { place, problem });
        Ok(())
    }

    /// Reads one header and skips its data. False at the end of the archive.
    fn entry(&mut self) -> Result<bool> {
        let mut block = [0; 512];
        match self.input.read(&mut block)? {
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
            if kind == EntryType::XGlobalHeader {
                let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
                self.take(&name, &Taken::Other(GLOBAL))?;
            }
            self.extension(kind, stored_size)?;
        } else {
            self.real_entry(header, kind, stored_size)?;
        }
        Ok(true)
    }

    /// Skips the data of the current header, which `read` consumes, and the padding after it.
    fn data<T>(
        &mut self,
        size: u64,
        name: Option<&str>,
        read: impl FnOnce(&mut dyn Input, &Place) -> Result<(u64, T)>,
    ) -> Result<T> {
        let place = name.map_or_else(|| self.place(), |name| self.place().entry(name));
        let (found, data) = read(self.input, &place)?;
        let padding = usize::try_from(size.wrapping_neg() % BLOCK).unwrap_or_default();
        let mut buffer = [0; 512];
        let buffer = buffer.get_mut(..padding).unwrap_or_default();
        if found < size || self.input.read(buffer)? < padding {
            let problem = Problem::Truncated {
                expected: size,
                found,
            };
            return Err(Error::refused(place, problem));
        }
        let whole = size.saturating_add(BLOCK).checked_next_multiple_of(BLOCK);
        self.offset = self.offset.saturating_add(whole.unwrap_or(u64::MAX));
        Ok(data)
    }

    /// An entry that describes the next one.
    fn extension(&mut self, kind: EntryType, size: u64) -> Result<()> {
        if size > MAX_EXTENSION {
            return self.refuse(Problem::TooLarge {
                limit: MAX_EXTENSION,
                found: size,
            });
        }
        let begin = self.offset;
        let bytes = self.data(size, None, |input, _| {
            let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
            let count = input.read(&mut bytes)?;
            Ok((u64::try_from(count).unwrap_or_default(), bytes))
        })?;
        let outcome = match kind {
            EntryType::GNULongLink if self.next.long_link.is_some() => {
                Err(tar("two long link names for one entry"))
            }
            EntryType::GNULongLink => long_name(&bytes).map(|name| self.next.long_link = Some(name)),
            EntryType::GNULongName if self.next.long_name.is_some() => {
                Err(tar("two long names for one entry"))
            }
            EntryType::GNULongName => long_name(&bytes).map(|name| self.next.long_name = Some(name)),
            EntryType::XHeader if self.next.pax => Err(tar("two PAX headers for one entry")),
            EntryType::XHeader => pax_records(&bytes).and_then(|records| self.next.take_in(&records)),
            // Go drops pending headers here.
            _ if self.next.is_pending() => {
                Err(tar("a global PAX header between an entry and its own headers"))
            }
            // A global header applies to every later entry, so only one that changes none of them is skipped.
            _ => pax_records(&bytes).and_then(|records| {
                Extension::default().take_in(&records)?;
                let harmful = records
                    .iter()
                    .find(|(key, _)| matches!(*key, "path" | "linkpath" | "size"));
                harmful.map_or(Ok(()), |(key, _)| {
                    Err(tar(format!("a global PAX header sets {key}")))
                })
            }),
        };
        outcome.map_err(|problem| Error::refused(self.place().at(begin), problem))
    }

    /// Finds files whose name is the folder of other entries: a program that unpacks the archive keeps only one
    /// of both.
    fn nested(&mut self) -> Result<()> {
        let mut names: Vec<(&String, Named)> = self.seen.iter().map(|(name, named)| (name, *named)).collect();
        names.sort_unstable_by_key(|(name, _)| *name);
        let is_folder_of = |name: &str| {
            let below = format!("{name}/");
            let at = names.partition_point(|(other, _)| **other < below);
            names.get(at).is_some_and(|(other, _)| other.starts_with(&below))
        };
        let files = names
            .iter()
            .filter(|(_, named)| matches!(named, Named::File | Named::Note));
        let wrong: Vec<String> = files
            .filter(|(name, _)| is_folder_of(name))
            .map(|(name, _)| (*name).clone())
            .collect();
        for name in wrong {
            let reason = "the name of a file, and of the folder of others".into();
            let place = Place::default().within(self.input.label()).entry(name);
            self.find(place, Problem::Name { reason })?;
        }
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
        let name = match extension.name(header) {
            Ok(name) => name,
            Err(problem) => return self.refuse(problem),
        };
        let what = match kind {
            EntryType::Regular => "file",
            EntryType::Directory => FOLDER,
            EntryType::Symlink => SYMBOLIC,
            EntryType::Link => HARD,
            EntryType::Char => "character device",
            EntryType::Block => "block device",
            EntryType::Fifo => "FIFO",
            EntryType::GNUSparse => return self.refuse(tar("sparse entries are not read")),
            other if other.as_byte() == b'V' && self.offset == 0 => LABEL,
            other => {
                let byte = other.as_byte().escape_ascii();
                return self.refuse(tar(format!("entries of type '{byte}' are not read")));
            }
        };
        if kind != EntryType::Regular && size != 0 {
            // Some readers skip that many bytes, others none.
            return self.refuse(tar(format!("a {what} with {size} bytes")));
        }
        let link = match kind {
            EntryType::Symlink => Some(LinkKind::Symbolic),
            EntryType::Link => Some(LinkKind::Hard),
            _ => None,
        };
        let taken = match link.map(|kind| extension.target(header).map(|target| (kind, target))) {
            None if kind == EntryType::Regular => Taken::File { size },
            None => Taken::Other(what),
            Some(Ok((kind, target))) => Taken::Link(kind, target),
            Some(Err(problem)) => return self.refuse(problem),
        };
        let entry = self.take(&name, &taken)?;
        let offset = self.offset;
        let extents = self.data(size, Some(&name), |input, place| {
            let extents = input.keep(size, place)?;
            let found = extents.iter().map(|extent| extent.length).sum();
            Ok((found, extents))
        })?;
        if let Some(entry) = entry {
            self.list(entry, offset, taken, extents);
        }
        Ok(())
    }

    /// Adds the name of an entry. Returns the name to list; `None` if the entry is bad or not listed again.
    fn take(&mut self, name: &str, taken: &Taken) -> Result<Option<String>> {
        self.entries += 1;
        self.names = self.names.saturating_add(name.len());
        if let Taken::Link(_, target) = taken {
            self.names = self.names.saturating_add(target.len());
        }
        if self.entries > MAX_ENTRIES {
            return self.refuse(Problem::TooMany { limit: MAX_ENTRIES });
        }
        if self.names > MAX_NAMES {
            return self.refuse(tar("its names take more than 16 MiB"));
        }
        let named = taken.named();
        let plain = match named {
            Named::Note => free_name(name),
            _ => plain_name(name, named == Named::Folder).map(str::to_string),
        };
        let entry = match plain {
            Ok(entry) => entry,
            Err(problem) => {
                self.find(self.place().entry(name), problem)?;
                return Ok(None);
            }
        };
        let place = self.place().entry(&entry);
        match self.seen.insert(entry.clone(), named) {
            // A repeated folder changes nothing.
            Some(known) if known == named && matches!(named, Named::Folder | Named::Note) => return Ok(None),
            Some(known) => {
                self.find(place.clone(), Problem::Duplicate)?;
                if known != Named::Note {
                    return Ok(None);
                }
            }
            None => {}
        }
        match taken {
            Taken::Other(FOLDER | LABEL | GLOBAL) | Taken::File { .. } | Taken::Link(..) => {}
            Taken::Other(kind) => self.find(place, Problem::NotAFile { kind })?,
        }
        Ok(Some(entry))
    }

    /// Lists an entry whose header is at `offset`.
    fn list(&mut self, entry: String, offset: u64, taken: Taken, extents: Vec<Extent>) {
        match taken {
            Taken::File { size } => {
                let stored = Stored {
                    extents,
                    size,
                    entry: entry.clone(),
                    offset: Some(offset.saturating_add(BLOCK)),
                };
                self.index.files.push((entry, stored));
            }
            Taken::Link(kind, target) => self.index.links.push(Link {
                name: entry,
                kind,
                target,
                offset,
            }),
            Taken::Other(_) => {}
        }
    }

    /// The first block of zeros: a second one must follow, and then only zeros.
    fn end(&mut self) -> Result<bool> {
        if self.next.is_pending() {
            return self.refuse(tar("an extension header with no entry after it"));
        }
        if self.offset == 0 {
            return self.refuse(tar("it has no entries"));
        }
        let mut buffer = vec![0; 1 << 16];
        let begin = self.offset;
        self.offset = begin.saturating_add(BLOCK);
        loop {
            let count = self.input.read(&mut buffer)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
                self.offset = self.offset.saturating_add(u64::try_from(at).unwrap_or_default());
                return self.refuse(Problem::DataAfterEnd);
            }
            self.offset = self
                .offset
                .saturating_add(u64::try_from(count).unwrap_or_default());
            if count < buffer.len() {
                return match self.offset < begin.saturating_add(2 * BLOCK) {
                    true => self.refuse(Problem::NoEnd),
                    false => Ok(false),
                };
            }
            if self.input.expands() && self.offset - begin > MAX_PADDING {
                return self.refuse(tar("more than 16 MiB of zeros follow its end"));
            }
        }
    }
}
