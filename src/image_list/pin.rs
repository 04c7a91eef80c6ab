//! The same file with digests instead of tags: only the bytes of names change.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{ImageFile, ImageList, Mention, place};
use crate::error::{Error, Result};
use crate::escape::Escaped;
use crate::oci::Digest;
use crate::yaml::Yaml;

/// What is written in place of some bytes of a file.
#[derive(Debug, Clone)]
pub(super) struct Edit {
    range: Range<usize>,
    new: New,
    /// Why the bytes cannot be replaced, if they cannot.
    refusal: Option<&'static str>,
}

#[derive(Debug, Clone)]
enum New {
    /// `name@digest`.
    Name,
    /// The same in a text list, which has no quotes.
    BareName,
    /// The digest.
    Digest,
    /// This text.
    Text(&'static str),
}

impl Edit {
    fn of(value: Yaml<'_>, new: New) -> Edit {
        let is_block = value.is_block_scalar();
        Edit {
            range: value.range(),
            new,
            refusal: is_block.then_some("is in a text of several lines, where it is not replaced"),
        }
    }

    /// Replaces a scalar by `name@digest`.
    pub fn name(value: Yaml<'_>) -> Edit {
        Edit::of(value, New::Name)
    }

    /// Replaces a scalar by the digest.
    pub fn digest(value: Yaml<'_>) -> Edit {
        Edit::of(value, New::Digest)
    }

    /// Replaces a key by another one.
    pub fn key(value: Yaml<'_>, key: &'static str) -> Edit {
        Edit::of(value, New::Text(key))
    }

    /// Replaces a name in a text list by `name@digest`.
    pub fn text(range: Range<usize>) -> Edit {
        Edit {
            range,
            new: New::BareName,
            refusal: None,
        }
    }

    /// Nothing, because the place does not allow it.
    pub fn refused(value: Yaml<'_>, refusal: &'static str) -> Edit {
        Edit {
            refusal: Some(refusal),
            ..Edit::name(value)
        }
    }
}

impl Mention {
    /// The name without its tag and digest, in the form in which it is written.
    pub fn repository(&self) -> &str {
        let name = self
            .name
            .split_once('@')
            .map_or(self.name.as_str(), |(name, _)| name);
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        match name.get(last..).and_then(|last| last.find(':')) {
            Some(colon) => name.get(..last + colon).unwrap_or(name),
            None => name,
        }
    }
}

impl ImageFile<'_> {
    /// The file with each image replaced by `name@digest`; all other bytes stay as they are. `list` is what was read out
    /// of it, and `digest_of` knows the digest of each mention; without one it stays as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if a name cannot be replaced: it is in a scalar of several lines, or one value of the file would
    /// become two.
    pub fn pinned(&self, list: &ImageList, digest_of: impl Fn(&Mention) -> Option<Digest>) -> Result<String> {
        let mut edits: BTreeMap<usize, (usize, String)> = BTreeMap::new();
        for mention in &list.mentions {
            let Some(digest) = digest_of(mention) else {
                continue;
            };
            for edit in &mention.edits {
                let refuse = |why: &str| {
                    let position = crate::yaml::Position {
                        line: mention.line,
                        column: mention.column,
                    };
                    let place = place(self.label, position);
                    Err(Error::Usage {
                        message: format!("{}: {} {why}", Escaped(&place), Escaped(&mention.name)),
                        hint: Some("write the name in one line, in a value of its own".into()),
                    })
                };
                if let Some(refusal) = edit.refusal {
                    return refuse(refusal);
                }
                let written = self.text.get(edit.range.clone()).unwrap_or_default();
                let pinned = format!("{}@{digest}", mention.repository());
                let new = match edit.new {
                    New::Name => quoted(&pinned, written),
                    New::BareName => pinned,
                    New::Digest => quoted(&digest.to_string(), written),
                    New::Text(text) => quoted(text, written),
                };
                let known = edits.insert(edit.range.start, (edit.range.end, new.clone()));
                if known.is_some_and(|(_, known)| known != new) {
                    return refuse("shares its value with another image, so both cannot be replaced");
                }
            }
        }
        let mut pinned = String::with_capacity(self.text.len() + edits.len() * 80);
        let mut end = 0;
        for (start, (after, new)) in edits {
            pinned.push_str(self.text.get(end..start).unwrap_or_default());
            pinned.push_str(&new);
            end = after;
        }
        pinned.push_str(self.text.get(end..).unwrap_or_default());
        Ok(pinned)
    }
}

/// A text in the quotes of what it replaces. Names and digests need none, unless they begin with a bracket.
fn quoted(text: &str, written: &str) -> String {
    match written.chars().next() {
        Some(quote @ ('"' | '\'')) => format!("{quote}{text}{quote}"),
        _ if text.starts_with('[') => format!("\"{text}\""),
        _ => text.into(),
    }
}
