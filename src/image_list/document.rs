//! What a file is, and what each YAML document in it is, by their content.

use super::{Kind, MAX_SIZE, kustomization, lock, place, refused};
use crate::error::{Error, Place, Problem, Result};
use crate::yaml::{Tree, Yaml};

/// What a YAML document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Document {
    Empty,
    Names,
    Known(Kind),
    HelmValues,
    HelmChart,
    Unknown,
}

/// Parses YAML. A key that is twice in a mapping is an error, except in manifests of Kubernetes: charts have such
/// labels, and `helm` and `kubectl` take the last of them.
pub(super) fn tree_of<'t>(label: &str, text: &'t str) -> Result<Tree<'t>> {
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
pub(super) fn document(root: Yaml<'_>) -> Document {
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
pub(super) fn text_of<'t>(label: &str, bytes: &'t [u8]) -> Result<&'t str> {
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
