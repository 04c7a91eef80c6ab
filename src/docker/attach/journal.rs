//! What an attach has begun, on a file system that a restart empties, and the undoing of it.
//!
//! The journal is there before the first step, and each step stands in it before it is taken. Undoing takes
//! it from whatever is found: it can be done twice, at any moment, and after the engine has ended.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::config::same;
use super::cover::Cover;
use super::daemon::{Process, memory};
use crate::docker::api::Client;
use crate::docker::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::target::Obstacle;

/// Where the journal of this host is, unless [`FOLDER_VARIABLE`] says otherwise.
pub const DEFAULT_FOLDER: &str = "/run/sealift";
/// The variable that names another folder. All loads of a host must agree on one.
pub const FOLDER_VARIABLE: &str = "SEALIFT_RUN_DIR";

/// The folder with the journal, the lock and what is laid over `daemon.json`.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Default for Folder {
    fn default() -> Folder {
        Folder(std::env::var_os(FOLDER_VARIABLE).map_or_else(|| DEFAULT_FOLDER.into(), PathBuf::from))
    }
}

/// Held while something is attached or repaired: one at a time on a host.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "the lock is held as long as the file is open")] File);

impl Folder {
    /// Keeps the journal elsewhere.
    pub fn new(path: impl Into<PathBuf>) -> Folder {
        Folder(path.into())
    }

    fn journal(&self) -> PathBuf {
        self.0.join("attach.json")
    }

    /// The journal while it is written.
    fn fresh(&self) -> PathBuf {
        self.0.join("attach.json.new")
    }

    /// Where the file that is laid over `daemon.json` is.
    pub fn source(&self) -> PathBuf {
        self.0.join("attach")
    }

    /// Makes the folder if need be, and waits until nobody else works in it.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or is not this user's alone.
    pub fn lock(&self, progress: &dyn Progress) -> Result<Lock> {
        let made = fs::DirBuilder::new().mode(0o700).create(&self.0);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create", &self.0)(error));
            }
            _ => {}
        }
        let meta = fs::symlink_metadata(&self.0).map_err(Error::io("look at", &self.0))?;
        if !meta.is_dir() || meta.mode() & 0o077 != 0 || meta.uid() != rustix::process::geteuid().as_raw() {
            let source = io::Error::other("it is not a folder that only this user can enter");
            return Err(Error::io("use", &self.0)(source));
        }
        let path = self.0.join("attach.lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        if file.try_lock().is_err() {
            progress.note("waiting for another sealift that attaches digests on this host");
            file.lock().map_err(Error::io("lock", &path))?;
        }
        Ok(Lock(file))
    }

    /// What an earlier run has begun and not ended, if anything.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    pub fn read(&self) -> Result<Option<Journal>> {
        let path = self.journal();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let journal = serde_json::from_slice(&bytes)
            .map_err(|error| Error::io("read", &path)(io::Error::other(error)))?;
        Ok(Some(journal))
    }

    /// Whether an earlier run has begun something and not ended it, or another one is at it now.
    ///
    /// # Errors
    ///
    /// If the journal cannot be looked for.
    pub fn has_leftover(&self) -> Result<bool> {
        for path in [self.journal(), self.fresh(), self.source()] {
            if path.try_exists().map_err(Error::io("look at", path))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn write(&self, journal: &Journal) -> Result<()> {
        let fresh = self.fresh();
        let bytes = crate::archive::format::to_json(journal)?;
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

    fn remove(&self) -> Result<()> {
        match fs::remove_file(self.journal()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", self.journal())(error))
            }
            _ => Ok(()),
        }
    }

    /// Undoes what an earlier run has left. Does nothing if nothing is left. Whether there was something.
    ///
    /// # Errors
    ///
    /// If it cannot be undone; the journal stays.
    pub fn repair(&self, _held: &Lock) -> Result<bool> {
        let _ = fs::remove_file(self.fresh());
        let Some(journal) = self.read()? else {
            // A run that was killed before its journal was there has changed nothing, but may have
            // left its own files.
            let _ = fs::remove_dir_all(self.source());
            return Ok(false);
        };
        journal.undo(self)?;
        Ok(true)
    }
}

/// A step of an attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Another `daemon.json` is laid over the real one.
    Cover,
    /// The engine is made to read it, with our mirror in it.
    Reload,
    /// It is undone.
    Undo,
}

/// An attach that was begun.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Journal {
    /// The engine's socket.
    pub socket: PathBuf,
    /// The address of our mirror.
    pub mirror: String,
    /// The mirrors that the engine had, and gets again.
    pub original: Vec<String>,
    /// A `daemon.json` with those mirrors.
    pub quiet: String,
    /// What is laid over.
    pub cover: Cover,
    /// Steps that were begun.
    pub steps: Vec<Step>,
}

impl Journal {
    fn undo(&self, folder: &Folder) -> Result<()> {
        if is_up(&self.socket) {
            self.quieten(folder)?;
        }
        let source = folder.source();
        self.cover.lift(&source).map_err(Error::io("uncover", &source))?;
        folder.remove()
    }

    /// Makes the engine forget our mirror, if it knows of it or might be about to.
    fn quieten(&self, folder: &Folder) -> Result<()> {
        let client = Client::connect(&Endpoint::Unix(self.socket.clone()))?;
        let mirrors = memory(&client)?.mirrors();
        let knows = mirrors
            .iter()
            .any(|mirror| same(std::slice::from_ref(mirror), std::slice::from_ref(&self.mirror)));
        if !knows && !self.steps.contains(&Step::Reload) {
            return Ok(());
        }
        let source = folder.source();
        let laid = self.cover.write(self.quiet.as_bytes(), &source);
        laid.and_then(|()| self.cover.lay(&source))
            .map_err(Error::io("cover", &source))?;
        let process = Process::find(&self.socket).map_err(|obstacle| {
            let hint = "restart docker: it then forgets the mirror".to_string();
            client.error("reload its configuration", &obstacle.reason, Some(hint))
        })?;
        process.reload(&client, &self.original)
    }
}

fn is_up(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

/// An attach that goes on. The thread that attaches and the one that handles signals share it.
#[derive(Clone)]
pub struct Session(Arc<Mutex<State>>);

struct State {
    folder: Folder,
    journal: Journal,
    ended: bool,
}

impl Session {
    /// Writes the journal; nothing is changed yet.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn begin(folder: &Folder, journal: Journal) -> Result<Session> {
        folder.write(&journal)?;
        Ok(Session(Arc::new(Mutex::new(State {
            folder: folder.clone(),
            journal,
            ended: false,
        }))))
    }

    /// Lays the other `daemon.json` and makes the engine read it.
    ///
    /// # Errors
    ///
    /// If a step fails, or the session was ended meanwhile.
    pub fn open(&self, client: &Client, process: &Process, loud: &[u8]) -> Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return Err(Error::Interrupted);
        }
        let source = state.folder.source();
        state.record(Step::Cover)?;
        let cover = state.journal.cover.clone();
        cover
            .write(loud, &source)
            .and_then(|()| cover.lay(&source))
            .map_err(Error::io("cover", &source))?;
        state.record(Step::Reload)?;
        process.reload(client, std::slice::from_ref(&state.journal.mirror))
    }

    /// Undoes everything; once, however often it is called.
    ///
    /// # Errors
    ///
    /// If it cannot be undone now; the journal stays for a repair.
    pub fn end(&self) -> Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return Ok(());
        }
        state.ended = true;
        state.record(Step::Undo)?;
        state.journal.undo(&state.folder)
    }
}

impl State {
    fn record(&mut self, step: Step) -> Result<()> {
        self.journal.steps.push(step);
        self.folder.write(&self.journal)
    }
}

/// What a leftover is to a preflight: the journal is there and could not be undone.
pub fn leftover(error: &Error) -> Obstacle {
    Obstacle::new(
        format!("an earlier attach was interrupted and cannot be undone: {error}"),
        "restart docker, then run this again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn journal(folder: &Path) -> Journal {
        Journal {
            socket: folder.join("gone.sock"),
            mirror: "http://127.0.0.1:1023".into(),
            original: vec!["https://m.example".into()],
            quiet: "{}".into(),
            cover: Cover::File(folder.join("daemon.json")),
            steps: vec![Step::Cover, Step::Reload],
        }
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
        assert!(text.contains(r#""steps":["cover","reload"]"#), "{text}");
        assert!(text.contains(r#""cover":{"form":"file","target":"/"#), "{text}");
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
        fs::write(folder.source().join("daemon.json"), "loud").unwrap();
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
    fn a_folder_that_others_can_enter_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let open = home.path().join("run");
        fs::create_dir(&open).unwrap();
        assert_eq!(Folder::new(&open).lock(&Silent).unwrap_err().exit_code(), 3);
        std::os::unix::fs::symlink("/nowhere", home.path().join("link")).unwrap();
        assert!(Folder::new(home.path().join("link")).lock(&Silent).is_err());
    }
}
