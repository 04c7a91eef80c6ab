//! What progress says of a phase: bytes, rate and time left, in a line that fits the terminal.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use sealift::escape::Escaped;
use sealift::progress::Tally;

use super::size::Size;

/// The rate is that of the last so many seconds.
const WINDOW: Duration = Duration::from_secs(10);
/// Time between two samples of the rate.
const STEP: Duration = Duration::from_millis(250);
/// A rate over less time than this says little.
const SOON: Duration = Duration::from_millis(500);
/// Names have this width, so that bars are below each other.
const NAME: usize = 12;
/// The widest bar, and the narrowest that is drawn.
const BAR: [usize; 2] = [28, 8];
/// Characters beside the bar that a line has at most, as a rule.
const BESIDE: usize = 62;

/// Measures a phase.
pub struct Meter {
    name: String,
    total: Option<u64>,
    tally: Tally,
    started: Instant,
    /// Bytes that had moved, and when.
    samples: VecDeque<(Instant, u64)>,
    /// The same at the last count.
    last: (Instant, u64),
}

impl Meter {
    /// A phase begins.
    pub fn new(name: &str, total: Option<u64>, now: Instant) -> Meter {
        Meter {
            name: Escaped(name).to_string(),
            total,
            tally: Tally::default(),
            started: now,
            samples: VecDeque::from([(now, 0)]),
            last: (now, 0),
        }
    }

    /// Counts.
    pub fn count(&mut self, now: Instant, count: impl FnOnce(&mut Tally)) {
        count(&mut self.tally);
        self.last = (now, self.tally.moved());
        let is_due = |(sampled, _): &(Instant, u64)| now.saturating_duration_since(*sampled) >= STEP;
        if self.samples.back().is_none_or(is_due) {
            self.samples.push_back(self.last);
            // One that is older stays, to measure from.
            while self.samples.get(1).is_some_and(|sample| is_old(sample, now)) {
                self.samples.pop_front();
            }
        }
    }

    /// Bytes per second, if enough time has passed.
    fn rate(&self, now: Instant) -> Option<u64> {
        let samples = self.samples.iter().chain([&self.last]);
        let old = samples.rev().find(|sample| is_old(sample, now));
        let (since, moved) = *old.or(self.samples.front())?;
        let time = now.saturating_duration_since(since);
        let bytes = u128::from(self.tally.moved().saturating_sub(moved));
        let rate = (bytes * 1000).checked_div(time.as_millis())?;
        u64::try_from(rate).ok().filter(|_| time >= SOON)
    }

    /// The phase in words, without a bar.
    pub fn text(&self, now: Instant) -> String {
        let parts = self.parts(now);
        format!("{}: {}", self.name, parts.join(", "))
    }

    /// The phase as a line of text, in at most `width` characters if there is room for the name and the bytes.
    pub fn line(&self, now: Instant, width: usize) -> String {
        let bar = self
            .total
            .map(|total| bar(self.tally.done(), total, &self.name, width));
        fitting(&self.name, &bar.unwrap_or_default(), &self.parts(now), width)
    }

    /// Bytes, rate and time, as far as they are known.
    fn parts(&self, now: Instant) -> Vec<String> {
        let done = self.tally.done();
        let rate = self.rate(now).filter(|_| done > 0);
        let per_second = rate.map(|rate| format!("{}/s", Size(rate)));
        let (bytes, time) = match self.total {
            Some(total) => {
                let rate = rate.filter(|rate| *rate > 0);
                let left = rate.map(|rate| total.saturating_sub(done).div_ceil(rate));
                (
                    Some(of(done, total)),
                    left.map(|left| format!("{} left", Time(left))),
                )
            }
            None => {
                let elapsed = now.saturating_duration_since(self.started).as_secs();
                (
                    (done > 0).then(|| Size(done).to_string()),
                    Some(Time(elapsed).to_string()),
                )
            }
        };
        [bytes, per_second, time].into_iter().flatten().collect()
    }
}

fn is_old(sample: &(Instant, u64), now: Instant) -> bool {
    now.saturating_duration_since(sample.0) >= WINDOW
}

/// A blob as a line of text, below that of its phase.
pub fn blob_line(name: &str, done: u64, size: u64, width: usize) -> String {
    fitting(name, &bar(done, size, name, width), &[of(done, size)], width)
}

fn of(done: u64, total: u64) -> String {
    format!("{} of {}", Size(done), Size(total))
}

/// A bar as wide as there is room for, or nothing.
fn bar(done: u64, total: u64, name: &str, width: usize) -> String {
    let [widest, narrowest] = BAR;
    let longer = name.chars().count().saturating_sub(NAME);
    let columns = width.saturating_sub(BESIDE).min(widest).saturating_sub(longer);
    if columns < narrowest {
        return String::new();
    }
    let full = u128::from(done.min(total)) * columns as u128;
    let full = full
        .checked_div(total.into())
        .map_or(columns, |full| usize::try_from(full).unwrap_or(columns));
    let head = if full < columns { ">" } else { "" };
    format!("[{}{head:<rest$}]", "=".repeat(full), rest = columns - full)
}

/// The name, the bar and as many of the parts as fit; the last one, the time, is worth more than those in the middle.
fn fitting(name: &str, bar: &str, parts: &[String], width: usize) -> String {
    let start = match bar {
        "" => format!("{name}: "),
        bar => format!("{name:>NAME$} {bar} "),
    };
    let mut line = start.clone() + &parts.join(", ");
    if line.chars().count() > width
        && let [first, .., last] = parts
    {
        line = format!("{start}{first}, {last}");
    }
    if line.chars().count() > width
        && let [first, ..] = parts
    {
        line = start + first;
    }
    line.chars().take(width).collect()
}

/// Seconds as people say them.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes, seconds) = (self.0 / 3600, self.0 / 60 % 60, self.0 % 60);
        match self.0 {
            0..60 => write!(f, "{seconds} s"),
            60..600 => write!(f, "{minutes} min {seconds} s"),
            600..3600 => write!(f, "{minutes} min"),
            3600..360_000 => write!(f, "{hours} h {minutes} min"),
            _ => f.write_str("days"),
        }
    }
}

#[cfg(test)]
mod tests {
    use sealift::oci::Digest;

    use super::*;

    const MB: u64 = 1_000_000;

    /// A phase of 1 GB whose blob was there up to 300 MB, and that moves 20 MB a second for so many seconds.
    fn after(seconds: u64, name: &str) -> (Meter, Instant) {
        let start = Instant::now();
        let blob = Digest::sha256(b"blob");
        let mut meter = Meter::new(name, Some(1000 * MB), start);
        meter.count(start, |tally| tally.started(&blob, 1000 * MB, 300 * MB));
        for tenth in 1..=seconds * 10 {
            let now = start + Duration::from_millis(tenth * 100);
            meter.count(now, |tally| tally.advanced(&blob, 2 * MB));
        }
        (meter, start + Duration::from_secs(seconds))
    }

    #[test]
    fn a_line_fits_the_terminal() {
        let (meter, now) = after(15, "saving");
        for (width, expected) in [
            (
                120,
                "      saving [================>           ] 600 MB of 1.0 GB, 20.0 MB/s, 20 s left",
            ),
            (
                79,
                "      saving [==========>      ] 600 MB of 1.0 GB, 20.0 MB/s, 20 s left",
            ),
            (60, "saving: 600 MB of 1.0 GB, 20.0 MB/s, 20 s left"),
            (39, "saving: 600 MB of 1.0 GB, 20 s left"),
            (30, "saving: 600 MB of 1.0 GB"),
            (10, "saving: 60"),
        ] {
            assert_eq!(meter.line(now, width), expected);
        }
        let (meter, now) = after(15, "sending and unpacking");
        for width in 0..150 {
            assert!(meter.line(now, width).chars().count() <= width, "{width}");
        }
        let text = "sending and unpacking [====>   ] 600 MB of 1.0 GB, 20.0 MB/s, 20 s left";
        assert_eq!(meter.line(now, 79), text);
        assert_eq!(blob_line("0123456789ab", 5, 10, 39), "0123456789ab: 5 B of 10 B");
    }

    #[test]
    fn the_rate_is_the_present_one_of_what_moves() {
        let (meter, now) = after(0, "saving");
        assert_eq!(meter.line(now, 60), "saving: 300 MB of 1.0 GB");
        let (meter, now) = after(2, "saving");
        assert_eq!(
            meter.line(now, 60),
            "saving: 340 MB of 1.0 GB, 20.0 MB/s, 33 s left"
        );
        let (meter, now) = after(20, "saving");
        // Half of the window has passed without anything that moved.
        let text = meter.line(now + WINDOW / 2, 60);
        assert!(text.starts_with("saving: 700 MB of 1.0 GB, 1"), "{text}");
        let text = meter.line(now + 2 * WINDOW, 60);
        assert_eq!(text, "saving: 700 MB of 1.0 GB, 0 B/s");
    }

    #[test]
    fn a_phase_of_unknown_size_shows_its_time() {
        let start = Instant::now();
        let mut meter = Meter::new("exporting images", None, start);
        let now = start + Duration::from_secs(75);
        assert_eq!(meter.line(now, 79), "exporting images: 1 min 15 s");
        meter.count(now, |tally| tally.advanced(&Digest::sha256(b"x"), 30 * MB));
        assert_eq!(
            meter.line(now, 79),
            "exporting images: 30.0 MB, 400 kB/s, 1 min 15 s"
        );
        assert_eq!(meter.line(now, 40), "exporting images: 30.0 MB, 1 min 15 s");
    }

    #[test]
    fn times_are_read_at_a_glance() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (125, "2 min 5 s"),
            (1500, "25 min"),
            (8000, "2 h 13 min"),
            (400_000, "days"),
        ] {
            assert_eq!(Time(seconds).to_string(), expected);
        }
    }
}
