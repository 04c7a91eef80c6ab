//! Hashes blobs in parallel, each once, the most expensive ones first.
//!
//! Blobs in local files of which only the stored bytes matter are hashed over the memory map. A compressed layer,
//! and every blob from elsewhere, is read once into private memory and hashed there; a layer is decompressed and
//! hashed again. That second hash moves to its own thread as soon as a core is idle, so that one large layer at the
//! end is not bound to one core.

use std::collections::{BTreeMap, HashSet};
use std::io::BufRead as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder, Scope, ScopedJoinHandle};

use super::delegated::Delegated;
use super::layer_tar::LayerTar;
use super::{Layer, Options};
use crate::blob::decompress::Decompressor;
use crate::blob::map::Windows;
use crate::blob::{BlobReader, Blobs, OpenBlob, Stored};
use crate::error::{Error, Place, Problem, Result};
use crate::interrupt::Interrupt;
use crate::oci::{Compression, Descriptor, Digest, Hasher, MediaType};
use crate::progress::Progress;
use crate::workers;

/// Uncompressed bytes that are hashed at once.
const PIECE: usize = 256 << 10;
/// Pieces that are queued for a second thread.
const PIECES: usize = 3;
/// How much longer a stored byte takes if it is also decompressed and hashed again. Only the order of work
/// depends on it.
const DECOMPRESSION: u64 = 6;

/// One blob to hash.
pub(super) struct Job {
    pub digest: Digest,
    /// Stored bytes.
    pub size: u64,
    /// For a layer, its compression.
    pub compression: Option<Compression>,
    /// For a layer, the diff ids that it must have.
    pub diff_ids: Vec<Digest>,
}

/// The result of a job.
pub(super) enum Outcome {
    /// All is right; for a layer with its uncompressed form, if that was checked.
    Good(Option<Layer>),
    Wrong(Vec<Problem>),
    /// It could not be read.
    Unread(Error),
}

impl Job {
    /// Whether the uncompressed bytes of a layer are checked too.
    fn is_layer(&self, options: &Options) -> bool {
        self.compression.is_some() && !options.quick && !self.diff_ids.is_empty()
    }

    /// How to decompress the layer; `None` if hashing the stored bytes is enough.
    fn decompression(&self, options: &Options) -> Option<Compression> {
        self.compression
            .filter(|compression| self.is_layer(options) && *compression != Compression::None)
    }

    /// Its descriptor. The media type does not matter for reading; the compression was derived from it.
    fn descriptor(&self) -> Descriptor {
        Descriptor::new(MediaType::new(""), self.digest, self.size)
    }
}

struct Work<'a> {
    blobs: &'a dyn Blobs,
    jobs: Vec<Job>,
    next: AtomicUsize,
    /// Jobs that others do, if all goes well.
    delegated: Option<(&'a Delegated, Mutex<Vec<Job>>)>,
    outcomes: Mutex<BTreeMap<Digest, Outcome>>,
    /// Threads that may be started: idle cores.
    spare: AtomicUsize,
    options: &'a Options,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
}

/// Does all jobs, and returns the result of each.
///
/// # Errors
///
/// [`Error::Interrupted`].
pub(super) fn check_all(
    blobs: &dyn Blobs,
    mut jobs: Vec<Job>,
    delegated: Option<&Delegated>,
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<BTreeMap<Digest, Outcome>> {
    jobs.sort_by_key(|job| {
        let factor = job.decompression(options).map_or(1, |_| DECOMPRESSION);
        std::cmp::Reverse(job.size.saturating_mul(factor))
    });
    progress.phase("verifying", Some(jobs.iter().map(|job| job.size).sum()));
    let workers = options.jobs.get().min(jobs.len());
    let layers = delegated.map_or(Ok(HashSet::new()), |delegated| delegated.layers(interrupt))?;
    let (others, jobs) = jobs.into_iter().partition(|job| layers.contains(&job.digest));
    let work = Work {
        blobs,
        jobs,
        next: AtomicUsize::new(0),
        delegated: delegated.map(|delegated| (delegated, Mutex::new(others))),
        outcomes: Mutex::default(),
        spare: AtomicUsize::new(options.jobs.get() - workers),
        options,
        progress,
        interrupt,
    };
    workers::run(workers, || work.run());
    interrupt.check()?;
    Ok(work.outcomes.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl Work<'_> {
    fn run(&self) {
        while let Some(job) = self.jobs.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            self.progress.blob_started(&job.digest, job.size, 0);
            self.settle(job, self.check_with_rereads(job));
        }
        while let Some((job, proven)) = self.next_delegated() {
            self.progress.blob_started(&job.digest, job.size, 0);
            let outcome = proven.map_or_else(
                || self.check_with_rereads(&job),
                |layer| Ok(Outcome::Good(Some(layer))),
            );
            self.settle(&job, outcome);
        }
        self.spare.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes the result of a job.
    fn settle(&self, job: &Job, outcome: Result<Outcome>) {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(Error::Refused(finding)) => Outcome::Wrong(vec![finding.problem]),
            Err(error) => Outcome::Unread(error),
        };
        self.progress.blob_finished(&job.digest);
        if matches!(outcome, Outcome::Good(_)) {
            self.progress.blob_verified(&job.digest);
        }
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.insert(job.digest, outcome);
    }

    /// Waits for a job that others have done, or have given back. `None` if none are left, or after an interruption.
    fn next_delegated(&self) -> Option<(Job, Option<Layer>)> {
        let (delegated, left) = self.delegated.as_ref()?;
        // One worker waits for all: the next one goes on when it has something to do.
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        let digests = left.iter().map(|job| &job.digest);
        let at = delegated.settled(digests, self.interrupt).ok().flatten()?;
        let job = left.swap_remove(at);
        let proof = delegated.proof(&job.digest);
        let layer = proof.and_then(|proof| proof.proves(job.compression, &job.diff_ids));
        Some((job, layer))
    }

    /// Checks a blob, and again if its bytes are wrong and their way may be the reason.
    fn check_with_rereads(&self, job: &Job) -> Result<Outcome> {
        let mut outcome = self.check(job);
        for _ in 0..self.blobs.rereads() {
            let is_wrong = match &outcome {
                // Where the stored bytes are right, reading them again changes nothing.
                Ok(Outcome::Wrong(problems)) => problems
                    .iter()
                    .any(|problem| matches!(problem, Problem::DigestDiffers { .. })),
                Err(Error::Refused(_)) => true,
                _ => false,
            };
            if !is_wrong {
                break;
            }
            self.progress
                .note(&format!("{}: is wrong; reading it again", job.digest));
            self.progress.blob_started(&job.digest, job.size, 0);
            outcome = self.check(job);
        }
        outcome
    }

    fn check(&self, job: &Job) -> Result<Outcome> {
        let descriptor = job.descriptor();
        let Some(open) = self.blobs.open(&descriptor)? else {
            return Ok(Outcome::Wrong(vec![Problem::Missing]));
        };
        match (job.decompression(self.options), open) {
            (None, OpenBlob::Stored(stored)) => self.stored(job, &stored),
            (None, open) if !job.is_layer(self.options) => {
                self.stream(job, BlobReader::new(open, &descriptor)?)
            }
            (compression, open) => {
                let compression = compression.unwrap_or(Compression::None);
                self.layer(job, BlobReader::new(open, &descriptor)?, compression)
            }
        }
    }

    fn advance(&self, job: &Job, bytes: u64) -> Result<()> {
        self.interrupt.check()?;
        self.progress.blob_advanced(&job.digest, bytes);
        Ok(())
    }

    /// Hashes stored bytes over the memory map. For an uncompressed layer they are its uncompressed bytes too.
    fn stored(&self, job: &Job, stored: &Stored) -> Result<Outcome> {
        let is_layer = job.is_layer(self.options);
        let mut hashers = vec![Hasher::like(&job.digest)];
        if is_layer {
            hashers.extend(hashers_for(&job.diff_ids, Some(&job.digest)));
        }
        let mut tar = LayerTar::new();
        let mut windows = Windows::new(stored);
        while let Some(piece) = windows.next_piece()? {
            for hasher in &mut hashers {
                hasher.update(piece);
            }
            if is_layer {
                tar.update(piece);
            }
            let bytes = u64::try_from(piece.len()).unwrap_or_default();
            self.advance(job, bytes)?;
        }
        let found: Vec<Digest> = hashers.into_iter().map(Hasher::finish).collect();
        if !found.contains(&job.digest) {
            let found = found.first().copied().unwrap_or(job.digest);
            let expected = job.digest;
            return Ok(Outcome::Wrong(vec![Problem::DigestDiffers { expected, found }]));
        }
        if is_layer {
            Ok(compare(job, &found, stored.size, tar.finish(Compression::None)))
        } else {
            Ok(Outcome::Good(None))
        }
    }

    /// Hashes the stored bytes of a stream.
    fn stream(&self, job: &Job, mut reader: BlobReader) -> Result<Outcome> {
        loop {
            let read = reader.fill_buf().map(<[u8]>::len);
            let count =
                read.map_err(|error| Error::from_reader(error, Error::io("read", self.blobs.label())))?;
            if count == 0 {
                reader.finish()?;
                return Ok(Outcome::Good(None));
            }
            reader.consume(count);
            self.advance(job, u64::try_from(count).unwrap_or_default())?;
        }
    }

    /// Hashes stored and uncompressed bytes of a layer.
    fn layer(&self, job: &Job, reader: BlobReader, compression: Compression) -> Result<Outcome> {
        let place = Place::blob(job.digest);
        let mut layer = Decompressor::new(compression, reader, self.options.max_layer_size, place)?;
        let mut tar = LayerTar::new();
        let ended = thread::scope(|scope| self.uncompressed(job, &mut layer, &mut tar, scope));
        let size = layer.count();
        let outcome = match ended {
            Ok(found) => compare(job, &found, size, tar.finish(compression)),
            Err(Error::Refused(finding)) => Outcome::Wrong(vec![finding.problem]),
            Err(error) => return Err(error),
        };
        // Damage of the stored bytes is reported first, because it causes everything else.
        layer.into_inner().finish()?;
        Ok(outcome)
    }

    /// Hashes the uncompressed bytes of a layer.
    fn uncompressed<'scope>(
        &'scope self,
        job: &Job,
        layer: &mut Decompressor<BlobReader>,
        tar: &mut LayerTar,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<Vec<Digest>> {
        let mut sink = Sink::Here {
            hashers: hashers_for(&job.diff_ids, None),
            buffer: vec![0; PIECE],
        };
        let mut read = 0;
        loop {
            if matches!(sink, Sink::Here { .. }) && self.take_spare() {
                sink = sink.move_away(scope, &self.spare);
            }
            let mut buffer = sink.buffer();
            let count = layer.next_bytes(&mut buffer)?;
            if count == 0 {
                return Ok(sink.finish());
            }
            tar.update(buffer.get(..count).unwrap_or_default());
            sink.take(buffer, count);
            let now = layer.get_ref().count();
            self.advance(job, now.saturating_sub(read))?;
            read = now;
        }
    }

    fn take_spare(&self) -> bool {
        let take = |spare: usize| spare.checked_sub(1);
        self.spare
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

/// A hasher for each algorithm among `digests` except that of `done`.
fn hashers_for(digests: &[Digest], done: Option<&Digest>) -> Vec<Hasher> {
    let mut algorithms: Vec<&str> = done.map(Digest::algorithm).into_iter().collect();
    let mut hashers = Vec::new();
    for digest in digests {
        if !algorithms.contains(&digest.algorithm()) {
            algorithms.push(digest.algorithm());
            hashers.push(Hasher::like(digest));
        }
    }
    hashers
}

/// Compares the uncompressed bytes with the diff ids; `tar` says whether they are a tar.
fn compare(job: &Job, found: &[Digest], size: u64, tar: Result<(), Problem>) -> Outcome {
    let mut problems: Vec<Problem> = tar.err().into_iter().collect();
    for expected in &job.diff_ids {
        let same = found
            .iter()
            .find(|found| found.algorithm() == expected.algorithm());
        if let Some(found) = same.filter(|found| *found != expected) {
            problems.push(Problem::DiffIdDiffers {
                expected: *expected,
                found: *found,
            });
        }
    }
    match job.diff_ids.first() {
        Some(diff_id) if problems.is_empty() => Outcome::Good(Some(Layer {
            diff_id: *diff_id,
            size,
        })),
        _ => Outcome::Wrong(problems),
    }
}

/// Where uncompressed bytes are hashed: in this thread, or in another one.
enum Sink<'scope> {
    Here {
        hashers: Vec<Hasher>,
        buffer: Vec<u8>,
    },
    There {
        filled: SyncSender<(Vec<u8>, usize)>,
        emptied: Receiver<Vec<u8>>,
        thread: ScopedJoinHandle<'scope, Vec<Hasher>>,
    },
}

fn update(hashers: &mut [Hasher], bytes: &[u8]) {
    for hasher in hashers {
        hasher.update(bytes);
    }
}

impl<'scope> Sink<'scope> {
    /// Moves to a new thread, which counts as `spare` again when it ends. Stays here if none can be started.
    fn move_away(self, scope: &'scope Scope<'scope, '_>, spare: &'scope AtomicUsize) -> Sink<'scope> {
        let Sink::Here { hashers, buffer } = self else {
            return self;
        };
        let (hand_over, handed) = channel::<Vec<Hasher>>();
        let (filled, arriving) = sync_channel::<(Vec<u8>, usize)>(PIECES);
        let (leaving, emptied) = channel();
        for _ in 0..=PIECES {
            let _ = leaving.send(vec![0; PIECE]);
        }
        let thread = Builder::new().spawn_scoped(scope, move || {
            let mut hashers = handed.recv().unwrap_or_default();
            while let Ok((buffer, count)) = arriving.recv() {
                update(&mut hashers, buffer.get(..count).unwrap_or_default());
                // The other side ends only when it needs no more buffers.
                let _ = leaving.send(buffer);
            }
            spare.fetch_add(1, Ordering::Relaxed);
            hashers
        });
        let Ok(thread) = thread else {
            return Sink::Here { hashers, buffer };
        };
        let _ = hand_over.send(hashers);
        Sink::There {
            filled,
            emptied,
            thread,
        }
    }

    /// A buffer to fill. An empty one would mean that the other thread has ended; joining it tells.
    fn buffer(&mut self) -> Vec<u8> {
        match self {
            Sink::Here { buffer, .. } => std::mem::take(buffer),
            Sink::There { emptied, .. } => emptied.recv().unwrap_or_else(|_| vec![0; PIECE]),
        }
    }

    fn take(&mut self, full: Vec<u8>, count: usize) {
        match self {
            Sink::Here { hashers, buffer } => {
                update(hashers, full.get(..count).unwrap_or_default());
                *buffer = full;
            }
            // It cannot end while its sender lives, unless it panicked; joining it tells.
            Sink::There { filled, .. } => drop(filled.send((full, count))),
        }
    }

    fn finish(self) -> Vec<Digest> {
        let hashers = match self {
            Sink::Here { hashers, .. } => hashers,
            Sink::There { filled, thread, .. } => {
                drop(filled);
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        };
        hashers.into_iter().map(Hasher::finish).collect()
    }
}
