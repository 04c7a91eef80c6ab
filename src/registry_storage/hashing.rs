//! The pass over the blobs. Workers take one of the folders `blobs/sha256/00` to `ff` after the other, so that only
//! the names in those folders are in memory.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::layout::{BlobFile, State, Storage, blob_folder, cannot, stat};
use super::report::{StorageFinding, Total, Unreferenced};
use super::{Options, Sample};
use crate::blob::map::Windows;
use crate::dir::{self, Dir};
use crate::error::{Error, Finding, Problem, Result};
use crate::interrupt::Interrupt;
use crate::oci::{Digest, Hasher};
use crate::progress::Progress;
use crate::workers;

/// Unreferenced blobs whose digests are kept.
const SHOWN: usize = 1000;

/// A blob that is bad by itself.
#[derive(Debug, Clone)]
pub(super) struct Bad {
    pub problem: Problem,
    /// Its file, if it is a regular one.
    pub state: Option<State>,
}

impl Bad {
    /// Whether it was written just now, so that it may not be complete.
    pub fn is_young(&self, settled: Duration) -> bool {
        self.state.is_some_and(|state| {
            let age = SystemTime::now().duration_since(state.modified());
            age.is_ok_and(|age| age < settled)
        })
    }

    /// What is wrong with it, given the size that a manifest says it has.
    pub fn told_by(&self, expected: u64) -> Problem {
        match (&self.problem, self.state) {
            (Problem::DigestDiffers { .. }, Some(State { size: found, .. })) if found != expected => {
                wrong_size(expected, found)
            }
            (problem, _) => problem.clone(),
        }
    }
}

/// The problem of a blob with another size than its manifest says.
pub(super) fn wrong_size(expected: u64, found: u64) -> Problem {
    match found < expected {
        true => Problem::Truncated { expected, found },
        false => Problem::SizeDiffers { expected, found },
    }
}

/// Blobs, and those of them that belong to the sample.
#[derive(Default)]
pub(super) struct Count {
    pub all: Total,
    pub sampled: Total,
}

/// The result of a first look at the blobs.
#[derive(Default)]
pub(super) struct FirstLook {
    /// Blobs that look bad; `None` for those that could not be read.
    pub suspects: Vec<(Digest, Option<Bad>)>,
    /// What does not belong among blobs.
    pub strays: Vec<StorageFinding>,
    pub unread: Vec<Error>,
}

/// A folder of blobs whose digests begin alike.
struct Shard {
    algorithm: &'static str,
    name: String,
}

/// The folders of blobs, and what else is beside them.
fn shards(storage: &Storage) -> (Vec<Shard>, FirstLook) {
    let (mut shards, mut first) = (Vec::new(), FirstLook::default());
    let Some(blobs) = storage.blobs() else {
        return (shards, first);
    };
    for name in names_of(blobs, &mut first) {
        let entry = format!("blobs/{name}");
        let algorithm = ["sha256", "sha512"].into_iter().find(|known| *known == name);
        let (Some(algorithm), Some(below)) = (algorithm, folder(storage, blobs, &name, &entry, &mut first))
        else {
            if algorithm.is_none() {
                first.strays.push(stray(storage, &entry));
            }
            continue;
        };
        for name in names_of(&below, &mut first) {
            match name.len() == 2 && name.bytes().all(is_hex) {
                true => shards.push(Shard { algorithm, name }),
                false => first.strays.push(stray(storage, &format!("{entry}/{name}"))),
            }
        }
    }
    (shards, first)
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// The names in a folder; those that are not text are shown as such.
fn names_of(dir: &Dir, first: &mut FirstLook) -> Vec<String> {
    match dir.names() {
        Ok(names) => {
            let mut names: Vec<String> = names
                .into_iter()
                .map(|name| name.to_string_lossy().into_owned())
                .collect();
            names.sort_unstable();
            names
        }
        Err(error) => {
            first.unread.push(Error::io("read", dir.path())(error));
            Vec::new()
        }
    }
}

/// Opens a folder. `None` if it has vanished; if it is something else, that is a finding.
fn folder(storage: &Storage, dir: &Dir, name: &str, entry: &str, first: &mut FirstLook) -> Option<Dir> {
    match dir.dir(name) {
        Ok(below) => return Some(below),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => match dir.kind(name) {
            Ok(Some(kind)) if error.kind() == io::ErrorKind::Other => {
                first.strays.push(StorageFinding::new(Finding {
                    place: storage.place(entry),
                    problem: Problem::NotAFolder {
                        kind: dir::kind_name(kind),
                    },
                }))
            }
            _ => first.unread.push(cannot("open", &dir.join(name), error)),
        },
    }
    None
}

fn stray(storage: &Storage, entry: &str) -> StorageFinding {
    StorageFinding::new(Finding {
        place: storage.place(entry),
        problem: Problem::UnknownFile,
    })
}

/// Does `work` for each blob's folder, in parallel. What does not belong among blobs goes into the result.
///
/// # Errors
///
/// [`Error::Interrupted`].
fn each_blob(
    storage: &Storage,
    options: &Options,
    interrupt: &Interrupt,
    work: impl Fn(Digest, &Dir, &mut FirstLook) + Sync,
) -> Result<FirstLook> {
    let (shards, first) = shards(storage);
    let (next, all) = (AtomicUsize::new(0), Mutex::new(first));
    let run = || {
        while let Some(shard) = shards.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut first = FirstLook::default();
            each_in(storage, shard, interrupt, &work, &mut first);
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.suspects.append(&mut first.suspects);
            all.strays.append(&mut first.strays);
            all.unread.append(&mut first.unread);
        }
    };
    workers::run(options.jobs.get().min(shards.len()), run);
    interrupt.check()?;
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn each_in(
    storage: &Storage,
    shard: &Shard,
    interrupt: &Interrupt,
    work: &impl Fn(Digest, &Dir, &mut FirstLook),
    first: &mut FirstLook,
) {
    let Shard { algorithm, name } = shard;
    let entry = format!("blobs/{algorithm}/{name}");
    let Some(blobs) = storage.blobs() else { return };
    let Some(dir) = blobs
        .dir(algorithm)
        .ok()
        .and_then(|dir| folder(storage, &dir, name, &entry, first))
    else {
        return;
    };
    for hex in names_of(&dir, first) {
        if interrupt.check().is_err() {
            return;
        }
        let entry = format!("{entry}/{hex}");
        let digest = format!("{algorithm}:{hex}").parse::<Digest>();
        match digest.ok().filter(|_| hex.starts_with(name.as_str())) {
            Some(digest) => {
                if let Some(dir) = folder(storage, &dir, &hex, &entry, first) {
                    work(digest, &dir, first);
                }
            }
            None => first.strays.push(stray(storage, &entry)),
        }
    }
}

/// Counts the blobs.
///
/// # Errors
///
/// [`Error::Interrupted`].
pub(super) fn count(storage: &Storage, options: &Options, interrupt: &Interrupt) -> Result<Count> {
    let count = Mutex::new(Count::default());
    each_blob(storage, options, interrupt, |digest, dir, _| {
        if let Ok(BlobFile::Regular(state)) = stat(dir) {
            let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
            count.all.add(state.size);
            if options.sample.has(&digest) {
                count.sampled.add(state.size);
            }
        }
    })?;
    Ok(count.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Hashes the blobs of the sample, and looks at the files of all.
///
/// # Errors
///
/// [`Error::Interrupted`].
pub(super) fn hash(
    storage: &Storage,
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<FirstLook> {
    each_blob(storage, options, interrupt, |digest, dir, first| {
        let found = look(
            storage,
            &digest,
            dir,
            &options.sample,
            interrupt,
            |event| match event {
                Event::Begins(size) => progress.blob_started(&digest, size, 0),
                Event::Read(bytes) => progress.blob_advanced(&digest, bytes),
                Event::Ends => progress.blob_finished(&digest),
            },
        );
        match found {
            Ok(Some(bad)) => first.suspects.push((digest, Some(bad))),
            Ok(None) => {}
            // A file that shrinks while it is read, or a bad medium: the second look tells.
            Err(_) => first.suspects.push((digest, None)),
        }
    })
}

enum Event {
    Begins(u64),
    Read(u64),
    Ends,
}

/// Looks at a blob in its folder. `None` if it is good, or is gone.
fn look(
    storage: &Storage,
    digest: &Digest,
    dir: &Dir,
    sample: &Sample,
    interrupt: &Interrupt,
    tell: impl Fn(Event),
) -> Result<Option<Bad>> {
    match stat(dir).map_err(Error::io("read", dir.path()))? {
        BlobFile::Missing => return Ok(None),
        BlobFile::Other(kind) => {
            let kind = dir::kind_name(kind);
            return Ok(Some(Bad {
                problem: Problem::NotAFile { kind },
                state: None,
            }));
        }
        BlobFile::Regular(state) if state.size == 0 => {
            let is_bad = *digest != digest.of_same_algorithm(&[]);
            return Ok(is_bad.then_some(Bad {
                problem: Problem::Empty,
                state: Some(state),
            }));
        }
        BlobFile::Regular(_) if !sample.has(digest) => return Ok(None),
        BlobFile::Regular(_) => {}
    }
    let Some((stored, state)) = storage.open_blob(digest)? else {
        return Ok(None);
    };
    tell(Event::Begins(state.size));
    let mut hasher = Hasher::like(digest);
    let mut windows = Windows::new(&stored);
    while let Some(piece) = windows.next_piece()? {
        hasher.update(piece);
        interrupt.check()?;
        tell(Event::Read(u64::try_from(piece.len()).unwrap_or_default()));
    }
    tell(Event::Ends);
    let (expected, found) = (*digest, hasher.finish());
    Ok((found != expected).then_some(Bad {
        problem: Problem::DigestDiffers { expected, found },
        state: Some(state),
    }))
}

/// Looks again at a blob that looked bad, unless its file is old and still the same. `None` if it is good, or is gone.
///
/// # Errors
///
/// If it cannot be read this time either, and [`Error::Interrupted`].
pub(super) fn look_again(
    storage: &Storage,
    digest: &Digest,
    before: Option<Bad>,
    settled: Duration,
    interrupt: &Interrupt,
) -> Result<Option<Bad>> {
    if let Some(bad) = before
        && let Some(state) = bad.state
        && !bad.is_young(settled.saturating_mul(2))
        && storage.stat(digest)? == BlobFile::Regular(state)
    {
        return Ok(Some(bad));
    }
    let Some(blobs) = storage.blobs() else {
        return Ok(None);
    };
    let folder = blob_folder(digest);
    match blobs.below(Path::new(&folder)) {
        Ok(dir) => look(storage, digest, &dir, &Sample::ALL, interrupt, |_| {}),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open", blobs.join(folder))(error)),
    }
}

/// Finds the blobs that `is_unmarked` says, and that were written before a time. The digests of some are kept.
///
/// # Errors
///
/// [`Error::Interrupted`].
pub(super) fn unmarked(
    storage: &Storage,
    options: &Options,
    interrupt: &Interrupt,
    before: SystemTime,
    is_unmarked: impl Fn(&Digest) -> bool + Sync,
) -> Result<Unreferenced> {
    let found = Mutex::new(Unreferenced::default());
    each_blob(storage, options, interrupt, |digest, dir, _| {
        if is_unmarked(&digest)
            && let Ok(BlobFile::Regular(state)) = stat(dir)
            && state.modified() < before
        {
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.total.add(state.size);
            if found.some.len() < SHOWN {
                found.some.push(digest);
            }
        }
    })?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}
