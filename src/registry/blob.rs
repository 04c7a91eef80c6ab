//! A blob's bytes from a registry: counted, and with a minimum rate.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::BodyReader;
use ureq::http::{StatusCode, header};

use super::connect::read_within;
use super::failure::Failure;
use super::transport::{Answer, Timeouts};
use crate::error::{Error, Result};
use crate::escape::Escaped;

/// Bytes that are read at once while skipping what was not requested.
const SKIP_BUFFER: usize = 64 << 10;

/// Names what is read, for messages.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) registry: String,
    pub(super) subject: String,
}

impl Subject {
    /// An error for which a retry may help.
    pub(super) fn transient(&self, problem: String) -> Error {
        Error::Registry {
            registry: self.registry.clone(),
            subject: self.subject.clone(),
            problem,
            hint: None,
            transient: true,
        }
    }
}

/// Reads a response, fails if it is too slow, and names the registry and host in errors.
pub(super) struct RateGuard {
    body: BodyReader<'static>,
    subject: Subject,
    host: String,
    pace: Pace,
    /// The time that one read may take.
    limit: Duration,
}

impl RateGuard {
    pub(super) fn new(answer: Answer, subject: Subject, timeouts: &Timeouts) -> RateGuard {
        RateGuard {
            host: answer.host,
            body: answer.body.into_reader(),
            subject,
            pace: Pace::new(timeouts),
            limit: timeouts.idle.saturating_mul(2),
        }
    }
}

impl Read for RateGuard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let started = Instant::now();
        let count = match read_within(self.limit, &mut self.body, buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let failure = Failure::of_io(error, self.host.clone());
                let error = failure.into_error(&self.subject.registry, &self.subject.subject, true);
                return Err(io::Error::other(error));
            }
        };
        let bytes = u64::try_from(count).unwrap_or(u64::MAX);
        if count > 0 && !self.pace.is_kept(bytes, started.elapsed()) {
            return Err(io::Error::other(self.subject.transient(format!(
                "{} sends too slowly: less than {} bytes a second over {} s",
                self.host,
                self.pace.slowest,
                self.pace.window.as_secs_f32()
            ))));
        }
        Ok(count)
    }
}

/// Reads content of a known size from an offset on, and fails if it is shorter, longer or too slow.
pub(super) struct BlobReader {
    body: RateGuard,
    /// Position in the blob of the next byte to arrive.
    position: u64,
    /// First byte that the caller wants.
    start: u64,
    size: u64,
    is_done: bool,
}

impl BlobReader {
    /// Reads the response to a request for `size` bytes, of which the first `offset` are present already.
    ///
    /// # Errors
    ///
    /// If the response is for another range or length.
    pub(super) fn new(
        answer: Answer,
        subject: Subject,
        size: u64,
        offset: u64,
        timeouts: &Timeouts,
    ) -> Result<BlobReader> {
        let position = if answer.status == StatusCode::PARTIAL_CONTENT {
            check_range(&answer, &subject, size, offset)?;
            offset
        } else {
            0
        };
        let expected = size.saturating_sub(position);
        if let Some(length) = answer.length()
            && length != expected
        {
            return Err(subject.transient(format!(
                "the answer's length is {length} bytes, expected {expected}"
            )));
        }
        Ok(BlobReader {
            body: RateGuard::new(answer, subject, timeouts),
            position,
            start: offset,
            size,
            is_done: false,
        })
    }

    /// Skips bytes that were not requested, if the server does not support ranges.
    fn skip(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; SKIP_BUFFER];
        while self.position < self.start {
            let left = usize::try_from(self.start - self.position).unwrap_or(SKIP_BUFFER);
            let part = buffer.get_mut(..left.min(SKIP_BUFFER)).unwrap_or_default();
            if self.receive(part)? == 0 {
                return Err(self.short());
            }
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer).map_err(|error| self.placed(error))?;
        let bytes = u64::try_from(count).unwrap_or(u64::MAX);
        self.position = self.position.saturating_add(bytes);
        Ok(count)
    }

    /// Adds the position to an error.
    fn placed(&self, error: io::Error) -> io::Error {
        match error.downcast::<Error>() {
            Ok(Error::Registry {
                registry,
                subject,
                problem,
                hint,
                transient,
            }) => io::Error::other(Error::Registry {
                registry,
                subject,
                problem: format!("{problem} (at byte {} of {})", self.position, self.size),
                hint,
                transient,
            }),
            Ok(other) => io::Error::other(other),
            Err(error) => error,
        }
    }

    fn wrong(&self, problem: String) -> io::Error {
        io::Error::other(self.body.subject.transient(problem))
    }

    fn short(&self) -> io::Error {
        self.wrong(format!(
            "the content ended at byte {}, expected {}",
            self.position, self.size
        ))
    }

    /// Reads the end of the response, which also frees its connection for reuse.
    fn finish(&mut self) -> io::Result<()> {
        self.is_done = true;
        if self.receive(&mut [0])? > 0 {
            return Err(self.wrong(format!(
                "the content is longer than the expected {} bytes",
                self.size
            )));
        }
        Ok(())
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.is_done {
            return Ok(0);
        }
        if self.position < self.start {
            self.skip()?;
        }
        let left = self.size.saturating_sub(self.position);
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = match most {
            0 => 0,
            _ => match self.receive(buffer.get_mut(..most).unwrap_or_default())? {
                0 => return Err(self.short()),
                count => count,
            },
        };
        if self.position >= self.size {
            self.finish()?;
        }
        Ok(count)
    }
}

/// Checks the rate at which bytes arrive, over windows of the time spent waiting for them.
pub(super) struct Pace {
    window: Duration,
    slowest: u32,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    pub(super) fn new(timeouts: &Timeouts) -> Pace {
        Pace {
            window: timeouts.idle,
            slowest: timeouts.slowest,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    pub(super) fn is_kept(&mut self, bytes: u64, waited: Duration) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        self.waited += waited;
        if self.waited < self.window {
            return true;
        }
        let millis = u64::try_from(self.waited.as_millis()).unwrap_or(u64::MAX);
        let kept = self.bytes.saturating_mul(1000) >= u64::from(self.slowest).saturating_mul(millis);
        self.bytes = 0;
        self.waited = Duration::ZERO;
        kept
    }
}

/// Checks that a partial response is for the requested range: RFC 9110, section 14.4.
fn check_range(answer: &Answer, subject: &Subject, size: u64, offset: u64) -> Result<()> {
    let text = answer.header(header::CONTENT_RANGE).unwrap_or_default();
    let expected = format!("bytes {offset}-{}/", size.saturating_sub(1));
    let total = text.strip_prefix(expected.as_str());
    if total.is_some_and(|total| total == "*" || total.parse() == Ok(size)) {
        return Ok(());
    }
    Err(subject.transient(format!(
        "the answer is for the range {:?}, expected {expected}{size}",
        Escaped(text).to_string()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_is_measured_over_windows() {
        let timeouts = Timeouts {
            idle: Duration::from_secs(10),
            slowest: 100,
            ..Timeouts::default()
        };
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(&timeouts);
        assert!((0..100).all(|_| pace.is_kept(100, second)));
        let mut pace = Pace::new(&timeouts);
        assert!((0..9).all(|_| pace.is_kept(1, second)));
        assert!(!pace.is_kept(1, second));
        // One burst is enough for a window, not for the next.
        let mut pace = Pace::new(&timeouts);
        assert!(pace.is_kept(1000, second));
        assert!((0..9).all(|_| pace.is_kept(1, second)));
        assert!((0..9).all(|_| pace.is_kept(1, second)));
        assert!(!pace.is_kept(1, second));
    }
}
