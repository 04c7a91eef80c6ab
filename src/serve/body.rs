//! The body of an answer. A blob is hashed again while it is sent, and its last bytes are sent only after that has
//! proved it: one that changed breaks the connection.

use std::io::{self, BufRead as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::Sender as Events;
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::sync::mpsc;

use super::content::Blob;
use crate::blob::{BlobReader, OpenBlob};
use crate::error::{Error, Result};
use crate::oci::Digest;

/// Pieces of a blob that are read before the client takes them.
const AHEAD: usize = 4;

/// What happens to the blobs that are served.
#[derive(Debug)]
pub enum Event {
    /// A client requested a blob.
    Started {
        /// Its digest.
        digest: Digest,
        /// Its stored bytes.
        size: u64,
    },
    /// More of it is sent.
    Advanced {
        /// Its digest.
        digest: Digest,
        /// The stored bytes that are sent since the last event.
        bytes: u64,
    },
    /// All of it is sent, and it matches its digest.
    Finished {
        /// Its digest.
        digest: Digest,
    },
    /// It cannot be read, or does not match its digest any more. Its last bytes are not sent.
    Failed {
        /// Why.
        error: Error,
    },
}

/// The body of an answer: a text, or a blob.
pub(super) enum Body {
    Text(Option<Bytes>),
    Blob {
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        left: u64,
    },
}

impl Body {
    /// Sends a blob, which is read in a thread of its own.
    ///
    /// # Errors
    ///
    /// If its stored size is not what its descriptor says.
    pub(super) fn blob(blob: &Arc<Blob>, events: Option<Events<Event>>) -> Result<Body> {
        let reader = BlobReader::new(OpenBlob::Stored(blob.stored.clone()), &blob.descriptor)?;
        let (send, pieces) = mpsc::channel(AHEAD);
        let (digest, size) = (blob.descriptor.digest, blob.descriptor.size);
        let report = move |event| {
            // The receiver may be gone.
            let _ = events.as_ref().map(|events| events.send(event));
        };
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
        Ok(Body::Blob { pieces, left: size })
    }
}

/// Sends what a reader has, each piece after the next one is read. Returns whether the client took all of it.
fn produce(
    mut reader: BlobReader,
    digest: Digest,
    to: &mpsc::Sender<io::Result<Bytes>>,
    report: &dyn Fn(Event),
) -> Result<bool> {
    let send = |piece: Bytes| {
        let bytes = u64::try_from(piece.len()).unwrap_or_default();
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

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Body::Text(text) => Poll::Ready(text.take().map(Frame::data).map(Ok)),
            Body::Blob { pieces, left } => pieces.poll_recv(context).map(|piece| {
                Some(piece?.map(|bytes| {
                    *left = left.saturating_sub(u64::try_from(bytes.len()).unwrap_or_default());
                    Frame::data(bytes)
                }))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Text(text) => text.is_none(),
            Body::Blob { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Body::Text(text) => text
                .as_ref()
                .map_or(0, |text| u64::try_from(text.len()).unwrap_or_default()),
            Body::Blob { left, .. } => *left,
        })
    }
}
