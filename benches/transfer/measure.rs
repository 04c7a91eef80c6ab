//! The time and memory that a command takes.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// The cost of one run, including the processes that it started and waited for.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Seconds from start to end.
    pub wall: f64,
    /// Seconds of processor time, in steps of a hundredth.
    pub cpu: f64,
    /// The largest resident size of the command itself, in bytes, mapped files included.
    pub peak: u64,
}

/// Runs a command to its end; one that fails ends the measurement, but for exit code 6: done, digest not shown.
pub fn run_measured(command: &mut Command) -> Cost {
    let before = children_seconds();
    let start = Instant::now();
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        peak = peak.max(high_water(&status));
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let wall = start.elapsed().as_secs_f64();
    assert!(matches!(ended.code(), Some(0 | 6)), "{ended}: {command:?}");
    Cost {
        wall,
        cpu: children_seconds() - before,
        peak,
    }
}

/// The median.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn high_water(status: &str) -> u64 {
    let text = fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Processor time of children that ended: cutime and cstime of proc(5).
fn children_seconds() -> f64 {
    ticks("/proc/self/stat", [13, 14])
}

/// Processor time of a process that runs: utime and stime of proc(5).
pub fn process_seconds(pid: Pid) -> f64 {
    ticks(&format!("/proc/{}/stat", pid.as_raw_nonzero()), [11, 12])
}

/// The sum of two fields after the name in a process's `stat`, in seconds, at Linux' 100 ticks a second.
fn ticks(stat: &str, fields: [usize; 2]) -> f64 {
    let stat = fs::read_to_string(stat).unwrap();
    let values: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields
        .iter()
        .map(|n| values[*n].parse::<f64>().unwrap())
        .sum::<f64>()
        / 100.0
}
