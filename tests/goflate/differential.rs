//! The same inputs through this encoder and through a real Go, at all levels.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::go::{Go, digests};
use crate::inputs::Source;
use crate::{LEVELS, encode, sha256};

/// Inputs of a run; `GOFLATE_INPUTS` and `GOFLATE_FIRST` make it another number of others.
const INPUTS: u64 = if cfg!(feature = "test-all") { 2500 } else { 150 };

#[test]
fn go_writes_the_same() {
    let number = |name, otherwise| std::env::var(name).map_or(otherwise, |value| value.parse().unwrap());
    let first = number("GOFLATE_FIRST", 0);
    let (source, program) = (Source::new(), digests());
    let next = AtomicU64::new(first);
    let end = first + number("GOFLATE_INPUTS", INPUTS);
    let work = || {
        let mut go = Go::start(&program);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end {
                return go.stop();
            }
            assert_same_as_go(&source, number, &mut go);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    std::fs::remove_file(program).unwrap();
}

fn assert_same_as_go(source: &Source, number: u64, go: &mut Go) {
    let input = source.input(number);
    let writes = input.cut();
    go.ask(&writes);
    let ours = LEVELS.map(|level| {
        let output = encode(writes.iter().copied(), level);
        format!("{}:{}", output.len(), sha256(&output))
    });
    let ours: Vec<_> = ours.collect();
    let theirs = go.answer();
    assert_eq!(
        theirs.len(),
        ours.len(),
        "no full answer from Go for input {number}"
    );
    for (level, (ours, theirs)) in LEVELS.zip(ours.iter().zip(&theirs)) {
        let (length, writes) = (input.bytes.len(), writes.len());
        assert_eq!(
            ours, theirs,
            "input {number}, {length} bytes in {writes} writes, level {level}"
        );
    }
}
