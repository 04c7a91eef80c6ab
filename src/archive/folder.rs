//! Opens an OCI layout in a folder. Links are not followed, because their targets are not part of the layout.

use std::fs::{DirEntry, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::{Resource, Rlimit};

use super::format;
use super::reader::Opened;
use super::spool::Options;
use super::tar_index::TarIndex;
use super::transport_folder;
use crate::blob::{Extent, Stored};
use crate::error::{Error, Finding, Place, Problem, Result};

/// Opens the layout in a folder. All files are opened at once, so that none can be replaced later.
///
/// # Errors
///
/// As [`super::reader::open_any`].
pub fn open(path: &Path, options: &Options) -> Result<Opened> {
    allow_many_files();
    let mut listing = Listing {
        label: path.display().to_string(),
        index: TarIndex::default(),
    };
    for entry in entries(path)? {
        let name = listing.name(&entry, "");
        if name == "blobs" && is_folder(&entry)? {
            for algorithm in entries(&entry.path())? {
                let name = listing.name(&algorithm, "blobs/");
                if !is_folder(&algorithm)? {
                    listing.file(&algorithm, name)?;
                    continue;
                }
                for blob in entries(&algorithm.path())? {
                    let name = listing.name(&blob, &format!("{name}/"));
                    listing.file(&blob, name)?;
                }
            }
        } else {
            listing.file(&entry, name)?;
        }
    }
    let has = |name: &str| listing.index.files.iter().any(|(file, _)| file == name);
    let others = [format::OCI_LAYOUT, format::INDEX, transport_folder::VERSION];
    if has(format::MANIFEST) && !others.into_iter().any(has) {
        let reason = "these seem to be the files of an archive of `docker save`; pack it into a tar again: \
                      tar -cf images.tar -C FOLDER .";
        let place = Place::default().within(&listing.label);
        return Err(Error::refused(
            place,
            Problem::Document {
                reason: reason.into(),
            },
        ));
    }
    Opened::index(&listing.label, listing.index, options)
}

/// Raises the limit of open files, because each blob stays open, and each connection of a registry. The usual soft limit
/// of 1024 is for programs that use `select`.
pub(crate) fn allow_many_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // If it cannot be raised, opening one file too many returns the error.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
}

/// The entries of a folder, sorted by name.
fn entries(path: &Path) -> Result<Vec<DirEntry>> {
    let mut entries = path
        .read_dir()
        .and_then(Iterator::collect::<std::io::Result<Vec<DirEntry>>>)
        .map_err(Error::io("list", path))?;
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}

fn is_folder(entry: &DirEntry) -> Result<bool> {
    let kind = entry.file_type().map_err(Error::io("read", entry.path()))?;
    Ok(kind.is_dir())
}

struct Listing {
    label: String,
    index: TarIndex,
}

impl Listing {
    fn name(&self, entry: &DirEntry, parent: &str) -> String {
        format!("{parent}{}", entry.file_name().to_string_lossy())
    }

    fn file(&mut self, entry: &DirEntry, name: String) -> Result<()> {
        let path = entry.path();
        let kind = entry.file_type().map_err(Error::io("read", &path))?;
        let what = if kind.is_symlink() {
            Some("symbolic link")
        } else if kind.is_dir() {
            Some("folder")
        } else if kind.is_file() {
            None
        } else {
            Some("device, FIFO or socket")
        };
        match what {
            None => {
                let stored = opened(path, &name)?;
                self.index.files.push((name, stored));
            }
            // A folder of another tool beside the layout, such as podman's or an `ingest` of ours.
            Some("folder") if !name.starts_with("blobs/") => self.note(name, Problem::UnknownFile),
            Some(kind) => self.note(name, Problem::NotAFile { kind }),
        }
        Ok(())
    }

    fn note(&mut self, name: String, problem: Problem) {
        let place = Place::default().within(&self.label).entry(name);
        self.index.findings.push(Finding { place, problem });
    }
}

fn opened(path: PathBuf, name: &str) -> Result<Stored> {
    let open = || -> std::io::Result<(File, u64)> {
        // It may have been replaced since it was listed: do not follow a link, and do not block on a FIFO.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
            .open(&path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(std::io::Error::other("it is not a regular file any more"));
        }
        Ok((file, metadata.len()))
    };
    let (file, length) = open().map_err(|error| {
        let is_one_too_many = rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::MFILE);
        let error = Error::io("open", &path)(error);
        if is_one_too_many {
            return error
                .and_hint("each blob of a folder stays open: raise the limit of open files (ulimit -n)");
        }
        error
    })?;
    let extent = Extent {
        file: Arc::new(file),
        path: Arc::new(path),
        offset: 0,
        length,
    };
    Ok(Stored {
        extents: vec![extent],
        size: length,
        entry: name.into(),
        offset: None,
    })
}
