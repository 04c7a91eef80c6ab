//! The storage folder of a registry, verified and repaired without the registry.
//!
//! CNCF distribution (`registry:2`, `registry:3`, Debian's docker-registry) keeps everything in files, the same way in
//! versions 2 and 3. Its paths are listed in `registry/storage/paths.go`; below `docker/registry/v2`:
//!
//! ```text
//! blobs/sha256/4b/4bf5.../data                            every manifest, config and layer, once
//! repositories/NAME/_manifests/revisions/sha256/4bf5.../link   a manifest that NAME has; the file holds its digest
//! repositories/NAME/_manifests/tags/TAG/current/link      the manifest of a tag
//! repositories/NAME/_manifests/tags/TAG/index/sha256/4bf5.../link   every manifest that the tag had
//! repositories/NAME/_layers/sha256/4bf5.../link           a config or layer that NAME may serve
//! repositories/NAME/_uploads/UUID/{startedat,data}        an unfinished upload
//! .sealift-repair/                                        what a repair has not completed; registries ignore it
//! ```
//!
//! A verification goes over the blobs first, and keeps what it knows about bad ones only. It then reads the manifests
//! of each repository, which tell what should be there and which images use a bad blob. It keeps four bytes per blob
//! to know which ones no manifest refers to.
//!
//! The registry may run meanwhile. It writes a manifest before the links to it, and a layer before its manifest, but
//! version 2 writes manifests and links in place. So whatever looks wrong is looked at a second time, and only what is
//! still wrong then is reported. A verification writes nothing, and no link is followed.
//!
//! - `layout`: where things are, opened without following links
//! - `sample`: which blobs a partial verification hashes
//! - `hashing`: the pass over the blobs; `marks`: the blobs that manifests refer to
//! - `repositories`: finds repositories; `repository`: examines one; `affected`: the images that use a bad blob
//! - `report`: the result
//! - [`repair`](mod@repair): replaces what is wrong by good bytes, while the registry runs

mod affected;
mod hashing;
mod layout;
mod marks;
pub mod repair;
mod report;
mod repositories;
mod repository;
mod sample;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Problem, Result};
use crate::interrupt::{self, Interrupt};
use crate::oci::Digest;
use crate::progress::Progress;
use crate::workers;
pub use affected::AffectedImages;
use hashing::{Bad, Count};
use layout::Storage;
use marks::Marks;
pub use report::{Report, StorageFinding, Total, Unreferenced};
use repositories::Repositories;
use repository::{Examined, Examiner};
pub use sample::{Sample, SampleError};

/// A blob that is younger may belong to a push whose manifest has not arrived.
const PUSH: Duration = Duration::from_secs(3600);
/// How long a file that is written in place may look wrong.
const SETTLED: Duration = Duration::from_secs(2);

/// How to verify.
#[derive(Debug, Clone)]
pub struct Options {
    /// The blobs to hash. Manifests are always hashed.
    pub sample: Sample,
    /// Number of threads.
    pub jobs: NonZeroUsize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            sample: Sample::ALL,
            jobs: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        }
    }
}

/// Verifies the storage folder at `root`: the registry's `rootdirectory`, or a folder between it and `docker/registry/v2`.
///
/// # Errors
///
/// [`Error::NotFound`] if it is not such a folder, and [`Error::Interrupted`]. Everything else is in the report.
pub fn verify(
    root: &Path,
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report> {
    let storage = Storage::open(root)?;
    let (mut report, _) = examine(&storage, options, Suspects::Hash, progress, interrupt)?;
    report.findings.extend(storage.staging().map(StorageFinding::new));
    Ok(report)
}

/// Which blobs may be bad.
enum Suspects {
    /// Those that hashing finds.
    Hash,
    /// These, each with what was wrong at the last look.
    Known(BTreeMap<Digest, Option<Bad>>),
}

/// Verifies an open storage folder. Returns the bad blobs too.
fn examine(
    storage: &Storage,
    options: &Options,
    suspects: Suspects,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<(Report, BTreeMap<Digest, Bad>)> {
    let check = Check {
        storage,
        options,
        progress,
        interrupt,
        started: SystemTime::now(),
        report: Mutex::new(Report::new(storage.label())),
    };
    let bad = check.run(suspects)?;
    let mut report = check.report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.sort();
    Ok((report, bad))
}

/// A verification.
struct Check<'a> {
    storage: &'a Storage,
    options: &'a Options,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
    started: SystemTime,
    report: Mutex<Report>,
}

impl Check<'_> {
    fn run(&self, suspects: Suspects) -> Result<BTreeMap<Digest, Bad>> {
        self.progress.phase("counting blobs", None);
        let count = self.count()?;
        let bad = match suspects {
            Suspects::Hash => {
                self.progress.phase("verifying", Some(count.sampled.bytes));
                self.hash()?
            }
            Suspects::Known(suspects) => {
                self.progress.phase("verifying again", None);
                self.confirm(suspects)?
            }
        };
        self.with_report(|report| {
            (report.blobs, report.hashed) = (count.all, count.sampled);
        });
        self.progress.phase("reading repositories", None);
        let marks = Marks::for_blobs(count.all.count);
        self.examine(&bad, &marks)?;
        self.unreferenced(&bad, &marks)?;
        Ok(bad)
    }

    fn with_report<T>(&self, change: impl FnOnce(&mut Report) -> T) -> T {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn unread(&self, error: Error) {
        self.with_report(|report| report.unread.push(error));
    }

    /// Counts the blobs, and those of the sample.
    fn count(&self) -> Result<Count> {
        hashing::count(self.storage, self.options, self.interrupt)
    }

    /// Hashes the blobs, and returns those that are bad in both of two looks.
    fn hash(&self) -> Result<BTreeMap<Digest, Bad>> {
        let first = hashing::hash(self.storage, self.options, self.progress, self.interrupt)?;
        for finding in first.strays {
            self.with_report(|report| report.findings.push(finding));
        }
        for error in first.unread {
            self.unread(error);
        }
        if first
            .suspects
            .iter()
            .any(|(_, bad)| bad.as_ref().is_none_or(|bad| bad.is_young(SETTLED)))
        {
            interrupt::pause(SETTLED, || self.interrupt.check())?;
        }
        self.confirm(first.suspects)
    }

    /// Looks again at blobs, and returns those that are bad still.
    fn confirm(
        &self,
        suspects: impl IntoIterator<Item = (Digest, Option<Bad>)>,
    ) -> Result<BTreeMap<Digest, Bad>> {
        let mut confirmed = BTreeMap::new();
        for (digest, bad) in suspects {
            self.interrupt.check()?;
            match hashing::look_again(self.storage, &digest, bad, SETTLED, self.interrupt) {
                Ok(Some(bad)) => drop(confirmed.insert(digest, bad)),
                Ok(None) => {}
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => self.unread(error),
            }
        }
        Ok(confirmed)
    }

    /// Examines all repositories, and once more those that have errors.
    fn examine(&self, bad: &BTreeMap<Digest, Bad>, marks: &Marks) -> Result<()> {
        let examiner = Examiner {
            storage: self.storage,
            bad,
            marks,
            interrupt: self.interrupt,
        };
        let walk = Mutex::new(Repositories::new(self.storage));
        let suspects: Mutex<Vec<(String, Examined)>> = Mutex::default();
        let result: Mutex<Result<()>> = Mutex::new(Ok(()));
        workers::run(self.options.jobs.get(), || {
            loop {
                let next = walk.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((name, dir)) = next else { return };
                match examiner.examine(&name, &dir) {
                    Ok(examined) if examined.has_errors() => {
                        let mut suspects = suspects.lock().unwrap_or_else(PoisonError::into_inner);
                        suspects.push((name, examined));
                    }
                    Ok(examined) => self.with_report(|report| report.add(examined)),
                    Err(error) => {
                        *result.lock().unwrap_or_else(PoisonError::into_inner) = Err(error);
                        return;
                    }
                }
            }
        });
        result.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        let walk = walk.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.with_report(|report| {
            report.findings.extend(walk.findings);
            report.unread.extend(walk.unread);
        });
        let suspects = suspects.into_inner().unwrap_or_else(PoisonError::into_inner);
        if suspects.iter().any(|(_, examined)| examined.has_own_errors(bad)) {
            interrupt::pause(SETTLED, || self.interrupt.check())?;
        }
        for (name, before) in suspects {
            match self.storage.repository(&name) {
                Ok(dir) => {
                    let mut examined = examiner.examine(&name, &dir)?;
                    examined.keep_errors_of(&before);
                    self.with_report(|report| report.add(examined));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => self.unread(Error::io("open", name)(error)),
            }
        }
        self.uploads_that_are_left();
        self.with_report(|report| report.add_unused(self.storage, bad));
        Ok(())
    }

    /// Drops the notes about uploads that have ended meanwhile.
    fn uploads_that_are_left(&self) {
        self.with_report(|report| {
            report.findings.retain(
                |found| match (&found.finding.problem, &found.finding.place.entry) {
                    (Problem::UnfinishedUpload { .. }, Some(entry)) => self.storage.exists(entry),
                    _ => true,
                },
            );
            report.count_uploads();
        });
    }

    /// Counts the blobs that no manifest refers to. Where a manifest could not be read, nobody knows.
    fn unreferenced(&self, bad: &BTreeMap<Digest, Bad>, marks: &Marks) -> Result<()> {
        if self.with_report(|report| !report.unread.is_empty() || report.has_unread_manifests) {
            return Ok(());
        }
        self.progress.phase("looking for unreferenced blobs", None);
        let before = self.started.checked_sub(PUSH).unwrap_or(self.started);
        let is_unmarked = |digest: &Digest| !marks.has(digest) && !bad.contains_key(digest);
        let found = hashing::unmarked(self.storage, self.options, self.interrupt, before, is_unmarked)?;
        self.with_report(|report| report.unreferenced = Some(found));
        Ok(())
    }
}
