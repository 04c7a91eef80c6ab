//! What refers to an image: signatures, SBOMs, attestations, and what refers to those in turn.
//!
//! A referrer names a manifest by its `subject`, or stands under a tag that is made of the manifest's digest. It is
//! carried as it is: nothing in it has to be understood but the descriptors of its blobs.
//!
//! - `kind`: what a referrer is, as it says itself
//! - `summary`: what lists of images show
//! - `walk`: follows the referrers of an image, and those of referrers

mod kind;
mod summary;
mod walk;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::documents::Parsed;
use super::graph::{FetchParsed, Graph, Image, MAX_DEPTH, MAX_DESCRIPTORS};
use crate::error::{Error, Place, Problem, Result};
use crate::escape::Escaped;
use crate::oci::{Descriptor, Digest, MAX_METADATA, Manifest, MediaType, Referrer};

pub use kind::ReferrerKind;
pub use summary::{ReferrerSubject, ReferrerSummary};
pub use walk::{ReferrerWalk, Referrers};

/// Most referrers of one image. An image that is signed anew with each build has some hundred.
pub const MAX_REFERRERS: usize = 1_000;
/// How far referrers of referrers are followed. A signature of an SBOM of an image is at depth two.
pub const MAX_REFERRER_DEPTH: usize = 4;

/// A referrer as a list or a tag names it. It is not read yet, and may be none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedReferrer {
    /// Digest of the manifest that it is said to refer to.
    pub subject: Digest,
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// One of cosign's tags, which makes a manifest without a subject a referrer.
    pub tag: Option<String>,
}

/// A referrer with everything below it.
#[derive(Debug, Clone)]
pub struct ReferrerGraph {
    /// Digest of the manifest that it refers to.
    pub subject: Digest,
    /// The tag that it must have to be found, if it has no subject: `sha256-<hex>.sig`.
    pub tag: Option<String>,
    /// Its artifact type, computed from its manifest.
    pub artifact_type: Option<String>,
    /// Its manifest or index, with config and layers. The configs are not read.
    pub graph: Arc<Graph>,
}

/// Something that is listed as a referrer and cannot be carried as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Digest of the manifest that it is listed for.
    pub subject: Digest,
    /// Its own digest.
    pub digest: Digest,
    /// Why it cannot be carried.
    pub reason: StrayReason,
}

/// Why something that is listed as a referrer cannot be carried as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StrayReason {
    /// It does not exist.
    Missing,
    /// It has another subject, or none.
    OtherSubject,
    /// It is neither a manifest nor an index.
    Unsupported(MediaType),
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (digest, subject) = (self.digest, self.subject);
        write!(f, "{digest} is listed as a referrer of {subject}, and ")?;
        match &self.reason {
            StrayReason::Missing => f.write_str("does not exist"),
            StrayReason::OtherSubject => f.write_str("does not refer to it"),
            StrayReason::Unsupported(media_type) => {
                let media_type = Escaped(media_type.as_str());
                write!(f, "is neither a manifest nor an index, but {media_type}")
            }
        }
    }
}

/// What reading a listed referrer gives.
#[derive(Debug, Clone)]
pub enum ReadReferrer {
    /// A referrer.
    Referrer(ReferrerGraph),
    /// It is none.
    Stray(Stray),
}

/// What makes two referrers the same one.
type Key<'a> = (Digest, Digest, Option<&'a str>);

impl ReferrerGraph {
    /// Digest of its manifest or index.
    pub fn digest(&self) -> Digest {
        self.graph.root.digest
    }

    /// Stored bytes of its blobs.
    pub fn size(&self) -> u64 {
        let blobs = self.graph.blobs();
        blobs.iter().fold(0, |sum, blob| sum.saturating_add(blob.size))
    }

    /// Its manifest; `None` if it is an index.
    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        match self.graph.indexes.is_empty() {
            true => self.graph.images.first().map(|image| &*image.manifest),
            false => None,
        }
    }

    fn key(&self) -> Key<'_> {
        (self.subject, self.digest(), self.tag.as_deref())
    }
}

impl ListedReferrer {
    fn key(&self) -> Key<'_> {
        (self.subject, self.descriptor.digest, self.tag.as_deref())
    }

    /// Reads its manifest, and what is below that if it is an index.
    ///
    /// # Errors
    ///
    /// Those of `fetch`; [`Error::Refused`] if it is not a manifest or index, or over a limit.
    pub fn read(&self, fetch: &mut FetchParsed<'_>) -> Result<ReadReferrer> {
        let digest = self.descriptor.digest;
        let stray = |reason| {
            Ok(ReadReferrer::Stray(Stray {
                subject: self.subject,
                digest,
                reason,
            }))
        };
        if !self.descriptor.media_type.is_document() {
            return stray(StrayReason::Unsupported(self.descriptor.media_type.clone()));
        }
        let root = self.descriptor.bare();
        let mut reading = Reading {
            graph: Graph {
                root: root.clone(),
                indexes: Vec::new(),
                images: Vec::new(),
                absent: Vec::new(),
            },
            seen: HashSet::new(),
            descriptors: 0,
            fetch,
        };
        let Some(raw) = reading.document(&root, 0)? else {
            return stray(StrayReason::Missing);
        };
        if self.tag.is_none() && Referrer::subject(&raw) != Some(self.subject) {
            return stray(StrayReason::OtherSubject);
        }
        Ok(ReadReferrer::Referrer(ReferrerGraph {
            subject: self.subject,
            tag: self.tag.clone(),
            artifact_type: Referrer::artifact_type(&raw),
            graph: Arc::new(reading.graph),
        }))
    }
}

/// The graph of a referrer while it is read.
struct Reading<'a, 'f> {
    graph: Graph,
    seen: HashSet<Digest>,
    descriptors: usize,
    fetch: &'a mut FetchParsed<'f>,
}

impl Reading<'_, '_> {
    /// Adds a manifest or an index with what is below. Returns its stored bytes; `None` if it is missing.
    fn document(&mut self, descriptor: &Descriptor, depth: usize) -> Result<Option<Arc<[u8]>>> {
        let refuse = |problem| Err(Error::refused(Place::blob(descriptor.digest), problem));
        if depth > MAX_DEPTH {
            return refuse(Problem::TooDeep { limit: MAX_DEPTH });
        }
        if descriptor.size > MAX_METADATA {
            let (limit, found) = (MAX_METADATA, descriptor.size);
            return refuse(Problem::TooLarge { limit, found });
        }
        let document = (self.fetch)(descriptor)?;
        self.seen.insert(descriptor.digest);
        match document {
            None => Ok(None),
            Some(Parsed::Manifest(manifest)) => {
                self.count(1 + manifest.layers.len())?;
                let raw = Arc::clone(&manifest.raw);
                self.graph.images.push(Image {
                    descriptor: descriptor.clone(),
                    manifest,
                    config: None,
                    config_raw: None,
                });
                Ok(Some(raw))
            }
            Some(Parsed::Index(index)) => {
                self.count(1 + index.manifests.len())?;
                self.graph.indexes.push((descriptor.clone(), Arc::clone(&index)));
                for child in &index.manifests {
                    if self.seen.contains(&child.digest) {
                        continue;
                    }
                    let is_here =
                        child.media_type.is_document() && self.document(child, depth + 1)?.is_some();
                    if !is_here {
                        self.graph.absent.push(child.clone());
                    }
                }
                Ok(Some(Arc::clone(&index.raw)))
            }
            // Only the descriptor of a config gives one.
            Some(Parsed::Config(..)) => Ok(None),
        }
    }

    fn count(&mut self, more: usize) -> Result<()> {
        self.descriptors = self.descriptors.saturating_add(more);
        match self.descriptors > MAX_DESCRIPTORS {
            false => Ok(()),
            true => {
                let limit = MAX_DESCRIPTORS;
                let place = Place::blob(self.graph.root.digest);
                Err(Error::refused(place, Problem::TooMany { limit }))
            }
        }
    }
}

/// Sorts referrers as an archive lists them, and removes those that are there twice.
pub fn sort(referrers: &mut Vec<ReferrerGraph>) {
    referrers.sort_by(|one, other| one.key().cmp(&other.key()));
    referrers.dedup_by(|one, other| one.key() == other.key());
}

/// Whether two lists of referrers are the same.
pub(super) fn are_same(one: &Arc<[ReferrerGraph]>, other: &Arc<[ReferrerGraph]>) -> bool {
    Arc::ptr_eq(one, other)
        || one
            .iter()
            .map(ReferrerGraph::key)
            .eq(other.iter().map(ReferrerGraph::key))
}

/// The referrers of what is in a graph, which may be a part of an image, and the referrers of those.
pub fn within<'r>(
    referrers: impl IntoIterator<Item = &'r ReferrerGraph>,
    graph: &Graph,
) -> Arc<[ReferrerGraph]> {
    let mut here: HashSet<Digest> = graph.documents().collect();
    let mut rest: Vec<&ReferrerGraph> = referrers.into_iter().collect();
    let mut kept: Vec<ReferrerGraph> = Vec::new();
    for _ in 0..MAX_REFERRER_DEPTH {
        let (more, others) = rest
            .into_iter()
            .partition(|referrer| here.contains(&referrer.subject));
        let more: Vec<&ReferrerGraph> = more;
        here.extend(more.iter().flat_map(|referrer| referrer.graph.documents()));
        kept.extend(more.into_iter().cloned());
        rest = others;
    }
    sort(&mut kept);
    kept.into()
}

#[cfg(test)]
mod tests;
