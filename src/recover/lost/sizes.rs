//! Searches for the one stored size that is missing in a manifest. The manifest's digest proves it.
//!
//! Everything before the number is hashed once. The search starts at the sizes that encoders produced, and goes
//! outward from each.

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::templates::{DOCKER_PUSH, Template};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::oci::{Digest, Hasher};
use crate::workers;

/// Distances from a start that are tried at a time.
const STRIDE: u64 = 256;
/// How much further the search goes with the likeliest template than with each of the many others.
const HEAD_START: u64 = 8;
/// Most starts of the search.
const MAX_STARTS: usize = 4;
/// Placeholder for the missing size in a manifest's text: longer than any real one.
const HOLE: u64 = u64::MAX;

/// The possible sizes, and where to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Near {
    least: u64,
    most: u64,
    starts: Vec<u64>,
}

impl Near {
    /// The sizes for a layer with this many uncompressed bytes, for which encoders produced these.
    pub(super) fn of(uncompressed: u64, made: &[u64]) -> Near {
        // DEFLATE produces at least a thousandth of its input. Incompressible data adds the frames of blocks
        // and gzip members.
        let least = uncompressed / 1100;
        let most = uncompressed
            .saturating_add(uncompressed / 256)
            .saturating_add(4096);
        let mut starts: Vec<u64> = Vec::new();
        for size in made.iter().map(|size| (*size).clamp(least, most)) {
            // Starts that are close together count as one.
            let is_near = |start: &u64| start.abs_diff(size) <= size / 512;
            if starts.len() < MAX_STARTS && !starts.iter().any(is_near) {
                starts.push(size);
            }
        }
        if starts.is_empty() {
            starts.push(uncompressed / 5 * 2);
        }
        Near { least, most, starts }
    }

    /// Distance from the starts to the farthest sizes.
    fn reach(&self) -> u64 {
        let far = |start: &u64| (start.saturating_sub(self.least)).max(self.most.saturating_sub(*start));
        self.starts.iter().map(far).max().unwrap_or_default()
    }

    /// The sizes at a distance from the nth start, without those that are nearer to another.
    fn at(&self, nth: usize, distance: u64) -> impl Iterator<Item = u64> + '_ {
        let start = self.starts.get(nth).copied();
        let below = start.and_then(|start| start.checked_sub(distance));
        let above = start.and_then(|start| start.checked_add(distance));
        let sizes = below.into_iter().chain(above.filter(|_| distance > 0));
        sizes.filter(move |size| {
            let is_nearer = |(other, start): (usize, &u64)| {
                let far = start.abs_diff(*size);
                far < distance || far == distance && other < nth
            };
            (self.least..=self.most).contains(size) && !self.starts.iter().enumerate().any(is_nearer)
        })
    }
}

/// A manifest with a missing size, at one or several places.
pub(super) struct Gap<'a> {
    template: &'static Template,
    /// The text before the first hole.
    head: String,
    /// The state of the hash after it.
    state: Hasher,
    /// The text after each hole.
    rest: Vec<String>,
    near: &'a Near,
}

impl<'a> Gap<'a> {
    /// Takes the function that writes the manifest with a size.
    pub(super) fn new(
        digest: &Digest,
        template: &'static Template,
        near: &'a Near,
        write: &dyn Fn(u64) -> String,
    ) -> Gap<'a> {
        let text = write(HOLE);
        let hole = HOLE.to_string();
        let mut parts = text.split(hole.as_str()).map(str::to_owned);
        let head = parts.next().unwrap_or_default();
        let mut state = Hasher::like(digest);
        state.update(head.as_bytes());
        Gap {
            template,
            head,
            state,
            rest: parts.collect(),
            near,
        }
    }

    fn has(&self, digest: &Digest, size: u64) -> bool {
        let mut text = [0; 20];
        let mut free = text.as_mut_slice();
        // Twenty digits are enough for any number.
        let _ = write!(free, "{size}");
        let unused = free.len();
        let digits = text.get(..text.len() - unused).unwrap_or_default();
        let mut hasher = self.state.clone();
        for part in &self.rest {
            hasher.update(digits);
            hasher.update(part.as_bytes());
        }
        hasher.finish() == *digest
    }

    fn text(&self, size: u64) -> String {
        let mut text = self.head.clone();
        for part in &self.rest {
            text.push_str(&size.to_string());
            text.push_str(part);
        }
        text
    }
}

/// One of many pieces of work that recur, each time further out.
struct Turn<'a> {
    gap: &'a Gap<'a>,
    /// Which of its starts.
    start: usize,
    /// Number of [`STRIDE`]s in each round, and which of them.
    pace: u64,
    step: u64,
}

impl Turn<'_> {
    /// The size that the digest proves, if it is in this round.
    fn take(&self, round: u64, digest: &Digest) -> Option<u64> {
        let first = (round * self.pace + self.step) * STRIDE;
        (first..first + STRIDE)
            .flat_map(|distance| self.gap.near.at(self.start, distance))
            .find(|size| self.gap.has(digest, *size))
    }
}

/// Searches on all cores for this time. Returns the template and the manifest's bytes, or whether every
/// possible size was tried.
///
/// # Errors
///
/// [`crate::Error::Interrupted`].
pub(super) fn search(
    digest: &Digest,
    gaps: &[Gap<'_>],
    patience: Duration,
    interrupt: &Interrupt,
) -> Result<Result<(&'static Template, Vec<u8>), bool>> {
    let mut turns = Vec::new();
    for gap in gaps {
        let pace = if *gap.template == DOCKER_PUSH {
            HEAD_START
        } else {
            1
        };
        for start in 0..gap.near.starts.len() {
            turns.extend((0..pace).map(|step| Turn {
                gap,
                start,
                pace,
                step,
            }));
        }
    }
    let reach = gaps.iter().map(|gap| gap.near.reach()).max().unwrap_or_default();
    let rounds = reach / STRIDE + 1;
    let per_round = u64::try_from(turns.len()).unwrap_or(u64::MAX);
    let deadline = Instant::now() + patience;
    let next = AtomicU64::new(0);
    let is_done = AtomicBool::new(false);
    let is_late = AtomicBool::new(false);
    let found = Mutex::new(None);
    let work = || {
        while !is_done.load(Ordering::Relaxed) && interrupt.check().is_ok() {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(round) = at.checked_div(per_round).filter(|round| *round < rounds) else {
                break;
            };
            let turn = usize::try_from(at % per_round).ok().and_then(|at| turns.get(at));
            let Some(turn) = turn else { break };
            if let Some(size) = turn.take(round, digest) {
                *found.lock().unwrap_or_else(PoisonError::into_inner) = Some((turn.gap, size));
                is_done.store(true, Ordering::Relaxed);
            }
            if Instant::now() > deadline {
                is_late.store(true, Ordering::Relaxed);
                is_done.store(true, Ordering::Relaxed);
            }
        }
    };
    workers::run(thread::available_parallelism().map_or(1, NonZeroUsize::get), work);
    interrupt.check()?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(found
        .map(|(gap, size)| (gap.template, gap.text(size).into_bytes()))
        .ok_or(!is_late.into_inner()))
}

#[cfg(test)]
#[path = "sizes_tests.rs"]
mod tests;
