//! The input of a tar: a file, or a stream that is kept while it is read.

use crate::archive::segments::Segments;
use crate::blob::Extent;
use crate::error::{Place, Result};

/// A tar's bytes, read once from the start. Headers are read; data is kept where it can be read again.
pub(in crate::archive) trait Input {
    /// Its name in messages.
    fn label(&self) -> &str;

    /// Reads the next bytes; fewer than `buffer` only at the end.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize>;

    /// Skips the next `size` bytes, the data of the entry at `place`, and returns where they can be read again;
    /// fewer only at the end.
    ///
    /// # Errors
    ///
    /// If they cannot be read, or exceed what may be kept.
    fn keep(&mut self, size: u64, place: &Place) -> Result<Vec<Extent>>;

    /// Whether it is decompressed while it is read. Then the first problem ends the reading.
    fn expands(&self) -> bool;
}

/// A file, whose data stays in place.
pub(super) struct InPlace<'a> {
    segments: &'a Segments,
    offset: u64,
}

impl<'a> InPlace<'a> {
    pub(super) fn new(segments: &'a Segments) -> InPlace<'a> {
        InPlace { segments, offset: 0 }
    }
}

impl Input for InPlace<'_> {
    fn label(&self) -> &str {
        self.segments.label()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.segments.read_at(self.offset, buffer)?;
        self.offset = self
            .offset
            .saturating_add(u64::try_from(count).unwrap_or_default());
        Ok(count)
    }

    fn keep(&mut self, size: u64, _: &Place) -> Result<Vec<Extent>> {
        let extents = self.segments.extents(self.offset, size);
        self.offset = self.offset.saturating_add(size);
        Ok(extents)
    }

    fn expands(&self) -> bool {
        false
    }
}
