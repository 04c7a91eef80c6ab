//! Reads a policy and the files that it names.

use std::io;
use std::path::Path;

use super::MAX_FILE;
use crate::dir::{Dir, read_whole};
use crate::error::{Error, Result};

/// Reads a file. Root refuses one that another user could have changed or replaced.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let opened = match rustix::process::geteuid().is_root() {
        true => Dir::locate_private(path).and_then(|located| located.open_private()),
        false => Dir::locate(path).and_then(|located| located.dir.open_file(&located.name)),
    };
    let read = opened.and_then(|file| read_whole(file, MAX_FILE));
    read.map_err(|error| {
        let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
        let error = Error::io("read", path)(error);
        match is_denied && rustix::process::geteuid().is_root() {
            true => error.and_hint("root relies only on files that no other user can write to"),
            false => error,
        }
    })
}
