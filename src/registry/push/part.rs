//! The part of a blob that one request sends.

use std::io::{self, Read};
use std::time::Instant;

use crate::blob::BlobReader;
use crate::error::{Error, Place, Problem, Result};
use crate::oci::Descriptor;
use crate::progress::Progress;
use crate::registry::blob::Pace;
use crate::registry::transport::Timeouts;

/// Reads the next bytes of a blob for a request, and keeps the error that ends them: the client returns its own.
pub(super) struct Part<'p> {
    reader: &'p mut BlobReader,
    blob: &'p Descriptor,
    left: u64,
    /// Whether it is sent in chunks, which can end early without breaking the connection.
    in_chunks: bool,
    progress: &'p dyn Progress,
    check: &'p dyn Fn() -> Result<()>,
    pace: Pace,
    /// When bytes were returned last, and how many.
    last: Option<(Instant, u64)>,
    /// Bytes that were returned.
    pub(super) sent: u64,
    /// Why it ended early.
    pub(super) error: Option<PartError>,
}

/// Why a part ended early.
pub(super) enum PartError {
    /// A retry would give the same.
    Final(Error),
    /// The registry takes the bytes too slowly.
    Slow,
}

impl<'p> Part<'p> {
    /// The next `length` bytes of a blob; `check` is called between them.
    pub(super) fn new(
        reader: &'p mut BlobReader,
        blob: &'p Descriptor,
        length: u64,
        in_chunks: bool,
        progress: &'p dyn Progress,
        check: &'p dyn Fn() -> Result<()>,
        timeouts: &Timeouts,
    ) -> Part<'p> {
        Part {
            reader,
            blob,
            left: length,
            in_chunks,
            progress,
            check,
            pace: Pace::new(timeouts),
            last: None,
            sent: 0,
            error: None,
        }
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, PartError> {
        (self.check)().map_err(PartError::Final)?;
        if let Some((at, bytes)) = self.last
            && !self.pace.is_kept(bytes, at.elapsed())
        {
            return Err(PartError::Slow);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let target = buffer.get_mut(..most).unwrap_or_default();
        let count = self.reader.read(target).map_err(|error| {
            let place = self.reader.place().to_string();
            PartError::Final(Error::from_reader(error, Error::io("read", place)))
        })?;
        if count == 0 && most > 0 {
            let problem = Problem::SizeDiffers {
                expected: self.blob.size,
                found: self.reader.count(),
            };
            let place = Place::blob(self.blob.digest);
            return Err(PartError::Final(Error::refused(place, problem)));
        }
        Ok(count)
    }
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.next(buffer) {
            Ok(count) => {
                let bytes = u64::try_from(count).unwrap_or(u64::MAX);
                self.left = self.left.saturating_sub(bytes);
                self.sent = self.sent.saturating_add(bytes);
                self.last = Some((Instant::now(), bytes));
                self.progress.blob_advanced(&self.blob.digest, bytes);
                Ok(count)
            }
            Err(error) => {
                let is_final = matches!(error, PartError::Final(_));
                self.error = Some(error);
                if self.in_chunks && is_final {
                    return Ok(0);
                }
                Err(io::Error::other("the content ended early"))
            }
        }
    }
}
