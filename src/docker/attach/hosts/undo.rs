//! The undo record of the hosts strategy.

use crate::docker::attach::folder::Folder;
use crate::docker::attach::journal::{self, JournalEntry};
use crate::docker::daemon::namespaces::Namespaces;
use crate::docker::daemon::overmount::Overmount;
use crate::error::{Remedy, Result};

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Another `/etc/hosts` is mounted over the real one.
    Overmount,
    /// Everything is undone.
    Undo,
}

/// What is needed to undo an attach.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UndoRecord {
    /// The mount.
    pub overmount: Overmount,
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// Steps that were started.
    pub steps: Vec<Step>,
}

impl journal::UndoRecord for UndoRecord {
    type Step = Step;
    const UNDO: Step = Step::Undo;
    const LEFT: &str = "/etc/hosts could not be unmounted";
    const REMEDY: Remedy = Remedy::Repair;

    fn add(&mut self, step: Step) {
        self.steps.push(step);
    }

    fn entry(&self) -> JournalEntry {
        JournalEntry::Hosts(self.clone())
    }

    fn undo(&self, folder: &Folder) -> Result<()> {
        self.overmount.unmount_in(&self.namespaces, &folder.source())
    }
}
