//! Renames a finished archive, in an order that never mixes files of an old and a new one. The names are at an
//! archive's end, so the old last part is removed first, and the new last part is renamed last.
//!
//! Another user may own the folder. Its path is resolved once. A rename replaces anything with that name, be it
//! a link, a FIFO or a file of another user; it follows no link and does not block.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, AtFlags, FileType, accessat};

use super::segments::Segments;
use super::staging::Staging;
use crate::archive::tar_plan;
use crate::dir::{Dir, Located};
use crate::error::{Error, NewFile, Remedy, Result};
use crate::escape::shell_word;

/// Opens the folder of an archive. If the archive is a link, it is followed, so that the target is replaced and
/// the link stays, unless another user made it.
///
/// # Errors
///
/// If the folder cannot be opened, or the path has a link of another user.
pub fn locate(target: &Path) -> Result<Located> {
    Dir::locate(target).map_err(|source| match source.kind() {
        io::ErrorKind::InvalidInput => Error::Usage {
            message: format!("{} is not a file name", target.display()),
            hint: None,
        },
        io::ErrorKind::PermissionDenied => Error::Io {
            action: "write",
            path: target.to_path_buf(),
            offset: None,
            source: source.into(),
            hint: Some("remove it, or name another file".into()),
        },
        io::ErrorKind::NotFound => {
            let folder = target.parent().unwrap_or(target).display().to_string();
            Error::Io {
                action: "write to",
                path: target.to_path_buf(),
                offset: None,
                source: source.into(),
                hint: Some(format!("mkdir -p {}", shell_word(&folder)).into()),
            }
        }
        _ => Error::io("write to", target)(source),
    })
}

/// Checks, before anything is fetched, that an archive can be written to `path`: its folder exists and is
/// writable, and the name is not a folder. `remedy` makes the advice for a save or for a load.
///
/// # Errors
///
/// Says what prevents it, and what to do.
pub fn check_place(path: &Path, is_split: bool, remedy: fn(NewFile) -> Remedy) -> Result<()> {
    let shown = path.display();
    let usage = |message, file| {
        Err(Error::Usage {
            message,
            hint: Some(remedy(file).into()),
        })
    };
    if path.as_os_str().as_bytes().ends_with(b"/") || path.is_dir() {
        return usage(
            format!("{shown} names a folder, not a file"),
            NewFile::Whole(path.join("images.tar")),
        );
    }
    if let (true, Some("001"), Some(stem)) = (
        is_split,
        path.extension().and_then(OsStr::to_str),
        path.file_stem(),
    ) {
        return usage(
            format!("{shown} names the first part: the parts of {shown} would be {shown}.001, ..."),
            NewFile::Parts(path.with_file_name(stem)),
        );
    }
    let located = locate(path)?;
    let kind = located.kind().map_err(Error::io("look at", path))?;
    if !matches!(kind, None | Some(FileType::RegularFile)) {
        // A device or FIFO is written to; its folder is not.
        return Ok(());
    }
    let folder = located.dir.as_file();
    let access = Access::WRITE_OK.union(Access::EXEC_OK);
    accessat(folder, ".", access, AtFlags::EACCESS).map_err(|errno| Error::Io {
        action: "write to the folder",
        path: located.dir.path().to_path_buf(),
        offset: None,
        source: Arc::new(errno.into()),
        hint: Some(remedy(NewFile::Elsewhere).into()),
    })
}

/// Checks that the archive's files can have their names.
///
/// # Errors
///
/// If one of them is a folder or another special file.
pub fn check(target: &Located, parts: &[Range<u64>], is_split: bool) -> Result<()> {
    for name in names(target, parts.len(), is_split) {
        let kind = target
            .dir
            .kind(&name)
            .map_err(Error::io("look at", target.dir.join(&name)))?;
        // A link in place of a part is replaced.
        if !matches!(kind, None | Some(FileType::RegularFile | FileType::Symlink)) {
            return Err(Error::Usage {
                message: format!("{} is not a regular file", target.dir.join(&name).display()),
                hint: Some("name a file to write to".into()),
            });
        }
    }
    Ok(())
}

/// Renames finished files. Returns their names.
///
/// # Errors
///
/// If a file cannot be renamed or removed, or the folder not synced.
pub fn publish(
    target: &Located,
    staging: &Staging,
    segments: &Segments,
    is_split: bool,
) -> Result<Vec<PathBuf>> {
    let dir = &target.dir;
    let names = names(target, segments.0.len(), is_split);
    if is_split {
        remove_parts(target)?;
    }
    for (segment, name) in segments.0.iter().zip(&names) {
        let renamed = staging.folder().rename(&segment.name, dir, name);
        renamed.map_err(Error::io("rename to", dir.join(name)))?;
    }
    sync(dir)?;
    // The older archive, in the other form.
    if !is_split {
        remove_parts(target)?;
    } else if is_ours(dir, &target.name) {
        dir.remove_file(&target.name)
            .map_err(Error::io("remove", target.path()))?;
        sync(dir)?;
    }
    Ok(names.iter().map(|name| dir.join(name)).collect())
}

/// The name of a part: `images.tar.001` for number 1.
pub fn part_name(target: &Located, number: usize) -> OsString {
    let mut name = target.name.clone();
    name.push(format!(".{number:03}"));
    name
}

fn names(target: &Located, count: usize, is_split: bool) -> Vec<OsString> {
    if is_split {
        (1..=count).map(|number| part_name(target, number)).collect()
    } else {
        vec![target.name.clone()]
    }
}

/// Removes the parts of an older archive, the last one first.
fn remove_parts(target: &Located) -> Result<()> {
    let dir = &target.dir;
    if !is_ours(dir, &part_name(target, 1)) {
        return Ok(());
    }
    let parts: Vec<OsString> = (1..)
        .map(|number| part_name(target, number))
        .take_while(|name| matches!(dir.kind(name), Ok(Some(FileType::RegularFile))))
        .collect();
    for name in parts.iter().rev() {
        dir.remove_file(name)
            .map_err(Error::io("remove", dir.join(name)))?;
    }
    sync(dir)
}

/// Whether a file begins like an archive of ours. Other files are not removed.
fn is_ours(dir: &Dir, name: &OsString) -> bool {
    let mut start = [0; 512];
    dir.open_file(name)
        .is_ok_and(|mut file| file.read_exact(&mut start).is_ok())
        && tar_plan::first_block().is_ok_and(|block| block == start)
}

/// Syncs renames to disk.
fn sync(dir: &Dir) -> Result<()> {
    dir.sync().map_err(Error::io("sync", dir.path()))
}
