//! What the mirror writes down, and how it is undone.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::docker::api::Client;
use crate::docker::api::info::Info;
use crate::docker::attach::folder::Folder;
use crate::docker::attach::journal::{self, Record};
use crate::docker::daemon::config::same;
use crate::docker::daemon::namespaces::Namespaces;
use crate::docker::daemon::overmount::Cover;
use crate::docker::daemon::process::Process;
use crate::docker::endpoint::Endpoint;
use crate::error::Result;

/// A step.
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
pub struct Begun {
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
    /// Where.
    #[serde(default)]
    pub namespaces: Namespaces,
    /// Steps that were begun.
    pub steps: Vec<Step>,
}

impl journal::Begun for Begun {
    type Step = Step;
    const UNDO: Step = Step::Undo;
    const LEFT: &str = "the engine's configuration could not be put back; `sealift doctor --repair` does it";

    fn begin(&mut self, step: Step) {
        self.steps.push(step);
    }

    fn record(&self) -> Record {
        Record::Mirror(self.clone())
    }

    fn undo(&self, folder: &Folder) -> Result<()> {
        if is_up(&self.socket) {
            self.quieten(folder)?;
        }
        self.cover.lift_in(&self.namespaces, &folder.source())
    }
}

impl Begun {
    /// Makes the engine forget our mirror, if it knows of it or might be about to.
    fn quieten(&self, folder: &Folder) -> Result<()> {
        let client = Client::connect(&Endpoint::Unix(self.socket.clone()))?;
        let mirrors = Info::ask(&client)?.mirrors();
        let knows = mirrors
            .iter()
            .any(|mirror| same(std::slice::from_ref(mirror), std::slice::from_ref(&self.mirror)));
        if !knows && !self.steps.contains(&Step::Reload) {
            return Ok(());
        }
        let process = Process::find(&self.socket).map_err(|obstacle| {
            let hint = "restart docker: it then forgets the mirror".to_string();
            client.error("reload its configuration", &obstacle.reason, Some(hint))
        })?;
        // Started again, it may see the files of another namespace.
        if self.namespaces == *process.namespaces() {
            let quiet = self.quiet.as_bytes();
            self.cover.lay_in(&self.namespaces, quiet, &folder.source())?;
        }
        process.reload(&client, &self.original)
    }
}

fn is_up(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}
