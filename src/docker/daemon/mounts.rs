//! The list of mounts, and which of them are sealift's.
//!
//! A mount stays on the file on which it was made, even if the path changes: folders are renamed, links are put
//! in their place. So ours are recognised by what they show in the kernel's list, and are unmounted by a
//! descriptor of the mount itself.
//!
//! Source: proc(5), `/proc/PID/mountinfo` and `/proc/PID/fdinfo`.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{UnmountFlags, unmount};

use crate::dir::Dir;

/// The source of our overlays in the list of mounts.
pub const OVERLAY: &str = "sealift-attach";
/// Suffix of the path of a removed file.
const REMOVED: &str = "//deleted";

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    id: u64,
    /// Major and minor number of the file system's device.
    device: String,
    /// The part of the file system that it shows.
    root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    kind: String,
    source: String,
    options: String,
}

/// A path of an open file, which does not depend on its name.
pub fn by_descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// The mounts that this thread sees. Each follows those that it may hide.
///
/// # Errors
///
/// If the list cannot be read.
pub fn all() -> io::Result<Vec<Mounted>> {
    // A thread may be in another mount namespace; `/proc/thread-self` is younger than some kernels.
    let thread = rustix::thread::gettid().as_raw_nonzero();
    seen_by(&format!("self/task/{thread}"))
}

/// The mounts that a process sees.
fn seen_by(process: &str) -> io::Result<Vec<Mounted>> {
    let table = fs::read(format!("/proc/{process}/mountinfo"))?;
    let lines = table.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(Mounted::parse).collect())
}

/// A folder of ours, as in the list of mounts. In another mount namespace the same path may be something else,
/// so it is looked up in our own.
#[derive(Debug, Clone)]
pub struct Shown {
    folder: PathBuf,
    /// The device, and the folder's path on it; `None` if its mount is not listed, as in a chroot.
    place: Option<(String, PathBuf)>,
    /// The folder and its files.
    files: Vec<(u64, u64)>,
}

impl Shown {
    /// Looks up a folder, which need not exist.
    ///
    /// # Errors
    ///
    /// If the list of mounts cannot be read.
    pub fn of(folder: &Path) -> io::Result<Shown> {
        Ok(Shown::among(&all()?, folder))
    }

    fn among(all: &[Mounted], folder: &Path) -> Shown {
        let within = all.iter().filter(|mount| folder.starts_with(&mount.point));
        // The last one of the longest hides the others.
        let within = within.max_by_key(|mount| mount.point.components().count());
        let place = within.and_then(|mount| {
            let below = folder.strip_prefix(&mount.point).ok()?;
            Some((mount.device.clone(), mount.root.join(below)))
        });
        Shown {
            folder: folder.into(),
            files: if place.is_none() {
                children(folder)
            } else {
                Vec::new()
            },
            place,
        }
    }

    /// The mounts that show part of it to this thread, even after it was removed.
    ///
    /// # Errors
    ///
    /// If the list of mounts cannot be read.
    pub fn mounts(&self) -> io::Result<Vec<Mounted>> {
        Ok(self.within(all()?))
    }

    /// Whether a process sees such a mount, as far as that can be told from here.
    pub fn is_shown_to(&self, pid: &str) -> bool {
        // Without a place, the files are compared, and only a thread in the process's namespace can do that.
        self.place.is_none() || seen_by(pid).is_ok_and(|all| !self.within(all).is_empty())
    }

    fn within(&self, all: Vec<Mounted>) -> Vec<Mounted> {
        let is_ours = |mount: &Mounted| match &self.place {
            _ if mount.kind == "overlay" && mount.source == OVERLAY => mount.has_lower(&self.folder),
            Some((device, root)) => mount.device == *device && mount.shows(root),
            None => id(&mount.point).is_ok_and(|id| self.files.contains(&id)),
        };
        all.into_iter().filter(is_ours).collect()
    }

    /// Unmounts them.
    ///
    /// # Errors
    ///
    /// If a mount is left.
    pub fn unmount(&self) -> io::Result<()> {
        loop {
            let left = self.mounts()?;
            let Some(last) = left.last() else { return Ok(()) };
            last.unmount()?;
            if self.mounts()?.len() >= left.len() {
                let reason = format!("it is still mounted on {}", last.point.display());
                return Err(io::Error::other(reason));
            }
        }
    }
}

/// Removes the folder `source` if none of it is mounted any more.
///
/// # Errors
///
/// If it cannot be removed.
pub fn remove_source(source: &Path) -> io::Result<()> {
    match fs::remove_dir_all(source) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Mounted {
    fn parse(line: &[u8]) -> Option<Mounted> {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
        let path = |field: &[u8]| PathBuf::from(std::ffi::OsString::from_vec(unescape(field)));
        let separator = fields.iter().position(|field| *field == b"-")?;
        let mut right = fields.get(separator + 1..)?.iter();
        Some(Mounted {
            id: text(fields.first()?).parse().ok()?,
            device: text(fields.get(2)?),
            root: path(fields.get(3)?),
            point: path(fields.get(4)?),
            kind: text(right.next()?),
            source: text(&unescape(right.next()?)),
            options: text(&unescape(right.next()?)),
        })
    }

    /// Whether it shows a folder or a file in that folder.
    fn shows(&self, folder: &Path) -> bool {
        let root = self.root.as_os_str().as_bytes();
        let root = root.strip_suffix(REMOVED.as_bytes()).unwrap_or(root);
        let root = Path::new(std::ffi::OsStr::from_bytes(root));
        root == folder || root.parent() == Some(folder)
    }

    fn has_lower(&self, source: &Path) -> bool {
        let lower = format!("lowerdir={}:", source.display());
        self.options.split(',').any(|option| option.starts_with(&lower))
    }

    /// Unmounts it, even if it is in use.
    fn unmount(&self) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(&self.point, flags, Mode::empty())?);
        let is_this = match mount_id(&file) {
            Some(id) => id == self.id,
            // Before Linux 3.15 the kernel does not report it. Then no other user may be able to replace it.
            None => Dir::locate_private(&self.point).is_ok(),
        };
        if !is_this {
            let reason = format!(
                "something else is mounted over it, or was put in its place, on {}",
                self.point.display()
            );
            return Err(io::Error::other(reason));
        }
        // The descriptor itself keeps it busy.
        Ok(unmount(by_descriptor(&file), UnmountFlags::DETACH)?)
    }
}

fn mount_id(file: &File) -> Option<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    line.trim().parse().ok()
}

fn id(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

fn children(folder: &Path) -> Vec<(u64, u64)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).chain([folder.to_path_buf()]);
    files.filter_map(|path| id(&path).ok()).collect()
}

/// Decodes spaces, newlines and the like, which are three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match byte {
            Some(byte) if *first == b'\\' => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(table: &str, source: &str) -> Vec<String> {
        let all: Vec<Mounted> = table
            .lines()
            .filter_map(|line| Mounted::parse(line.as_bytes()))
            .collect();
        let found = Shown::among(&all, Path::new(source)).within(all);
        found
            .iter()
            .map(|mount| mount.point.display().to_string())
            .collect()
    }

    #[test]
    fn ours_are_known_by_what_they_show() {
        let table = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            22 21 0:20 / /run rw shared:2 - tmpfs tmpfs rw\n\
            23 22 0:21 / /run/user/1000 rw - tmpfs tmpfs rw\n\
            40 21 0:20 /sealift/attach/daemon.json /etc/docker/daemon.json ro shared:2 - tmpfs tmpfs rw\n\
            41 21 0:20 /sealift/attach/hosts//deleted /home/a\\040b/hosts ro - tmpfs tmpfs rw\n\
            42 21 0:20 /sealift/attach /etc/other ro - tmpfs tmpfs rw\n\
            43 21 0:20 /sealift/attached/daemon.json /etc/x ro - tmpfs tmpfs rw\n\
            44 21 8:1 /sealift/attach/daemon.json /etc/y ro - ext4 /dev/sda1 rw\n\
            45 21 0:33 / /etc/z ro - overlay sealift-attach ro,lowerdir=/run/sealift/attach:/etc/z\n\
            46 21 0:34 / /etc/w ro - overlay sealift-attach ro,lowerdir=/run/other/attach:/etc/w\n\
            47 21 0:35 / /etc/v ro - overlay overlay ro,lowerdir=/run/sealift/attach:/etc/v";
        let expected = [
            "/etc/docker/daemon.json",
            "/home/a b/hosts",
            "/etc/other",
            "/etc/z",
        ];
        assert_eq!(points(table, "/run/sealift/attach"), expected);
        assert_eq!(points(table, "/sealift/attach"), ["/etc/y"]);
        // Part of a file system is mounted there, as with btrfs.
        let table = "30 1 0:25 /@run /run rw - btrfs /dev/sdb rw\n\
            31 1 0:25 /@run/sealift/attach/hosts /etc/hosts rw - btrfs /dev/sdb rw";
        assert_eq!(points(table, "/run/sealift/attach"), ["/etc/hosts"]);
    }

    #[test]
    fn escapes_are_read() {
        assert_eq!(unescape(b"a\\040b\\134\\054\\1"), b"a b\\,\\1");
    }
}
