//! Tasks that wait for others, on several threads.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::workers;

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

/// Does all tasks, on up to `count` threads, each as soon as those that it waits for have ended. Urgent tasks are preferred,
/// then earlier ones.
///
/// # Errors
///
/// The first error of a task. No further task is started then.
pub fn run<W: Sync>(count: usize, tasks: &[Task<W>], work: impl Fn(&W) -> Result<()> + Sync) -> Result<()> {
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
            let Some((_, at)) = now.ready.pop_first() else {
                now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            now.running += 1;
            drop(now);
            let done = tasks.get(at).map_or(Ok(()), |task| work(&task.work));
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

#[cfg(test)]
mod tests {
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
            run(count, &tasks, |work| {
                done.lock().unwrap().push(*work);
                Ok(())
            })
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
        run(2, &[], |_: &usize| Ok(())).unwrap();
    }

    #[test]
    fn an_error_ends_all() {
        let tasks = [task(0, &[], false), task(1, &[0], false), task(2, &[1], false)];
        let done = Mutex::new(Vec::new());
        let ended = run(2, &tasks, |work| {
            done.lock().unwrap().push(*work);
            match work {
                1 => Err(Error::Interrupted),
                _ => Ok(()),
            }
        });
        assert!(matches!(ended, Err(Error::Interrupted)));
        assert_eq!(done.into_inner().unwrap(), [0, 1]);
    }
}
