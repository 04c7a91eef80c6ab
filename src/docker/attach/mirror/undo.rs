//! The undo record of the mirror strategy.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::docker::api::Client;
use crate::docker::api::info::Info;
use crate::docker::attach::folder::Folder;
use crate::docker::attach::journal::{self, JournalEntry};
use crate::docker::daemon::config::same;
use crate::docker::daemon::namespaces::Namespaces;
use crate::docker::daemon::overmount::Overmount;
use crate::docker::daemon::process::Process;
use crate::docker::endpoint::Endpoint;
use crate::error::{Remedy, Result};

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Another `daemon.json` is mounted over the real one.
    Overmount,
    /// The engine reloads it, with our mirror in it.
    Reload,
    /// Everything is undone.
    Undo,
}

/// What is needed to undo an attach.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UndoRecord {
    /// The engine's socket.
    pub socket: PathBuf,
    /// The address of our mirror.
    pub mirror: String,
    /// The mirrors that the engine had, and gets again.
    pub original: Vec<String>,
    /// A `daemon.json` with those mirrors.
    pub original_config: String,
    /// The mount.
    pub overmount: Overmount,
    /// Its namespaces.
    #[serde(default)]
    pub namespaces: Namespaces,
    /// Steps that were started.
    pub steps: Vec<Step>,
}

impl journal::UndoRecord for UndoRecord {
    type Step = Step;
    const UNDO: Step = Step::Undo;
    const LEFT: &str = "the engine's configuration could not be restored";
    const REMEDY: Remedy = Remedy::Repair;

    fn add(&mut self, step: Step) {
        self.steps.push(step);
    }

    fn entry(&self) -> JournalEntry {
        JournalEntry::Mirror(self.clone())
    }

    fn undo(&self, folder: &Folder) -> Result<()> {
        if is_up(&self.socket) {
            self.forget_mirror(folder)?;
        }
        self.overmount.unmount_in(&self.namespaces, &folder.source())
    }
}

impl UndoRecord {
    /// Makes the engine forget our mirror, if it has or may get it.
    fn forget_mirror(&self, folder: &Folder) -> Result<()> {
        let client = Client::connect(&Endpoint::Unix(self.socket.clone()))?;
        let mirrors = Info::ask(&client)?.mirrors();
        let knows = mirrors
            .iter()
            .any(|mirror| same(std::slice::from_ref(mirror), std::slice::from_ref(&self.mirror)));
        if !knows && !self.steps.contains(&Step::Reload) {
            return Ok(());
        }
        let process = Process::find(&self.socket).map_err(|obstacle| {
            let hint = "restart docker: it then forgets the mirror".into();
            client.error("reload its configuration", &obstacle.reason, Some(hint))
        })?;
        // After a restart it may be in another mount namespace.
        if self.namespaces == *process.namespaces() {
            let original_config = self.original_config.as_bytes();
            self.overmount
                .mount_in(&self.namespaces, original_config, &folder.source())?;
        }
        process.reload(&client, &self.original)
    }
}

fn is_up(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}
