//! Progress: bars on a terminal, plain lines on one that cannot draw them and with `--verbose`, else only notes and
//! warnings.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sealift::escape::Escaped;
use sealift::oci::Digest;
use sealift::progress::{Progress, Tally};

use super::meter::Meter;
use super::output::Output;
use super::screen::{Screen, say};
use super::size::Size;

/// How often a plain line is printed.
const EVERY: Duration = Duration::from_secs(10);
/// How often bars are drawn.
const TICK: Duration = Duration::from_millis(100);

/// Chooses how to report.
pub fn progress(output: &Output) -> Arc<dyn Progress> {
    let is_watched = std::io::stderr().is_terminal() && !output.is_json();
    if output.is_quiet() {
        Arc::new(Quiet)
    } else if is_watched && !is_dumb() {
        Arc::new(Bars::new(output.is_verbose()))
    } else {
        Arc::new(Lines {
            verbose: output.is_verbose(),
            counts: is_watched || output.is_verbose(),
            line: Mutex::default(),
        })
    }
}

/// Whether the terminal cannot move its cursor.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

fn step(name: &str, total_bytes: Option<u64>) -> String {
    match total_bytes {
        Some(total) => format!("{}: {}", Escaped(name), Size(total)),
        None => Escaped(name).to_string(),
    }
}

fn started(digest: &Digest, size: u64, done: u64) -> String {
    match done {
        0 => format!("{digest}: {}", Size(size)),
        done => format!("{digest}: {}, {} of it are there", Size(size), Size(done)),
    }
}

/// Reports only warnings.
struct Quiet;

impl Progress for Quiet {
    fn warn(&self, text: &str) {
        say(format_args!("warning: {}", Escaped(text)));
    }
}

struct Bars {
    verbose: bool,
    ends: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
}

impl Bars {
    fn new(verbose: bool) -> Bars {
        let ends = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ends);
        let draws = move || {
            while !end.load(Ordering::SeqCst) {
                std::thread::park_timeout(TICK);
                Screen::lock().draw();
            }
        };
        let ticker = std::thread::Builder::new().name("progress".into());
        Bars {
            verbose,
            ends,
            ticker: ticker.spawn(draws).ok(),
        }
    }

    fn tell(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            say(text());
        }
    }
}

impl Progress for Bars {
    fn phase(&self, name: &str, total_bytes: Option<u64>) {
        self.tell(|| step(name, total_bytes));
        Screen::lock().begin(Meter::new(name, total_bytes, Instant::now()));
    }

    fn blob_started(&self, digest: &Digest, size: u64, done: u64) {
        self.tell(|| started(digest, size, done));
        let mut screen = Screen::lock();
        screen.count(|tally| tally.started(digest, size, done));
        screen.blob(digest, size, done);
    }

    fn blob_advanced(&self, digest: &Digest, bytes: u64) {
        let mut screen = Screen::lock();
        screen.count(|tally| tally.advanced(digest, bytes));
        screen.advance(digest, bytes);
    }

    fn blob_finished(&self, digest: &Digest) {
        let mut screen = Screen::lock();
        screen.count(|tally| tally.finished(digest));
        screen.remove(digest);
    }

    fn done(&self) {
        Screen::lock().clear();
    }

    fn note(&self, text: &str) {
        say(format_args!("note: {}", Escaped(text)));
    }

    fn warn(&self, text: &str) {
        say(format_args!("warning: {}", Escaped(text)));
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            let _ = ticker.join();
        }
        self.done();
    }
}

struct Lines {
    /// Whether each step and each blob is a line.
    verbose: bool,
    /// Whether a line shows the bytes from time to time.
    counts: bool,
    line: Mutex<Option<Line>>,
}

struct Line {
    meter: Meter,
    printed: Instant,
}

impl Lines {
    fn count(&self, count: impl FnOnce(&mut Tally)) {
        let mut guard = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = guard.as_mut().filter(|_| self.counts) else {
            return;
        };
        let now = Instant::now();
        line.meter.count(now, count);
        if now.saturating_duration_since(line.printed) >= EVERY {
            line.printed = now;
            say(line.meter.text(now));
        }
    }
}

impl Progress for Lines {
    fn phase(&self, name: &str, total_bytes: Option<u64>) {
        let now = Instant::now();
        let line = Line {
            meter: Meter::new(name, total_bytes, now),
            printed: now,
        };
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
        if self.verbose {
            say(step(name, total_bytes));
        }
    }

    fn blob_started(&self, digest: &Digest, size: u64, done: u64) {
        if self.verbose {
            say(started(digest, size, done));
        }
        self.count(|tally| tally.started(digest, size, done));
    }

    fn blob_advanced(&self, digest: &Digest, bytes: u64) {
        self.count(|tally| tally.advanced(digest, bytes));
    }

    fn blob_finished(&self, digest: &Digest) {
        self.count(|tally| tally.finished(digest));
    }

    fn note(&self, text: &str) {
        say(format_args!("note: {}", Escaped(text)));
    }

    fn warn(&self, text: &str) {
        say(format_args!("warning: {}", Escaped(text)));
    }
}
