//! Whether an archive may be read by others, so that what is made of it may be, too.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Layout, STDIN};

/// Whether other users may not read a file or folder. Not known, and false, for pipes and devices.
pub fn is_private_file(meta: &Metadata) -> bool {
    (meta.is_file() || meta.is_dir()) && meta.mode() & 0o004 == 0
}

/// Whether other users may not read what is opened under this label: a path, or standard input.
pub fn is_private_place(label: &str) -> bool {
    let path = match label {
        STDIN => "/dev/stdin",
        path => path,
    };
    Path::new(path)
        .metadata()
        .is_ok_and(|meta| is_private_file(&meta))
}

/// Whether other users may not read a layout, or one of its blobs.
pub fn is_private(layout: &dyn Layout) -> bool {
    let blobs = layout.blobs();
    let mut extents = blobs
        .iter()
        .filter_map(|digest| layout.stored(digest))
        .flat_map(|stored| &stored.extents);
    // A decompressed archive is in a temporary file, which has no name and is always private.
    let is_closed = |meta: Metadata| meta.nlink() > 0 && is_private_file(&meta);
    is_private_place(layout.label()) || extents.any(|extent| extent.file.metadata().is_ok_and(is_closed))
}
