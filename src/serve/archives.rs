//! Opened archives as the content of a registry, and how a replaced archive is opened again.
//!
//! An archive is known by the state of its files: another file under its path, or other bytes in it, is another archive.
//! That is opened as a whole before it is served. If it cannot be, the old one goes on being served from its open files.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::assemble::{Summary, content};
use super::blob::Blob;
use super::content::{Content, Live};
use super::opened::{ArchiveFiles, FilesSeen, Opened, seen};
use crate::archive;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::oci::Digest;
use crate::progress::Progress;
use crate::workers;

/// How often files are compared with what was opened. A file must stay the same for this long before it is opened, because
/// it may be copied there bit by bit.
const EVERY: Duration = Duration::from_millis(500);

/// Archives that are served together.
pub struct Archives {
    given: Vec<ArchiveFiles>,
    options: archive::Options,
    /// In the same order.
    opened: Vec<Arc<Opened>>,
    /// What was found of each since it was opened, and not opened.
    noticed: Vec<Noticed>,
    verification: Option<Verification>,
}

/// How archives are verified before they are served.
#[derive(Clone)]
struct Verification {
    jobs: usize,
    interrupt: Interrupt,
}

/// An archive that was replaced.
#[derive(Debug)]
pub struct Reopened {
    /// Its path.
    pub archive: String,
    /// The digest of the one that is served now; or why the old one is.
    pub outcome: Result<Digest>,
}

/// Changes of files that did not lead to another archive yet.
#[derive(Debug, Clone, Default)]
struct Noticed {
    /// What was seen last.
    last: Option<FilesSeen>,
    /// What could not be opened.
    failed: Option<FilesSeen>,
}

impl Archives {
    /// Opens archives.
    ///
    /// # Errors
    ///
    /// Those of opening one, and of reading its manifests.
    pub fn open(given: Vec<ArchiveFiles>, options: archive::Options) -> Result<Archives> {
        let opened = given
            .iter()
            .map(|files| Ok(Arc::new(Opened::new(files, &options)?)));
        let opened: Vec<Arc<Opened>> = opened.collect::<Result<_>>()?;
        Ok(Archives {
            noticed: vec![Noticed::default(); given.len()],
            given,
            options,
            opened,
            verification: None,
        })
    }

    /// Everything in them.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if two archives have different images under one name.
    pub fn content(&self) -> Result<(Content, Summary)> {
        content(&self.opened)
    }

    /// The paths and digests of the archives.
    pub fn digests(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.opened
            .iter()
            .map(|opened| (opened.label.as_str(), opened.digest))
    }

    /// Verifies all configs and layers, and later those of an archive that is replaced before it is served.
    ///
    /// # Errors
    ///
    /// All that are wrong or cannot be read.
    pub fn verify(&mut self, jobs: usize, progress: &dyn Progress, interrupt: &Interrupt) -> Result<()> {
        let verification = Verification {
            jobs,
            interrupt: interrupt.clone(),
        };
        verification.run(&self.opened, progress)?;
        self.verification = Some(verification);
        Ok(())
    }

    /// Serves each archive that is replaced from now on, until the watcher is dropped. `report` is called with each.
    pub fn watch(
        mut self,
        live: Live,
        report: impl Fn(Reopened) + Send + 'static,
    ) -> std::io::Result<Watcher> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("reload".into()).spawn(move || {
            let (lock, signal) = &*stopped;
            let mut is_stopped = lock.lock().unwrap_or_else(PoisonError::into_inner);
            while !*is_stopped {
                drop(is_stopped);
                for reopened in self.refresh(&live) {
                    report(reopened);
                }
                is_stopped = lock.lock().unwrap_or_else(PoisonError::into_inner);
                let waited = signal.wait_timeout_while(is_stopped, EVERY, |is_stopped| !*is_stopped);
                is_stopped = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        })?;
        Ok(Watcher {
            stop,
            thread: Some(thread),
        })
    }

    /// Opens the archives whose files have changed, and stayed the same since the last time. Each is served at once if
    /// it fits with the others.
    fn refresh(&mut self, live: &Live) -> Vec<Reopened> {
        let mut reopened = Vec::new();
        for at in 0..self.given.len() {
            let (Some(files), Some(opened), Some(noticed)) =
                (self.given.get(at), self.opened.get(at), self.noticed.get_mut(at))
            else {
                continue;
            };
            let now = seen(files);
            let is_known = now == opened.seen || noticed.failed.as_ref() == Some(&now);
            let has_settled = noticed.last.replace(now.clone()).as_ref() == Some(&now);
            if is_known || !has_settled {
                continue;
            }
            let archive = opened.label.clone();
            let replaced = self.replaced(at);
            let outcome = match replaced {
                Ok((opened, content)) => {
                    let digest = opened.get(at).map(|opened| opened.digest);
                    self.opened = opened;
                    live.set(content);
                    digest.ok_or(Error::Interrupted)
                }
                Err(error) => Err(error),
            };
            if let (Err(_), Some(noticed)) = (&outcome, self.noticed.get_mut(at)) {
                noticed.failed = Some(now);
            }
            reopened.push(Reopened { archive, outcome });
        }
        reopened
    }

    /// The archives with one of them opened again, and their content.
    fn replaced(&self, at: usize) -> Result<(Vec<Arc<Opened>>, Content)> {
        let mut opened = self.opened.clone();
        if let (Some(files), Some(place)) = (self.given.get(at), opened.get_mut(at)) {
            *place = Arc::new(Opened::new(files, &self.options)?);
        }
        let (content, _) = content(&opened)?;
        if let Some(verification) = &self.verification {
            verification.run(&opened, &crate::progress::Silent)?;
        }
        Ok((opened, content))
    }
}

/// Opens archives again when they are replaced. Dropping it ends that.
pub struct Watcher {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let (lock, signal) = &*self.stop;
        *lock.lock().unwrap_or_else(PoisonError::into_inner) = true;
        signal.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Verification {
    fn run(&self, opened: &[Arc<Opened>], progress: &dyn Progress) -> Result<()> {
        let mut blobs: Vec<&Arc<Blob>> = opened.iter().flat_map(|opened| opened.blobs.values()).collect();
        blobs.sort_by_key(|blob| std::cmp::Reverse(blob.descriptor.size));
        let total = blobs.iter().map(|blob| blob.descriptor.size).sum();
        progress.phase("verifying", Some(total));
        let verify = |blob: &&Arc<Blob>| {
            let digest = &blob.descriptor.digest;
            progress.blob_started(digest, blob.descriptor.size, 0);
            let found = blob.prove_here(&|bytes| {
                progress.blob_advanced(digest, bytes);
                self.interrupt.check()
            });
            progress.blob_finished(digest);
            if found.is_ok() {
                progress.blob_verified(digest);
            }
            found
        };
        let found = workers::map(self.jobs, &blobs, verify, |found| {
            matches!(found, Err(Error::Interrupted))
        });
        progress.done();
        let errors: Vec<Error> = found.into_iter().flatten().filter_map(Result::err).collect();
        match errors.iter().any(|error| matches!(error, Error::Interrupted)) {
            true => Err(Error::Interrupted),
            false if errors.is_empty() => Ok(()),
            false => Err(Error::of_several(errors)),
        }
    }
}
