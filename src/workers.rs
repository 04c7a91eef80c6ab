//! One pool of worker threads.

use std::thread;

/// Runs `work` on this thread and on up to `count - 1` more, and returns once all have ended.
///
/// If a thread cannot be started, there are fewer workers. The jobs are in a queue that `work` takes them from.
pub fn run(count: usize, work: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 1..count {
            let _ = thread::Builder::new().spawn_scoped(scope, &work);
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::{Barrier, Mutex};

    use super::*;

    #[test]
    fn as_many_workers_run_at_once_as_are_asked_for() {
        for count in [1, 4] {
            let barrier = Barrier::new(count);
            let threads = Mutex::new(HashSet::new());
            run(count, || {
                barrier.wait();
                threads.lock().unwrap().insert(thread::current().id());
            });
            let threads = threads.into_inner().unwrap();
            assert_eq!(threads.len(), count);
            assert!(threads.contains(&thread::current().id()));
        }
    }
}
