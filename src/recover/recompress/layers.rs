//! Recompresses layers in parallel, until each has the digest that it had.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::attempt::Worker;
use super::encoders::{Deflate, Encoder};
use super::spool;
use crate::blob::Stored;
use crate::blob::Uncompressed;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::oci::{Compression, Descriptor, Digest, Kind};
use crate::progress::Progress;
use crate::{transfer, workers};

/// Most uncompressed bytes of a trial layer: a small one that is recompressed before all others, to learn the encoder.
const TRIAL: u64 = 8 << 20;
/// The trial pays off if the other layers have this many times as many bytes.
const TRIAL_SAVES: u64 = 16;

/// How layers are recompressed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder for recompressed layers: it needs room for all of them.
    pub tmpdir: PathBuf,
    /// Number of layers to recompress at the same time. If there are more than cores, equal ones end together.
    pub jobs: NonZeroUsize,
    /// Whether layers are only tried: they are hashed and not kept, and nothing can be read from them.
    pub is_trial: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            tmpdir: std::env::temp_dir(),
            jobs: transfer::JOBS,
            is_trial: false,
        }
    }
}

/// A layer whose stored form is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingLayer {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// What is known about the stored form.
    pub expected: Expected,
}

/// What is known about a layer's stored form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Digest and stored size, by a manifest.
    Exactly(Descriptor),
    /// One of these digests, the likeliest first.
    OneOf(Vec<Digest>),
    /// The output of the first encoder of this kind, in one pass, because there is nothing to compare it with.
    Anything(Deflate),
}

/// The result for a layer.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It has the expected digest, if there was one.
    Recompressed(Recompressed),
    /// No encoder reproduced it.
    Unmatched {
        /// Why.
        reason: Reason,
        /// Uncompressed bytes; zero if it is missing.
        size: u64,
        /// Sizes that encoders produced, in the order in which they were tried.
        made: Vec<u64>,
    },
    /// Its uncompressed bytes cannot be read, or are wrong.
    Failed(Error),
}

impl Outcome {
    /// Turns an error of one layer into its outcome, so that the others are still recompressed.
    ///
    /// # Errors
    ///
    /// If the error concerns all layers: files that cannot be written, and files of this machine that cannot be
    /// read.
    fn of(outcome: Result<Outcome>) -> Result<Outcome> {
        match outcome {
            Err(
                error @ (Error::Refused(_)
                | Error::NotFound { .. }
                | Error::Registry { .. }
                | Error::Engine { .. }),
            ) => Ok(Outcome::Failed(error)),
            other => other,
        }
    }
}

/// A layer in its stored form.
#[derive(Debug, Clone)]
pub struct Recompressed {
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// Stored bytes.
    pub size: u64,
    /// The encoder that made it.
    pub encoder: &'static Encoder,
    /// Where it is: in an unnamed temporary file, which is removed with the last [`Stored`] in it. Nowhere after a
    /// trial.
    pub stored: Stored,
}

/// Why a layer's stored form was not reproduced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No known encoder reproduces it.
    #[error("no known encoder reproduces it (tried {})", tried.join(", "))]
    Encoder {
        /// What was tried, in order.
        tried: Vec<String>,
    },
    /// It is not gzip.
    #[error("{0} layers cannot be recompressed")]
    Compression(Compression),
    /// Its stored form is the uncompressed tar: there is nothing to recompress.
    #[error("it is stored uncompressed")]
    Plain,
    /// Its media type is unknown.
    #[error("{} is not a layer type that can be recompressed", crate::escape::Escaped(.0))]
    MediaType(String),
    /// It is missing.
    #[error("its uncompressed tar is not here")]
    Absent,
}

impl Reason {
    fn of_size(self, size: u64) -> Outcome {
        Outcome::Unmatched {
            reason: self,
            size,
            made: Vec::new(),
        }
    }
}

/// Recompresses layers, each until it has the expected digest. The outcomes are in the order of `missing`.
///
/// # Errors
///
/// [`Error::Io`] if the temporary files cannot be written or a local file not be read; [`Error::Interrupted`].
/// A problem of one layer is its [`Outcome::Failed`].
pub fn recompress(
    uncompressed: &dyn Uncompressed,
    missing: &[MissingLayer],
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Vec<Outcome>> {
    let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(missing.len());
    let mut jobs = Vec::new();
    let mut first: HashMap<&Digest, Vec<usize>> = HashMap::new();
    let mut twins = Vec::new();
    for (at, layer) in missing.iter().enumerate() {
        let same = first.entry(&layer.diff_id).or_default();
        if let Some(twin) = same.iter().find(|one| missing.get(**one) == Some(layer)) {
            twins.push((at, *twin));
            outcomes.push(None);
            continue;
        }
        same.push(at);
        let size = match uncompressed.size(&layer.diff_id) {
            Ok(size) => size,
            Err(error) => {
                outcomes.push(Some(Outcome::of(Err(error))?));
                continue;
            }
        };
        outcomes.push(hopeless(layer, size));
        if outcomes.last().is_some_and(Option::is_none) {
            let size = size.unwrap_or_default();
            jobs.push(Job { at, layer, size });
        }
    }
    if !options.is_trial {
        let needed = jobs.iter().map(Job::known_size);
        spool::check_space(&options.tmpdir, needed.fold(0, u64::saturating_add))?;
    }
    if !jobs.is_empty() {
        let total = jobs.iter().map(|job| job.size).sum();
        progress.phase("recompressing layers", Some(total));
    }
    for (at, outcome) in Recompression::new(uncompressed, options, progress, interrupt).run(jobs)? {
        if let Some(slot) = outcomes.get_mut(at) {
            *slot = Some(outcome);
        }
    }
    for (at, twin) in twins {
        let same = outcomes.get(twin).cloned().flatten();
        if let Some(slot) = outcomes.get_mut(at) {
            *slot = same;
        }
    }
    Ok(outcomes.into_iter().flatten().collect())
}

/// The outcome of a layer that need not be tried.
fn hopeless(layer: &MissingLayer, size: Option<u64>) -> Option<Outcome> {
    let Some(size) = size else {
        return Some(Reason::Absent.of_size(0));
    };
    let reason = match &layer.expected {
        Expected::Exactly(stored) if stored.digest == layer.diff_id => Reason::Plain,
        Expected::Exactly(stored) => match stored.media_type.kind() {
            Kind::Layer(Compression::Gzip) => return None,
            Kind::Layer(other) => Reason::Compression(other),
            _ => Reason::MediaType(stored.media_type.to_string()),
        },
        Expected::OneOf(digests) if digests.contains(&layer.diff_id) => Reason::Plain,
        Expected::OneOf(_) | Expected::Anything(_) => return None,
    };
    Some(reason.of_size(size))
}

/// A layer to recompress.
pub(super) struct Job<'a> {
    /// Its position among the missing layers.
    at: usize,
    pub(super) layer: &'a MissingLayer,
    /// Uncompressed bytes.
    pub(super) size: u64,
}

impl Job<'_> {
    /// Stored bytes, as far as they are known. A manifest may claim any number, but compression adds next to nothing.
    fn known_size(&self) -> u64 {
        match &self.layer.expected {
            Expected::Exactly(stored) => stored.size.min(self.size),
            Expected::OneOf(_) | Expected::Anything(_) => 0,
        }
    }
}

/// State shared by the workers.
pub(super) struct Recompression<'a> {
    pub(super) uncompressed: &'a dyn Uncompressed,
    pub(super) options: &'a Options,
    pub(super) progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
    /// A worker failed.
    stop: AtomicBool,
    /// What can be tried, and for how many layers it succeeded.
    hits: Mutex<Vec<(Deflate, usize)>>,
}

impl<'a> Recompression<'a> {
    fn new(
        uncompressed: &'a dyn Uncompressed,
        options: &'a Options,
        progress: &'a dyn Progress,
        interrupt: &'a Interrupt,
    ) -> Recompression<'a> {
        let hits = Deflate::all().into_iter().map(|deflate| (deflate, 0));
        Recompression {
            uncompressed,
            options,
            progress,
            interrupt,
            stop: AtomicBool::new(false),
            hits: Mutex::new(hits.collect()),
        }
    }

    fn run(&self, mut jobs: Vec<Job<'_>>) -> Result<Vec<(usize, Outcome)>> {
        let total: u64 = jobs.iter().map(|job| job.size).sum();
        // The largest first: a large one that began last would run alone.
        jobs.sort_by_key(|job| Reverse(job.size));
        let mut done = Vec::with_capacity(jobs.len());
        let mut trial = None;
        if let Some(at) = trial_layer(&jobs, total) {
            let job = jobs.remove(at);
            let mut worker = Worker::new(self);
            done.push((job.at, Outcome::of(worker.recompress(&job))?));
            trial = Some(worker);
        }
        let next = AtomicUsize::new(0);
        let outcome = Mutex::new(Ok(done));
        let trial = Mutex::new(trial);
        let work = || {
            let trial = trial.lock().unwrap_or_else(PoisonError::into_inner).take();
            let mut worker = trial.unwrap_or_else(|| Worker::new(self));
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::SeqCst)) {
                let recompressed = Outcome::of(worker.recompress(job));
                let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                match (recompressed, outcome.as_mut()) {
                    (_, Err(_)) => return,
                    (Ok(recompressed), Ok(done)) => done.push((job.at, recompressed)),
                    (Err(error), Ok(_)) => {
                        self.stop.store(true, Ordering::SeqCst);
                        *outcome = Err(error);
                        return;
                    }
                }
            }
        };
        workers::run(self.options.jobs.get().min(jobs.len()), work);
        outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The likeliest encoder that has not been tried.
    pub(super) fn next(&self, tried: &[Deflate]) -> Option<Deflate> {
        let hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        hits.iter()
            .filter(|(deflate, _)| !tried.contains(deflate))
            // Of equal ones, the first in the table.
            .min_by_key(|(_, count)| Reverse(*count))
            .map(|(deflate, _)| *deflate)
    }

    pub(super) fn hit(&self, deflate: Deflate) {
        let mut hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        for (one, count) in hits.iter_mut() {
            *count += usize::from(*one == deflate);
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::SeqCst) {
            return Err(Error::Interrupted);
        }
        self.interrupt.check()
    }
}

/// The position of the trial layer, if one saves work.
fn trial_layer(jobs: &[Job<'_>], total: u64) -> Option<usize> {
    let at = jobs
        .iter()
        .rposition(|job| !matches!(job.layer.expected, Expected::Anything(_)))?;
    let size = jobs.get(at)?.size;
    (size <= TRIAL && total.saturating_sub(size) >= size.saturating_mul(TRIAL_SAVES)).then_some(at)
}
