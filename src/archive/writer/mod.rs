//! Writes and publishes an archive.
//!
//! A [`Writer`] creates one file, or one for each part, in a locked folder beside the target. Several threads
//! write blobs to their positions. Publishing requires the proof of every blob; it writes the names, syncs
//! everything and renames it. A [`Stream`] writes the same bytes to a pipe.
//!
//! - `inputs`: what is read, and so not written to
//! - `segments`: one range of bytes over several files
//! - `staging`: the folder and its lock
//! - `journal`: how much of each blob is written, for the next run
//! - `resume`: what an interrupted run left
//! - `file_system`: what the file system can take
//! - `publish`: renames the files
//! - `stream`: writes to a pipe

pub(crate) mod file_system;
mod inputs;
mod journal;
mod publish;
mod resume;
mod segments;
mod staging;
mod stream;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use self::journal::Journal;
use self::resume::{KeptBlob, Resume};
use self::segments::Segments;
use super::TarPlan;
use super::signature::{self, Draft, Signing};
use crate::blob::Verified;
use crate::dir::Located;
use crate::error::{Error, Place, Problem, Result};
use crate::interrupt::{Guard, Interrupt};
use crate::oci::{Descriptor, Digest};
use crate::transfer::Sink;

pub use self::inputs::{Inputs, place};
pub use self::publish::{check_place, locate};
pub(crate) use self::segments::cut;
pub use self::segments::write_error;
pub use self::staging::{Staging, replace};
pub use self::stream::Stream;

/// Bytes of a blob that are written out to disk at once while the rest arrives.
const WRITE_OUT: u64 = 8 << 20;
/// Bytes of a piece in which data from an earlier run is read.
const BUFFER: usize = 256 << 10;

/// How an archive is written to a file.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of a part, if the archive is split.
    pub split: Option<u64>,
    /// Whether data of an interrupted run is used, and kept if this run is interrupted.
    pub resume: bool,
    /// Whether only this user may read it.
    pub private: bool,
    /// Whether it is written from start to end, also if the file system supports gaps.
    pub in_order: bool,
    /// Bytes of other files that come into its folder afterwards and must fit, too.
    pub beside: u64,
    /// How it is signed, if it is.
    pub sign: Option<Signing>,
}

/// What was published.
#[derive(Debug)]
pub struct Published {
    /// The files, in order.
    pub files: Vec<PathBuf>,
    /// The signature, if the archive was to be signed.
    pub signature: Option<signature::Written>,
}

/// An archive that is being written to a file or to parts. It has no final name before it is published.
pub struct Writer {
    plan: Arc<TarPlan>,
    target: Located,
    options: Options,
    staging: Arc<Staging>,
    segments: Segments,
    journal: Arc<Journal>,
    kept: HashMap<Digest, KeptBlob>,
    places: HashMap<Digest, u64>,
    is_ordered: bool,
    /// Number of the layout's runs that are written.
    runs: Mutex<usize>,
    is_sealed: bool,
    interrupt: Interrupt,
    _guard: Guard,
}

impl Writer {
    /// Starts an archive at `target`.
    ///
    /// # Errors
    ///
    /// If another save writes to `target`, if the archive does not fit, or if files cannot be created. What is
    /// at `target` is unchanged.
    pub fn create(
        target: Located,
        plan: Arc<TarPlan>,
        options: &Options,
        interrupt: &Interrupt,
    ) -> Result<Writer> {
        let parts = segments::cut(plan.size(), options.split)?;
        publish::check(&target, &parts, options.split.is_some())?;
        let staging = Arc::new(Staging::claim(&target)?);
        let resume = match Resume::find(&staging, &target, &plan, &parts, options) {
            Ok(resume) => resume,
            Err(error) => {
                // Data of an earlier run stays, but nothing of this one.
                if !options.resume || journal::read(staging.folder()).is_empty() {
                    staging.remove();
                }
                return Err(error);
            }
        };
        let journal = Arc::new(resume.journal);
        let guard = interrupt.on_stop({
            let (journal, staging, resume) = (journal.clone(), staging.clone(), options.resume);
            let interrupt = interrupt.clone();
            move || {
                keep_or_remove(&journal, &staging, resume);
                if let Some(text) = kept(&journal, &staging, resume) {
                    interrupt.remark(text);
                }
            }
        });
        let places = plan
            .blobs()
            .iter()
            .map(|blob| (blob.descriptor.digest, blob.offset))
            .collect();
        let writer = Writer {
            plan,
            target,
            options: options.clone(),
            staging,
            segments: resume.segments,
            journal,
            kept: resume.kept,
            places,
            is_ordered: options.in_order || !resume.file_system.has_gaps,
            runs: Mutex::new(0),
            is_sealed: false,
            interrupt: interrupt.clone(),
            _guard: guard,
        };
        if !writer.is_ordered {
            writer.segments.set_lengths()?;
            writer.write_runs(writer.plan.names_at())?;
        }
        Ok(writer)
    }

    /// Writes the names, syncs everything, signs it, and renames it.
    ///
    /// # Errors
    ///
    /// If a planned blob has no proof, a file cannot be written, synced or renamed, or the key does not sign. After a
    /// failed sync nothing is kept, because the system may return bytes that the disk does not have.
    pub fn seal(mut self, proofs: &[Verified]) -> Result<Published> {
        check_proofs(&self.plan, proofs)?;
        self.write_runs(self.plan.size())?;
        if let Err(error) = self.segments.sync() {
            self.options.resume = false;
            return Err(error);
        }
        self.journal.save();
        let sign = self.options.sign.as_ref();
        let draft = sign.map(|sign| {
            let statement = signature::statement(&self.plan.digest());
            sign.draft(signature::NAMESPACE, statement.as_bytes(), &self.interrupt)
        });
        let draft = draft.transpose()?;
        // An archive without its signature is not what was asked for.
        let unfinished = || format!("{} has no signature", self.target.path().display());
        let _hold = draft
            .is_some()
            .then(|| self.interrupt.hold(unfinished()))
            .transpose()?;
        let files = publish::publish(
            &self.target,
            &self.staging,
            &self.segments,
            self.options.split.is_some(),
        )?;
        self.is_sealed = true;
        let signature = draft.map(Draft::publish).transpose()?;
        Ok(Published { files, signature })
    }

    /// Where the bytes so far are kept if the archive is not published; `None` if they are removed.
    pub fn kept(&self) -> Option<String> {
        kept(&self.journal, &self.staging, self.options.resume)
    }

    /// Writes the runs before an offset that are not written yet.
    fn write_runs(&self, before: u64) -> Result<()> {
        let mut written = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(run) = self.plan.runs().get(*written).filter(|run| run.offset < before) {
            self.segments.write(run.offset, &run.bytes)?;
            *written += 1;
        }
        Ok(())
    }

    fn place(&self, blob: &Descriptor) -> Result<u64> {
        self.places
            .get(&blob.digest)
            .copied()
            .ok_or_else(|| Error::refused(Place::blob(blob.digest), Problem::UnknownFile))
    }
}

impl Sink for Writer {
    fn begin(&self, blob: &Descriptor, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let place = self.place(blob)?;
        if self.is_ordered {
            self.write_runs(place)?;
        }
        let Some(kept) = self.kept.get(&blob.digest) else {
            return Ok(());
        };
        let mut buffer = vec![0; BUFFER];
        let mut done = 0;
        while done < kept.done {
            let most = usize::try_from(kept.done - done).unwrap_or(BUFFER).min(BUFFER);
            let room = buffer.get_mut(..most).unwrap_or_default();
            let from = kept.from.as_deref().unwrap_or(&self.segments);
            // What cannot be read is fetched instead.
            let Ok(count @ 1..) = from.read(kept.offset + done, room) else {
                break;
            };
            let bytes = room.get(..count).unwrap_or_default();
            take(bytes)?;
            if kept.from.is_some() {
                self.write(blob, done, bytes)?;
            }
            done += u64::try_from(count).unwrap_or_default();
        }
        Ok(())
    }

    fn write(&self, blob: &Descriptor, at: u64, bytes: &[u8]) -> Result<()> {
        let place = self.place(blob)?;
        let new = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let done = at.saturating_add(new);
        if done > blob.size {
            let problem = Problem::SizeDiffers {
                expected: blob.size,
                found: done,
            };
            return Err(Error::refused(Place::blob(blob.digest), problem));
        }
        self.segments.write(place + at, bytes)?;
        self.journal.record(blob, place, done, new);
        if let Some(range) = write_out(at, done, blob.size) {
            self.segments.write_out(place + range.start..place + range.end);
        }
        Ok(())
    }

    fn is_ordered(&self) -> bool {
        self.is_ordered
    }

    fn is_rewritable(&self) -> bool {
        true
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_sealed {
            self.staging.remove();
        } else {
            keep_or_remove(&self.journal, &self.staging, self.options.resume);
        }
    }
}

/// Keeps an unpublished archive for the next run, or removes it.
fn keep_or_remove(journal: &Journal, staging: &Staging, resume: bool) {
    if resume && journal.is_worth_keeping() {
        journal.save();
    } else {
        staging.remove();
    }
}

fn kept(journal: &Journal, staging: &Staging, resume: bool) -> Option<String> {
    (resume && journal.is_worth_keeping()).then(|| {
        let folder = staging.folder().path().display();
        format!("what was fetched so far is kept in {folder}: the same command resumes, or remove the folder")
    })
}

/// The range of a blob to write out to disk, now that its bytes from `at` to `done` have arrived.
fn write_out(at: u64, done: u64, size: u64) -> Option<Range<u64>> {
    let start = at / WRITE_OUT * WRITE_OUT;
    let end = if done == size {
        size
    } else {
        done / WRITE_OUT * WRITE_OUT
    };
    (start < end).then_some(start..end)
}

/// Checks that every blob of the plan has its proof.
fn check_proofs(plan: &TarPlan, proofs: &[Verified]) -> Result<()> {
    let proven: HashSet<(&Digest, u64)> = proofs
        .iter()
        .map(|proof| (proof.digest(), proof.size()))
        .collect();
    for blob in plan.blobs() {
        if !proven.contains(&(&blob.descriptor.digest, blob.descriptor.size)) {
            return Err(Error::refused(
                Place::blob(blob.descriptor.digest),
                Problem::Missing,
            ));
        }
    }
    Ok(())
}
