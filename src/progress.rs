//! What long work reports while it goes on. Bars and lines are made of it elsewhere.

use crate::oci::Digest;

/// Takes in what long work reports. Called from several threads at once.
pub trait Progress: Send + Sync {
    /// A phase begins: what is done, and how many bytes it will take if that is known.
    fn phase(&self, name: &str, total_bytes: Option<u64>) {
        let _ = (name, total_bytes);
    }

    /// Work on a blob of `size` stored bytes begins; `done` of them are there already.
    fn blob_started(&self, digest: &Digest, size: u64, done: u64) {
        let _ = (digest, size, done);
    }

    /// `bytes` more of a blob are done.
    fn blob_advanced(&self, digest: &Digest, bytes: u64) {
        let _ = (digest, bytes);
    }

    /// A blob is done.
    fn blob_finished(&self, digest: &Digest) {
        let _ = digest;
    }

    /// The work is at its end: whatever shows progress makes room for the result.
    fn done(&self) {}

    /// Something that a user should know but that does not stop the work, such as a retry.
    fn note(&self, text: &str) {
        let _ = text;
    }

    /// Something that a user has to know even where nothing else is reported.
    fn warn(&self, text: &str) {
        self.note(text);
    }
}

/// Reports nothing.
pub struct Silent;

impl Progress for Silent {}
