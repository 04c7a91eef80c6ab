//! The journal of a save: how much of each blob is written, for the next run. It is only a hint. Its blobs are
//! hashed again, so it may be stale, torn or forged. It is written to a new name and renamed; it is not synced.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::staging;
use crate::dir::Dir;
use crate::oci::{Descriptor, Digest, json};

/// Its name in the staging folder.
pub const NAME: &str = "journal.json";
const VERSION: u32 = 1;
/// Largest journal that is read, in bytes: a hundred thousand blobs.
const MAX_SIZE: u64 = 32 << 20;
/// The journal is written after this many new bytes, or after this time.
const EVERY_BYTES: u64 = 64 << 20;
const EVERY: Duration = Duration::from_secs(2);

#[derive(serde::Serialize, serde::Deserialize)]
struct Document {
    version: u32,
    sets: Vec<FileSet>,
}

/// Files that were laid out together, and the blobs in them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileSet {
    /// The number at the start of the files' names.
    pub generation: u32,
    /// The sizes of the files, in order; one if the archive is not split.
    pub lengths: Vec<u64>,
    /// Whether the files are parts.
    pub is_split: bool,
    /// The blobs.
    pub blobs: Vec<WrittenBlob>,
}

/// How much of a blob is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WrittenBlob {
    /// The blob.
    pub digest: Digest,
    /// Its stored bytes.
    pub size: u64,
    /// Its position, with its files joined.
    pub offset: u64,
    /// Stored bytes written so far, from the first one on.
    pub done: u64,
}

impl FileSet {
    /// The name of a file in the staging folder.
    pub fn file(&self, position: usize) -> String {
        format!("{}.{:03}", self.generation, position + 1)
    }

    /// Whether its numbers are safe to compute with.
    fn is_sound(&self) -> bool {
        let total = self
            .lengths
            .iter()
            .try_fold(0u64, |sum, length| sum.checked_add(*length));
        let fits = |mark: &WrittenBlob| {
            mark.done <= mark.size
                && mark
                    .offset
                    .checked_add(mark.size)
                    .zip(total)
                    .is_some_and(|(end, total)| end <= total)
        };
        (self.is_split || self.lengths.len() == 1)
            && self.generation < u32::MAX
            && self.blobs.iter().all(fits)
    }
}

/// Reads the journal of an interrupted run, the current set first. Empty if there is no valid journal.
pub fn read(folder: &Dir) -> Vec<FileSet> {
    let mut bytes = Vec::new();
    let read = folder.open_file(NAME).and_then(|file| {
        let mut limited = file.take(MAX_SIZE.saturating_add(1));
        limited.read_to_end(&mut bytes)
    });
    let is_whole = read.is_ok_and(|count| u64::try_from(count).is_ok_and(|count| count <= MAX_SIZE));
    let document = is_whole.then(|| json::from_slice::<Document>(&bytes).ok());
    match document.flatten() {
        Some(document) if document.version == VERSION && document.sets.iter().all(FileSet::is_sound) => {
            document.sets
        }
        _ => Vec::new(),
    }
}

/// The journal of a running save.
#[derive(Debug)]
pub struct Journal {
    folder: Arc<Dir>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: FileSet,
    marks: BTreeMap<Digest, WrittenBlob>,
    older: Vec<FileSet>,
    unsaved: u64,
    saved_at: Instant,
}

impl Journal {
    /// Starts a journal for `current`. `older` are sets from which blobs are still copied.
    pub fn new(folder: Arc<Dir>, current: FileSet, older: Vec<FileSet>) -> Journal {
        let marks = current.blobs.iter().map(|mark| (mark.digest, *mark)).collect();
        Journal {
            folder,
            state: Mutex::new(State {
                current,
                marks,
                older,
                unsaved: 0,
                saved_at: Instant::now(),
            }),
        }
    }

    /// Records that the first `done` bytes of a blob at `offset` are written, `new` of them since the last call.
    pub fn record(&self, blob: &Descriptor, offset: u64, done: u64, new: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = WrittenBlob {
            digest: blob.digest,
            size: blob.size,
            offset,
            done,
        };
        state.marks.insert(blob.digest, mark);
        state.unsaved = state.unsaved.saturating_add(new);
        if state.unsaved >= EVERY_BYTES || state.saved_at.elapsed() >= EVERY {
            self.write(&mut state);
        }
    }

    /// Whether there is anything worth keeping.
    pub fn is_worth_keeping(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.marks.values().any(|mark| mark.done > 0) || !state.older.is_empty()
    }

    /// Writes the journal now.
    pub fn save(&self) {
        self.write(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn write(&self, state: &mut State) {
        state.unsaved = 0;
        state.saved_at = Instant::now();
        let mut sets = vec![FileSet {
            blobs: state.marks.values().copied().collect(),
            ..state.current.clone()
        }];
        sets.extend(state.older.iter().cloned());
        let document = Document {
            version: VERSION,
            sets,
        };
        // Without a journal the next run takes longer; this one does not fail.
        if let Ok(bytes) = serde_json::to_vec(&document) {
            let _ = staging::replace(&self.folder, NAME, &bytes);
        }
    }
}
