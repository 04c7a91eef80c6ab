//! Reports of long work. The CLI turns them into progress bars and lines.

use std::collections::HashMap;

use crate::oci::Digest;

/// Receives reports of long work. Called from several threads at once.
pub trait Progress: Send + Sync {
    /// A phase begins. `total_bytes` is its size, if that is known.
    fn phase(&self, name: &str, total_bytes: Option<u64>) {
        let _ = (name, total_bytes);
    }

    /// Work on a blob of `size` bytes begins, or begins again; `done` of them are complete already.
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

    /// Verification has found nothing wrong with a blob.
    fn blob_verified(&self, digest: &Digest) {
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

/// Counts the bytes of a phase. A blob that is started again, as when another encoder is tried, is counted anew, and a
/// finished one in full, so that the sum reaches the phase's size.
#[derive(Debug, Default)]
pub struct Tally {
    done: u64,
    moved: u64,
    /// Size and counted bytes of blobs that are not finished.
    blobs: HashMap<Digest, (u64, u64)>,
}

impl Tally {
    /// All bytes so far.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// The bytes that were read or sent: without what was complete before, and with what was done twice.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// As [`Progress::blob_started`].
    pub fn started(&mut self, digest: &Digest, size: u64, done: u64) {
        let before = self.blobs.insert(*digest, (size, done));
        let before = before.map_or(0, |(_, counted)| counted);
        self.done = self.done.saturating_sub(before).saturating_add(done);
    }

    /// As [`Progress::blob_advanced`].
    pub fn advanced(&mut self, digest: &Digest, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        self.moved = self.moved.saturating_add(bytes);
        if let Some((_, counted)) = self.blobs.get_mut(digest) {
            *counted = counted.saturating_add(bytes);
        }
    }

    /// As [`Progress::blob_finished`].
    pub fn finished(&mut self, digest: &Digest) {
        if let Some((size, counted)) = self.blobs.remove(digest) {
            self.done = self.done.saturating_add(size.saturating_sub(counted));
        }
    }
}

/// Reports nothing.
pub struct Silent;

impl Progress for Silent {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_reaches_the_size_of_its_phase_and_no_more() {
        let [one, two] = ["one", "two"].map(|text| Digest::sha256(text.as_bytes()));
        let mut tally = Tally::default();
        tally.started(&one, 100, 30);
        tally.advanced(&one, 50);
        tally.started(&two, 10, 0);
        assert_eq!(tally.done(), 80);
        // Another encoder is tried, and given up early.
        tally.started(&one, 100, 0);
        assert_eq!(tally.done(), 0);
        tally.advanced(&one, 20);
        tally.advanced(&two, 10);
        tally.finished(&one);
        tally.finished(&two);
        assert_eq!(tally.done(), 110);
        assert_eq!(tally.moved(), 80);
    }
}
