//! Why something is not possible, and what would help.

use std::fmt;

use crate::escape::Escaped;

/// Why something is not possible here, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Obstacle {
    /// Its kind.
    #[serde(skip)]
    pub kind: ObstacleKind,
    /// The reason.
    pub reason: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The kinds of obstacles on which a caller may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ObstacleKind {
    /// Any other.
    #[default]
    Other,
    /// Only the user's consent to a restart of the engine is missing.
    NeedsRestart,
    /// Only root can do it.
    NeedsRoot,
}

impl Obstacle {
    /// Makes an obstacle; an empty hint is no hint.
    pub fn new(reason: impl Into<String>, hint: impl Into<String>) -> Obstacle {
        Obstacle {
            kind: ObstacleKind::Other,
            reason: reason.into(),
            hint: Some(hint.into()).filter(|hint| !hint.is_empty()),
        }
    }

    /// The obstacle for every user but root.
    pub fn needs_root() -> Obstacle {
        Obstacle {
            kind: ObstacleKind::NeedsRoot,
            ..Obstacle::new("attaching digests needs root", "run the same command with sudo")
        }
    }

    /// Marks that a restart of the engine would help.
    #[must_use]
    pub fn needing_restart(self) -> Obstacle {
        Obstacle {
            kind: ObstacleKind::NeedsRestart,
            hint: Some("--attach offline --allow-restart attaches it, and restarts the engine".into()),
            ..self
        }
    }

    /// Joins several obstacles into one.
    pub fn joined(all: Vec<Obstacle>) -> Obstacle {
        let join = |texts: &mut dyn Iterator<Item = String>| {
            let mut said: Vec<String> = Vec::new();
            texts.for_each(|text| {
                if !said.contains(&text) {
                    said.push(text);
                }
            });
            said.join("; ")
        };
        let reasons = join(&mut all.iter().map(|one| one.reason.clone()));
        // The kind of those with a hint, if they agree.
        let mut kinds = all.iter().filter(|one| one.hint.is_some()).map(|one| one.kind);
        let kind = kinds.next().filter(|first| kinds.all(|kind| kind == *first));
        Obstacle {
            kind: kind.unwrap_or_default(),
            ..Obstacle::new(reasons, join(&mut all.into_iter().filter_map(|one| one.hint)))
        }
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
