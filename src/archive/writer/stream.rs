//! Writes an archive to a pipe, from start to end.

use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::super::TarPlan;
use super::super::signature::{self, Draft, Signing};
use super::{check_proofs, segments};
use crate::blob::Verified;
use crate::error::{Error, Place, Problem, Result};
use crate::interrupt::Interrupt;
use crate::oci::Descriptor;
use crate::transfer::Sink;

/// An archive that is being written to a pipe. A truncated one names nothing, because the names come last.
pub struct Stream<'a> {
    plan: &'a TarPlan,
    label: &'a Path,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    out: &'a mut (dyn Write + Send),
    /// Bytes written so far.
    at: u64,
    /// Number of the layout's runs that are written.
    runs: usize,
}

impl<'a> Stream<'a> {
    /// Starts an archive; `label` is the pipe's name in messages.
    pub fn new(label: &'a Path, plan: &'a TarPlan, out: &'a mut (dyn Write + Send)) -> Stream<'a> {
        Stream {
            plan,
            label,
            state: Mutex::new(State { out, at: 0, runs: 0 }),
        }
    }

    /// Ends the archive with its names, once it is signed.
    ///
    /// # Errors
    ///
    /// If a planned blob has no proof, the key does not sign, or the pipe cannot be written.
    pub fn seal(
        self,
        proofs: &[Verified],
        sign: Option<&Signing>,
        interrupt: &Interrupt,
    ) -> Result<Option<signature::Written>> {
        check_proofs(self.plan, proofs)?;
        let draft = sign.map(|sign| {
            let statement = signature::statement(&self.plan.digest());
            sign.draft(signature::NAMESPACE, statement.as_bytes(), interrupt)
        });
        let draft = draft.transpose()?;
        self.write_runs(self.plan.size())?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let at = state.at;
        state
            .out
            .flush()
            .map_err(|error| segments::write_error(self.label, at, error))?;
        draft.map(Draft::publish).transpose()
    }

    fn place(&self, blob: &Descriptor) -> Result<u64> {
        let mut blobs = self.plan.blobs().iter();
        blobs
            .find(|planned| planned.descriptor.digest == blob.digest)
            .map(|planned| planned.offset)
            .ok_or_else(|| Error::refused(Place::blob(blob.digest), Problem::UnknownFile))
    }

    fn write_runs(&self, before: u64) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(run) = self.plan.runs().get(state.runs).filter(|run| run.offset < before) {
            self.put(&mut state, run.offset, &run.bytes)?;
            state.runs += 1;
        }
        Ok(())
    }

    fn put(&self, state: &mut State<'_>, offset: u64, bytes: &[u8]) -> Result<()> {
        if offset != state.at {
            let problem = Problem::Tar {
                reason: format!("bytes for {offset} came when {} was written", state.at),
            };
            return Err(Error::refused(
                Place::default().within(self.label.display()),
                problem,
            ));
        }
        state
            .out
            .write_all(bytes)
            .map_err(|error| segments::write_error(self.label, offset, error))?;
        state.at += u64::try_from(bytes.len()).unwrap_or_default();
        Ok(())
    }
}

impl Sink for Stream<'_> {
    fn begin(&self, blob: &Descriptor, _: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.write_runs(self.place(blob)?)
    }

    fn write(&self, blob: &Descriptor, at: u64, bytes: &[u8]) -> Result<()> {
        let offset = self.place(blob)?.saturating_add(at);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(&mut state, offset, bytes)
    }

    fn is_ordered(&self) -> bool {
        true
    }

    fn is_rewritable(&self) -> bool {
        false
    }
}
