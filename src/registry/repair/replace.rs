//! Replaces one blob after the other.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::Options;
use crate::blob::{BlobReader, Blobs, Extent, OpenBlob, Stored};
use crate::error::{Error, Remedy, Result};
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, Kind, Repository};
use crate::progress::Progress;
use crate::registry::mirror::Endpoint;
use crate::registry::push::Uploader;
use crate::registry::source::RegistrySource;
use crate::repair::{Fate, Fetch, Offer};

/// Replaces blobs in one registry.
pub(super) struct Replacer<'a> {
    pub source: &'a Arc<RegistrySource>,
    pub options: &'a Options,
    pub progress: &'a dyn Progress,
    pub interrupt: &'a Interrupt,
}

impl Replacer<'_> {
    /// Gives a repository the right bytes of a blob.
    pub fn replace(&self, offer: &Offer, repository: &Arc<Repository>) -> Result<Fate> {
        let blob = &offer.descriptor;
        let at = Endpoint::of(repository);
        if blob.media_type.is_document() {
            let bytes: Arc<[u8]> = offer.document()?.into();
            let client = &self.source.client;
            client.put_manifest(&at, &blob.digest.to_string(), blob, &bytes)?;
            return fate(self.read_again(repository, blob), offer, repository);
        }
        let spooled = self.spool(offer)?;
        self.upload(&at, blob, &spooled)?;
        let read = self.read_again(repository, blob);
        // Only wrong bytes are a reason to delete it: a registry that does not answer may not take it again.
        if !matches!(read, Err(Error::Refused(_))) {
            return fate(read, offer, repository);
        }
        // What is deleted is put back before a signal ends the process.
        let unfinished = format!(
            "{}@{} is deleted and not put back; repair it again",
            repository.familiar(),
            blob.digest
        );
        let hold = self.interrupt.hold(unfinished)?;
        if !self.source.client.remove_blob(&at, &blob.digest) {
            return fate(read, offer, repository);
        }
        self.upload(&at, blob, &spooled).map_err(not_back)?;
        drop(hold);
        fate(self.read_again(repository, blob), offer, repository)
    }

    /// Fetches a blob into a file without a name.
    fn spool(&self, offer: &Offer) -> Result<Spooled> {
        let tmpdir = &self.options.tmpdir;
        let file = tempfile::tempfile_in(tmpdir).map_err(Error::io("write", tmpdir));
        let file = file.map_err(elsewhere)?;
        let fetch = Fetch {
            retry: self.options.retry,
            progress: self.progress,
            interrupt: self.interrupt,
        };
        offer.fetch(&file, tmpdir, &fetch).map_err(elsewhere)?;
        Ok(Spooled {
            label: offer.label.clone(),
            file: Arc::new(file),
            path: Arc::new(tmpdir.clone()),
            size: offer.descriptor.size,
        })
    }

    fn upload(&self, at: &Endpoint, blob: &Descriptor, from: &Spooled) -> Result<()> {
        let uploader = Uploader {
            client: &self.source.client,
            candidates: None,
            blobs: from,
            is_replacing: true,
            progress: self.progress,
            interrupt: self.interrupt,
            part: AtomicU64::default(),
            is_ended: AtomicBool::default(),
        };
        uploader.upload(at, blob, None).map(drop)
    }

    /// Fetches and verifies a blob that was uploaded.
    fn read_again(&self, repository: &Arc<Repository>, blob: &Descriptor) -> Result<()> {
        if blob.media_type.is_document() || blob.media_type.kind() == Kind::Config {
            return self.source.document(repository, blob).map(drop);
        }
        let stream = self.source.stream(repository, blob)?;
        let reader = BlobReader::new(OpenBlob::Stream(Box::new(stream)), blob)?;
        reader.finish().map(drop)
    }
}

/// What became of a blob that was uploaded, by what reading it again gave.
fn fate(read: Result<()>, offer: &Offer, repository: &Repository) -> Result<Fate> {
    let problem = match read {
        Ok(()) => return Ok(Fate::Mended(offer.good())),
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(Error::Refused(finding)) => {
            format!(
                "the registry took the right bytes and keeps the wrong ones: {}",
                finding.problem
            )
        }
        Err(error) => {
            let why = match error {
                Error::Registry { problem, .. } => problem,
                other => other.to_string(),
            };
            format!("the registry took the right bytes, and what it has cannot be read: {why}")
        }
    };
    Ok(Fate::Kept(Error::Registry {
        registry: repository.domain().into(),
        subject: format!("{}@{}", repository.path(), offer.descriptor.digest),
        problem,
        hint: Some(Remedy::RepairStorage.into()),
        transient: false,
    }))
}

/// Blobs are copied into a folder that can be chosen.
fn elsewhere(error: Error) -> Error {
    match error {
        Error::Io {
            action,
            path,
            offset,
            source,
            hint: None,
        } => Error::Io {
            action,
            path,
            offset,
            source,
            hint: Some(Remedy::OtherTemporaryFolder.into()),
        },
        other => other,
    }
}

/// A blob was deleted, and could not be uploaded again.
fn not_back(error: Error) -> Error {
    match error {
        Error::Registry {
            registry,
            subject,
            problem,
            transient,
            ..
        } => Error::Registry {
            registry,
            subject,
            problem: format!("it was deleted to be replaced, and could not be uploaded again: {problem}"),
            hint: Some("repair it again: what was bad is missing now".into()),
            transient,
        },
        other => other,
    }
}

/// A blob in a file of this process, verified.
struct Spooled {
    label: String,
    file: Arc<File>,
    path: Arc<std::path::PathBuf>,
    size: u64,
}

impl Blobs for Spooled {
    fn label(&self) -> &str {
        &self.label
    }

    fn size(&self, _: &Descriptor) -> Result<Option<u64>> {
        Ok(Some(self.size))
    }

    fn open(&self, blob: &Descriptor) -> Result<Option<OpenBlob>> {
        Ok(Some(OpenBlob::Stored(Stored {
            extents: vec![Extent {
                file: Arc::clone(&self.file),
                path: Arc::clone(&self.path),
                offset: 0,
                length: self.size,
            }],
            size: self.size,
            entry: blob.digest.to_string(),
            offset: None,
        })))
    }
}
