//! Putting another `repositories.json` in the place of the old one, which is kept until the new one has
//! proved itself; and the lock that tells whether a daemon works on the store.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::docker::attach::cover::copy_access;
use crate::docker::store::files::Files;
use crate::oci::Digest;

/// Held while no daemon can have the store.
#[derive(Debug)]
pub struct Unused {
    /// The lock is held as long as the file is open.
    _lock: Option<File>,
}

impl Files {
    /// Where the old one is kept.
    fn kept(&self) -> PathBuf {
        self.images().join("repositories.json.sealift-old")
    }

    /// Where the new one is written.
    fn fresh(&self) -> PathBuf {
        self.images().join("repositories.json.sealift-new")
    }

    /// Takes the store if no daemon has it. A daemon that starts meanwhile waits for a second.
    ///
    /// Source: moby, `volume/service/store.go`: a running daemon holds a lock on the list of volumes, from
    /// before it reads the names until it ends.
    ///
    /// # Errors
    ///
    /// If the lock cannot be looked at. `None` if a daemon has the store.
    pub fn take(&self) -> io::Result<Option<Unused>> {
        let file = match File::open(self.data_root.join("volumes/metadata.db")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Unused { _lock: None })),
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Unused { _lock: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether a daemon has the store. One that cannot be told is taken for one.
    pub fn is_used(&self) -> bool {
        !matches!(self.take(), Ok(Some(_)))
    }

    /// Writes the new names beside the old ones with their owner, mode and label, keeps the old ones under
    /// another name, and puts the new ones in their place.
    ///
    /// # Errors
    ///
    /// If a step fails; the old names are in place then, unless only the last sync failed.
    pub fn exchange(&self, content: &[u8], _unused: &Unused) -> io::Result<()> {
        let (names, kept, fresh) = (self.names(), self.kept(), self.fresh());
        self.settle()?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(content)?;
        if names.try_exists()? {
            copy_access(&names, &fresh, &file)?;
            // Another name of the same file: put back it is what it was, down to its inode.
            fs::hard_link(&names, &kept)?;
        }
        file.sync_all()?;
        fs::rename(&fresh, &names)?;
        self.sync()
    }

    /// Puts the old names back if those in place are the ones that we wrote; whether they were.
    ///
    /// # Errors
    ///
    /// If they cannot be.
    pub fn put_back(&self, ours: &Digest, had_names: bool, _unused: &Unused) -> io::Result<bool> {
        let in_place = self.read()?.map(|bytes| Digest::sha256(&bytes));
        if in_place != Some(*ours) {
            return Ok(false);
        }
        if had_names {
            fs::rename(self.kept(), self.names())?;
        } else {
            fs::remove_file(self.names())?;
        }
        self.sync()?;
        Ok(true)
    }

    /// Removes what we have beside the names.
    ///
    /// # Errors
    ///
    /// If it cannot be removed.
    pub fn settle(&self) -> io::Result<()> {
        let mut changed = false;
        for path in [self.fresh(), self.kept()] {
            match fs::remove_file(path) {
                Ok(()) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if changed { self.sync() } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(self.images())?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    use super::*;

    fn store() -> (tempfile::TempDir, Files) {
        let home = tempfile::tempdir().unwrap();
        let files = Files {
            data_root: home.path().into(),
            driver: "overlay2".into(),
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
