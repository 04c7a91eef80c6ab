//! Everything that a containerd keeps of images.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tonic::Request;

use super::Connection;
use super::api::content::ListContentRequest;
use super::api::content::content_client::ContentClient;
use super::api::images::ListImagesRequest;
use super::api::images::images_client::ImagesClient;
use super::api::leases::leases_client::LeasesClient;
use super::api::leases::{CreateRequest, DeleteRequest, ListRequest};
use super::api::snapshots::snapshots_client::SnapshotsClient;
use super::api::snapshots::{Kind, ListSnapshotsRequest};
use crate::support::Containerd;

/// On a blob: the repositories of a registry that have it.
pub const SOURCE: &str = "containerd.io/distribution.source.";

type Labels = BTreeMap<String, String>;

/// The record of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub labels: Labels,
    pub digest: String,
    pub media_type: String,
    pub size: i64,
    pub annotations: Labels,
}

/// A blob of the content store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    pub size: i64,
    pub labels: Labels,
}

/// A snapshot of the default snapshotter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub parent: String,
    pub is_committed: bool,
    pub labels: Labels,
}

/// What a namespace of a containerd has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// By name.
    pub images: BTreeMap<String, Record>,
    /// By digest.
    pub content: BTreeMap<String, Blob>,
    /// By key.
    pub snapshots: BTreeMap<String, Snapshot>,
    /// By id.
    pub leases: BTreeMap<String, Labels>,
    /// What is written and not yet complete: a reference, and the bytes that are there.
    pub ingests: BTreeSet<String>,
}

fn of<T>(namespace: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("containerd-namespace", namespace.parse().unwrap());
    request
}

fn sorted(labels: HashMap<String, String>) -> Labels {
    labels.into_iter().collect()
}

impl Contents {
    /// Asks for all of it.
    #[track_caller]
    pub fn of(containerd: &Containerd, namespace: &str) -> Self {
        let connection = Connection::new(containerd.socket());
        Self {
            images: connection.wait(images(&connection, namespace)),
            content: connection.wait(content(&connection, namespace)),
            snapshots: connection.wait(snapshots(&connection, namespace)),
            leases: connection.wait(leases(&connection, namespace)),
            ingests: ingests(containerd, namespace),
        }
    }

    /// Fails, and names only what differs, unless another has just the same.
    #[track_caller]
    pub fn assert_same(&self, expected: &Self, what: &str) {
        let (found, expected) = (self.lines(), expected.lines());
        let only = |one: &BTreeSet<String>, other| one.difference(other).cloned().collect::<Vec<_>>();
        let (more, less) = (only(&found, &expected), only(&expected, &found));
        assert!(
            more.is_empty() && less.is_empty(),
            "{what}\nhas:\n{}\nlacks:\n{}",
            more.join("\n"),
            less.join("\n")
        );
    }

    /// Takes the sources of layers from another, where it has more of them: a pull neither fetches nor labels a layer that
    /// is unpacked already, and so names only the first of the repositories that have it.
    pub fn take_more_sources(&mut self, other: &Self) {
        for (digest, blob) in &mut self.content {
            let Some(found) = other.content.get(digest) else {
                continue;
            };
            if !blob.labels.contains_key("containerd.io/uncompressed") {
                continue;
            }
            for (key, value) in &found.labels {
                let known = blob.labels.get(key).map(String::as_str).unwrap_or_default();
                let mut known = known.split(',').filter(|name| !name.is_empty());
                if key.starts_with(SOURCE) && known.all(|name| value.split(',').any(|found| found == name)) {
                    blob.labels.insert(key.clone(), value.clone());
                }
            }
        }
    }

    /// One line for each thing that may differ.
    fn lines(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        let labels = |of: String, labels: &Labels| {
            let line = |(key, value)| format!("{of}: {key}={value}");
            labels.iter().map(line).collect::<Vec<_>>()
        };
        for (name, image) in &self.images {
            let Record {
                digest,
                media_type,
                size,
                ..
            } = image;
            lines.insert(format!("image {name}: {digest} {media_type} {size}"));
            lines.extend(labels(format!("image {name}"), &image.labels));
            lines.extend(labels(format!("image {name}: annotation"), &image.annotations));
        }
        for (digest, blob) in &self.content {
            lines.insert(format!("blob {digest}: {}", blob.size));
            lines.extend(labels(format!("blob {digest}"), &blob.labels));
        }
        for (key, snapshot) in &self.snapshots {
            let Snapshot {
                parent, is_committed, ..
            } = snapshot;
            lines.insert(format!("snapshot {key}: on {parent:?}, committed {is_committed}"));
            lines.extend(labels(format!("snapshot {key}"), &snapshot.labels));
        }
        for (id, of_lease) in &self.leases {
            lines.insert(format!("lease {id}"));
            lines.extend(labels(format!("lease {id}"), of_lease));
        }
        lines.extend(self.ingests.iter().map(|line| format!("ingest {line}")));
        lines
    }
}

async fn images(connection: &Connection, namespace: &str) -> BTreeMap<String, Record> {
    let mut client = ImagesClient::new(connection.channel.clone());
    let request = of(namespace, ListImagesRequest::default());
    let answer = client.list(request).await.unwrap().into_inner();
    let record = |image: super::api::images::Image| {
        let target = image.target.unwrap();
        let record = Record {
            labels: sorted(image.labels),
            digest: target.digest,
            media_type: target.media_type,
            size: target.size,
            annotations: sorted(target.annotations),
        };
        (image.name, record)
    };
    answer.images.into_iter().map(record).collect()
}

async fn content(connection: &Connection, namespace: &str) -> BTreeMap<String, Blob> {
    let mut client = ContentClient::new(connection.channel.clone());
    let request = of(namespace, ListContentRequest::default());
    let mut stream = client.list(request).await.unwrap().into_inner();
    let mut found = BTreeMap::new();
    while let Some(message) = stream.message().await.unwrap() {
        for info in message.info {
            let labels = sorted(info.labels);
            let size = info.size;
            found.insert(info.digest, Blob { size, labels });
        }
    }
    found
}

async fn snapshots(connection: &Connection, namespace: &str) -> BTreeMap<String, Snapshot> {
    let mut client = SnapshotsClient::new(connection.channel.clone());
    let request = ListSnapshotsRequest {
        snapshotter: "overlayfs".into(),
        ..ListSnapshotsRequest::default()
    };
    let mut stream = client.list(of(namespace, request)).await.unwrap().into_inner();
    let mut found = BTreeMap::new();
    while let Some(message) = stream.message().await.unwrap() {
        for info in message.info {
            let snapshot = Snapshot {
                is_committed: info.kind() == Kind::Committed,
                parent: info.parent,
                labels: sorted(info.labels),
            };
            found.insert(info.name, snapshot);
        }
    }
    found
}

async fn leases(connection: &Connection, namespace: &str) -> BTreeMap<String, Labels> {
    let mut client = LeasesClient::new(connection.channel.clone());
    let request = of(namespace, ListRequest::default());
    let answer = client.list(request).await.unwrap().into_inner();
    let lease = |lease: super::api::leases::Lease| (lease.id, sorted(lease.labels));
    answer.leases.into_iter().map(lease).collect()
}

/// The stubs of the program lack the request for them.
fn ingests(containerd: &Containerd, namespace: &str) -> BTreeSet<String> {
    let listed = containerd.ctr(namespace, &["content", "active"]).ok().stdout;
    let words = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    listed.lines().skip(1).map(words).collect()
}

/// Makes containerd remove what nothing refers to, and waits until it has done so.
#[track_caller]
pub fn collect_garbage(containerd: &Containerd, namespace: &str) {
    let connection = Connection::new(containerd.socket());
    let mut client = LeasesClient::new(connection.channel.clone());
    let id = String::from("garbage-collection-of-a-test");
    let create = CreateRequest {
        id: id.clone(),
        ..CreateRequest::default()
    };
    // The synchronous removal of a lease runs the collector.
    let delete = DeleteRequest { id, sync: true };
    connection.wait(async {
        client.create(of(namespace, create)).await.unwrap();
        client.delete(of(namespace, delete)).await.unwrap();
    });
}
