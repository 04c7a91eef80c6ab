//! Data of an interrupted run, and the files to continue with: the same files if the plan is unchanged, else
//! new ones into which the old blobs are copied.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

use rustix::fs::FileType;

use super::file_system::FileSystem;
use super::journal::{self, FileSet, Journal};
use super::publish::part_name;
use super::segments::{Segment, Segments};
use super::staging::Staging;
use super::{Options, TarPlan};
use crate::dir::{Dir, Located};
use crate::error::{Error, Result};
use crate::oci::Digest;

/// The first bytes of a blob.
#[derive(Debug)]
pub struct KeptBlob {
    /// Older files; `None` for those that are being written.
    pub from: Option<Arc<Segments>>,
    /// Position of the blob in them.
    pub offset: u64,
    /// Bytes of it that should be there.
    pub done: u64,
}

/// The start of a run.
pub struct Resume {
    /// The files to write.
    pub segments: Segments,
    /// The started journal.
    pub journal: Journal,
    /// The kept bytes of blobs.
    pub kept: HashMap<Digest, KeptBlob>,
    /// The file system.
    pub file_system: FileSystem,
}

impl Resume {
    /// Reads the staging folder, checks that the rest fits, and opens files.
    ///
    /// # Errors
    ///
    /// If it does not fit, or a file cannot be created.
    pub fn find(
        staging: &Staging,
        target: &Located,
        plan: &TarPlan,
        parts: &[Range<u64>],
        options: &Options,
    ) -> Result<Resume> {
        let folder = staging.folder();
        let (current, mut older) = sets(folder, plan, parts, options);
        let written = kept_files(&current)
            .filter_map(|name| folder.open_file(name).ok()?.metadata().ok())
            .fold(0u64, |sum, meta| {
                sum.saturating_add(meta.blocks().saturating_mul(512))
            });
        staging.clear(&names(&current, &older))?;
        let mut file_system = FileSystem::under(folder)?;
        let check =
            |file_system: FileSystem| file_system.check(&target.path(), parts, written, options.beside);
        if !older.is_empty() && check(file_system).is_err() {
            // Copying from older files needs their space twice: better to fetch than to fail.
            older.clear();
            staging.clear(&names(&current, &older))?;
            file_system = FileSystem::under(folder)?;
        }
        check(file_system)?;
        let mut kept = HashMap::new();
        for set in &older {
            let from = Arc::new(open_old(set, folder, target));
            keep(&mut kept, set, Some(&from));
        }
        keep(&mut kept, &current, None);
        Ok(Resume {
            segments: open(&current, folder, target, parts, options.private)?,
            journal: Journal::new(folder.clone(), current, older),
            kept,
            file_system,
        })
    }
}

/// The files to continue with, and older ones with blobs of the plan.
fn sets(folder: &Dir, plan: &TarPlan, parts: &[Range<u64>], options: &Options) -> (FileSet, Vec<FileSet>) {
    let wanted: HashMap<Digest, u64> = plan
        .blobs()
        .iter()
        .map(|blob| (blob.descriptor.digest, blob.offset))
        .collect();
    let mut sets = if options.resume {
        journal::read(folder)
    } else {
        Vec::new()
    };
    let generation = sets
        .iter()
        .map(|set| set.generation)
        .max()
        .map_or(1, |last| last + 1);
    for set in &mut sets {
        set.blobs.retain(|mark| wanted.contains_key(&mark.digest));
    }
    let fresh = FileSet {
        generation,
        lengths: parts.iter().map(|part| part.end - part.start).collect(),
        is_split: options.split.is_some(),
        blobs: Vec::new(),
    };
    // If the plan is unchanged, nothing needs to be copied.
    let fits = |set: &FileSet| {
        set.is_split == fresh.is_split
            && set.lengths == fresh.lengths
            && files(set).all(|name| is_file(folder, &name))
            && set
                .blobs
                .iter()
                .all(|mark| wanted.get(&mark.digest) == Some(&mark.offset))
    };
    let current = match sets.first() {
        Some(first) if fits(first) => sets.remove(0),
        _ => fresh,
    };
    sets.retain(|set| !set.blobs.is_empty());
    (current, sets)
}

/// The names in a staging folder that belong to these sets.
fn names(current: &FileSet, older: &[FileSet]) -> Vec<String> {
    std::iter::once(journal::NAME.to_string())
        .chain(kept_files(current))
        .chain(older.iter().flat_map(files))
        .collect()
}

/// The files to continue with, if any.
fn kept_files(current: &FileSet) -> impl Iterator<Item = String> {
    files(current).filter(|_| !current.blobs.is_empty())
}

fn files(set: &FileSet) -> impl Iterator<Item = String> {
    (0..set.lengths.len()).map(|at| set.file(at))
}

/// Adds the blobs of a set, unless another set has more of them.
fn keep(kept: &mut HashMap<Digest, KeptBlob>, set: &FileSet, from: Option<&Arc<Segments>>) {
    for mark in set.blobs.iter().filter(|mark| mark.done > 0) {
        let more = kept.get(&mark.digest).is_none_or(|other| other.done <= mark.done);
        if more {
            kept.insert(
                mark.digest,
                KeptBlob {
                    from: from.cloned(),
                    offset: mark.offset,
                    done: mark.done,
                },
            );
        }
    }
}

fn is_file(folder: &Dir, name: &str) -> bool {
    matches!(folder.kind(name), Ok(Some(FileType::RegularFile)))
}

fn final_name(set_is_split: bool, target: &Located, position: usize) -> OsString {
    if set_is_split {
        part_name(target, position + 1)
    } else {
        target.name.clone()
    }
}

/// Opens the files to write, which need not exist. Their mode is 0600 if they are private, else 0644 minus
/// `umask`. Files of an interrupted run that are private stay so.
fn open(
    set: &FileSet,
    folder: &Dir,
    target: &Located,
    parts: &[Range<u64>],
    private: bool,
) -> Result<Segments> {
    let mode = if private { 0o600 } else { 0o644 };
    let mut segments = Segments(Vec::new());
    for (position, range) in parts.iter().enumerate() {
        let name = set.file(position);
        let path = folder.join(&name);
        let file = folder
            .open_or_create(&name, mode)
            .map_err(Error::io("create", &path))?;
        if private {
            // A file system without modes has nothing to restrict.
            let _ = file.set_permissions(Permissions::from_mode(mode));
        }
        segments.0.push(Segment {
            file,
            name,
            path,
            target: target.dir.join(final_name(set.is_split, target, position)),
            range: range.clone(),
        });
    }
    Ok(segments)
}

/// Opens older files. One that was renamed just before a run was killed is read under its final name.
fn open_old(set: &FileSet, folder: &Dir, target: &Located) -> Segments {
    let mut segments = Segments(Vec::new());
    let mut start = 0;
    for (position, length) in set.lengths.iter().enumerate() {
        let range = start..start + length;
        start = range.end;
        let name = set.file(position);
        let named = final_name(set.is_split, target, position);
        let has_length = |file: &File| file.metadata().is_ok_and(|meta| meta.len() == *length);
        let opened = match folder.open_file(&name) {
            Ok(file) => Ok((file, folder.join(&name))),
            Err(_) => target
                .dir
                .open_file(&named)
                .and_then(|file| match has_length(&file) {
                    true => Ok((file, target.dir.join(&named))),
                    false => Err(io::ErrorKind::NotFound.into()),
                }),
        };
        if let Ok((file, path)) = opened {
            segments.0.push(Segment {
                file,
                name,
                path,
                target: target.dir.join(&named),
                range,
            });
        }
    }
    segments
}
