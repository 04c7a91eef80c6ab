//! Open folders: what other users do to a path later does not change where it leads.
//!
//! The system resolves a path again at each use. A user who can write to one of its folders can place a link
//! there between two uses, or before the first. [`Dir::open`] resolves a path once and follows only links of
//! root and of this user. Names in a [`Dir`] are used relative to its descriptor, and no link is followed.

mod walk;

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawMode, linkat, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

pub use walk::Located;

/// Largest settings file that is read, in bytes.
pub const MAX_SETTING: u64 = 4 << 20;
/// Opens a folder to read its names and to sync it.
const LISTED: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Flags for every file: follow no link, and do not block.
const CAUTIOUS: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// An open folder.
#[derive(Debug)]
pub struct Dir {
    file: File,
    path: PathBuf,
}

impl Dir {
    /// Opens a folder. Links in the path are followed if root or this user made them.
    ///
    /// # Errors
    ///
    /// If it does not exist, or the path has a link of another user.
    pub fn open(path: &Path) -> io::Result<Dir> {
        walk::directory(path, &mut |_, _| Ok(()))
    }

    /// Opens a folder that no other user but root can change or replace.
    ///
    /// # Errors
    ///
    /// As [`Dir::open`], and if another user can write to it or to a folder above it.
    pub fn open_private(path: &Path) -> io::Result<Dir> {
        walk::directory(&std::path::absolute(path)?, &mut private)
    }

    /// Opens the folder of a file, which need not exist. If the file is a link, it is followed like those in
    /// the path.
    ///
    /// # Errors
    ///
    /// As [`Dir::open`], and if `path` does not end in a name.
    pub fn locate(path: &Path) -> io::Result<Located> {
        walk::locate(path, &mut |_, _| Ok(()), &is_trusted)
    }

    /// Opens the folder of a file as [`Dir::locate`] does, if no other user but root can change or replace that
    /// folder. The file itself may be another user's.
    ///
    /// # Errors
    ///
    /// As [`Dir::locate`] and [`Dir::open_private`].
    pub fn locate_private(path: &Path) -> io::Result<Located> {
        walk::locate(&std::path::absolute(path)?, &mut private, &is_trusted)
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a name in it, for messages.
    pub fn join(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path.join(name.as_ref())
    }

    /// Owner, mode and so on.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// The open folder itself.
    pub fn as_file(&self) -> &File {
        &self.file
    }

    /// The type of an entry; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn kind(&self, name: impl AsRef<OsStr>) -> io::Result<Option<FileType>> {
        match statat(&self.file, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a folder in it.
    ///
    /// # Errors
    ///
    /// If it does not exist or is not a folder.
    pub fn dir(&self, name: impl AsRef<OsStr>) -> io::Result<Dir> {
        let name = name.as_ref();
        let opened = openat(&self.file, name, LISTED, Mode::empty());
        let file = opened.map_err(|error| self.explained(name, error, "folder"))?;
        Ok(Dir {
            file: file.into(),
            path: self.path.join(name),
        })
    }

    /// Opens a folder below it. No link in the path is followed.
    ///
    /// # Errors
    ///
    /// If it does not exist, or a part of the path is not a folder; the message names that part.
    pub fn below(&self, path: &Path) -> io::Result<Dir> {
        let mut at = self.dir(".")?;
        at.path.clone_from(&self.path);
        for part in path.components() {
            let Component::Normal(name) = part else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "it leads out of its folder",
                ));
            };
            at = at.dir(name).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => error,
                kind => io::Error::new(kind, format!("{}: {error}", at.join(name).display())),
            })?;
        }
        Ok(at)
    }

    /// Makes a folder in it.
    ///
    /// # Errors
    ///
    /// If the name exists, or the folder cannot be made.
    pub fn make_dir(&self, name: impl AsRef<OsStr>, mode: RawMode) -> io::Result<()> {
        Ok(mkdirat(&self.file, name.as_ref(), Mode::from_raw_mode(mode))?)
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    ///
    /// If it does not exist or is not a regular file.
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.regular(name.as_ref(), OFlags::RDONLY)
    }

    /// Makes a file for reading and writing.
    ///
    /// # Errors
    ///
    /// If the name exists, or the file cannot be made.
    pub fn create_file(&self, name: impl AsRef<OsStr>, mode: RawMode) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | CAUTIOUS;
        Ok(openat(&self.file, name.as_ref(), flags, Mode::from_raw_mode(mode))?.into())
    }

    /// Opens a regular file for reading and writing, and makes it if it does not exist.
    ///
    /// # Errors
    ///
    /// If the entry is not a regular file, or the file has a second name under which something else may use it.
    pub fn open_or_create(&self, name: impl AsRef<OsStr>, mode: RawMode) -> io::Result<File> {
        let name = name.as_ref();
        loop {
            match self.create_file(name, mode) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                outcome => return outcome,
            }
            match self.regular(name, OFlags::RDWR) {
                Ok(file) if file.metadata()?.nlink() > 1 => {
                    return Err(denied("the file has a second name (a hard link)".into()));
                }
                // Removed in the meantime.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => return outcome,
            }
        }
    }

    /// Renames a file. An existing file with the new name is replaced.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn rename(&self, name: impl AsRef<OsStr>, to: &Dir, new: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(renameat(&self.file, name.as_ref(), &to.file, new.as_ref())?)
    }

    /// Makes a file, or replaces one as a whole: its readers see the old content or the new one. If `write` fails,
    /// nothing is left of it. The new name is on disk after [`Dir::sync`].
    ///
    /// # Errors
    ///
    /// What `write` returns, and what the system says.
    pub fn replace<T>(
        &self,
        name: impl AsRef<OsStr>,
        mode: RawMode,
        write: impl FnOnce(&mut File) -> io::Result<T>,
    ) -> io::Result<T> {
        let name = name.as_ref();
        let temporary = self.temporary_name(name)?;
        let mut file = self.create_file(&temporary, mode)?;
        let written = write(&mut file).and_then(|written| file.sync_all().map(|()| written));
        let placed = written.and_then(|written| self.rename(&temporary, self, name).map(|()| written));
        if placed.is_err() {
            let _ = self.remove_file(&temporary);
        }
        placed
    }

    /// A new name beside a file, for what will replace it.
    ///
    /// # Errors
    ///
    /// If the system has no random numbers.
    pub(crate) fn temporary_name(&self, name: impl AsRef<OsStr>) -> io::Result<OsString> {
        // Not the number of this process: it is the same in every container, also after one that was killed.
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let mut temporary = OsString::from(".");
        temporary.push(name.as_ref());
        temporary.push(format!(".{:016x}.tmp", u64::from_ne_bytes(random)));
        Ok(temporary)
    }

    /// Gives a file a second name.
    ///
    /// # Errors
    ///
    /// If the new name exists, or the system does not allow it.
    pub fn hard_link(&self, name: impl AsRef<OsStr>, new: impl AsRef<OsStr>) -> io::Result<()> {
        let flags = AtFlags::empty();
        Ok(linkat(
            &self.file,
            name.as_ref(),
            &self.file,
            new.as_ref(),
            flags,
        )?)
    }

    /// Removes anything but a folder.
    ///
    /// # Errors
    ///
    /// If it does not exist or is a folder.
    pub fn remove_file(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(unlinkat(&self.file, name.as_ref(), AtFlags::empty())?)
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    ///
    /// If it does not exist or is not empty.
    pub fn remove_dir(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(unlinkat(&self.file, name.as_ref(), AtFlags::REMOVEDIR)?)
    }

    /// The names in it.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.file)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    /// Syncs its names to disk. Does nothing on file systems without that operation.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub fn sync(&self) -> io::Result<()> {
        match rustix::fs::fsync(&self.file) {
            Err(Errno::INVAL | Errno::NOTSUP | Errno::BADF) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    fn regular(&self, name: &OsStr, access: OFlags) -> io::Result<File> {
        // Checked before it is opened, because opening a device can have effects.
        match self.kind(name)? {
            Some(FileType::RegularFile) | None => {}
            Some(kind) => return Err(unexpected(kind, "regular file")),
        }
        let opened = openat(&self.file, name, access | CAUTIOUS, Mode::empty());
        let file = File::from(opened.map_err(|error| self.explained(name, error, "regular file"))?);
        match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(file),
            kind => Err(unexpected(kind, "regular file")),
        }
    }

    /// Explains the system's error by the type of the entry.
    fn explained(&self, name: &OsStr, error: Errno, expected: &str) -> io::Error {
        match self.kind(name) {
            Ok(Some(kind)) if matches!(error, Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => {
                unexpected(kind, expected)
            }
            _ => error.into(),
        }
    }
}

/// Reads an open file of at most `limit` bytes completely.
///
/// # Errors
///
/// If it cannot be read or is larger.
pub fn read_whole(file: File, limit: u64) -> io::Result<Vec<u8>> {
    if file.metadata()?.len() > limit {
        return Err(io::Error::other("it is not a file of a reasonable size"));
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a settings file that says where something is, if it is root's or this user's.
///
/// # Errors
///
/// If it cannot be read, or another user could have written it.
pub fn read_setting(path: &Path) -> io::Result<Vec<u8>> {
    let own = rustix::process::geteuid().as_raw();
    read_whole(open_owned(path, &[0, own])?, MAX_SETTING)
}

/// Opens a settings file if it and every link to it belong to one of `owners`.
///
/// # Errors
///
/// If it does not exist, is not a regular file, or belongs to another user; for root also if others can write
/// to it.
pub fn open_owned(path: &Path, owners: &[u32]) -> io::Result<File> {
    let trust = |uid| uid == 0 || owners.contains(&uid);
    let located = walk::locate(path, &mut |_, _| Ok(()), &trust)?;
    let file = located.dir.open_file(&located.name)?;
    let meta = file.metadata()?;
    if !owners.contains(&meta.uid()) {
        return Err(denied(format!("it belongs to another user (uid {})", meta.uid())));
    }
    if meta.mode() & 0o002 != 0 && rustix::process::geteuid().is_root() {
        return Err(denied("every user can write to it".into()));
    }
    Ok(file)
}

/// Checks that no other user can change a folder in the path.
fn private(path: &Path, file: &File) -> io::Result<()> {
    let meta = file.metadata()?;
    // In a folder such as /tmp, others cannot rename or remove what they do not own.
    let is_shared = meta.mode() & 0o022 != 0 && meta.mode() & 0o1000 == 0;
    if is_trusted(meta.uid()) && !is_shared {
        return Ok(());
    }
    Err(denied(format!("another user can write to {}", path.display())))
}

/// Whether files of a user are trusted: those of root and of this user are.
pub fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// The name of a file type other than regular.
pub fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "regular file",
        FileType::Directory => "folder",
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        FileType::Unknown => "special file",
    }
}

fn unexpected(kind: FileType, expected: &str) -> io::Error {
    io::Error::other(format!("it is a {}, expected a {expected}", kind_name(kind)))
}

fn denied(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, reason)
}
