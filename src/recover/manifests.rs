//! Finds the documents from a digest down to an image's manifest.

use std::collections::HashMap;

use super::{BareImage, LocalStore};
use crate::archive::format;
use crate::error::{Error, Place, Problem, Result};
use crate::image::graph::{MAX_DEPTH, MAX_DESCRIPTORS};
use crate::image::provenance::ManifestOrigin;
use crate::oci::{Descriptor, Digest, Document, Kind, MediaType, Platform, Reference, Repository};
use crate::source::Upstream;

/// What a digest leads to.
pub(super) struct Found {
    /// The manifest or index.
    pub root: Descriptor,
    /// The stored bytes of documents below that were not in the store, or are on only one of several paths.
    pub documents: HashMap<Digest, Vec<u8>>,
    /// Where they came from.
    pub origin: ManifestOrigin,
    /// The repository that has them under this digest.
    pub repository: Repository,
    /// Whether an index also names other images.
    pub is_part: bool,
}

impl Found {
    /// The layers, if this is a manifest.
    pub fn layers(&self) -> Vec<Descriptor> {
        let bytes = self.documents.get(&self.root.digest).cloned().unwrap_or_default();
        match Document::parse(&self.root.media_type, bytes) {
            Ok(Document::Manifest(manifest)) => manifest.layers,
            _ => Vec::new(),
        }
    }
}

/// Looks for the documents of a digest, first in the store, then in the registry. Unusable documents are
/// reported and skipped, if there are other ways to get the image.
pub(super) fn find(
    store: &dyn LocalStore,
    upstream: &Upstream,
    image: Option<&BareImage>,
    name: &Reference,
) -> Result<Option<Found>> {
    let Some(digest) = name.digest() else {
        return Ok(None);
    };
    let pass_over = |found: Result<Option<Found>>| match found {
        Err(error @ Error::Refused(_)) if image.is_some() => {
            upstream.note(&error);
            Ok(None)
        }
        found => found,
    };
    let found = pass_over(in_store(store, name.repository(), digest, image))?;
    // A store of indexes either has the index or does not.
    if found.is_some() || image.is_none() {
        return Ok(found);
    }
    pass_over(in_registry(upstream, name.repository(), digest, image))
}

fn in_store(
    store: &dyn LocalStore,
    repository: &Repository,
    digest: Digest,
    image: Option<&BareImage>,
) -> Result<Option<Found>> {
    let Some(raw) = store.document(&digest)? else {
        return Ok(None);
    };
    let root = described(digest, &raw)
        .map_err(|problem| Error::refused(Place::blob(digest).within(store.label()), problem))?;
    let read = &mut |descriptor: &Descriptor| store.document(&descriptor.digest);
    below(root, image, repository, ManifestOrigin::Engine, read)
}

/// Looks for the documents of a digest in the registry.
pub(super) fn in_registry(
    upstream: &Upstream,
    repository: &Repository,
    digest: Digest,
    image: Option<&BareImage>,
) -> Result<Option<Found>> {
    let Some(root) = upstream.resolve(repository, digest)? else {
        return Ok(None);
    };
    let read = &mut |descriptor: &Descriptor| upstream.document(repository, descriptor);
    below(root, image, repository, ManifestOrigin::Registry, read)
}

/// The descriptor of a document, by its bytes.
fn described(digest: Digest, raw: &[u8]) -> Result<Descriptor, Problem> {
    let media_type = Document::sniff(raw).ok_or_else(|| Problem::Document {
        reason: "neither a manifest nor an index".into(),
    })?;
    let size = u64::try_from(raw.len()).unwrap_or(u64::MAX);
    Ok(Descriptor::new(media_type, digest, size))
}

/// The documents from `root` down to the manifest of `image`, including the root; `None` if it is not below.
/// Without an image, nothing is selected.
fn below(
    root: Descriptor,
    image: Option<&BareImage>,
    repository: &Repository,
    origin: ManifestOrigin,
    read: &mut dyn FnMut(&Descriptor) -> Result<Option<Vec<u8>>>,
) -> Result<Option<Found>> {
    let mut found = Found {
        documents: HashMap::new(),
        origin,
        repository: repository.clone(),
        is_part: false,
        root,
    };
    let Some(image) = image else {
        return Ok(Some(found));
    };
    let mut search = Search {
        image,
        read,
        left: MAX_DESCRIPTORS,
        way: Vec::new(),
        is_part: false,
    };
    if !search.descend(&found.root, 0)? {
        return Ok(None);
    }
    found.is_part = search.is_part;
    found.documents = search.way.into_iter().collect();
    Ok(Some(found))
}

struct Search<'a> {
    image: &'a BareImage,
    read: &'a mut dyn FnMut(&Descriptor) -> Result<Option<Vec<u8>>>,
    /// Number of documents that may still be read.
    left: usize,
    /// Documents from the root down to the current one.
    way: Vec<(Digest, Vec<u8>)>,
    /// Whether an index on the path to the image names others.
    is_part: bool,
}

impl Search<'_> {
    /// Whether the image's manifest is this document or below it.
    fn descend(&mut self, descriptor: &Descriptor, depth: usize) -> Result<bool> {
        let refuse = |problem| Err(Error::refused(Place::blob(descriptor.digest), problem));
        if depth > MAX_DEPTH {
            return refuse(Problem::TooDeep { limit: MAX_DEPTH });
        }
        let Some(left) = self.left.checked_sub(1) else {
            return refuse(Problem::TooMany {
                limit: MAX_DESCRIPTORS,
            });
        };
        self.left = left;
        let Some(raw) = (self.read)(descriptor)? else {
            return Ok(false);
        };
        let document = match Document::parse(&descriptor.media_type, raw.clone()) {
            Ok(document) => document,
            Err(error) => return refuse(error.into()),
        };
        self.way.push((descriptor.digest, raw));
        let is_below = match document {
            Document::Manifest(manifest) => manifest.config.digest == self.image.id,
            Document::Index(index) => {
                let mut is_below = false;
                for entry in &index.manifests {
                    is_below = may_be(entry, self.image) && self.descend(entry, depth + 1)?;
                    if is_below {
                        let mut others = index.manifests.iter();
                        self.is_part |= others.any(|other| other.digest != entry.digest && is_image(other));
                        break;
                    }
                }
                is_below
            }
        };
        if !is_below {
            self.way.pop();
        }
        Ok(is_below)
    }
}

/// Whether an index entry is an image or an index, not an attestation.
fn is_image(entry: &Descriptor) -> bool {
    let is_unknown = entry.platform.as_ref().is_some_and(Platform::is_unknown);
    entry.media_type.is_document() && entry.attests().is_none() && !is_unknown
}

/// Whether an index entry may lead to the image, by its descriptor.
fn may_be(entry: &Descriptor, image: &BareImage) -> bool {
    let wanted = &image.config.platform;
    let fits =
        |platform: &Platform| (&platform.os, &platform.architecture) == (&wanted.os, &wanted.architecture);
    entry.attests().is_none()
        && match entry.media_type.kind() {
            Kind::Index => true,
            Kind::Manifest => entry.platform.as_ref().is_none_or(fits),
            _ => false,
        }
}

/// A substitute for a lost manifest: over the uncompressed layers, which are named by their diff ids. It is the
/// same for the same image.
///
/// # Errors
///
/// Only if it cannot be serialised.
pub(super) fn substitute(image: &BareImage, layers: &[Descriptor]) -> Result<(Descriptor, Vec<u8>)> {
    let raw = format::substitute(config(image), layers)?;
    let size = u64::try_from(raw.len()).unwrap_or(u64::MAX);
    let media_type = MediaType::new(MediaType::OCI_MANIFEST);
    Ok((Descriptor::new(media_type, Digest::sha256(&raw), size), raw))
}

/// The descriptor of an image's config.
fn config(image: &BareImage) -> Descriptor {
    let size = u64::try_from(image.raw.len()).unwrap_or(u64::MAX);
    Descriptor::new(MediaType::new(MediaType::OCI_CONFIG), image.id, size)
}
