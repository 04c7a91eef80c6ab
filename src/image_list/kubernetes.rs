//! Manifests of Kubernetes: the images of workloads, wherever a pod is described.
//!
//! Source: Kubernetes API, `PodSpec` (containers, initContainers, ephemeralContainers, image volumes) and the kinds that
//! have a `PodTemplateSpec`.

use super::yaml::Yaml;
use super::{Collector, Found, Kind, MAX_MENTIONS};
use crate::oci::Reference;

/// The groups of Kubernetes' own workloads; the first is the core's, which is written without a name.
const GROUPS: [&str; 4] = ["", "apps", "batch", "extensions"];
/// The lists of containers in a pod.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
/// Deepest nesting of lists of resources, and of what is searched for images.
const MAX_LISTS: usize = 8;
const MAX_SEARCH: usize = 60;

/// Where a kind of workload describes its pod.
fn pod_path(group: &str, kind: &str) -> Option<&'static [&'static str]> {
    if !GROUPS.contains(&group) {
        return None;
    }
    Some(match kind {
        "Pod" => &["spec"],
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicationController" => {
            &["spec", "template", "spec"]
        }
        "CronJob" => &["spec", "jobTemplate", "spec", "template", "spec"],
        "PodTemplate" => &["template", "spec"],
        _ => return None,
    })
}

/// Reads one manifest, or a list of them.
pub(super) fn read(root: Yaml<'_>, collector: &mut Collector<'_>) {
    read_one(root, collector, 0);
}

fn read_one(root: Yaml<'_>, collector: &mut Collector<'_>, depth: usize) {
    if collector.is_full() || !root.is_mapping() {
        return;
    }
    let kind = root.get_text("kind").unwrap_or_default();
    let items = root.get("items").filter(|items| items.is_sequence());
    if let (true, Some(items)) = (kind.ends_with("List"), items) {
        match depth {
            0..MAX_LISTS => items
                .items()
                .for_each(|item| read_one(item, collector, depth + 1)),
            _ => collector.unused(root, "", "lists of resources are nested too deep"),
        }
        return;
    }
    let version = root.get_text("apiVersion").unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let resource = Resource {
        root,
        kind,
        label: label(root, kind),
    };
    match pod_path(group, kind) {
        Some(path) => resource.workload(path, collector),
        None => resource.other(collector),
    }
}

/// A resource for people: `Deployment/web`.
fn label(root: Yaml<'_>, kind: &str) -> String {
    let metadata = root.get("metadata");
    let name = |key| metadata.and_then(|metadata| metadata.get_text(key));
    match name("name").or_else(|| name("generateName")) {
        Some(name) => format!("{kind}/{name}"),
        None => kind.into(),
    }
}

/// A resource that is not a list.
struct Resource<'a> {
    root: Yaml<'a>,
    kind: &'a str,
    label: String,
}

impl Resource<'_> {
    fn workload(&self, path: &[&str], collector: &mut Collector<'_>) {
        let mut pod = Some(self.root);
        for key in path {
            pod = pod.and_then(|value| value.get(key));
        }
        let Some(pod) = pod else {
            return collector.unused(self.root, &self.label, "it describes no pod");
        };
        let path = format!("{} {}", self.label, path.join("."));
        for list in CONTAINERS {
            let Some(containers) = pod.get(list) else { continue };
            for (container, number) in containers.items().zip(0..) {
                self.container(container, &format!("{path}.{list}[{number}]"), collector);
            }
        }
        let Some(volumes) = pod.get("volumes") else { return };
        for (volume, number) in volumes.items().zip(0..) {
            let image = volume.get("image").and_then(|image| image.get("reference"));
            if let Some(image) = image.filter(|image| !image.is_null()) {
                let path = format!("{path}.volumes[{number}].image.reference");
                collector.found(Found::new(Kind::Kubernetes, image, path));
            }
        }
    }

    fn container(&self, container: Yaml<'_>, path: &str, collector: &mut Collector<'_>) {
        let image = container.get("image").filter(|image| image.text() != Some(""));
        match image {
            None => collector.unused(container, path, "the container has no image"),
            Some(image) if image.is_null() => collector.unused(image, path, "the container has no image"),
            // Istio fills in its proxy when the pod is created.
            Some(image) if image.text() == Some("auto") => collector.unused(
                image,
                &format!("{path}.image"),
                "`auto` is replaced in the cluster, by the image that Istio is configured with",
            ),
            Some(image) => {
                collector.found(Found::new(Kind::Kubernetes, image, format!("{path}.image")));
            }
        }
        let Some(variables) = container.get("env") else {
            return;
        };
        for (variable, number) in variables.items().zip(0..) {
            let name = variable.get_text("name").unwrap_or_default();
            let value = variable.get("value").filter(|value| looks_like_an_image(*value));
            if let Some(value) = value.filter(|_| name.to_ascii_uppercase().contains("IMAGE")) {
                let path = format!("{path}.env[{number}].value");
                // Its value may be a password.
                let reason = format!("{name} may name an image that the program starts");
                collector.unused(value, &path, reason);
            }
        }
    }

    /// A resource of a kind that describes no pod, as far as Kubernetes itself knows: the fields that were asked for, else
    /// what looks like an image.
    fn other(&self, collector: &mut Collector<'_>) {
        let options = collector.options;
        let mut fields = options
            .fields
            .iter()
            .filter(|field| field.is_for(self.kind))
            .peekable();
        if fields.peek().is_none() {
            self.search(self.root, &mut Vec::new(), collector);
            return;
        }
        for field in fields {
            let Some(values) = field.values(self.root, MAX_MENTIONS) else {
                collector.is_over = true;
                return;
            };
            for (value, path) in values {
                if !value.is_null() {
                    let path = format!("{} {path}", self.label);
                    collector.found(Found::new(Kind::Kubernetes, value, path));
                }
            }
        }
    }

    /// Reports what looks like an image, with the field that it is in. `trail` leads to `value`.
    fn search<'a>(&self, value: Yaml<'a>, trail: &mut Vec<Step<'a>>, collector: &mut Collector<'_>) {
        if trail.len() > MAX_SEARCH || collector.is_full() {
            return;
        }
        for (item, number) in value.items().zip(0..) {
            if item.is_mapping() || item.is_sequence() {
                trail.push(Step::Item(number));
                self.search(item, trail, collector);
                trail.pop();
            }
        }
        for (key, below) in value.entries() {
            let key = key.text().unwrap_or_default();
            trail.push(Step::Key(key));
            if below.is_mapping() || below.is_sequence() {
                self.search(below, trail, collector);
            } else if (key == "image" || key.ends_with("Image")) && looks_like_an_image(below) {
                let text = below.text().unwrap_or_default();
                let (kind, field) = (self.kind, written(trail, false));
                collector.unused(
                    below,
                    &format!("{} {}", self.label, written(trail, true)),
                    format!(
                        "{text} looks like an image, and {kind} is not a workload of Kubernetes itself; its field is \
                         {kind}:{field}"
                    ),
                );
            }
            trail.pop();
        }
    }
}

/// A step on the way to a value.
enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

/// A path, with or without the numbers of items.
fn written(trail: &[Step<'_>], has_numbers: bool) -> String {
    let mut path = String::new();
    for step in trail {
        match step {
            Step::Item(number) if has_numbers => path.push_str(&format!("[{number}]")),
            Step::Item(_) => path.push_str("[]"),
            Step::Key(key) => {
                path.push_str(if path.is_empty() { "" } else { "." });
                path.push_str(key);
            }
        }
    }
    path
}

/// Whether a value is the name of an image with a tag, a digest or a path.
fn looks_like_an_image(value: Yaml<'_>) -> bool {
    let Some(text) = value.text() else { return false };
    text.contains(['/', ':', '@']) && text.parse::<Reference>().is_ok()
}
