//! What a registry serves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use hyper::body::Bytes;

use super::blob::Blob;
use super::images::ServedName;
use crate::blob::Stored;
use crate::image::Graph;
use crate::oci::reference::DEFAULT_DOMAIN;
use crate::oci::{Descriptor, Digest, MAX_METADATA, MediaType, Referrer, Repository as Name};

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
    /// Other paths of repositories: without the registry's host, and with `_` before its port.
    paths: BTreeMap<String, BTreeSet<String>>,
    manifests: HashMap<Digest, Manifest>,
    blobs: HashMap<Digest, Copies>,
    /// Manifests by the digest of their subject.
    referrers: HashMap<Digest, Vec<Referrer>>,
    groups: usize,
    /// Whether tags, repositories and referrers are listed.
    pub(super) is_listed: bool,
    catalog: OnceLock<Vec<String>>,
    /// The named images, in the order of the list.
    images: Vec<ServedName>,
    /// Where each is in the list, by its whole name.
    image_names: HashMap<String, usize>,
}

/// Manifests and blobs that repositories have together, such as those of one image. A repository has only the manifests of
/// its groups, so that no image gets the name of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Group(usize);

/// A repository: its groups, and the manifests that its tags name.
#[derive(Debug, Clone, Default)]
pub(super) struct Repository {
    groups: BTreeSet<Group>,
    /// The group of what was added to this repository alone.
    own: Option<Group>,
    pub(super) tags: BTreeMap<String, Digest>,
}

/// A config or layer, where each archive has it.
#[derive(Debug, Clone, Default)]
struct Copies {
    blobs: Vec<Arc<Blob>>,
    groups: BTreeSet<Group>,
}

#[derive(Debug, Clone)]
struct Manifest {
    media_type: MediaType,
    bytes: Bytes,
    groups: BTreeSet<Group>,
}

/// Why a path leads to no repository.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfound {
    Unknown,
    /// Several registries have one under this path; their full paths.
    Contested(Vec<String>),
}

impl Content {
    /// Nothing yet, whose tags, repositories and referrers will be listed.
    pub fn listed() -> Content {
        Content {
            is_listed: true,
            ..Content::default()
        }
    }

    /// Begins a group of manifests and blobs.
    pub(super) fn group(&mut self) -> Group {
        self.groups += 1;
        Group(self.groups)
    }

    /// The group of what a path alone has.
    fn own(&mut self, path: &str) -> Group {
        let next = Group(self.groups + 1);
        let repository = self.repositories.entry(path.into()).or_default();
        let own = *repository.own.get_or_insert(next);
        repository.groups.insert(own);
        self.groups = self.groups.max(own.0);
        own
    }

    /// Serves the indexes and manifests of a graph by their digests.
    pub fn add_manifests(&mut self, path: &str, graph: &Graph) {
        let own = self.own(path);
        self.add_graph(own, graph);
    }

    /// Adds the indexes and manifests of a graph to a group.
    pub(super) fn add_graph(&mut self, group: Group, graph: &Graph) {
        let indexes = graph
            .indexes
            .iter()
            .map(|(descriptor, index)| (descriptor, &index.raw));
        let manifests = graph
            .images
            .iter()
            .map(|image| (&image.descriptor, &image.manifest.raw));
        for (descriptor, raw) in indexes.chain(manifests) {
            self.manifest_of(group, descriptor, || Bytes::from_owner(Arc::clone(raw)));
        }
    }

    /// Serves a manifest by its digest.
    pub fn add_manifest(&mut self, path: &str, descriptor: &Descriptor, raw: &[u8]) {
        let own = self.own(path);
        self.manifest_of(own, descriptor, || Bytes::copy_from_slice(raw));
    }

    fn manifest_of(&mut self, group: Group, descriptor: &Descriptor, bytes: impl FnOnce() -> Bytes) {
        let digest = descriptor.digest;
        if let Some(known) = self.manifests.get_mut(&digest) {
            known.groups.insert(group);
            return;
        }
        let bytes = bytes();
        if let Some(referrer) = Referrer::of(descriptor, &bytes) {
            self.referrers.entry(referrer.subject).or_default().push(referrer);
        }
        let manifest = Manifest {
            media_type: descriptor.media_type.clone(),
            bytes,
            groups: BTreeSet::from([group]),
        };
        self.manifests.insert(digest, manifest);
    }

    /// Gives each repository the indexes that list its referrers, under their tags: many clients do not ask for referrers in
    /// another way.
    ///
    /// Source: OCI distribution specification 1.1, "Referrers Tag Schema".
    pub(super) fn add_lists(&mut self) {
        let mut paths: HashMap<Group, Vec<&String>> = HashMap::new();
        for (path, repository) in &self.repositories {
            for group in &repository.groups {
                paths.entry(*group).or_default().push(path);
            }
        }
        let mut lists: BTreeMap<(&String, Digest), BTreeMap<Digest, &Descriptor>> = BTreeMap::new();
        for (subject, referrers) in &self.referrers {
            for descriptor in referrers.iter().map(|referrer| &referrer.descriptor) {
                let groups = self.groups_of(&descriptor.digest).into_iter().flatten();
                for path in groups.filter_map(|group| paths.get(group)).flatten() {
                    let list = lists.entry((path, *subject)).or_default();
                    list.insert(descriptor.digest, descriptor);
                }
            }
        }
        let lists = lists.into_iter().map(|((path, subject), referrers)| {
            let list = list(referrers.into_values());
            (path.clone(), Referrer::list_tag(&subject), list.into_bytes())
        });
        // Nobody reads a larger one.
        let is_read = |list: &Vec<u8>| u64::try_from(list.len()).is_ok_and(|size| size <= MAX_METADATA);
        let lists: Vec<_> = lists.filter(|(.., list)| is_read(list)).collect();
        for (path, tag, list) in lists {
            let size = u64::try_from(list.len()).unwrap_or(u64::MAX);
            let media_type = MediaType::new(MediaType::OCI_INDEX);
            let descriptor = Descriptor::new(media_type, Digest::sha256(&list), size);
            let own = self.own(&path);
            self.manifest_of(own, &descriptor, || list.into());
            let repository = self.repositories.entry(path).or_default();
            repository.tags.entry(tag).or_insert(descriptor.digest);
        }
    }

    /// Serves one of a repository's manifests or indexes by a tag as well.
    pub fn add_tag(&mut self, path: &str, tag: &str, digest: Digest) {
        let repository = self.repositories.entry(path.into()).or_default();
        repository.tags.insert(tag.into(), digest);
    }

    /// Serves a config or a layer, from its stored bytes.
    pub fn add_blob(&mut self, path: &str, descriptor: &Descriptor, stored: &Stored) {
        let own = self.own(path);
        self.blob_of(own, &Arc::new(Blob::new(descriptor, stored)));
    }

    /// Adds a config or a layer to a group.
    pub(super) fn blob_of(&mut self, group: Group, blob: &Arc<Blob>) {
        let copies = self.blobs.entry(blob.descriptor.digest).or_default();
        copies.groups.insert(group);
        if !copies.blobs.iter().any(|known| Arc::ptr_eq(known, blob)) {
            copies.blobs.push(Arc::clone(blob));
        }
    }

    /// Gives a repository a group, by its full name and by its path without the registry.
    pub(super) fn add_name(&mut self, name: &Name, group: Group) {
        let full = name.full();
        let repository = self.repositories.entry(full.into()).or_default();
        repository.groups.insert(group);
        let written = written(full);
        for path in [name.path(), &written] {
            if path != full {
                self.paths.entry(path.into()).or_default().insert(full.into());
            }
        }
    }

    /// The groups that have a manifest.
    pub(super) fn groups_of(&self, manifest: &Digest) -> Option<&BTreeSet<Group>> {
        self.manifests.get(manifest).map(|manifest| &manifest.groups)
    }

    /// Gives a repository a group, by its full name.
    pub(super) fn add_group(&mut self, full: &str, group: Group) {
        if let Some(repository) = self.repositories.get_mut(full) {
            repository.groups.insert(group);
        }
    }

    /// Whether a blob is there.
    pub(super) fn has_blob(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
    }

    /// Number of repositories.
    pub fn count(&self) -> usize {
        self.repositories.len()
    }

    /// The repository that a path stands for. `registry` is the one that a mirror is asked for (`?ns=`).
    ///
    /// Without it, the path is a full name, or one without the registry. Of several registries that have it, Docker Hub
    /// is meant, because Docker says no registry when it asks a mirror, and asks mirrors for that one only.
    pub(super) fn repository(&self, path: &str, registry: Option<&str>) -> Result<&Repository, Unfound> {
        let get = |name: &str| self.repositories.get(name).ok_or(Unfound::Unknown);
        if let Some(registry) = registry {
            let registry = match registry.to_ascii_lowercase() {
                hub if ["registry-1.docker.io", "index.docker.io"].contains(&hub.as_str()) => {
                    DEFAULT_DOMAIN.into()
                }
                other => other,
            };
            let found = get(&format!("{registry}/{path}"));
            if found.is_ok() {
                return found;
            }
        }
        if let Ok(found) = get(path) {
            return Ok(found);
        }
        let names = self.paths.get(path).ok_or(Unfound::Unknown)?;
        if registry.is_some() {
            // The path without a registry might be another registry's.
            let whole = names.iter().find(|name| written(name) == path);
            return whole.map_or(Err(Unfound::Unknown), |name| get(name));
        }
        let hub = format!("{DEFAULT_DOMAIN}/{path}");
        match (names.first(), names.len()) {
            (Some(only), 1) => get(only),
            _ if names.contains(&hub) => get(&hub),
            _ => Err(Unfound::Contested(
                names.iter().map(|name| written(name)).collect(),
            )),
        }
    }

    /// The paths that stand for repositories of several registries, each with the full paths.
    pub(super) fn contested(&self) -> impl Iterator<Item = (&String, Vec<String>)> {
        let several = self.paths.iter().filter(|(_, names)| names.len() > 1);
        several.map(|(path, names)| (path, names.iter().map(|name| written(name)).collect()))
    }

    /// The shortest path of every repository, sorted.
    pub(super) fn catalog(&self) -> &[String] {
        self.catalog.get_or_init(|| {
            let repositories = self.repositories.keys();
            let mut paths: Vec<String> = repositories.map(|full| self.shortest(full)).collect();
            paths.sort_unstable();
            paths
        })
    }

    /// The shortest path of a repository.
    pub(super) fn shortest(&self, full: &str) -> String {
        match full.split_once('/') {
            Some((_, path)) if self.leads_to(path, full) => path.into(),
            _ => written(full),
        }
    }

    /// Sets the named images, by their whole names.
    pub(super) fn set_images(&mut self, images: BTreeMap<String, ServedName>) {
        self.images = images.into_values().collect();
        self.images.sort_by(|one, other| one.label.cmp(&other.label));
        let names = self.images.iter().map(|image| image.name.full());
        self.image_names = names.zip(0..).collect();
    }

    /// The named images, in the order of the list.
    pub(super) fn images(&self) -> &[ServedName] {
        &self.images
    }

    /// The image with this whole name.
    pub(super) fn image(&self, full: &str) -> Option<&ServedName> {
        self.images.get(*self.image_names.get(full)?)
    }

    /// The referrers of an image and of its manifests, each with the digest of its subject.
    pub(super) fn referrers_of<'a>(
        &'a self,
        image: &'a ServedName,
    ) -> impl Iterator<Item = (Digest, &'a Descriptor)> {
        let graph = &image.named.graph;
        let repository = self.repositories.get(image.name.repository().full());
        let below = graph.images.iter().map(|image| image.descriptor.digest);
        let below = below.filter(|digest| *digest != graph.root.digest);
        let subjects = std::iter::once(graph.root.digest).chain(below);
        subjects.flat_map(move |subject| {
            let all = repository.map(|repository| self.referrers(repository, &subject, None));
            all.into_iter().flatten().map(move |referrer| (subject, referrer))
        })
    }

    fn leads_to(&self, path: &str, full: &str) -> bool {
        let (found, meant) = (self.repository(path, None), self.repositories.get(full));
        matches!((found, meant), (Ok(found), Some(meant)) if std::ptr::eq(found, meant))
    }

    /// A manifest or index of a repository, by its digest or a tag.
    pub(super) fn manifest(
        &self,
        repository: &Repository,
        reference: &str,
    ) -> Option<(Digest, &MediaType, &Bytes)> {
        let digest = match reference.parse() {
            Ok(digest) => digest,
            Err(_) => *repository.tags.get(reference)?,
        };
        let manifest = self.manifests.get(&digest)?;
        let is_its_own = !repository.groups.is_disjoint(&manifest.groups);
        is_its_own.then_some((digest, &manifest.media_type, &manifest.bytes))
    }

    /// The copies of a config or layer of a repository: at least one.
    pub(super) fn blob(&self, repository: &Repository, digest: &Digest) -> Option<&[Arc<Blob>]> {
        let copies = self.blobs.get(digest)?;
        (!repository.groups.is_disjoint(&copies.groups)).then_some(&copies.blobs)
    }

    /// The referrers of a manifest in a repository, of this type if one is given.
    pub(super) fn referrers<'a>(
        &'a self,
        repository: &'a Repository,
        subject: &Digest,
        artifact_type: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Descriptor> + use<'a> {
        let all = self.referrers.get(subject).into_iter().flatten();
        let all = all.map(|referrer| &referrer.descriptor);
        all.filter(move |descriptor| {
            let manifest = self.manifests.get(&descriptor.digest);
            let is_its_own =
                manifest.is_some_and(|manifest| !repository.groups.is_disjoint(&manifest.groups));
            let is_of_type =
                artifact_type.is_none_or(|wanted| descriptor.artifact_type.as_deref() == Some(wanted));
            is_its_own && is_of_type
        })
    }
}

/// An index of referrers.
pub(super) fn list<'a>(referrers: impl Iterator<Item = &'a Descriptor>) -> String {
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_INDEX,
        "manifests": referrers.collect::<Vec<_>>(),
    });
    index.to_string()
}

/// A full name as a path of a reference.
fn written(full: &str) -> String {
    Name::written_domain(full)
}

/// What is served at the moment. Requests that have begun keep what they began with.
#[derive(Debug, Clone, Default)]
pub struct Live(Arc<RwLock<Arc<Content>>>);

impl Live {
    /// Serves this from now on.
    pub fn set(&self, content: Content) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(content);
    }

    pub(super) fn get(&self) -> Arc<Content> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl From<Content> for Live {
    fn from(content: Content) -> Live {
        let live = Live::default();
        live.set(content);
        live
    }
}
