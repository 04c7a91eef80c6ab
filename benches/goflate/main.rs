//! Speed of the gzip encoder beside Go's own, at the levels -1 and 1, on the same input in one run.
//!
//! The input is what layers are made of: 32 MiB of files of /usr/lib, and as much of /usr/share; or the file that
//! `BENCH_INPUT` names. Both sides take one core, in turn;
//! processor time is compared, so that others on the machine count little, in medians of `BENCH_ROUNDS` (5) rounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure here ends the run
#![allow(clippy::cast_precision_loss)] // of figures that are printed with one digit

#[path = "../../tests/goflate/go.rs"]
#[allow(dead_code)] // only the building of the program is used
mod go;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode};

use sealift::goflate::{Encoder, Level};

/// Bytes of the input.
const INPUT: usize = 64 << 20;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS; // `cargo test --benches`
    }
    let program = go::digests();
    let path = program.with_extension("input");
    fs::write(&path, input()).unwrap();
    let mut missed = false;
    for (level, promised) in [(Level::DEFAULT, 40.0), (Level::FASTEST, 150.0)] {
        missed |= !compare(level, promised, &program, &path);
    }
    fs::remove_file(path).unwrap();
    fs::remove_file(program).unwrap();
    if missed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Prints both speeds in MB/s; returns whether ours meets the target.
fn compare(level: Level, promised: f64, program: &Path, path: &Path) -> bool {
    let input = fs::read(path).unwrap();
    let rounds = std::env::var("BENCH_ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = processor_seconds();
        let mut encoder = Encoder::new(io::sink(), level);
        input
            .chunks(32 << 10)
            .for_each(|write| encoder.write_all(write).unwrap());
        encoder.finish().unwrap();
        ours.push(processor_seconds() - start);
        let go = Command::new(program)
            .arg(level.number().to_string())
            .arg(path)
            .output()
            .unwrap();
        assert!(go.status.success(), "{go:?}");
        theirs.push(String::from_utf8(go.stdout).unwrap().trim().parse().unwrap());
    }
    let speed = |seconds: &mut Vec<f64>| input.len() as f64 / 1e6 / median(seconds);
    let (ours, theirs) = (speed(&mut ours), speed(&mut theirs));
    let holds = ours >= promised;
    println!(
        "{} level {}: {ours:.1} MB/s, Go {theirs:.1} MB/s, ratio {:.2} (promised: {promised:.0} MB/s)",
        if holds { "ok    " } else { "MISSED" },
        level.number(),
        ours / theirs,
    );
    holds
}

/// This thread's time on a processor: the first field of schedstat, in nanoseconds.
fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What is in /usr/lib and /usr/share, in the order of names.
fn input() -> Vec<u8> {
    if let Some(path) = std::env::var_os("BENCH_INPUT") {
        return fs::read(path).unwrap();
    }
    let mut input = Vec::new();
    for (folder, share) in [("/usr/lib", INPUT / 2), ("/usr/share", INPUT)] {
        append(Path::new(folder), &mut input, share);
    }
    input
}

/// Appends the files below a folder until there are so many bytes.
fn append(folder: &Path, input: &mut Vec<u8>, until: usize) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if input.len() >= until {
            return input.truncate(until);
        }
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            append(&path, input, until);
        } else if path.is_file() {
            input.extend(fs::read(&path).unwrap_or_default());
        }
    }
    input.truncate(until);
}
