//! What this strategy writes down, and how it is undone.

use crate::docker::attach::folder::Folder;
use crate::docker::attach::journal::{self, Record};
use crate::docker::daemon::namespaces::Namespaces;
use crate::docker::daemon::overmount::Cover;
use crate::error::Result;

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Another `/etc/hosts` is laid over the real one.
    Cover,
    /// It is undone.
    Undo,
}

/// An attach that was begun.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Begun {
    /// What is laid over.
    pub cover: Cover,
    /// Where.
    pub namespaces: Namespaces,
    /// Steps that were begun.
    pub steps: Vec<Step>,
}

impl journal::Begun for Begun {
    type Step = Step;
    const UNDO: Step = Step::Undo;
    const LEFT: &str = "/etc/hosts could not be uncovered; `sealift doctor --repair` does it";

    fn begin(&mut self, step: Step) {
        self.steps.push(step);
    }

    fn record(&self) -> Record {
        Record::Hosts(self.clone())
    }

    fn undo(&self, folder: &Folder) -> Result<()> {
        self.cover.lift_in(&self.namespaces, &folder.source())
    }
}
