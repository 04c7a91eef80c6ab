//! Output: data on standard output, the rest on standard error, JSON on request.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sealift::Error;
use sealift::error::{ErrorKind, Finding};
use sealift::escape::{Escaped, is_hostile, without_passwords};

use super::screen::{self, Screen};
use super::{Global, exit, plugin, remedy};

/// Why a command failed.
pub enum Failure {
    /// An error to report.
    Error(Error),
    /// An error to report with a hint.
    Hinted(Error, Cow<'static, str>),
    /// An error to report with the findings of a verification.
    Findings(Error, Vec<Finding>),
    /// The reader of the output is gone: the process ends like one that does not handle SIGPIPE.
    BrokenPipe,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        if error.is_broken_pipe() {
            Failure::BrokenPipe
        } else {
            Failure::Error(error)
        }
    }
}

impl Failure {
    /// The error in a document, if there is one.
    pub fn document(&self) -> Option<serde_json::Value> {
        match self {
            Failure::Error(error) | Failure::Hinted(error, _) | Failure::Findings(error, _) => {
                Some(error_json(error))
            }
            Failure::BrokenPipe => None,
        }
    }

    /// The status of the process in a shell.
    pub fn status(&self) -> u8 {
        match self {
            Failure::Error(error) | Failure::Hinted(error, _) | Failure::Findings(error, _) => {
                exit::code(error.kind())
            }
            Failure::BrokenPipe => exit::after_signal(signal_hook::consts::SIGPIPE),
        }
    }
}

/// The result of a command that did its work: the most severe failure of a part of it, already reported.
pub type Outcome = Result<Option<ErrorKind>, Failure>;

/// Where a command prints.
#[derive(Clone, Copy)]
pub struct Output {
    global: Global,
    color: bool,
    /// What messages are about, if there are several such things.
    subject: Option<&'static str>,
}

impl Output {
    /// Applies the options of every command.
    pub fn new(global: Global) -> Output {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Output {
            global,
            color: io::stderr().is_terminal() && !no_color,
            subject: None,
        }
    }

    /// The same output, for messages about one of several engines: each begins with its name.
    #[must_use]
    pub fn about(self, subject: &'static str) -> Output {
        Output {
            subject: Some(subject),
            ..self
        }
    }

    /// Whether to print one JSON document.
    pub fn is_json(&self) -> bool {
        self.global.json
    }

    /// Whether to print only results.
    pub fn is_quiet(&self) -> bool {
        self.global.quiet
    }

    /// Whether to print each step.
    pub fn is_verbose(&self) -> bool {
        self.global.verbose
    }

    /// Prints a line of the result. Line breaks in it are escaped.
    pub fn line(&self, text: impl Display) -> Result<(), Failure> {
        let text = text.to_string();
        Screen::lock().make_room();
        written(writeln!(io::stdout().lock(), "{}", Escaped(&text)))
    }

    /// Prints the result as one JSON document.
    pub fn json(&self, value: &impl serde::Serialize) -> Result<(), Failure> {
        print_document(value)
    }

    /// Prints a line of a JSON stream: one value, compact. The command prints no other document then.
    pub fn json_line(&self, value: &impl serde::Serialize) -> Result<(), Failure> {
        use std::fmt::Write as _;
        let text = serde_json::to_string(value).map_err(io::Error::from);
        let text = text.map_err(Error::io("write", "standard output"))?;
        let mut line = String::with_capacity(text.len() + 1);
        for char in text.chars() {
            if !is_hostile(char) {
                line.push(char);
                continue;
            }
            // Such characters are in strings only, where they may be escaped.
            for unit in char.encode_utf16(&mut [0; 2]) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        }
        line.push('\n');
        self.bytes(line.as_bytes())?;
        written(io::stdout().flush())
    }

    /// Prints bytes of the result: a document from [`document_bytes`].
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut printed = PRINTED.lock().unwrap_or_else(PoisonError::into_inner);
        *printed = true;
        Screen::lock().make_room();
        written(io::stdout().lock().write_all(bytes))
    }

    /// Prints a line of the result on standard error, because standard output is in use.
    pub fn say(&self, text: impl Display) {
        screen::say(Escaped(&text.to_string()));
    }

    /// Prints a warning.
    pub fn warn(&self, text: &str) {
        self.labelled("warning", "33", text);
    }

    /// Prints a note.
    pub fn note(&self, text: &str) {
        self.labelled("note", "36", text);
    }

    /// Prints a hint.
    pub fn hint(&self, text: &str) {
        self.labelled("hint", "36", &plugin::worded(text));
    }

    /// Prints why a command failed, each reason with its hint.
    pub fn error(&self, error: &Error) {
        for error in error.each() {
            self.labelled("error", "31", &error.to_string());
            if let Some(hint) = hint_of(error) {
                self.hint(&hint);
            }
        }
    }

    /// Prints several errors. What one error after the other says is printed once, and so is their hint.
    pub fn errors<'e>(&self, errors: impl IntoIterator<Item = &'e Error>) {
        let mut last: Option<String> = None;
        let mut said: Option<String> = None;
        for error in errors.into_iter().flat_map(Error::each) {
            let text = error.to_string();
            if said.as_ref() == Some(&text) {
                continue;
            }
            let hint = hint_of(error);
            if last != hint
                && let Some(last) = &last
            {
                self.hint(last);
            }
            self.labelled("error", "31", &text);
            last = hint;
            said = Some(text);
        }
        if let Some(last) = last {
            self.hint(&last);
        }
    }

    /// Reports why a command failed; with `--json`, also as a document with the findings.
    pub fn failure(&self, error: &Error, findings: &[Finding]) {
        if self.global.json {
            let _ = print_document(&error_document(error, findings));
        }
        self.error(error);
    }

    /// Reports that a signal ends a command that runs until one comes.
    pub fn stopped(&self, signal: i32) {
        Screen::lock().end();
        if !self.global.quiet {
            self.note(&format!("stopped by {}", signal_name(signal)));
        }
    }

    /// Says that a signal takes effect later.
    pub fn delayed(&self, signal: i32) {
        let name = signal_name(signal);
        self.warn(&format!(
            "{name}: finishing first what must not be left half done; another signal ends it at once"
        ));
    }

    /// Reports that a signal ends the command, and what it leaves behind.
    pub fn interrupted(&self, signal: i32, remarks: &[String]) {
        Screen::lock().end();
        let message = format!("interrupted by {}", signal_name(signal));
        if self.global.json {
            last_document(&serde_json::json!({ "schema": 1, "error": {
                "message": message,
                "hint": (!remarks.is_empty()).then(|| remarks.join("; ")),
                "exit": exit::after_signal(signal),
                "code": null,
            }}));
        }
        self.labelled("error", "31", &message);
        remarks.iter().for_each(|remark| self.hint(remark));
    }

    fn labelled(&self, label: &str, code: &str, text: &str) {
        // Messages escape text from outside themselves; escaping it again does no harm.
        let text = match self.subject {
            Some(subject) if label != "hint" && !names(text, subject) => format!("{subject}: {text}"),
            _ => text.to_string(),
        };
        let text = without_passwords(&text);
        let text = Escaped(&text);
        match self.color {
            true => screen::say(format_args!("\u{1b}[1;{code}m{label}\u{1b}[0m: {text}")),
            false => screen::say(format_args!("{label}: {text}")),
        }
    }
}

fn signal_name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("a signal")
}

/// The result of a command that reads several archives. It reads all of them, even if one fails.
pub struct MultiReport<'a> {
    output: &'a Output,
    documents: Vec<serde_json::Value>,
    error: Option<Error>,
    failure: Option<ErrorKind>,
}

impl<'a> MultiReport<'a> {
    /// Starts with no archives.
    pub fn new(output: &'a Output) -> MultiReport<'a> {
        MultiReport {
            output,
            documents: Vec::new(),
            error: None,
            failure: None,
        }
    }

    /// Adds the JSON object of an archive.
    pub fn document(&mut self, document: serde_json::Value) {
        self.documents.push(document);
    }

    /// Adds a failure. The most severe one ends the command.
    pub fn failure(&mut self, kind: ErrorKind) {
        self.failure = self.failure.max(Some(kind));
    }

    /// Reports why an archive could not be read.
    ///
    /// # Errors
    ///
    /// The error itself if it ends the command.
    pub fn error(&mut self, label: &str, error: Error) -> Result<(), Failure> {
        if matches!(error, Error::Interrupted) {
            return Err(error.into());
        }
        self.output.error(&error);
        self.failure(error.kind());
        self.documents
            .push(serde_json::json!({ "archive": label, "error": error_json(&error) }));
        self.error.get_or_insert(error);
        Ok(())
    }

    /// Prints the document with `--json`, including the first error.
    pub fn outcome(self) -> Outcome {
        if self.output.is_json() {
            let mut document = serde_json::json!({ "schema": 1, "archives": self.documents });
            if let Some(error) = &self.error {
                document["error"] = error_json(error);
            }
            self.output.json(&document)?;
        }
        Ok(self.failure)
    }
}

/// Whether the document was printed. Locked while it is being printed.
static PRINTED: Mutex<bool> = Mutex::new(false);

/// Whether a message begins with what it is about.
fn names(message: &str, subject: &str) -> bool {
    let rest = message.strip_prefix(subject);
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '-'))
}

/// The hint of an error, with flags and commands.
pub fn hint_of(error: &Error) -> Option<String> {
    let hint = error.hint().as_ref().map(remedy::hint)?;
    Some(without_passwords(&hint).into())
}

/// The message about a skipped image. The reason may begin with its name.
pub fn skipped(name: &str, reason: &str) -> String {
    let reason = reason
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix(": "))
        .unwrap_or(reason);
    format!("{name} was skipped: {reason}")
}

/// Prints one JSON document.
pub fn print_document(value: &impl serde::Serialize) -> Result<(), Failure> {
    let mut printed = PRINTED.lock().unwrap_or_else(PoisonError::into_inner);
    *printed = true;
    write_document(value)
}

/// Prints the document of a command that a signal ends, unless its own was printed. The command prints none
/// after it.
fn last_document(value: &serde_json::Value) {
    // A document that is being printed may finish, unless its reader has stopped reading.
    let mut tries = 0..20;
    let printed = loop {
        match PRINTED.try_lock() {
            Ok(printed) => break printed,
            Err(_) if tries.next().is_some() => std::thread::sleep(Duration::from_millis(50)),
            Err(_) => return,
        }
    };
    if !*printed {
        let _ = write_document(value);
    }
    // The process dies now.
    std::mem::forget(printed);
}

fn write_document(value: &impl serde::Serialize) -> Result<(), Failure> {
    let bytes = document_bytes(value)?;
    written(io::stdout().lock().write_all(&bytes))
}

/// One JSON document, as it is printed.
pub fn document_bytes(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    written(json_bytes(value))
}

/// The same for a file.
pub fn json_bytes(value: &impl serde::Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Escaping::default());
    value.serialize(&mut serializer)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The document of a failed command, with the findings of a verification.
pub fn error_document(error: &Error, findings: &[Finding]) -> serde_json::Value {
    let mut document = serde_json::json!({ "schema": 1, "error": error_json(error) });
    if let Error::Several(errors) = error {
        document["errors"] = errors.iter().map(error_json).collect();
    }
    if !findings.is_empty() {
        document["findings"] = findings_json(findings);
    }
    document
}

fn written<T>(result: io::Result<T>) -> Result<T, Failure> {
    match result {
        Ok(value) => Ok(value),
        Err(error) => Err(Error::io("write", "standard output")(error).into()),
    }
}

/// An error in a JSON document.
pub fn error_json(error: &Error) -> serde_json::Value {
    serde_json::json!({
        "message": without_passwords(&error.to_string()),
        "hint": hint_of(error),
        "exit": exit::code(error.kind()),
        "code": match error { Error::Refused(finding) => Some(finding.problem.code()), _ => None },
    })
}

/// The findings of a verification in a JSON document.
pub fn findings_json(findings: &[Finding]) -> serde_json::Value {
    findings.iter().map(finding_json).collect()
}

/// A finding in a JSON document.
pub fn finding_json(finding: &Finding) -> serde_json::Value {
    serde_json::json!({
        "severity": if finding.is_error() { "error" } else { "note" },
        "code": finding.problem.code(),
        "message": finding.to_string(),
        "place": finding.place,
        "hint": finding.hint().as_ref().map(remedy::hint),
    })
}

/// Escapes the characters in JSON that a terminal would act on, which changes no value.
#[derive(Default)]
struct Escaping(serde_json::ser::PrettyFormatter<'static>);

impl serde_json::ser::Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, char)) = rest.char_indices().find(|(_, char)| is_hostile(*char)) {
            let (harmless, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
            writer.write_all(harmless.as_bytes())?;
            for unit in char.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = from.get(char.len_utf8()..).unwrap_or_default();
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_engine_once() {
        for (message, expected) in [
            ("podman: pull app:1: no", true),
            ("podman with /storage (version 5): load app:1: no", true),
            ("app:1 was skipped", false),
            ("podman-docker is there", false),
        ] {
            assert_eq!(names(message, "podman"), expected, "{message}");
        }
    }
}
