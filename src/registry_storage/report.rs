//! The result of a verification of a storage folder.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::affected::AffectedImages;
use super::hashing::Bad;
use super::layout::Storage;
use super::repository::Examined;
use crate::error::{Error, ErrorKind, Finding, Problem};
use crate::image::AffectedImage;
use crate::oci::Digest;

/// A finding, and the images that it concerns.
#[derive(Debug, Clone)]
pub struct StorageFinding {
    /// The finding. Its place is below `docker/registry/v2`.
    pub finding: Finding,
    /// The images.
    pub images: AffectedImages,
    /// Of a tag whose link is missing or wrong: the good manifests that it ever had, the latest first.
    pub tagged_before: Vec<Digest>,
}

impl StorageFinding {
    /// A finding that concerns no image.
    pub(super) fn new(finding: Finding) -> StorageFinding {
        StorageFinding {
            finding,
            images: AffectedImages::default(),
            tagged_before: Vec::new(),
        }
    }
}

/// A number of things, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Total {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Total {
    pub(super) fn add(&mut self, bytes: u64) {
        self.count = self.count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Blobs that no manifest refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unreferenced {
    /// All of them. About one in 5000 is missed.
    pub total: Total,
    /// Some of them: at most 1000.
    pub some: Vec<Digest>,
}

/// The result.
#[derive(Debug)]
pub struct Report {
    /// The folder, as it was given.
    pub root: String,
    /// All blobs.
    pub blobs: Total,
    /// Those that were hashed.
    pub hashed: Total,
    /// Number of repositories.
    pub repositories: u64,
    /// Number of manifests and indexes, counted in each repository.
    pub manifests: u64,
    /// Number of tags.
    pub tags: u64,
    /// Errors and notes.
    pub findings: Vec<StorageFinding>,
    /// Blobs that no manifest refers to; `None` if some manifest could not be read.
    pub unreferenced: Option<Unreferenced>,
    /// Unfinished uploads, and the bytes that they have received.
    pub uploads: Total,
    /// What could not be read, and is therefore unknown.
    pub unread: Vec<Error>,
    /// Whether there are manifests that could not be read, so that what they refer to is unknown.
    pub(super) has_unread_manifests: bool,
}

impl Report {
    pub(super) fn new(root: &str) -> Report {
        Report {
            root: root.into(),
            blobs: Total::default(),
            hashed: Total::default(),
            repositories: 0,
            manifests: 0,
            tags: 0,
            findings: Vec::new(),
            unreferenced: None,
            uploads: Total::default(),
            unread: Vec::new(),
            has_unread_manifests: false,
        }
    }

    /// Whether everything was read and has no errors.
    pub fn is_good(&self) -> bool {
        self.failure().is_none()
    }

    /// The most severe kind of what is wrong.
    pub fn failure(&self) -> Option<ErrorKind> {
        let unread = self.unread.iter().map(Error::kind).max();
        unread.max((self.errors() > 0).then_some(ErrorKind::Content))
    }

    /// Number of findings that are errors.
    pub fn errors(&self) -> usize {
        let errors = self.findings.iter().filter(|found| found.finding.is_error());
        errors.count()
    }

    /// The images that have errors.
    pub fn affected(&self) -> BTreeSet<AffectedImage> {
        let errors = self.findings.iter().filter(|found| found.finding.is_error());
        AffectedImages::set_of(errors.map(|found| &found.images))
    }

    /// Adds what was found in a repository.
    pub(super) fn add(&mut self, examined: Examined) {
        self.repositories += 1;
        self.manifests += examined.manifests;
        self.tags += examined.tags;
        self.has_unread_manifests |= examined.has_unread_manifests;
        self.unread.extend(examined.unread);
        self.findings.extend(examined.findings);
    }

    /// Adds the bad blobs that no image uses.
    pub(super) fn add_unused(&mut self, storage: &Storage, bad: &BTreeMap<Digest, Bad>) {
        let told: BTreeSet<Digest> = self
            .findings
            .iter()
            .filter(|found| found.finding.is_error())
            .filter_map(|found| found.finding.place.digest)
            .collect();
        let unused = bad.iter().filter(|(digest, _)| !told.contains(digest));
        let unused = unused.map(|(digest, bad)| {
            StorageFinding::new(Finding {
                place: storage.blob_place(digest),
                problem: bad.problem.clone(),
            })
        });
        self.findings.extend(unused.collect::<Vec<_>>());
    }

    /// Counts the uploads in the notes about them.
    pub(super) fn count_uploads(&mut self) {
        self.uploads = Total::default();
        for found in &self.findings {
            if let Problem::UnfinishedUpload { received, .. } = found.finding.problem {
                self.uploads.add(received);
            }
        }
    }

    /// Joins findings that several repositories have in common; errors come first, then by place. What several passes
    /// could not read is told once.
    pub(super) fn sort(&mut self) {
        let mut told = HashSet::new();
        self.unread.retain(|error| told.insert(error.to_string()));
        self.findings.sort_by_cached_key(|found| {
            let Finding { place, problem } = &found.finding;
            (
                !found.finding.is_error(),
                place.entry.clone(),
                problem.to_string(),
            )
        });
        self.findings.dedup_by(|next, kept| {
            let is_same = next.finding == kept.finding;
            if is_same {
                kept.images.append(&mut next.images);
            }
            is_same
        });
    }
}
