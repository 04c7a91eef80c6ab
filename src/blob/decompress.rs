//! Decompresses layers, and refuses everything on which decompressors disagree.
//!
//! Sources: RFC 1952 (gzip; several members are one stream); RFC 8878 (zstd; several frames are one stream, and
//! skippable frames are no part of it). The largest zstd window is 128 MiB, the most that containerd and podman
//! accept.

use std::io::{self, BufRead, Read};

use zlib_rs::{Inflate, InflateFlush, Status};
use zstd::stream::raw::{DParameter, Operation as _};

use crate::error::{Error, Place, Problem, Result};
use crate::oci::Compression;

/// Default limit for the uncompressed bytes of a layer.
pub const DEFAULT_LIMIT: u64 = 64 << 30;

/// The compression, by the first bytes of a file. `None` for anything unknown.
pub(crate) fn compression_of(magic: &[u8]) -> Compression {
    match magic {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}
/// Largest zstd window, as a power of two: 128 MiB.
const MAX_WINDOW_LOG: u32 = 27;

/// Decompresses the stored bytes of a layer.
pub struct Decompressor<R> {
    stream: Stream<R>,
    limit: u64,
    count: u64,
    place: Place,
}

enum Stream<R> {
    Plain(R),
    Gzip(Members<R>),
    Zstd(Frames<R>),
}

struct Members<R> {
    input: R,
    /// The current member.
    member: Option<Inflate>,
    /// Members completed.
    ended: usize,
    /// Whether the end was reached.
    done: bool,
}

struct Frames<R> {
    input: R,
    decoder: zstd::stream::raw::Decoder<'static>,
    /// Frames completed, including skippable ones.
    ended: usize,
    /// Whether a frame is incomplete.
    inside: bool,
}

impl<R: BufRead> Decompressor<R> {
    /// Starts at the first stored byte. Refuses more than `limit` uncompressed bytes; errors name `place`.
    ///
    /// # Errors
    ///
    /// Only if a decompressor cannot be allocated.
    pub fn new(compression: Compression, input: R, limit: u64, place: Place) -> Result<Decompressor<R>> {
        let stream = match compression {
            Compression::None => Stream::Plain(input),
            Compression::Gzip => Stream::Gzip(Members {
                input,
                member: None,
                ended: 0,
                done: false,
            }),
            Compression::Zstd => {
                let made = zstd::stream::raw::Decoder::new().and_then(|mut decoder| {
                    decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
                    Ok(decoder)
                });
                Stream::Zstd(Frames {
                    input,
                    decoder: made.map_err(|error| explain(error, &place))?,
                    ended: 0,
                    inside: false,
                })
            }
        };
        Ok(Decompressor {
            stream,
            limit,
            count: 0,
            place,
        })
    }

    /// Uncompressed bytes returned so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The reader of the stored bytes, which can be verified after the last uncompressed byte.
    pub fn into_inner(self) -> R {
        match self.stream {
            Stream::Plain(input) => input,
            Stream::Gzip(members) => members.input,
            Stream::Zstd(frames) => frames.input,
        }
    }

    /// The reader of the stored bytes, to see its position.
    pub fn get_ref(&self) -> &R {
        match &self.stream {
            Stream::Plain(input) => input,
            Stream::Gzip(members) => &members.input,
            Stream::Zstd(frames) => &frames.input,
        }
    }

    /// Returns the next uncompressed bytes. Zero means that the stream is complete and nothing follows it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the stream is damaged, truncated, followed by other data, or over the limit;
    /// otherwise the error of the reader of the stored bytes.
    pub fn next_bytes(&mut self, target: &mut [u8]) -> Result<usize> {
        let count = self.step(target).map_err(|error| explain(error, &self.place))?;
        self.count = self
            .count
            .saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if self.count > self.limit {
            let problem = Problem::Expands { limit: self.limit };
            return Err(Error::refused(self.place.clone(), problem));
        }
        Ok(count)
    }

    fn step(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if target.is_empty() {
            return Ok(0);
        }
        match &mut self.stream {
            Stream::Plain(input) => input.read(target),
            Stream::Zstd(frames) => frames.step(target),
            Stream::Gzip(members) => members.step(target),
        }
    }
}

/// Distinguishes errors of the stored bytes' reader from those of the decompressor.
fn explain(error: io::Error, place: &Place) -> Error {
    if error.raw_os_error().is_some() {
        return Error::io("read", place.archive.as_deref().unwrap_or_default())(error);
    }
    Error::from_reader(error, |error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Error::refused(place.clone(), Problem::StreamCut);
        }
        let problem = error
            .downcast::<Problem>()
            .unwrap_or_else(|error| Problem::Compression {
                reason: error.to_string(),
            });
        Error::refused(place.clone(), problem)
    })
}

/// The first bytes of every gzip member: the magic and the only method. The upper three of the flags that
/// follow are reserved.
const GZIP_START: [u8; 3] = [0x1f, 0x8b, 8];
const GZIP_RESERVED: u8 = 0xe0;
/// Bytes of the shortest gzip header.
const GZIP_HEADER: u64 = 10;

impl<R: BufRead> Members<R> {
    fn step(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while !self.done {
            let count = match &mut self.member {
                Some(_) => self.inflate(target)?,
                None => {
                    self.begin()?;
                    0
                }
            };
            if count > 0 {
                return Ok(count);
            }
        }
        Ok(0)
    }

    /// Starts a member if one begins here; after a complete one there may be none.
    fn begin(&mut self) -> io::Result<()> {
        if self.ended > 0 && self.input.fill_buf()?.is_empty() {
            self.done = true;
            return Ok(());
        }
        // 16: expect a gzip header; 15: the largest window.
        self.member = Some(Inflate::new(true, 16 + 15));
        Ok(())
    }

    /// Returns uncompressed bytes of a member; none at its end, or if it needs more stored bytes first.
    fn inflate(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let Some(member) = &mut self.member else {
            return Ok(0);
        };
        let stored = self.input.fill_buf()?;
        let (taken_before, given_before) = (member.total_in(), member.total_out());
        if stored.is_empty() {
            // A truncated header is not a member.
            return Err(match self.ended {
                1.. if taken_before < GZIP_HEADER => io::Error::other(Problem::DataAfterStream),
                _ => io::Error::from(io::ErrorKind::UnexpectedEof),
            });
        }
        if !begins_gzip(taken_before, stored) {
            return Err(io::Error::other(match self.ended {
                // After a complete member, without even a header: not part of a gzip stream.
                1.. => Problem::DataAfterStream,
                0 => Problem::Compression {
                    reason: "no gzip header".into(),
                },
            }));
        }
        let status = member.decompress(stored, target, InflateFlush::NoFlush);
        let taken = usize::try_from(member.total_in() - taken_before).unwrap_or(usize::MAX);
        let given = usize::try_from(member.total_out() - given_before).unwrap_or(usize::MAX);
        self.input.consume(taken);
        match status {
            Ok(Status::StreamEnd) => {
                self.member = None;
                self.ended += 1;
            }
            Ok(Status::Ok) => {}
            Ok(Status::BufError) if taken + given > 0 => {}
            Ok(Status::BufError) => return Err(io::Error::from(io::ErrorKind::InvalidData)),
            Err(error) => {
                let reason = member.error_message().unwrap_or(error.as_str()).to_string();
                return Err(io::Error::other(Problem::Compression { reason }));
            }
        }
        Ok(given)
    }
}

/// Whether a gzip member may have these stored bytes at position `at`.
fn begins_gzip(at: u64, stored: &[u8]) -> bool {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    let start = GZIP_START.get(at..).unwrap_or_default();
    let flags = 3usize.checked_sub(at).and_then(|flags| stored.get(flags));
    start
        .iter()
        .zip(stored)
        .all(|(expected, found)| expected == found)
        && flags.is_none_or(|flags| flags & GZIP_RESERVED == 0)
}

impl<R: BufRead> Frames<R> {
    fn step(&mut self, target: &mut [u8]) -> io::Result<usize> {
        loop {
            let stored = self.input.fill_buf()?;
            let at_end = stored.is_empty();
            if at_end && !self.inside {
                return match self.ended {
                    0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                    _ => Ok(0),
                };
            }
            let status = match self.decoder.run_on_buffers(stored, target) {
                Ok(status) => status,
                // After a complete frame, without even a header.
                Err(error)
                    if !self.inside && self.ended > 0 && error.to_string().contains("frame descriptor") =>
                {
                    return Err(io::Error::other(Problem::DataAfterStream));
                }
                Err(error) => return Err(error),
            };
            self.input.consume(status.bytes_read);
            self.inside = status.remaining != 0;
            self.ended += usize::from(!self.inside);
            if status.bytes_written > 0 {
                return Ok(status.bytes_written);
            }
            if at_end && self.inside {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
        }
    }
}

impl<R: BufRead> Read for Decompressor<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.next_bytes(target).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::error::ErrorKind;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    const SKIPPABLE: &[u8] = b"\x5a\x2a\x4d\x18\x05\x00\x00\x00hello";

    fn run(
        compression: Compression,
        stored: &[u8],
        limit: u64,
    ) -> Result<Vec<u8>, (ErrorKind, &'static str)> {
        // Small and large pieces: the ends of buffers must not matter.
        let mut outcomes: Vec<Result<Vec<u8>, Error>> = Vec::new();
        for (capacity, piece) in [(7, 3), (1 << 16, 1 << 16)] {
            let input = io::BufReader::with_capacity(capacity, stored);
            let mut stream = Decompressor::new(compression, input, limit, Place::default()).unwrap();
            let mut all = Vec::new();
            let mut buffer = vec![0; piece];
            outcomes.push(loop {
                match stream.next_bytes(&mut buffer) {
                    Ok(0) => break Ok(all),
                    Ok(count) => all.extend_from_slice(&buffer[..count]),
                    Err(error) => break Err(error),
                }
            });
        }
        let mut plain = outcomes.into_iter().map(|outcome| {
            outcome.map_err(|error| match &error {
                Error::Refused(finding) => (error.kind(), finding.problem.code()),
                other => (other.kind(), "other"),
            })
        });
        let (first, second) = (plain.next().unwrap(), plain.next().unwrap());
        assert_eq!(first.is_ok(), second.is_ok());
        second
    }

    #[test]
    fn whole_streams() {
        let text: Vec<u8> = (0..40_000_u32)
            .flat_map(|n| (n * n % 977).to_le_bytes())
            .collect();
        for (compression, stored) in [
            (Compression::None, text.clone()),
            (Compression::Gzip, gzip(&text)),
            (
                Compression::Gzip,
                [gzip(&text[..99]), gzip(b""), gzip(&text[99..])].concat(),
            ),
            (Compression::Zstd, zstd(&text)),
            (
                Compression::Zstd,
                [
                    SKIPPABLE,
                    &zstd(&text[..5]),
                    SKIPPABLE,
                    &zstd(b""),
                    &zstd(&text[5..]),
                    SKIPPABLE,
                ]
                .concat(),
            ),
        ] {
            assert_eq!(
                run(compression, &stored, u64::MAX),
                Ok(text.clone()),
                "{compression}"
            );
        }
        assert_eq!(run(Compression::Gzip, &gzip(b""), 0), Ok(Vec::new()));
    }

    #[test]
    fn what_peers_disagree_on_is_refused() {
        let (gz, zs) = (gzip(b"hello hello"), zstd(b"hello hello"));
        let flip = |bytes: &[u8], at: usize| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 0x55;
            bytes
        };
        for (compression, stored, code) in [
            (Compression::Gzip, [&gz[..], b"x"].concat(), "data-after-stream"),
            (
                Compression::Gzip,
                [&gz[..], &[0; 512]].concat(),
                "data-after-stream",
            ),
            (
                Compression::Gzip,
                [&gz[..], &[0x1f]].concat(),
                "data-after-stream",
            ),
            (
                Compression::Gzip,
                [&gz[..], &gz[..gz.len() - 1]].concat(),
                "compression",
            ),
            (Compression::Gzip, gz[..gz.len() - 3].to_vec(), "compression"),
            (Compression::Gzip, gz[..12].to_vec(), "compression"),
            (Compression::Gzip, flip(&gz, gz.len() - 6), "compression"),
            (Compression::Gzip, flip(&gz, gz.len() - 2), "compression"),
            (Compression::Gzip, flip(&gz, 1), "compression"),
            (Compression::Gzip, Vec::new(), "compression"),
            (
                Compression::Zstd,
                [&zs[..], b"garbage"].concat(),
                "data-after-stream",
            ),
            (Compression::Zstd, [&zs[..], &gz].concat(), "data-after-stream"),
            (Compression::Zstd, zs[..zs.len() - 1].to_vec(), "compression"),
            (
                Compression::Zstd,
                [&zs[..], &SKIPPABLE[..10]].concat(),
                "compression",
            ),
            (Compression::Zstd, flip(&zs, 6), "compression"),
            (Compression::Zstd, Vec::new(), "compression"),
            (Compression::Zstd, gz.clone(), "compression"),
        ] {
            assert_eq!(
                run(compression, &stored, 100),
                Err((ErrorKind::Content, code)),
                "{compression} {stored:x?}"
            );
        }
    }

    #[test]
    fn expansion_ends_at_the_limit() {
        let zeros = vec![0; 5_000_000];
        for (compression, stored) in [
            (Compression::None, zeros.clone()),
            (Compression::Gzip, gzip(&zeros)),
            (Compression::Zstd, zstd(&zeros)),
        ] {
            assert_eq!(
                run(compression, &stored, 4_999_999),
                Err((ErrorKind::Content, "expands"))
            );
            assert_eq!(
                run(compression, &stored, 5_000_000).map(|all| all.len()),
                Ok(5_000_000)
            );
        }
    }

    #[test]
    fn a_window_beyond_128_mib_is_refused() {
        // Frame headers with a window descriptor: exponent and mantissa, RFC 8878, 3.1.1.1.2. Then one
        // last raw block of one byte.
        let frame = |log: u8| vec![0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3, 9, 0, 0, b'x'];
        assert_eq!(run(Compression::Zstd, &frame(27), 9), Ok(b"x".to_vec()));
        assert_eq!(
            run(Compression::Zstd, &frame(28), 9),
            Err((ErrorKind::Content, "compression"))
        );
    }
}
