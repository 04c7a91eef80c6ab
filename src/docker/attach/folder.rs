//! The folder of an unfinished attach, on a file system that a restart of the host empties: the journal, the
//! lock, and the files that are mounted over others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::journal::JournalEntry;
use crate::dir::Dir;
use crate::docker::daemon::mounts::{Shown, remove_source};
use crate::docker::daemon::process::Process;
use crate::error::{Error, Hint, Remedy, Result};
use crate::load::Obstacle;
use crate::progress::Progress;

/// Default folder of this host's journal; [`FOLDER_VARIABLE`] names another one.
pub const DEFAULT_FOLDER: &str = "/run/sealift";
/// Names another folder. All loads of a host must use the same one.
pub const FOLDER_VARIABLE: &str = "SEALIFT_RUN_DIR";

/// The folder with the journal, the lock and the files that are mounted over others.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Default for Folder {
    fn default() -> Folder {
        Folder(std::env::var_os(FOLDER_VARIABLE).map_or_else(|| DEFAULT_FOLDER.into(), PathBuf::from))
    }
}

/// Held while something is attached or repaired: one at a time on a host.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// The same lock as the standard input of a command: it is held until the command has ended, too.
    ///
    /// # Errors
    ///
    /// If there are too many open files.
    pub fn share(&self) -> io::Result<Stdio> {
        Ok(self.0.try_clone()?.into())
    }
}

impl Folder {
    /// Keeps the journal in another folder.
    pub fn new(path: impl Into<PathBuf>) -> Folder {
        Folder(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Checks that a dockerd sees the folder at the same path.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub fn seen_by(&self, process: &Process) -> Result<(), Obstacle> {
        process.sees(&self.0).map_err(|obstacle| {
            let hint = format!("name a folder that it sees in {FOLDER_VARIABLE}");
            Obstacle::new(obstacle.reason, hint)
        })
    }

    fn journal(&self) -> PathBuf {
        self.0.join("attach.json")
    }

    /// The journal while it is written.
    fn fresh(&self) -> PathBuf {
        self.0.join("attach.json.new")
    }

    /// The folder of the files that are mounted over others.
    pub fn source(&self) -> PathBuf {
        self.0.join("attach")
    }

    /// Makes the folder if necessary, and waits for the lock.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or is not this user's alone.
    pub fn lock(&self, progress: &dyn Progress) -> Result<Lock> {
        let refused = |source: io::Error| Error::Io {
            action: "use",
            path: self.0.clone(),
            offset: None,
            source: source.into(),
            hint: Some(
                format!("{FOLDER_VARIABLE} names another folder; the default is {DEFAULT_FOLDER}").into(),
            ),
        };
        // Its files are mounted over the engine's, so no other user may be able to change it or a folder above
        // it.
        let path = std::path::absolute(&self.0).map_err(refused)?;
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
            let parent = Dir::open_private(parent).map_err(refused)?;
            match parent.make_dir(name, 0o700) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("create", &self.0)(error));
                }
                _ => {}
            }
        }
        let dir = Dir::open_private(&self.0).map_err(refused)?;
        let meta = dir.metadata().map_err(refused)?;
        if meta.mode() & 0o077 != 0 || meta.uid() != rustix::process::geteuid().as_raw() {
            let reason = "it is not a folder that only this user can enter";
            return Err(refused(io::Error::new(io::ErrorKind::PermissionDenied, reason)));
        }
        let path = dir.join("attach.lock");
        let file = dir
            .open_or_create("attach.lock", 0o600)
            .map_err(Error::io("open", &path))?;
        if file.try_lock().is_err() {
            progress.note("waiting for another sealift that attaches digests on this host");
            file.lock().map_err(Error::io("lock", &path))?;
        }
        Ok(Lock(file))
    }

    /// The journal of an unfinished run, if there is one.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    pub fn read(&self) -> Result<Option<JournalEntry>> {
        let path = self.journal();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        JournalEntry::parse(&bytes)
            .map(Some)
            .map_err(|problem| Error::Io {
                action: "read",
                path,
                offset: None,
                source: io::Error::other(problem).into(),
                hint: Some(
                    Hint::from("use the sealift that wrote it, or restart this host").and(Remedy::Repair),
                ),
            })
    }

    /// Whether an earlier run is unfinished, or another run is in progress.
    ///
    /// # Errors
    ///
    /// If the journal cannot be looked up.
    pub fn has_leftover(&self) -> Result<bool> {
        for path in [self.journal(), self.fresh(), self.source()] {
            match path.try_exists() {
                Ok(false) => {}
                Ok(true) => return Ok(true),
                Err(error) => return Err(Error::io("look at", path)(error)),
            }
        }
        let mounts = Shown::of(&self.source()).and_then(|shown| shown.mounts());
        let mounts = mounts.map_err(Error::io("look for mounts of", self.source()))?;
        Ok(!mounts.is_empty())
    }

    /// Writes and syncs the journal.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(&self, record: &JournalEntry) -> Result<()> {
        let fresh = self.fresh();
        let bytes = crate::archive::format::to_json(record)?;
        let written = (|| {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, self.journal())?;
            File::open(&self.0)?.sync_all()
        })();
        written.map_err(Error::io("write", self.journal()))
    }

    /// Removes the journal, because everything is undone.
    ///
    /// # Errors
    ///
    /// If it cannot be removed.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_file(self.journal()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", self.journal())(error))
            }
            _ => Ok(()),
        }
    }

    /// Changes the command that starts the engine when the journal is undone.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or written.
    pub fn start_by(&self, command: &str, _held: &Lock) -> Result<()> {
        match self.read()? {
            Some(entry) => self.write(&entry.started_by(command)),
            None => Ok(()),
        }
    }

    /// Undoes an unfinished run. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// If it cannot be undone; the journal stays.
    pub fn repair(&self, _held: &Lock) -> Result<bool> {
        let _ = fs::remove_file(self.fresh());
        let Some(record) = self.read()? else {
            // A run that was killed before it wrote its journal has changed nothing, but may have left its own
            // files. A repair that did not find a mount may have left that.
            let unmounted = Shown::of(&self.source()).and_then(|shown| {
                let found = shown.mounts()?;
                shown.unmount().map(|()| !found.is_empty())
            });
            let had_mounts = unmounted.map_err(Error::io("unmount what shows", self.source()))?;
            let _ = remove_source(&self.source());
            return Ok(had_mounts);
        };
        record.undo(self)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::attach::mirror::undo::{Step, UndoRecord};
    use crate::docker::daemon::namespaces::Namespaces;
    use crate::docker::daemon::overmount::Overmount;
    use crate::error::{Advice, ErrorKind};
    use crate::progress::Silent;

    fn journal(folder: &Path) -> JournalEntry {
        JournalEntry::Mirror(UndoRecord {
            socket: folder.join("gone.sock"),
            mirror: "http://127.0.0.1:1023".into(),
            original: vec!["https://m.example".into()],
            original_config: "{}".into(),
            overmount: Overmount::File(folder.join("daemon.json")),
            namespaces: Namespaces::default(),
            steps: vec![Step::Overmount, Step::Reload],
        })
    }

    #[test]
    fn what_is_written_is_read() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::new(home.path().join("run"));
        let lock = folder.lock(&Silent).unwrap();
        assert_eq!(folder.read().unwrap(), None);
        assert!(!folder.repair(&lock).unwrap());
        folder.write(&journal(home.path())).unwrap();
        assert_eq!(folder.read().unwrap(), Some(journal(home.path())));
        let text = fs::read_to_string(home.path().join("run/attach.json")).unwrap();
        assert!(text.contains(r#""steps":["overmount","reload"]"#), "{text}");
        assert!(
            text.contains(r#""overmount":{"form":"file","target":"/"#),
            "{text}"
        );
    }

    #[test]
    fn a_journal_of_a_newer_version_is_told_and_kept() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::new(home.path().join("run"));
        let lock = folder.lock(&Silent).unwrap();
        let path = home.path().join("run/attach.json");
        for (text, says) in [
            (r#"{"strategy":"teleport","steps":[]}"#, "by the teleport"),
            ("{", "EOF"),
            (r#"{"strategy":"mirror"}"#, "missing field"),
        ] {
            fs::write(&path, text).unwrap();
            let error = folder.repair(&lock).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            let hint = error.hint().unwrap();
            assert_eq!(
                hint.advice().last(),
                Some(&Advice::Remedy(Remedy::Repair)),
                "{error}"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_repair_is_done_once_and_without_the_engine() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::new(home.path().join("run"));
        let lock = folder.lock(&Silent).unwrap();
        let original = home.path().join("daemon.json");
        fs::write(&original, "{}").unwrap();
        folder.write(&journal(home.path())).unwrap();
        fs::create_dir(folder.source()).unwrap();
        fs::write(folder.source().join("daemon.json"), "with_mirror").unwrap();
        assert!(folder.repair(&lock).unwrap());
        assert!(!folder.repair(&lock).unwrap());
        assert!(!folder.source().exists());
        assert_eq!(fs::read_to_string(&original).unwrap(), "{}");
    }

    #[test]
    fn two_wait_for_each_other() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::new(home.path().join("run"));
        let lock = folder.lock(&Silent).unwrap();
        let (sent, received) = std::sync::mpsc::channel();
        let other = folder.clone();
        let waiting = std::thread::spawn(move || {
            let lock = other.lock(&Silent).unwrap();
            sent.send(()).unwrap();
            drop(lock);
        });
        assert!(
            received
                .recv_timeout(std::time::Duration::from_millis(100))
                .is_err()
        );
        drop(lock);
        received.recv().unwrap();
        waiting.join().unwrap();
    }

    #[test]
    fn a_folder_that_others_can_enter_or_exchange_is_not_used() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let home = tempfile::tempdir().unwrap();
        let refused = |name: &str, says: &str| {
            let error = Folder::new(home.path().join(name)).lock(&Silent).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(error.to_string().contains(says), "{name}: {error}");
        };
        fs::create_dir(home.path().join("run")).unwrap();
        refused("run", "only this user can enter");
        symlink("/nowhere", home.path().join("link")).unwrap();
        refused("link", "No such file");
        let around = home.path().join("around");
        fs::create_dir(&around).unwrap();
        fs::set_permissions(&around, fs::Permissions::from_mode(0o777)).unwrap();
        refused("around/run", "another user can write to");
        fs::set_permissions(&around, fs::Permissions::from_mode(0o1777)).unwrap();
        Folder::new(around.join("run")).lock(&Silent).unwrap();
        fs::remove_file(around.join("run/attach.lock")).unwrap();
        symlink(home.path().join("victim"), around.join("run/attach.lock")).unwrap();
        refused("around/run", "it is a symbolic link");
        assert!(!home.path().join("victim").exists());
    }
}
