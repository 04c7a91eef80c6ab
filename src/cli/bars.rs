//! Progress: bars on a terminal, an occasional plain line elsewhere, nothing with `--quiet`.

use std::collections::HashMap;
use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sealift::escape::Escaped;
use sealift::oci::Digest;
use sealift::progress::{Progress, Tally};

use super::output::Output;
use super::size::Size;

/// How often a plain line is printed.
const EVERY: Duration = Duration::from_secs(10);
/// Blobs smaller than this get no bar of their own, in bytes.
const SMALL: u64 = 1 << 20;

/// Chooses how to report: only warnings with `--quiet`, bars on a terminal, lines elsewhere and with `--json`.
/// With `--verbose`, each step and each blob is a line too.
pub fn progress(output: &Output) -> Arc<dyn Progress> {
    if output.is_quiet() {
        Arc::new(Quiet)
    } else if std::io::stderr().is_terminal() && !output.is_json() {
        Arc::new(Bars {
            verbose: output.is_verbose(),
            all: MultiProgress::default(),
            state: Mutex::default(),
        })
    } else {
        Arc::new(Lines {
            verbose: output.is_verbose(),
            line: Mutex::default(),
        })
    }
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
    all: MultiProgress,
    state: Mutex<BarState>,
}

#[derive(Default)]
struct BarState {
    total: Option<ProgressBar>,
    blobs: HashMap<Digest, ProgressBar>,
    tally: Tally,
}

impl BarState {
    fn count(&self) {
        if let Some(total) = &self.total {
            total.set_position(self.tally.done());
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Bars {
    fn state(&self) -> std::sync::MutexGuard<'_, BarState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            let _ = self.all.println(text());
        }
    }
}

impl Progress for Bars {
    fn phase(&self, name: &str, total_bytes: Option<u64>) {
        self.tell(|| step(name, total_bytes));
        let mut state = self.state();
        for (_, bar) in state.blobs.drain() {
            bar.finish_and_clear();
        }
        if let Some(previous) = state.total.take() {
            previous.finish_and_clear();
        }
        let bar = match total_bytes {
            Some(total) => ProgressBar::new(total).with_style(style(
                "{prefix:>12} [{bar:28}] {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left",
            )),
            None => ProgressBar::new_spinner().with_style(style("{prefix:>12} {spinner} {elapsed}")),
        };
        let bar = self.all.add(bar.with_prefix(Escaped(name).to_string()));
        // At once, even if the work is short.
        bar.tick();
        // A bar that ticks by itself is not drawn when it moves.
        if total_bytes.is_none() {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        state.total = Some(bar);
        state.tally = Tally::default();
    }

    fn blob_started(&self, digest: &Digest, size: u64, done: u64) {
        self.tell(|| started(digest, size, done));
        let mut state = self.state();
        state.tally.started(digest, size, done);
        state.count();
        if let Some(bar) = state.blobs.get(digest) {
            bar.set_position(done);
        } else if size >= SMALL {
            let template = "{prefix:>12} [{bar:28}] {decimal_bytes}/{decimal_total_bytes}";
            let bar = ProgressBar::new(size)
                .with_style(style(template))
                .with_prefix(digest.short());
            let bar = match &state.total {
                Some(total) => self.all.insert_before(total, bar),
                None => self.all.add(bar),
            };
            bar.inc(done);
            state.blobs.insert(*digest, bar);
        }
    }

    fn blob_advanced(&self, digest: &Digest, bytes: u64) {
        let mut state = self.state();
        state.tally.advanced(digest, bytes);
        state.count();
        if let Some(bar) = state.blobs.get(digest) {
            bar.inc(bytes);
        }
    }

    fn blob_finished(&self, digest: &Digest) {
        let mut state = self.state();
        state.tally.finished(digest);
        state.count();
        if let Some(bar) = state.blobs.remove(digest) {
            bar.finish_and_clear();
        }
    }

    fn done(&self) {
        let BarState { total, blobs, .. } = std::mem::take(&mut *self.state());
        for bar in blobs.into_values().chain(total) {
            bar.finish_and_clear();
        }
        let _ = self.all.clear();
    }

    fn note(&self, text: &str) {
        let _ = self.all.println(format!("note: {}", Escaped(text)));
    }

    fn warn(&self, text: &str) {
        let _ = self.all.println(format!("warning: {}", Escaped(text)));
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.done();
    }
}

/// Prints a line on standard error. A closed standard error does not end the work.
fn say(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

struct Lines {
    verbose: bool,
    line: Mutex<Option<Line>>,
}

struct Line {
    name: String,
    total: Option<u64>,
    tally: Tally,
    started: Instant,
    printed: Instant,
}

impl Lines {
    fn count(&self, count: impl FnOnce(&mut Tally)) {
        let mut guard = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = guard.as_mut() else { return };
        count(&mut line.tally);
        if line.printed.elapsed() < EVERY {
            return;
        }
        line.printed = Instant::now();
        let seconds = line.started.elapsed().as_secs().max(1);
        let done = line.tally.done();
        let rate = done / seconds;
        match line.total {
            Some(total) => {
                let left = total.saturating_sub(done) / rate.max(1);
                say(format_args!(
                    "{}: {} of {}, {}/s, {left} s left",
                    line.name,
                    Size(done),
                    Size(total),
                    Size(rate)
                ));
            }
            None => say(format_args!("{}: {}, {}/s", line.name, Size(done), Size(rate))),
        }
    }
}

impl Progress for Lines {
    fn phase(&self, name: &str, total_bytes: Option<u64>) {
        let now = Instant::now();
        let line = Line {
            name: Escaped(name).to_string(),
            total: total_bytes,
            tally: Tally::default(),
            started: now,
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
