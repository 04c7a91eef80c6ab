//! Where things are in a storage folder. Files are opened name by name, and no link is followed.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

use crate::blob::{Extent, Stored};
use crate::dir::{self, Dir};
use crate::error::{Error, Finding, Place, Problem, Remedy, Result};
use crate::oci::Digest;

/// Where the storage begins in the registry's root folder.
const BEGIN: &str = "docker/registry/v2";
/// The folder in it in which a repair prepares files. Registries and their garbage collection read only `blobs` and
/// `repositories`; below `blobs`, every file called `data` is a blob to them.
pub(super) const STAGING: &str = ".sealift-repair";
/// A file that only a pull-through cache has.
const SCHEDULER: &str = "scheduler-state.json";
/// What may follow a root that is given too deep.
const BEGINS: [&str; 4] = [BEGIN, "registry/v2", "v2", ""];
/// Longest link that is read: a digest and a line break.
const MAX_LINK: u64 = 200;

/// The folder `docker/registry/v2`.
pub(super) struct Storage {
    label: String,
    root: Dir,
    blobs: Option<Dir>,
    repositories: Option<Dir>,
    is_cache: bool,
}

/// A blob's file, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlobFile {
    Missing,
    /// Something that is not a regular file.
    Other(FileType),
    Regular(State),
}

/// What changes if a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub size: u64,
    inode: u64,
    modified: (i64, i64),
}

impl State {
    fn of(meta: &std::fs::Metadata) -> State {
        State {
            size: meta.len(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }

    /// When it was last written.
    pub fn modified(&self) -> SystemTime {
        let seconds = u64::try_from(self.modified.0).unwrap_or_default();
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)
    }
}

/// The content of a link file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    Absent,
    Wrong(String),
    To(Digest),
}

impl Storage {
    /// Opens the storage folder of a registry whose root folder this is, or which this is itself.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is none.
    pub fn open(path: &Path) -> Result<Storage> {
        let given = Dir::open(path).map_err(|error| cannot("open", path, error))?;
        for begin in BEGINS {
            let root = match given.below(Path::new(begin)) {
                Ok(root) => root,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(cannot("open", &path.join(begin), error)),
            };
            let open = |name: &str| match root.dir(name) {
                Ok(dir) => Ok(Some(dir)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(cannot("open", &root.join(name), error)),
            };
            let (blobs, repositories) = (open("blobs")?, open("repositories")?);
            if begin == BEGIN || blobs.is_some() && repositories.is_some() {
                return Ok(Storage {
                    label: path.display().to_string(),
                    root,
                    blobs,
                    repositories,
                    is_cache: begin == BEGIN && matches!(given.kind(SCHEDULER), Ok(Some(_))),
                });
            }
        }
        Err(Error::NotFound {
            what: BEGIN.into(),
            place: path.display().to_string(),
            hint: Some("this is the folder that the registry's configuration calls `rootdirectory`".into()),
        })
    }

    /// The path as it was given.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether it is that of a pull-through cache, which has only the blobs that clients have pulled.
    pub fn is_cache(&self) -> bool {
        self.is_cache
    }

    /// The place of something in the storage, for messages.
    pub fn place(&self, entry: impl Into<String>) -> Place {
        Place::default().within(&self.label).entry(entry)
    }

    /// The place of a blob.
    pub fn blob_place(&self, digest: &Digest) -> Place {
        Place {
            digest: Some(*digest),
            ..self.place(blob_entry(digest))
        }
    }

    /// The folder of all blobs; `None` if nothing was ever pushed.
    pub fn blobs(&self) -> Option<&Dir> {
        self.blobs.as_ref()
    }

    /// The folder of all repositories; `None` if nothing was ever pushed.
    pub fn repositories(&self) -> Option<&Dir> {
        self.repositories.as_ref()
    }

    /// The folder `docker/registry/v2`.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// The folder of a repair, if there is one.
    pub fn staging(&self) -> Option<Finding> {
        let is_there = matches!(self.root.kind(STAGING), Ok(Some(_)));
        is_there.then(|| Finding {
            place: self.place(STAGING),
            problem: Problem::UnfinishedRepair,
        })
    }

    /// Opens a repository.
    pub fn repository(&self, name: &str) -> io::Result<Dir> {
        match &self.repositories {
            Some(all) => all.below(Path::new(name)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether an entry is still there.
    pub fn exists(&self, entry: &str) -> bool {
        let path = Path::new(entry);
        let parent = path.parent().map(|parent| self.root.below(parent));
        let (Some(Ok(parent)), Some(name)) = (parent, path.file_name()) else {
            return false;
        };
        matches!(parent.kind(name), Ok(Some(_)))
    }

    /// The folder of a blob; `None` if it does not exist.
    fn folder(&self, digest: &Digest) -> io::Result<Option<Dir>> {
        let Some(blobs) = &self.blobs else {
            return Ok(None);
        };
        match blobs.below(Path::new(&blob_folder(digest))) {
            Ok(folder) => Ok(Some(folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is known about a blob without reading it.
    pub fn stat(&self, digest: &Digest) -> Result<BlobFile> {
        let failed = |error| Error::io("read", self.root.join(blob_entry(digest)))(error);
        match self.folder(digest) {
            Ok(Some(folder)) => stat(&folder).map_err(failed),
            Ok(None) => Ok(BlobFile::Missing),
            // A folder above it is a link.
            Err(error) if error.kind() == io::ErrorKind::Other => Ok(BlobFile::Other(FileType::Symlink)),
            Err(error) => Err(self.cannot_open_folder(digest, error)),
        }
    }

    /// Why the folder of a blob cannot be opened. It names the outermost folder that cannot be, which many blobs share.
    fn cannot_open_folder(&self, digest: &Digest, error: io::Error) -> Error {
        let folder = Path::new("blobs").join(blob_folder(digest));
        let folders = folder.ancestors().take_while(|path| !path.as_os_str().is_empty());
        let closed = folders.take_while(|path| self.root.below(path).is_err()).last();
        let closed = closed.unwrap_or(&folder);
        let error = match (closed.parent(), closed.file_name()) {
            (Some(parent), Some(name)) => {
                let again = self.root.below(parent).and_then(|parent| parent.dir(name));
                again.err().unwrap_or(error)
            }
            _ => error,
        };
        cannot("open", &self.root.join(closed), error)
    }

    /// Opens a blob; `None` if it is missing.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<(Stored, State)>> {
        let path = self.root.join(blob_entry(digest));
        let folder = self.folder(digest);
        let folder = folder.map_err(|error| self.cannot_open_folder(digest, error))?;
        let file = match folder.map(|folder| folder.open_file("data")) {
            None => return Ok(None),
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Some(opened) => opened.map_err(|error| cannot("open", &path, error))?,
        };
        let state = State::of(&file.metadata().map_err(Error::io("read", &path))?);
        let extent = Extent {
            file: Arc::new(file),
            path: Arc::new(path),
            offset: 0,
            length: state.size,
        };
        let stored = Stored {
            extents: vec![extent],
            size: state.size,
            entry: blob_entry(digest),
            offset: None,
        };
        Ok(Some((stored, state)))
    }
}

/// What could not be opened or read, and why. The files of a registry are often open to root and to the registry's user
/// only.
pub(super) fn cannot(action: &'static str, path: &Path, error: io::Error) -> Error {
    let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
    match Error::io(action, path)(error) {
        error if is_denied && !rustix::process::geteuid().is_root() => error.and_hint(Remedy::RunAsRoot),
        error => error,
    }
}

/// The path of a blob in the storage.
pub(super) fn blob_entry(digest: &Digest) -> String {
    format!("blobs/{}/data", blob_folder(digest))
}

/// The folder of a blob, below that of all blobs.
pub(super) fn blob_folder(digest: &Digest) -> String {
    let hex = digest.hex();
    let shard = hex.get(..2).unwrap_or_default();
    format!("{}/{shard}/{hex}", digest.algorithm())
}

/// What is known about the blob in a folder.
pub(super) fn stat(folder: &Dir) -> io::Result<BlobFile> {
    let stat = match statat(folder.as_file(), "data", AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(BlobFile::Missing),
        stat => stat?,
    };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => BlobFile::Regular(State {
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            inode: stat.st_ino,
            #[allow(clippy::useless_conversion, reason = "the types differ between architectures")]
            modified: (
                stat.st_mtime.into(),
                stat.st_mtime_nsec.try_into().unwrap_or_default(),
            ),
        }),
        kind => BlobFile::Other(kind),
    })
}

/// Reads a link below a folder: `path` without the last name, `link`.
///
/// # Errors
///
/// If it exists and cannot be read.
pub(super) fn read_link(dir: &Dir, path: &str) -> io::Result<Link> {
    let folder = match dir.below(Path::new(path)) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Link::Absent),
        Err(error) => return Err(error),
    };
    match folder.kind("link")? {
        None => return Ok(Link::Absent),
        Some(FileType::RegularFile) => {}
        Some(kind) => return Ok(Link::Wrong(format!("it is a {}", dir::kind_name(kind)))),
    }
    let file = match folder.open_file("link") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Link::Absent),
        opened => opened?,
    };
    if file.metadata()?.len() > MAX_LINK {
        return Ok(Link::Wrong("it is too long for a digest".into()));
    }
    let bytes = dir::read_whole(file, MAX_LINK)?;
    if bytes.is_empty() {
        return Ok(Link::Wrong("it is empty".into()));
    }
    let parsed = std::str::from_utf8(&bytes).ok().map(str::parse);
    Ok(match parsed {
        Some(Ok(digest)) => Link::To(digest),
        Some(Err(error)) => Link::Wrong(format!("it holds no digest: {error}")),
        None => Link::Wrong("it holds no digest: it is not text".into()),
    })
}
