//! OCI layouts as targets: a folder, or one sealed archive. Digests are native to both.
//!
//! - `folder`: a layout folder, created or added to
//! - `staged`: a folder that is being written
//! - `index`: the `index.json` of a folder that has one already
//! - `lists`: the lists of referrers in such a folder
//! - `archive`: an archive, written anew

mod archive;
mod folder;
mod index;
mod lists;
mod staged;

pub use archive::ArchiveTarget;
pub use folder::FolderTarget;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::archive::writer::Inputs;
use crate::load::Candidates;

/// The files and folders that hold images to load. Temporary files have no name, and are not among them.
fn inputs(candidates: &Candidates<'_>) -> Inputs {
    let mut inputs = Inputs::default();
    for archive in &candidates.archives {
        // An archive that was decompressed is read from a temporary file.
        inputs.add_path(Path::new(archive.label()));
        let blobs = archive.blobs();
        let stored = blobs.iter().filter_map(|digest| archive.stored(digest));
        for extent in stored.flat_map(|stored| &stored.extents) {
            match extent.file.metadata() {
                Ok(meta) if meta.nlink() > 0 => inputs.add(&meta, &extent.path),
                _ => {}
            }
        }
    }
    inputs
}

/// Whether another user may not read one of the inputs, so that what is made of them must be private too.
fn is_private(candidates: &Candidates<'_>) -> bool {
    let mut archives = candidates.archives.iter();
    archives.any(|archive| crate::archive::is_private(*archive))
}

#[cfg(test)]
mod tests;
