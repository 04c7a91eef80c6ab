//! A folder of temporary files with a password, and the removal of those that a killed load has left.
//!
//! The process that created a folder holds a lock on a file in it. The kernel releases the lock when that process ends,
//! even if it is killed. A folder is removed only if its name, its mode and all of its files are those that a load makes.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{FileType, FlockOperation, flock};
use tempfile::TempDir;

use super::twin;
use crate::dir::Dir;

/// The name of the registries.conf in a folder.
pub const REGISTRIES: &str = "registries.conf";
/// The name of the auth file in a folder.
pub const AUTH: &str = "auth.json";
/// How the names of the folders begin.
const PREFIX: &str = "sealift-podman-";
/// The number of random letters and digits that follow.
const RANDOM: usize = 6;
/// The file in a folder that the process which created the folder holds a lock on.
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
            .rand_bytes(RANDOM)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(inside)?;
        let path = |name: &str| folder.path().join(name);
        let lock = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path(UNLOCKED))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        // The file gets its name once it is locked: while this process runs, no other one finds it unlocked.
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

/// A folder whose process has ended.
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
        let metadata = folder.metadata()?;
        if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o777 != 0o700 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let lock = folder.open_file(LOCK)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        if lock.metadata()?.len() > 0 || !has_only_ours(&folder)? {
            return Err(io::ErrorKind::InvalidData.into());
        }
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
    let ours = names.filter(|name| name.to_str().is_some_and(is_name));
    ours.filter_map(|name| Abandoned::find(inside, &name).ok())
}

/// Whether a folder can have this name.
fn is_name(name: &str) -> bool {
    let random = name.strip_prefix(PREFIX).unwrap_or_default();
    random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether there is nothing in a folder but the files of a load.
fn has_only_ours(folder: &Dir) -> io::Result<bool> {
    for name in folder.names()? {
        let is_known = name
            .to_str()
            .is_some_and(|name| [LOCK, REGISTRIES, AUTH].contains(&name) || twin::is_tag(name));
        if !is_known || folder.kind(&name)? != Some(FileType::RegularFile) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// What a killed load leaves: the lock ends with it.
    fn killed(inside: &Path) -> PathBuf {
        let PrivateFolder { folder, _lock } = PrivateFolder::create(inside).unwrap();
        let left = folder.keep();
        let twin = format!("sealift-replaces-{}", "0a".repeat(32));
        for name in [REGISTRIES, AUTH, &twin] {
            fs::write(left.join(name), "{}").unwrap();
        }
        left
    }

    #[test]
    fn only_folders_whose_process_has_ended_are_removed() {
        let inside = tempfile::tempdir().unwrap();
        let inside = inside.path();
        let living = PrivateFolder::create(inside).unwrap();
        assert_eq!(living.path().metadata().unwrap().mode() & 0o777, 0o700);
        fs::write(living.path().join(AUTH), "{}").unwrap();
        assert_eq!((has_abandoned(inside), remove_abandoned(inside)), (false, 0));

        let left = killed(inside);
        std::os::unix::fs::symlink(&left, inside.join("sealift-podman-linked")).unwrap();
        assert_eq!((has_abandoned(inside), remove_abandoned(inside)), (true, 1));
        assert!(!left.exists());
        assert!(living.path().join(AUTH).exists());
        let path = living.path().to_path_buf();
        drop(living);
        assert!(!path.exists());
    }

    #[test]
    fn folders_that_no_load_made_are_left_alone() {
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("target");
        fs::write(&target, "kept").unwrap();
        type Change<'c> = &'c dyn Fn(&Path);
        let changes: [(&str, Change<'_>); 9] = [
            ("another name", &|path| {
                fs::rename(path, path.with_file_name("sealift-project")).unwrap();
            }),
            ("a longer name", &|path| {
                fs::rename(path, path.with_file_name("sealift-podman-project")).unwrap();
            }),
            ("another mode", &|path| {
                fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
            }),
            ("no lock", &|path| fs::remove_file(path.join(LOCK)).unwrap()),
            ("a lock with content", &|path| {
                fs::write(path.join(LOCK), "1").unwrap();
            }),
            ("another file", &|path| fs::write(path.join("data"), "").unwrap()),
            ("a file like a twin", &|path| {
                fs::write(path.join("sealift-replaces-me"), "").unwrap();
            }),
            ("a folder", &|path| fs::create_dir(path.join("data")).unwrap()),
            ("a link", &|path| {
                fs::remove_file(path.join(AUTH)).unwrap();
                std::os::unix::fs::symlink(&target, path.join(AUTH)).unwrap();
            }),
        ];
        for (what, change) in changes {
            let inside = tempfile::tempdir().unwrap();
            let inside = inside.path();
            change(&killed(inside));
            let before = contents(inside);
            assert_eq!(
                (has_abandoned(inside), remove_abandoned(inside)),
                (false, 0),
                "{what}"
            );
            assert_eq!(contents(inside), before, "{what}");
        }
        assert_eq!(fs::read_to_string(target).unwrap(), "kept");
    }

    /// The paths of everything in the folders of a folder.
    fn contents(inside: &Path) -> Vec<PathBuf> {
        let entries = |path: &Path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<PathBuf> = entries(inside).flat_map(|path| entries(&path)).collect();
        paths.sort();
        assert!(paths.len() > 2);
        paths
    }
}
