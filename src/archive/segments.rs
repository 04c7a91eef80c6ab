//! An archive's file, or its numbered parts, as one range of bytes.
//!
//! `images.tar` may be one file, or stand for `images.tar.001`, `images.tar.002` and so on. Offsets in findings
//! count over the joined parts; errors of the system name the part and the offset in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::blob::Extent;
use crate::blob::stored::read_exact_at;
use crate::error::{Error, Place, Problem, Result};

/// The bytes of an archive, in one file or several.
#[derive(Debug, Clone)]
pub struct Segments {
    label: String,
    /// In order, without gaps; never empty.
    parts: Vec<Extent>,
    length: u64,
}

impl Segments {
    /// Opens the archive at `path`: a file, the first of its parts, or the name that the parts share.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a file cannot be opened, or a part is missing between others.
    pub fn open(path: &Path) -> Result<Segments> {
        let label = path.display().to_string();
        if let Some((base, _)) = part_number(path) {
            let parts = parts_of(&base)?;
            if parts.iter().any(|part| part == path) {
                return Segments::join(label, &parts);
            }
        }
        match File::open(path) {
            Ok(file) => Segments::of_file(label, file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parts = parts_of(path)?;
                if parts.is_empty() {
                    return Err(Error::io("open", path)(error));
                }
                Segments::join(label, &parts)
            }
            Err(error) => Err(unopened(path, error)),
        }
    }

    /// One open file as a complete archive.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if its length cannot be read.
    pub fn of_file(label: impl Into<String>, file: File, path: &Path) -> Result<Segments> {
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        let part = Extent {
            file: Arc::new(file),
            path: Arc::new(path.to_path_buf()),
            offset: 0,
            length,
        };
        Ok(Segments {
            label: label.into(),
            parts: vec![part],
            length,
        })
    }

    fn join(label: String, paths: &[PathBuf]) -> Result<Segments> {
        let mut joined = Segments {
            label,
            parts: Vec::new(),
            length: 0,
        };
        for path in paths {
            let part = Segments::of_file("", open_part(path)?, path)?;
            joined.length = joined.length.saturating_add(part.length);
            joined.parts.extend(part.parts);
        }
        Ok(joined)
    }

    /// Adds to an error which part of an archive is missing or wrong, if that explains it.
    pub(super) fn explain(&self, error: Error) -> Error {
        let (Error::Refused(finding), Some(last)) = (&error, self.parts.last()) else {
            return error;
        };
        let Some((base, number)) = part_number(&last.path) else {
            return error;
        };
        // All parts but the last have the same size.
        let largest = self.parts.iter().max_by_key(|part| part.length).unwrap_or(last);
        let rest = self.parts.iter().rev().skip(1);
        if let Some(short) = rest.rev().find(|part| part.length < largest.length) {
            let reason = format!(
                "{} has {} bytes and {} has {}: one of them was truncated, or is a part of another archive",
                short.path.display(),
                short.length,
                largest.path.display(),
                largest.length
            );
            let place = Place::default().within(&self.label);
            return Error::refused(place, Problem::Parts { reason });
        }
        let at = finding.place.offset.unwrap_or_default();
        match &finding.problem {
            problem if problem.is_cut() && last.length == largest.length => {
                let hint = match number {
                    1 => format!(
                        "copy every part into one folder; if there is no other, {} was cut",
                        last.path.display()
                    ),
                    _ => "copy every part into one folder".into(),
                };
                missing(&part_path(&base, number + 1), hint)
            }
            Problem::Tar { reason } => match self.extents(at, 1).first() {
                Some(part) => {
                    let reason = format!("{reason}, in {}", part.path.display());
                    Error::refused(finding.place.clone(), Problem::Parts { reason })
                }
                None => error,
            },
            _ => error,
        }
    }

    /// Its name in messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Bytes of all parts.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The extents of a range of the archive. What is after its end is omitted.
    pub fn extents(&self, offset: u64, length: u64) -> Vec<Extent> {
        let end = offset.saturating_add(length);
        let mut found = Vec::new();
        let mut begin: u64 = 0;
        for part in &self.parts {
            let after = begin.saturating_add(part.length);
            let (from, to) = (offset.max(begin), end.min(after));
            if from < to {
                found.push(Extent {
                    file: Arc::clone(&part.file),
                    path: Arc::clone(&part.path),
                    offset: part.offset.saturating_add(from - begin),
                    length: to - from,
                });
            }
            begin = after;
        }
        found
    }

    /// Reads `buffer` at `offset`; fewer bytes only at the end of the archive.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] with part and offset.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let length = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let mut done = 0;
        for extent in self.extents(offset, length) {
            let length = usize::try_from(extent.length).unwrap_or(usize::MAX);
            let Some(piece) = buffer.get_mut(done..).and_then(|rest| rest.get_mut(..length)) else {
                break;
            };
            read_exact_at(&extent, extent.offset, piece)?;
            done += length;
        }
        Ok(done)
    }
}

/// The base name and the number of a part: `images.tar.001` is part 1 of `images.tar`.
fn part_number(path: &Path) -> Option<(PathBuf, usize)> {
    let digits = path.extension()?.to_str()?;
    let number: usize = digits.parse().ok().filter(|number| *number > 0)?;
    // A user's file may end in ".1"; parts have three digits or more.
    (format!("{number:03}") == digits).then(|| (path.with_extension(""), number))
}

/// Only root can read an archive that root saved from an engine.
fn unopened(path: &Path, source: io::Error) -> Error {
    let hint = "run this with sudo, or chown the file";
    let is_closed = source.kind() == io::ErrorKind::PermissionDenied;
    Error::Io {
        action: "open",
        path: path.to_path_buf(),
        offset: None,
        source: source.into(),
        hint: is_closed.then(|| hint.into()),
    }
}

/// Opens a part without blocking on a FIFO, which anyone who can write to its folder may have put there.
fn open_part(path: &Path) -> Result<File> {
    let mut options = File::options();
    let opened = options
        .read(true)
        .custom_flags(i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default())
        .open(path);
    let file = opened.map_err(|error| unopened(path, error))?;
    let is_file = file.metadata().map_err(Error::io("read", path))?.is_file();
    let problem = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
    is_file
        .then_some(file)
        .ok_or_else(problem)
        .map_err(Error::io("open", path))
}

/// The path of a part: `images.tar.001` for number 1.
pub fn part_path(base: &Path, number: usize) -> PathBuf {
    let mut name = base.as_os_str().to_os_string();
    name.push(format!(".{number:03}"));
    name.into()
}

/// The folder that a path is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// The path itself, and the parts that an archive with this name or with this part has.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let base = part_number(path).map_or_else(|| path.to_path_buf(), |(base, _)| base);
    let parts = (1..=MAX_PARTS).map(|number| part_path(&base, number));
    let parts = parts.take_while(|part| part.exists());
    std::iter::once(path.to_path_buf()).chain(parts).collect()
}

/// The parts of `base`, in order. Empty if there are none.
fn parts_of(base: &Path) -> Result<Vec<PathBuf>> {
    let folder = folder_of(base);
    let listing = match folder.read_dir() {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", folder)(error)),
    };
    let mut numbers = Vec::new();
    for entry in listing {
        let name = entry.map_err(Error::io("list", folder))?.file_name();
        if let Some((shared, number)) = part_number(Path::new(&name))
            && Some(shared.as_os_str()) == base.file_name()
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    let last = numbers.last().copied().unwrap_or_default();
    let lacking = (1..last).filter(|number| numbers.binary_search(number).is_err());
    let lacking: Vec<PathBuf> = lacking
        .take(MAX_NAMED + 1)
        .map(|number| part_path(base, number))
        .collect();
    match lacking.split_first() {
        None => Ok(numbers
            .into_iter()
            .map(|number| part_path(base, number))
            .collect()),
        Some((first, others)) => {
            let others: Vec<String> = others.iter().map(|path| path.display().to_string()).collect();
            let also = match others.as_slice() {
                [] => String::new(),
                [other] => format!("{other} is missing too; "),
                others if others.len() < MAX_NAMED => format!("{} are missing too; ", others.join(", ")),
                _ => "others are missing too; ".into(),
            };
            Err(missing(first, format!("{also}copy every part into one folder")))
        }
    }
}

/// Most missing parts that are listed.
const MAX_NAMED: usize = 5;
/// Most parts that are looked for by their numbers.
const MAX_PARTS: usize = 999;

fn missing(part: &Path, hint: String) -> Error {
    Error::Io {
        action: "open",
        path: part.to_path_buf(),
        offset: None,
        source: io::Error::new(io::ErrorKind::NotFound, "this part is missing").into(),
        hint: Some(hint.into()),
    }
}

/// The name that the parts of an archive share, if a path is that of a part.
pub fn base(path: &Path) -> Option<PathBuf> {
    part_number(path).map(|(base, _)| base)
}

/// Groups files by archive: the parts of one archive, as from a shell's `images.tar.*`, belong together. Each
/// group can be opened as one archive.
pub fn by_archive(files: &[PathBuf]) -> Vec<Vec<PathBuf>> {
    let mut archives: Vec<(Option<PathBuf>, Vec<PathBuf>)> = Vec::new();
    for file in files {
        let base = part_number(file).map(|(base, _)| base);
        match archives
            .iter_mut()
            .find(|(known, _)| base.is_some() && *known == base)
        {
            Some((_, parts)) => parts.push(file.clone()),
            None => archives.push((base, vec![file.clone()])),
        }
    }
    archives.into_iter().map(|(_, files)| files).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    #[test]
    fn parts_read_as_one() {
        let folder = folder(&[
            ("i.tar.001", b"abc"),
            ("i.tar.002", b""),
            ("i.tar.003", b"defg"),
            ("i.tar.3", b"x"),
        ]);
        for name in ["i.tar", "i.tar.001", "i.tar.003"] {
            let segments = Segments::open(&folder.path().join(name)).unwrap();
            assert_eq!(segments.length(), 7);
            for offset in 0..9_u64 {
                for length in 0..9_usize {
                    let mut buffer = vec![0; length];
                    let count = segments.read_at(offset, &mut buffer).unwrap();
                    let start = usize::try_from(offset).unwrap().min(7);
                    assert_eq!(&buffer[..count], &b"abcdefg"[start..(start + length).min(7)]);
                    let extents = segments.extents(offset, u64::try_from(length).unwrap());
                    let covered: u64 = extents.iter().map(|extent| extent.length).sum();
                    assert_eq!(covered, u64::try_from(count).unwrap());
                }
            }
        }
    }

    #[test]
    fn a_whole_file_comes_before_parts() {
        let folder = folder(&[("i.tar", b"whole"), ("i.tar.001", b"part")]);
        let segments = Segments::open(&folder.path().join("i.tar")).unwrap();
        assert_eq!(segments.length(), 5);
    }

    #[test]
    fn a_missing_part_is_named() {
        for (files, missing) in [
            (&["i.tar.001", "i.tar.003"][..], "i.tar.002"),
            (&["i.tar.002"], "i.tar.001"),
        ] {
            let files: Vec<(&str, &[u8])> = files.iter().map(|name| (*name, &b"x"[..])).collect();
            let folder = folder(&files);
            let error = Segments::open(&folder.path().join("i.tar")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(error.to_string().contains(missing), "{error}");
            assert!(error.hint().unwrap().to_string().contains("every part"));
        }
        let folder = folder(&[("j.tar.001", b"x")]);
        for name in ["i.tar", "i.tar.001", "j.tar.002"] {
            let error = Segments::open(&folder.path().join(name)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(error.to_string().contains(&format!("{name}: ")), "{error}");
        }
    }

    #[test]
    fn a_fifo_in_the_place_of_a_part_is_not_waited_for() {
        let folder = folder(&[("i.tar.001", b"x")]);
        let fifo = folder.path().join("i.tar.002");
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let error = Segments::open(&folder.path().join("i.tar")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(
            error.to_string().contains("i.tar.002: it is not a regular file"),
            "{error}"
        );
    }

    #[test]
    fn a_shells_list_of_parts_is_one_archive() {
        let files = ["a.tar", "b.tar.001", "c.001", "b.tar.002", "d.1"].map(PathBuf::from);
        let lists = by_archive(&files);
        let expected: Vec<Vec<PathBuf>> = [&["a.tar"][..], &["b.tar.001", "b.tar.002"], &["c.001"], &["d.1"]]
            .iter()
            .map(|list| list.iter().map(PathBuf::from).collect())
            .collect();
        assert_eq!(lists, expected);
    }
}
