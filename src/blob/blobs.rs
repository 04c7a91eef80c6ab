//! Blobs by digest, wherever they are: in an archive, a folder, a registry.

use std::io::Read;

use super::reader::BlobReader;
use super::stored::Stored;
use crate::error::{Error, Place, Problem, Result};
use crate::oci::{Descriptor, Digest, MAX_METADATA};

/// Where blobs are read from.
pub trait Blobs: Send + Sync {
    /// Its name in messages, such as the path of an archive.
    fn label(&self) -> &str;

    /// Stored bytes of a blob; `None` if it is missing. The size in the descriptor may be wrong.
    ///
    /// # Errors
    ///
    /// If that cannot be told now.
    fn size(&self, blob: &Descriptor) -> Result<Option<u64>>;

    /// Opens a blob; `None` if it is missing.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    fn open(&self, blob: &Descriptor) -> Result<Option<OpenBlob>>;

    /// How many more times a blob is read whose bytes are wrong: where bytes come over a network, that may be to blame.
    fn rereads(&self) -> usize {
        0
    }

    /// Where a blob is, for messages.
    fn place(&self, digest: &Digest) -> Place {
        Place::blob(*digest).within(self.label())
    }

    /// Reads a manifest, index or config, verified against size and digest; `None` if it is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the bytes do not match the descriptor or exceed [`MAX_METADATA`]; otherwise the error of
    /// reading them.
    fn metadata(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        self.read_within(descriptor, MAX_METADATA)
    }

    /// Reads a blob of at most `limit` bytes, verified against size and digest; `None` if it is missing.
    ///
    /// # Errors
    ///
    /// As [`Blobs::metadata`], with this limit.
    fn read_within(&self, descriptor: &Descriptor, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(open) = self.open(descriptor)? else {
            return Ok(None);
        };
        if descriptor.size > limit {
            let problem = Problem::TooLarge {
                limit,
                found: descriptor.size,
            };
            let place = Place::blob(descriptor.digest).within(self.label());
            return Err(Error::refused(place, problem));
        }
        let within = |error| match error {
            Error::Refused(mut finding) => {
                finding.place = finding.place.within(self.label());
                Error::Refused(finding)
            }
            other => other,
        };
        let mut reader = BlobReader::new(open, descriptor).map_err(within)?;
        let mut bytes = Vec::with_capacity(usize::try_from(descriptor.size).unwrap_or_default());
        reader
            .read_to_end(&mut bytes)
            .map_err(|error| within(Error::from_reader(error, Error::io("read", self.label()))))?;
        reader.finish().map_err(within)?;
        Ok(Some(bytes))
    }
}

/// A blob's stored bytes, unverified.
pub enum OpenBlob {
    /// Ranges of local files, which can be mapped.
    Stored(Stored),
    /// A stream. An error of the reader that wraps an [`Error`] (by `io::Error::other`) keeps its meaning.
    Stream(Box<dyn Read + Send>),
}
