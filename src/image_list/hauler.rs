//! Manifests of Hauler: the documents of kind `Images`.
//!
//! Source: Hauler, `content.hauler.cattle.io/v1`: `spec.images[]` with `name` and `platform`.

use super::yaml::Yaml;
use super::{Collector, Found, Kind};

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
    for (image, number) in images.items().zip(0..) {
        let path = format!("spec.images[{number}].name");
        let Some(name) = image.get("name") else {
            collector.unused(image, &path, "it has no name");
            continue;
        };
        let platform = image
            .get("platform")
            .filter(|platform| !platform.text().is_none_or(str::is_empty));
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
        collector.found(Found {
            platforms,
            ..Found::new(Kind::Hauler, name, path)
        });
    }
}
