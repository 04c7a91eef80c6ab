//! What a failed call means, and what to do about it.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Status};

use crate::error::{Error, Hint, Remedy, Result, tells_of_full_disk};

/// Most characters of a message of containerd that are shown.
const MAX_PROBLEM: usize = 2000;

/// What containerd says of a snapshotter that it does not have.
const NO_SNAPSHOTTER: &str = "snapshotter not loaded";

/// Where a containerd is.
#[derive(Debug, Clone)]
pub struct Address(PathBuf);

impl Address {
    /// A socket.
    pub fn new(socket: &Path) -> Address {
        Address(socket.to_path_buf())
    }

    /// The engine's name in messages.
    pub fn engine(&self) -> String {
        format!("containerd at {}", self.0.display())
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.0
    }

    /// A value to send beside a request.
    pub(super) fn metadata(&self, what: &str, value: &str) -> Result<MetadataValue<Ascii>> {
        value.parse().map_err(|_| Error::Usage {
            message: format!("{what} {value:?} has characters that cannot be sent to containerd"),
            hint: None,
        })
    }

    /// A call that failed.
    pub(super) fn error(&self, action: &str, status: &Status) -> Error {
        let mut problem: String = status.message().chars().take(MAX_PROBLEM).collect();
        if problem.is_empty() {
            problem = status.code().description().into();
        }
        let is_closed = is_of_connection(status);
        if is_closed {
            problem = "the connection was closed".into();
        }
        let hint: Option<Hint> = match status.code() {
            _ if tells_of_full_disk(&problem) => {
                Some("free some space on the disk of containerd's root folder".into())
            }
            _ if problem.contains(NO_SNAPSHOTTER) => Some(Remedy::OtherSnapshotter.into()),
            Code::DeadlineExceeded => Some(
                "containerd is stopped or overloaded (systemctl status containerd); run this again when it answers"
                    .into(),
            ),
            code if is_closed || code == Code::Unavailable => Some(
                "is containerd still running? (systemctl status containerd); run this again when it does"
                    .into(),
            ),
            _ => None,
        };
        Error::Engine {
            engine: self.engine(),
            action: action.into(),
            problem,
            hint,
        }
    }
}

/// The status of a call that got no answer in time.
pub(super) fn silent(longest: Duration) -> Status {
    Status::deadline_exceeded(format!(
        "no answer within {} seconds",
        longest.as_secs_f64().ceil()
    ))
}

/// Whether a call failed because the connection ended, as when containerd is killed, and not by an answer.
fn is_of_connection(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(inner) = cause {
        if inner.is::<tonic::transport::Error>() || inner.is::<hyper::Error>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// A socket that accepts no connection.
pub(super) fn unreachable(address: &Address, error: &tonic::transport::Error) -> Error {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            let hint: Hint = match io.kind() {
                io::ErrorKind::PermissionDenied => Remedy::RunAsRoot.into(),
                _ => "is containerd running? (systemctl status containerd)".into(),
            };
            return Error::Engine {
                engine: address.engine(),
                action: "connect".into(),
                problem: io.to_string(),
                hint: Some(hint),
            };
        }
        cause = inner.source();
    }
    Error::Engine {
        engine: address.engine(),
        action: "connect".into(),
        problem: error.to_string(),
        hint: None,
    }
}
