//! The undo record of the offline strategy.
//!
//! Undoing brings the engine up again. The old names are restored if no daemon uses the store and the current
//! ones are ours. A running daemon has read one of the two, and both are complete.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::live_restore::LiveRestore;
use super::service::Control;
use crate::docker::api::Client;
use crate::docker::attach::folder::Folder;
use crate::docker::attach::journal::{self, JournalEntry};
use crate::docker::endpoint::Endpoint;
use crate::docker::store::files::Files;
use crate::error::{Error, Hint, Remedy, Result};
use crate::oci::Digest;
use crate::process::Identity;

/// Longest time for a daemon to end: a little more than systemd's own limit.
const END_LIMIT: Duration = Duration::from_secs(120);
/// Longest time for it to answer.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Longest time without a user of the store after a start command has ended: the time that dockerd takes to
/// open it.
const ABSENCE_LIMIT: Duration = Duration::from_secs(20);
/// A daemon that is being stopped stops answering within this time.
const SETTLE: Duration = Duration::from_millis(300);
const POLL: Duration = Duration::from_millis(50);

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Live-restore is enabled.
    LiveRestore,
    /// It is stopped.
    Stop,
    /// Other names replace the old ones.
    Write {
        /// Digest of the file that is written.
        ours: Digest,
        /// Whether there was a file before.
        had_names: bool,
    },
    /// The engine is started.
    Start,
    /// It is stopped again, because it does not show the digests.
    GoBack,
    /// Everything is undone.
    Undo,
}

/// What is needed to undo an attach.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UndoRecord {
    /// The engine's socket.
    pub socket: PathBuf,
    /// Its process.
    pub process: Identity,
    /// Its store.
    pub files: Files,
    /// What stops and starts it.
    pub control: Control,
    /// How its containers are kept running, if they are.
    pub live_restore: Option<LiveRestore>,
    /// Steps that were started.
    pub steps: Vec<Step>,
}

impl journal::UndoRecord for UndoRecord {
    type Step = Step;
    const UNDO: Step = Step::Undo;
    const LEFT: &str = "the engine's state could not be restored";
    const REMEDY: Remedy = Remedy::StartAndRepair;

    fn add(&mut self, step: Step) {
        self.steps.push(step);
    }

    fn entry(&self) -> JournalEntry {
        JournalEntry::Offline(self.clone())
    }

    fn undo(&self, folder: &Folder) -> Result<()> {
        let was_stopped = self.steps.contains(&Step::Stop);
        if was_stopped {
            self.bring_up()?;
        }
        if let Some(live_restore) = &self.live_restore
            && self.steps.contains(&Step::LiveRestore)
        {
            live_restore.switch_off(&self.socket, folder)?;
        }
        if was_stopped {
            let started = self.control.start_dependents();
            started.map_err(|problem| self.error("start the units that stopped with it", &problem))?;
        }
        self.files
            .settle()
            .map_err(Error::io("clean up beside", self.files.names()))
    }
}

impl UndoRecord {
    fn error(&self, action: &str, problem: &str) -> Error {
        Error::Engine {
            engine: Endpoint::Unix(self.socket.clone()).to_string(),
            action: action.into(),
            problem: problem.into(),
            hint: Some(Hint::from("its log says why (journalctl -u docker)").and(Remedy::StartAndRepair)),
        }
    }

    /// Waits until the daemon has ended.
    ///
    /// # Errors
    ///
    /// If it does not end.
    pub fn wait_for_end(&self, process: Identity) -> Result<()> {
        let until = Instant::now() + END_LIMIT;
        // It releases the store shortly before it ends, and no other one starts before that.
        while self.files.is_used() || !process.has_ended() {
            if Instant::now() > until {
                let problem = format!(
                    "a daemon still works on {} {} s after it was stopped",
                    self.files.data_root.display(),
                    END_LIMIT.as_secs()
                );
                return Err(self.error("stop it", &problem));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Starts the engine and waits until it answers.
    ///
    /// # Errors
    ///
    /// The output of the command, or that the engine does not come up.
    pub fn start(&self) -> Result<()> {
        let failed = |problem: &str| self.error("start it", problem);
        let started = self.control.start(&mut || is_up(&self.socket));
        if let Err(problem) = started {
            // If something else has started it, that is not a failure.
            return if is_up(&self.socket) {
                Ok(())
            } else {
                Err(failed(&problem))
            };
        }
        let (until, mut seen) = (Instant::now() + START_LIMIT, Instant::now());
        while !is_up(&self.socket) {
            if self.files.is_used() {
                seen = Instant::now();
            }
            if Instant::now() > until || seen.elapsed() > ABSENCE_LIMIT {
                return Err(failed("it does not come up"));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Makes it run again, with the old names unless it is running already.
    fn bring_up(&self) -> Result<()> {
        if self.steps.contains(&Step::Start) {
            self.let_it_appear();
        }
        let until = Instant::now() + START_LIMIT + END_LIMIT;
        while Instant::now() < until {
            if self.runs() {
                return Ok(());
            }
            let unused = self
                .files
                .take()
                .map_err(Error::io("lock", &self.files.data_root))?;
            // It is starting or stopping: wait for either.
            let Some(unused) = unused else {
                std::thread::sleep(POLL);
                continue;
            };
            if let Some((ours, had_names)) = self.written() {
                let back = self.files.put_back(&ours, had_names, &unused);
                back.map_err(Error::io("put back", self.files.names()))?;
            }
            drop(unused);
            self.wait_for_end(self.process)?;
            return self.start();
        }
        Err(self.error("start it", "it neither answers nor ends"))
    }

    /// Waits for a start command of ours that may still be running.
    fn let_it_appear(&self) {
        let until = Instant::now() + SETTLE * 4;
        while !self.files.is_used() && Instant::now() < until {
            std::thread::sleep(POLL);
        }
    }

    /// Whether it answers, and continues to.
    fn runs(&self) -> bool {
        if !self.files.is_used() || !is_up(&self.socket) {
            return false;
        }
        std::thread::sleep(SETTLE);
        self.files.is_used() && is_up(&self.socket)
    }

    fn written(&self) -> Option<(Digest, bool)> {
        self.steps.iter().find_map(|step| match step {
            Step::Write { ours, had_names } => Some((*ours, *had_names)),
            _ => None,
        })
    }
}

/// Whether a daemon answers. Behind systemd's socket, the request starts it and waits for it.
fn is_up(socket: &Path) -> bool {
    Client::connect(&Endpoint::Unix(socket.into())).is_ok()
}
