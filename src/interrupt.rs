//! Stops work on a signal: a flag that long loops check, and cleanup that runs before the process dies by the
//! signal. Without [`Interrupt::install`] nothing is ever interrupted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

type Action = Box<dyn FnOnce() + Send>;

/// The flag and the cleanup list of one run. Clones share both.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<State>);

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interrupt").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    stopped: AtomicBool,
    /// The signal that arrived; 0 before.
    signal: AtomicI32,
    /// Whether the signal ends work that lasts until one comes, such as that of a server.
    completed: AtomicBool,
    next: AtomicU64,
    actions: Mutex<Vec<(u64, Action)>>,
    remarks: Mutex<Vec<String>>,
    holds: Mutex<Holds>,
    released: Condvar,
    /// Number of [`Cleanup`]s.
    cleanups: Mutex<usize>,
    cleaned: Condvar,
}

/// How long a signal waits for callers that clean up, each with a [`Cleanup`].
const CLEANUP_TIME: Duration = Duration::from_secs(5);

/// What must be finished before a signal takes effect.
#[derive(Default)]
struct Holds {
    /// What is left undone if it is not finished, by the numbers of the [`Hold`]s.
    unfinished: BTreeMap<u64, String>,
    /// Whether they are waited for no longer.
    is_given_up: bool,
}

impl Holds {
    fn delay(&self) -> bool {
        !self.is_given_up && !self.unfinished.is_empty()
    }
}

/// Signals within this time of the first are taken for the same one: `timeout` sends it to the process and to its group.
const SAME_SIGNAL: Duration = Duration::from_secs(1);
/// How often a pause checks whether to stop.
const TICK: Duration = Duration::from_millis(50);

/// Keeps a cleanup action registered while it lives.
#[must_use]
pub struct Guard {
    interrupt: Interrupt,
    id: u64,
}

/// Delays the effect of a signal while it lives.
#[must_use]
pub struct Hold<'i> {
    interrupt: &'i Interrupt,
    id: u64,
}

/// Delays the end of the process after a signal while it lives, for a few seconds at most.
#[must_use]
pub struct Cleanup<'i>(&'i Interrupt);

impl Interrupt {
    /// On SIGINT, SIGTERM and SIGHUP: sets the flag, runs the cleanup actions, latest first, calls `report`
    /// with the signal and their remarks, and dies by the signal. SIGXFSZ is ignored, so that writing beyond
    /// `ulimit -f` is an error instead.
    ///
    /// If a [`Hold`] delays that, `held` is called with the signal, and a second signal ends the wait.
    ///
    /// # Errors
    ///
    /// If signal handlers cannot be installed.
    pub fn install(
        &self,
        held: impl FnOnce(i32) + Send + 'static,
        report: impl FnOnce(i32, &[String]) + Send + 'static,
    ) -> std::io::Result<()> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let this = self.clone();
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    this.0.signal.store(signal, Ordering::SeqCst);
                    // No hold begins from now on.
                    this.0.stopped.store(true, Ordering::SeqCst);
                    if this.holds().delay() {
                        held(signal);
                        this.end_holds_by_another(signals);
                    }
                    this.stop();
                    report(signal, &this.remarks());
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
            })?;
        Ok(())
    }

    /// Notes that the signal has ended the work as it should end, such as that of a server, and interrupted nothing.
    pub fn complete(&self) {
        self.0.completed.store(true, Ordering::SeqCst);
    }

    /// Whether the work has ended as it should: [`Interrupt::complete`] was called.
    pub fn is_complete(&self) -> bool {
        self.0.completed.load(Ordering::SeqCst)
    }

    /// The signal that stops the work, if one has arrived.
    pub fn signal(&self) -> Option<i32> {
        match self.0.signal.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Waits for the process to die if a signal has arrived, so that it does not exit with a code first.
    pub fn wait_if_stopped(&self) {
        while self.0.stopped.load(Ordering::SeqCst) {
            std::thread::park();
        }
    }

    /// Sets the flag and runs the cleanup actions, latest first, each once. Waits for each [`Hold`] before, and for each
    /// [`Cleanup`] after.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        let waited = self.0.released.wait_while(self.holds(), |holds| holds.delay());
        let unfinished: Vec<String> = waited
            .unwrap_or_else(PoisonError::into_inner)
            .unfinished
            .values()
            .cloned()
            .collect();
        unfinished.into_iter().for_each(|what| self.remark(what));
        loop {
            let action = self
                .0
                .actions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            match action {
                Some((_, action)) => action(),
                None => break,
            }
        }
        let cleanups = self.0.cleanups.lock().unwrap_or_else(PoisonError::into_inner);
        let are_left = |cleanups: &mut usize| *cleanups > 0;
        drop(
            self.0
                .cleaned
                .wait_timeout_while(cleanups, CLEANUP_TIME, are_left),
        );
    }

    /// Adds something that the user should know after a signal. Called by cleanup actions.
    pub fn remark(&self, text: String) {
        let mut remarks = self.0.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        remarks.push(text);
    }

    fn remarks(&self) -> Vec<String> {
        std::mem::take(&mut self.0.remarks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Registers cleanup for as long as the guard lives. After a signal it runs at once: the list may have been run.
    pub fn on_stop(&self, action: impl FnOnce() + Send + 'static) -> Guard {
        let id = self.0.next.fetch_add(1, Ordering::SeqCst);
        let mut actions = self.0.actions.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.stopped.load(Ordering::SeqCst) {
            drop(actions);
            action();
        } else {
            actions.push((id, Box::new(action)));
        }
        Guard {
            interrupt: self.clone(),
            id,
        }
    }

    /// Lets the caller finish what must not be left half done: a signal takes effect when the hold ends. A second signal
    /// ends it, and `unfinished` tells what is left.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] if a signal came before.
    pub fn hold(&self, unfinished: String) -> Result<Hold<'_>> {
        let mut holds = self.holds();
        if self.0.stopped.load(Ordering::SeqCst) {
            return Err(Error::Interrupted);
        }
        let id = self.0.next.fetch_add(1, Ordering::SeqCst);
        holds.unfinished.insert(id, unfinished);
        Ok(Hold { interrupt: self, id })
    }

    /// Gives the caller time to clean up after a signal: it notices the signal by [`Interrupt::check`]. The process dies
    /// after a few seconds even if the caller is not done.
    pub fn cleanup(&self) -> Cleanup<'_> {
        *self.0.cleanups.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Cleanup(self)
    }

    fn holds(&self) -> MutexGuard<'_, Holds> {
        self.0.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has another signal end the wait for what must be finished.
    fn end_holds_by_another(&self, mut signals: signal_hook::iterator::Signals) {
        let (this, first) = (self.clone(), Instant::now());
        let waiting = std::thread::Builder::new().name("second signal".into());
        // Without a thread, the wait lasts until all is finished.
        let _ = waiting.spawn(move || {
            for _ in signals.forever() {
                if first.elapsed() >= SAME_SIGNAL {
                    this.give_up_holds();
                }
            }
        });
    }

    fn give_up_holds(&self) {
        self.holds().is_given_up = true;
        self.0.released.notify_all();
    }

    /// Fails after a signal. Long loops call it between pieces of work.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`].
    pub fn check(&self) -> Result<()> {
        if self.0.stopped.load(Ordering::SeqCst) && !self.holds().delay() {
            Err(Error::Interrupted)
        } else {
            Ok(())
        }
    }
}

/// Waits, unless `check` fails.
///
/// # Errors
///
/// The error of `check`.
pub fn pause(pause: Duration, check: impl Fn() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    loop {
        check()?;
        let left = pause.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(TICK));
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.interrupt.holds().unfinished.remove(&self.id);
        self.interrupt.0.released.notify_all();
    }
}

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        let state = &self.0.0;
        *state.cleanups.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        state.cleaned.notify_all();
    }
}

impl Guard {
    /// Leaves the action registered for good. After a signal, work may end before the action has run.
    pub fn keep(mut self) {
        self.id = u64::MAX;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut actions = self
            .interrupt
            .0
            .actions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        actions.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleanup_runs_once_also_if_it_is_registered_after_the_signal() {
        let interrupt = Interrupt::default();
        let runs = Arc::new(AtomicU64::new(0));
        let count = || {
            let runs = Arc::clone(&runs);
            move || {
                runs.fetch_add(1, Ordering::SeqCst);
            }
        };
        drop(interrupt.on_stop(count()));
        let _before = interrupt.on_stop(count());
        interrupt.stop();
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        let _after = interrupt.on_stop(count());
        assert_eq!(runs.load(Ordering::SeqCst), 2);
        interrupt.stop();
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_kept_action_runs_though_its_guard_is_gone() {
        let interrupt = Interrupt::default();
        let remark = |text: &'static str| {
            let interrupt = interrupt.clone();
            move || interrupt.remark(text.into())
        };
        drop(interrupt.on_stop(remark("dropped")));
        interrupt.on_stop(remark("kept")).keep();
        interrupt.stop();
        assert_eq!(interrupt.remarks(), ["kept"]);
    }

    #[test]
    fn a_signal_waits_for_what_must_be_finished() {
        let interrupt = Interrupt::default();
        interrupt
            .on_stop({
                let interrupt = interrupt.clone();
                move || interrupt.remark("stopped".into())
            })
            .keep();
        let hold = interrupt.hold("it is not finished".into()).unwrap();
        std::thread::scope(|scope| {
            let stopping = scope.spawn(|| interrupt.stop());
            while !interrupt.0.stopped.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            assert!(interrupt.check().is_ok());
            assert!(interrupt.hold(String::new()).is_err());
            std::thread::sleep(TICK);
            assert!(interrupt.remarks().is_empty());
            drop(hold);
            stopping.join().unwrap();
        });
        assert!(interrupt.check().is_err());
        assert_eq!(interrupt.remarks(), ["stopped"]);
    }

    #[test]
    fn a_signal_waits_for_those_who_clean_up() {
        let interrupt = Interrupt::default();
        let is_clean = AtomicBool::default();
        let cleanup = interrupt.cleanup();
        std::thread::scope(|scope| {
            let stopping = scope.spawn(|| {
                interrupt.stop();
                assert!(is_clean.load(Ordering::SeqCst));
            });
            while interrupt.check().is_ok() {
                std::thread::yield_now();
            }
            std::thread::sleep(TICK);
            is_clean.store(true, Ordering::SeqCst);
            drop(cleanup);
            stopping.join().unwrap();
        });
    }

    #[test]
    fn a_hold_that_is_given_up_tells_what_is_left() {
        let interrupt = Interrupt::default();
        let _hold = interrupt.hold("it is not finished".into()).unwrap();
        std::thread::scope(|scope| {
            let stopping = scope.spawn(|| interrupt.stop());
            interrupt.give_up_holds();
            stopping.join().unwrap();
        });
        assert!(interrupt.check().is_err());
        assert_eq!(interrupt.remarks(), ["it is not finished"]);
    }

    #[test]
    fn a_pause_ends_when_work_is_to_stop() {
        let started = Instant::now();
        assert!(pause(Duration::from_millis(120), || Ok(())).is_ok());
        assert!(started.elapsed() >= Duration::from_millis(120));
        let interrupt = Interrupt::default();
        interrupt.stop();
        let started = Instant::now();
        assert!(pause(Duration::MAX, || interrupt.check()).is_err());
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
