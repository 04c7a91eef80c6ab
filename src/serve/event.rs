//! What a server tells about its work.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::error::Error;
use crate::oci::Digest;

/// What a server tells.
#[derive(Debug)]
pub enum Event {
    /// A client requested a blob that is hashed while it is sent.
    Started {
        /// Its digest.
        digest: Digest,
        /// Its stored bytes.
        size: u64,
    },
    /// More of it is sent, or a manifest.
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
    /// A blob cannot be read, or does not match its digest. Its last bytes are not sent.
    Failed {
        /// Why.
        error: Error,
    },
    /// A request was answered, or its client has gone away.
    Answered(Answered),
}

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Answered {
    /// Such as `GET`.
    pub method: String,
    /// The path, as far as it is not longer than what is reasonable.
    pub path: String,
    /// The registry that a mirror was asked for.
    #[serde(rename = "ns", skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// The status code.
    pub status: u16,
    /// Bytes of the body that were handed to the connection.
    pub bytes: u64,
    /// Whether these were all of them.
    pub complete: bool,
    /// The client's address.
    pub client: SocketAddr,
}

/// Receives events. Called from several threads at once, which it must not keep waiting.
pub type Report = Arc<dyn Fn(Event) + Send + Sync>;

/// An answer that is on its way. Told about when it is dropped, as it is at its end.
pub(super) struct Unsent {
    answered: Answered,
    /// Bytes that are to be sent.
    left: u64,
    report: Report,
}

impl Unsent {
    /// Begins with nothing of `left` bytes sent.
    pub(super) fn new(answered: Answered, left: u64, report: &Report) -> Unsent {
        Unsent {
            answered,
            left,
            report: Arc::clone(report),
        }
    }

    /// More is sent.
    pub(super) fn advance(&mut self, bytes: u64) {
        self.answered.bytes = self.answered.bytes.saturating_add(bytes);
        self.left = self.left.saturating_sub(bytes);
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        let mut answered = self.answered.clone();
        answered.complete = self.left == 0;
        (self.report)(Event::Answered(answered));
    }
}
