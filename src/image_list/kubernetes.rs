//! Manifests of Kubernetes: the images of workloads, wherever a pod is described.
//!
//! Source: Kubernetes API, `PodSpec` (containers, initContainers, ephemeralContainers, image volumes) and the kinds that
//! have a `PodTemplateSpec`.

use super::Kind;
use super::collector::{Collector, Found, MAX_MENTIONS, step};
use crate::oci::Reference;
use crate::yaml::Yaml;

/// The groups of Kubernetes' own workloads; the first is the core's, which is written without a name.
const GROUPS: [&str; 4] = ["", "apps", "batch", "extensions"];
/// The lists of containers in a pod.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
/// Deepest nesting of lists of resources, and of what is searched for images.
const MAX_LISTS: usize = 8;
const MAX_SEARCH: usize = 60;

/// Kinds of resources, with their groups, that name a chart or other manifests to deploy: of Argo CD, Flux, and k3s and
/// RKE2.
const DEPLOYS: [(&str, &str); 4] = [
    ("argoproj.io", "Application"),
    ("argoproj.io", "ApplicationSet"),
    ("helm.toolkit.fluxcd.io", "HelmRelease"),
    ("helm.cattle.io", "HelmChart"),
];

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
    if DEPLOYS.contains(&(group, kind)) {
        collector.unused(
            root,
            &resource.label,
            "the chart or the manifests that it deploys are not read; `helm template` prints what a chart deploys",
        );
    }
    let is_workload = match pod_path(group, kind) {
        Some(path) => {
            resource.workload(path, collector);
            true
        }
        None => false,
    };
    // What looks like an image is searched for only in resources whose fields the user did not name.
    if !resource.fields(collector) && !is_workload {
        resource.search(root, &mut Vec::new(), collector);
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
        for list in ["command", "args"] {
            let Some(arguments) = container.get(list) else {
                continue;
            };
            Self::arguments(arguments, &format!("{path}.{list}"), collector);
        }
        let Some(variables) = container.get("env") else {
            return;
        };
        for (variable, number) in variables.items().zip(0..) {
            let name = variable.get_text("name").unwrap_or_default();
            let value = variable
                .get("value")
                .filter(|value| value.text().is_some_and(has_an_image));
            if let Some(value) = value.filter(|_| names_images(name)) {
                // Its value may be a password.
                let reason = format!("{name} may name an image that the program starts");
                collector.unused(value, &format!("{path}.env[{number}].value"), reason);
            }
        }
    }

    /// Reports arguments that look like images: values of options, in the same argument or in the next, and others.
    fn arguments(arguments: Yaml<'_>, path: &str, collector: &mut Collector<'_>) {
        let mut before = "";
        for (argument, number) in arguments.items().zip(0..) {
            let text = argument.text().unwrap_or_default();
            let (option, value) = match text.split_once('=') {
                Some((option, value)) if option.starts_with('-') => (option, value),
                _ => (before, text),
            };
            let is_image = match names_images(option) {
                true => has_an_image(value),
                false => is_full_name(value),
            };
            if is_image {
                // Its value may be a password.
                let subject = match option {
                    "" => "this argument",
                    option => option,
                };
                let reason = format!("{subject} may name an image that the program starts");
                collector.unused(argument, &format!("{path}[{number}]"), reason);
            }
            before = match text.starts_with('-') && !text.contains('=') {
                true => text,
                false => "",
            };
        }
    }

    /// Takes images from the fields that were asked for. Returns whether there are any for this kind.
    fn fields(&self, collector: &mut Collector<'_>) -> bool {
        let options = collector.options;
        let mut is_asked_for = false;
        for (field, number) in options.fields.iter().zip(0..) {
            if !field.is_for(self.kind) {
                continue;
            }
            is_asked_for = true;
            let Some(values) = field.values(self.root, MAX_MENTIONS) else {
                collector.is_over = true;
                return true;
            };
            for (value, path) in values {
                if !value.is_null() {
                    let path = format!("{} {path}", self.label);
                    collector.list.fields_found.insert(number);
                    collector.found(Found::new(Kind::Kubernetes, value, path));
                }
            }
        }
        is_asked_for
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
            trail.push(Step::Key(step(key)));
            if below.is_mapping() || below.is_sequence() {
                if key.to_ascii_lowercase().ends_with("image") && below.get_text("repository").is_some() {
                    let path = format!("{} {}", self.label, written(trail, true));
                    let reason =
                        "this looks like an image whose name is in several fields, which are not read";
                    collector.unused(below, &path, reason);
                }
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
    value.text().is_some_and(is_name)
}

fn is_name(text: &str) -> bool {
    text.contains(['/', ':', '@']) && text.parse::<Reference>().is_ok()
}

/// Whether a variable or an option says that its value names images.
fn names_images(name: &str) -> bool {
    name.to_ascii_uppercase().contains("IMAGE")
}

/// Whether an image is among the words of a text. Strimzi lists them as `3.8.0=quay.io/strimzi/kafka:1`.
fn has_an_image(text: &str) -> bool {
    let mut words = text.split(|char: char| char.is_whitespace() || matches!(char, ',' | ';'));
    words.any(|word| is_name(word) || word.split_once('=').is_some_and(|(_, name)| is_name(name)))
}

/// Whether a text is the name of an image with its registry, and with a tag or a digest. Without these, it may as well
/// be a path or an address.
fn is_full_name(text: &str) -> bool {
    let Some((host, rest)) = text.split_once('/') else {
        return false;
    };
    (host.contains(['.', ':']) || host == "localhost") && rest.contains([':', '@']) && is_name(text)
}
