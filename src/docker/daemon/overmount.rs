//! Laying another file over a real one: a `daemon.json`, an `/etc/hosts`. The real file, or its absence, stays
//! as it is on disk: a restart of the host undoes it.
//!
//! - The file exists: a copy is bind-mounted over it.
//! - Only its folder exists: a read-only overlay over the folder shows one more file in it.
//! - Not even the folder exists: an empty one is made, and a folder with the file bind-mounted over it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use super::namespaces::Namespaces;
use crate::docker::daemon::process::is_same_file;
use crate::error::{Error, Result};
use crate::target::Obstacle;

/// What the overlay is called in the list of mounts.
const NAME: &str = "sealift-attach";
const FILE: &str = "daemon.json";
const LABEL: &str = "security.selinux";

/// What is mounted over, as paths of ours.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "form", content = "target")]
pub enum Overmount {
    /// A file over the file.
    File(PathBuf),
    /// A folder with one more file over the folder.
    Overlay(PathBuf),
    /// A folder over one that is made for it.
    Folder(PathBuf),
}

impl Overmount {
    /// Finds the form for a `daemon.json` at `path`.
    ///
    /// # Errors
    ///
    /// If none of them would do.
    pub fn plan(path: &Path) -> Result<Overmount, Obstacle> {
        let Some(folder) = path.parent() else {
            return Err(Obstacle::new(format!("{} is no file", path.display()), ""));
        };
        if path.is_file() {
            return Ok(Overmount::File(path.into()));
        }
        if !folder.exists() {
            return Ok(Overmount::Folder(folder.into()));
        }
        if path.file_name().is_none_or(|name| name != FILE) {
            return Err(Obstacle::new(format!("{} does not exist", path.display()), ""));
        }
        if folder.to_string_lossy().contains([':', ',', '\\']) {
            return Err(Obstacle::new(
                format!("{} has a character that no overlay takes", folder.display()),
                "make an empty daemon.json there",
            ));
        }
        if let Some(below) = mounts().into_iter().find(|mount| mount.point.starts_with(folder)) {
            return Err(Obstacle::new(
                format!(
                    "{} is mounted where an overlay would hide it",
                    below.point.display()
                ),
                "make an empty daemon.json, which is then covered instead",
            ));
        }
        Ok(Overmount::Overlay(folder.into()))
    }

    /// The file or folder that is covered.
    pub fn path(&self) -> &Path {
        let (Overmount::File(path) | Overmount::Overlay(path) | Overmount::Folder(path)) = self;
        path
    }

    /// The file in `source` that shows the content: named as what it covers, so that a list of mounts tells.
    fn file(&self, source: &Path) -> PathBuf {
        match self {
            Overmount::File(path) => source.join(path.file_name().unwrap_or(FILE.as_ref())),
            _ => source.join(FILE),
        }
    }

    /// Lays the content over, with the files of these namespaces.
    ///
    /// # Errors
    ///
    /// If it cannot be written or mounted.
    pub fn mount_in(&self, namespaces: &Namespaces, content: &[u8], source: &Path) -> Result<()> {
        let mounted = namespaces.with_files(|| self.write(content, source).and_then(|()| self.mount(source)));
        mounted
            .and_then(|mounted| mounted)
            .map_err(Error::io("cover", self.path()))
    }

    /// Takes ours off, and nothing else, with the files of these namespaces.
    ///
    /// # Errors
    ///
    /// If it cannot be unmounted.
    pub fn unmount_in(&self, namespaces: &Namespaces, source: &Path) -> Result<()> {
        let lifted = if namespaces.are_files_gone() {
            // So are the mounts; what stands in files is to be seen from here.
            self.unmount(source)
        } else {
            namespaces
                .with_files(|| self.unmount(source))
                .and_then(|lifted| lifted)
        };
        lifted.map_err(Error::io("uncover", self.path()))
    }

    /// Puts the content into the folder that it is shown from. What is mounted already changes along.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    fn write(&self, content: &[u8], source: &Path) -> io::Result<()> {
        if !source.exists() {
            fs::create_dir(source)?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(self.file(source))?;
        file.write_all(content)?;
        match self {
            Overmount::File(path) => copy_access(&File::open(path)?, &file)?,
            Overmount::Overlay(folder) => {
                let folder = File::open(folder)?;
                copy_access(&folder, &File::open(source)?)?;
                file.set_permissions(fs::Permissions::from_mode(0o644))?;
                copy_label(&folder, &file)?;
            }
            Overmount::Folder(_) => {
                fs::set_permissions(source, fs::Permissions::from_mode(0o755))?;
                file.set_permissions(fs::Permissions::from_mode(0o644))?;
            }
        }
        file.sync_all()
    }

    /// Lays it, unless it is.
    ///
    /// # Errors
    ///
    /// If it cannot be mounted.
    fn mount(&self, source: &Path) -> io::Result<()> {
        if self.is_mounted(source) {
            return Ok(());
        }
        match self {
            Overmount::File(path) => {
                mount_bind(self.file(source), path)?;
                // Whoever writes meanwhile is told so, and does not write into the copy. Where even root may
                // not have it so, it goes without.
                let _ = mount_remount(path, MountFlags::BIND | MountFlags::RDONLY, c"");
            }
            Overmount::Overlay(folder) => {
                let layers = format!("lowerdir={}:{}", source.display(), folder.display());
                let layers = std::ffi::CString::new(layers)?;
                mount(NAME, folder, "overlay", MountFlags::RDONLY, layers.as_c_str())?;
            }
            Overmount::Folder(folder) => {
                if !folder.exists() {
                    fs::create_dir(folder)?;
                    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
                }
                mount_bind(source, folder)?;
            }
        }
        Ok(())
    }

    /// Whether ours lies there.
    fn is_mounted(&self, source: &Path) -> bool {
        match self {
            Overmount::File(path) => is_same_file(path, &self.file(source)),
            Overmount::Overlay(folder) => mounts()
                .iter()
                .any(|mount| mount.point == *folder && mount.source == NAME),
            Overmount::Folder(folder) => is_same_file(folder, source),
        }
    }

    /// Takes ours off, and nothing else.
    ///
    /// # Errors
    ///
    /// If it cannot be unmounted.
    fn unmount(&self, source: &Path) -> io::Result<()> {
        let target = self.path();
        let mut tries = 0;
        while self.is_mounted(source) {
            // Somebody may be reading it at this moment.
            let flags = if tries < 20 {
                UnmountFlags::NOFOLLOW
            } else {
                UnmountFlags::NOFOLLOW | UnmountFlags::DETACH
            };
            match unmount(target, flags) {
                Ok(()) => {}
                Err(rustix::io::Errno::BUSY) if tries < 20 => {
                    tries += 1;
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Overmount::Folder(folder) = self {
            match fs::remove_dir(folder) {
                Err(error)
                    if !matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                    ) =>
                {
                    return Err(error);
                }
                _ => {}
            }
        }
        match fs::remove_dir_all(source) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Gives a file the owner, mode and SELinux label of another.
///
/// # Errors
///
/// If it cannot have them.
pub fn copy_access(from: &File, to: &File) -> io::Result<()> {
    let meta = from.metadata()?;
    fchown(to, Some(meta.uid()), Some(meta.gid()))?;
    to.set_permissions(fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    copy_label(from, to)
}

fn copy_label(from: &File, to: &File) -> io::Result<()> {
    let mut label = vec![0; 4096];
    match rustix::fs::fgetxattr(from, LABEL, &mut label[..]) {
        Ok(length) => {
            let label = label.get(..length).unwrap_or_default();
            Ok(rustix::fs::fsetxattr(to, LABEL, label, XattrFlags::empty())?)
        }
        // No SELinux here.
        Err(_) => Ok(()),
    }
}

struct Mounted {
    point: PathBuf,
    source: String,
}

/// The mounts that this thread sees; `proc(5)`, mountinfo.
fn mounts() -> Vec<Mounted> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let one = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        Some(Mounted {
            point: unescape(left.split(' ').nth(4)?).into(),
            source: right.split(' ').nth(1)?.into(),
        })
    };
    table.lines().filter_map(one).collect()
}

/// Spaces, tabs, newlines and backslashes stand as three octal digits.
fn unescape(text: &str) -> String {
    ["\\040 ", "\\011\t", "\\012\n", "\\134\\"]
        .iter()
        .fold(text.to_string(), |text, pair| {
            let (code, char) = pair.split_at(4);
            text.replace(code, char)
        })
}
