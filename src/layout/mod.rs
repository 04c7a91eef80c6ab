//! OCI layouts as targets: a folder, or one sealed archive. Digests are native to both.
//!
//! - `images`: the images that a layout gets, with the platforms that were asked for
//! - `blobs`: their blobs: which to write, and how one is copied and proven
//! - `folder`: a layout folder, created or added to
//! - `index`: the `index.json` of a folder that has one already
//! - `archive`: an archive, written anew

mod archive;
mod blobs;
mod folder;
mod images;
mod index;

pub use archive::ArchiveTarget;
pub use folder::FolderTarget;

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::load::Candidates;

/// Refuses to write to what is read.
///
/// # Errors
///
/// [`Error::Usage`] if one of these files or folders holds images to load.
fn refuse_inputs(candidates: &Candidates<'_>, targets: &[PathBuf]) -> Result<()> {
    let id = |meta: Metadata| (meta.dev(), meta.ino());
    let mut read: Vec<(u64, u64)> = Vec::new();
    for archive in &candidates.archives {
        read.extend(Path::new(archive.label()).metadata().ok().map(id));
        for digest in archive.blobs() {
            let extents = archive
                .stored(&digest)
                .into_iter()
                .flat_map(|stored| &stored.extents);
            for extent in extents {
                let found = extent.file.metadata().map(id);
                read.extend(found.ok().filter(|id| read.last() != Some(id)));
            }
        }
    }
    for target in targets {
        if target.metadata().is_ok_and(|meta| read.contains(&id(meta))) {
            return Err(Error::Usage {
                message: format!("{} is both read and written", target.display()),
                hint: Some("name another target".into()),
            });
        }
    }
    Ok(())
}

/// Whether another user may not read one of the archives, so that what is made of it must be private too.
fn is_private(candidates: &Candidates<'_>) -> bool {
    let closed = |path: &Path| path.metadata().is_ok_and(|meta| meta.mode() & 0o004 == 0);
    let mut archives = candidates.archives.iter();
    archives.any(|archive| closed(Path::new(archive.label())))
}
