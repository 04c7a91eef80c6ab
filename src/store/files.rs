//! Files and folders of a store below an open folder. No link is followed, so that none leads out of the store.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::dir::Dir;
use crate::oci::Digest;

/// `FOLDER/sha256/HEX`.
pub fn digest_path(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join(digest.algorithm()).join(digest.hex())
}

/// Opens a folder below another one, following no link; `None` if it does not exist.
///
/// # Errors
///
/// If it cannot be opened, or is not a folder.
pub fn below(root: &Dir, path: &Path) -> io::Result<Option<Dir>> {
    found(root.below(path))
}

/// Opens a file below a folder, following no link; `None` if it does not exist.
///
/// # Errors
///
/// If it cannot be opened, or is not a regular file.
pub fn open_below(root: &Dir, path: &Path) -> io::Result<Option<File>> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = found(root.below(path.parent().unwrap_or(Path::new(""))))?;
    folder.map_or(Ok(None), |folder| found(folder.open_file(name)))
}

fn found<T>(opened: io::Result<T>) -> io::Result<Option<T>> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
