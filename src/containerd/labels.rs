//! The labels that garbage collection, CRI and peer-to-peer mirrors read.
//!
//! Source: containerd, `core/images/mediatypes.go` (`ChildGCLabels`), `core/images/handlers.go`
//! (`SetChildrenMappedLabels`), `core/remotes/docker/handler.go` (`AppendDistributionSourceLabel`),
//! `core/unpack/unpacker.go`, `internal/cri/labels/labels.go`.

use std::collections::{BTreeSet, HashMap};

use crate::oci::{Descriptor, Digest, Kind, Repository};

/// Labels of a blob, an image record or a snapshot.
pub type Labels = HashMap<String, String>;

/// On a document: a blob that it needs.
const REFERENCE: &str = "containerd.io/gc.ref.content";
/// On a document: another document that refers to it.
const REFERRER: &str = "containerd.io/gc.ref.content.referrer";
/// Digits of a referrer's digest in that label.
const SHORT: usize = 12;
/// On a config: the snapshot of its layers, in a snapshotter.
const SNAPSHOT: &str = "containerd.io/gc.ref.snapshot";
/// On a layer: its diff id.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// On a blob: the repositories of a registry that have it.
const SOURCE: &str = "containerd.io/distribution.source";
/// On an image record: CRI shows it.
const MANAGED: (&str, &str) = ("io.cri-containerd.image", "managed");
/// On an image record: the kubelet never removes it.
const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");
/// Longest label that containerd takes: its name and its value, in bytes.
const MAX_LABEL: usize = 4096;

/// The labels of a document: everything that it names, also what is not present, as after a pull.
pub fn of_children<'d>(children: impl Iterator<Item = &'d Descriptor>) -> Labels {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut labels = Labels::new();
    for child in children {
        let key = match child.media_type.kind() {
            Kind::Config => format!("{REFERENCE}.config"),
            Kind::Manifest => format!("{REFERENCE}.m."),
            Kind::Layer(_) => format!("{REFERENCE}.l."),
            Kind::Index | Kind::Schema1 | Kind::Other => format!("{REFERENCE}."),
        };
        let count = counts.entry(key.clone()).or_default();
        let key = match key.ends_with('.') {
            true => format!("{key}{count}"),
            false => key,
        };
        *count += 1;
        labels.insert(key, child.digest.to_string());
    }
    labels
}

/// Adds the label of a document that keeps a referrer of it, as Docker 29 sets it. Clients of containerd do not read it; its
/// garbage collection does.
///
/// Source: moby, `daemon/containerd/image_pull.go`.
pub fn add_referrer(labels: &mut Labels, referrer: &Digest) {
    let hex = referrer.hex();
    let algorithm = referrer.algorithm();
    let key = |hex: &str| format!("{REFERRER}.{algorithm}.{hex}");
    let short = key(hex.get(..SHORT).unwrap_or(&hex));
    let is_taken = labels
        .get(&short)
        .is_some_and(|known| *known != referrer.to_string());
    let key = if is_taken { key(&hex) } else { short };
    labels.insert(key, referrer.to_string());
}

/// The label of a config whose layers are unpacked.
pub fn of_unpacked(snapshotter: &str, chain: &Digest) -> (String, String) {
    (format!("{SNAPSHOT}.{snapshotter}"), chain.to_string())
}

/// The label of an unpacked layer.
pub fn of_layer(diff_id: &Digest) -> Labels {
    Labels::from([(UNCOMPRESSED.to_string(), diff_id.to_string())])
}

/// The labels of an image record: CRI's, and that of a pinned image.
pub fn of_record(is_managed: bool, is_pinned: bool) -> Labels {
    let labels = [(MANAGED, is_managed), (PINNED, is_pinned)];
    let labels = labels.into_iter().filter(|(_, is_set)| *is_set);
    labels
        .map(|((key, value), _)| (key.to_string(), value.to_string()))
        .collect()
}

/// The labels that name repositories as sources of a blob, beside those that its labels name already. As in containerd, one
/// that would become too long is omitted.
pub fn of_sources<'r>(repositories: impl IntoIterator<Item = &'r Repository>, known: &Labels) -> Labels {
    let mut hosts: HashMap<String, BTreeSet<&str>> = HashMap::new();
    for repository in repositories {
        let key = format!("{SOURCE}.{}", host(repository.domain()));
        hosts.entry(key).or_default().insert(repository.path());
    }
    let mut labels = Labels::new();
    for (key, mut names) in hosts {
        let old = known.get(&key).map(String::as_str).unwrap_or_default();
        names.extend(old.split(',').filter(|name| !name.is_empty()));
        let value = names.into_iter().collect::<Vec<_>>().join(",");
        if key.len() + value.len() <= MAX_LABEL {
            labels.insert(key, value);
        }
    }
    labels
}

/// The labels of `wanted` that are not among `known`.
pub fn missing(wanted: Labels, known: &Labels) -> Labels {
    let is_new = |(key, value): &(String, String)| known.get(key) != Some(value);
    wanted.into_iter().filter(is_new).collect()
}

/// The name of a registry's host without its port, as Go's `URL.Hostname` gives it.
fn host(domain: &str) -> &str {
    if let Some((address, _)) = domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    domain.rsplit_once(':').map_or(domain, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{MediaType, Reference};

    fn descriptor(media_type: &str, content: &str) -> Descriptor {
        Descriptor::new(MediaType::new(media_type), Digest::sha256(content.as_bytes()), 1)
    }

    #[test]
    fn children_are_numbered_by_kind() {
        let children = [
            (MediaType::OCI_CONFIG, "config"),
            (MediaType::OCI_LAYER_GZIP, "one"),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", "two"),
            (MediaType::OCI_LAYER_ZSTD, "one"),
            (MediaType::OCI_MANIFEST, "m"),
            (MediaType::OCI_INDEX, "i"),
            (MediaType::DOCKER_MANIFEST, "n"),
            ("application/x", "x"),
        ];
        let children = children.map(|(media_type, content)| descriptor(media_type, content));
        let labels = of_children(children.iter());
        let expected = [
            ("config", "config"),
            ("l.0", "one"),
            ("l.1", "two"),
            ("l.2", "one"),
            ("m.0", "m"),
            ("m.1", "n"),
            ("0", "i"),
            ("1", "x"),
        ];
        let expected: Labels = expected
            .into_iter()
            .map(|(key, content)| {
                let digest = Digest::sha256(content.as_bytes()).to_string();
                (format!("containerd.io/gc.ref.content.{key}"), digest)
            })
            .collect();
        assert_eq!(labels, expected);
    }

    #[test]
    fn sources_are_merged_sorted_and_without_the_port() {
        let repository = |name: &str| name.parse::<Reference>().unwrap().repository().clone();
        let label =
            |host: &str, value: &str| (format!("containerd.io/distribution.source.{host}"), value.into());
        let long: String = vec!["a"; 4096].concat();
        for (names, known, expected) in [
            (vec!["httpd"], vec![], vec![label("docker.io", "library/httpd")]),
            (
                vec!["127.0.0.1:5777/b", "127.0.0.1:5777/a"],
                vec![label("127.0.0.1", "c,a")],
                vec![label("127.0.0.1", "a,b,c")],
            ),
            (
                vec!["localhost/x", "quay.io/org/y"],
                vec![label("quay.io", "z")],
                vec![label("localhost", "x"), label("quay.io", "org/y,z")],
            ),
            (vec!["quay.io/x"], vec![label("quay.io", &long)], vec![]),
        ] {
            let names: Vec<Repository> = names.into_iter().map(repository).collect();
            let labels = of_sources(&names, &known.into_iter().collect());
            assert_eq!(labels, expected.into_iter().collect());
        }
        for (domain, expected) in [
            ("[::1]:5000", "::1"),
            ("[::1]", "::1"),
            ("harbor.local:443", "harbor.local"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(host(domain), expected);
        }
    }

    #[test]
    fn a_referrer_has_a_label_of_its_own() {
        let digest = |end: &str| -> Digest {
            format!("sha256:0123456789ab{}{end}", "0".repeat(51))
                .parse()
                .unwrap()
        };
        let mut labels = Labels::new();
        for referrer in ["1", "1", "2"] {
            add_referrer(&mut labels, &digest(referrer));
        }
        let key = "containerd.io/gc.ref.content.referrer.sha256.";
        let expected = [
            (format!("{key}0123456789ab"), digest("1").to_string()),
            (format!("{key}{}", digest("2").hex()), digest("2").to_string()),
        ];
        assert_eq!(labels, expected.into_iter().collect());
    }

    #[test]
    fn only_labels_that_differ_are_set() {
        let labels = |all: &[(&str, &str)]| -> Labels {
            all.iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect()
        };
        let known = labels(&[("a", "1"), ("b", "2"), ("z", "9")]);
        assert_eq!(
            missing(labels(&[("a", "1"), ("b", "3"), ("c", "4")]), &known),
            labels(&[("b", "3"), ("c", "4")])
        );
        assert_eq!(
            of_record(true, true),
            labels(&[
                ("io.cri-containerd.image", "managed"),
                ("io.cri-containerd.pinned", "pinned")
            ])
        );
        assert!(of_record(false, false).is_empty());
    }
}
