//! The images that a kustomization.yaml replaces.
//!
//! Source: Kustomize, `images` of a Kustomization: a digest counts before a tag.

use super::Kind;
use super::collector::{Collector, Found};
use super::pin::Edit;
use crate::yaml::Yaml;

/// The fields by which a kustomization.yaml without a kind is known.
const FIELDS: [&str; 6] = [
    "resources",
    "bases",
    "images",
    "patches",
    "namePrefix",
    "configMapGenerator",
];

/// Whether a document without a kind is a kustomization.yaml.
pub(super) fn is_one(root: Yaml<'_>) -> bool {
    let is_replacement = |item: Yaml<'_>| {
        item.get("name").is_some()
            && ["newName", "newTag", "digest"]
                .iter()
                .any(|key| item.get(key).is_some())
    };
    let has_list = |key: &str| root.get(key).is_some_and(Yaml::is_sequence);
    let images = root.get("images");
    root.get("kind").is_none()
        && FIELDS.iter().any(|key| has_list(key))
        && images.is_none_or(|images| images.items().all(is_replacement))
}

/// Reads one.
pub(super) fn read(root: Yaml<'_>, collector: &mut Collector<'_>) {
    for key in ["resources", "bases", "components", "helmCharts"] {
        if let Some(list) = root.get(key).filter(|list| list.items().next().is_some()) {
            collector.unused(
                list,
                key,
                "these are not read; `kubectl kustomize` prints everything that is deployed",
            );
        }
    }
    let Some(images) = root.get("images") else { return };
    for (image, number) in images.items().zip(0..) {
        let path = format!("images[{number}]");
        let value = |key: &str| image.get(key).filter(|value| value.text().is_some());
        let name = value("newName").or_else(|| value("name"));
        let (Some(name), digest, tag) = (name, value("digest"), value("newTag")) else {
            collector.unused(image, &path, "it has no name");
            continue;
        };
        let text = |value: Yaml<'_>| value.text().unwrap_or_default().to_owned();
        let (whole, edits) = match (digest, tag) {
            (Some(digest), _) => (
                format!("{}@{}", text(name), text(digest)),
                vec![Edit::digest(digest)],
            ),
            (None, Some(tag)) if image.get("digest").is_some() => (
                format!("{}:{}", text(name), text(tag)),
                vec![Edit::refused(tag, "has a digest that is null beside its tag")],
            ),
            (None, Some(tag)) => {
                let key = image.entries().into_iter().map(|(key, _)| key);
                let key = key.filter(|key| key.text() == Some("newTag"));
                let key = key.map(|key| Edit::key(key, "digest"));
                let edits = key.chain([Edit::digest(tag)]).collect();
                (format!("{}:{}", text(name), text(tag)), edits)
            }
            (None, None) => {
                let reason = "the tag of this image is in the resources, which are not read";
                collector.unused(image, &path, reason);
                continue;
            }
        };
        collector.named(Found::new(Kind::Kustomization, name, path), whole, edits);
    }
}
