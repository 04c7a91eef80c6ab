//! Verifies images in any [`Blobs`]: an archive, a folder, a registry. All that is wrong with them is in one
//! report: a verification never stops at a finding.
//!
//! - `follow`: follows an image down to its layers and collects what is missing or contradictory
//! - `documents`: reads and hashes documents and configs, each once
//! - `blobs`: hashes all other blobs in parallel, each once, and layers also uncompressed
//! - `layer`: one pass over a layer, for code that needs its uncompressed bytes as well
//! - `delegated`: layers that such code verifies
//! - `layer_tar`: whether engines can unpack a layer
//! - `referrers`: follows what refers to an image
//! - `report`: the result

mod blobs;
mod delegated;
mod documents;
mod follow;
mod layer;
pub(crate) mod layer_tar;
mod referrers;
mod report;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::rc::Rc;

use crate::blob::Blobs;
use crate::blob::decompress::DEFAULT_LIMIT;
use crate::error::{Error, Finding, Problem, Result};
use crate::image::contest::Contest;
use crate::image::provenance::Evidence;
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, Digest, MediaType, Platform, Reference};
use crate::progress::Progress;
use blobs::{Job, Outcome};
pub(crate) use delegated::Delegated;
use documents::{Blob, Node};
pub(crate) use documents::{ManifestNode, Nodes};
pub use follow::Followed;
pub(crate) use follow::Parts;
pub(crate) use layer::{LayerReader, VerifiedLayer};
pub(crate) use referrers::{FollowedReferrers, ListedReferrers};
use report::Blame;
pub use report::{Image, Layer, Report};

/// How to verify.
#[derive(Debug, Clone)]
pub struct Options {
    /// Verifies stored bytes only, without diff ids.
    pub quick: bool,
    /// Verifies manifests, indexes and configs only; of layers, that they are there.
    pub documents_only: bool,
    /// Number of threads that hash.
    pub jobs: NonZeroUsize,
    /// Most bytes that one layer may decompress to.
    pub max_layer_size: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            quick: false,
            documents_only: false,
            jobs: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            max_layer_size: DEFAULT_LIMIT,
        }
    }
}

/// An image to verify: its manifest or index, and what is said about it elsewhere.
#[derive(Debug, Clone)]
pub struct Root {
    /// Its manifest or index.
    pub descriptor: Descriptor,
    /// Its name, if it has one.
    pub reference: Option<Reference>,
    /// Its digest, which is not that of the descriptor if that is a substitute; `None` if it is not known.
    pub digest: Option<Digest>,
    /// The evidence for that digest if the image is good.
    pub evidence: Evidence,
    /// The platforms of an index that must be present; `None` if any one is enough.
    pub platforms: Option<Vec<Platform>>,
    /// Layers that may be present only uncompressed, by the digests of their stored form.
    pub uncompressed: BTreeSet<Digest>,
}

/// A verification: follows images one by one, then hashes their blobs all together.
pub struct Verification<'a> {
    blobs: &'a dyn Blobs,
    /// What was found when the blobs were opened.
    opening: Vec<Finding>,
    blame: Blame,
    findings: Vec<Finding>,
    unread: Vec<(Digest, Error)>,
    /// Every blob that is referred to, present or not.
    noted: BTreeMap<Digest, Blob>,
    /// Stored bytes of the blobs that were looked for; `None` for those that are missing.
    sizes: HashMap<Digest, Option<u64>>,
    documents: HashMap<Digest, Rc<Node>>,
    followed: HashMap<follow::Key, Rc<Parts>>,
    /// Wrong sizes of blobs that were reported, at most one more than [`crate::error::MAX_WRONG_SIZES`].
    wrong_sizes: HashMap<Digest, Vec<u64>>,
    /// Manifests that were reported to contradict the platform in their index.
    denied: HashSet<Digest>,
    contest: Contest,
    descriptors: usize,
    /// Layers of images that are declared to be left out.
    omits: BTreeSet<Digest>,
    /// Those that are, with their stored bytes.
    omitted: BTreeMap<Digest, u64>,
    delegated: Option<&'a Delegated>,
    /// Blobs that were verified before, layers with their diff ids.
    trusted: HashMap<Digest, Option<Digest>>,
}

impl<'a> Verification<'a> {
    /// Starts with no images.
    pub fn new(blobs: &'a dyn Blobs) -> Verification<'a> {
        Verification {
            blobs,
            opening: Vec::new(),
            blame: Blame::default(),
            findings: Vec::new(),
            unread: Vec::new(),
            noted: BTreeMap::new(),
            sizes: HashMap::new(),
            documents: HashMap::new(),
            followed: HashMap::new(),
            wrong_sizes: HashMap::new(),
            denied: HashSet::new(),
            contest: Contest::new(),
            descriptors: 0,
            omits: BTreeSet::new(),
            omitted: BTreeMap::new(),
            delegated: None,
            trusted: HashMap::new(),
        }
    }

    /// Does not read blobs that were verified before; layers, if their diff ids are still the same.
    pub(crate) fn trusting(&mut self, blobs: HashMap<Digest, Option<Digest>>) {
        self.trusted = blobs;
    }

    /// Notes that a blob could not be read.
    pub(crate) fn cannot_read(&mut self, digest: Digest, error: Error) {
        self.unread.push((digest, error));
    }

    /// Leaves layers to others, which verify them meanwhile.
    pub(crate) fn delegating(&mut self, delegated: &'a Delegated) {
        self.delegated = Some(delegated);
    }

    /// Lets images lack these layers too, which are declared to be left out.
    pub(crate) fn omitting(&mut self, layers: BTreeSet<Digest>) {
        self.omits.extend(layers);
    }

    /// Whether a layer that is declared to be left out is missing from an image.
    pub(crate) fn is_omitted(&self, layer: &Digest) -> bool {
        self.omitted.contains_key(layer)
    }

    /// Adds what was found when the blobs were opened. It is about `blob`, or about all images.
    pub(crate) fn opened_with(&mut self, finding: Finding, blob: Option<Digest>) {
        self.blame.add(&finding, blob);
        self.opening.push(finding);
    }

    /// Adds a finding about a blob.
    pub(crate) fn find(&mut self, digest: &Digest, problem: impl Into<Problem>) {
        let problem = problem.into();
        let place = self.blobs.place(digest);
        self.findings.push(Finding { place, problem });
    }

    /// Adds a finding about all images.
    pub(crate) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Whether following the images has found errors.
    pub(crate) fn has_errors(&self) -> bool {
        self.findings.iter().any(Finding::is_error)
    }

    /// The documents that were read.
    pub(crate) fn nodes(&self) -> Nodes<'_> {
        Nodes(&self.documents)
    }

    /// Notes a blob that something other than an image refers to, and reports it if it is missing.
    pub(crate) fn refer(&mut self, digest: &Digest) {
        self.size(&Descriptor::new(MediaType::new(""), *digest, 0));
        self.noted.entry(*digest).or_default();
        if !self.is_omitted(digest) {
            self.require(digest);
        }
    }

    /// Stored bytes of a blob; `None` if it is missing. If that cannot be told, reading the blob reports why.
    fn size(&mut self, blob: &Descriptor) -> Option<u64> {
        let size = self.sizes.entry(blob.digest);
        *size.or_insert_with(|| self.blobs.size(blob).unwrap_or(Some(blob.size)))
    }

    /// Hashes the blobs of the images, and those of `present` that nothing refers to.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] only: everything else is in the report.
    pub fn finish(
        mut self,
        images: Vec<Followed>,
        present: &[Digest],
        options: &Options,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Report> {
        let mut jobs = match options.documents_only {
            true => Vec::new(),
            false => self.jobs(present),
        };
        let all = jobs.len();
        jobs.retain(|job| !self.is_trusted(job));
        let trusted = all - jobs.len();
        let outcomes = blobs::check_all(self.blobs, jobs, self.delegated, options, progress, interrupt)?;
        let mut report = self.report();
        report.trusted = trusted;
        for (digest, outcome) in outcomes {
            self.take(&mut report, digest, outcome);
        }
        for finding in report.findings.iter().skip(self.opening.len()) {
            self.blame.add(finding, finding.place.digest);
        }
        for (blob, _) in &report.unread {
            self.blame.blobs.insert(*blob);
        }
        self.name_damaged_referrers(&mut report, &images);
        let images = images.into_iter();
        report.images = images.map(|image| Image::new(image, &self.blame)).collect();
        Ok(report)
    }

    /// Adds a finding for each referrer that something is wrong with, which names the image.
    fn name_damaged_referrers(&self, report: &mut Report, images: &[Followed]) {
        let mut named: HashSet<Digest> = HashSet::new();
        for image in images {
            for referrer in &image.referrers.referrers {
                if referrer.blobs.is_disjoint(&self.blame.blobs) || !named.insert(referrer.digest) {
                    continue;
                }
                let reference = image.root.reference.as_ref().map(Reference::familiar);
                let digest = image.root.descriptor.digest;
                report.findings.push(Finding {
                    place: self.blobs.place(&referrer.digest),
                    problem: Problem::DamagedReferrer {
                        image: reference.unwrap_or_else(|| digest.to_string()),
                    },
                });
            }
        }
    }

    /// The blobs left to hash.
    fn jobs(&mut self, present: &[Digest]) -> Vec<Job> {
        let digests: BTreeSet<Digest> = self.noted.keys().chain(present).copied().collect();
        let mut jobs = Vec::new();
        for digest in digests {
            let size = self.size(&Descriptor::new(MediaType::new(""), digest, 0));
            let known = self.noted.get(&digest);
            let is_wanted = known.is_none_or(|blob| !blob.is_settled());
            if let Some(size) = size.filter(|_| is_wanted) {
                jobs.push(Job {
                    digest,
                    size,
                    compression: known.and_then(|blob| blob.compression),
                    diff_ids: known.map_or_else(Vec::new, |blob| blob.diff_ids.iter().copied().collect()),
                });
            }
        }
        jobs
    }

    /// Starts the report with what was found so far, and the blobs that were hashed on the way.
    fn report(&mut self) -> Report {
        let read = self.noted.iter();
        let read = read.filter(|(_, blob)| blob.is_read && blob.is_settled());
        let read: Vec<Digest> = read.map(|(digest, _)| *digest).collect();
        let mut findings = self.opening.clone();
        findings.append(&mut self.findings);
        Report {
            label: self.blobs.label().into(),
            images: Vec::new(),
            blobs: read.len(),
            bytes: read.iter().map(|digest| self.known_size(digest)).sum(),
            findings,
            unread: std::mem::take(&mut self.unread),
            layers: BTreeMap::new(),
            omitted: std::mem::take(&mut self.omitted),
            trusted: 0,
        }
    }

    fn is_trusted(&self, job: &Job) -> bool {
        let trusted = self.trusted.get(&job.digest);
        trusted.is_some_and(|diff_id| job.diff_ids.iter().eq(diff_id))
    }

    /// Adds the result of hashing a blob.
    fn take(&self, report: &mut Report, digest: Digest, outcome: Outcome) {
        let is_missing = matches!(&outcome, Outcome::Wrong(problems) if problems.contains(&Problem::Missing));
        if !is_missing {
            report.blobs += 1;
            report.bytes = report.bytes.saturating_add(self.known_size(&digest));
        }
        let problems = match outcome {
            Outcome::Unread(error) => {
                report.unread.push((digest, error));
                Vec::new()
            }
            Outcome::Wrong(problems) => problems,
            Outcome::Good(layer) => {
                if let Some(layer) = layer {
                    report.layers.insert(digest, layer);
                }
                if self.noted.contains_key(&digest) {
                    Vec::new()
                } else {
                    vec![Problem::UnknownFile]
                }
            }
        };
        let place = self.blobs.place(&digest);
        report
            .findings
            .extend(problems.into_iter().map(|problem| Finding {
                place: place.clone(),
                problem,
            }));
    }

    fn known_size(&self, digest: &Digest) -> u64 {
        self.sizes.get(digest).copied().flatten().unwrap_or_default()
    }
}
