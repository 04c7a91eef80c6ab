//! A folder of temporary files with a password, and the removal of those that a killed load has left.
//!
//! The living owner of a folder has a lock on a file in it. The kernel gives the lock up when the owner ends, in whatever
//! way.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::dir::Dir;

/// How the names of the folders begin.
const PREFIX: &str = "sealift-";
/// The file that the owner of a folder has a lock on.
const LOCK: &str = "lock";
/// Its name until it is locked.
const UNLOCKED: &str = "lock.new";

/// A folder that only this user may enter. Dropping it removes it.
#[derive(Debug)]
pub struct PrivateFolder {
    folder: TempDir,
    _lock: File,
}

impl PrivateFolder {
    /// Creates one in a folder, whatever the umask is.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn create(inside: &Path) -> io::Result<PrivateFolder> {
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(inside)?;
        let path = |name: &str| folder.path().join(name);
        let lock = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path(UNLOCKED))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        // So there is never a lock file that its living owner has not locked.
        fs::rename(path(UNLOCKED), path(LOCK))?;
        Ok(PrivateFolder { folder, _lock: lock })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Whether a killed load of this user has left a folder here.
pub fn has_abandoned(inside: &Path) -> bool {
    abandoned(inside).next().is_some()
}

/// Removes the folders that killed loads of this user have left here. Returns their number. No link is followed.
pub fn remove_abandoned(inside: &Path) -> usize {
    abandoned(inside).filter(|found| found.remove().is_ok()).count()
}

/// A folder whose owner has ended.
struct Abandoned {
    inside: Dir,
    folder: Dir,
    name: std::ffi::OsString,
    /// So that another process does not remove it too.
    _lock: File,
}

impl Abandoned {
    fn find(inside: &Path, name: &OsStr) -> io::Result<Abandoned> {
        let inside = Dir::open(inside)?;
        let folder = inside.dir(name)?;
        if folder.metadata()?.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let lock = folder.open_file(LOCK)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Abandoned {
            inside,
            folder,
            name: name.into(),
            _lock: lock,
        })
    }

    fn remove(&self) -> io::Result<()> {
        // The lock goes last: without it the folder would not be found again.
        let names = self.folder.names()?.into_iter();
        for name in names.filter(|name| name != LOCK) {
            self.folder.remove_file(&name)?;
        }
        self.folder.remove_file(LOCK)?;
        self.inside.remove_dir(&self.name)
    }
}

fn abandoned(inside: &Path) -> impl Iterator<Item = Abandoned> {
    let names = Dir::open(inside).and_then(|inside| inside.names());
    let names = names.unwrap_or_default().into_iter();
    let ours = names.filter(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
    ours.filter_map(|name| Abandoned::find(inside, &name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_whose_owner_has_ended_are_removed() {
        let inside = tempfile::tempdir().unwrap();
        let inside = inside.path();
        let living = PrivateFolder::create(inside).unwrap();
        assert_eq!(living.path().metadata().unwrap().mode() & 0o777, 0o700);
        fs::write(living.path().join("auth.json"), "{}").unwrap();
        // Others have a similar name, or are no folders.
        let other = inside.join("sealift-other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("auth.json"), "{}").unwrap();
        fs::write(inside.join("sealift-file"), "").unwrap();
        assert_eq!((has_abandoned(inside), remove_abandoned(inside)), (false, 0));

        // What a killed load leaves: the lock ends with it.
        let killed = PrivateFolder::create(inside).unwrap();
        let PrivateFolder { folder, _lock } = killed;
        drop(_lock);
        let left = folder.keep();
        let target = inside.join("target");
        fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, left.join("link")).unwrap();
        fs::write(left.join("auth.json"), "{}").unwrap();
        std::os::unix::fs::symlink(&left, inside.join("sealift-link")).unwrap();
        assert_eq!((has_abandoned(inside), remove_abandoned(inside)), (true, 1));
        assert!(!left.exists());
        assert_eq!(fs::read_to_string(target).unwrap(), "kept");
        assert!(other.join("auth.json").exists() && living.path().join("auth.json").exists());
        let path = living.path().to_path_buf();
        drop(living);
        assert!(!path.exists());
    }
}
