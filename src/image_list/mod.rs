//! The images that everyday files name: text lists, compose files, Kubernetes manifests and others.
//!
//! Bytes go in, mentions come out: each with the name as it is written and what it means, and where it is. What a file
//! has and is not used, such as services that have no image, is reported too. Nothing here opens a file: the other
//! files that a compose file needs are listed as [`Elsewhere`].
//!
//! - `text`: lists with one name per line, as k3s, RKE2 and Rancher publish them
//! - `yaml`: YAML and JSON as trees whose values know where they are
//! - `compose`: compose files; `variables` and `interpolate`: the variables in them
//! - `kubernetes`: manifests, as `kubectl`, `helm template` and `kubectl kustomize` print them; `fields`: paths to
//!   images in custom resources
//! - `kustomization`: the images that a kustomization.yaml replaces
//! - `zarf`, `hauler`: packages of Zarf, manifests of Hauler
//! - `lock`: names with their digests, platforms and sizes
//! - `pin`: the same file with digests instead of tags

mod compose;
mod fields;
mod hauler;
mod interpolate;
mod kubernetes;
mod kustomization;
mod lock;
mod pin;
mod text;
mod variables;
mod yaml;
mod zarf;

use std::collections::BTreeSet;
use std::fmt;

use crate::error::{Error, Place, Problem, Result};
use crate::escape::Escaped;
use crate::image::asked::Asked;
use crate::oci::Platform;

pub use fields::{FieldError, FieldPath};
pub use lock::{Lock, LockedImage};
pub use variables::Variables;

use self::pin::Edit;
use self::yaml::{Position, Tree, Yaml};

/// Largest file that is read, in bytes. The manifests of the largest Helm charts, with their custom resources, have some
/// 5 MB.
pub const MAX_SIZE: u64 = 16 << 20;
/// Most mentions in a file, and as many reports of what is not used: the list of all images of Rancher has 1,000.
const MAX_MENTIONS: usize = 100_000;
/// Most bytes of names, paths and reasons that are kept. A long name counts for each alias that leads to it.
const MAX_TEXT: usize = 64 << 20;
/// Characters of a name that are a step of a path. Names of Kubernetes have up to 253.
const MAX_STEP: usize = 300;

/// What a document that names images is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A list of names.
    List,
    /// A compose file.
    Compose,
    /// Manifests of Kubernetes.
    Kubernetes,
    /// A kustomization.yaml.
    Kustomization,
    /// A package of Zarf.
    Zarf,
    /// A manifest of Hauler.
    Hauler,
    /// A lock file of sealift.
    Lock,
}

/// An image that a file names.
#[derive(Debug, Clone)]
pub struct Mention {
    /// What the document is.
    pub kind: Kind,
    /// The name as it is written, with variables.
    pub written: String,
    /// The name without variables.
    pub name: String,
    /// What it asks for.
    pub asked: Asked,
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// Where it is in the document, such as `services.web.image`. Empty in a text list.
    pub path: String,
    /// The platforms that the document names for it.
    pub platforms: Vec<Platform>,
    /// Whether a compose file also says how to build it.
    pub is_built: bool,
    /// What to write in its place to pin it.
    edits: Vec<Edit>,
}

/// Something that a file has and that is not used.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Unused {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// Where it is in the document.
    pub path: String,
    /// What it is, and why it is not used.
    pub reason: String,
}

/// Another file that a compose file refers to.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    /// Where it is referred to, for messages: the file, line and column, and what refers to it.
    pub place: String,
    /// Its path as it is written, variables filled in.
    pub file: String,
    /// What is read of it.
    pub part: Part,
}

/// What a compose file uses of another one.
#[derive(Debug, Clone)]
pub enum Part {
    /// All of it, by `include`.
    Project {
        /// The folder that its paths are relative to; by default its own.
        folder: Option<String>,
        /// The files with its variables; by default `.env` in the folder.
        env_files: Vec<String>,
    },
    /// A service that one of this file extends and takes its image from; see [`ImageFile::service`].
    Service {
        /// Its name.
        name: String,
        /// The platforms that count before its own.
        platforms: Vec<Platform>,
        /// Whether the service that extends it is built.
        is_built: bool,
    },
}

/// What a file names.
#[derive(Debug, Default)]
pub struct ImageList {
    /// The images, in the order of the file.
    pub mentions: Vec<Mention>,
    /// What is not used.
    pub unused: Vec<Unused>,
    /// Images that cannot be used, such as names that are none.
    pub errors: Vec<Error>,
    /// The other files that have images of this one.
    pub elsewhere: Vec<Elsewhere>,
    /// Which of [`Options::fields`] lead to a value, by their numbers.
    pub fields_found: BTreeSet<usize>,
    /// The profiles that services of compose files have.
    pub profiles: BTreeSet<String>,
}

/// What is read out of files that name images.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The profiles of compose files whose services are used. `*` is all. Services without a profile are always used.
    pub profiles: Vec<String>,
    /// The variables of compose files.
    pub variables: Variables,
    /// More fields that name images, in resources of Kubernetes that are not workloads.
    pub fields: Vec<FieldPath>,
}

/// A file that names images.
pub struct ImageFile<'t> {
    label: &'t str,
    text: &'t str,
    content: Content<'t>,
}

enum Content<'t> {
    Text,
    Yaml(Tree<'t>),
}

/// What a YAML document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Document {
    Empty,
    Names,
    Known(Kind),
    HelmValues,
    HelmChart,
    Unknown,
}

impl<'t> ImageFile<'t> {
    /// Parses a file; `label` is its name in messages.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if it is no text in UTF-8, malformed YAML, or over a limit.
    pub fn parse(label: &'t str, bytes: &'t [u8]) -> Result<ImageFile<'t>> {
        let text = text_of(label, bytes)?;
        let content = match text::is_list(text) {
            true => Content::Text,
            false => Content::Yaml(tree_of(label, text)?),
        };
        Ok(ImageFile { label, text, content })
    }

    /// Whether a document of this kind is in it: variables and profiles have a meaning in compose files only.
    pub fn has(&self, kind: Kind) -> bool {
        match &self.content {
            Content::Text => kind == Kind::List,
            Content::Yaml(tree) => tree.documents().any(|root| match document(root) {
                Document::Known(known) => known == kind,
                Document::Names => kind == Kind::List,
                _ => false,
            }),
        }
    }

    /// The images that it names.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if reading it exceeds a limit; [`Error::Usage`] if no document in it can name images.
    pub fn images(&self, options: &Options) -> Result<ImageList> {
        self.read(options, |collector| match &self.content {
            Content::Text => {
                text::read(self.text, collector);
                true
            }
            Content::Yaml(tree) => {
                for (_, duplicate) in tree.duplicates() {
                    let reason = format!("{duplicate}; the last one counts, as for kubectl");
                    collector.unused_at(duplicate.position, "", reason);
                }
                read_documents(tree, collector)
            }
        })
    }

    /// The images of one service of a compose file, for a service of another file that extends it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if reading it exceeds a limit; [`Error::Usage`] if there is no such service.
    pub fn service(
        &self,
        options: &Options,
        name: &str,
        platforms: &[Platform],
        is_built: bool,
    ) -> Result<ImageList> {
        let mut is_there = false;
        let list = self.read(options, |collector| {
            if let Content::Yaml(tree) = &self.content {
                is_there = tree
                    .documents()
                    .any(|root| compose::read_service(root, name, platforms, is_built, collector));
            }
            true
        })?;
        match is_there {
            true => Ok(list),
            false => Err(Error::Usage {
                message: format!("{}: it has no service {}", Escaped(self.label), Escaped(name)),
                hint: None,
            }),
        }
    }

    /// Gathers what `read` finds. It returns whether the file can name images.
    fn read(&self, options: &Options, read: impl FnOnce(&mut Collector<'_>) -> bool) -> Result<ImageList> {
        let mut collector = Collector {
            label: self.label,
            options,
            list: ImageList::default(),
            text: 0,
            is_over: false,
        };
        let is_known = read(&mut collector);
        let is_exhausted = || matches!(&self.content, Content::Yaml(tree) if tree.is_exhausted());
        let limit = match () {
            () if collector.text > MAX_TEXT => Some(format!(
                "over {} MiB of names and paths, aliases followed",
                MAX_TEXT >> 20
            )),
            () if collector.is_full() => Some(format!("more than {MAX_MENTIONS} images")),
            () if is_exhausted() => Some("its aliases stand for too many values".into()),
            () => None,
        };
        if let Some(reason) = limit {
            return Err(refused(self.label, reason));
        }
        let list = collector.list;
        match (is_known, list.unused.first()) {
            (false, Some(first)) => Err(Error::Usage {
                message: format!("{}: {}", Escaped(self.label), first.reason),
                hint: Some(
                    "a list has one image per line, or is a compose file, Kubernetes manifests, a kustomization.yaml, a \
                     zarf.yaml or a Hauler manifest"
                        .into(),
                ),
            }),
            _ => Ok(list),
        }
    }
}

/// Reads every document. Returns whether any of them can name images.
fn read_documents(tree: &Tree<'_>, collector: &mut Collector<'_>) -> bool {
    let mut is_known = false;
    let mut has_documents = false;
    for root in tree.documents() {
        let document = document(root);
        has_documents |= document != Document::Empty;
        is_known |= matches!(document, Document::Known(_) | Document::Names);
        match document {
            Document::Empty => {}
            Document::Names => text::read_sequence(root, collector),
            Document::Known(Kind::Compose) => compose::read(root, collector),
            Document::Known(Kind::Kustomization) => kustomization::read(root, collector),
            Document::Known(Kind::Zarf) => zarf::read(root, collector),
            Document::Known(Kind::Hauler) => hauler::read(root, collector),
            Document::Known(Kind::Lock) => lock::read(root, collector),
            Document::Known(Kind::Kubernetes | Kind::List) => kubernetes::read(root, collector),
            Document::HelmValues => collector.unused(
                root,
                "",
                "this looks like the values of a Helm chart; `helm template` prints what the chart deploys",
            ),
            Document::HelmChart => collector.unused(
                root,
                "",
                "this describes a Helm chart; `helm template` prints what the chart deploys",
            ),
            Document::Unknown => {
                collector.unused(root, "", "this is not a document that names images");
            }
        }
    }
    is_known || !has_documents
}

/// Parses YAML. A key that is twice in a mapping is an error, except in manifests of Kubernetes: charts have such
/// labels, and `helm` and `kubectl` take the last of them.
fn tree_of<'t>(label: &str, text: &'t str) -> Result<Tree<'t>> {
    let tree = Tree::parse(text).map_err(|error| {
        let hint = match text.contains("{{") {
            true => "; a template is rendered first, with `helm template` for example",
            false => "",
        };
        refused(&place(label, error.position), format!("{}{hint}", error.reason))
    })?;
    let is_tolerated = |root: Yaml<'_>| document(root) == Document::Known(Kind::Kubernetes);
    let refusal = tree
        .duplicates()
        .find(|(root, _)| !is_tolerated(*root))
        .map(|(_, duplicate)| refused(&place(label, duplicate.position), duplicate.to_string()));
    match refusal {
        Some(refusal) => Err(refusal),
        None => Ok(tree),
    }
}

/// What a document is, by its content.
fn document(root: Yaml<'_>) -> Document {
    if root.is_null() {
        return Document::Empty;
    }
    if root.is_sequence() {
        let is_name = |item: Yaml<'_>| item.text().is_some();
        return match root.items().all(is_name) {
            true => Document::Names,
            false => Document::Unknown,
        };
    }
    let version = root.get_text("apiVersion").unwrap_or_default();
    let kind = root.get_text("kind").unwrap_or_default();
    let has = |key: &str| root.get(key).is_some();
    match (version, kind) {
        (_, lock::KIND) => Document::Known(Kind::Lock),
        (_, "ZarfPackageConfig" | "ZarfInitConfig") => Document::Known(Kind::Zarf),
        (version, _) if version.starts_with("content.hauler.cattle.io/") => Document::Known(Kind::Hauler),
        (version, _) if version.starts_with("kustomize.config.k8s.io/") => {
            Document::Known(Kind::Kustomization)
        }
        (version, kind) if !version.is_empty() && !kind.is_empty() => Document::Known(Kind::Kubernetes),
        _ if root.get("services").is_some_and(Yaml::is_mapping) || has("include") && !has("kind") => {
            Document::Known(Kind::Compose)
        }
        _ if kustomization::is_one(root) => Document::Known(Kind::Kustomization),
        ("v1" | "v2", "") if has("name") && has("version") => Document::HelmChart,
        _ if root.is_mapping() && has_values_of_helm(root) => Document::HelmValues,
        _ => Document::Unknown,
    }
}

/// Whether a mapping has an image in the form of Helm's values: a repository and a tag.
fn has_values_of_helm(root: Yaml<'_>) -> bool {
    let is_image = |value: Yaml<'_>| value.get("repository").is_some();
    let mut entries = root.entries().into_iter();
    entries.any(|(_, value)| is_image(value) || value.get("image").is_some_and(is_image))
}

/// The text of a file.
fn text_of<'t>(label: &str, bytes: &'t [u8]) -> Result<&'t str> {
    // The magic number of gzip.
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let reason = "this is compressed; `helm template` prints what a chart deploys";
        return Err(refused(label, reason.into()));
    }
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_SIZE {
        return Err(too_large(label));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(refused(label, "this is UTF-16; save it as UTF-8".into()));
    }
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let place = Place::default()
            .within(label)
            .at(u64::try_from(at).unwrap_or(u64::MAX));
        let reason = "this is not a text: it has a NUL character".into();
        return Err(Error::refused(place, Problem::Document { reason }));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let reason =
            "this is not a text in UTF-8; `iconv -f WINDOWS-1252 -t UTF-8` converts one from Windows";
        refused(&format!("{label}, line {line}"), reason.into())
    })
}

/// The error for a file over [`MAX_SIZE`].
fn too_large(label: &str) -> Error {
    let reason = format!(
        "over {} MiB, the most that a list of images may have",
        MAX_SIZE >> 20
    );
    refused(label, reason)
}

fn refused(place: &str, reason: String) -> Error {
    Error::refused(Place::default().within(place), Problem::Document { reason })
}

/// A place in a file, for people.
fn place(label: &str, position: Position) -> String {
    format!("{label}, line {}, column {}", position.line, position.column)
}

/// Gathers what a file names.
struct Collector<'o> {
    label: &'o str,
    options: &'o Options,
    list: ImageList,
    /// Bytes of the texts in the list.
    text: usize,
    /// Whether something had more values than may be looked at.
    is_over: bool,
}

/// An image in a YAML document.
struct Found<'a> {
    kind: Kind,
    /// The scalar that names it.
    value: Yaml<'a>,
    /// Its name without variables, if that is not what is written.
    name: Option<String>,
    path: String,
    platforms: Vec<Platform>,
    is_built: bool,
}

impl<'a> Found<'a> {
    fn new(kind: Kind, value: Yaml<'a>, path: String) -> Found<'a> {
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
    fn is_full(&self) -> bool {
        let list = &self.list;
        let most = list.mentions.len().max(list.unused.len()).max(list.errors.len());
        let most = most.max(list.elsewhere.len());
        self.is_over || most > MAX_MENTIONS || self.text > MAX_TEXT
    }

    /// Whether texts of this length about a value may be kept. If not, nothing more is read.
    fn has_room(&mut self, value: Yaml<'_>, length: usize) -> bool {
        let has_room = self.has_room_for(length);
        if !has_room {
            value.stop();
        }
        has_room
    }

    fn has_room_for(&mut self, length: usize) -> bool {
        self.text = self.text.saturating_add(length);
        !self.is_full()
    }

    /// Adds an image, or the error that its name is none.
    fn found(&mut self, found: Found<'_>) {
        let Some(written) = found.value.text() else {
            return self.unused(found.value, &found.path, "this is not the name of an image");
        };
        let edits = vec![Edit::name(found.value)];
        let name = found.name.clone().unwrap_or_else(|| written.into());
        self.named(found, name, edits);
    }

    /// Adds an image whose name is put together from several values.
    fn named(&mut self, found: Found<'_>, name: String, edits: Vec<Edit>) {
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
    fn unused(&mut self, value: Yaml<'_>, path: &str, reason: impl Into<String>) {
        let reason = reason.into();
        if self.has_room(value, 0) {
            self.unused_at(value.position(), path, reason);
        }
    }

    fn unused_at(&mut self, position: Position, path: &str, reason: impl Into<String>) {
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
    fn elsewhere(&mut self, value: Yaml<'_>, path: &str, file: String, part: Part) {
        let place = format!("{}: {path}", place(self.label, value.position()));
        if self.has_room(value, place.len() + file.len()) {
            self.list.elsewhere.push(Elsewhere { place, file, part });
        }
    }

    /// Adds an error about a value.
    fn error(&mut self, value: Yaml<'_>, message: String, hint: Option<crate::error::Hint>) {
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
fn step(name: &str) -> &str {
    let end = name.char_indices().nth(MAX_STEP);
    end.and_then(|(end, _)| name.get(..end)).unwrap_or(name)
}

/// A path in a document, as it is printed.
struct Path<'p>(&'p str);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests;
