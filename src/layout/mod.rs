//! OCI layouts as targets: a folder, or one sealed archive. Digests are native to both.
//!
//! - `images`: the images that a layout gets, with the platforms that were asked for
//! - `blobs`: their blobs: which to write, and how one is copied and proven
//! - `folder`: a layout folder, created or added to
//! - `staged`: a folder that is being written
//! - `index`: the `index.json` of a folder that has one already
//! - `archive`: an archive, written anew

mod archive;
mod blobs;
mod folder;
mod images;
mod index;
mod staged;

pub use archive::ArchiveTarget;
pub use folder::FolderTarget;

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::load::Candidates;

fn id(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// The files and folders that hold images to load, each once. Temporary files have no name, and are not among them.
fn inputs(candidates: &Candidates<'_>) -> Vec<Metadata> {
    let mut inputs: HashMap<(u64, u64), Metadata> = HashMap::new();
    let mut add = |meta: Metadata| inputs.insert(id(&meta), meta);
    for archive in &candidates.archives {
        // An archive that was decompressed is read from a temporary file.
        if let Ok(meta) = Path::new(archive.label()).metadata() {
            add(meta);
        }
        let blobs = archive.blobs();
        let stored = blobs.iter().filter_map(|digest| archive.stored(digest));
        for extent in stored.flat_map(|stored| &stored.extents) {
            match extent.file.metadata() {
                Ok(meta) if meta.nlink() > 0 => drop(add(meta)),
                _ => {}
            }
        }
    }
    inputs.into_values().collect()
}

/// Refuses to write to what is read.
///
/// # Errors
///
/// [`Error::Usage`] if one of these files or folders holds images to load.
fn refuse_inputs(candidates: &Candidates<'_>, targets: &[PathBuf]) -> Result<()> {
    let inputs = inputs(candidates);
    let is_input = |target: &PathBuf| {
        let target = target.metadata().map(|meta| id(&meta));
        target.is_ok_and(|target| inputs.iter().any(|input| id(input) == target))
    };
    match targets.iter().find(|target| is_input(target)) {
        None => Ok(()),
        Some(target) => Err(Error::Usage {
            message: format!("{} is both read and written", target.display()),
            hint: Some("name another target".into()),
        }),
    }
}

/// Whether another user may not read one of the inputs, so that what is made of them must be private too.
fn is_private(candidates: &Candidates<'_>) -> bool {
    let mut archives = candidates.archives.iter();
    archives.any(|archive| crate::archive::is_private(*archive))
}

#[cfg(test)]
mod tests;
