//! Tasks that wait for others, on several threads.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::workers;

/// How often tasks that may not start yet are asked about again.
const TICK: Duration = Duration::from_millis(20);

/// A task, and the earlier tasks that it waits for.
pub struct Task<W> {
    /// What it does.
    pub work: W,
    /// Positions of tasks that must have ended.
    pub after: Vec<usize>,
    /// Whether it comes before all tasks that are not urgent.
    pub is_urgent: bool,
}

struct State {
    /// For each task, the number of tasks that it still waits for.
    waits: Vec<usize>,
    /// Tasks that can start, the urgent ones first.
    ready: BTreeSet<(bool, usize)>,
    running: usize,
    error: Option<Error>,
}

/// Ends the work of the other threads if a task panics.
struct EndOnPanic<'s>(&'s Mutex<State>, &'s Condvar);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.error.get_or_insert(Error::Interrupted);
            self.1.notify_all();
        }
    }
}

/// Does all tasks, on up to `count` threads, each as soon as those that it waits for have ended. Urgent tasks are preferred,
/// then earlier ones. A task for which `may_start` is false is asked about again later, and others are done in the meantime.
/// While nothing runs and nothing may start, `on_stall` is called again and again: only others can help then.
///
/// # Errors
///
/// The first error of a task or of `may_start`. No further task is started then.
pub fn run<W: Sync>(
    count: usize,
    tasks: &[Task<W>],
    may_start: impl Fn(&W) -> Result<bool> + Sync,
    on_stall: impl Fn() + Sync,
    work: impl Fn(&W) -> Result<()> + Sync,
) -> Result<()> {
    let mut followers: Vec<Vec<usize>> = tasks.iter().map(|_| Vec::new()).collect();
    for (at, task) in tasks.iter().enumerate() {
        for before in &task.after {
            if let Some(followers) = followers.get_mut(*before) {
                followers.push(at);
            }
        }
    }
    let key = |at: usize| (tasks.get(at).is_some_and(|task| !task.is_urgent), at);
    let first = tasks.iter().enumerate().filter(|(_, task)| task.after.is_empty());
    let state = Mutex::new(State {
        waits: tasks.iter().map(|task| task.after.len()).collect(),
        ready: first.map(|(at, _)| key(at)).collect(),
        running: 0,
        error: None,
    });
    let changed = Condvar::new();
    workers::run(count, || {
        let mut now = state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if now.error.is_some() || now.ready.is_empty() && now.running == 0 {
                return;
            }
            let next = match first_to_start(&now.ready, tasks, &may_start) {
                Ok(next) => next,
                Err(error) => {
                    now.error.get_or_insert(error);
                    changed.notify_all();
                    return;
                }
            };
            let Some(chosen) = next else {
                if now.running == 0 {
                    on_stall();
                }
                // Nothing announces that a task may start.
                let waited = changed.wait_timeout(now, TICK);
                now = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            };
            now.ready.remove(&chosen);
            let (_, at) = chosen;
            now.running += 1;
            drop(now);
            let end = EndOnPanic(&state, &changed);
            let done = tasks.get(at).map_or(Ok(()), |task| work(&task.work));
            drop(end);
            now = state.lock().unwrap_or_else(PoisonError::into_inner);
            now.running -= 1;
            match done {
                Ok(()) => {
                    for follower in followers.get(at).into_iter().flatten() {
                        if let Some(waits) = now.waits.get_mut(*follower) {
                            *waits -= 1;
                            if *waits == 0 {
                                now.ready.insert(key(*follower));
                            }
                        }
                    }
                }
                Err(error) => drop(now.error.get_or_insert(error)),
            }
            changed.notify_all();
        }
    });
    let ended = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    ended.error.map_or(Ok(()), Err)
}

/// The first of the ready tasks that may start.
fn first_to_start<W>(
    ready: &BTreeSet<(bool, usize)>,
    tasks: &[Task<W>],
    may_start: impl Fn(&W) -> Result<bool>,
) -> Result<Option<(bool, usize)>> {
    for (is_later, at) in ready {
        if let Some(task) = tasks.get(*at)
            && may_start(&task.work)?
        {
            return Ok(Some((*is_later, *at)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn task(work: usize, after: &[usize], is_urgent: bool) -> Task<usize> {
        Task {
            work,
            after: after.to_vec(),
            is_urgent,
        }
    }

    #[test]
    fn tasks_wait_for_others_and_urgent_ones_come_first() {
        let tasks = [
            task(0, &[], false),
            task(1, &[], false),
            task(2, &[], false),
            task(3, &[0], true),
            task(4, &[3, 1], true),
            task(5, &[4], false),
        ];
        for (count, expected) in [(1, Some(vec![0, 3, 1, 4, 2, 5])), (3, None)] {
            let done = Mutex::new(Vec::new());
            run(
                count,
                &tasks,
                |_| Ok(true),
                || (),
                |work| {
                    done.lock().unwrap().push(*work);
                    Ok(())
                },
            )
            .unwrap();
            let mut done = done.into_inner().unwrap();
            let place = |work: usize| done.iter().position(|one| *one == work);
            for (before, after) in [(0, 3), (3, 4), (1, 4), (4, 5)] {
                assert!(place(before) < place(after), "{done:?}");
            }
            if let Some(expected) = expected {
                assert_eq!(done, expected);
            }
            done.sort_unstable();
            assert_eq!(done, [0, 1, 2, 3, 4, 5]);
        }
        run(2, &[], |_| Ok(true), || (), |_: &usize| Ok(())).unwrap();
    }

    #[test]
    fn an_error_ends_all() {
        let tasks = [task(0, &[], false), task(1, &[0], false), task(2, &[1], false)];
        let done = Mutex::new(Vec::new());
        let ended = run(
            2,
            &tasks,
            |_| Ok(true),
            || (),
            |work| {
                done.lock().unwrap().push(*work);
                match work {
                    1 => Err(Error::Interrupted),
                    _ => Ok(()),
                }
            },
        );
        assert!(matches!(ended, Err(Error::Interrupted)));
        assert_eq!(done.into_inner().unwrap(), [0, 1]);
    }

    #[test]
    fn a_panic_ends_all() {
        let tasks = [task(0, &[], false), task(1, &[0], false)];
        let ended = std::panic::catch_unwind(|| run(2, &tasks, |_| Ok(true), || (), |_| panic!("a defect")));
        assert!(ended.is_err());
    }

    #[test]
    fn a_task_waits_until_it_may_start_while_others_are_done() {
        let tasks = [task(0, &[], true), task(1, &[], false), task(2, &[0], false)];
        for count in [1, 3] {
            let done = Mutex::new(Vec::new());
            let may_start = |work: &usize| Ok(*work != 0 || done.lock().unwrap().contains(&1));
            run(
                count,
                &tasks,
                may_start,
                || (),
                |work| {
                    done.lock().unwrap().push(*work);
                    Ok(())
                },
            )
            .unwrap();
            assert_eq!(*done.lock().unwrap(), [1, 0, 2]);
        }
        let refused = run(2, &tasks, |_| Err(Error::Interrupted), || (), |_| Ok(()));
        assert!(matches!(refused, Err(Error::Interrupted)));
    }

    #[test]
    fn a_stall_is_told_while_nothing_runs_and_nothing_may_start() {
        let tasks = [task(0, &[], false), task(1, &[0], false), task(2, &[1], false)];
        for count in [1, 3] {
            let (stalled, done) = (AtomicBool::new(false), Mutex::new(Vec::new()));
            let may_start = |work: &usize| Ok(*work != 1 || stalled.load(Ordering::Relaxed));
            let on_stall = || {
                assert_eq!(*done.lock().unwrap(), [0]);
                stalled.store(true, Ordering::Relaxed);
            };
            run(count, &tasks, may_start, on_stall, |work| {
                done.lock().unwrap().push(*work);
                Ok(())
            })
            .unwrap();
            assert_eq!(*done.lock().unwrap(), [0, 1, 2]);
        }
    }
}
