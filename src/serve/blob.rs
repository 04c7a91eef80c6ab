//! A blob that is served, and the proof that its files have it: made once for as long as they stay the same.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OnceCell, Semaphore};

use crate::blob::map::Windows;
use crate::blob::{Stored, Verifier};
use crate::error::{Error, Place, Problem, Result};
use crate::oci::Descriptor;

/// A blob, and where its stored bytes are.
#[derive(Debug)]
pub struct Blob {
    pub(super) descriptor: Descriptor,
    pub(super) stored: Stored,
    /// The state of its files in which it was verified, or is being verified, and what that found.
    proof: Mutex<Option<(FilesState, Arc<Proof>)>>,
    #[cfg(test)]
    verified: std::sync::atomic::AtomicUsize,
}

/// Errors of reading are not kept: the next request tries again.
type Proof = OnceCell<Result<()>>;

/// What changes when a file is written: of each file of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilesState(Vec<FileState>);

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FilesState {
    /// Whether at most names, rights and owners have changed.
    fn has_same_content(&self, since: &FilesState) -> bool {
        let content = |state: &FileState| (state.device, state.inode, state.size, state.modified);
        self.0.iter().map(content).eq(since.0.iter().map(content))
    }
}

impl From<&std::fs::Metadata> for FileState {
    fn from(meta: &std::fs::Metadata) -> FileState {
        FileState {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl Blob {
    /// A blob that is not verified yet.
    pub(super) fn new(descriptor: &Descriptor, stored: &Stored) -> Blob {
        Blob {
            descriptor: descriptor.bare(),
            stored: stored.clone(),
            proof: Mutex::default(),
            #[cfg(test)]
            verified: std::sync::atomic::AtomicUsize::default(),
        }
    }

    /// Where it is, for messages.
    pub(super) fn place(&self) -> Place {
        let place = self.stored.locate(Place::blob(self.descriptor.digest));
        let Some(extent) = self.stored.extents.first() else {
            return place;
        };
        // A file of a folder has the entry's name.
        let path = extent.path.display().to_string();
        let folder = path.strip_suffix(&self.stored.entry);
        place.within(folder.map_or(path.as_str(), |folder| folder.trim_end_matches('/')))
    }

    /// The state of its files now.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if that cannot be told.
    pub(super) fn state(&self) -> Result<FilesState> {
        let states = self.stored.extents.iter().map(|extent| {
            let meta = extent.file.metadata();
            let meta = meta.map_err(Error::io("read", &*extent.path))?;
            Ok(FileState::from(&meta))
        });
        states.collect::<Result<_>>().map(FilesState)
    }

    /// Whether its files are still in this state. If not, they have lost a name because others were renamed over them, or
    /// have other rights; or they were written, and their times put back.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if they were plainly written.
    pub(super) fn is_still(&self, before: &FilesState) -> Result<bool> {
        let now = self.state()?;
        match now.has_same_content(before) {
            true => Ok(now == *before),
            false => Err(Error::io("read", self.place().to_string())(io::Error::other(
                "the file was changed while it was read",
            ))),
        }
    }

    /// Verifies size and digest, unless that was done since its files were last changed. Requests at the same time wait
    /// for one verification. Returns the state of the files for which the proof holds.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if they differ; [`Error::Io`] if the bytes cannot be read.
    pub(super) async fn prove(self: &Arc<Blob>, at_once: &Arc<Semaphore>) -> Result<FilesState> {
        let now = self.state()?;
        let proof = self.proof_of(&now);
        if let Some(known) = proof.get() {
            return known.clone().map(|()| now);
        }
        let (blob, at_once, state) = (Arc::clone(self), Arc::clone(at_once), now.clone());
        // A task of its own: the client that is waited for may go away, and the others still need the result.
        let task = tokio::spawn(async move {
            let verify = async {
                // The semaphore is never closed.
                let _permit = at_once.acquire_owned().await;
                let hashed = tokio::task::spawn_blocking(move || blob.hash(&state, &|_| Ok(())));
                keep(hashed.await.unwrap_or(Err(Error::Interrupted)))
            };
            proof.get_or_try_init(|| verify).await.cloned()
        });
        task.await.unwrap_or(Err(Error::Interrupted))??;
        Ok(now)
    }

    /// The same, in this thread. `advance` is called with the number of bytes that were hashed, and may stop it.
    ///
    /// # Errors
    ///
    /// As [`Blob::prove`], and those of `advance`.
    pub(super) fn prove_here(&self, advance: &dyn Fn(u64) -> Result<()>) -> Result<()> {
        let now = self.state()?;
        let proof = self.proof_of(&now);
        if let Some(known) = proof.get() {
            return known.clone();
        }
        let found = keep(self.hash(&now, advance))?;
        let _ = proof.set(found.clone());
        found
    }

    /// How many times its bytes were hashed.
    #[cfg(test)]
    pub(super) fn verified_times(&self) -> usize {
        self.verified.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Whether it is known to be wrong, as its files are now.
    pub(super) fn is_known_wrong(&self) -> bool {
        let Ok(now) = self.state() else {
            return false;
        };
        let known = self.proof.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.as_ref().filter(|(state, _)| *state == now);
        let proof = known.and_then(|(_, proof)| proof.get());
        proof.is_some_and(Result::is_err)
    }

    /// The place for the proof of this state of its files.
    fn proof_of(&self, now: &FilesState) -> Arc<Proof> {
        let mut known = self.proof.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((state, proof)) if state == now => Arc::clone(proof),
            _ => {
                let proof = Arc::default();
                *known = Some((now.clone(), Arc::clone(&proof)));
                proof
            }
        }
    }

    fn hash(&self, state: &FilesState, advance: &dyn Fn(u64) -> Result<()>) -> Result<()> {
        #[cfg(test)]
        self.verified.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let refused = |problem: Problem| Error::refused(self.place(), problem);
        if self.stored.size != self.descriptor.size {
            return Err(refused(Problem::SizeDiffers {
                expected: self.descriptor.size,
                found: self.stored.size,
            }));
        }
        let mut verifier = Verifier::new(&self.descriptor);
        let mut windows = Windows::new(&self.stored);
        while let Some(piece) = windows.next_piece()? {
            verifier.update(piece).map_err(refused)?;
            advance(u64::try_from(piece.len()).unwrap_or_default())?;
        }
        self.is_still(state)?;
        verifier.finish().map_err(refused)?;
        Ok(())
    }
}

/// What is kept of a verification: that it is right, or what is wrong with it.
fn keep(found: Result<()>) -> Result<Result<()>> {
    match found {
        Ok(()) => Ok(Ok(())),
        Err(wrong @ Error::Refused(_)) => Ok(Err(wrong)),
        Err(other) => Err(other),
    }
}
