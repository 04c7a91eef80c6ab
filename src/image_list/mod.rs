//! The images that everyday files name: text lists, compose files, Kubernetes manifests and others.
//!
//! Bytes go in, mentions come out: each with the name as it is written and what it means, and where it is. What a file
//! has and is not used, such as services that have no image, is reported too. Nothing here opens a file: the other
//! files that a compose file needs are listed as [`Elsewhere`].
//!
//! - `collector`: what is gathered, within limits; `document`: what a file and the YAML documents in it are
//! - `text`: lists with one name per line, as k3s, RKE2 and Rancher publish them
//! - `compose`: compose files; `variables` and `interpolate`: the variables in them
//! - `kubernetes`: manifests, as `kubectl`, `helm template` and `kubectl kustomize` print them; `fields`: paths to
//!   images in custom resources
//! - `kustomization`: the images that a kustomization.yaml replaces
//! - `zarf`, `hauler`: packages of Zarf, manifests of Hauler
//! - `lock`: names with their digests, platforms and sizes
//! - `pin`: the same file with digests instead of tags

mod collector;
mod compose;
mod document;
mod fields;
mod hauler;
mod interpolate;
mod kubernetes;
mod kustomization;
mod lock;
mod pin;
mod text;
mod variables;
mod zarf;

use std::collections::BTreeSet;

use crate::error::{Error, Place, Problem, Result};
use crate::escape::Escaped;
use crate::image::asked::Asked;
use crate::oci::Platform;

pub use fields::{FieldError, FieldPath};
pub use lock::{Lock, LockedImage};
pub use variables::Variables;

use self::collector::{Collector, MAX_MENTIONS, MAX_TEXT};
use self::document::{Document, document, text_of, tree_of};
use self::pin::Edit;
use crate::yaml::{Position, Tree};

/// Largest file that is read, in bytes. The manifests of the largest Helm charts, with their custom resources, have some
/// 5 MB.
pub const MAX_SIZE: u64 = 16 << 20;
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

fn refused(place: &str, reason: String) -> Error {
    Error::refused(Place::default().within(place), Problem::Document { reason })
}

/// A place in a file, for people.
fn place(label: &str, position: Position) -> String {
    format!("{label}, line {}, column {}", position.line, position.column)
}

#[cfg(test)]
mod tests;
