//! Gives a finished archive its name, in an order that leaves no moment in which files of an old and a new
//! archive together name something. Names stand at an archive's end: so the old last part goes first, and the
//! new last part comes last.

use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::segments::Segments;
use super::workplace::is_planted;
use crate::archive::layout;
use crate::archive::segments::{folder_of, part_path};
use crate::error::{Error, Result};

/// Follows a link at `target`, so that the file it points to is replaced and the link stays.
///
/// # Errors
///
/// If the link cannot be read, or somebody else put it where everybody may.
pub fn resolve(target: &Path) -> Result<PathBuf> {
    let link = fs::symlink_metadata(target);
    let Some(link) = link.ok().filter(fs::Metadata::is_symlink) else {
        return Ok(target.to_path_buf());
    };
    if is_planted(target, &link) {
        return Err(Error::Io {
            action: "write",
            path: target.to_path_buf(),
            offset: None,
            source: std::io::Error::new(
                std::io::ErrorKind::PermissionDenied,
                "it is a link of another user",
            ),
            hint: Some("remove it, or name another file".into()),
        });
    }
    match fs::canonicalize(target) {
        Ok(path) => Ok(path),
        // It points to where nothing is yet.
        Err(_) => {
            let link = fs::read_link(target).map_err(Error::io("read", target))?;
            Ok(folder_of(target).join(link))
        }
    }
}

/// Checks that the archive's files can have their names.
///
/// # Errors
///
/// If a folder stands there, or the folder around it does not exist.
pub fn check(target: &Path, parts: &[Range<u64>], is_split: bool) -> Result<()> {
    let folder = folder_of(target);
    if !fs::metadata(folder)
        .map_err(Error::io("write to", folder))?
        .is_dir()
    {
        return Err(Error::io("write to", folder)(
            std::io::ErrorKind::NotADirectory.into(),
        ));
    }
    for path in names(target, parts.len(), is_split) {
        if fs::metadata(&path).is_ok_and(|meta| !meta.is_file()) {
            return Err(Error::Usage {
                message: format!("{} is not a regular file", path.display()),
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
/// If a file cannot be renamed or removed, or the folder not be synced.
pub fn publish(target: &Path, segments: &Segments, is_split: bool) -> Result<Vec<PathBuf>> {
    let folder = folder_of(target);
    let names = names(target, segments.0.len(), is_split);
    if is_split {
        remove_parts(target)?;
    }
    for (segment, name) in segments.0.iter().zip(&names) {
        fs::rename(&segment.path, name).map_err(Error::io("rename to", name))?;
    }
    sync_folder(folder)?;
    // What the archive was before, in the other form.
    if !is_split {
        remove_parts(target)?;
    } else if is_ours(target) {
        fs::remove_file(target).map_err(Error::io("remove", target))?;
        sync_folder(folder)?;
    }
    Ok(names)
}

fn names(target: &Path, count: usize, is_split: bool) -> Vec<PathBuf> {
    if is_split {
        (1..=count).map(|number| part_path(target, number)).collect()
    } else {
        vec![target.to_path_buf()]
    }
}

/// Removes the parts of an older archive, the last one first.
fn remove_parts(target: &Path) -> Result<()> {
    if !is_ours(&part_path(target, 1)) {
        return Ok(());
    }
    let parts: Vec<PathBuf> = (1..)
        .map(|number| part_path(target, number))
        .take_while(|path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file()))
        .collect();
    for path in parts.iter().rev() {
        fs::remove_file(path).map_err(Error::io("remove", path))?;
    }
    sync_folder(folder_of(target))
}

/// Whether a file begins as our archives do. Others' files are not removed.
fn is_ours(path: &Path) -> bool {
    let mut start = [0; 512];
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
        && File::open(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok())
        && layout::first_block().is_ok_and(|block| block == start)
}

/// Makes renames durable.
fn sync_folder(folder: &Path) -> Result<()> {
    use rustix::io::Errno;
    let error = match File::open(folder).and_then(|folder| folder.sync_all()) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    // Some file systems have no such operation on folders: there is nothing to be had then.
    let none = [Errno::INVAL, Errno::NOTSUP, Errno::BADF];
    if none
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
    {
        return Ok(());
    }
    Err(Error::io("sync", folder)(error))
}
