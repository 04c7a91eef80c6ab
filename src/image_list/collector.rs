//! Gathers what a file names, within limits.

use std::fmt;

use super::pin::Edit;
use super::{Elsewhere, ImageList, Kind, Mention, Options, Part, Unused, place};
use crate::error::{Error, Hint};
use crate::escape::Escaped;
use crate::image::asked::Asked;
use crate::oci::Platform;
use crate::yaml::{Position, Yaml};

/// Most mentions in a file, and as many reports of what is not used: the list of all images of Rancher has 1,000.
pub(super) const MAX_MENTIONS: usize = 100_000;
/// Most bytes of names, paths and reasons that are kept. A long name counts for each alias that leads to it.
pub(super) const MAX_TEXT: usize = 64 << 20;
/// Characters of a name that are a step of a path. Names of Kubernetes have up to 253.
const MAX_STEP: usize = 300;

/// Gathers what a file names.
pub(super) struct Collector<'o> {
    pub(super) label: &'o str,
    pub(super) options: &'o Options,
    pub(super) list: ImageList,
    /// Bytes of the texts in the list.
    pub(super) text: usize,
    /// Whether something had more values than may be looked at.
    pub(super) is_over: bool,
}

/// An image in a YAML document.
pub(super) struct Found<'a> {
    pub(super) kind: Kind,
    /// The scalar that names it.
    pub(super) value: Yaml<'a>,
    /// Its name without variables, if that is not what is written.
    pub(super) name: Option<String>,
    pub(super) path: String,
    pub(super) platforms: Vec<Platform>,
    pub(super) is_built: bool,
}

impl<'a> Found<'a> {
    pub(super) fn new(kind: Kind, value: Yaml<'a>, path: String) -> Found<'a> {
        Found {
            kind,
            value,
            name: None,
            path,
            platforms: Vec::new(),
            is_built: false,
        }
    }
}

impl Collector<'_> {
    /// Whether the file exceeds a limit and is refused, so that no more is to be gathered.
    pub(super) fn is_full(&self) -> bool {
        let list = &self.list;
        let most = list.mentions.len().max(list.unused.len()).max(list.errors.len());
        let most = most.max(list.elsewhere.len());
        self.is_over || most > MAX_MENTIONS || self.text > MAX_TEXT
    }

    /// Whether texts of this length about a value may be kept. If not, nothing more is read.
    pub(super) fn has_room(&mut self, value: Yaml<'_>, length: usize) -> bool {
        let has_room = self.has_room_for(length);
        if !has_room {
            value.stop();
        }
        has_room
    }

    pub(super) fn has_room_for(&mut self, length: usize) -> bool {
        self.text = self.text.saturating_add(length);
        !self.is_full()
    }

    /// Adds an image, or the error that its name is none.
    pub(super) fn found(&mut self, found: Found<'_>) {
        let Some(written) = found.value.text() else {
            return self.unused(found.value, &found.path, "this is not the name of an image");
        };
        let edits = vec![Edit::name(found.value)];
        let name = found.name.clone().unwrap_or_else(|| written.into());
        self.named(found, name, edits);
    }

    /// Adds an image whose name is put together from several values.
    pub(super) fn named(&mut self, found: Found<'_>, name: String, edits: Vec<Edit>) {
        let written = found.value.text().unwrap_or_default();
        if !self.has_room(found.value, written.len() + name.len() + found.path.len()) {
            return;
        }
        let position = found.value.position();
        match Asked::parse(name.trim()) {
            Ok(asked) => self.list.mentions.push(Mention {
                kind: found.kind,
                written: written.into(),
                name: name.trim().into(),
                asked,
                line: position.line,
                column: position.column,
                path: found.path,
                platforms: found.platforms,
                is_built: found.is_built,
                edits,
            }),
            Err(error) => {
                let hint = error.hint();
                let message = format!("{}: {error}", Path(&found.path));
                self.error(found.value, message, hint);
            }
        }
    }

    /// Adds something that is not used.
    pub(super) fn unused(&mut self, value: Yaml<'_>, path: &str, reason: impl Into<String>) {
        let reason = reason.into();
        if self.has_room(value, 0) {
            self.unused_at(value.position(), path, reason);
        }
    }

    pub(super) fn unused_at(&mut self, position: Position, path: &str, reason: impl Into<String>) {
        let reason = reason.into();
        if !self.has_room_for(path.len() + reason.len()) {
            return;
        }
        self.list.unused.push(Unused {
            line: position.line,
            column: position.column,
            path: path.into(),
            reason,
        });
    }

    /// Adds a file that has images of this one.
    pub(super) fn elsewhere(&mut self, value: Yaml<'_>, path: &str, file: String, part: Part) {
        let place = format!("{}: {path}", place(self.label, value.position()));
        if self.has_room(value, place.len() + file.len()) {
            self.list.elsewhere.push(Elsewhere { place, file, part });
        }
    }

    /// Adds an error about a value.
    pub(super) fn error(&mut self, value: Yaml<'_>, message: String, hint: Option<Hint>) {
        if !self.has_room(value, message.len()) {
            return;
        }
        let place = place(self.label, value.position());
        self.list.errors.push(Error::Usage {
            message: format!("{}: {message}", Escaped(&place)),
            hint,
        });
    }
}

/// A name as a step of a path: its beginning, if it is long.
pub(super) fn step(name: &str) -> &str {
    let end = name.char_indices().nth(MAX_STEP);
    end.and_then(|(end, _)| name.get(..end)).unwrap_or(name)
}

/// A path in a document, as it is printed.
pub(super) struct Path<'p>(pub(super) &'p str);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(self.0).fmt(f)
    }
}
