//! Reads the blobs that a target gets, and verifies them.

use std::io::BufRead as _;

use super::{Candidates, MergedBlobs};
use crate::blob::{BlobReader, Blobs as _, Verified};
use crate::error::{Error, Place, Problem, Result};
use crate::interrupt::Interrupt;
use crate::oci::Descriptor;
use crate::progress::Progress;

/// Reads blobs of candidates, verifies them again, and reports progress.
pub struct Copier<'c, 'a> {
    merged: MergedBlobs<'a>,
    progress: &'c dyn Progress,
    interrupt: &'c Interrupt,
}

impl<'c, 'a> Copier<'c, 'a> {
    /// Starts to copy blobs of these images.
    pub fn new(
        candidates: &Candidates<'a>,
        progress: &'c dyn Progress,
        interrupt: &'c Interrupt,
    ) -> Copier<'c, 'a> {
        Copier {
            merged: MergedBlobs::new(candidates),
            progress,
            interrupt,
        }
    }

    /// Copies a blob: `write` gets the offset of some bytes, and the bytes.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is not what its digest says, or cannot be written.
    pub fn copy(
        &self,
        blob: &Descriptor,
        write: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<Verified> {
        let place = || Place::blob(blob.digest).within(self.merged.label());
        let open = self.merged.open(blob)?;
        let open = open.ok_or_else(|| Error::refused(place(), Problem::Missing))?;
        self.progress.blob_started(&blob.digest, blob.size, 0);
        let mut reader = BlobReader::new(open, blob)?;
        let mut done = 0;
        loop {
            self.interrupt.check()?;
            let read = reader.fill_buf();
            let bytes =
                read.map_err(|error| Error::from_reader(error, Error::io("read", self.merged.label())))?;
            if bytes.is_empty() {
                break;
            }
            write(done, bytes)?;
            let count = bytes.len();
            reader.consume(count);
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            done += count;
            self.progress.blob_advanced(&blob.digest, count);
        }
        let verified = reader.finish()?;
        self.progress.blob_finished(&blob.digest);
        Ok(verified)
    }
}
