//! A layer's tar, reassembled from its files and its `tar-split.json.gz`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use rustix::fs::{Advice, fadvise};

use super::rooted::{Rooted, place, unreadable};
use super::tar_split::{Entries, Entry};
use crate::blob::decompress::DEFAULT_LIMIT;
use crate::error::{Error, Place, Problem, Result};

/// Stored bytes of a `tar-split.json.gz` that are read at once.
const BUFFER: usize = 64 << 10;
/// Files from this size on are opened with more readahead.
const LARGE: u64 = 1 << 20;

/// Reads a layer's tar, exactly as it was when the layer was pulled or built.
///
/// Large files are read directly into the caller's buffer, so large buffers mean few system calls.
pub struct LayerTar<R = BufReader<File>> {
    entries: Entries<R>,
    folder: Rooted,
    now: Now,
    /// Uncompressed bytes that may still follow.
    left: u64,
    limit: u64,
}

enum Now {
    Between,
    Segment,
    File {
        file: File,
        name: Vec<u8>,
        size: u64,
        left: u64,
    },
    Ended,
}

/// Reads an open `tar-split.json.gz`; errors name its `path`. Refuses more than `DEFAULT_LIMIT` bytes of JSON.
///
/// # Errors
///
/// Only if a decompressor cannot be allocated.
pub fn entries(file: File, path: &Path) -> Result<Entries<BufReader<File>>> {
    let place = Place::default().within(path.display());
    Entries::new(BufReader::with_capacity(BUFFER, file), DEFAULT_LIMIT, place)
}

/// Uncompressed bytes of the tar with these entries.
///
/// # Errors
///
/// [`Error::Refused`] if they are damaged.
pub fn size<R: BufRead>(entries: &mut Entries<R>, folder: &Path) -> Result<u64> {
    let mut sum = 0_u64;
    while let Some(entry) = entries.next_entry()? {
        let (more, name) = match entry {
            Entry::File { name, size } => (size, name),
            Entry::Segment => (entries.skip_segment()?, Vec::new()),
        };
        sum = sum.checked_add(more).ok_or_else(|| {
            let problem = Problem::Expands { limit: u64::MAX };
            Error::refused(place(folder, &name), problem)
        })?;
    }
    Ok(sum)
}

impl<R: BufRead> LayerTar<R> {
    /// Starts at the first byte. Refuses more than `limit` uncompressed bytes.
    pub fn new(entries: Entries<R>, folder: Rooted, limit: u64) -> LayerTar<R> {
        LayerTar {
            entries,
            folder,
            now: Now::Between,
            left: limit,
            limit,
        }
    }

    /// Returns the next bytes. `target` is filled unless the end or a larger file comes first; zero at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if a file is missing, not a regular file, or has another size, or the entries are
    /// damaged; [`Error::Io`] if a file cannot be read.
    pub fn next_bytes(&mut self, target: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = target.get_mut(done..).filter(|rest| !rest.is_empty()) {
            done += match &mut self.now {
                Now::Ended => break,
                Now::Between => {
                    self.advance()?;
                    0
                }
                Now::Segment => match self.entries.take(rest)? {
                    0 => {
                        self.now = Now::Between;
                        0
                    }
                    count => self.admit(count)?,
                },
                Now::File { .. } => self.read_file(rest)?,
            };
        }
        Ok(done)
    }

    fn advance(&mut self) -> Result<()> {
        self.now = match self.entries.next_entry()? {
            None => Now::Ended,
            Some(Entry::Segment) => Now::Segment,
            Some(Entry::File { name, size }) => {
                self.admit_all(size)?;
                let file = self.folder.open_file(&name, size)?;
                if size >= LARGE {
                    // A failure does not affect what is read.
                    let _ = fadvise(&file, 0, None, Advice::Sequential);
                }
                Now::File {
                    file,
                    name,
                    size,
                    left: size,
                }
            }
        };
        Ok(())
    }

    fn read_file(&mut self, target: &mut [u8]) -> Result<usize> {
        let Now::File {
            file,
            name,
            size,
            left,
        } = &mut self.now
        else {
            return Ok(0);
        };
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(target.len());
        let piece = target.get_mut(..most).unwrap_or_default();
        let count = match file.read(piece) {
            Ok(0) => {
                let problem = Problem::Truncated {
                    expected: *size,
                    found: *size - *left,
                };
                return Err(Error::refused(place(self.folder.path(), name), problem));
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
            Err(error) => return Err(unreadable(self.folder.path(), name, error)),
        };
        *left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        if *left == 0 {
            self.now = Now::Between;
        }
        Ok(count)
    }

    fn admit(&mut self, count: usize) -> Result<usize> {
        self.admit_all(u64::try_from(count).unwrap_or(u64::MAX))?;
        Ok(count)
    }

    fn admit_all(&mut self, count: u64) -> Result<()> {
        self.left = self.left.checked_sub(count).ok_or_else(|| {
            let problem = Problem::Expands { limit: self.limit };
            Error::refused(Place::default().within(self.folder.path().display()), problem)
        })?;
        Ok(())
    }
}

impl<R: BufRead> Read for LayerTar<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.next_bytes(target).map_err(io::Error::other)
    }
}
