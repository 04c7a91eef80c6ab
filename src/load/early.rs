//! Content that is sent while the archives are still being verified: nothing is named before that has ended well.
//!
//! Each blob that is sent is hashed on its way, so the target gets no other bytes than its digest says. What is still open
//! then is whether its layers have the diff ids that their configs name, and whether other blobs are damaged.

use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Candidates, LoadOptions, Outcome};
use crate::archive::{self, Layout};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::progress::{Progress, Silent};
use crate::verify;

/// How often a wait checks whether to stop.
const TICK: Duration = Duration::from_millis(50);

/// The state of a verification that runs beside a load.
#[derive(Default)]
pub struct Proof {
    /// Whether all was right, once that is known.
    is_good: Mutex<Option<bool>>,
    known: Condvar,
}

impl Proof {
    fn set(&self, is_good: bool) {
        *self.is_good.lock().unwrap_or_else(PoisonError::into_inner) = Some(is_good);
        self.known.notify_all();
    }

    /// Whether the verification has ended.
    pub(super) fn is_known(&self) -> bool {
        self.is_good
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Fails if something is known to be wrong.
    pub(super) fn check(&self) -> Result<()> {
        match *self.is_good.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(false) => Err(unverified()),
            _ => Ok(()),
        }
    }

    /// Waits for the end of the verification.
    pub(super) fn wait(&self, interrupt: &Interrupt) -> Result<()> {
        let mut is_good = self.is_good.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *is_good {
                Some(true) => return Ok(()),
                Some(false) => return Err(unverified()),
                None => interrupt.check()?,
            }
            let waited = self.known.wait_timeout(is_good, TICK);
            is_good = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Ends the work of a target. What is wrong is in the reports of the verification.
fn unverified() -> Error {
    Error::Unverified {
        place: "an archive".into(),
        count: 1,
        hint: None,
    }
}

/// The images of archives whose documents are right. `None` if some are not: a whole verification reports all that is wrong.
pub(super) fn followed<'a>(
    archives: &'a [Box<dyn Layout>],
    options: &LoadOptions,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Option<Candidates<'a>>> {
    let documents = verify::Options {
        documents_only: true,
        ..options.verify.clone()
    };
    let mut candidates = Candidates {
        proof: Some(Proof::default()),
        ..Candidates::default()
    };
    for archive in archives {
        let archive = archive.as_ref();
        let found = archive::verify(archive, &documents, progress, interrupt)?;
        if !found.is_good() {
            return Ok(None);
        }
        candidates.add(archive, &found)?;
    }
    Ok(Some(candidates))
}

/// Does `work` while the archives are verified. Returns its outcomes, and the reports of the verification, which are an
/// error only after an interruption.
pub(super) fn verified_while(
    candidates: &Candidates<'_>,
    archives: &[Box<dyn Layout>],
    options: &LoadOptions,
    work: impl FnOnce() -> Vec<Result<Outcome>>,
) -> (Vec<Result<Outcome>>, Result<Vec<verify::Report>>) {
    let half = NonZeroUsize::new(options.verify.jobs.get() / 2).unwrap_or(NonZeroUsize::MIN);
    let options = verify::Options {
        // The target works at the same time.
        jobs: half,
        ..options.verify.clone()
    };
    let stop = Interrupt::default();
    thread::scope(|scope| {
        let verification = scope.spawn(|| {
            let reports = archives
                .iter()
                .map(|archive| archive::verify(archive.as_ref(), &options, &Silent, &stop));
            let reports: Result<Vec<verify::Report>> = reports.collect();
            let is_good = reports
                .as_ref()
                .is_ok_and(|reports| reports.iter().all(verify::Report::is_good));
            if let Some(proof) = &candidates.proof {
                proof.set(is_good);
            }
            reports
        });
        let outcomes = work();
        if outcomes
            .iter()
            .any(|outcome| matches!(outcome, Err(Error::Interrupted)))
        {
            stop.stop();
        }
        // After any other failure the whole verification tells whether damage was its cause.
        let reports = verification
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (outcomes, reports)
    })
}
