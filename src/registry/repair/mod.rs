//! Replaces bad and missing blobs of images in a registry, through its API.
//!
//! A repair verifies images, takes bytes with the right digest out of other places, and uploads them. A blob is mended
//! once the registry serves the right bytes. What a mended manifest names is verified next, until nothing more can be
//! mended.
//!
//! Whether an upload replaces a blob is up to the registry:
//!
//! - CNCF distribution 2.8 (measured; version 3 has the same code) writes a blob or manifest whose file is missing. It
//!   answers 201 and drops the bytes if there is a file of any content: `moveBlob` in `registry/storage/blobwriter.go`.
//!   `DELETE` of a blob removes the repository's link alone, so the next upload finds the same file. With its cache in
//!   memory, a `HEAD` request goes on saying that a blob is there whose file is gone, and a manifest whose file is gone
//!   is not written before a restart.
//! - zot (its source; not measured) replaces a blob of another size. With `dedupe: false` it replaces every blob. It
//!   refuses to delete a blob that a manifest refers to.
//! - Harbor (its source; not measured) passes uploads and deletions of blobs on to distribution.
//!
//! So a blob is uploaded without asking first whether the registry has it. If the registry still serves wrong bytes, the
//! blob is deleted and uploaded again, where the registry allows that. The right bytes are in a file here before anything
//! is deleted. Manifests are never deleted, because their tags would go with them.
//!
//! - `users`: the images that use bad blobs, and what their manifests say about these
//! - `good`: what is good in the registry, for stores that recover images with it
//! - `replace`: one blob

mod good;
mod replace;
mod users;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use super::source::RegistrySource;
use super::verify::{self, BlobFinding, Checked, Report};
use crate::error::{Error, ErrorKind, Finding, Place, Problem, Result};
use crate::image::AffectedImage;
use crate::interrupt::Interrupt;
use crate::oci::{Digest, Reference, Repository};
use crate::progress::Progress;
use crate::repair::{self as copies, BlobRepair, Fate, Open, Search, Wanted};
use crate::retry::Retry;
use good::GoodPart;
use replace::Replacer;
use users::Users;

/// How to repair.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of requests at the same time while images are verified.
    pub jobs: NonZeroUsize,
    /// Most bytes that one layer may decompress to.
    pub max_layer_size: u64,
    /// How many times a blob is requested of the places that have it, and the pauses between.
    pub retry: Retry,
    /// The folder of temporary files.
    pub tmpdir: PathBuf,
    /// Whether only to find out where good bytes are.
    pub is_dry_run: bool,
}

/// The result.
#[derive(Debug)]
pub struct Repair {
    /// The registry's host.
    pub registry: String,
    /// Whether nothing was changed.
    pub is_dry_run: bool,
    /// The blobs that were bad or missing, by their digests.
    pub blobs: Vec<BlobRepair>,
    /// Images that had errors and have none any more.
    pub whole: Vec<AffectedImage>,
    /// Why places could not be searched.
    pub failures: Vec<Error>,
    /// What is in the registry now.
    pub report: Report,
}

impl Repair {
    /// The most severe kind of what is left. In a dry run: of what would be.
    pub fn failure(&self) -> Option<ErrorKind> {
        let errors = self.left_errors().map(Error::kind);
        let left = self.left().next().map(|_| ErrorKind::Content);
        let blobs = copies::failure(&self.blobs, &self.failures);
        errors.chain(left).chain(blobs).max()
    }

    /// The errors that the last verification found, without those of blobs that [`Repair::blobs`] gives as not mended.
    /// A mended blob that is wrong again is included.
    pub fn left(&self) -> impl Iterator<Item = &BlobFinding<Finding>> {
        let told = self.unmended();
        let errors = self.report.findings.iter().filter(|found| found.what.is_error());
        errors.filter(move |found| found.digest.is_none_or(|digest| !told.contains(&digest)))
    }

    /// Why images and blobs could not be read, without blobs that [`Repair::blobs`] gives as not mended.
    pub fn left_errors(&self) -> impl Iterator<Item = &Error> {
        let told = self.unmended();
        let is_left = move |digest: Option<Digest>| digest.is_none_or(|digest| !told.contains(&digest));
        let unread = self.report.unread.iter();
        let unread = unread.map(|unread| (unread.digest, Some(&unread.what)));
        let images = self.report.images.iter();
        let images = images.map(|image| (root(image), image.error.as_ref()));
        let all = unread.chain(images);
        all.filter_map(move |(digest, error)| error.filter(|_| is_left(digest)))
    }

    fn unmended(&self) -> HashSet<Digest> {
        let blobs = self.blobs.iter();
        let blobs = blobs.filter(|blob| !matches!(blob.fate, Fate::Mended(_)));
        blobs.map(|blob| blob.digest).collect()
    }
}

/// Repairs images of one registry, which `source` reaches without mirrors. `open` is called once, before anything is
/// verified: a place that is not there is an error even if nothing is to be mended.
///
/// # Errors
///
/// [`Error::Usage`] if the images are of several registries, those of `open`, and [`Error::Interrupted`]. Everything
/// else is in the result.
pub fn repair(
    source: &Arc<RegistrySource>,
    references: &[Reference],
    open: &mut Open<'_>,
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Repair> {
    let registry = one_registry(references)?;
    let mut how = verify::Options {
        jobs: options.jobs,
        max_layer_size: options.max_layer_size,
        ..verify::Options::default()
    };
    let good = Arc::new(GoodPart::new(source));
    let mut search = Search::open(good.clone(), Some(&registry), open)?;
    let mut report = verify::verify(source, references, &how, progress, interrupt)?;
    let was_bad: Vec<bool> = report.images.iter().map(is_bad(&report)).collect();
    let replacer = Replacer {
        source,
        options,
        progress,
        interrupt,
    };
    let mut blobs: BTreeMap<Digest, BlobRepair> = BTreeMap::new();
    loop {
        let bad = bad_blobs(&report);
        let untried: Vec<&Digest> = bad.keys().filter(|digest| !blobs.contains_key(*digest)).collect();
        if untried.is_empty() {
            break;
        }
        let users = Users::find(source, &report, &bad, interrupt)?;
        let wanted: BTreeMap<Digest, Wanted> = untried
            .into_iter()
            .filter_map(|digest| Some((*digest, users.wanted(digest, bad.get(digest)?))))
            .collect();
        good.set_bad(bad.keys().copied());
        progress.phase("looking for good copies", None);
        search.look(&wanted)?;
        if options.is_dry_run {
            let planned = wanted.into_iter();
            blobs.extend(planned.map(|(digest, wanted)| (digest, wanted.with(digest, search.plan(&digest)))));
            break;
        }
        let mended = search.mend(wanted, progress, interrupt, |digest, offer| {
            match users.home(digest) {
                Some(repository) => replacer.replace(offer, repository),
                None => Ok(search.not_found(digest)),
            }
        })?;
        blobs.extend(mended.into_iter().map(|blob| (blob.digest, blob)));
        let layers = report.layers.iter();
        how.known_layers
            .extend(layers.map(|(layer, found)| (*layer, found.diff_id)));
        report = verify::verify(source, references, &how, progress, interrupt)?;
    }
    let is_bad = is_bad(&report);
    let images = report.images.iter().zip(was_bad);
    let whole = images.filter(|(image, was_bad)| *was_bad && !is_bad(image));
    let whole = whole.map(|(image, _)| affected(image)).collect();
    Ok(Repair {
        registry,
        is_dry_run: options.is_dry_run,
        blobs: blobs.into_values().collect(),
        whole,
        failures: std::mem::take(&mut search.failures),
        report,
    })
}

/// The registry of all images.
fn one_registry(references: &[Reference]) -> Result<String> {
    let domains = references.iter().map(|reference| reference.repository().domain());
    let domains: BTreeSet<String> = domains.map(str::to_ascii_lowercase).collect();
    let mut domains = domains.into_iter();
    match (domains.next(), domains.next()) {
        (Some(first), Some(second)) => Err(Error::Usage {
            message: format!("the images are of several registries: {first} and {second}"),
            hint: Some("repair the images of one registry at a time".into()),
        }),
        (first, _) => Ok(first.unwrap_or_default()),
    }
}

/// The digest of an image, if it is known.
fn root(image: &Checked) -> Option<Digest> {
    image.digest.or_else(|| image.reference.digest())
}

/// An image, as findings name it.
fn affected(image: &Checked) -> AffectedImage {
    AffectedImage {
        repository: image.reference.repository().path().into(),
        tag: image.reference.tag().map(Into::into),
        digest: root(image),
    }
}

/// Whether an image has errors, or was not read as a whole.
fn is_bad(report: &Report) -> impl Fn(&Checked) -> bool + use<> {
    let unread: BTreeSet<usize> = report
        .unread
        .iter()
        .flat_map(|unread| unread.images.iter().copied())
        .collect();
    let bad = report.images.iter().enumerate();
    let bad = bad.filter(|(at, image)| !image.is_good() || unread.contains(at));
    let bad: HashSet<String> = bad.map(|(_, image)| image.reference.full()).collect();
    move |image| bad.contains(&image.reference.full())
}

/// What is wrong with blobs that other bytes would mend.
fn bad_blobs(report: &Report) -> BTreeMap<Digest, Finding> {
    let mut bad = BTreeMap::new();
    for found in &report.findings {
        let is_about_bytes = matches!(
            found.what.problem,
            Problem::Missing
                | Problem::Empty
                | Problem::Truncated { .. }
                | Problem::SizeDiffers { .. }
                | Problem::DigestDiffers { .. }
        );
        if let Some(digest) = found.digest.filter(|_| is_about_bytes) {
            bad.entry(digest).or_insert_with(|| found.what.clone());
        }
    }
    // distribution answers 500 for a damaged manifest, and cuts the response for a truncated blob that it remembers.
    let failed = report.images.iter();
    let failed = failed.filter_map(|image| Some((root(image)?, image.error.as_ref()?)));
    let unread = report.unread.iter();
    let unread = unread.filter_map(|unread| Some((unread.digest?, &unread.what)));
    for (digest, error) in unread.chain(failed) {
        let problem = match error {
            Error::NotFound { .. } => Problem::Missing,
            Error::Registry { .. } => Problem::Unreadable {
                reason: error.to_string(),
            },
            _ => continue,
        };
        bad.entry(digest).or_insert_with(|| Finding {
            place: Place::blob(digest),
            problem,
        });
    }
    bad
}

/// The first repository of an image that uses a blob.
type Homes = BTreeMap<Digest, Arc<Repository>>;
