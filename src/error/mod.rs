//! The library's error type, and the findings of a verification.
//!
//! An [`Error`] ends an operation. Its [`ErrorKind`] says on which side the cause is. A [`Finding`] is data: a
//! verification collects all of them.
//!
//! - `kind`: the kinds of errors, by severity
//! - `finding`: what is wrong with content, and where
//! - `signature`: what is wrong with a signature, or with who made it
//! - `hint`: what to do about an error; `remedy`: advice that a program words by its own options

mod finding;
mod hint;
mod kind;
mod remedy;
mod signature;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::escape::Escaped;
use crate::oci::ReferenceError;

pub(crate) use finding::MAX_WRONG_SIZES;
pub use finding::{Finding, Place, Problem, Span};
pub use hint::{Advice, Hint};
pub use kind::ErrorKind;
pub use remedy::{NewFile, Remedy};
pub use signature::SignatureProblem;

/// The result of the library's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Content is wrong or hostile, or exceeds a limit.
    #[error("{0}")]
    Refused(Box<Finding>),
    /// A verification found errors; the report holds all of them.
    #[error("{place}: {count} of the archive's checks failed")]
    Unverified {
        /// The archive.
        place: String,
        /// Number of findings that are errors.
        count: usize,
        /// What to do about it.
        hint: Option<Hint>,
    },
    /// The request itself is invalid.
    #[error("{message}")]
    Usage {
        /// What is wrong with it.
        message: String,
        /// What to do instead.
        hint: Option<Hint>,
    },
    /// Text is not an image reference.
    #[error("{0}")]
    Reference(#[from] ReferenceError),
    /// A local file could not be read or written.
    #[error("cannot {action} {}{}: {source}", path.display(), At(*offset))]
    Io {
        /// What was tried: a verb, as in "cannot read".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Where in the file, in bytes, if that is known.
        offset: Option<u64>,
        /// What the system said.
        source: Arc<io::Error>,
        /// What to do about it.
        hint: Option<Hint>,
    },
    /// The registry, or the network on the way to it.
    #[error("{registry}: {}{problem}", About(subject))]
    Registry {
        /// The registry's host, as the reference names it.
        registry: String,
        /// What was requested: a reference, digest or address. May be empty.
        subject: String,
        /// What went wrong, with what was expected and found.
        problem: String,
        /// What to do about it.
        hint: Option<Hint>,
        /// Whether a retry may help.
        transient: bool,
    },
    /// A container engine refused or stopped responding, or its disk is full.
    #[error("{engine}: {action}: {problem}")]
    Engine {
        /// Which engine, at which address.
        engine: String,
        /// What was requested of it.
        action: String,
        /// What it answered.
        problem: String,
        /// What to do about it.
        hint: Option<Hint>,
    },
    /// A digest is not shown or not proven, or cannot be provided.
    #[error("{message}")]
    NotShown {
        /// Which digest or image, and why.
        message: String,
        /// What to do about it.
        hint: Option<Hint>,
    },
    /// An image, tag or platform does not exist where sealift looked for it.
    #[error("{what} not found in {place}")]
    NotFound {
        /// The thing.
        what: String,
        /// Where sealift looked for it.
        place: String,
        /// What exists instead.
        hint: Option<Hint>,
    },
    /// Several things failed, each for its own reason.
    #[error("{} errors: {}", .0.len(), Listed(.0))]
    Several(Vec<Error>),
    /// A signal asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Whether an engine or a registry says that its disk is full, or that a quota is used up. Engines have no code for it:
/// these are the texts that Go gives the errors of Linux.
pub(crate) fn tells_of_full_disk(problem: &str) -> bool {
    ["no space left", "disk quota exceeded"]
        .iter()
        .any(|text| problem.contains(text))
}

struct Listed<'a>(&'a [Error]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

struct At(Option<u64>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(offset) => write!(f, " at byte {offset}"),
            None => Ok(()),
        }
    }
}

struct About<'a>(&'a str);

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, "{}: ", Escaped(self.0))
        }
    }
}

impl Error {
    /// Makes a local I/O error, as in `.map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io {
            action,
            path: path.as_ref().to_path_buf(),
            offset: None,
            source: Arc::new(source),
            hint: None,
        }
    }

    /// The error of this crate inside an [`io::Error`] (by `io::Error::other`), else the result of `otherwise`.
    pub fn from_reader(error: io::Error, otherwise: impl FnOnce(io::Error) -> Error) -> Error {
        error.downcast::<Error>().unwrap_or_else(otherwise)
    }

    /// Makes a refusal of content.
    pub fn refused(place: Place, problem: impl Into<Problem>) -> Error {
        let problem = problem.into();
        Error::Refused(Box::new(Finding { place, problem }))
    }

    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::Usage { hint, .. }
            | Error::Io { hint, .. }
            | Error::Registry { hint, .. }
            | Error::Engine { hint, .. }
            | Error::NotShown { hint, .. }
            | Error::Unverified { hint, .. }
            | Error::NotFound { hint, .. } => hint.clone(),
            Error::Refused(finding) => finding.hint(),
            Error::Reference(error) => error.hint.clone().map(Hint::from),
            Error::Several(_) | Error::Interrupted => None,
        }
    }

    /// The same error with more advice, if an error of its variant can have any.
    #[must_use]
    pub fn and_hint(mut self, more: impl Into<Hint>) -> Error {
        if let Error::Usage { hint, .. }
        | Error::Io { hint, .. }
        | Error::Registry { hint, .. }
        | Error::Engine { hint, .. }
        | Error::NotShown { hint, .. }
        | Error::Unverified { hint, .. }
        | Error::NotFound { hint, .. } = &mut self
        {
            *hint = Some(hint.take().unwrap_or_default().and(more));
        }
        self
    }

    /// On which side the cause is; the most severe one of several.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Refused(_) | Error::Unverified { .. } => ErrorKind::Content,
            Error::Usage { .. } | Error::Reference(_) => ErrorKind::Usage,
            Error::Io { .. } => ErrorKind::Io,
            Error::Engine { problem, .. } | Error::Registry { problem, .. }
                if tells_of_full_disk(problem) =>
            {
                ErrorKind::Io
            }
            Error::Registry { .. } => ErrorKind::Registry,
            Error::Engine { .. } => ErrorKind::Engine,
            Error::NotShown { .. } => ErrorKind::NotShown,
            Error::NotFound { .. } => ErrorKind::NotFound,
            Error::Several(errors) => errors.iter().map(Error::kind).max().unwrap_or(ErrorKind::Usage),
            Error::Interrupted => ErrorKind::Interrupted,
        }
    }

    /// One error for several; a single one stays as it is.
    pub fn of_several(mut errors: Vec<Error>) -> Error {
        match errors.len() {
            1 => errors.remove(0),
            _ => Error::Several(errors),
        }
    }

    /// The errors inside [`Error::Several`], or this one alone.
    pub fn each(&self) -> &[Error] {
        match self {
            Error::Several(errors) => errors,
            only => std::slice::from_ref(only),
        }
    }

    /// Whether the reader of our output has gone away, which is not a failure.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether the same request may succeed in a retry.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Registry { transient: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_of_an_engine_is_a_full_disk() {
        let kind = |problem: &str| {
            let error = Error::Engine {
                engine: "docker".into(),
                action: "load".into(),
                problem: problem.into(),
                hint: None,
            };
            error.kind()
        };
        for (problem, expected) in [
            ("write /var/lib/docker/x: no space left on device", ErrorKind::Io),
            ("write /x: disk quota exceeded: unknown", ErrorKind::Io),
            ("the connection was closed", ErrorKind::Engine),
        ] {
            assert_eq!(kind(problem), expected, "{problem}");
        }
    }
}
