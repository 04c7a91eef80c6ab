//! Everything that can be wrong with an archive, in one report: a verification never stops at a finding.
//!
//! - [`closure`]: follows `index.json` down to the layers and collects what is missing or contradictory
//! - [`documents`]: reads and hashes documents and configs, each once
//! - [`manifest_json`]: compares `manifest.json`, which a bare `docker load` reads, with `index.json`
//! - [`recorded`]: refuses recorded digests that belong to other images in the archive
//! - [`blobs`]: hashes all other blobs in parallel, each once, and layers also uncompressed

mod blobs;
mod closure;
mod documents;
mod manifest_json;
mod recorded;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::format::digest_of_path;
use super::layout::Layout;
use crate::blob::decompress::DEFAULT_LIMIT;
use crate::error::{Error, Finding, Place, Problem, Result};
use crate::image::provenance::Evidence;
use crate::image::selector::Identity;
use crate::interrupt::Interrupt;
use crate::oci::{Digest, Platform, Reference};
use crate::progress::Progress;
use blobs::{Job, Outcome};
use closure::Closure;

/// What to verify, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Verifies stored bytes only, without diff ids.
    pub quick: bool,
    /// Number of threads that hash.
    pub jobs: NonZeroUsize,
    /// Most bytes that one layer may decompress to.
    pub max_layer_size: u64,
    /// Only the images with these digests in `index.json`, and what they refer to. Without it, all images, and
    /// that there is nothing else.
    pub selection: Option<BTreeSet<Digest>>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            quick: false,
            jobs: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            max_layer_size: DEFAULT_LIMIT,
            selection: None,
        }
    }
}

/// One entry of `index.json`.
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
    /// Platforms that are present.
    pub platforms: Arc<[Platform]>,
    /// Platforms in its index that are not present.
    pub absent: Arc<[Platform]>,
    /// Whether there are no errors in what it refers to, nor in the archive as a whole.
    pub is_good: bool,
}

impl Image {
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
    /// The archive, as given.
    pub label: String,
    /// Digest of `index.json`.
    pub archive: Digest,
    /// The images that were verified.
    pub images: Vec<Image>,
    /// Blobs that were hashed.
    pub blobs: usize,
    /// Their stored bytes.
    pub bytes: u64,
    /// Errors and notes.
    pub findings: Vec<Finding>,
    /// What could not be read, and is therefore unknown.
    pub unread: Vec<Error>,
    /// Layers by the digest of their stored bytes; empty after a quick verification.
    pub layers: BTreeMap<Digest, Layer>,
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
            return Err(self.unread.swap_remove(0));
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

/// Refuses an archive other than the expected one. A digest that was carried separately from the archive proves
/// which archive it is.
///
/// # Errors
///
/// [`Error::Refused`] with both digests.
pub fn expect(content: &dyn Layout, expected: &Digest) -> Result<()> {
    let found = expected.of_same_algorithm(content.index());
    if found == *expected {
        return Ok(());
    }
    let place = Place::default().within(content.label());
    let expected = *expected;
    Err(Error::refused(place, Problem::Unexpected { expected, found }))
}

/// Verifies an archive.
///
/// # Errors
///
/// [`Error::Interrupted`] only: everything else is in the report.
pub fn verify(
    content: &dyn Layout,
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report> {
    let mut closure = Closure::new(content);
    let mut images = Vec::new();
    for entry in content.entries() {
        interrupt.check()?;
        let digest = entry.descriptor.digest;
        if options
            .selection
            .as_ref()
            .is_none_or(|chosen| chosen.contains(&digest))
        {
            images.push(closure.image(entry));
        }
    }
    recorded::check(&mut closure, &images);
    let mut referred = BTreeSet::new();
    if options.selection.is_none() {
        referred = manifest_json::check(&mut closure, &images);
    }
    let jobs = jobs(&closure, options);
    let outcomes = blobs::check_all(content, jobs, options, progress, interrupt)?;
    let mut report = Report::of_closure(&mut closure);
    for (digest, outcome) in outcomes {
        let is_known = closure.blobs.contains_key(&digest) || referred.contains(&digest);
        report.take(content, digest, outcome, is_known);
    }
    if options.selection.is_none() {
        report
            .findings
            .extend(content.unknown_files().into_iter().map(|name| Finding {
                place: Place::default().within(content.label()).entry(name),
                problem: Problem::UnknownFile,
            }));
    }
    let blame = Blame::of(&report);
    report.images = images.into_iter().map(|image| image.judge(&blame)).collect();
    Ok(report)
}

impl Report {
    /// Starts the report with the findings of opening and following the documents, and the blobs that were
    /// hashed there.
    fn of_closure(closure: &mut Closure<'_>) -> Report {
        let content = closure.content;
        let read = closure.checked();
        let mut findings = content.findings().to_vec();
        findings.append(&mut closure.findings);
        Report {
            label: content.label().into(),
            archive: content.digest(),
            images: Vec::new(),
            blobs: read.len(),
            bytes: read.iter().map(|digest| size_of(content, digest)).sum(),
            findings,
            unread: std::mem::take(&mut closure.unread),
            layers: BTreeMap::new(),
        }
    }

    /// Adds the result of hashing a blob.
    fn take(&mut self, content: &dyn Layout, digest: Digest, outcome: Outcome, is_known: bool) {
        self.blobs += 1;
        self.bytes = self.bytes.saturating_add(size_of(content, &digest));
        let problems = match outcome {
            Outcome::Unread(error) => {
                self.unread.push(error);
                Vec::new()
            }
            Outcome::Wrong(problems) => problems,
            Outcome::Good(layer) => {
                if let Some(layer) = layer {
                    self.layers.insert(digest, layer);
                }
                if is_known {
                    Vec::new()
                } else {
                    vec![Problem::UnknownFile]
                }
            }
        };
        let place = place_of(content, &digest);
        self.findings.extend(problems.into_iter().map(|problem| Finding {
            place: place.clone(),
            problem,
        }));
    }
}

fn size_of(content: &dyn Layout, digest: &Digest) -> u64 {
    content.stored(digest).map_or(0, |stored| stored.size)
}

/// The place of a blob, for messages.
fn place_of(content: &dyn Layout, digest: &Digest) -> Place {
    let place = Place::blob(*digest).within(content.label());
    match content.stored(digest) {
        Some(stored) => stored.locate(place),
        None => place,
    }
}

/// The blobs left to hash: all that are present, or all of the selection.
fn jobs(closure: &Closure<'_>, options: &Options) -> Vec<Job> {
    let content = closure.content;
    let mut jobs = Vec::new();
    for digest in content.blobs() {
        let known = closure.blobs.get(&digest);
        let wanted = match known {
            None => options.selection.is_none(),
            Some(blob) => !blob.is_settled(),
        };
        if let Some(stored) = content.stored(&digest).filter(|_| wanted) {
            jobs.push(Job {
                digest,
                size: stored.size,
                compression: known.and_then(|blob| blob.compression),
                diff_ids: known.map_or_else(Vec::new, |blob| blob.diff_ids.iter().copied().collect()),
            });
        }
    }
    jobs
}

/// What the findings are about.
struct Blame {
    /// The archive as a whole has an error, or could not be read.
    is_general: bool,
    blobs: HashSet<Digest>,
}

impl Blame {
    fn of(report: &Report) -> Blame {
        let mut blame = Blame {
            is_general: !report.unread.is_empty(),
            blobs: HashSet::new(),
        };
        for finding in report.findings.iter().filter(|finding| finding.is_error()) {
            let of_entry = || digest_of_path(finding.place.entry.as_deref()?).ok().flatten();
            match finding.place.digest.or_else(of_entry) {
                Some(digest) => drop(blame.blobs.insert(digest)),
                None => blame.is_general = true,
            }
        }
        blame
    }
}

impl closure::Walked {
    /// The image's part of the report, once all findings are known.
    fn judge(self, blame: &Blame) -> Image {
        let followed = &self.followed;
        Image {
            is_good: !blame.is_general && followed.blobs.is_disjoint(&blame.blobs),
            reference: self.reference,
            root: followed.root,
            digest: self.digest,
            image_id: match followed.manifests.as_slice() {
                [only] => Some(only.config.digest),
                _ => None,
            },
            evidence: self.evidence,
            uncompressed: followed.uncompressed,
            platforms: Arc::clone(&followed.platforms),
            absent: Arc::clone(&followed.absent),
        }
    }
}
