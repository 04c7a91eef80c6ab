//! One range of bytes over one or several files: the parts of an archive.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Hint, Remedy, Result};

/// Most parts: three digits, so that the shell sorts names in the order of parts.
pub const MAX_PARTS: u64 = 999;
/// Smallest part in bytes: a tar's block.
pub const MIN_PART: u64 = 512;

/// Splits `size` bytes into parts of `split` bytes.
///
/// # Errors
///
/// A usage error if the parts would be too small or too many.
pub fn cut(size: u64, split: Option<u64>) -> Result<Vec<Range<u64>>> {
    let Some(split) = split else {
        return Ok(std::iter::once(0..size).collect());
    };
    let count = if split < MIN_PART {
        u64::MAX
    } else {
        size.div_ceil(split)
    };
    if count > MAX_PARTS {
        return Err(Error::Usage {
            message: format!("parts of {split} bytes are too small for an archive of {size} bytes"),
            hint: Some(
                Hint::from(format!("at most {MAX_PARTS} parts are written"))
                    .and(Remedy::SplitAtLeast(size.div_ceil(MAX_PARTS).max(MIN_PART))),
            ),
        });
    }
    Ok((0..count)
        .map(|part| part * split..size.min((part + 1) * split))
        .collect())
}

/// One file of the range.
#[derive(Debug)]
pub struct Segment {
    /// The open file.
    pub file: File,
    /// Its name in the staging folder.
    pub name: String,
    /// Where it is now, for messages.
    pub path: PathBuf,
    /// Where it will be, for messages.
    pub target: PathBuf,
    /// The range of the whole in this file.
    pub range: Range<u64>,
}

/// Files that together are one range of bytes, in order and without gaps.
#[derive(Debug)]
pub struct Segments(pub Vec<Segment>);

impl Segments {
    /// The pieces of a range: the segment, the offset in its file, and the length.
    fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = (&Segment, u64, u64)> {
        self.0.iter().filter_map(move |segment| {
            let start = range.start.max(segment.range.start);
            let end = range.end.min(segment.range.end);
            (start < end).then(|| (segment, start - segment.range.start, end - start))
        })
    }

    /// Writes `bytes` at `offset` of the whole.
    ///
    /// # Errors
    ///
    /// Names the part and the offset in it, with a hint if a disk or a limit is full.
    pub fn write(&self, offset: u64, mut bytes: &[u8]) -> Result<()> {
        let end = offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        for (segment, at, length) in self.pieces(offset..end) {
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
            let (here, rest) = bytes.split_at(length);
            segment
                .file
                .write_all_at(here, at)
                .map_err(|error| write_error(&segment.target, at, error))?;
            bytes = rest;
        }
        Ok(())
    }

    /// Reads at `offset` of the whole; fewer bytes than requested at the end of a part or file.
    ///
    /// # Errors
    ///
    /// Names the part and the offset in it.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let Some(segment) = self.0.iter().find(|segment| segment.range.contains(&offset)) else {
            return Ok(0);
        };
        let at = offset - segment.range.start;
        let length = usize::try_from(segment.range.end - offset).unwrap_or(usize::MAX);
        let length = length.min(buffer.len());
        let room = buffer.get_mut(..length).unwrap_or_default();
        loop {
            match segment.file.read_at(room, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => {
                    return outcome.map_err(|source| Error::Io {
                        action: "read",
                        path: segment.path.clone(),
                        offset: Some(at),
                        source: source.into(),
                        hint: None,
                    });
                }
            }
        }
    }

    /// Sets the length of every file, where a gap costs nothing.
    ///
    /// # Errors
    ///
    /// Names the part.
    pub fn set_lengths(&self) -> Result<()> {
        for segment in &self.0 {
            let length = segment.range.end - segment.range.start;
            segment
                .file
                .set_len(length)
                .map_err(|error| write_error(&segment.target, length, error))?;
        }
        Ok(())
    }

    /// Asks the system to start writing a range to disk, so that the final sync takes less time. Guarantees
    /// nothing.
    pub fn write_out(&self, range: Range<u64>) {
        #[cfg(target_os = "linux")]
        for (segment, at, length) in self.pieces(range) {
            // Starts asynchronous write-back of the range; pages that are not clean yet stay in memory.
            let advice = rustix::fs::Advice::DontNeed;
            let _ = rustix::fs::fadvise(&segment.file, at, NonZeroU64::new(length), advice);
        }
    }

    /// Syncs all bytes to disk.
    ///
    /// # Errors
    ///
    /// WrittenBlob bytes may be lost then, even if they can still be read, and must not be used.
    pub fn sync(&self) -> Result<()> {
        for segment in &self.0 {
            segment.file.sync_all().map_err(|source| Error::Io {
                action: "sync",
                path: segment.target.clone(),
                offset: None,
                source: source.into(),
                hint: Some("the disk may be failing: what was written is discarded; write to another".into()),
            })?;
        }
        Ok(())
    }
}

/// The error of a write, with a hint.
pub fn write_error(path: &Path, offset: u64, source: io::Error) -> Error {
    let hint: Option<Hint> = match source.kind() {
        io::ErrorKind::StorageFull => Some("free some space, or write to another disk".into()),
        io::ErrorKind::QuotaExceeded => Some("your quota is used up: write to another disk".into()),
        io::ErrorKind::FileTooLarge => {
            Some(Hint::from(Remedy::Split(None)).and("raise the limit (ulimit -f)"))
        }
        _ => None,
    };
    Error::Io {
        action: "write",
        path: path.to_path_buf(),
        offset: Some(offset),
        source: source.into(),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::segments::part_path;
    use crate::error::{Advice, ErrorKind};

    #[test]
    fn cuts_without_gaps() {
        assert_eq!(cut(1000, None).unwrap(), vec![0..1000; 1]);
        assert_eq!(cut(1024, Some(512)).unwrap(), [0..512, 512..1024]);
        assert_eq!(cut(1025, Some(512)).unwrap(), [0..512, 512..1024, 1024..1025]);
        assert_eq!(cut(100, Some(512)).unwrap(), vec![0..100; 1]);
        assert_eq!(cut(999 * 512, Some(512)).unwrap().len(), 999);
        for (size, split) in [(1000, 0), (1000, 511), (999 * 512 + 1, 512)] {
            let error = cut(size, Some(split)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        }
        let error = cut(10 << 30, Some(1 << 20)).unwrap_err();
        let hint = error.hint().unwrap();
        let Some(Advice::Remedy(Remedy::SplitAtLeast(least))) = hint.advice().last() else {
            panic!("{hint}")
        };
        assert!(cut(10 << 30, Some(*least)).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn parts_joined_are_the_whole(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..4000),
            split in 512u64..1500,
            step in 1usize..900,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let size = u64::try_from(bytes.len()).unwrap();
            let mut segments = Segments(Vec::new());
            for (number, range) in cut(size, Some(split)).unwrap().into_iter().enumerate() {
                let path = part_path(&folder.path().join("a"), number + 1);
                let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
                segments.0.push(Segment { file, name: String::new(), target: path.clone(), path, range });
            }
            for (number, piece) in bytes.chunks(step).enumerate() {
                segments.write(u64::try_from(number * step).unwrap(), piece).unwrap();
            }
            let mut joined = Vec::new();
            for segment in &segments.0 {
                joined.extend(std::fs::read(&segment.path).unwrap());
            }
            proptest::prop_assert_eq!(&joined, &bytes);
            let mut back = Vec::new();
            let mut buffer = vec![0; step];
            loop {
                let count = segments.read(u64::try_from(back.len()).unwrap(), &mut buffer).unwrap();
                if count == 0 { break; }
                back.extend_from_slice(&buffer[..count]);
            }
            proptest::prop_assert_eq!(&back, &bytes);
        }
    }
}
