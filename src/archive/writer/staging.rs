//! The folder in which an archive is written, beside its target: `.images.tar.sealift-part`. It has the bytes,
//! the journal and a lock. Everything in it may be deleted when no save is running.
//!
//! Another user may own the parent folder. This folder is used only if this user owns it and no other can write
//! to it, and everything in it is accessed by its descriptor.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::dir::{Dir, Located};
use crate::error::{Error, Result};

const SUFFIX: &str = ".sealift-part";
const LOCK: &str = "lock";
/// Suffix of files that are written and then renamed.
const FRESH: &str = ".new";

/// A folder that is locked for one save.
#[derive(Debug)]
pub struct Staging {
    /// Its parent folder.
    parent: Arc<Dir>,
    /// Its name in there.
    name: OsString,
    folder: Arc<Dir>,
    /// Holds the lock while it is open.
    lock: Mutex<Option<File>>,
}

impl Staging {
    /// The name of the folder for an archive of this name.
    pub fn name_of(archive: &OsStr) -> OsString {
        let mut name = OsString::from(".");
        name.push(archive);
        name.push(SUFFIX);
        name
    }

    /// Creates or reuses the folder for an archive at `target`.
    ///
    /// # Errors
    ///
    /// If another save has locked it, if it is not this user's alone, or if it cannot be created.
    pub fn claim(target: &Located) -> Result<Staging> {
        let parent = &target.dir;
        let name = Staging::name_of(&target.name);
        loop {
            match parent.make_dir(&name, 0o700) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("create", parent.join(&name))(error));
                }
                _ => {}
            }
            let folder = match parent.dir(&name) {
                Ok(folder) => folder,
                // Another save ended in the meantime and removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(unusable(&parent.join(&name), error)),
            };
            check_owner(&folder).map_err(|error| unusable(folder.path(), error))?;
            let path = folder.join(LOCK);
            let lock = match folder.open_or_create(LOCK, 0o600) {
                Ok(lock) => lock,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(unusable(&path, error)),
            };
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(taken(target, &lock)),
                // A file system without locks: the user must not run two saves at once.
                Err(TryLockError::Error(error)) if no_locks(&error) => {}
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
            }
            // The previous owner of the lock may have removed the file that is locked now.
            if !is_same(&lock, folder.open_file(LOCK)).map_err(Error::io("read", &path))? {
                continue;
            }
            let pid = std::process::id().to_string();
            // Only for the message that another save prints.
            let _ = lock.set_len(0).and_then(|()| (&lock).write_all(pid.as_bytes()));
            return Ok(Staging {
                parent: parent.clone(),
                name,
                folder: Arc::new(folder),
                lock: Mutex::new(Some(lock)),
            });
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Arc<Dir> {
        &self.folder
    }

    /// Removes every file that is not in `keep`.
    ///
    /// # Errors
    ///
    /// If one cannot be removed.
    pub fn clear(&self, keep: &[String]) -> Result<()> {
        let folder = &self.folder;
        for name in folder.names().map_err(Error::io("read", folder.path()))? {
            if name != LOCK && !keep.iter().any(|kept| name == kept.as_str()) {
                folder
                    .remove_file(&name)
                    .map_err(Error::io("remove", folder.join(&name)))?;
            }
        }
        Ok(())
    }

    /// Removes the folder as far as possible: the lock last, so that no other save uses it while it is being
    /// removed.
    pub fn remove(&self) {
        let _ = self.clear(&[]);
        let _ = self.folder.remove_file(LOCK);
        // Some file systems keep an open file in its folder, under another name.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        // Not empty if another save has just started in it.
        let _ = self.parent.remove_dir(&self.name);
    }
}

/// Replaces a file of the staging folder atomically.
pub fn replace(folder: &Dir, name: &str, bytes: &[u8]) -> io::Result<()> {
    let fresh = format!("{name}{FRESH}");
    match folder.remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    folder.create_file(&fresh, 0o600)?.write_all(bytes)?;
    folder.rename(&fresh, folder, name)
}

/// Refuses a folder that another user created or can write to: everything in it will be removed or overwritten.
fn check_owner(folder: &Dir) -> io::Result<()> {
    let meta = folder.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    let is_own = meta.uid() == own;
    let is_closed = meta.mode() & 0o022 == 0;
    if is_own && is_closed {
        return Ok(());
    }
    // On FAT or a network file system, owners and modes may be invented: a new file shows it.
    let probe = format!("probe{FRESH}");
    let _ = folder.remove_file(&probe);
    let made = folder.create_file(&probe, 0o600).and_then(|file| file.metadata());
    let _ = folder.remove_file(&probe);
    let (uid, mode) = made.map_or((own, 0), |made| (made.uid(), made.mode()));
    let reason = if !is_own && (uid == own || uid != meta.uid()) {
        "it belongs to another user"
    } else if !is_closed && mode & 0o077 == 0 {
        "other users can write to it"
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}

/// The error if the folder cannot be that of an earlier save.
fn unusable(path: &Path, source: io::Error) -> Error {
    Error::Io {
        action: "use",
        path: path.to_path_buf(),
        offset: None,
        source: source.into(),
        hint: Some("remove it, or write to another folder".into()),
    }
}

/// Whether an open file is the one that a name refers to now.
fn is_same(file: &File, named: io::Result<File>) -> io::Result<bool> {
    let id = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino()));
    match named {
        Ok(named) => Ok(id(file)? == id(&named)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn no_locks(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.kind() == io::ErrorKind::Unsupported
        || [Errno::NOLCK, Errno::NOTSUP, Errno::NOSYS]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn taken(target: &Located, lock: &File) -> Error {
    let mut text = String::new();
    let pid = match lock.take(16).read_to_string(&mut text) {
        Ok(_) if text.parse::<u32>().is_ok() => format!(" (process {text})"),
        _ => String::new(),
    };
    Error::Io {
        action: "write",
        path: target.path(),
        offset: None,
        source: io::Error::new(
            io::ErrorKind::WouldBlock,
            format!("another sealift process is writing it{pid}"),
        )
        .into(),
        hint: Some("wait until it has ended, or name another output".into()),
    }
}
