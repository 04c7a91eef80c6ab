//! Where the bytes of blobs are: stored, in extents of files, or uncompressed, in an engine's store.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Place, Result};
use crate::oci::Digest;

/// A range of a file.
#[derive(Debug, Clone)]
pub struct Extent {
    /// The open file.
    pub file: Arc<File>,
    /// Its path, for messages.
    pub path: Arc<PathBuf>,
    /// Start of the range, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// Where the stored bytes of a blob are: one extent, or several if an archive is in parts.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The extents, in order.
    pub extents: Vec<Extent>,
    /// Stored bytes of all extents.
    pub size: u64,
    /// The entry's or file's name, for messages.
    pub entry: String,
    /// Offset in the archive, with its parts joined; `None` for a separate file.
    pub offset: Option<u64>,
}

impl Stored {
    /// The same place, with this blob's entry and offset.
    pub fn locate(&self, place: Place) -> Place {
        Place {
            entry: Some(self.entry.clone()),
            offset: self.offset,
            ..place
        }
    }

    /// The extent that has the stored bytes from `at` on, the offset of `at` in its file, and how many of at most `most`
    /// bytes it has from there. `None` at the end.
    pub(super) fn piece(&self, at: u64, most: u64) -> Option<(&Extent, u64, u64)> {
        let mut begin = 0_u64;
        for extent in &self.extents {
            let end = begin.saturating_add(extent.length);
            if at >= begin && at < end {
                let offset = extent.offset.saturating_add(at - begin);
                return Some((extent, offset, most.min(end - at)));
            }
            begin = end;
        }
        None
    }

    /// Reads `length` stored bytes at `offset`, unverified, into memory of their own.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] with part and offset, also if there are fewer.
    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut reader = self.reader(offset);
        reader
            .read_exact(&mut bytes)
            .map_err(|error| Error::from_reader(error, Error::io("read", &self.entry)))?;
        Ok(bytes)
    }

    /// Reads the stored bytes from `offset` on, unverified.
    pub fn reader(&self, offset: u64) -> StoredReader {
        StoredReader {
            stored: self.clone(),
            at: offset,
        }
    }

    /// Reads all stored bytes, unverified.
    pub(super) fn into_reader(self) -> StoredReader {
        StoredReader { stored: self, at: 0 }
    }
}

/// Reads stored bytes from their extents. Its errors wrap an [`Error`].
pub struct StoredReader {
    stored: Stored,
    /// Bytes from the start of the first extent.
    at: u64,
}

impl Read for StoredReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let Some((extent, offset, length)) = self.stored.piece(self.at, to_u64(target.len())) else {
            return Ok(0);
        };
        let count = usize::try_from(length).unwrap_or(usize::MAX);
        let piece = target.get_mut(..count).unwrap_or_default();
        read_exact_at(extent, offset, piece).map_err(io::Error::other)?;
        self.at = self.at.saturating_add(length);
        Ok(count)
    }
}

/// Fills `buffer` from the file of an extent, at `offset` of that file.
///
/// # Errors
///
/// [`Error::Io`] with the offset at which reading failed.
pub(crate) fn read_exact_at(extent: &Extent, offset: u64, buffer: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(to_u64(done));
        match extent.file.read_at(rest, at) {
            Ok(0) => return Err(shrank(extent, at)),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(extent, at, error)),
        }
    }
    Ok(())
}

pub(super) fn shrank(extent: &Extent, at: u64) -> Error {
    let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was");
    unreadable(extent, at, source)
}

pub(super) fn unreadable(extent: &Extent, at: u64, source: io::Error) -> Error {
    Error::Io {
        action: "read",
        path: extent.path.to_path_buf(),
        offset: Some(at),
        source: source.into(),
        hint: Some("copy it again, and check the medium".into()),
    }
}

pub(super) fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Uncompressed layers in an engine's store or in an archive of `docker save`.
pub trait Uncompressed: Send + Sync {
    /// Uncompressed bytes of a layer's tar; `None` if it is not here.
    ///
    /// # Errors
    ///
    /// If the layer exists and cannot be read.
    fn size(&self, diff_id: &Digest) -> Result<Option<u64>>;

    /// Opens a layer's tar at its first byte.
    ///
    /// The bytes are unverified; the caller hashes them. An error of the reader that wraps a [`crate::Error`]
    /// (by `io::Error::other`) keeps its meaning.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NotFound`] if it is not here.
    fn open(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>>;
}
