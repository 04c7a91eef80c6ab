//! One pool of worker threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
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

/// Does `work` for each item, on up to `count` threads, and returns the results in the order of the items. After a
/// result that `ends` the work no further item is started; those are `None`.
pub fn map<T: Sync, R: Send>(
    count: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
    ends: impl Fn(&R) -> bool + Sync,
) -> Vec<Option<R>> {
    let next = AtomicUsize::new(0);
    let ended = AtomicBool::new(false);
    let results: Mutex<Vec<Option<R>>> = Mutex::new(items.iter().map(|_| None).collect());
    run(count.min(items.len()), || {
        while !ended.load(Ordering::SeqCst) {
            let at = next.fetch_add(1, Ordering::SeqCst);
            let Some(item) = items.get(at) else { return };
            let result = work(item);
            if ends(&result) {
                ended.store(true, Ordering::SeqCst);
            }
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = results.get_mut(at) {
                *place = Some(result);
            }
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn results_come_in_order_and_none_is_started_after_the_end() {
        let items: Vec<usize> = (0..100).collect();
        let doubled = map(4, &items, |item| item * 2, |_| false);
        assert!(
            doubled
                .iter()
                .zip(&items)
                .all(|(result, item)| *result == Some(item * 2))
        );
        let ended = map(1, &items, |item| *item, |result| *result == 2);
        assert_eq!(ended[..4], [Some(0), Some(1), Some(2), None]);
        assert_eq!(map(4, &[], |item: &usize| *item, |_| false), []);
    }
}
