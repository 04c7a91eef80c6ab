//! Files that are replaced as a whole, with owner and mode kept, while the registry reads them.
//!
//! New files are written into a folder beside the blobs, which a lock keeps for one repair. What an interrupted repair
//! left there, the next one removes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, FlockOperation, flock, statat};

use super::super::hashing::STAGING;
use super::super::layout::Storage;
use crate::dir::Dir;
use crate::error::{Error, Result};

/// The folder of files that are not complete yet.
pub(super) struct Staging<'a> {
    storage: &'a Storage,
    blobs: &'a Dir,
    dir: Dir,
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

impl<'a> Staging<'a> {
    /// Opens the folder, alone, and removes what an interrupted repair left.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or another repair is under way.
    pub fn open(storage: &'a Storage) -> Result<Staging<'a>> {
        let root = storage.root();
        let blobs = storage.blobs().ok_or_else(|| Error::NotFound {
            what: "blobs".into(),
            place: root.path().display().to_string(),
            hint: None,
        })?;
        let failed = |error| Error::io("write", blobs.join(STAGING))(error);
        match blobs.make_dir(STAGING, 0o700) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let dir = blobs.dir(STAGING).map_err(failed)?;
        if let Err(error) = flock(dir.as_file(), FlockOperation::NonBlockingLockExclusive) {
            return Err(match error {
                rustix::io::Errno::WOULDBLOCK => Error::Usage {
                    message: format!("another repair of {} is under way", storage.label()),
                    hint: None,
                },
                error => failed(error.into()),
            });
        }
        for name in dir.names().map_err(failed)? {
            dir.remove_file(&name).map_err(failed)?;
        }
        Ok(Staging { storage, blobs, dir })
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
        let mut file = self.dir.create_file(name, 0o600).map_err(failed)?;
        let written = write(&mut file).and_then(|()| self.put(&file, entry, name).map_err(failed));
        if written.is_err() {
            let _ = self.dir.remove_file(name);
        }
        written
    }

    fn put(&self, file: &File, entry: &str, name: &str) -> io::Result<()> {
        let folder = self.folder(entry)?;
        Access::of(&folder, name)?.give(file)?;
        file.sync_all()?;
        self.dir.rename(name, &folder, name)?;
        folder.sync()
    }

    /// The folder of an entry. Folders that are missing are made as the one above is.
    fn folder(&self, entry: &str) -> io::Result<Dir> {
        let mut at = self.storage.root().below(Path::new(""))?;
        let parts = Path::new(entry).parent().unwrap_or(Path::new(""));
        for part in parts.components() {
            let part = part.as_os_str();
            let below = match at.dir(part) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let meta = at.metadata()?;
                    match at.make_dir(part, 0o700) {
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                        made => {
                            let below = at.dir(part)?;
                            if made.is_ok() {
                                let (uid, gid) = (meta.uid(), meta.gid());
                                let mode = meta.mode() & 0o777;
                                Access { uid, gid, mode }.give(below.as_file())?;
                                at.sync()?;
                            }
                            below
                        }
                    }
                }
                below => below?,
            };
            at = below;
        }
        Ok(at)
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

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        let _ = self.blobs.remove_dir(STAGING);
    }
}
