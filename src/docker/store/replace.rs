//! Replaces `repositories.json`, and keeps the old file until the new one has proved itself. Also the lock that
//! tells whether a daemon uses the store.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::Path;

use crate::dir::Dir;
use crate::docker::daemon::overmount::copy_access;
use crate::docker::store::files::Files;
use crate::oci::Digest;
use crate::store::files::open_below;

/// The list of names.
const NAMES: &str = "repositories.json";
/// The name of the old file.
const KEPT: &str = "repositories.json.sealift-old";
/// The name of the new file while it is written.
const FRESH: &str = "repositories.json.sealift-new";

/// Held while no daemon can use the store.
#[derive(Debug)]
pub struct Unused {
    /// The locked data root: files are written there and nowhere else.
    root: Dir,
    /// The lock is held as long as the file is open.
    _lock: Option<File>,
}

impl Files {
    /// Locks the store if no daemon uses it. A daemon that starts in the meantime waits for a second.
    ///
    /// Source: moby, `volume/service/store.go`: a running daemon holds a lock on the list of volumes, from
    /// before it reads the names until it ends.
    ///
    /// # Errors
    ///
    /// If the lock cannot be checked. `None` if a daemon uses the store.
    pub fn take(&self) -> io::Result<Option<Unused>> {
        let root = self.root()?;
        let lock = open_below(&root, Path::new("volumes/metadata.db"))?;
        match lock.as_ref().map_or(Ok(()), File::try_lock) {
            Ok(()) => Ok(Some(Unused { root, _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether a daemon uses the store. If that is not known, it counts as used.
    pub fn is_used(&self) -> bool {
        !matches!(self.take(), Ok(Some(_)))
    }

    /// Writes the new names beside the old ones with their owner, mode and label, keeps the old ones under
    /// another name, and renames the new ones.
    ///
    /// # Errors
    ///
    /// If a step fails. The old names are in place then, unless only the last sync failed.
    pub fn exchange(&self, content: &[u8], unused: &Unused) -> io::Result<()> {
        let images = self.images_in(&unused.root)?;
        settle(&images)?;
        let mut file = images.create_file(FRESH, 0o600)?;
        file.write_all(content)?;
        if images.kind(NAMES)?.is_some() {
            copy_access(&images.open_file(NAMES)?, &file)?;
            // Another name of the same file: when restored, it is the same file down to its inode.
            images.hard_link(NAMES, KEPT)?;
        }
        file.sync_all()?;
        images.rename(FRESH, &images, NAMES)?;
        images.sync()
    }

    /// Restores the old names if the current ones are those that we wrote. Returns whether they were.
    ///
    /// # Errors
    ///
    /// If they cannot be restored.
    pub fn put_back(&self, ours: &Digest, had_names: bool, unused: &Unused) -> io::Result<bool> {
        let in_place = self.read()?.map(|bytes| Digest::sha256(&bytes));
        if in_place != Some(*ours) {
            return Ok(false);
        }
        let images = self.images_in(&unused.root)?;
        if had_names {
            images.rename(KEPT, &images, NAMES)?;
        } else {
            images.remove_file(NAMES)?;
        }
        images.sync()?;
        Ok(true)
    }

    /// Removes our files beside the names.
    ///
    /// # Errors
    ///
    /// If they cannot be removed.
    pub fn settle(&self) -> io::Result<()> {
        settle(&self.images_in(&self.root()?)?)
    }

    fn images_in(&self, root: &Dir) -> io::Result<Dir> {
        root.below(self.inside(&self.images())?)
    }
}

fn settle(images: &Dir) -> io::Result<()> {
    let mut changed = false;
    for name in [FRESH, KEPT] {
        match images.remove_file(name) {
            Ok(()) => changed = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if changed { images.sync() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    use super::*;

    fn store() -> (tempfile::TempDir, Files) {
        let home = tempfile::tempdir().unwrap();
        let files = Files {
            data_root: home.path().into(),
            driver: "overlay2".into(),
            through: None,
        };
        fs::create_dir_all(files.images()).unwrap();
        fs::create_dir(home.path().join("volumes")).unwrap();
        fs::write(home.path().join("volumes/metadata.db"), "").unwrap();
        (home, files)
    }

    fn listed(files: &Files) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(files.images())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_old_names_come_back_as_they_were() {
        let (_home, files) = store();
        fs::write(files.names(), "old").unwrap();
        fs::set_permissions(files.names(), fs::Permissions::from_mode(0o640)).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            chown(files.names(), Some(65534), Some(65534)).unwrap();
        }
        let before = fs::metadata(files.names()).unwrap();
        let unused = files.take().unwrap().unwrap();
        files.exchange(b"new", &unused).unwrap();
        let after = fs::metadata(files.names()).unwrap();
        assert_eq!(
            (after.mode(), after.uid(), after.gid()),
            (before.mode(), before.uid(), before.gid())
        );
        assert_eq!(files.read().unwrap().unwrap(), b"new");
        assert_eq!(listed(&files).len(), 2);
        assert!(!files.put_back(&Digest::sha256(b"other"), true, &unused).unwrap());
        assert!(files.put_back(&Digest::sha256(b"new"), true, &unused).unwrap());
        assert_eq!(files.read().unwrap().unwrap(), b"old");
        assert_eq!(fs::metadata(files.names()).unwrap().ino(), before.ino());
        files.exchange(b"new", &unused).unwrap();
        files.settle().unwrap();
        assert_eq!(listed(&files), ["repositories.json"]);
        assert_eq!(files.read().unwrap().unwrap(), b"new");
    }

    #[test]
    fn a_store_without_names_gets_them_and_loses_them() {
        let (_home, files) = store();
        assert_eq!(files.read().unwrap(), None);
        let unused = files.take().unwrap().unwrap();
        files.exchange(b"new", &unused).unwrap();
        assert_eq!(fs::metadata(files.names()).unwrap().mode() & 0o777, 0o600);
        assert!(files.put_back(&Digest::sha256(b"new"), false, &unused).unwrap());
        assert_eq!(listed(&files), [""; 0]);
        symlink("/etc/passwd", files.names()).unwrap();
        assert!(files.read().is_err());
    }

    #[test]
    fn one_at_a_time_has_the_store() {
        let (_home, files) = store();
        let unused = files.take().unwrap();
        assert!(unused.is_some());
        assert!(files.is_used());
        drop(unused);
        assert!(!files.is_used());
    }
}
