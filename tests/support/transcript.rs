//! What commands print, in full, for snapshots.
//!
//! ```text
//! $ sealift save -o x.tar
//! 2> error: no image was named
//! exit 2
//! ```
//!
//! Lines of standard error begin with `2> `; exit code 0 is not shown. A digest is shown as what it is the digest of,
//! such as `<app:1 layer 2>`, or as `<digest 1>` if no image of the test has it. The test's folder is `<home>`.

use std::fmt::Write as _;
use std::process::Command;

use super::command::{Run, Sealift, run};
use super::image::Built;

/// Characters of `sha256:` and 64 hex digits.
const DIGEST: usize = 71;

/// Commands and what they printed.
pub struct Transcript<'a> {
    sealift: &'a Sealift,
    /// Texts that differ from run to run, such as digests, and what is shown instead.
    names: Vec<(String, String)>,
    text: String,
}

impl<'a> Transcript<'a> {
    /// Starts one of commands in the folder of `sealift`.
    pub fn of(sealift: &'a Sealift) -> Self {
        Self {
            sealift,
            names: Vec::new(),
            text: String::new(),
        }
    }

    /// Shows `name` instead of a text that differs from run to run.
    pub fn name(&mut self, text: impl Into<String>, name: impl Into<String>) -> &mut Self {
        self.names.push((text.into(), name.into()));
        self
    }

    /// Shows the digests of an image as what they are the digests of.
    pub fn image(&mut self, name: &str, image: &Built) -> &mut Self {
        let mut named = vec![(image.digest.clone(), name.to_owned())];
        for manifest in &image.manifests {
            let platform = &manifest.platform;
            named.push((manifest.digest.clone(), format!("{name} {platform}")));
            named.push((manifest.config.clone(), format!("{name} {platform} config")));
            for (layer, number) in manifest.layers.iter().zip(1..) {
                named.push((layer.digest.clone(), format!("{name} {platform} layer {number}")));
                named.push((
                    layer.diff_id.clone(),
                    format!("{name} {platform} diff id {number}"),
                ));
            }
        }
        for (digest, name) in named {
            let hex = digest["sha256:".len()..].to_owned();
            self.name(digest, format!("<{name}>"));
            // As the name of a file, and shortened.
            self.name(hex.as_str(), format!("<{name}>"));
            self.name(&hex[..12], format!("<{name}, short>"));
        }
        self
    }

    /// Runs sealift with arguments that have no spaces.
    #[track_caller]
    pub fn run(&mut self, arguments: &str) -> Run {
        self.run_args(&arguments.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs sealift.
    #[track_caller]
    pub fn run_args(&mut self, arguments: &[&str]) -> Run {
        let words = arguments.iter().map(|word| match word.contains([' ', '\'']) {
            true => format!("{word:?}"),
            false => (*word).to_owned(),
        });
        let line = std::iter::once("sealift".to_owned()).chain(words);
        let line = line.collect::<Vec<_>>().join(" ");
        self.run_command(&line, &mut self.sealift.command(arguments))
    }

    /// Runs a command, which is shown as `line`.
    #[track_caller]
    pub fn run_command(&mut self, line: &str, command: &mut Command) -> Run {
        let run = run(command);
        self.add(line, &run);
        run
    }

    /// Adds what was run already.
    pub fn add(&mut self, line: &str, run: &Run) -> &mut Self {
        let separator = if self.text.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.text, "{separator}$ {line}");
        self.text += &run.stdout;
        if !run.stdout.is_empty() && !run.stdout.ends_with('\n') {
            self.text.push('\n');
        }
        for line in run.stderr.lines() {
            let _ = writeln!(self.text, "2> {line}");
        }
        match (run.code, run.signal) {
            (Some(0), _) => {}
            (Some(code), _) => drop(writeln!(self.text, "exit {code}")),
            (None, signal) => drop(writeln!(self.text, "signal {}", signal.unwrap_or_default())),
        }
        self
    }

    /// The text for a snapshot.
    pub fn text(&self) -> String {
        let home = self.sealift.home().display().to_string();
        let mut text = self.text.replace(&home, "<home>");
        let mut names = self.names.clone();
        names.extend(unnamed(&text, &names));
        for header in ["NAME  ", "DIGEST  "] {
            text = aligned(&text, header, &names);
        }
        for (found, name) in &names {
            text = text.replace(found, name);
        }
        text.lines()
            .map(|line| line.trim_end().to_owned() + "\n")
            .collect()
    }
}

/// Names for the digests that have none, in the order in which they occur.
fn unnamed(text: &str, names: &[(String, String)]) -> Vec<(String, String)> {
    let mut more: Vec<(String, String)> = Vec::new();
    for (at, _) in text.match_indices("sha256:") {
        let Some(digest) = text.get(at..at + DIGEST) else {
            continue;
        };
        let is_digest = digest["sha256:".len()..]
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit());
        if is_digest && !names.iter().chain(&more).any(|(known, _)| known == digest) {
            more.push((digest.to_owned(), format!("<digest {}>", more.len() + 1)));
        }
    }
    more
}

/// The text with names for digests in the columns with this header, so that the columns after them stay in line.
fn aligned(text: &str, header: &str, names: &[(String, String)]) -> String {
    let name_of = |digest: &str| {
        names
            .iter()
            .find(|(known, _)| known == digest)
            .map(|(_, name)| name)
    };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut first = 0;
    while first < lines.len() {
        // A table's lines have a digest, or nothing but spaces, in the same columns.
        let column = lines[first].find(header);
        let Some(column) = column else {
            first += 1;
            continue;
        };
        // Indented lines are about the row above them.
        let cell = |line: &str| {
            let cell = line.get(column..column + DIGEST)?;
            let is_cell = !line.starts_with(' ') && !cell.trim_end().contains(' ');
            is_cell.then(|| cell.to_owned())
        };
        let rows = lines[first..]
            .iter()
            .take_while(|line| !line.starts_with("$ "))
            .count();
        let table = &mut lines[first..first + rows];
        let shown = |line: &String| {
            let cell = cell(line)?;
            Some(
                name_of(&cell)
                    .cloned()
                    .unwrap_or_else(|| cell.trim_end().to_owned()),
            )
        };
        let has_digest = table
            .iter()
            .any(|line| cell(line).is_some_and(|cell| name_of(&cell).is_some()));
        let width = table.iter().filter_map(shown).map(|cell| cell.len()).max();
        for line in table.iter_mut().filter(|_| has_digest) {
            if let Some(cell) = shown(line) {
                let width = width.unwrap_or_default();
                line.replace_range(column..column + DIGEST, &format!("{cell:width$}"));
            }
        }
        first += rows;
    }
    lines.join("\n") + "\n"
}
