//! Opens files of a layer by name, only inside that layer's folder.
//!
//! The names and the links in the folder come from an image, so they may be anything: `../../etc/shadow`, a
//! folder that is a link to `/etc`, a device in place of a file. They are resolved as in a chroot, which is how
//! dockerd unpacked them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat};
use rustix::io::Errno;

use crate::dir::{Dir, kind_name};
use crate::error::{Error, Place, Problem, Result};

/// Number of attempts to open a folder while others are being renamed, which makes the kernel give up.
const TRIES: usize = 8;
/// Opens a folder only to look up names in it.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A folder that no name can leave.
#[derive(Debug)]
pub struct Rooted {
    root: Dir,
    /// The folder of the last file: layers list the files of a folder one after another.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Whether this kernel resolves links as in a chroot (Linux 5.6).
    follows: bool,
}

impl Rooted {
    /// Starts with a layer's folder.
    pub fn new(folder: Dir) -> Rooted {
        Rooted {
            root: folder,
            last: None,
            follows: true,
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Opens a regular file of exactly `size` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if it is missing, not a regular file, or has another size; [`Error::Io`] if it cannot
    /// be opened.
    pub fn open_file(&mut self, name: &[u8], size: u64) -> Result<File> {
        let refused = |path: &Path, problem| Error::refused(place(path, name), problem);
        let Some(inside) = cleaned(name) else {
            let reason = "a name that leads out of its layer, or names no file".into();
            return Err(refused(self.root.path(), Problem::Name { reason }));
        };
        let (folder, file) = match inside.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (
                inside.get(..at).unwrap_or_default(),
                inside.get(at + 1..).unwrap_or_default(),
            ),
            None => (&[][..], &inside[..]),
        };
        self.enter(folder, name)?;
        let parent = match &self.last {
            Some((_, parent)) if !folder.is_empty() => parent.as_fd(),
            _ => self.root.as_file().as_fd(),
        };
        let failed = |errno: Errno| match errno {
            Errno::NOENT => refused(self.root.path(), Problem::Missing),
            other => unreadable(self.root.path(), name, other.into()),
        };
        // Checked before it is opened, because opening a device can have effects.
        let stat = statat(parent, file, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile {
            let kind = kind_name(kind);
            return Err(refused(self.root.path(), Problem::NotAFile { kind }));
        }
        let found = u64::try_from(stat.st_size).unwrap_or_default();
        if found != size {
            let problem = Problem::SizeDiffers {
                expected: size,
                found,
            };
            return Err(refused(self.root.path(), problem));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = openat(parent, file, flags, Mode::empty()).map_err(failed)?;
        Ok(File::from(opened))
    }

    /// Opens the folder of a file and remembers it.
    fn enter(&mut self, folder: &[u8], name: &[u8]) -> Result<()> {
        if folder.is_empty() || self.last.as_ref().is_some_and(|(last, _)| last == folder) {
            return Ok(());
        }
        let opened = match self.follow(folder) {
            Err(Errno::NOSYS | Errno::PERM) => {
                self.follows = false;
                self.step(folder)
            }
            outcome => outcome,
        };
        let opened = opened.map_err(|errno| match errno {
            Errno::NOENT => Error::refused(place(self.root.path(), name), Problem::Missing),
            Errno::NOTDIR | Errno::LOOP if !self.follows => Error::Io {
                action: "open",
                path: below(self.root.path(), name),
                offset: None,
                source: io::Error::other("a link leads there, which this kernel cannot follow safely").into(),
                hint: Some("Linux 5.6 and newer can, by openat2".into()),
            },
            other => unreadable(self.root.path(), name, other.into()),
        })?;
        self.last = Some((folder.to_vec(), opened));
        Ok(())
    }

    fn follow(&self, folder: &[u8]) -> Result<OwnedFd, Errno> {
        if !self.follows {
            return self.step(folder);
        }
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            tries += 1;
            match openat2(self.root.as_file(), folder, FOLDER, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => {}
                outcome => return outcome,
            }
        }
    }

    /// Opens one name after another and follows no link, if the kernel cannot resolve links as in a chroot.
    fn step(&self, folder: &[u8]) -> Result<OwnedFd, Errno> {
        let mut names = folder.split(|byte| *byte == b'/');
        let first = names.next().unwrap_or_default();
        let flags = FOLDER | OFlags::NOFOLLOW;
        let mut parent = openat(self.root.as_file(), first, flags, Mode::empty())?;
        for name in names {
            parent = openat(&parent, name, flags, Mode::empty())?;
        }
        Ok(parent)
    }
}

/// A name as dockerd unpacked it: `.` and `..` are removed before links are resolved, and a leading slash is
/// ignored. `None` if it leads out of the folder, or is not a file name.
fn cleaned(name: &[u8]) -> Option<Vec<u8>> {
    if name.contains(&0) || name.ends_with(b"/") {
        return None;
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            other => parts.push(other),
        }
    }
    Some(parts.join(&b'/')).filter(|name| !name.is_empty())
}

/// The place of a layer's file, for messages.
pub fn place(folder: &Path, name: &[u8]) -> Place {
    Place::default()
        .within(folder.display())
        .entry(String::from_utf8_lossy(name))
}

/// The error for a layer's file that cannot be read.
pub fn unreadable(folder: &Path, name: &[u8], error: io::Error) -> Error {
    Error::io("read", below(folder, name))(error)
}

/// The path of a layer's file, for messages.
fn below(folder: &Path, name: &[u8]) -> PathBuf {
    folder.join(String::from_utf8_lossy(name).trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::error::ErrorKind;

    fn layer() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let layer = home.path().join("layer");
        fs::create_dir_all(layer.join("etc/deep")).unwrap();
        fs::write(home.path().join("outside"), "SECRET").unwrap();
        fs::write(layer.join("outside"), "inside").unwrap();
        fs::write(layer.join("etc/file"), "inside").unwrap();
        fs::write(layer.join("etc/deep/file"), "deeper").unwrap();
        fs::write(layer.join(std::ffi::OsStr::from_bytes(b"\xff")), "binary").unwrap();
        for (target, link) in [
            ("/etc", "absolute"),
            ("../../../etc", "upward"),
            ("etc/deep", "near"),
            ("..", "up"),
            ("loop", "loop"),
            ("etc/file", "link"),
            ("/proc/self/root", "magic"),
        ] {
            symlink(target, layer.join(link)).unwrap();
        }
        rustix::fs::mkfifoat(rustix::fs::CWD, layer.join("pipe"), Mode::RUSR).unwrap();
        home
    }

    fn read(rooted: &mut Rooted, name: &[u8]) -> Result<String, (ErrorKind, String)> {
        let opened = rooted.open_file(name, 6);
        let mut file = opened.map_err(|error| (error.kind(), error.to_string()))?;
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn names_and_links_stay_inside() {
        let home = layer();
        let mut rooted = Rooted::new(Dir::open(&home.path().join("layer")).unwrap());
        for (name, text) in [
            (&b"etc/file"[..], "inside"),
            (b"./etc/./file", "inside"),
            (b"/etc/file", "inside"),
            (b"etc/deep/../file", "inside"),
            (b"absolute/file", "inside"),
            (b"upward/file", "inside"),
            (b"near/file", "deeper"),
            (b"near/file", "deeper"),
            // As in a chroot: the parent of the root is the root.
            (b"up/outside", "inside"),
            // Lexically first, like dockerd, so the link is not followed.
            (b"near/../outside", "inside"),
            (b"\xff", "binary"),
        ] {
            assert_eq!(
                read(&mut rooted, name),
                Ok(text.into()),
                "{}",
                name.escape_ascii()
            );
        }
        for (name, kind, says) in [
            (&b"../outside"[..], ErrorKind::Content, "leads out"),
            (b"etc/../../outside", ErrorKind::Content, "leads out"),
            (b"", ErrorKind::Content, "names no file"),
            (b"etc/", ErrorKind::Content, "names no file"),
            (b"etc/\0file", ErrorKind::Content, "names no file"),
            (b"etc", ErrorKind::Content, "is a folder"),
            (b"link", ErrorKind::Content, "is a symbolic link"),
            (b"pipe", ErrorKind::Content, "is a FIFO"),
            (b"none", ErrorKind::Content, "missing"),
            (b"none/none", ErrorKind::Content, "missing"),
            (b"magic/outside", ErrorKind::Content, "missing"),
            (b"loop/file", ErrorKind::Io, "loop"),
            (b"outside/file", ErrorKind::Io, "directory"),
        ] {
            let found = read(&mut rooted, name).unwrap_err();
            assert!(found.0 == kind && found.1.contains(says), "{found:?}");
        }
        let error = rooted.open_file(b"etc/file", 7).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("etc/file: size is 6 bytes, expected 7"),
            "{error}"
        );
    }

    #[test]
    fn an_old_kernel_follows_no_link() {
        let home = layer();
        let mut rooted = Rooted::new(Dir::open(&home.path().join("layer")).unwrap());
        rooted.follows = false;
        assert_eq!(read(&mut rooted, b"etc/deep/file"), Ok("deeper".into()));
        assert_eq!(read(&mut rooted, b"etc/file"), Ok("inside".into()));
        assert_eq!(read(&mut rooted, b"none/file").unwrap_err().0, ErrorKind::Content);
        for name in [&b"absolute/file"[..], b"near/file", b"up/outside"] {
            let error = rooted.open_file(name, 6).unwrap_err();
            assert!(error.to_string().contains("cannot follow safely"), "{error}");
            assert!(error.hint().unwrap().to_string().contains("openat2"));
        }
    }
}
