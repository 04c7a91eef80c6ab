//! The result of a verification.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::follow::Followed;
use crate::error::{Error, Finding, Result};
use crate::image::provenance::Evidence;
use crate::image::selector::Identity;
use crate::oci::{Digest, Platform, Reference};

/// An image that was verified.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its name, if it has one.
    pub reference: Option<Reference>,
    /// Digest of its index or manifest here, which may be a substitute.
    pub root: Digest,
    /// Its digest; `None` if it is not known.
    pub digest: Option<Digest>,
    /// Digest of its config, if only one is present.
    pub image_id: Option<Digest>,
    /// The evidence for its digest if the image is good.
    pub evidence: Evidence,
    /// Number of layers that are present only uncompressed. The chain of digests is closed for each.
    pub uncompressed: usize,
    /// Number of layers that are declared to be left out.
    pub omitted: usize,
    /// Platforms that are present.
    pub platforms: Arc<[Platform]>,
    /// Platforms in its index that are not present.
    pub absent: Arc<[Platform]>,
    /// Whether there are no errors in what it refers to and in what refers to it, nor any that concern all images.
    pub is_good: bool,
}

impl Image {
    /// The image's part of the report, once all findings are known.
    pub(super) fn new(followed: Followed, blame: &Blame) -> Image {
        let (root, parts) = (followed.root, followed.parts);
        Image {
            is_good: !blame.is_general
                && parts.blobs.is_disjoint(&blame.blobs)
                && !followed.referrers.blobs().any(|blob| blame.blobs.contains(blob)),
            root: root.descriptor.digest,
            reference: root.reference,
            digest: root.digest,
            image_id: match parts.manifests.as_slice() {
                [only] => Some(only.config.digest),
                _ => None,
            },
            evidence: root.evidence,
            uncompressed: parts.uncompressed,
            omitted: parts.omitted.len(),
            platforms: Arc::clone(&parts.platforms),
            absent: Arc::clone(&parts.absent),
        }
    }

    /// What identifies it.
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            reference: self.reference.as_ref(),
            digest: self.digest,
            root: self.root,
            image_ids: self.image_id.into_iter().collect(),
        }
    }
}

/// A layer whose stored and uncompressed bytes were verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the uncompressed layer.
    pub diff_id: Digest,
    /// Uncompressed bytes.
    pub size: u64,
}

/// The result of a verification.
#[derive(Debug)]
pub struct Report {
    /// Where the blobs are, as in [`crate::blob::Blobs::label`].
    pub label: String,
    /// The images that were verified.
    pub images: Vec<Image>,
    /// Blobs that were hashed.
    pub blobs: usize,
    /// Their stored bytes.
    pub bytes: u64,
    /// Errors and notes.
    pub findings: Vec<Finding>,
    /// Blobs that could not be read, and are therefore unknown.
    pub unread: Vec<(Digest, Error)>,
    /// Layers by the digest of their stored bytes; empty after a quick verification.
    pub layers: BTreeMap<Digest, Layer>,
    /// Layers that are declared to be left out, with their stored bytes as the manifests give them.
    pub omitted: BTreeMap<Digest, u64>,
    /// Number of blobs that were verified before and were not read again.
    pub trusted: usize,
}

impl Report {
    /// Whether everything was read and has no errors.
    pub fn is_good(&self) -> bool {
        self.unread.is_empty() && self.errors() == 0
    }

    /// Number of findings that are errors.
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.is_error()).count()
    }

    /// Uncompressed bytes of the layer with this diff id, if one was verified.
    pub fn uncompressed_size(&self, diff_id: &Digest) -> Option<u64> {
        let mut layers = self.layers.values();
        layers
            .find(|layer| layer.diff_id == *diff_id)
            .map(|layer| layer.size)
    }

    /// Turns a report with errors into an error. What could not be read comes first, because it may cause the
    /// others.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Unverified`].
    pub fn into_good(mut self) -> Result<Report> {
        if !self.unread.is_empty() {
            return Err(self.unread.swap_remove(0).1);
        }
        match self.errors() {
            0 => Ok(self),
            count => Err(Error::Unverified {
                place: self.label,
                count,
                hint: None,
            }),
        }
    }
}

/// What has errors.
#[derive(Default)]
pub(super) struct Blame {
    /// All images: an error is about no blob in particular, or something could not be read.
    pub is_general: bool,
    pub blobs: HashSet<Digest>,
}

impl Blame {
    /// Adds a finding, which is about this blob, if about any.
    pub fn add(&mut self, finding: &Finding, blob: Option<Digest>) {
        match blob {
            _ if !finding.is_error() => {}
            Some(blob) => drop(self.blobs.insert(blob)),
            None => self.is_general = true,
        }
    }
}
