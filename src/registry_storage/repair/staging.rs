//! Files that are replaced as a whole, with owner and mode kept, while the registry reads them.
//!
//! New files and folders are made in a folder beside `blobs` and `repositories`, which a lock keeps for one repair. They
//! are renamed to their places when they are complete. A repair that ends or gets a signal removes the folder. One that
//! is killed leaves it, and the next repair removes what is in it.
//!
//! A repair may run as root in a storage of the registry's user. The staging folder belongs to the user of the repair
//! and has mode 0700, so the registry's user cannot change the files in it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, FlockOperation, flock, statat};
use rustix::process::geteuid;

use super::super::layout::{STAGING, Storage};
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::interrupt::{Guard, Interrupt};

/// Files that are not complete yet.
pub(super) struct Staging<'a> {
    storage: &'a Storage,
    folder: Arc<Folder>,
    _guard: Guard,
}

/// The folder of these files.
struct Folder {
    above: Dir,
    dir: Dir,
    is_removed: Mutex<bool>,
}

/// Who owns a file, and who may do what with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Access {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Access {
    /// That of a folder's files, by the folder's own.
    fn of_files_in(dir: &Dir) -> io::Result<Access> {
        let meta = dir.metadata()?;
        Ok(Access {
            uid: meta.uid(),
            gid: meta.gid(),
            mode: meta.mode() & 0o666,
        })
    }

    /// That of a regular file, else as its folder suggests.
    fn of(dir: &Dir, name: &str) -> io::Result<Access> {
        match statat(dir.as_file(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(Access {
                uid: stat.st_uid,
                gid: stat.st_gid,
                mode: stat.st_mode & 0o777,
            }),
            _ => Access::of_files_in(dir),
        }
    }

    /// Gives it to an open file or folder.
    fn give(self, file: &File) -> io::Result<()> {
        let now = file.metadata()?;
        if (now.uid(), now.gid()) != (self.uid, self.gid) {
            fchown(file, Some(self.uid), Some(self.gid))?;
        }
        file.set_permissions(std::fs::Permissions::from_mode(self.mode))
    }
}

/// The name of a new folder in the staging folder.
const NEW_FOLDER: &str = "folder";
/// Times that the staging folder is made again if it vanishes or belongs to another user.
const ATTEMPTS: usize = 10;

impl<'a> Staging<'a> {
    /// Opens the folder, alone, and removes what an interrupted repair left.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or another repair is under way.
    pub fn open(storage: &'a Storage, interrupt: &Interrupt) -> Result<Staging<'a>> {
        let root = storage.root();
        let failed = |error| Error::io("write", root.join(STAGING))(error);
        let above = root.below(Path::new("")).map_err(failed)?;
        let folder = Arc::new(Folder {
            dir: enter(&above).map_err(failed)?,
            above,
            is_removed: Mutex::new(false),
        });
        let guard = interrupt.on_stop({
            let folder = Arc::clone(&folder);
            move || folder.remove()
        });
        Ok(Staging {
            storage,
            folder,
            _guard: guard,
        })
    }

    /// Writes a file with `write`, and puts it in the place of an entry, which need not exist.
    ///
    /// # Errors
    ///
    /// Those of `write`; then the entry is unchanged.
    pub fn replace(&self, entry: &str, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
        let path = self.storage.root().join(entry);
        let failed = |error| Error::io("write", &path)(error);
        let name = Path::new(entry).file_name().and_then(OsStr::to_str);
        let name = name.ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        // One file after the other is written here.
        let mut file = self.folder.dir.create_file(name, 0o600).map_err(failed)?;
        let written = write(&mut file).and_then(|()| self.put(&file, entry, name).map_err(failed));
        if written.is_err() {
            let _ = self.folder.dir.remove_file(name);
        }
        written
    }

    fn put(&self, file: &File, entry: &str, name: &str) -> io::Result<()> {
        let folder = self.folder_of(entry)?;
        Access::of(&folder, name)?.give(file)?;
        file.sync_all()?;
        match self.folder.dir.rename(name, &folder, name) {
            // A planted folder. If it is not empty, it stays.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                folder.remove_dir(name)?;
                self.folder.dir.rename(name, &folder, name)?;
            }
            renamed => renamed?,
        }
        folder.sync()
    }

    /// The folder of an entry. Folders that are missing are made.
    fn folder_of(&self, entry: &str) -> io::Result<Dir> {
        let mut at = self.storage.root().below(Path::new(""))?;
        let parts = Path::new(entry).parent().unwrap_or(Path::new(""));
        for part in parts.components() {
            let part = part.as_os_str();
            at = match at.dir(part) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.make_folder(&at, part)?;
                    at.dir(part)?
                }
                below => below?,
            };
        }
        Ok(at)
    }

    /// Makes a folder with the owner and mode of the one above it. It has them before it is in its place: a registry
    /// could not enter one that a kill left as it was made.
    fn make_folder(&self, above: &Dir, name: &OsStr) -> io::Result<()> {
        let meta = above.metadata()?;
        self.folder.dir.make_dir(NEW_FOLDER, 0o700)?;
        let access = Access {
            uid: meta.uid(),
            gid: meta.gid(),
            mode: meta.mode() & 0o777,
        };
        let placed = access
            .give(self.folder.dir.dir(NEW_FOLDER)?.as_file())
            .and_then(|()| self.folder.dir.rename(NEW_FOLDER, above, name));
        match placed {
            Ok(()) => above.sync(),
            Err(error) => {
                self.folder.dir.remove_dir(NEW_FOLDER)?;
                match above.kind(name)? {
                    // The registry has made it meanwhile.
                    Some(FileType::Directory) => Ok(()),
                    _ => Err(error),
                }
            }
        }
    }

    /// Writes a link.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn link(&self, entry: &str, text: &str) -> Result<()> {
        self.replace(entry, |file| {
            let written = file.write_all(text.as_bytes());
            written.map_err(Error::io("write", self.storage.root().join(entry)))
        })
    }
}

/// Makes the folder of files that are not complete yet, or empties that of an interrupted repair, and locks it.
pub(super) fn enter(above: &Dir) -> io::Result<Dir> {
    for _ in 0..ATTEMPTS {
        match above.make_dir(STAGING, 0o700) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let dir = match above.dir(STAGING) {
            // A repair has just ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        let meta = dir.metadata()?;
        let is_this_users = meta.uid() == geteuid().as_raw();
        match flock(dir.as_file(), FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut reason = "another repair is under way".to_owned();
                if !is_this_users {
                    reason = format!(
                        "{reason}, or another user locks it: it belongs to uid {}",
                        meta.uid()
                    );
                }
                return Err(io::Error::new(io::ErrorKind::WouldBlock, reason));
            }
            locked => locked?,
        }
        empty(&dir)?;
        let is_own = is_this_users && meta.mode() & 0o077 == 0;
        if is_own && is_at(above, &meta)? {
            return Ok(dir);
        }
        match above.remove_dir(STAGING) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Err(io::Error::other("another user makes it again and again"))
}

/// Whether the staging folder is the one with this metadata.
fn is_at(above: &Dir, meta: &std::fs::Metadata) -> io::Result<bool> {
    match statat(above.as_file(), STAGING, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => Ok(false),
        #[allow(clippy::useless_conversion, reason = "the types differ between systems")]
        stat => stat.map(|stat| stat.st_ino == meta.ino()).map_err(Into::into),
    }
}

/// Removes the files and the new folder of an interrupted repair.
fn empty(dir: &Dir) -> io::Result<()> {
    for name in dir.names()? {
        match dir.kind(&name)? {
            Some(FileType::Directory) => dir.remove_dir(&name).map_err(|error| match error.kind() {
                io::ErrorKind::DirectoryNotEmpty => io::Error::new(
                    error.kind(),
                    format!(
                        "no repair made the folder {} in it; remove it",
                        name.to_string_lossy()
                    ),
                ),
                _ => error,
            })?,
            _ => dir.remove_file(&name)?,
        }
    }
    Ok(())
}

impl Folder {
    /// Removes the folder, once: afterwards it may be another repair's.
    fn remove(&self) {
        let mut is_removed = self.is_removed.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut is_removed, true) {
            return;
        }
        // A repair that gets a signal may write until it looks for one.
        for _ in 0..ATTEMPTS {
            let _ = empty(&self.dir);
            match self.above.remove_dir(STAGING) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                _ => return,
            }
        }
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        self.folder.remove();
    }
}
