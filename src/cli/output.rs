//! What is printed where: data on standard output, the rest on standard error; JSON on request.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use sealift::Error;
use sealift::escape::Escaped;

use super::Global;

/// Why a command ends without success.
pub enum Failure {
    /// To be told.
    Error(Error),
    /// Nobody listens any more: the process ends as one that does not handle SIGPIPE.
    BrokenPipe,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
            error => Failure::Error(error),
        }
    }
}

/// A command's end: the exit code, or a failure.
pub type Outcome = Result<u8, Failure>;

/// Where a command prints.
pub struct Output {
    global: Global,
    color: bool,
}

impl Output {
    /// Takes the flags that every command has.
    pub fn new(global: Global) -> Output {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Output {
            global,
            color: io::stderr().is_terminal() && !no_color,
        }
    }

    /// Whether one JSON document is wanted.
    pub fn is_json(&self) -> bool {
        self.global.json
    }

    /// Whether nothing but results is wanted.
    pub fn is_quiet(&self) -> bool {
        self.global.quiet
    }

    /// Whether each step is to be told.
    pub fn is_verbose(&self) -> bool {
        self.global.verbose
    }

    /// Prints a line of the result.
    pub fn line(&self, text: impl Display) -> Result<(), Failure> {
        written(writeln!(io::stdout().lock(), "{text}"))
    }

    /// Prints the result as one JSON document.
    pub fn json(&self, value: &serde_json::Value) -> Result<(), Failure> {
        self.document(value)
    }

    /// Prints something that is a JSON document by itself.
    pub fn document(&self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        written(serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from))?;
        written(writeln!(out))
    }

    /// Prints a line of the result where standard output is taken.
    pub fn say(&self, text: impl Display) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Tells what is odd.
    pub fn warn(&self, text: &str) {
        self.labelled("warning", "33", text);
    }

    /// Tells what would help.
    pub fn hint(&self, text: &str) {
        self.labelled("hint", "36", text);
    }

    /// Tells why a command failed, with a hint if there is one; as JSON too if that is wanted.
    pub fn error(&self, error: &Error) {
        if self.global.json {
            let _ = self.json(&error_json(error));
        }
        self.labelled("error", "31", &error.to_string());
        if let Some(hint) = error.hint() {
            self.hint(hint);
        }
    }

    fn labelled(&self, label: &str, code: &str, text: &str) {
        // Messages escape what comes from outside themselves; once more does no harm to them.
        let text = Escaped(text);
        let mut err = io::stderr().lock();
        let _ = if self.color {
            writeln!(err, "\u{1b}[1;{code}m{label}\u{1b}[0m: {text}")
        } else {
            writeln!(err, "{label}: {text}")
        };
    }
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) => Err(Error::io("write", "standard output")(error).into()),
    }
}

/// An error as it stands in a JSON document.
pub fn error_json(error: &Error) -> serde_json::Value {
    serde_json::json!({
        "schema": 1,
        "error": {
            "message": error.to_string(),
            "hint": error.hint(),
            "exit": error.exit_code(),
            "code": match error { Error::Refused(finding) => Some(finding.problem.code()), _ => None },
        },
    })
}

/// Lays out rows in columns that are as wide as their widest cell.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let shown: Vec<Vec<String>> = std::iter::once(header.iter().map(ToString::to_string).collect())
        .chain(
            rows.iter()
                .map(|row| row.iter().map(|cell| Escaped(cell).to_string()).collect()),
        )
        .collect();
    let width = |column: usize| {
        shown
            .iter()
            .filter_map(|row: &Vec<String>| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..header.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    shown
        .iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            cells.join("   ").trim_end().to_string()
        })
        .collect()
}
