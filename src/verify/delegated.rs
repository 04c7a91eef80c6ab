//! Layers that are verified by code that reads them for another purpose, so that they are decompressed once.
//!
//! A verification does all its other work first, and takes the results of these layers as they come. It verifies those that
//! are given back without a proof, so that what is wrong with a layer is always found and reported by the verification.

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::layer::VerifiedLayer;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::oci::Digest;

/// How often a wait checks whether to stop.
const TICK: Duration = Duration::from_millis(50);

/// The layers that a verification leaves to others, and their proofs.
#[derive(Default)]
pub(crate) struct Delegated {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether it is known which layers these are.
    is_begun: bool,
    /// Layers of which neither a proof nor a failure is known.
    open: HashSet<Digest>,
    verified: HashMap<Digest, VerifiedLayer>,
}

impl Delegated {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delegates these layers; only the first call counts. The verification starts with this call or [`Delegated::end`], and
    /// waits for [`Delegated::settle`] of each layer at its end.
    pub fn begin(&self, layers: HashSet<Digest>) {
        let mut state = self.state();
        if !state.is_begun {
            state.is_begun = true;
            state.open = layers;
            self.changed.notify_all();
        }
    }

    /// Ends the delegation of a layer. Without a proof the verification verifies it.
    pub fn settle(&self, layer: &Digest, proof: Option<VerifiedLayer>) {
        let mut state = self.state();
        state.open.remove(layer);
        state.verified.extend(proof.map(|proof| (*proof.digest(), proof)));
        self.changed.notify_all();
    }

    /// Gives all layers back that are not settled.
    pub fn end(&self) {
        let mut state = self.state();
        state.is_begun = true;
        state.open.clear();
        self.changed.notify_all();
    }

    /// Waits until it is known which layers are delegated. Returns them without those that were given back.
    pub(super) fn layers(&self, interrupt: &Interrupt) -> Result<HashSet<Digest>> {
        let state = self.wait(interrupt, |state| state.is_begun)?;
        Ok(state.open.iter().chain(state.verified.keys()).copied().collect())
    }

    /// Waits until one of these layers is settled, and returns its position.
    pub(super) fn settled<'d>(
        &self,
        layers: impl Iterator<Item = &'d Digest> + Clone,
        interrupt: &Interrupt,
    ) -> Result<Option<usize>> {
        let find = |state: &State| layers.clone().position(|layer| !state.open.contains(layer));
        let is_empty = layers.clone().next().is_none();
        let state = self.wait(interrupt, |state| is_empty || find(state).is_some())?;
        Ok(find(&state))
    }

    /// The proof of a layer, if there is one.
    pub(super) fn proof(&self, layer: &Digest) -> Option<VerifiedLayer> {
        self.state().verified.get(layer).copied()
    }

    fn wait(&self, interrupt: &Interrupt, is_over: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        while !is_over(&state) {
            interrupt.check()?;
            let waited = self.changed.wait_timeout(state, TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state)
    }
}

#[cfg(test)]
#[path = "delegated_tests.rs"]
mod tests;
