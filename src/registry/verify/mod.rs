//! Verifies images in registries, as [`crate::verify`] verifies those of an archive: from streams, with nothing kept
//! on disk.
//!
//! Documents are fetched by several workers for some images at a time, which the verification then follows one by one.
//! At the end each other blob is fetched once from each registry, from the first repository that has it, and hashed as it
//! arrives.
//!
//! - `images`: fetches the documents of some images
//! - `blobs`: what the verification reads, and where it comes from
//! - `state`: what an earlier run verified
//! - `report`: the result

mod blobs;
mod images;
mod report;
mod state;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use super::source::RegistrySource;
use crate::blob::decompress::DEFAULT_LIMIT;
use crate::date::to_rfc3339;
use crate::error::{Error, ErrorKind, Result};
use crate::image::provenance::Evidence;
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, Digest, MediaType, Platform, Reference};
use crate::progress::Progress;
use crate::verify::{self, Followed, Parts, Root, Verification};
use crate::workers;
use blobs::RegistryBlobs;
use images::{Fetched, Images};
pub use report::{BlobFinding, Checked, Report};
pub use state::{State, VerifiedImage};

/// Images whose documents are in memory at the same time.
const BATCH: usize = 64;

/// What of images is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Manifests and configs; of everything else, the registry tells the size.
    Sizes,
    /// Everything, as it is stored.
    Digests,
    /// Everything, and layers also uncompressed.
    DiffIds,
}

/// How to verify.
#[derive(Debug, Clone)]
pub struct Options {
    /// What of the images is read.
    pub depth: Depth,
    /// The platforms to verify, which must be there; `None` for all that are.
    pub platforms: Option<Vec<Platform>>,
    /// Number of requests at the same time.
    pub jobs: NonZeroUsize,
    /// Most bytes that one layer may decompress to.
    pub max_layer_size: u64,
    /// What an earlier run verified, and is not fetched again.
    pub since: Option<State>,
    /// Layers that were verified in the same registry just before, with their diff ids. They are not fetched again.
    pub known_layers: HashMap<Digest, Digest>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            depth: Depth::DiffIds,
            platforms: None,
            jobs: verify::Options::default().jobs.max(crate::transfer::JOBS),
            max_layer_size: DEFAULT_LIMIT,
            since: None,
            known_layers: HashMap::new(),
        }
    }
}

/// Verifies images, those of each registry by themselves: a blob that is good in one registry may be damaged in another.
///
/// # Errors
///
/// [`Error::Interrupted`] only: everything else is in the report.
pub fn verify(
    source: &Arc<RegistrySource>,
    references: &[Reference],
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report> {
    let mut registries: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, reference) in references.iter().enumerate() {
        let registry = reference.repository().domain().to_ascii_lowercase();
        registries.entry(registry).or_default().push(at);
    }
    let mut reports = Vec::new();
    for (registry, positions) in registries {
        let images = positions.iter().filter_map(|at| references.get(*at));
        let images: Vec<Reference> = images.cloned().collect();
        let report = verify_registry(source, &registry, &images, options, progress, interrupt)?;
        reports.push((positions, report));
    }
    Ok(Report::join(reports, options.depth))
}

/// Verifies images of one registry.
fn verify_registry(
    source: &Arc<RegistrySource>,
    registry: &str,
    references: &[Reference],
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report> {
    let blobs = RegistryBlobs::new(Arc::clone(source));
    let mut verification = Verification::new(&blobs);
    let since = options.since.iter().flat_map(|since| since.blobs_of(registry));
    let known = options.known_layers.iter();
    let known = known.map(|(layer, diff_id)| (*layer, Some(*diff_id)));
    verification.trusting(since.chain(known).collect());
    progress.phase("fetching manifests", None);
    let mut checked: Vec<Checked> = Vec::with_capacity(references.len());
    let mut followed: Vec<Followed> = Vec::new();
    // Tags of one image are followed once.
    let mut known: HashMap<(Digest, MediaType), usize> = HashMap::new();
    for batch in references.chunks(BATCH) {
        let images = Images {
            blobs: &blobs,
            options,
        };
        let fetched = workers::map(
            options.jobs.get(),
            batch,
            |reference| images.fetch(reference, interrupt),
            |result| matches!(result, Err(Error::Interrupted)),
        );
        interrupt.check()?;
        verification.omitting(blobs.absent_foreign());
        for (reference, result) in batch.iter().zip(fetched) {
            let result = result.unwrap_or(Err(Error::Interrupted));
            checked.push(match result {
                Ok(Fetched::Known(digest)) => Checked::known(reference, digest),
                Ok(Fetched::Read(descriptor)) => {
                    let digest = descriptor.digest;
                    if let Some(error) = blobs.refusal(&digest) {
                        Checked::failed(reference, Some(digest), error_of(reference, error))
                    } else {
                        let key = (digest, descriptor.media_type.clone());
                        let at = *known.entry(key).or_insert_with(|| {
                            followed.push(verification.follow(root(reference, descriptor)));
                            followed.len() - 1
                        });
                        Checked::followed(reference, digest, at)
                    }
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => Checked::failed(reference, None, error),
            });
        }
    }
    for (digest, error) in blobs.take_unread() {
        verification.cannot_read(digest, error);
    }
    let parts: Vec<Rc<Parts>> = followed.iter().map(|image| Rc::clone(&image.parts)).collect();
    let how = verify::Options {
        quick: options.depth == Depth::Digests,
        documents_only: options.depth == Depth::Sizes,
        jobs: options.jobs,
        max_layer_size: options.max_layer_size,
    };
    let found = verification.finish(followed, &[], &how, progress, interrupt)?;
    Ok(Report::new(checked, found, &parts, options.depth))
}

/// What to follow of an image.
fn root(reference: &Reference, descriptor: Descriptor) -> Root {
    Root {
        reference: Some(reference.clone()),
        digest: Some(descriptor.digest),
        descriptor,
        evidence: Evidence::Verified,
        platforms: None,
        uncompressed: Default::default(),
    }
}

/// The error of an image that several references may name.
fn error_of(reference: &Reference, error: Error) -> Error {
    match error {
        Error::NotFound { what, hint, .. } => Error::NotFound {
            what,
            place: reference.familiar(),
            hint,
        },
        other => other,
    }
}

/// What this run verified, to be given to the next one. Images that were not fetched keep their entries.
pub fn next_state(report: &Report, options: &Options, now: SystemTime) -> State {
    let time = to_rfc3339(now);
    let before = options.since.clone().unwrap_or_default();
    let known = before.blobs();
    let mut images = BTreeMap::new();
    // A registry that did not answer has not changed what is known.
    let is_unknown = |checked: &Checked| {
        let error = checked.error.as_ref();
        error.is_some_and(|error| error.kind() == ErrorKind::Registry)
    };
    let kept = report.images.iter();
    for checked in kept.filter(|checked| checked.is_good() || is_unknown(checked)) {
        let name = checked.reference.to_string();
        let entry = match (&checked.verified, checked.digest) {
            (None, _) => before.images.get(&name).cloned(),
            (Some(blobs), Some(digest)) => Some(VerifiedImage {
                digest,
                platforms: options.platforms.clone(),
                time: time.clone(),
                blobs: with_diff_ids(blobs, report, &known),
            }),
            _ => None,
        };
        images.extend(entry.map(|entry| (name, entry)));
    }
    State { images }
}

/// The diff ids that blobs have, if they are layers.
fn with_diff_ids(
    blobs: &[Digest],
    report: &Report,
    known: &HashMap<Digest, Option<Digest>>,
) -> BTreeMap<Digest, Option<Digest>> {
    let diff_id = |blob: &Digest| {
        let verified = report.layers.get(blob).map(|layer| layer.diff_id);
        verified.or_else(|| known.get(blob).copied().flatten())
    };
    blobs.iter().map(|blob| (*blob, diff_id(blob))).collect()
}
