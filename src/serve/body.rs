//! The body of an answer: a text, or a blob on its way.
//!
//! A blob is sent in one of two ways. An engine on this host gets it hashed again while it is sent, with the last bytes
//! only after that has proved it. A registry for many clients verifies a blob once, and then sends it from a memory map. It
//! sends the last bytes only if the files have not changed since then. If only their names or rights have, it verifies the
//! blob again first. In both ways, the connection breaks if the blob changes.

use std::future::Future as _;
use std::io::{self, BufRead as _};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::blob::{Blob, FilesState};
use super::connection::OnItsWay;
use super::event::{Event, Report, Unsent};
use crate::blob::map::Window;
use crate::blob::{BlobReader, OpenBlob};
use crate::error::{Error, Result};
use crate::oci::Digest;

/// Pieces of a blob that are read before the client takes them, where it is hashed while it is sent.
const AHEAD: usize = 4;
/// Most bytes of a window. The next one may be mapped while the last [`super::connection::BUFFERED`] bytes of this one are
/// still to be sent, so that a connection has two at most.
const WINDOW: u64 = 512 << 10;
/// Bytes at the end of a blob that are sent from private memory.
const TAIL: u64 = 256 << 10;
/// Those of them that are sent last, after the check that the files have not changed. The ones before them are more than a
/// connection buffers, so that no mapped bytes wait to be sent when the check is made.
const LAST: u64 = TAIL - 2 * super::connection::BUFFERED;
/// Mapping a window that is in memory takes well below this.
const COLD: Duration = Duration::from_millis(1);

/// The body of an answer.
pub(super) struct Body {
    kind: Kind,
    /// Told when the answer has ended.
    unsent: Option<Unsent>,
    _on_its_way: Option<OnItsWay>,
}

enum Kind {
    Text(Option<Bytes>),
    /// Hashed while it is sent.
    Hashed {
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        left: u64,
    },
    /// Verified before.
    Proven(Box<Proven>),
}

impl Body {
    fn of(kind: Kind) -> Body {
        Body {
            kind,
            unsent: None,
            _on_its_way: None,
        }
    }

    /// A text, or nothing.
    pub(super) fn text(text: Option<Bytes>) -> Body {
        Body::of(Kind::Text(text))
    }

    /// Sends a blob, which is read and hashed in a thread of its own.
    ///
    /// # Errors
    ///
    /// If its stored size is not what its descriptor says.
    pub(super) fn hashed(blob: &Blob, report: &Report) -> Result<Body> {
        let reader = BlobReader::new(OpenBlob::Stored(blob.stored.clone()), &blob.descriptor)?;
        let (send, pieces) = mpsc::channel(AHEAD);
        let (digest, size) = (blob.descriptor.digest, blob.descriptor.size);
        let report = Arc::clone(report);
        report(Event::Started { digest, size });
        tokio::task::spawn_blocking(move || match produce(reader, digest, &send, &report) {
            Ok(true) => report(Event::Finished { digest }),
            // The client has gone away.
            Ok(false) => {}
            Err(error) => {
                report(Event::Failed { error });
                let _ = send.blocking_send(Err(io::Error::other("the blob changed")));
            }
        });
        Ok(Body::of(Kind::Hashed { pieces, left: size }))
    }

    /// Sends a range of a blob that was verified when its files were in this state.
    pub(super) fn proven(
        blob: &Arc<Blob>,
        range: Range<u64>,
        state: FilesState,
        at_once: &Arc<Semaphore>,
        report: &Report,
    ) -> Body {
        let proven = Proven {
            blob: Arc::clone(blob),
            range,
            state,
            fault: Fault::default(),
            is_cold: true,
            preparing: None,
            proving: None,
            at_once: Arc::clone(at_once),
            report: Arc::clone(report),
        };
        Body::of(Kind::Proven(Box::new(proven)))
    }

    /// Is sent from now on. Tells when that has ended.
    pub(super) fn begins(&mut self, unsent: Option<Unsent>, on_its_way: OnItsWay) {
        self.unsent = unsent;
        self._on_its_way = Some(on_its_way);
    }

    fn left(&self) -> u64 {
        match &self.kind {
            Kind::Text(text) => text.as_ref().map_or(0, |text| to_u64(text.len())),
            Kind::Hashed { left, .. } => *left,
            Kind::Proven(proven) => proven.range.end.saturating_sub(proven.range.start),
        }
    }
}

/// Sends what a reader has, each piece after the next one is read. Returns whether the client took all of it.
fn produce(
    mut reader: BlobReader,
    digest: Digest,
    to: &mpsc::Sender<io::Result<Bytes>>,
    report: &Report,
) -> Result<bool> {
    let send = |piece: Bytes| {
        let bytes = to_u64(piece.len());
        let is_taken = to.blocking_send(Ok(piece)).is_ok();
        if is_taken {
            report(Event::Advanced { digest, bytes });
        }
        is_taken
    };
    let mut last = None;
    loop {
        let place = reader.place().to_string();
        let read = reader.fill_buf();
        let bytes = read.map_err(|error| Error::from_reader(error, Error::io("read", place)))?;
        if bytes.is_empty() {
            break;
        }
        let piece = Bytes::copy_from_slice(bytes);
        reader.consume(piece.len());
        if last.replace(piece).is_some_and(|piece| !send(piece)) {
            return Ok(false);
        }
    }
    reader.finish()?;
    Ok(last.is_none_or(send))
}

/// A range of a verified blob.
struct Proven {
    blob: Arc<Blob>,
    /// What is not sent yet, in bytes of the blob.
    range: Range<u64>,
    /// The state of its files when it was verified.
    state: FilesState,
    fault: Fault,
    /// Whether the last bytes came from a medium. The next ones are then read in a thread that may wait.
    is_cold: bool,
    preparing: Option<JoinHandle<Result<Option<Piece>>>>,
    /// Verifies it again, if names or rights of its files have changed.
    proving: Option<JoinHandle<Result<FilesState>>>,
    at_once: Arc<Semaphore>,
    report: Report,
}

/// The first error in a window that the connection has sent.
type Fault = Arc<OnceLock<Error>>;

/// The next bytes of a blob.
struct Piece {
    bytes: Bytes,
    is_cold: bool,
}

/// A window that the connection sends. It is checked when all of it has left this process.
struct Sent {
    window: Window,
    fault: Fault,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        self.window.as_ref()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Err(error) = self.window.check() {
            let _ = self.fault.set(error);
        }
    }
}

impl Piece {
    /// The first bytes of a range, if the bytes that were sent before were right. `None` if they are the last, and the
    /// blob must be verified again.
    fn prepare(blob: &Blob, range: &Range<u64>, fault: &Fault, state: &FilesState) -> Result<Option<Piece>> {
        if let Some(error) = fault.get() {
            return Err(error.clone());
        }
        let started = Instant::now();
        let left = range.end.saturating_sub(range.start);
        if left > TAIL {
            let most = WINDOW - range.start % WINDOW;
            if let Some(window) = Window::map(&blob.stored, range.start, most.min(left - TAIL))? {
                let fault = Arc::clone(fault);
                return Ok(Some(Piece {
                    bytes: Bytes::from_owner(Sent { window, fault }),
                    is_cold: started.elapsed() > COLD,
                }));
            }
        }
        let length = if left > LAST { left - LAST } else { left };
        let bytes = blob
            .stored
            .read(range.start, usize::try_from(length).unwrap_or(usize::MAX))?;
        if length == left && !blob.is_still(state)? {
            return Ok(None);
        }
        Ok(Some(Piece {
            bytes: bytes.into(),
            is_cold: started.elapsed() > COLD,
        }))
    }
}

impl Proven {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.range.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(match ready!(self.poll_piece(context)) {
            Ok(piece) => {
                self.range.start = self.range.start.saturating_add(to_u64(piece.bytes.len()));
                self.is_cold = piece.is_cold;
                Ok(piece.bytes)
            }
            Err(error) => {
                self.range.end = self.range.start;
                (self.report)(Event::Failed { error });
                Err(io::Error::other("the blob changed"))
            }
        }))
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece>> {
        loop {
            if let Some(proving) = &mut self.proving {
                let proved = ready!(Pin::new(proving).poll(context));
                self.proving = None;
                self.state = proved.unwrap_or(Err(Error::Interrupted))?;
            }
            let prepared = match &mut self.preparing {
                Some(preparing) => {
                    let prepared = ready!(Pin::new(preparing).poll(context));
                    self.preparing = None;
                    prepared.unwrap_or(Err(Error::Interrupted))?
                }
                None if self.is_cold => {
                    let (blob, range) = (Arc::clone(&self.blob), self.range.clone());
                    let (fault, state) = (Arc::clone(&self.fault), self.state.clone());
                    let prepare = move || Piece::prepare(&blob, &range, &fault, &state);
                    self.preparing = Some(tokio::task::spawn_blocking(prepare));
                    continue;
                }
                None => Piece::prepare(&self.blob, &self.range, &self.fault, &self.state)?,
            };
            if let Some(piece) = prepared {
                return Poll::Ready(Ok(piece));
            }
            let (blob, at_once) = (Arc::clone(&self.blob), Arc::clone(&self.at_once));
            let before = self.state.clone();
            self.proving = Some(tokio::spawn(async move {
                let state = blob.prove(&at_once).await?;
                blob.is_still(&before).map(|_| state)
            }));
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let polled = match &mut this.kind {
            Kind::Text(text) => Poll::Ready(text.take().map(Ok)),
            Kind::Hashed { pieces, left } => {
                let polled = pieces.poll_recv(context);
                if let Poll::Ready(Some(Ok(bytes))) = &polled {
                    *left = left.saturating_sub(to_u64(bytes.len()));
                }
                polled
            }
            Kind::Proven(proven) => proven.poll(context),
        };
        if let (Poll::Ready(Some(Ok(bytes))), Some(unsent)) = (&polled, &mut this.unsent) {
            unsent.advance(to_u64(bytes.len()));
        }
        polled.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Text(text) => text.is_none(),
            _ => self.left() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
