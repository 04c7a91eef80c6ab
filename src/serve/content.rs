//! What a registry serves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hyper::body::Bytes;

use crate::blob::Stored;
use crate::image::Graph;
use crate::oci::{Descriptor, Digest, MediaType};

/// Manifests and indexes, served by the repository's path and their digest. Tags and blobs are never served.
///
/// An engine that has an image's layers requests only these. Its tags must come from a real registry.
#[derive(Debug, Clone, Default)]
pub struct Documents(Content);

impl Documents {
    /// Serves the indexes and manifests of a graph, as `path` of the registry (`library/httpd`).
    pub fn add(&mut self, path: &str, graph: &Graph) {
        self.0.add_manifests(path, graph);
    }
}

impl From<Documents> for Content {
    fn from(documents: Documents) -> Content {
        documents.0
    }
}

/// Repositories with manifests, tags and blobs. What several repositories have is kept once.
#[derive(Debug, Clone, Default)]
pub struct Content {
    repositories: BTreeMap<String, Repository>,
    manifests: BTreeMap<Digest, (MediaType, Bytes)>,
    blobs: BTreeMap<Digest, Arc<Blob>>,
}

#[derive(Debug, Clone, Default)]
struct Repository {
    manifests: BTreeSet<Digest>,
    tags: BTreeMap<String, Digest>,
    blobs: BTreeSet<Digest>,
}

/// A blob, and where its stored bytes are.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) descriptor: Descriptor,
    pub(super) stored: Stored,
}

impl Content {
    /// Serves the indexes and manifests of a graph by their digests.
    pub fn add_manifests(&mut self, path: &str, graph: &Graph) {
        let indexes = graph
            .indexes
            .iter()
            .map(|(descriptor, index)| (descriptor, &index.raw));
        let manifests = graph
            .images
            .iter()
            .map(|image| (&image.descriptor, &image.manifest.raw));
        for (descriptor, raw) in indexes.chain(manifests) {
            self.add_manifest(path, descriptor, raw);
        }
    }

    /// Serves a manifest by its digest.
    pub fn add_manifest(&mut self, path: &str, descriptor: &Descriptor, raw: &[u8]) {
        let repository = self.repositories.entry(path.into()).or_default();
        repository.manifests.insert(descriptor.digest);
        self.manifests
            .entry(descriptor.digest)
            .or_insert_with(|| (descriptor.media_type.clone(), Bytes::copy_from_slice(raw)));
    }

    /// Serves one of a repository's manifests or indexes by a tag as well.
    pub fn add_tag(&mut self, path: &str, tag: &str, digest: Digest) {
        let repository = self.repositories.entry(path.into()).or_default();
        repository.tags.insert(tag.into(), digest);
    }

    /// Serves a config or a layer, from its stored bytes.
    pub fn add_blob(&mut self, path: &str, descriptor: &Descriptor, stored: &Stored) {
        let repository = self.repositories.entry(path.into()).or_default();
        repository.blobs.insert(descriptor.digest);
        self.blobs.entry(descriptor.digest).or_insert_with(|| {
            Arc::new(Blob {
                descriptor: descriptor.bare(),
                stored: stored.clone(),
            })
        });
    }

    /// A manifest or index of a repository, by its digest or a tag.
    pub(super) fn manifest(&self, path: &str, reference: &str) -> Option<(Digest, &MediaType, &Bytes)> {
        let repository = self.repositories.get(path)?;
        let digest = match reference.parse() {
            Ok(digest) => digest,
            Err(_) => *repository.tags.get(reference)?,
        };
        let (media_type, bytes) = self
            .manifests
            .get(&digest)
            .filter(|_| repository.manifests.contains(&digest))?;
        Some((digest, media_type, bytes))
    }

    /// A config or layer of a repository.
    pub(super) fn blob(&self, path: &str, digest: &str) -> Option<&Arc<Blob>> {
        let digest = digest.parse().ok()?;
        let repository = self.repositories.get(path)?;
        self.blobs
            .get(&digest)
            .filter(|_| repository.blobs.contains(&digest))
    }
}
