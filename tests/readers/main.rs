//! What sealift reads of tars and documents from outside, beside Go's readers: archive/tar and encoding/json.
//!
//! Engines, and the tools that people use where sealift is not installed, read archives with these. So what sealift
//! accepts, Go must read in the same way; what Go refuses or reads otherwise, sealift refuses.
//!
//! ```text
//! tars.rs        archives and layers, as sealift and Go read them
//! tar_inputs.rs  those archives and layers, changed field by field and byte by byte
//! documents.rs   manifests, indexes, configs and manifest.json, changed in the same manner
//! server.rs      the Go that is asked: readers.go
//! random.rs      numbers made from the number of an input
//! ```
//!
//! `READERS_FIRST` and `READERS_INPUTS` try other inputs than the usual ones. An input that fails is left in the
//! folder for temporary files of the tests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod documents;
#[allow(dead_code, reason = "the tests of the encoder use all of it")]
#[path = "../goflate/go.rs"]
mod go;
#[allow(dead_code, reason = "the tests of archives use all of it")]
#[path = "../archive/images.rs"]
mod images;
mod random;
mod server;
#[allow(dead_code, reason = "the tests of archives use all of it")]
#[path = "../archive/tar_builder.rs"]
mod tar_builder;
mod tar_inputs;
mod tars;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use random::Random;
use server::Go;

/// Inputs of each kind.
const INPUTS: u64 = if cfg!(feature = "test-all") {
    50_000
} else {
    10_000
};

/// What came of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Refused,
}

/// The program of the server, built once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| go::build("tests/readers/readers.go", None))
}

/// Compares the readers on every input, over all cores. `compare` says how sealift judged, or what is not the same.
fn on_all_inputs(
    kind: &str,
    make: impl Fn(&mut Random) -> Vec<u8> + Sync,
    compare: impl Fn(&[u8], &mut Go) -> Result<Verdict, String> + Sync,
) {
    let number = |name, otherwise| std::env::var(name).map_or(otherwise, |value| value.parse().unwrap());
    let first = number("READERS_FIRST", 0);
    let end = first + number("READERS_INPUTS", INPUTS);
    let (next, accepted) = (AtomicU64::new(first), AtomicU64::new(0));
    let work = || {
        let mut go = Go::start(program());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end {
                return go.stop();
            }
            let input = make(&mut Random::new(number));
            match compare(&input, &mut go) {
                Ok(Verdict::Accepted) => drop(accepted.fetch_add(1, Ordering::Relaxed)),
                Ok(Verdict::Refused) => {}
                Err(difference) => {
                    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{kind}-{number}"));
                    std::fs::write(&path, &input).unwrap();
                    panic!("input {number}, {}: {difference}", path.display());
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    // Inputs that are all refused, or none, would prove nothing.
    let (accepted, all) = (accepted.into_inner(), end - first);
    assert!(
        all < 1000 || (all / 20..all * 3 / 4).contains(&accepted),
        "{accepted} of {all} accepted"
    );
}
