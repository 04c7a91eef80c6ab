//! Fetches good bytes from where they were found, verified on the way.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use super::Good;
use crate::blob::Verifier;
use crate::error::{Error, Place, Result};
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, Kind, MAX_METADATA, Repository};
use crate::progress::Progress;
use crate::retry::Retry;
use crate::source::Source;
use crate::transfer::{self, Sink, Transfer};

/// Where the bytes of a blob are.
#[derive(Clone)]
pub(crate) struct Offer {
    /// The name of the place.
    pub label: String,
    pub source: Arc<dyn Source>,
    pub repository: Repository,
    pub descriptor: Descriptor,
}

/// How blobs are fetched.
pub(crate) struct Fetch<'a> {
    /// How many times a blob is requested, and the pauses between.
    pub retry: Retry,
    pub progress: &'a dyn Progress,
    pub interrupt: &'a Interrupt,
}

impl Offer {
    /// Where its bytes come from.
    pub fn good(&self) -> Good {
        Good {
            from: self.label.clone(),
            size: self.descriptor.size,
        }
    }

    /// The bytes of a manifest, index or config, verified.
    ///
    /// # Errors
    ///
    /// If they cannot be read, or are wrong.
    pub fn document(&self) -> Result<Vec<u8>> {
        let bytes = self.source.metadata(&self.repository, &self.descriptor)?;
        let mut verifier = Verifier::new(&self.descriptor);
        let verified = verifier.update(&bytes).and_then(|()| verifier.finish());
        let place = || Place::blob(self.descriptor.digest).within(&self.label);
        verified.map_err(|problem| Error::refused(place(), problem))?;
        Ok(bytes)
    }

    /// Fetches the blob into an empty file, which is at `path` for messages. On success the file has its verified bytes.
    ///
    /// # Errors
    ///
    /// If they cannot be read or written, or are wrong.
    pub fn fetch(&self, file: &File, path: &Path, fetch: &Fetch<'_>) -> Result<()> {
        let sink = Replacement { file, path };
        if is_read_whole(&self.descriptor) {
            return sink.write(&self.descriptor, 0, &self.document()?);
        }
        let transfer = Transfer {
            source: self.source.as_ref(),
            sink: &sink,
            jobs: NonZeroUsize::MIN,
            retry: fetch.retry,
            keep_going: false,
            progress: fetch.progress,
            interrupt: fetch.interrupt,
        };
        let wanted = transfer::Wanted {
            repository: self.repository.clone(),
            descriptor: self.descriptor.clone(),
        };
        // It returns only once the bytes are verified.
        transfer.run(vec![wanted]).map(drop)
    }
}

/// The file of a blob that is being written.
struct Replacement<'f> {
    file: &'f File,
    path: &'f Path,
}

impl Sink for Replacement<'_> {
    fn begin(&self, _: &Descriptor, _: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        Ok(())
    }

    fn write(&self, _: &Descriptor, at: u64, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all_at(bytes, at);
        written.map_err(Error::io("write", self.path))
    }

    fn is_ordered(&self) -> bool {
        false
    }

    fn is_rewritable(&self) -> bool {
        true
    }
}

/// Whether a blob is a manifest, index or config, which sources give as a whole.
pub(super) fn is_read_whole(descriptor: &Descriptor) -> bool {
    let kind = descriptor.media_type.kind();
    descriptor.size <= MAX_METADATA && (descriptor.media_type.is_document() || kind == Kind::Config)
}
