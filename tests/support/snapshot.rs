//! What a folder's files are, to be compared with what they are later.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::image::sha256;

/// The state of one file: everything but access times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState {
    /// `file`, `folder`, `link TARGET`, or `other`.
    pub kind: String,
    /// Digest of a regular file's bytes.
    pub digest: Option<String>,
    /// Device and inode.
    pub inode: (u64, u64),
    /// User and group.
    pub owner: (u32, u32),
    /// Type and permission bits.
    pub mode: u32,
    /// Seconds and nanoseconds of the last change of content.
    pub mtime: (i64, i64),
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

impl FileState {
    /// Looks at one path without following it.
    pub fn of(path: &Path) -> Self {
        let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let kind = if meta.is_file() {
            "file".into()
        } else if meta.is_dir() {
            "folder".into()
        } else if meta.is_symlink() {
            format!("link {}", fs::read_link(path).unwrap().display())
        } else {
            "other".into()
        };
        Self {
            digest: meta.is_file().then(|| sha256(&fs::read(path).unwrap())),
            kind,
            inode: (meta.dev(), meta.ino()),
            owner: (meta.uid(), meta.gid()),
            mode: meta.mode(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            xattrs: xattrs(path),
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0u8; 65536];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else {
        return BTreeMap::new();
    };
    names[..length]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
        .filter_map(|name| {
            let name = String::from_utf8_lossy(name).into_owned();
            let mut value = vec![0u8; 65536];
            let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value[..]).ok()?;
            value.truncate(length);
            Some((name, value))
        })
        .collect()
}

/// The states of all files at and below a path, by path.
pub fn files_snapshot(path: &Path) -> BTreeMap<PathBuf, FileState> {
    let mut states = BTreeMap::new();
    let mut open = vec![path.to_path_buf()];
    while let Some(path) = open.pop() {
        let state = FileState::of(&path);
        if state.kind == "folder" {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        states.insert(path, state);
    }
    states
}
