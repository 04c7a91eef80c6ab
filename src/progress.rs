//! Reports of long work. The CLI turns them into progress bars and lines.

use crate::oci::Digest;

/// Receives reports of long work. Called from several threads at once.
pub trait Progress: Send + Sync {
    /// A phase begins. `total_bytes` is its size, if that is known.
    fn phase(&self, name: &str, total_bytes: Option<u64>) {
        let _ = (name, total_bytes);
    }

    /// Work on a blob of `size` stored bytes begins; `done` of them are complete already.
    fn blob_started(&self, digest: &Digest, size: u64, done: u64) {
        let _ = (digest, size, done);
    }

    /// `bytes` more of a blob are complete.
    fn blob_advanced(&self, digest: &Digest, bytes: u64) {
        let _ = (digest, bytes);
    }

    /// A blob is complete.
    fn blob_finished(&self, digest: &Digest) {
        let _ = digest;
    }

    /// The work ends: progress bars make room for the result.
    fn done(&self) {}

    /// Something that a user should know and that does not stop the work, such as a retry.
    fn note(&self, text: &str) {
        let _ = text;
    }

    /// Something that a user must know even in quiet mode.
    fn warn(&self, text: &str) {
        self.note(text);
    }
}

/// Reports nothing.
pub struct Silent;

impl Progress for Silent {}
