//! The result of a verification of images in registries.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::Depth;
use crate::error::{Error, ErrorKind, Finding};
use crate::oci::{Digest, Platform, Reference};
use crate::verify::{self, Layer, Parts};

/// An image that was to be verified.
#[derive(Debug)]
pub struct Checked {
    /// Its name.
    pub reference: Reference,
    /// Digest of its manifest or index, if that is known.
    pub digest: Option<Digest>,
    /// Why it could not be verified.
    pub error: Option<Error>,
    /// Whether it has errors.
    pub is_bad: bool,
    /// Platforms that were verified.
    pub platforms: Arc<[Platform]>,
    /// Platforms in its index that are not in the registry, or were not asked for.
    pub absent: Arc<[Platform]>,
    /// The blobs that it refers to; `None` if it was not read, because an earlier run verified it.
    pub verified: Option<Arc<[Digest]>>,
    /// Its position among the images that were followed. Tags of one image have the same.
    followed: Option<usize>,
}

impl Checked {
    fn new(reference: &Reference, digest: Option<Digest>) -> Checked {
        Checked {
            reference: reference.clone(),
            digest,
            error: None,
            is_bad: false,
            platforms: Arc::default(),
            absent: Arc::default(),
            verified: None,
            followed: None,
        }
    }

    /// An image that an earlier run verified.
    pub(super) fn known(reference: &Reference, digest: Digest) -> Checked {
        Checked::new(reference, Some(digest))
    }

    /// An image that cannot be verified.
    pub(super) fn failed(reference: &Reference, digest: Option<Digest>, error: Error) -> Checked {
        Checked {
            error: Some(error),
            ..Checked::new(reference, digest)
        }
    }

    /// An image that was followed.
    pub(super) fn followed(reference: &Reference, digest: Digest, at: usize) -> Checked {
        Checked {
            followed: Some(at),
            ..Checked::new(reference, Some(digest))
        }
    }

    /// Whether nothing is wrong with it.
    pub fn is_good(&self) -> bool {
        self.error.is_none() && !self.is_bad
    }

    /// Whether an earlier run verified it.
    pub fn is_known(&self) -> bool {
        self.is_good() && self.verified.is_none()
    }
}

/// Something about a blob, and the images that use it, by their positions in the report.
#[derive(Debug)]
pub struct BlobFinding<T> {
    /// What.
    pub what: T,
    /// The blob.
    pub digest: Option<Digest>,
    /// The images; findings about the same images share them.
    pub images: Arc<[usize]>,
}

impl<T> BlobFinding<T> {
    /// The same, with the images at these positions.
    fn at(self, positions: &[usize], users: &mut Users) -> BlobFinding<T> {
        let images = self.images.iter().filter_map(|at| positions.get(*at).copied());
        BlobFinding {
            images: users.shared(images.collect()),
            what: self.what,
            digest: self.digest,
        }
    }
}

/// The images of findings. Each list is kept once: the tags of one image may have thousands of findings in common.
#[derive(Default)]
struct Users(HashSet<Arc<[usize]>>);

impl Users {
    fn shared(&mut self, images: Vec<usize>) -> Arc<[usize]> {
        if let Some(known) = self.0.get(images.as_slice()) {
            return Arc::clone(known);
        }
        let images: Arc<[usize]> = images.into();
        self.0.insert(Arc::clone(&images));
        images
    }
}

/// The result.
#[derive(Debug)]
pub struct Report {
    /// The images, in the order in which they were asked for.
    pub images: Vec<Checked>,
    /// Errors and notes.
    pub findings: Vec<BlobFinding<Finding>>,
    /// What could not be read, and is therefore unknown.
    pub unread: Vec<BlobFinding<Error>>,
    /// Blobs that were read.
    pub blobs: usize,
    /// Their stored bytes.
    pub bytes: u64,
    /// Blobs that an earlier run verified.
    pub known_blobs: usize,
    /// Layers whose diff ids were verified, by the digest of their stored bytes.
    pub layers: BTreeMap<Digest, Layer>,
    /// What was read.
    pub depth: Depth,
}

impl Report {
    /// Joins what was found about blobs with the images.
    pub(super) fn new(
        mut images: Vec<Checked>,
        found: verify::Report,
        parts: &[Rc<Parts>],
        depth: Depth,
    ) -> Report {
        let sorted = |parts: &Rc<Parts>| -> Arc<[Digest]> {
            let mut blobs: Vec<Digest> = parts.blobs.iter().copied().collect();
            blobs.sort_unstable();
            blobs.into()
        };
        let blobs: Vec<Arc<[Digest]>> = parts.iter().map(sorted).collect();
        let mut positions: Vec<Vec<usize>> = vec![Vec::new(); parts.len()];
        for (at, checked) in images.iter_mut().enumerate() {
            let Some(followed) = checked.followed else {
                continue;
            };
            if let Some(positions) = positions.get_mut(followed) {
                positions.push(at);
            }
            if let (Some(image), Some(blobs)) = (found.images.get(followed), blobs.get(followed)) {
                checked.is_bad = !image.is_good;
                checked.platforms = Arc::clone(&image.platforms);
                checked.absent = Arc::clone(&image.absent);
                checked.verified = Some(Arc::clone(blobs));
            }
        }
        let mut users = Users::default();
        let mut users_of = |digest: Option<Digest>| {
            let uses = |parts: &Parts| digest.is_none_or(|digest| parts.blobs.contains(&digest));
            let used = parts.iter().zip(&positions).filter(|(parts, _)| uses(parts));
            let mut images: Vec<usize> = used.flat_map(|(_, at)| at.iter().copied()).collect();
            images.sort_unstable();
            users.shared(images)
        };
        let mut findings: Vec<BlobFinding<Finding>> = Vec::new();
        for finding in found.findings {
            findings.push(BlobFinding {
                images: users_of(finding.place.digest),
                digest: finding.place.digest,
                what: finding,
            });
        }
        let mut refused: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, checked) in images.iter_mut().enumerate() {
            let Some(Error::Refused(finding)) = &checked.error else {
                continue;
            };
            let known = findings.iter().position(|found| found.what == **finding);
            let known = known.unwrap_or_else(|| {
                findings.push(BlobFinding {
                    digest: finding.place.digest,
                    what: (**finding).clone(),
                    images: Arc::default(),
                });
                findings.len() - 1
            });
            refused.entry(known).or_default().push(at);
            checked.error = None;
            checked.is_bad = true;
        }
        for (found, images) in refused {
            if let Some(found) = findings.get_mut(found) {
                found.images = found.images.iter().copied().chain(images).collect();
            }
        }
        let unread = found.unread.into_iter().map(|(digest, error)| BlobFinding {
            images: users_of(Some(digest)),
            digest: Some(digest),
            what: error,
        });
        Report {
            unread: unread.collect(),
            findings,
            images,
            blobs: found.blobs,
            bytes: found.bytes,
            known_blobs: found.trusted,
            layers: found.layers,
            depth,
        }
    }

    /// One report of those of several registries, each with the positions of its images among all.
    pub(super) fn join(reports: Vec<(Vec<usize>, Report)>, depth: Depth) -> Report {
        let mut joined = Report {
            images: Vec::new(),
            findings: Vec::new(),
            unread: Vec::new(),
            blobs: 0,
            bytes: 0,
            known_blobs: 0,
            layers: BTreeMap::new(),
            depth,
        };
        let mut images = Vec::new();
        let mut users = Users::default();
        for (positions, report) in reports {
            let findings = report.findings.into_iter();
            joined
                .findings
                .extend(findings.map(|found| found.at(&positions, &mut users)));
            let unread = report.unread.into_iter();
            joined
                .unread
                .extend(unread.map(|unread| unread.at(&positions, &mut users)));
            joined.blobs += report.blobs;
            joined.bytes = joined.bytes.saturating_add(report.bytes);
            joined.known_blobs += report.known_blobs;
            joined.layers.extend(report.layers);
            images.extend(positions.into_iter().zip(report.images));
        }
        images.sort_by_key(|(at, _)| *at);
        joined.images = images.into_iter().map(|(_, image)| image).collect();
        joined
    }

    /// Number of errors.
    pub fn errors(&self) -> usize {
        let errors = self.findings.iter().filter(|found| found.what.is_error());
        let failed = self.images.iter().filter(|image| image.error.is_some());
        errors.count() + self.unread.len() + failed.count()
    }

    /// The most severe kind of what is wrong.
    pub fn failure(&self) -> Option<ErrorKind> {
        let has_errors = self.findings.iter().any(|found| found.what.is_error());
        let failed = self.images.iter().filter_map(|image| image.error.as_ref());
        let unread = self.unread.iter().map(|unread| &unread.what);
        let kinds = failed.chain(unread).map(Error::kind);
        kinds.max().max(has_errors.then_some(ErrorKind::Content))
    }
}
