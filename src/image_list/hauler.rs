//! Manifests of Hauler: the documents of kind `Images`.
//!
//! Source: Hauler, `content.hauler.cattle.io/v1`: `spec.images[]` with `name` and `platform`, and the
//! annotations of a document, which are for all of its images.

use super::Kind;
use super::collector::{Collector, Found};
use crate::yaml::Yaml;

/// Reads a document.
pub(super) fn read(root: Yaml<'_>, collector: &mut Collector<'_>) {
    let kind = root.get_text("kind").unwrap_or_default();
    if kind != "Images" {
        let reason = match kind {
            "ImageTxts" => "the lists that it refers to are not read; name them as well",
            "Charts" => "the images of charts are not read; `helm template` prints what a chart deploys",
            _ => "this is not of images",
        };
        return collector.unused(root, kind, reason);
    }
    let Some(images) = root.get("spec").and_then(|spec| spec.get("images")) else {
        return collector.unused(root, kind, "it has no spec.images");
    };
    let annotation = |key| root.get("metadata")?.get("annotations")?.get(key);
    let registry = annotation("hauler.dev/registry").and_then(Yaml::text);
    for (image, number) in images.items().zip(0..) {
        let path = format!("spec.images[{number}].name");
        let Some(name) = image.get("name") else {
            collector.unused(image, &path, "it has no name");
            continue;
        };
        let given = |value: &Yaml<'_>| !value.text().is_none_or(str::is_empty);
        let own = image.get("platform").filter(given);
        let platform = own.or_else(|| annotation("hauler.dev/platform").filter(given));
        let mut platforms = Vec::new();
        if let Some(platform) = platform {
            match platform.text().unwrap_or_default().parse() {
                Ok(parsed) => platforms.push(parsed),
                Err(_) => {
                    let path = format!("spec.images[{number}].platform");
                    collector.unused(platform, &path, "this is not a platform");
                }
            }
        }
        let is_local = image.get_text("local") == Some("true");
        let registry = registry.filter(|registry| !registry.is_empty() && !is_local);
        let full = registry.and_then(|registry| within(registry, name.text()?));
        collector.found(Found {
            platforms,
            name: full,
            ..Found::new(Kind::Hauler, name, path)
        });
    }
}

/// The name of an image that names no registry, in the registry of its document. As on Docker Hub, a name of one part
/// is in `library`.
fn within(registry: &str, name: &str) -> Option<String> {
    let registry = registry.trim_end_matches('/');
    match name.split_once('/') {
        None => Some(format!("{registry}/library/{name}")),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => None,
        Some(_) => Some(format!("{registry}/{name}")),
    }
}
