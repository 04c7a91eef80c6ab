//! Storage for recompressed layers: unnamed temporary files, one for each worker, so that many layers need few
//! open files.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::encoders::{Deflate, Encoder, HEADER};
use crate::archive::writer::file_system;
use crate::blob::{Extent, Stored};
use crate::error::{Error, Hint, Remedy, Result};
use crate::oci::{Digest, Hasher};

/// A worker's temporary file.
pub(super) struct Spool {
    /// `None` in a trial, which keeps nothing.
    file: Option<Arc<File>>,
    path: Arc<PathBuf>,
    /// Position of the next layer: after those that are kept.
    end: u64,
}

impl Spool {
    pub(super) fn new(tmpdir: &Path) -> Result<Spool> {
        let file = tempfile::tempfile_in(tmpdir).map_err(|error| full(tmpdir, error))?;
        Ok(Spool {
            file: Some(Arc::new(file)),
            path: Arc::new(tmpdir.to_path_buf()),
            end: 0,
        })
    }

    /// A spool that hashes layers and keeps none.
    pub(super) fn of_trial(tmpdir: &Path) -> Spool {
        Spool {
            file: None,
            path: Arc::new(tmpdir.to_path_buf()),
            end: 0,
        }
    }

    /// Starts a layer, of which more than `limit` stored bytes are useless. Its digest uses the algorithm of
    /// `like`.
    pub(super) fn begin(&self, deflate: Deflate, limit: Option<u64>, like: &Digest) -> Output {
        let hashed = |encoder: &'static Encoder| {
            let mut hasher = Hasher::like(like);
            hasher.update(&encoder.header);
            (encoder, hasher)
        };
        Output {
            file: self.file.clone(),
            start: self.end,
            count: 0,
            limit: limit.unwrap_or(u64::MAX),
            hashers: deflate.encoders().map(hashed).collect(),
        }
    }

    /// Keeps a layer, as written by this encoder.
    pub(super) fn keep(&mut self, output: &Output, encoder: &Encoder, name: String) -> Result<Stored> {
        let mut extents = Vec::new();
        if let Some(file) = &self.file {
            file.write_all_at(&encoder.header, output.start)
                .map_err(|error| self.full(error))?;
            extents.push(Extent {
                file: Arc::clone(file),
                path: Arc::clone(&self.path),
                offset: output.start,
                length: output.count,
            });
        }
        self.end = output.start.saturating_add(output.count);
        Ok(Stored {
            extents,
            size: output.count,
            entry: name,
            offset: None,
        })
    }

    /// Frees the space of a layer that is not kept.
    pub(super) fn drop_rest(&self) -> Result<()> {
        match &self.file {
            Some(file) => file.set_len(self.end).map_err(|error| self.full(error)),
            None => Ok(()),
        }
    }

    pub(super) fn full(&self, error: io::Error) -> Error {
        full(&self.path, error)
    }
}

/// Checks that layers of so many stored bytes fit, before the first one is recompressed.
///
/// # Errors
///
/// [`Error::Io`] if they do not.
pub(super) fn check_space(tmpdir: &Path, needed: u64) -> Result<()> {
    // A folder that cannot be opened is reported when a file is made in it.
    let free = File::open(tmpdir)
        .ok()
        .and_then(|folder| file_system::free(&folder).ok());
    match free.filter(|free| needed > *free) {
        None => Ok(()),
        Some(free) => {
            let problem = format!("{needed} bytes are needed, {free} are free");
            Err(full(tmpdir, io::Error::new(io::ErrorKind::StorageFull, problem)))
        }
    }
}

fn full(tmpdir: &Path, source: io::Error) -> Error {
    Error::Io {
        action: "write",
        path: tmpdir.to_path_buf(),
        offset: None,
        source: source.into(),
        hint: Some(
            Hint::from("recompressed layers are written there, as much as their stored form")
                .and(Remedy::OtherTemporaryFolder),
        ),
    }
}

/// A layer that is being written: written once, and hashed with the header of each possible encoder.
pub(super) struct Output {
    file: Option<Arc<File>>,
    start: u64,
    /// Stored bytes so far.
    count: u64,
    limit: u64,
    hashers: Vec<(&'static Encoder, Hasher)>,
}

impl Output {
    /// Whether there are more bytes than expected.
    pub(super) fn is_over(&self) -> bool {
        self.count > self.limit
    }

    /// Stored bytes.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The digest with each encoder's header.
    pub(super) fn digests(&self) -> impl Iterator<Item = (&'static Encoder, Digest)> {
        self.hashers
            .iter()
            .map(|(encoder, hasher)| (*encoder, hasher.clone().finish()))
    }
}

impl Write for Output {
    /// Adds all bytes; those over the limit are dropped.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let at = self.count;
        self.count = at.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if !self.is_over() {
            // The header is each encoder's own.
            let rest = usize::try_from(at).map_or(0, |at| HEADER.saturating_sub(at));
            let body = bytes.get(rest..).unwrap_or_default();
            for (_, hasher) in &mut self.hashers {
                hasher.update(body);
            }
            if let Some(file) = &self.file {
                file.write_all_at(bytes, self.start.saturating_add(at))?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
