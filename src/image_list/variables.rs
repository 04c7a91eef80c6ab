//! The variables of compose files: the environment, and files in the syntax of `.env`.
//!
//! Messages name variables and lines, never values.

use std::collections::HashMap;

use super::MAX_SIZE;
use super::interpolate::{Unset, interpolate};
use crate::error::{Error, Result};

/// Values of variables. One of the environment counts before one of a file, and a later file before an earlier one, as
/// in `docker compose`.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    environment: HashMap<String, String>,
    files: HashMap<String, String>,
    /// Bytes of the values in files. A value may repeat others, so a small file may have large ones.
    size: usize,
}

impl Variables {
    /// The variables of an environment.
    pub fn of<K: Into<String>, V: Into<String>>(environment: impl IntoIterator<Item = (K, V)>) -> Variables {
        let environment = environment.into_iter();
        Variables {
            environment: environment
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            files: HashMap::new(),
            size: 0,
        }
    }

    /// For a project that this one includes: all of these count before those of its files.
    pub fn for_included(&self) -> Variables {
        let mut environment = self.files.clone();
        environment.extend(self.environment.clone());
        Variables {
            environment,
            files: HashMap::new(),
            size: self.size,
        }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.environment.get(name).or_else(|| self.files.get(name));
        value.map(String::as_str)
    }

    /// Adds the variables of a file.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] with the line that is malformed. The variables of the lines before it are added.
    pub fn add_file(&mut self, text: &str, label: &str) -> Result<()> {
        let mut lines = Lines {
            rest: text.trim_start_matches('\u{feff}'),
            line: 0,
        };
        while let Some((number, line)) = lines.next() {
            let malformed = |reason: String| Error::Usage {
                message: format!("{label}, line {number}: {reason}"),
                hint: Some("a line of an env file is NAME=VALUE; `#` begins a comment".into()),
            };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = match line.strip_prefix("export") {
                Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
                _ => line,
            };
            let (name, value) = match line.find(['=', ':']) {
                Some(at) => line.split_at_checked(at).unwrap_or((line, "")),
                None => (line, ""),
            };
            let name = name.trim();
            let is_letter = |char: char| char.is_alphanumeric() || matches!(char, '_' | '.' | '-');
            if name.is_empty() || !name.chars().all(is_letter) {
                return Err(malformed("this is not the name of a variable".into()));
            }
            // A name alone is that of the environment, which counts anyway.
            let Some(value) = value.get(1..) else { continue };
            let value = self.value(value.trim(), &mut lines).map_err(malformed)?;
            self.size = self.size.saturating_add(value.len());
            self.files.insert(name.into(), value);
        }
        Ok(())
    }

    /// The value that a line begins. One in quotes may have several lines.
    fn value(&self, text: &str, lines: &mut Lines<'_>) -> Result<String, String> {
        let quote = text.chars().next().filter(|char| matches!(char, '"' | '\''));
        let Some(quote) = quote else {
            return self.filled_in(without_comment(text).trim_end());
        };
        let mut inside = String::new();
        let mut piece = text.get(1..).unwrap_or_default();
        let after = loop {
            if let Some((before, after)) = split_at_quote(piece, quote) {
                inside.push_str(before);
                break after.trim_start();
            }
            inside.push_str(piece);
            inside.push('\n');
            (_, piece) = lines.next().ok_or("the quote is not closed")?;
        };
        if !after.is_empty() && !after.starts_with('#') {
            return Err("something follows the closing quote".into());
        }
        match quote {
            '\'' => Ok(inside.replace("\\'", "'")),
            _ => self.filled_in(&unescaped(&inside)),
        }
    }

    fn filled_in(&self, text: &str) -> Result<String, String> {
        let limit = usize::try_from(MAX_SIZE).unwrap_or(usize::MAX);
        let left = limit.saturating_sub(self.size);
        interpolate(text, self, Unset::Empty, left).map_err(|error| error.to_string())
    }
}

/// The lines of a file, with their numbers.
struct Lines<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Lines<'t> {
    fn next(&mut self) -> Option<(usize, &'t str)> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        Some((self.line, line.strip_suffix('\r').unwrap_or(line)))
    }
}

/// A value without the comment after it, which a space precedes.
fn without_comment(text: &str) -> &str {
    let mut before = ' ';
    for (at, char) in text.char_indices() {
        if char == '#' && before.is_whitespace() {
            return text.get(..at).unwrap_or_default();
        }
        before = char;
    }
    text
}

/// A line before and after the quote that ends a value. A backslash at its end escapes the line break.
fn split_at_quote(line: &str, quote: char) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    for (at, char) in line.char_indices() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            char if char == quote => {
                let (before, after) = line.split_at_checked(at)?;
                return Some((before, after.get(1..).unwrap_or_default()));
            }
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            result.push(char);
            continue;
        }
        match chars.next() {
            Some('n') => result.push('\n'),
            Some('r') => result.push('\r'),
            Some('t') => result.push('\t'),
            // A dollar sign that begins no variable.
            Some('$') => result.push_str("$$"),
            Some(other) => result.push(other),
            None => {}
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_compose_reads_them() {
        let mut variables = Variables::of([("SHELL_TAG", "7"), ("BOTH", "shell")]);
        let text = "\u{feff}# a comment\n\nA=1\nexport B = two words \nC=x # comment\nZ=x# none\nE='$A \\' x' # c\nF=\"$A\\t\
                    ${SHELL_TAG}\\\"\"\nG: yaml\r\nH=\nBOTH=file\nSHELL_TAG\nI=\"one\ntwo\"\nJ=${NONE}/x\nK=\"a\\$b\"\nA=2\n";
        variables.add_file(text, ".env").unwrap();
        for (name, value) in [
            ("A", "2"),
            ("B", "two words"),
            ("C", "x"),
            ("Z", "x# none"),
            ("E", "$A ' x"),
            ("F", "1\t7\""),
            ("G", "yaml"),
            ("H", ""),
            ("BOTH", "shell"),
            ("SHELL_TAG", "7"),
            ("I", "one\ntwo"),
            ("J", "/x"),
            ("K", "a$b"),
        ] {
            assert_eq!(variables.get(name), Some(value), "{name}");
        }
        assert_eq!(variables.get("NONE"), None);
    }

    #[test]
    fn long_values_are_read_and_repeated_ones_are_bounded() {
        let mut variables = Variables::default();
        let key = "k".repeat(100_000);
        let lines = "\n".repeat(1_000_000);
        variables
            .add_file(&format!("KEY={key}\nLINES=\"{lines}\"\nLAST=1\n"), ".env")
            .unwrap();
        assert_eq!(variables.get("KEY"), Some(key.as_str()));
        assert_eq!(variables.get("LINES"), Some(lines.as_str()));
        let repeated: String = (0..1000).map(|number| format!("B{number}=$KEY\n")).collect();
        let error = variables.add_file(&repeated, ".env").unwrap_err();
        assert!(error.to_string().contains("it is too long"), "{error}");
        assert!(variables.size <= usize::try_from(MAX_SIZE).unwrap());
    }

    #[test]
    fn malformed_lines_are_named_without_their_values() {
        for (text, says) in [
            ("A=1\n=secret", ".env, line 2: this is not the name"),
            ("MY KEY=secret", ".env, line 1: this is not the name"),
            ("A='secret", ".env, line 1: the quote is not closed"),
            ("A=\"secret\" more", ".env, line 1: something follows"),
            ("A=${secret!}", ".env, line 1: not a variable"),
        ] {
            let error = Variables::default().add_file(text, ".env").unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with(says) && !error.contains("secret"), "{error}");
        }
    }
}
