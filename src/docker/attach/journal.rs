//! The journal of an attach, and undoing it.
//!
//! One strategy works at a time on a host, and leaves one record of what it does. The record is written before
//! the first step, and each step is added before it is taken. Undoing works from any state: it can be repeated,
//! at any moment, and after the engine has ended.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::folder::Folder;
use super::offline::service::Control;
use super::{hosts, mirror, offline};
use crate::error::{Error, Remedy, Result};
use crate::load::Obstacle;

/// A strategy's record of an attach.
pub trait UndoRecord: Send {
    /// One of its steps.
    type Step;
    /// The last step: everything is undone.
    const UNDO: Self::Step;
    /// The message if it cannot be undone now.
    const LEFT: &str;
    /// What does it.
    const REMEDY: Remedy;

    /// Adds a step that is about to be taken.
    fn add(&mut self, step: Self::Step);

    /// The journal with this record.
    fn entry(&self) -> JournalEntry;

    /// Undoes the steps, done or not, and leaves no file in `folder` but the journal.
    ///
    /// # Errors
    ///
    /// If it cannot be undone now.
    fn undo(&self, folder: &Folder) -> Result<()>;
}

/// The content of the journal: the record of one strategy.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "strategy")]
pub enum JournalEntry {
    /// A mirror of docker.io.
    Mirror(mirror::undo::UndoRecord),
    /// A restart of the engine.
    Offline(offline::undo::UndoRecord),
    /// Redirected names.
    Hosts(hosts::undo::UndoRecord),
}

impl JournalEntry {
    const KNOWN: [&str; 3] = ["mirror", "hosts", "offline"];

    /// Parses a journal.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or that its strategy is unknown.
    pub fn parse(bytes: &[u8]) -> Result<JournalEntry, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match value.get("strategy").and_then(Value::as_str) {
            Some(name) if !JournalEntry::KNOWN.contains(&name) => Err(format!(
                "it was written by the {name} strategy of another version of sealift"
            )),
            _ => serde_json::from_value(value).map_err(|error| error.to_string()),
        }
    }

    /// The same with another command that starts the engine, if the record has one.
    pub fn started_by(self, command: &str) -> JournalEntry {
        match self {
            JournalEntry::Offline(mut record) => {
                record.control = Control::Commands {
                    stop: record.control.stop_line(),
                    start: command.into(),
                };
                JournalEntry::Offline(record)
            }
            other => other,
        }
    }

    /// Undoes it and removes the journal.
    ///
    /// # Errors
    ///
    /// If it cannot be undone now; the journal stays.
    pub fn undo(&self, folder: &Folder) -> Result<()> {
        match self {
            JournalEntry::Mirror(record) => record.undo(folder),
            JournalEntry::Offline(record) => record.undo(folder),
            JournalEntry::Hosts(record) => record.undo(folder),
        }?;
        folder.remove()
    }
}

/// An attach in progress. The attaching thread and the signal handler share it.
pub struct Session<B>(Arc<Mutex<State<B>>>);

impl<B> Clone for Session<B> {
    fn clone(&self) -> Session<B> {
        Session(Arc::clone(&self.0))
    }
}

struct State<B> {
    folder: Folder,
    record: B,
    ended: bool,
}

impl<B: UndoRecord> Session<B> {
    /// Writes the journal; nothing is changed yet.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn begin(folder: &Folder, record: B) -> Result<Session<B>> {
        folder.write(&record.entry())?;
        Ok(Session(Arc::new(Mutex::new(State {
            folder: folder.clone(),
            record,
            ended: false,
        }))))
    }

    /// Takes a step after recording it. A signal waits until it ends.
    ///
    /// # Errors
    ///
    /// If it fails, or the session has been ended.
    pub fn step<T>(&self, step: B::Step, take: impl FnOnce(&B, &Folder) -> Result<T>) -> Result<T> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return Err(Error::Interrupted);
        }
        state.note(step)?;
        take(&state.record, &state.folder)
    }

    /// Undoes everything, once, however often it is called.
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
        // It is undone even if a full disk keeps the journal from recording that.
        let _ = state.note(B::UNDO);
        state.record.entry().undo(&state.folder)
    }
}

impl<B: UndoRecord> State<B> {
    fn note(&mut self, step: B::Step) -> Result<()> {
        self.record.add(step);
        self.folder.write(&self.record.entry())
    }
}

/// The obstacle for a preflight: the journal of an earlier run could not be undone.
pub fn leftover(error: &Error) -> Obstacle {
    Obstacle::new(
        format!("an earlier attach was interrupted and cannot be undone: {error}"),
        error
            .hint()
            .unwrap_or_else(|| "restart docker, then run this again".into()),
    )
}
