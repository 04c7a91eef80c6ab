//! Resolves a path, one name after another.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::{Dir, LISTED, denied, is_trusted};

/// Largest number of links that are followed, as in the kernel.
const MAX_LINKS: usize = 40;
/// Opens a folder in the path, only to look up names in it.
#[cfg(target_os = "linux")]
const SEARCHED: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const SEARCHED: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The location of a file that may not exist.
#[derive(Debug)]
pub struct Located {
    /// The folder.
    pub dir: Arc<Dir>,
    /// The file's name in it.
    pub name: OsString,
    /// Whether the name is a link in `/proc` to an open file without a path, such as a pipe.
    is_open: bool,
}

impl Located {
    /// A name in a folder that is open.
    pub fn within(dir: Arc<Dir>, name: impl Into<OsString>) -> Located {
        Located {
            dir,
            name: name.into(),
            is_open: false,
        }
    }

    /// Its path, for messages.
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// The type of the file; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn kind(&self) -> io::Result<Option<FileType>> {
        if self.is_open {
            let stat = statat(self.dir.as_file(), &self.name, AtFlags::empty())?;
            return Ok(Some(FileType::from_raw_mode(stat.st_mode)));
        }
        self.dir.kind(&self.name)
    }

    /// Whether it is a device, FIFO or the like, which is written like a pipe and never replaced.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn is_special(&self) -> io::Result<bool> {
        let kind = self.kind()?;
        Ok(!matches!(
            kind,
            None | Some(FileType::RegularFile | FileType::Directory)
        ))
    }

    /// Opens a regular file that only root and this user can write to.
    ///
    /// # Errors
    ///
    /// If it does not exist, or another user can write to it.
    pub fn open_private(&self) -> io::Result<File> {
        let file = self.dir.open_file(&self.name)?;
        let meta = file.metadata()?;
        if is_trusted(meta.uid()) && meta.mode() & 0o022 == 0 {
            return Ok(file);
        }
        Err(denied(format!(
            "another user can write to {}",
            self.path().display()
        )))
    }

    /// The owner of the file.
    ///
    /// # Errors
    ///
    /// If it does not exist.
    pub fn owner(&self) -> io::Result<u32> {
        Ok(statat(self.dir.as_file(), &self.name, AtFlags::SYMLINK_NOFOLLOW)?.st_uid)
    }

    /// Refuses a device, a FIFO or the like of another user, without opening it.
    ///
    /// # Errors
    ///
    /// If it does not exist or is another user's.
    pub fn check_special(&self) -> io::Result<()> {
        match self.is_open {
            true => Ok(()),
            false => trusted_special(self.owner()?),
        }
    }

    /// Opens a device, a FIFO or the like for writing. Blocks until a FIFO has a reader.
    ///
    /// # Errors
    ///
    /// If it cannot be opened or is another user's.
    pub fn open_special(&self) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
        let dir = self.dir.as_file();
        if self.is_open {
            return Ok(openat(dir, &self.name, flags, Mode::empty())?.into());
        }
        let found = statat(dir, &self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        trusted_special(found.st_uid)?;
        // If another user replaces it while this blocks, the check below finds out.
        let file = File::from(openat(dir, &self.name, flags | OFlags::NOFOLLOW, Mode::empty())?);
        let opened = rustix::fs::fstat(&file)?;
        if (opened.st_dev, opened.st_ino) != (found.st_dev, found.st_ino) {
            return Err(denied("it was just replaced by another file".into()));
        }
        Ok(file)
    }
}

/// Refuses the owner of a device, a FIFO or the like.
fn trusted_special(owner: u32) -> io::Result<()> {
    match is_trusted(owner) {
        true => Ok(()),
        false => Err(denied(
            "it belongs to another user, and is not a regular file".into(),
        )),
    }
}

/// Checks a folder, given its path and itself, before it is entered.
type Check<'a> = &'a mut dyn FnMut(&Path, &File) -> io::Result<()>;
/// Whether links of a user are followed.
type Trust<'a> = &'a dyn Fn(u32) -> bool;

/// Opens a folder.
pub(super) fn directory(path: &Path, check: Check<'_>) -> io::Result<Dir> {
    let mut walk = Walk::new(path, check, &is_trusted)?;
    while let Some(part) = walk.left.pop_front() {
        walk.step(part)?;
    }
    walk.dir()
}

/// Opens the folder of a file.
pub(super) fn locate(path: &Path, check: Check<'_>, trust: Trust<'_>) -> io::Result<Located> {
    let mut walk = Walk::new(path, check, trust)?;
    while let Some(part) = walk.left.pop_front() {
        let name = match part {
            Part::Name(name) if walk.left.is_empty() => name,
            part => {
                walk.step(part)?;
                continue;
            }
        };
        let link = walk.link(&name)?;
        let is_open = match &link {
            Some(link) if link.is_magic => !walk.is_file(&name)?,
            _ => false,
        };
        match link {
            Some(link) if !is_open => walk.follow(&link)?,
            _ => {
                return Ok(Located {
                    dir: Arc::new(walk.dir()?),
                    name,
                    is_open,
                });
            }
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "it is not a file name",
    ))
}

/// A part of a path.
enum Part {
    Root,
    Up,
    Name(OsString),
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = Part> {
    path.components().filter_map(|component| match component {
        Component::RootDir => Some(Part::Root),
        Component::ParentDir => Some(Part::Up),
        Component::Normal(name) => Some(Part::Name(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    })
}

/// The path resolved so far, and the rest of it.
struct Walk<'a> {
    at: File,
    shown: PathBuf,
    left: VecDeque<Part>,
    links: usize,
    check: Check<'a>,
    trust: Trust<'a>,
}

impl<'a> Walk<'a> {
    fn new(path: &Path, check: Check<'a>, trust: Trust<'a>) -> io::Result<Walk<'a>> {
        Ok(Walk {
            at: openat(CWD, ".", SEARCHED, Mode::empty())?.into(),
            shown: PathBuf::new(),
            left: parts(path).collect(),
            links: 0,
            check,
            trust,
        })
    }

    /// The folder that the path leads to.
    fn dir(self) -> io::Result<Dir> {
        Ok(Dir {
            file: openat(&self.at, ".", LISTED, Mode::empty())?.into(),
            path: self.shown,
        })
    }

    /// Enters the next folder, or follows the link in its place.
    fn step(&mut self, part: Part) -> io::Result<()> {
        let name = match part {
            Part::Root => return self.enter("/".as_ref(), openat(CWD, "/", SEARCHED, Mode::empty())),
            Part::Up => return self.enter("..".as_ref(), openat(&self.at, "..", SEARCHED, Mode::empty())),
            Part::Name(name) => name,
        };
        match openat(&self.at, &name, SEARCHED | OFlags::NOFOLLOW, Mode::empty()) {
            Err(error @ (Errno::NOTDIR | Errno::LOOP)) => match self.link(&name)? {
                // Its text may be a path below another root.
                Some(link) if link.is_magic => {
                    let opened = openat(&self.at, &name, SEARCHED, Mode::empty());
                    self.enter(&name, opened)
                }
                Some(link) => self.follow(&link),
                None => Err(error.into()),
            },
            opened => self.enter(&name, opened),
        }
    }

    fn enter(&mut self, name: &OsStr, opened: Result<std::os::fd::OwnedFd, Errno>) -> io::Result<()> {
        let entered = File::from(opened?);
        self.shown.push(name);
        (self.check)(&self.shown, &entered)?;
        self.at = entered;
        Ok(())
    }

    /// The link with this name; `None` if it is not a link or does not exist.
    fn link(&self, name: &OsStr) -> io::Result<Option<Link>> {
        match Link::read(&self.at, name)? {
            Some(link) if !(self.trust)(link.uid) => {
                let path = self.shown.join(name);
                Err(denied(format!("{} is a link of another user", path.display())))
            }
            found => Ok(found),
        }
    }

    fn follow(&mut self, link: &Link) -> io::Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        for part in parts(Path::new(&link.target)).rev() {
            self.left.push_front(part);
        }
        Ok(())
    }

    /// Whether a link leads to a regular file.
    fn is_file(&self, name: &OsStr) -> io::Result<bool> {
        let stat = statat(&self.at, name, AtFlags::empty())?;
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }
}

/// A symbolic link.
struct Link {
    uid: u32,
    target: OsString,
    /// Whether it is in `/proc`, where the kernel follows a link without using its text.
    is_magic: bool,
}

impl Link {
    /// Reads owner and target of the same link.
    #[cfg(target_os = "linux")]
    fn read(at: &File, name: &OsStr) -> io::Result<Option<Link>> {
        /// `PROC_SUPER_MAGIC` in Linux's `magic.h`.
        const PROC: u64 = 0x9fa0;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link = match openat(at, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => File::from(opened?),
        };
        let meta = link.metadata()?;
        if !meta.is_symlink() {
            return Ok(None);
        }
        // The field's type differs between architectures.
        let kind = u64::try_from(rustix::fs::fstatfs(at)?.f_type).unwrap_or_default();
        Ok(Some(Link {
            uid: meta.uid(),
            target: OsString::from_vec(rustix::fs::readlinkat(&link, "", Vec::new())?.into_bytes()),
            is_magic: kind == PROC,
        }))
    }

    /// Reads owner and target of a link.
    #[cfg(not(target_os = "linux"))]
    fn read(at: &File, name: &OsStr) -> io::Result<Option<Link>> {
        let stat = match statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            stat => stat?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Ok(None);
        }
        Ok(Some(Link {
            uid: stat.st_uid,
            target: OsString::from_vec(rustix::fs::readlinkat(at, name, Vec::new())?.into_bytes()),
            is_magic: false,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    use super::*;

    /// A folder of root's, with a folder and links of another user in it.
    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("own/deep")).unwrap();
        fs::write(home.path().join("own/deep/file"), "deep").unwrap();
        for (target, link) in [
            ("own", "near"),
            ("near/../own/deep", "far"),
            ("loop", "loop"),
            ("own/deep/file", "file"),
            ("nothing", "dangling"),
            ("own/deep/file/", "odd"),
        ] {
            symlink(target, home.path().join(link)).unwrap();
        }
        symlink(home.path().join("own"), home.path().join("absolute")).unwrap();
        home
    }

    #[test]
    fn links_of_ones_own_are_followed() {
        let home = home();
        let at = |name: &str| home.path().join(name);
        for name in [
            "own/deep",
            "near/deep",
            "far",
            "absolute/deep",
            "own/../near/./deep",
        ] {
            let dir = Dir::open(&at(name)).unwrap();
            assert_eq!(dir.names().unwrap(), ["file"], "{name}: {}", dir.path().display());
        }
        for (name, says) in [
            ("none", "No such"),
            ("loop", "ymbolic link"),
            ("file", "Not a dir"),
            ("odd", "Not a dir"),
        ] {
            let error = Dir::open(&at(name)).unwrap_err();
            assert!(error.to_string().contains(says), "{name}: {error}");
        }
        for (name, is_there) in [
            ("file", true),
            ("near/deep/file", true),
            ("own/new", false),
            ("dangling", false),
        ] {
            let located = Dir::locate(&at(name)).unwrap();
            assert_eq!(located.kind().unwrap().is_some(), is_there, "{name}");
        }
        assert!(Dir::locate(&at("..")).is_err());
        let here = Dir::open(Path::new("/proc/self/cwd")).unwrap();
        assert!(!here.names().unwrap().is_empty());
    }

    #[test]
    fn links_of_others_are_not() {
        if !rustix::process::geteuid().is_root() {
            return; // nobody else's links can be made
        }
        let home = home();
        let at = |name: &str| home.path().join(name);
        for name in ["near", "file", "dangling", "absolute"] {
            lchown(at(name), Some(65_534), Some(65_534)).unwrap();
        }
        for name in ["near/deep", "far", "absolute"] {
            let error = Dir::open(&at(name)).unwrap_err();
            assert!(
                error.to_string().contains("a link of another user"),
                "{name}: {error}"
            );
        }
        for name in ["file", "dangling", "near/deep/file"] {
            let error = Dir::locate(&at(name)).unwrap_err();
            assert!(
                error.to_string().contains("a link of another user"),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn private_is_what_no_other_can_change() {
        let home = home();
        let at = |name: &str| home.path().join(name);
        Dir::open_private(&at("own/deep")).unwrap();
        let mode =
            |name: &str, mode| fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        mode("own", 0o1777);
        Dir::open_private(&at("own/deep")).unwrap();
        for (name, bits) in [("own", 0o777), ("own", 0o775), ("own/deep", 0o722)] {
            mode(name, bits);
            let error = Dir::open_private(&at("own/deep")).unwrap_err();
            assert!(error.to_string().contains("another user can write to"), "{error}");
            mode(name, 0o755);
        }
        let open = |name: &str| Dir::locate_private(&at(name)).and_then(|located| located.open_private());
        open("file").unwrap();
        for bits in [0o620, 0o602] {
            mode("own/deep/file", bits);
            let error = open("file").unwrap_err();
            assert!(error.to_string().contains("another user can write to"), "{error}");
        }
        mode("own/deep/file", 0o644);
        if rustix::process::geteuid().is_root() {
            lchown(at("own/deep/file"), Some(65_534), Some(65_534)).unwrap();
            assert_eq!(Dir::locate_private(&at("file")).unwrap().owner().unwrap(), 65_534);
            assert!(open("file").is_err());
            lchown(at("own"), Some(65_534), Some(65_534)).unwrap();
            assert!(Dir::open_private(&at("own/deep")).is_err());
            assert!(Dir::locate_private(&at("file")).is_err());
        }
    }
}
