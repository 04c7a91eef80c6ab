//! One layer, tried with one encoder after the other.

use std::io::{self, Read};

use super::boundaries::Boundaries;
use super::compressor::Compressor;
use super::encoders::{self, Deflate, Writes};
use super::layers::{Expected, Job, Outcome, Reason, Recompressed, Recompression};
use super::spool::{Output, Spool};
use crate::error::{Error, Place, Problem, Result};
use crate::oci::{Digest, Hasher};

/// Uncompressed bytes that are read, hashed and compressed at once.
const PIECE: usize = 256 << 10;
/// A small difference, in stored bytes.
const NEAR: u64 = 1 << 10;

/// One worker: its buffer, and its temporary file once it has compressed something.
pub(super) struct Worker<'a> {
    shared: &'a Recompression<'a>,
    buffer: Vec<u8>,
    spool: Option<Spool>,
}

/// The results of the first pass over a layer.
struct Seen {
    boundaries: Boundaries,
    /// Uncompressed bytes.
    size: u64,
}

/// The state of the first pass over a layer.
struct Looking {
    hasher: Hasher,
    boundaries: Boundaries,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Recompression<'a>) -> Worker<'a> {
        Worker {
            shared,
            buffer: Vec::new(),
            spool: None,
        }
    }

    /// Compresses a layer with one encoder after the other, until it has the expected digest.
    pub(super) fn recompress(&mut self, job: &Job<'_>) -> Result<Outcome> {
        let mut seen: Option<Seen> = None;
        let mut tried: Vec<Deflate> = Vec::new();
        let mut misses: Vec<Miss> = Vec::new();
        while let Some(deflate) = match job.layer.expected {
            Expected::Anything(one) => Some(one).filter(|one| !tried.contains(one)),
            _ => self.shared.next(&tried),
        } {
            tried.push(deflate);
            if seen
                .as_ref()
                .is_some_and(|seen| is_ruled_out(deflate, &misses, &job.layer.expected, seen))
            {
                continue;
            }
            match self.attempt(job, deflate, &mut seen)? {
                Ok(recompressed) => {
                    self.shared.hit(deflate);
                    self.shared.progress.blob_finished(&job.layer.diff_id);
                    return Ok(Outcome::Recompressed(recompressed));
                }
                Err(miss) => misses.push(miss),
            }
        }
        self.shared.progress.blob_finished(&job.layer.diff_id);
        let deflates: Vec<Deflate> = misses.iter().map(|miss| miss.deflate).collect();
        Ok(Outcome::Unmatched {
            reason: Reason::Encoder {
                tried: encoders::names(&deflates),
            },
            size: seen.map_or(job.size, |seen| seen.size),
            made: misses.iter().filter_map(|miss| miss.size).collect(),
        })
    }

    /// Compresses a layer once. The first pass also verifies the uncompressed bytes against the diff id.
    fn attempt(
        &mut self,
        job: &Job<'_>,
        deflate: Deflate,
        seen: &mut Option<Seen>,
    ) -> Result<Result<Recompressed, Miss>> {
        let spool = match &mut self.spool {
            Some(spool) => spool,
            empty => empty.insert(match self.shared.options.is_trial {
                true => Spool::of_trial(&self.shared.options.tmpdir),
                false => Spool::new(&self.shared.options.tmpdir)?,
            }),
        };
        self.buffer.resize(PIECE, 0);
        let (limit, like) = match &job.layer.expected {
            Expected::Exactly(stored) => (Some(stored.size), &stored.digest),
            Expected::OneOf(digests) => (None, digests.first().unwrap_or(&job.layer.diff_id)),
            Expected::Anything(_) => (None, &job.layer.diff_id),
        };
        let mut pass = Pass {
            shared: self.shared,
            spool,
            diff_id: &job.layer.diff_id,
            deflate,
            compressor: Some(Compressor::new(deflate, spool.begin(deflate, limit, like))),
            at: 0,
            dropped: None,
        };
        self.shared.progress.blob_started(&job.layer.diff_id, job.size, 0);
        let output = pass.run(&mut self.buffer, seen);
        let dropped = pass.dropped;
        if output.is_err() {
            spool.drop_rest()?;
        }
        let output = output?;
        let found = output.as_ref().and_then(|output| fit(job, output));
        if let (Some(output), Some((encoder, digest))) = (&output, found) {
            let name = format!("{}, recompressed", job.layer.diff_id);
            return Ok(Ok(Recompressed {
                digest,
                size: output.count(),
                encoder,
                stored: spool.keep(output, encoder, name)?,
            }));
        }
        spool.drop_rest()?;
        Ok(Err(Miss {
            deflate,
            size: output.map(|output| output.count()),
            dropped,
        }))
    }
}

/// A failed attempt.
struct Miss {
    deflate: Deflate,
    /// Stored bytes, if they were not more than expected.
    size: Option<u64>,
    /// Uncompressed bytes after which they were more.
    dropped: Option<u64>,
}

/// Whether these attempts rule an encoder out.
fn is_ruled_out(deflate: Deflate, misses: &[Miss], expected: &Expected, seen: &Seen) -> bool {
    let size = match expected {
        Expected::Exactly(stored) => Some(stored.size),
        Expected::OneOf(_) | Expected::Anything(_) => None,
    };
    match (deflate, size) {
        (Deflate::Go(..), _) => misses.iter().any(|miss| miss.rules_out(deflate, size, seen)),
        (Deflate::Zlib(level), Some(size)) => !zlib_may_reach(level, misses, size, seen.size),
        (Deflate::Zlib(_), None) => false,
    }
}

/// Whether zlib may produce this stored size at a level, given the sizes at other levels: about as much as at
/// the next levels, or something between. For some layers a higher level produces more: by up to a tenth,
/// mostly up to level 3, which uses another algorithm than those above.
fn zlib_may_reach(level: u32, misses: &[Miss], expected: u64, uncompressed: u64) -> bool {
    let tried = || {
        misses.iter().filter_map(|miss| match miss.deflate {
            Deflate::Zlib(level) => Some((level, miss.sizes(expected, uncompressed))),
            Deflate::Go(..) => None,
        })
    };
    let lower = tried()
        .filter(|(tried, _)| *tried < level)
        .max_by_key(|(tried, _)| *tried);
    let higher = tried()
        .filter(|(tried, _)| *tried > level)
        .min_by_key(|(tried, _)| *tried);
    let beyond = NEAR + expected / 8;
    let between = if level > 3 { NEAR + expected / 32 } else { beyond };
    let (least, most) = match (lower, higher) {
        (Some((_, lower)), Some((_, higher))) => (
            lower.0.min(higher.0).saturating_sub(between),
            lower.1.max(higher.1).saturating_add(between),
        ),
        (Some((_, lower)), None) => (0, lower.1.saturating_add(beyond)),
        (None, Some((_, higher))) => (higher.0.saturating_sub(beyond), u64::MAX),
        (None, None) => (0, u64::MAX),
    };
    (least..=most).contains(&expected)
}

impl Miss {
    /// Whether another encoder of Go's cannot succeed after this one.
    fn rules_out(&self, other: Deflate, expected: Option<u64>, seen: &Seen) -> bool {
        let (Deflate::Go(level, writes), Deflate::Go(other_level, other_writes)) = (self.deflate, other)
        else {
            return false;
        };
        let ends = |writes: Writes| seen.boundaries.ends(writes);
        level == other_level && (ends(writes) == ends(other_writes) || self.is_far_from(expected, seen.size))
    }

    /// Whether the output's size differs from the expected one by more than the ends of Writes can explain.
    fn is_far_from(&self, expected: Option<u64>, uncompressed: u64) -> bool {
        expected.is_some_and(|expected| {
            let (least, most) = self.sizes(expected, uncompressed);
            let near = NEAR + least / 1024;
            least.saturating_sub(near) > expected || most.saturating_add(near) < expected
        })
    }

    /// The least and the most stored bytes that the whole layer may have produced.
    fn sizes(&self, expected: u64, uncompressed: u64) -> (u64, u64) {
        match (self.size, self.dropped) {
            (Some(size), _) => (size, size),
            // Whatever the rest is, DEFLATE produces at least a thousandth of it.
            (None, at) => {
                let rest = uncompressed.saturating_sub(at.unwrap_or(uncompressed));
                (expected.saturating_add(rest / 1032), u64::MAX)
            }
        }
    }
}

/// The encoder of a layer, and its digest, if that is an expected one.
fn fit(job: &Job<'_>, output: &Output) -> Option<(&'static super::Encoder, Digest)> {
    output.digests().find(|(_, digest)| match &job.layer.expected {
        Expected::Exactly(stored) => stored.size == output.count() && stored.digest == *digest,
        Expected::OneOf(digests) => digests.contains(digest),
        Expected::Anything(_) => true,
    })
}

/// One pass over a layer.
struct Pass<'a> {
    shared: &'a Recompression<'a>,
    spool: &'a Spool,
    diff_id: &'a Digest,
    deflate: Deflate,
    /// Dropped when the output exceeds the expected size.
    compressor: Option<Compressor<Output>>,
    /// Uncompressed bytes so far.
    at: u64,
    /// Uncompressed bytes after which the output exceeded the expected size.
    dropped: Option<u64>,
}

impl Pass<'_> {
    /// Compresses all bytes; `None` if the output exceeds the expected size.
    fn run(&mut self, buffer: &mut [u8], seen: &mut Option<Seen>) -> Result<Option<Output>> {
        let mut looking = seen.is_none().then(|| Looking {
            hasher: Hasher::like(self.diff_id),
            boundaries: Boundaries::new(),
        });
        let mut reader = self.shared.uncompressed.open(self.diff_id)?;
        // The first pass goes to the end, because the bytes must be verified.
        while looking.is_some() || self.compressor.is_some() {
            self.shared.check()?;
            let count = fill(&mut *reader, buffer).map_err(|error| self.unreadable(error))?;
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else {
                break;
            };
            if let Some(looking) = &mut looking {
                looking.hasher.update(piece);
                looking.boundaries.take(piece);
            }
            self.take(piece, looking.as_ref().map(|looking| &looking.boundaries), seen)?;
            self.shared.progress.blob_advanced(self.diff_id, length(piece));
        }
        if let Some(Looking { hasher, boundaries }) = looking {
            self.prove(hasher)?;
            let size = self.at;
            *seen = Some(Seen { boundaries, size });
        }
        let output = self.compressor.take().map(Compressor::finish).transpose();
        let output = output.map_err(|error| self.spool.full(error))?;
        Ok(output.filter(|output| !output.is_over()))
    }

    /// Compresses a piece, with a cut wherever a Write ended in it.
    fn take(&mut self, piece: &[u8], now: Option<&Boundaries>, seen: &Option<Seen>) -> Result<()> {
        let start = self.at;
        self.at = start.saturating_add(length(piece));
        let Some(compressor) = &mut self.compressor else {
            return Ok(());
        };
        let ends = match (self.deflate, now.or(seen.as_ref().map(|seen| &seen.boundaries))) {
            (Deflate::Go(_, writes), Some(boundaries)) => boundaries.ends_within(start, self.at, writes),
            _ => Vec::new(),
        };
        let mut rest = piece;
        let mut done = start;
        let mut written = Ok(());
        for end in ends {
            let Some((before, after)) = usize::try_from(end - done)
                .ok()
                .and_then(|count| rest.split_at_checked(count))
            else {
                break;
            };
            written = written.and_then(|()| compressor.take(before));
            compressor.cut();
            (rest, done) = (after, end);
        }
        written
            .and_then(|()| compressor.take(rest))
            .map_err(|error| self.spool.full(error))?;
        if compressor.writer().is_over() {
            self.compressor = None;
            self.dropped = Some(self.at);
        }
        Ok(())
    }

    fn prove(&self, hasher: Hasher) -> Result<()> {
        let (expected, found) = (*self.diff_id, hasher.finish());
        if found == expected {
            return Ok(());
        }
        Err(Error::refused(
            Place::blob(expected),
            Problem::DiffIdDiffers { expected, found },
        ))
    }

    fn unreadable(&self, error: io::Error) -> Error {
        Error::from_reader(error, Error::io("read", format!("layer {}", self.diff_id)))
    }
}

/// Reads until the buffer is full or the reader ends.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) {
        match reader.read(free) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
