//! One layer, tried with one encoder after the other.

use std::io::{self, Read};

use super::boundaries::Boundaries;
use super::encoders::{Deflate, Writes};
use super::layers::{Expected, Job, Outcome, Packed, Packing, Reason};
use super::packer::Packer;
use super::spool::{Output, Spool};
use crate::error::{Error, Place, Problem, Result};
use crate::oci::{Digest, Hasher};

/// Uncompressed bytes that are read, hashed and packed at once.
const PIECE: usize = 256 << 10;

/// One worker: its buffer, and its temporary file once it has packed something.
pub(super) struct Worker<'a> {
    packing: &'a Packing<'a>,
    buffer: Vec<u8>,
    spool: Option<Spool>,
}

/// What the first pass over a layer has found out.
struct Seen {
    boundaries: Boundaries,
    /// Uncompressed bytes.
    size: u64,
}

/// What the first pass over a layer is finding out.
struct Looking {
    hasher: Hasher,
    boundaries: Boundaries,
}

impl<'a> Worker<'a> {
    pub(super) fn new(packing: &'a Packing<'a>) -> Worker<'a> {
        Worker {
            packing,
            buffer: Vec::new(),
            spool: None,
        }
    }

    /// Packs a layer with one encoder after the other, until it has the digest that is expected.
    pub(super) fn pack(&mut self, job: &Job<'_>) -> Result<Outcome> {
        let mut seen: Option<Seen> = None;
        let mut tried: Vec<Deflate> = Vec::new();
        let mut names: Vec<String> = Vec::new();
        while let Some(deflate) = match job.layer.expected {
            Expected::Anything(one) => Some(one).filter(|one| !tried.contains(one)),
            _ => self.packing.next(&tried),
        } {
            let same = |other: &Deflate| seen.as_ref().is_some_and(|seen| is_same(deflate, *other, seen));
            let is_tried = tried.iter().any(same);
            tried.push(deflate);
            if is_tried {
                continue;
            }
            let name = deflate.to_string();
            if !names.contains(&name) {
                names.push(name);
            }
            if let Some(packed) = self.attempt(job, deflate, &mut seen)? {
                self.packing.hit(deflate);
                self.packing.progress.blob_finished(&job.layer.diff_id);
                return Ok(Outcome::Packed(packed));
            }
        }
        self.packing.progress.blob_finished(&job.layer.diff_id);
        Ok(Outcome::Unmatched {
            reason: Reason::Encoder { tried: names },
            size: seen.map_or(job.size, |seen| seen.size),
        })
    }

    /// Packs a layer once. The first time its uncompressed bytes are proven, too.
    fn attempt(
        &mut self,
        job: &Job<'_>,
        deflate: Deflate,
        seen: &mut Option<Seen>,
    ) -> Result<Option<Packed>> {
        let spool = match &mut self.spool {
            Some(spool) => spool,
            empty => empty.insert(Spool::new(&self.packing.options.tmpdir)?),
        };
        self.buffer.resize(PIECE, 0);
        let (limit, like) = match &job.layer.expected {
            Expected::Exactly(stored) => (Some(stored.size), &stored.digest),
            Expected::OneOf(digests) => (None, digests.first().unwrap_or(&job.layer.diff_id)),
            Expected::Anything(_) => (None, &Digest::Sha256([0; 32])),
        };
        let mut pass = Pass {
            packing: self.packing,
            spool,
            diff_id: &job.layer.diff_id,
            deflate,
            packer: Some(Packer::new(deflate, spool.begin(deflate, limit, like))),
            at: 0,
        };
        self.packing
            .progress
            .blob_started(&job.layer.diff_id, job.size, 0);
        let output = pass.run(&mut self.buffer, seen)?;
        let found = output.as_ref().and_then(|output| fit(job, output));
        if let (Some(output), Some((encoder, digest))) = (output, found) {
            let name = format!("{}, packed again", job.layer.diff_id);
            return Ok(Some(Packed {
                digest,
                size: output.count(),
                encoder,
                stored: spool.keep(&output, encoder, name)?,
            }));
        }
        spool.drop_rest()?;
        Ok(None)
    }
}

/// The encoder that a layer is of, and its digest, if that is one that is expected.
fn fit(job: &Job<'_>, output: &Output) -> Option<(&'static super::Encoder, Digest)> {
    output.digests().find(|(_, digest)| match &job.layer.expected {
        Expected::Exactly(stored) => stored.size == output.count() && stored.digest == *digest,
        Expected::OneOf(digests) => digests.contains(digest),
        Expected::Anything(_) => true,
    })
}

/// Whether two would give the same bytes for a layer.
fn is_same(one: Deflate, other: Deflate, seen: &Seen) -> bool {
    match (one, other) {
        (Deflate::Go(level, writes), Deflate::Go(other_level, other_writes)) => {
            let ends = |writes: Writes| seen.boundaries.ends(writes);
            level == other_level && ends(writes) == ends(other_writes)
        }
        _ => one == other,
    }
}

/// One pass over a layer.
struct Pass<'a> {
    packing: &'a Packing<'a>,
    spool: &'a Spool,
    diff_id: &'a Digest,
    deflate: Deflate,
    /// Until more came out than was expected.
    packer: Option<Packer<Output>>,
    /// Uncompressed bytes so far.
    at: u64,
}

impl Pass<'_> {
    /// Packs all bytes. Nothing is given if more came out than was expected.
    fn run(&mut self, buffer: &mut [u8], seen: &mut Option<Seen>) -> Result<Option<Output>> {
        let mut looking = seen.is_none().then(|| Looking {
            hasher: Hasher::like(self.diff_id),
            boundaries: Boundaries::new(),
        });
        let mut reader = self.packing.unpacked.open(self.diff_id)?;
        // The first pass goes to the end: the bytes must be proven.
        while looking.is_some() || self.packer.is_some() {
            self.packing.check()?;
            let count = fill(&mut *reader, buffer).map_err(|error| self.unreadable(error))?;
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else {
                break;
            };
            if let Some(looking) = &mut looking {
                looking.hasher.update(piece);
                looking.boundaries.take(piece);
            }
            self.take(piece, looking.as_ref().map(|looking| &looking.boundaries), seen)?;
            self.packing.progress.blob_advanced(self.diff_id, length(piece));
        }
        if let Some(Looking { hasher, boundaries }) = looking {
            self.prove(hasher)?;
            let size = self.at;
            *seen = Some(Seen { boundaries, size });
        }
        let packed = self.packer.take().map(Packer::finish).transpose();
        let output = packed.map_err(|error| self.spool.full(error))?;
        Ok(output.filter(|output| !output.is_over()))
    }

    /// Packs a piece, with a cut wherever a Write ended in it.
    fn take(&mut self, piece: &[u8], now: Option<&Boundaries>, seen: &Option<Seen>) -> Result<()> {
        let start = self.at;
        self.at = start.saturating_add(length(piece));
        let Some(packer) = &mut self.packer else {
            return Ok(());
        };
        let ends = match (self.deflate, now.or(seen.as_ref().map(|seen| &seen.boundaries))) {
            (Deflate::Go(_, writes), Some(boundaries)) => boundaries.ends_within(start, self.at, writes),
            _ => Vec::new(),
        };
        let mut rest = piece;
        let mut done = start;
        let mut packed = Ok(());
        for end in ends {
            let Some((before, after)) = usize::try_from(end - done)
                .ok()
                .and_then(|count| rest.split_at_checked(count))
            else {
                break;
            };
            packed = packed.and_then(|()| packer.take(before));
            packer.cut();
            (rest, done) = (after, end);
        }
        packed
            .and_then(|()| packer.take(rest))
            .map_err(|error| self.spool.full(error))?;
        if packer.writer().is_over() {
            self.packer = None;
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

/// Reads until the buffer is full or nothing more comes.
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
