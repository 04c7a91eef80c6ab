//! YAML files as trees whose values know where they are.
//!
//! Aliases are edges to the value that they name and are never copied, so a small file stays small. Reading a tree
//! counts what it visits, which bounds the time that aliases of aliases take.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};

/// Most values and references to them in a file. The largest output of Helm charts has a hundred thousand.
const MAX_NODES: usize = 1_000_000;
/// Most values that are visited while a file is read, aliases followed.
const MAX_VISITS: usize = 10_000_000;
/// Bytes of a text that count as a visit.
const PER_VISIT: usize = 64;
/// Deepest nesting. Schemas of Kubernetes' custom resources reach 60.
const MAX_DEPTH: usize = 200;
/// Deepest chain of merge keys.
const MAX_MERGES: usize = 20;

/// Where a value begins, counted from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// The line.
    pub line: usize,
    /// The character in it.
    pub column: usize,
}

impl Position {
    fn of(marker: Marker) -> Position {
        Position {
            line: marker.line().max(1),
            column: marker.col().saturating_add(1),
        }
    }
}

/// Why a file is refused, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct YamlError {
    pub position: Position,
    pub reason: String,
}

impl YamlError {
    fn new(marker: Marker, reason: impl Into<String>) -> YamlError {
        YamlError {
            position: Position::of(marker),
            reason: reason.into(),
        }
    }
}

/// A key that a mapping has before, and where it is again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Duplicate {
    /// The number of its document.
    root: usize,
    pub position: Position,
    key: String,
}

impl fmt::Display for Duplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key {:?} occurs twice in one mapping", self.key)
    }
}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> YamlError {
        YamlError::new(*error.marker(), format!("not valid YAML: {}", error.info()))
    }
}

/// The documents of a file.
pub(crate) struct Tree<'t> {
    nodes: Vec<Node<'t>>,
    roots: Vec<usize>,
    duplicates: Vec<Duplicate>,
    visits: Cell<usize>,
}

struct Node<'t> {
    value: Value<'t>,
    position: Position,
    /// Its bytes in the file, with quotes.
    range: Range<usize>,
}

enum Value<'t> {
    Null,
    Scalar(Cow<'t, str>, ScalarStyle),
    Sequence(Vec<usize>),
    Mapping(Vec<(usize, usize)>),
}

/// A sequence or mapping that is being read.
struct Open {
    id: usize,
    is_mapping: bool,
    anchor: usize,
    children: Vec<usize>,
}

/// Reads events into a tree.
struct Builder<'t> {
    nodes: Vec<Node<'t>>,
    roots: Vec<usize>,
    /// References to values: what takes memory besides the values.
    edges: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, usize>,
    duplicates: Vec<Duplicate>,
}

impl<'t> Tree<'t> {
    /// Parses all documents of a file.
    ///
    /// # Errors
    ///
    /// If the text is not YAML, or exceeds a limit.
    pub fn parse(text: &'t str) -> Result<Tree<'t>, YamlError> {
        let options = granit_parser::options! {
            emit_comments: false,
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
        };
        let mut builder = Builder {
            nodes: Vec::new(),
            roots: Vec::new(),
            edges: 0,
            open: Vec::new(),
            anchors: HashMap::new(),
            duplicates: Vec::new(),
        };
        for next in Parser::new_from_str_with_options(text, options) {
            let (event, span) = next?;
            let range = span.byte_range().unwrap_or_default();
            builder.add(event, span.start, range)?;
            if builder.nodes.len().max(builder.edges) > MAX_NODES {
                let reason = format!("more than {MAX_NODES} values");
                return Err(YamlError::new(span.start, reason));
            }
        }
        Ok(Tree {
            nodes: builder.nodes,
            roots: builder.roots,
            duplicates: builder.duplicates,
            visits: Cell::new(MAX_VISITS),
        })
    }

    /// The root values of the documents.
    pub fn documents(&self) -> impl Iterator<Item = Yaml<'_>> {
        self.roots.iter().map(|id| Yaml { tree: self, id: *id })
    }

    /// The keys that a mapping has twice, with the documents that they are in. Of such keys the tree has the last.
    pub fn duplicates(&self) -> impl Iterator<Item = (Yaml<'_>, &Duplicate)> {
        self.duplicates.iter().filter_map(|duplicate| {
            let id = *self.roots.get(duplicate.root)?;
            Some((Yaml { tree: self, id }, duplicate))
        })
    }

    /// Whether more values were visited than is allowed, so that what was read is incomplete.
    pub fn is_exhausted(&self) -> bool {
        self.visits.get() == 0
    }

    fn spend(&self, count: usize) -> bool {
        let left = self.visits.get().saturating_sub(count);
        self.visits.set(left);
        left > 0
    }
}

impl<'t> Builder<'t> {
    fn add(&mut self, event: Event<'t>, start: Marker, range: Range<usize>) -> Result<(), YamlError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = match is_null(&text, style, tag.as_deref()) {
                    true => Value::Null,
                    false => Value::Scalar(text, style),
                };
                let id = self.push(value, start, range);
                self.attach(id, anchor);
            }
            Event::SequenceStart(_, anchor, _) => self.open(false, anchor, start, range),
            Event::MappingStart(_, anchor, _) => self.open(true, anchor, start, range),
            Event::SequenceEnd | Event::MappingEnd => self.close(start)?,
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(id) => self.attach(*id, 0),
                None => return Err(YamlError::new(start, "an alias inside the value that it names")),
            },
            Event::DocumentEnd => self.anchors.clear(),
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, value: Value<'t>, start: Marker, range: Range<usize>) -> usize {
        self.nodes.push(Node {
            value,
            position: Position::of(start),
            range,
        });
        self.nodes.len() - 1
    }

    fn open(&mut self, is_mapping: bool, anchor: usize, start: Marker, range: Range<usize>) {
        let id = self.push(Value::Null, start, range);
        self.open.push(Open {
            id,
            is_mapping,
            anchor,
            children: Vec::new(),
        });
    }

    fn close(&mut self, end: Marker) -> Result<(), YamlError> {
        let Some(done) = self.open.pop() else {
            return Err(YamlError::new(end, "the end of something that did not begin"));
        };
        let value = match done.is_mapping {
            false => Value::Sequence(done.children),
            true => {
                let pairs = done.children.chunks_exact(2);
                let pairs = pairs.filter_map(|pair| Some((*pair.first()?, *pair.last()?)));
                let pairs: Vec<(usize, usize)> = pairs.collect();
                Value::Mapping(self.without_duplicates(pairs))
            }
        };
        if let Some(node) = self.nodes.get_mut(done.id) {
            node.value = value;
        }
        self.attach(done.id, done.anchor);
        Ok(())
    }

    /// Puts a whole value into what is open around it.
    fn attach(&mut self, id: usize, anchor: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, id);
        }
        self.edges += 1;
        match self.open.last_mut() {
            Some(around) => around.children.push(id),
            None => self.roots.push(id),
        }
    }

    /// Leaves the last of each key that a mapping has twice: readers differ in which of them counts.
    fn without_duplicates(&mut self, pairs: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
        let mut known = HashMap::with_capacity(pairs.len());
        let mut replaced = HashSet::new();
        for (at, (key, _)) in pairs.iter().enumerate() {
            let Some(node) = self.nodes.get(*key) else {
                continue;
            };
            if let Value::Scalar(text, _) = &node.value
                && let Some(before) = known.insert(text.as_ref(), at)
            {
                replaced.insert(before);
                self.duplicates.push(Duplicate {
                    root: self.roots.len(),
                    position: node.position,
                    key: text.chars().take(100).collect(),
                });
            }
        }
        if replaced.is_empty() {
            return pairs;
        }
        let pairs = pairs.into_iter().enumerate();
        pairs
            .filter_map(|(at, pair)| (!replaced.contains(&at)).then_some(pair))
            .collect()
    }
}

/// Whether a scalar is null. Compose's `!reset` removes a value.
fn is_null(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> bool {
    let is_plain = style == ScalarStyle::Plain && matches!(text, "" | "~" | "null" | "Null" | "NULL");
    is_plain && tag.is_none_or(|tag| tag.suffix() != "str") || tag.is_some_and(|tag| tag.suffix() == "reset")
}

/// A value of a tree.
#[derive(Clone, Copy)]
pub(crate) struct Yaml<'a> {
    tree: &'a Tree<'a>,
    id: usize,
}

impl<'a> Yaml<'a> {
    fn node(self) -> Option<&'a Node<'a>> {
        self.tree.nodes.get(self.id)
    }

    fn at(self, id: usize) -> Yaml<'a> {
        Yaml { tree: self.tree, id }
    }

    /// Where it begins.
    pub fn position(self) -> Position {
        self.node()
            .map_or(Position { line: 1, column: 1 }, |node| node.position)
    }

    /// Its bytes in the file, with quotes.
    pub fn range(self) -> Range<usize> {
        self.node().map_or(0..0, |node| node.range.clone())
    }

    /// Whether it is null.
    pub fn is_null(self) -> bool {
        self.node().is_none_or(|node| matches!(node.value, Value::Null))
    }

    /// Whether it is a mapping.
    pub fn is_mapping(self) -> bool {
        self.node()
            .is_some_and(|node| matches!(node.value, Value::Mapping(_)))
    }

    /// Whether it is a sequence.
    pub fn is_sequence(self) -> bool {
        self.node()
            .is_some_and(|node| matches!(node.value, Value::Sequence(_)))
    }

    /// The text of a scalar that is not null. A long one counts as several values.
    pub fn text(self) -> Option<&'a str> {
        match &self.node()?.value {
            Value::Scalar(text, _) if self.tree.spend(text.len() / PER_VISIT) => Some(text.as_ref()),
            _ => None,
        }
    }

    /// Ends the reading of the tree: nothing has items or text any more.
    pub fn stop(self) {
        self.tree.visits.set(0);
    }

    /// Whether it is a scalar of several lines, written with `|` or `>`.
    pub fn is_block_scalar(self) -> bool {
        let is_block = |style| matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        self.node()
            .is_some_and(|node| matches!(node.value, Value::Scalar(_, style) if is_block(style)))
    }

    /// The items of a sequence; none if it is something else.
    pub fn items(self) -> impl Iterator<Item = Yaml<'a>> {
        let items = match self.node().map(|node| &node.value) {
            Some(Value::Sequence(items)) => items.as_slice(),
            _ => &[],
        };
        let items = items.iter().map(move |id| self.at(*id));
        items.take_while(move |_| self.tree.spend(1))
    }

    /// The value of a key of a mapping, merge keys (`<<`) followed.
    pub fn get(self, key: &str) -> Option<Yaml<'a>> {
        self.find(key, 0)
    }

    /// The text of a key of a mapping.
    pub fn get_text(self, key: &str) -> Option<&'a str> {
        self.get(key)?.text()
    }

    fn pairs(self) -> impl Iterator<Item = (Yaml<'a>, Yaml<'a>)> {
        let pairs = match self.node().map(|node| &node.value) {
            Some(Value::Mapping(pairs)) => pairs.as_slice(),
            _ => &[],
        };
        let pairs = pairs
            .iter()
            .map(move |(key, value)| (self.at(*key), self.at(*value)));
        pairs.take_while(move |_| self.tree.spend(1))
    }

    fn is_merge_key(self) -> bool {
        let value = self.node().map(|node| &node.value);
        matches!(value, Some(Value::Scalar(text, ScalarStyle::Plain)) if text == "<<")
    }

    /// The mappings that the merge keys of this one name.
    fn merged(self) -> Vec<Yaml<'a>> {
        let values = self.pairs().filter(|(key, _)| key.is_merge_key());
        let mut merged = Vec::new();
        for (_, value) in values {
            match value.is_sequence() {
                true => merged.extend(value.items()),
                false => merged.push(value),
            }
        }
        merged
    }

    fn find(self, key: &str, depth: usize) -> Option<Yaml<'a>> {
        let mut has_merges = false;
        for (name, value) in self.pairs() {
            if name.is_merge_key() {
                has_merges = true;
            } else if name.text() == Some(key) {
                return Some(value);
            }
        }
        if !has_merges || depth == MAX_MERGES {
            return None;
        }
        self.merged().into_iter().find_map(|one| one.find(key, depth + 1))
    }

    /// The keys and values of a mapping, merge keys followed; a key of its own counts before a merged one.
    pub fn entries(self) -> Vec<(Yaml<'a>, Yaml<'a>)> {
        let (mut entries, mut known) = (Vec::new(), HashSet::new());
        self.collect(&mut entries, &mut known, 0);
        entries
    }

    fn collect(self, entries: &mut Vec<(Yaml<'a>, Yaml<'a>)>, known: &mut HashSet<&'a str>, depth: usize) {
        for (key, value) in self.pairs() {
            if !key.is_merge_key() && key.text().is_some_and(|text| known.insert(text)) {
                entries.push((key, value));
            }
        }
        if depth < MAX_MERGES {
            for one in self.merged() {
                one.collect(entries, known, depth + 1);
            }
        }
    }
}
