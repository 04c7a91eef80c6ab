//! Packages of Zarf: the images of components.
//!
//! Source: Zarf, `zarf.yaml`: in v1alpha1 an image is a string, in v1beta1 a mapping with a name.

use super::Kind;
use super::collector::{Collector, Found};
use crate::yaml::Yaml;

/// Reads a package.
pub(super) fn read(root: Yaml<'_>, collector: &mut Collector<'_>) {
    let Some(components) = root.get("components") else {
        return;
    };
    for (component, number) in components.items().zip(0..) {
        let path = match component.get_text("name") {
            Some(name) => format!("components.{name}"),
            None => format!("components[{number}]"),
        };
        if let Some(import) = component.get("import").filter(|import| !import.is_null()) {
            let reason = "the component that it imports is not read";
            collector.unused(import, &format!("{path}.import"), reason);
        }
        if let Some(images) = component.get("images") {
            for (image, number) in images.items().zip(0..) {
                read_image(image, format!("{path}.images[{number}]"), collector);
            }
        }
        if let Some(archives) = component.get("imageArchives") {
            for (archive, number) in archives.items().zip(0..) {
                let reason = "the images of this archive are in a file of the package";
                collector.unused(archive, &format!("{path}.imageArchives[{number}]"), reason);
            }
        }
    }
}

fn read_image(image: Yaml<'_>, path: String, collector: &mut Collector<'_>) {
    let (name, path) = match image.get("name") {
        Some(name) => (name, format!("{path}.name")),
        None => (image, path),
    };
    match name.text() {
        Some(text) if text.contains("###") => {
            let reason = "it has a variable of Zarf, whose value is not known here";
            collector.unused(name, &path, reason);
        }
        _ => collector.found(Found::new(Kind::Zarf, name, path)),
    }
}
