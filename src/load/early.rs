//! Content that is sent while the archives are still being verified: nothing is named before that has ended well.
//!
//! Each blob that is sent is hashed on its way, so the target gets no other bytes than its digest says. What is still open
//! then is whether its layers have the diff ids that their configs name and stay below the size limit, and whether other
//! blobs are damaged. A target that unpacks layers waits for the proof of each, or verifies it itself: the verification leaves
//! such layers to the target.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Candidates, LoadOptions, Outcome};
use crate::archive::{self, Layout};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::oci::Digest;
use crate::progress::{Progress, Silent};
use crate::verify::{self, Delegated};

/// How often a wait checks whether to stop.
const TICK: Duration = Duration::from_millis(50);

/// What a target does while the archives are still being verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Early {
    /// Nothing.
    Nothing,
    /// It gets content. It calls [`Candidates::wait_until_verified`] before it names anything.
    Sends,
    /// It also unpacks layers, for which the verification leaves it half of the processor.
    Unpacks,
}

/// The state of a verification that runs beside a load.
#[derive(Default)]
pub struct Proof {
    state: Mutex<State>,
    known: Condvar,
    layer_limit: u64,
    /// Layers that the target verifies.
    pub(super) delegated: Delegated,
}

#[derive(Default)]
struct State {
    /// Whether all was right, once that is known.
    is_good: Option<bool>,
    /// Blobs that are right: their stored bytes, and for a layer its uncompressed bytes and their size.
    proven: HashSet<Digest>,
}

impl State {
    /// Whether all is right, if that is known. Fails if something is wrong.
    fn is_good(&self) -> Result<bool> {
        match self.is_good {
            Some(false) => Err(unverified()),
            is_good => Ok(is_good.is_some()),
        }
    }
}

impl Proof {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, is_good: bool) {
        self.state().is_good.get_or_insert(is_good);
        self.known.notify_all();
    }

    /// Whether the verification has ended.
    pub(super) fn is_known(&self) -> bool {
        self.state().is_good.is_some()
    }

    /// Fails if something is known to be wrong.
    pub(super) fn check(&self) -> Result<()> {
        self.state().is_good().map(|_| ())
    }

    /// Whether a blob is known to be right. One that the archives do not have is, once all of them are.
    pub(super) fn has(&self, digest: &Digest) -> Result<bool> {
        // The verification waits until the target says which layers it verifies itself. One that asks for a proof first
        // verifies none.
        self.delegated.begin(HashSet::new());
        let state = self.state();
        Ok(state.is_good()? || state.proven.contains(digest))
    }

    /// Most bytes that a layer may decompress to.
    pub(super) fn layer_limit(&self) -> u64 {
        self.layer_limit
    }

    /// Waits for the end of the verification.
    pub(super) fn wait(&self, interrupt: &Interrupt) -> Result<()> {
        self.delegated.end();
        let mut state = self.state();
        while !state.is_good()? {
            interrupt.check()?;
            let waited = self.known.wait_timeout(state, TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

/// Notes which blobs are proven. Nothing is printed: the target reports its own progress.
impl Progress for Proof {
    fn blob_verified(&self, digest: &Digest) {
        self.state().proven.insert(*digest);
    }
}

/// Ends the wait for a verification that has panicked.
struct Settled<'p>(&'p Proof);

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Has the verification do everything that a target has left when its work has ended.
pub(super) struct EndDelegation<'c>(pub &'c Candidates<'c>);

impl Drop for EndDelegation<'_> {
    fn drop(&mut self) {
        self.0.verify_all();
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
    let proof = || Proof {
        layer_limit: options.verify.max_layer_size,
        ..Proof::default()
    };
    let mut candidates = Candidates {
        proof: (!options.verify.quick).then(proof),
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
    early: Early,
    work: impl FnOnce() -> Vec<Result<Outcome>>,
) -> (Vec<Result<Outcome>>, Result<Vec<verify::Report>>) {
    let all = options.verify.jobs;
    let options = verify::Options {
        jobs: match early {
            Early::Unpacks => NonZeroUsize::new(all.get() / 2).unwrap_or(NonZeroUsize::MIN),
            Early::Nothing | Early::Sends => all,
        },
        ..options.verify.clone()
    };
    let stop = Interrupt::default();
    thread::scope(|scope| {
        let verification = scope.spawn(|| {
            let proof = candidates.proof.as_ref();
            let _settled = proof.map(Settled);
            let progress = proof.map_or(&Silent as &dyn Progress, |proof| proof);
            let reports = archives.iter().map(|archive| {
                let delegated = proof.map(|proof| &proof.delegated);
                archive::verify_beside(archive.as_ref(), delegated, &options, progress, &stop)
            });
            let reports: Result<Vec<verify::Report>> = reports.collect();
            let is_good = reports
                .as_ref()
                .is_ok_and(|reports| reports.iter().all(verify::Report::is_good));
            if let Some(proof) = proof {
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
