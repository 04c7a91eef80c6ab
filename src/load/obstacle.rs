//! Why something is not possible, and what would help.

use std::fmt;

use crate::error::{Hint, Remedy};
use crate::escape::Escaped;

/// Why something is not possible here, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Obstacle {
    /// The reason.
    pub reason: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
}

impl Obstacle {
    /// Makes an obstacle; an empty hint is no hint.
    pub fn new(reason: impl Into<String>, hint: impl Into<Hint>) -> Obstacle {
        Obstacle {
            reason: reason.into(),
            hint: Some(hint.into()).filter(|hint| !hint.is_empty()),
        }
    }

    /// The obstacle for every user but root.
    pub fn needs_root() -> Obstacle {
        Obstacle::new("attaching digests needs root", Remedy::RunAsRoot)
    }

    /// The same obstacle, if a restart of the engine removes it.
    #[must_use]
    pub fn needing_restart(self) -> Obstacle {
        Obstacle::new(self.reason, Remedy::AllowRestart)
    }

    /// Joins several obstacles into one.
    pub fn joined(all: Vec<Obstacle>) -> Obstacle {
        let mut reasons: Vec<String> = Vec::new();
        let mut hint = Hint::default();
        for obstacle in all {
            if !reasons.contains(&obstacle.reason) {
                reasons.push(obstacle.reason);
            }
            hint = hint.and(obstacle.hint.unwrap_or_default());
        }
        Obstacle::new(reasons.join("; "), hint)
    }
}

impl From<Obstacle> for Vec<Obstacle> {
    fn from(only: Obstacle) -> Vec<Obstacle> {
        vec![only]
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.reason))
    }
}
