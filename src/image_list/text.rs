//! Lists of names: one per line, or the items of a YAML sequence.

use super::collector::{Collector, Found};
use super::pin::Edit;
use super::{Kind, Mention};
use crate::error::Error;
use crate::escape::Escaped;
use crate::image::asked::Asked;
use crate::oci::Reference;
use crate::yaml::Yaml;

/// Whether a text is a list with one name per line, rather than YAML or JSON. No name ends with a colon or has one
/// before a space.
pub(super) fn is_list(text: &str) -> bool {
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(without_comment);
    !lines.any(|line| {
        let line = line.trim();
        let begins = line.starts_with(['{', '[', '%', '?', '&', '!', '"', '\'']);
        // A registry may be an IPv6 address, and a name in quotes.
        begins && unquoted(line).parse::<Reference>().is_err()
            || ["- ", "---", "..."].iter().any(|start| line.starts_with(start))
            || line == "-"
            || line.ends_with(':')
            || line.contains(": ")
            || line.contains(":\t")
    })
}

fn without_comment(line: &str) -> &str {
    line.split_once('#').map_or(line, |(name, _)| name)
}

/// A name without quotes around it, as `jq` prints them unless it is asked for raw text.
fn unquoted(name: &str) -> &str {
    let inside = |quote| name.strip_prefix(quote)?.strip_suffix(quote);
    inside('"').or_else(|| inside('\'')).unwrap_or(name)
}

/// Reads a list. Some editors put a byte order mark before it.
pub(super) fn read(text: &str, collector: &mut Collector<'_>) {
    let mut start = text.len() - text.trim_start_matches('\u{feff}').len();
    let rest = text.get(start..).unwrap_or_default();
    for (line, number) in rest.split_inclusive('\n').zip(1..) {
        let quoted = without_comment(line).trim();
        let name = unquoted(quoted);
        if !name.is_empty() && !collector.is_full() {
            let quote = usize::from(name.len() < quoted.len());
            let before = line.len() - line.trim_start().len() + quote;
            let at = start + before;
            let column = line.get(..before).unwrap_or_default().chars().count() + 1;
            match Asked::parse(name) {
                Ok(asked) => collector.list.mentions.push(Mention {
                    kind: Kind::List,
                    written: name.into(),
                    name: name.into(),
                    asked,
                    line: number,
                    column,
                    path: String::new(),
                    platforms: Vec::new(),
                    is_built: false,
                    edits: vec![Edit::text(at..at + name.len())],
                }),
                Err(error) => collector.list.errors.push(Error::Usage {
                    message: format!("{}, line {number}: {error}", Escaped(collector.label)),
                    hint: error
                        .hint()
                        .or_else(|| Some("a list has one image per line; `#` begins a comment".into())),
                }),
            }
        }
        start += line.len();
    }
}

/// Reads a sequence of names.
pub(super) fn read_sequence(root: Yaml<'_>, collector: &mut Collector<'_>) {
    for (item, number) in root.items().zip(0..) {
        collector.found(Found::new(Kind::List, item, format!("[{number}]")));
    }
}
