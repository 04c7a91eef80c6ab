//! The folder in which an archive is made, beside where it will be: `.images.tar.sealift-part`. It holds the
//! bytes, the journal and a lock, and everything in it may go when no save is running.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::archive::segments::folder_of;
use crate::error::{Error, Result};

const SUFFIX: &str = ".sealift-part";
const LOCK: &str = "lock";
/// Names that end so are written anew and renamed.
const FRESH: &str = ".new";

/// A folder that is locked for one save.
#[derive(Debug)]
pub struct Workplace {
    folder: PathBuf,
    /// Holds the lock while it is open.
    _lock: File,
}

impl Workplace {
    /// Makes or takes over the folder for an archive at `target`.
    ///
    /// # Errors
    ///
    /// If another save holds it, or the folder cannot be made.
    pub fn claim(target: &Path) -> Result<Workplace> {
        let folder = path_for(target)?;
        loop {
            match fs::DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("create", &folder)(error));
                }
                Err(_) => check_owner(&folder)?,
                Ok(()) => {}
            }
            let path = folder.join(LOCK);
            let opened = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path);
            let lock = match opened {
                Ok(lock) => lock,
                // Another save ended in between and removed the folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io("open", &path)(error)),
            };
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(taken(target, &lock)),
                // A file system without locks: two saves at once are the user's to avoid.
                Err(TryLockError::Error(error)) if no_locks(&error) => {}
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
            }
            // The one that held the lock before may have removed the file that is locked now.
            let held = lock.metadata().map_err(Error::io("read", &path))?;
            if !fs::metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (held.dev(), held.ino())) {
                continue;
            }
            let pid = std::process::id().to_string();
            // Only for the message that another save gets.
            let _ = lock.set_len(0).and_then(|()| (&lock).write_all(pid.as_bytes()));
            return Ok(Workplace { folder, _lock: lock });
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes every file that `keep` does not name.
    ///
    /// # Errors
    ///
    /// If one cannot be removed.
    pub fn clear(&self, keep: &[String]) -> Result<()> {
        clear(&self.folder, |name| {
            name == LOCK || keep.iter().any(|kept| name == kept.as_str())
        })
    }

    /// Removes the folder.
    pub fn remove(&self) {
        remove(&self.folder);
    }
}

/// Removes a workplace's folder, as far as that goes: the lock last, so that nobody takes over what is going.
pub fn remove(folder: &Path) {
    let _ = clear(folder, |name| name == LOCK);
    let _ = fs::remove_file(folder.join(LOCK));
    // Not empty if another save began in it just now: then it is that one's.
    let _ = fs::remove_dir(folder);
}

/// Writes a file of the workplace whole or not at all.
pub fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let fresh = folder.join(format!("{name}{FRESH}"));
    fs::write(&fresh, bytes)?;
    fs::rename(&fresh, folder.join(name))
}

fn clear(folder: &Path, keep: impl Fn(&OsString) -> bool) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        if !keep(&entry.file_name()) {
            fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?;
        }
    }
    Ok(())
}

/// Refuses a folder that somebody else put there: everything in it will be removed or written over.
fn check_owner(folder: &Path) -> Result<()> {
    let meta = match fs::symlink_metadata(folder) {
        Ok(meta) => meta,
        // Another save ended just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("read", folder)(error)),
    };
    if meta.is_dir() && !is_planted(folder, &meta) {
        return Ok(());
    }
    Err(Error::Io {
        action: "use",
        path: folder.to_path_buf(),
        offset: None,
        source: io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is no folder of an earlier save of yours",
        ),
        hint: Some("remove it, or save to another folder".into()),
    })
}

/// Whether an entry of a folder that everybody may write to, such as `/tmp`, is neither this user's nor of
/// whoever owns that folder: the rule of Linux's `protected_symlinks`. Elsewhere owners say nothing: on FAT or
/// a network's file system they may be made up.
pub fn is_planted(path: &Path, meta: &fs::Metadata) -> bool {
    const STICKY_FOR_ALL: u32 = 0o1002;
    fs::metadata(folder_of(path)).is_ok_and(|folder| {
        folder.mode() & STICKY_FOR_ALL == STICKY_FOR_ALL
            && meta.uid() != rustix::process::geteuid().as_raw()
            && meta.uid() != folder.uid()
    })
}

fn path_for(target: &Path) -> Result<PathBuf> {
    let name = target.file_name().ok_or_else(|| Error::Usage {
        message: format!("{} is no name for a file", target.display()),
        hint: None,
    })?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(SUFFIX);
    Ok(target.with_file_name(hidden))
}

fn no_locks(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.kind() == io::ErrorKind::Unsupported
        || [Errno::NOLCK, Errno::NOTSUP, Errno::NOSYS]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn taken(target: &Path, lock: &File) -> Error {
    let mut text = String::new();
    let pid = match lock.take(16).read_to_string(&mut text) {
        Ok(_) if text.parse::<u32>().is_ok() => format!(" (process {text})"),
        _ => String::new(),
    };
    Error::Io {
        action: "write",
        path: target.to_path_buf(),
        offset: None,
        source: io::Error::new(
            io::ErrorKind::WouldBlock,
            format!("another save is writing it{pid}"),
        ),
        hint: Some("wait until it has ended, or name another file".into()),
    }
}
