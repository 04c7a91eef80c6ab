//! One blob on its way into a repository.
//!
//! A small blob is one request. A large one is streamed by one `PATCH`, and goes on where the registry says that it has
//! arrived if the connection breaks. Some registries, such as distribution 2, forget an upload that broke off within a
//! request. It is started again then, in parts that are small enough to arrive, each by a connection of its own.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ureq::http::StatusCode;

use super::part::{Part, PartError};
use super::requests::{self, Completed, Form, Started, Status, Upload, received, refusal};
use crate::blob::{BlobReader, Blobs};
use crate::error::{Error, Place, Problem, Result};
use crate::interrupt::{self, Interrupt};
use crate::load::Candidates;
use crate::oci::{Descriptor, Digest};
use crate::progress::Progress;
use crate::registry::client::Client;
use crate::registry::mirror::Endpoint;
use crate::registry::request_error::{RequestError, marked};
use crate::registry::transport::{Answer, Content, Stream};

/// Largest blob that is sent by one request, out of memory.
const SMALL: u64 = 1 << 20;
/// Largest part of a blob, once parts are needed.
const MAX_PART: u64 = 16 << 20;
/// Smallest part.
const MIN_PART: u64 = 256 << 10;
/// Bytes that are read and hashed at once while the start of a blob is skipped.
const SKIP: usize = 256 << 10;
/// How many more times than others a blob is tried that a registry has in wrong bytes.
const MAX_WRONG: u32 = 2;

/// Uploads blobs to one registry.
pub(in crate::registry) struct Uploader<'u, 'a> {
    pub(in crate::registry) client: &'u Client,
    /// What the blobs are of, if that is verified meanwhile.
    pub(in crate::registry) candidates: Option<&'u Candidates<'a>>,
    pub(in crate::registry) blobs: &'u dyn Blobs,
    /// Whether blobs are sent although the registry says that it has them.
    pub(in crate::registry) is_replacing: bool,
    pub(in crate::registry) progress: &'u dyn Progress,
    pub(in crate::registry) interrupt: &'u Interrupt,
    /// Bytes of a part, once one was needed; 0 before.
    pub(in crate::registry) part: AtomicU64,
    /// Whether a blob has failed for good, so that the others end.
    pub(in crate::registry) is_ended: AtomicBool,
}

/// A large blob that is being sent.
struct Session<'s> {
    upload: &'s mut Option<Upload>,
    at: &'s Endpoint,
    blob: &'s Descriptor,
    subject: String,
    /// Whether the registry has to be asked how much it has.
    is_uncertain: bool,
    /// Whether the last request was redirected, and nothing of it taken.
    is_redirected: bool,
    /// Whether bytes of it were sent: they may still arrive while the registry is asked what it has.
    is_begun: bool,
    /// Bytes that the registry has.
    confirmed: u64,
    /// The blob, read up to `confirmed`.
    reader: Option<BlobReader>,
    /// Bytes of the last request that failed.
    broken: u64,
    /// Failed attempts since the registry got [`MIN_PART`] more bytes.
    failed: u32,
    /// Times that the registry lost the upload at its end.
    lost: u32,
}

impl Uploader<'_, '_> {
    /// Gives a repository a blob: mounted from another repository if one has it, else sent. Returns the sent bytes.
    pub(in crate::registry) fn upload(
        &self,
        at: &Endpoint,
        blob: &Descriptor,
        from: Option<&str>,
    ) -> Result<u64> {
        let _cleanup = self.interrupt.cleanup();
        let mut upload = match from {
            None => None,
            Some(from) => match self.mount(at, blob, from)? {
                Started::Mounted if self.client.has_blob(at, blob)? => return Ok(0),
                // What the registry says of a mount is not taken on trust: a tag may depend on it.
                Started::Mounted => None,
                Started::Upload(upload) => Some(upload),
            },
        };
        self.progress.blob_started(&blob.digest, blob.size, 0);
        let sent = match blob.size {
            0..=SMALL => self.send_small(at, blob, &mut upload),
            _ => self.send_large(at, blob, &mut upload),
        };
        if let Err(error) = sent {
            self.cancel(at, &mut upload);
            return Err(error);
        }
        self.progress.blob_finished(&blob.digest);
        Ok(blob.size)
    }

    /// Cancels an upload: until a registry purges it, which takes distribution a week, its bytes take up space.
    fn cancel(&self, at: &Endpoint, upload: &mut Option<Upload>) {
        if let Some(upload) = upload.take() {
            self.client.cancel(at, &upload);
        }
    }

    fn check(&self) -> Result<()> {
        if self.is_ended.load(Ordering::SeqCst) {
            return Err(Error::Interrupted);
        }
        self.interrupt.check()?;
        self.candidates.map_or(Ok(()), Candidates::check)
    }

    /// Whether a registry has a blob, as far as it is asked.
    fn has(&self, at: &Endpoint, blob: &Descriptor) -> Result<bool, RequestError> {
        let has = || self.client.has_blob(at, blob).map_err(RequestError::End);
        Ok(!self.is_replacing && has()?)
    }

    /// Mounts a blob, or starts its upload if the registry does not mount it.
    fn mount(&self, at: &Endpoint, blob: &Descriptor, from: &str) -> Result<Started> {
        let mounted = self
            .client
            .with_retries(at, || self.client.start(at, &blob.digest, Some(from)));
        match mounted {
            Err(Error::Registry { .. } | Error::NotFound { .. }) => {
                // The account may not read the other repository, or the registry mounts nothing.
                self.check()?;
                self.client
                    .with_retries(at, || self.client.start(at, &blob.digest, None))
            }
            mounted => mounted,
        }
    }

    /// Sends a blob that was read and verified as a whole.
    fn send_small(&self, at: &Endpoint, blob: &Descriptor, open: &mut Option<Upload>) -> Result<()> {
        let bytes = self.blobs.metadata(blob)?;
        let bytes = bytes.ok_or_else(|| self.missing(blob))?;
        let bytes: Arc<[u8]> = bytes.into();
        let mut is_again = false;
        self.client.with_retries(at, || {
            self.check().map_err(RequestError::End)?;
            if std::mem::replace(&mut is_again, true) {
                if self.has(at, blob)? {
                    return Ok(());
                }
                self.cancel(at, open);
            }
            let upload = match open.clone() {
                Some(upload) => upload,
                None => self.started(at, &blob.digest)?,
            };
            *open = Some(upload.clone());
            let content = Content::Bytes(requests::BYTES.into(), Arc::clone(&bytes));
            match self.client.complete(at, &upload, &blob.digest, content)? {
                Completed::Stored => Ok(()),
                Completed::Lost(error) => Err(RequestError::End(error).again()),
            }
        })?;
        self.progress.blob_advanced(&blob.digest, blob.size);
        Ok(())
    }

    fn started(&self, at: &Endpoint, blob: &Digest) -> Result<Upload, RequestError> {
        match self.client.start(at, blob, None)? {
            Started::Upload(upload) => Ok(upload),
            Started::Mounted => {
                let subject = requests::subject(at, blob);
                let problem = "says that it has mounted a blob, which was not asked for".into();
                Err(RequestError::end(at, &subject, problem, None))
            }
        }
    }

    fn missing(&self, blob: &Descriptor) -> Error {
        let place = Place::blob(blob.digest).within(self.blobs.label());
        let error = Error::refused(place, Problem::Missing);
        match self.candidates {
            Some(candidates) => candidates.omitted_or(error),
            None => error,
        }
    }

    fn send_large(&self, at: &Endpoint, blob: &Descriptor, upload: &mut Option<Upload>) -> Result<()> {
        let mut session = Session {
            upload,
            at,
            blob,
            subject: requests::subject(at, &blob.digest),
            is_uncertain: false,
            is_redirected: false,
            is_begun: false,
            confirmed: 0,
            reader: None,
            broken: 0,
            failed: 0,
            lost: 0,
        };
        let mut mark = 0;
        loop {
            self.check()?;
            let (error, asked) = match self.attempt(&mut session) {
                Ok(()) => return Ok(()),
                Err(RequestError::End(error)) => return Err(error),
                Err(RequestError::Again { error, wait, .. }) => (error, wait),
            };
            if session.confirmed >= mark + MIN_PART {
                mark = session.confirmed;
                session.failed = 0;
            }
            session.failed += 1;
            let retry = self.client.retry();
            if !retry.allows(session.failed) {
                return Err(marked(error, false));
            }
            session.is_uncertain = !std::mem::take(&mut session.is_redirected);
            session.reader = None;
            let pause = retry.pause(session.failed, asked);
            self.note(&error, pause, session.failed);
            interrupt::pause(pause, || self.check())?;
        }
    }

    fn note(&self, error: &Error, pause: Duration, failed: u32) {
        self.client.note(&format!(
            "{error}; retrying in {} s ({failed} of {} attempts)",
            pause.as_secs_f32().ceil(),
            self.client.retry().attempts
        ));
    }

    /// Sends what the registry lacks, and completes the upload.
    fn attempt(&self, session: &mut Session<'_>) -> Result<(), RequestError> {
        let (at, blob) = (session.at, session.blob);
        if std::mem::take(&mut session.is_uncertain) {
            self.ask(session)?;
        }
        let mut upload = match session.upload.clone() {
            Some(upload) => upload,
            None => {
                // It may have been stored, and only the response was lost.
                if session.failed > 0 && self.has(at, blob)? {
                    return Ok(());
                }
                session.confirmed = 0;
                session.is_begun = false;
                self.started(at, &blob.digest)?
            }
        };
        *session.upload = Some(upload.clone());
        let mut reader = match session.reader.take() {
            Some(reader) => reader,
            None => self
                .read_from(blob, session.confirmed)
                .map_err(RequestError::End)?,
        };
        self.progress
            .blob_started(&blob.digest, blob.size, session.confirmed);
        while session.confirmed < blob.size {
            upload = self.send_part(session, &upload, &mut reader)?;
            *session.upload = Some(upload.clone());
        }
        reader.finish().map_err(RequestError::End)?;
        match self.client.complete(at, &upload, &blob.digest, Content::None)? {
            Completed::Stored => Ok(()),
            Completed::Lost(error) => {
                self.cancel(at, session.upload);
                session.lost += 1;
                match session.lost > MAX_WRONG {
                    true => Err(RequestError::End(marked(error, false))),
                    false => Err(RequestError::End(error).again()),
                }
            }
        }
    }

    /// Asks how much of an upload the registry has. One that it has forgotten is sent in smaller parts.
    fn ask(&self, session: &mut Session<'_>) -> Result<(), RequestError> {
        let Some(upload) = &session.upload else {
            return Ok(());
        };
        match self.client.status(session.at, upload, &session.subject)? {
            Status::At(count, upload) if count <= session.blob.size => {
                session.confirmed = count;
                *session.upload = Some(upload);
            }
            Status::At(..) | Status::Forgotten => {
                if session.broken >= MIN_PART {
                    self.shrink(session.broken / 4, upload.least);
                }
                self.cancel(session.at, session.upload);
            }
        }
        Ok(())
    }

    /// Sends parts of at most this many bytes from now on, which is a quarter of those that did not arrive as a whole. Much
    /// of what was sent may never have left this machine.
    fn shrink(&self, most: u64, least: u64) {
        let most = most.clamp(MIN_PART, MAX_PART).max(least);
        let smaller = |part: u64| match part {
            0 => Some(most),
            part => Some(part.min(most)),
        };
        let _ = self
            .part
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, smaller);
    }

    /// Opens a blob, and hashes its bytes up to `start`.
    fn read_from(&self, blob: &Descriptor, start: u64) -> Result<BlobReader> {
        let open = self.blobs.open(blob)?.ok_or_else(|| self.missing(blob))?;
        let mut reader = BlobReader::new(open, blob)?;
        let mut buffer = vec![0; if start > 0 { SKIP } else { 0 }];
        while reader.count() < start {
            self.check()?;
            let left = usize::try_from(start - reader.count()).unwrap_or(SKIP).min(SKIP);
            let read = reader.read(buffer.get_mut(..left).unwrap_or_default());
            let count =
                read.map_err(|error| Error::from_reader(error, Error::io("read", self.blobs.label())))?;
            if count == 0 {
                break;
            }
        }
        Ok(reader)
    }

    /// Sends the next part of a blob, or all of it. Returns where the upload goes on.
    fn send_part(
        &self,
        session: &mut Session<'_>,
        upload: &Upload,
        reader: &mut BlobReader,
    ) -> Result<Upload, RequestError> {
        let (at, blob, start) = (session.at, session.blob, session.confirmed);
        let most = match self.part.load(Ordering::SeqCst) {
            0 => u64::MAX,
            part => part.max(upload.least),
        };
        let length = most.min(blob.size.saturating_sub(start));
        let check = || self.check();
        let timeouts = &self.client.transport.timeouts;
        // distribution 2 cannot cancel an upload that broke within a request, and an early end of chunks breaks none.
        let is_whole = start == 0 && length == blob.size && !session.is_begun;
        let mut part = Part::new(reader, blob, length, is_whole, self.progress, &check, timeouts);
        let form = Form {
            is_whole,
            asks_first: session.failed > 0,
            is_alone: most < u64::MAX,
        };
        session.is_begun = true;
        let stream = Stream {
            reader: &mut part,
            length,
            in_chunks: is_whole,
        };
        let answer = self
            .client
            .patch(at, upload, &session.subject, start, stream, form);
        session.broken = part.sent;
        match (part.error, answer) {
            (Some(PartError::Final(error)), answer) => {
                // The upload is cancelled where it is now.
                if let Ok(answer) = answer
                    && answer.status.is_success()
                    && let Ok(moved) = upload.moved(at, &answer, &session.subject)
                {
                    *session.upload = Some(moved);
                }
                Err(RequestError::End(error))
            }
            (Some(PartError::Slow), _) => {
                let problem = format!(
                    "takes bytes too slowly: less than {} a second over {} s",
                    timeouts.slowest,
                    timeouts.idle.as_secs_f32()
                );
                Err(RequestError::end(at, &session.subject, problem, None).again())
            }
            (None, Err(error)) => Err(error),
            (None, Ok(answer)) => self.took(session, upload, length, answer),
        }
    }

    /// Notes that a part has arrived, as far as the response says so.
    fn took(
        &self,
        session: &mut Session<'_>,
        upload: &Upload,
        length: u64,
        answer: Answer,
    ) -> Result<Upload, RequestError> {
        let (at, subject) = (session.at, session.subject.as_str());
        match answer.status {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::CREATED | StatusCode::OK => {}
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
                *session.upload = Some(upload.moved(at, &answer, subject)?);
                session.is_redirected = true;
                let problem = "sends an upload elsewhere".to_string();
                return Err(RequestError::end(at, subject, problem, None).again());
            }
            StatusCode::PAYLOAD_TOO_LARGE if length > MIN_PART.max(upload.least) => {
                self.shrink(length / 4, upload.least);
                // Smaller parts are progress.
                session.failed = 0;
                return Err(refusal(at, &upload.access, subject, answer).again());
            }
            StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(refusal(at, &upload.access, subject, answer).again());
            }
            _ => return Err(refusal(at, &upload.access, subject, answer)),
        }
        let confirmed = session.confirmed.saturating_add(length);
        if let Some(found) = received(&answer).filter(|found| *found != 0 && *found != confirmed) {
            let problem = format!("has {found} bytes of it, expected {confirmed}");
            return Err(RequestError::end(at, subject, problem, None).again());
        }
        let next = upload.moved(at, &answer, subject)?;
        session.confirmed = confirmed;
        Ok(next)
    }
}
