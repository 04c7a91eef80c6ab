//! Fetches blobs from a source and writes them to a sink: workers, retries, cancellation.
//!
//! Each blob is hashed on the way. A body that ends early is resumed where it ended; one with wrong bytes is
//! fetched again from its start. The first permanent error stops all workers, unless blobs that cannot be
//! fetched are to be skipped.

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::blob::{Verified, Verifier};
use crate::error::{Error, Hint, Problem, Remedy, Result};
use crate::interrupt::{self, Interrupt};
use crate::oci::{Descriptor, Digest, Repository};
use crate::progress::Progress;
use crate::retry::Retry;
use crate::source::Source;
use crate::workers;

/// Default number of blobs fetched at the same time. skopeo and podman fetch as many, so registries are used to
/// it. One stream seldom saturates a line, and one core hashes faster than most lines deliver.
pub const JOBS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(5);
/// Default number of attempts per blob, and the pauses between.
pub const RETRY: Retry = Retry::starting_with(Duration::from_millis(250));
/// New bytes after which an attempt does not count as failed: on a bad line, a large blob may break off more
/// than five times.
const HEADWAY: u64 = 1 << 20;
/// Bytes that are read, hashed and written at once. They fit into a core's cache.
const BUFFER: usize = 256 << 10;

/// Where blobs go. Called from several threads at once unless [`Sink::is_ordered`].
pub trait Sink: Send + Sync {
    /// Prepares for a blob. Bytes kept from an earlier run, from the first one on, are put in place and passed
    /// to `take`, which hashes them.
    ///
    /// # Errors
    ///
    /// If they cannot be read or written, and the errors of `take`.
    fn begin(&self, blob: &Descriptor, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;

    /// Writes bytes of a blob, `at` bytes from its start.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    fn write(&self, blob: &Descriptor, at: u64, bytes: &[u8]) -> Result<()>;

    /// Whether blobs must arrive one after the other, in the planned order.
    fn is_ordered(&self) -> bool;

    /// Whether bytes can be written again, as after a wrong digest.
    fn is_rewritable(&self) -> bool;
}

/// A blob to fetch, and its repository.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The repository.
    pub repository: Repository,
    /// The blob.
    pub descriptor: Descriptor,
}

/// A blob that was fetched.
#[derive(Debug, Clone, Copy)]
pub struct Moved {
    /// The proof that it matches its descriptor.
    pub verified: Verified,
    /// Stored bytes that were kept from an earlier run.
    pub reused: u64,
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The blobs that were fetched.
    pub moved: Vec<Moved>,
    /// Those that could not be fetched, with their errors; only if the run skips them.
    pub failed: Vec<(Digest, Error)>,
}

/// One run of the scheduler.
pub struct Transfer<'a> {
    /// Where blobs come from.
    pub source: &'a dyn Source,
    /// Where they go.
    pub sink: &'a dyn Sink,
    /// Number of blobs at the same time.
    pub jobs: NonZeroUsize,
    /// How many times a blob is requested, and the pauses between.
    pub retry: Retry,
    /// Whether the other blobs are fetched if one fails.
    pub keep_going: bool,
    /// Receives reports.
    pub progress: &'a dyn Progress,
    /// Checked between pieces of work.
    pub interrupt: &'a Interrupt,
}

impl Transfer<'_> {
    /// Fetches all of `wanted`, in the sink's order; each digest once.
    ///
    /// # Errors
    ///
    /// The first error that retries did not remedy and that is not skipped.
    pub fn run(&self, mut wanted: Vec<Wanted>) -> Result<Outcome> {
        let mut workers = self.jobs.get().min(wanted.len());
        if self.sink.is_ordered() {
            workers = workers.min(1);
        } else {
            // The largest first: a large one that began last would run alone.
            wanted.sort_by_key(|blob| std::cmp::Reverse(blob.descriptor.size));
        }
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let outcome: Mutex<Result<Outcome>> = Mutex::new(Ok(Outcome::default()));
        let work = || {
            let mut buffer = vec![0; BUFFER];
            while let Some(blob) = wanted.get(next.fetch_add(1, Ordering::SeqCst)) {
                let moved = Move {
                    transfer: self,
                    stop: &stop,
                    blob,
                }
                .run(&mut buffer);
                let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                match (moved, outcome.as_mut()) {
                    (_, Err(_)) => return,
                    (Ok(moved), Ok(outcome)) => outcome.moved.push(moved),
                    (Err(error), Ok(outcome)) if self.skips(&error) => {
                        self.progress.blob_finished(&blob.descriptor.digest);
                        outcome.failed.push((blob.descriptor.digest, error));
                    }
                    (Err(error), Ok(_)) => {
                        stop.store(true, Ordering::SeqCst);
                        *outcome = Err(error);
                        return;
                    }
                }
            }
        };
        workers::run(workers, work);
        outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a run continues after an error: one of a single blob, and not of a local file.
    fn skips(&self, error: &Error) -> bool {
        self.keep_going && !matches!(error, Error::Io { .. } | Error::Interrupted)
    }
}

/// A blob that is being fetched.
struct Move<'a> {
    transfer: &'a Transfer<'a>,
    stop: &'a AtomicBool,
    blob: &'a Wanted,
}

/// Why an attempt at a blob failed.
enum Failure {
    /// The bytes so far are right as far as is known: resume after them.
    Broken(Error),
    /// The bytes are wrong: start again.
    Wrong(Error),
    /// A retry cannot help.
    Final(Error),
}

impl Failure {
    fn of(error: Error) -> Failure {
        if error.is_transient() {
            Failure::Broken(error)
        } else {
            Failure::Final(error)
        }
    }
}

impl Move<'_> {
    fn run(&self, buffer: &mut [u8]) -> Result<Moved> {
        let Transfer { sink, progress, .. } = self.transfer;
        let blob = &self.blob.descriptor;
        let mut verifier = Verifier::new(blob);
        progress.blob_started(&blob.digest, blob.size, 0);
        sink.begin(blob, &mut |bytes| {
            self.check()?;
            verifier.update(bytes).map_err(|problem| self.fault(problem))?;
            progress.blob_advanced(&blob.digest, length(bytes));
            Ok(())
        })?;
        let mut reused = verifier.count();
        let mut failed = 0;
        let mut wrong = 0;
        loop {
            let before = verifier.count();
            let failure = match self.attempt(&mut verifier, buffer) {
                Ok(verified) => {
                    progress.blob_finished(&blob.digest);
                    return Ok(Moved { verified, reused });
                }
                Err(failure) => failure,
            };
            let error = match failure {
                Failure::Final(error) => return Err(error),
                Failure::Broken(error) => {
                    if verifier.count() >= before.saturating_add(HEADWAY) {
                        failed = 0;
                    }
                    error
                }
                Failure::Wrong(error) => {
                    if !sink.is_rewritable() {
                        return Err(error.and_hint(
                            Hint::from("bytes that went to a pipe cannot be taken back")
                                .and(Remedy::SaveToFile),
                        ));
                    }
                    verifier = Verifier::new(blob);
                    progress.blob_started(&blob.digest, blob.size, 0);
                    if std::mem::take(&mut reused) > 0 {
                        progress.note(&format!(
                            "{}: the data of an interrupted run is wrong, starting again",
                            blob.digest
                        ));
                        continue;
                    }
                    wrong += 1;
                    error
                }
            };
            failed += 1;
            let retry = &self.transfer.retry;
            let failed = failed.max(wrong);
            if !retry.allows(failed) || !error.is_transient() {
                return Err(error);
            }
            progress.note(&format!("{error}; retrying"));
            interrupt::pause(retry.pause(failed, None), || self.check())?;
        }
    }

    /// Requests the rest of the blob once.
    fn attempt(&self, verifier: &mut Verifier, buffer: &mut [u8]) -> Result<Verified, Failure> {
        let blob = &self.blob.descriptor;
        // All of it may be kept already; an empty blob need not be requested.
        if verifier.count() < blob.size {
            let mut body = self
                .transfer
                .source
                .open(&self.blob.repository, blob, verifier.count())
                .map_err(Failure::of)?;
            while self.piece(&mut *body, verifier, buffer)? {}
        }
        if verifier.count() < blob.size {
            return Err(Failure::Broken(self.fault(Problem::Truncated {
                expected: blob.size,
                found: verifier.count(),
            })));
        }
        verifier
            .clone()
            .finish()
            .map_err(|problem| Failure::Wrong(self.fault(problem)))
    }

    /// Moves the next bufferful; false at the end of the body. Bytes before a failure are kept.
    fn piece(
        &self,
        body: &mut dyn Read,
        verifier: &mut Verifier,
        buffer: &mut [u8],
    ) -> Result<bool, Failure> {
        let Transfer { sink, progress, .. } = self.transfer;
        let blob = &self.blob.descriptor;
        let mut filled = 0;
        let mut ended = Ok(true);
        while let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) {
            if let Err(error) = self.check() {
                ended = Err(Failure::Final(error));
                break;
            }
            match body.read(free) {
                Ok(0) => {
                    ended = Ok(false);
                    break;
                }
                Ok(count) => {
                    filled += count;
                    progress.blob_advanced(&blob.digest, u64::try_from(count).unwrap_or(u64::MAX));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    ended = Err(Failure::of(self.broken(error)));
                    break;
                }
            }
        }
        let bytes = buffer.get(..filled).unwrap_or_default();
        if !bytes.is_empty() {
            let at = verifier.count();
            verifier
                .update(bytes)
                .map_err(|problem| Failure::Wrong(self.fault(problem)))?;
            sink.write(blob, at, bytes).map_err(Failure::Final)?;
        }
        ended
    }

    fn fault(&self, problem: Problem) -> Error {
        self.transfer
            .source
            .fault(&self.blob.repository, &self.blob.descriptor, problem)
    }

    /// The error of a body that broke off: the library's own if it wraps one, else a network error.
    fn broken(&self, error: io::Error) -> Error {
        Error::from_reader(error, |error| Error::Registry {
            registry: self.blob.repository.domain().into(),
            subject: self.blob.descriptor.digest.to_string(),
            problem: error.to_string(),
            hint: None,
            transient: true,
        })
    }

    fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::SeqCst) {
            return Err(Error::Interrupted);
        }
        self.transfer.interrupt.check()
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
