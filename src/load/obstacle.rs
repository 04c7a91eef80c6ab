//! What is in the way of something, and what would help.

use std::fmt;

use crate::escape::Escaped;

/// Why something cannot be done here, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Obstacle {
    /// What kind it is.
    #[serde(skip)]
    pub kind: ObstacleKind,
    /// What is in the way.
    pub reason: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What kind of obstacle it is, as far as a caller may act on it.
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
    /// Makes one; an empty hint is none.
    pub fn new(reason: impl Into<String>, hint: impl Into<String>) -> Obstacle {
        Obstacle {
            kind: ObstacleKind::Other,
            reason: reason.into(),
            hint: Some(hint.into()).filter(|hint| !hint.is_empty()),
        }
    }

    /// What is in the way of everybody but root.
    pub fn needs_root() -> Obstacle {
        Obstacle {
            kind: ObstacleKind::NeedsRoot,
            ..Obstacle::new("attaching digests needs root", "run the same command with sudo")
        }
    }

    /// Says that a restart of the engine would do.
    #[must_use]
    pub fn needing_restart(self) -> Obstacle {
        Obstacle {
            kind: ObstacleKind::NeedsRestart,
            hint: Some("--attach offline --allow-restart attaches it, and restarts the engine".into()),
            ..self
        }
    }

    /// Makes one of several.
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
        // The kind of all that have a hint, if it is one.
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
