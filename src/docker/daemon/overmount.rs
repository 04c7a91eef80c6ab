//! Mounting another file over a real one: a `daemon.json`, an `/etc/hosts`. The real file, or its absence, does
//! not change on disk, so a restart of the host undoes it.
//!
//! - The file exists: a copy is bind-mounted over it.
//! - Only its folder exists: a read-only overlay over the folder shows the additional file.
//! - The folder does not exist either: an empty one is made, and a folder with the file is bind-mounted over
//!   it.
//!
//! Root mounts only if no other user can change the file, its folder or a folder above it: otherwise that user
//! could redirect root's mount. The mount point is held open, and named by its descriptor. To unmount, the
//! mount is found in the list of mounts by what it shows, wherever it is by then (`mounts`).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, XattrFlags};
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};

use super::mounts::{self, OVERLAY, Shown, by_descriptor};
use super::namespaces::Namespaces;
use crate::dir::{Dir, kind_name};
use crate::error::{Error, Result};
use crate::load::Obstacle;

const FILE: &str = "daemon.json";
const LABEL: &str = "security.selinux";

/// What is mounted over, with paths in our namespace.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "form", content = "target")]
pub enum Overmount {
    /// A file over the file.
    File(PathBuf),
    /// A folder with an additional file over the folder.
    Overlay(PathBuf),
    /// A folder over one that is made for it.
    Folder(PathBuf),
}

impl Overmount {
    /// Chooses the form for a file at `path`, which contains no links. Only a `daemon.json` may be absent.
    ///
    /// # Errors
    ///
    /// If none is possible, or another user could redirect the mount.
    pub fn plan(path: &Path) -> Result<Overmount, Obstacle> {
        let Some(folder) = path.parent() else {
            return Err(Obstacle::new(format!("{} is not a file", path.display()), ""));
        };
        let refused = |error: io::Error| unsafe_place(path, &error);
        let located = match Dir::locate_private(path) {
            Ok(located) => located,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let overmount = Overmount::Folder(folder.into());
                overmount.parent().map_err(refused)?;
                return Ok(overmount);
            }
            Err(error) => return Err(refused(error)),
        };
        match located.kind().map_err(refused)? {
            Some(FileType::RegularFile) => {
                located.open_private().map_err(refused)?;
                return Ok(Overmount::File(path.into()));
            }
            Some(kind) => {
                let reason = format!("{} is a {}, not a file", path.display(), kind_name(kind));
                return Err(Obstacle::new(reason, "put a regular file there"));
            }
            None => {}
        }
        if path.file_name().is_none_or(|name| name != FILE) {
            let reason = format!("{} does not exist", path.display());
            return Err(Obstacle::new(reason, "make an empty one"));
        }
        if folder.to_string_lossy().contains([':', ',', '\\']) {
            return Err(Obstacle::new(
                format!(
                    "{} has a character that overlay mounts do not accept",
                    folder.display()
                ),
                "make an empty daemon.json there",
            ));
        }
        let mounted = mounts::all().map_err(refused)?;
        if let Some(below) = mounted.iter().find(|mount| mount.point.starts_with(folder)) {
            return Err(Obstacle::new(
                format!(
                    "{} is mounted where an overlay would hide it",
                    below.point.display()
                ),
                "make an empty daemon.json, which is then mounted over instead",
            ));
        }
        own(&located.dir).map_err(refused)?;
        Ok(Overmount::Overlay(folder.into()))
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        let (Overmount::File(path) | Overmount::Overlay(path) | Overmount::Folder(path)) = self;
        path
    }

    /// The name of the file with the content in `source`: that of the mount point, so that it can be recognised
    /// in a list of mounts.
    fn name(&self) -> &std::ffi::OsStr {
        match self {
            Overmount::File(path) => path.file_name().unwrap_or(FILE.as_ref()),
            _ => FILE.as_ref(),
        }
    }

    /// Mounts the content, with the files of these namespaces. If it is mounted already, its content changes.
    ///
    /// # Errors
    ///
    /// If it cannot be written or mounted.
    pub fn mount_in(&self, namespaces: &Namespaces, content: &[u8], source: &Path) -> Result<()> {
        let mounted = (|| {
            let covered = namespaces.with_files(|| self.covered())??;
            let file = self.write(content, source, covered.as_ref())?;
            let shown = Shown::of(source)?;
            namespaces.with_files(|| self.mount(source, &file, &shown))?
        })();
        mounted.map_err(Error::io("cover", self.path()))
    }

    /// Unmounts ours wherever it is, and nothing else, with the files of these namespaces.
    ///
    /// # Errors
    ///
    /// If it cannot be unmounted.
    pub fn unmount_in(&self, namespaces: &Namespaces, source: &Path) -> Result<()> {
        let unmounted = (|| {
            let shown = Shown::of(source)?;
            let unmount = || {
                shown.unmount()?;
                self.remove_folder()
            };
            // If the mounts have gone with the namespace, files can be removed from here.
            match namespaces.has_process(|pid| shown.is_shown_to(pid))? {
                true => namespaces.with_files_left(unmount)?.unwrap_or_else(unmount)?,
                false => unmount()?,
            }
            mounts::remove_source(source)
        })();
        unmounted.map_err(Error::io("uncover", self.path()))
    }

    /// The folder of the mount point, which must be root's alone.
    fn parent(&self) -> io::Result<Dir> {
        let parent = Dir::open_private(self.path().parent().unwrap_or(Path::new("/")))?;
        own(&parent)?;
        Ok(parent)
    }

    /// The real file or folder; `None` if it does not exist yet.
    fn covered(&self) -> io::Result<Option<File>> {
        match self {
            Overmount::File(path) => Dir::locate_private(path)?.open_private().map(Some),
            Overmount::Overlay(folder) => {
                let folder = Dir::open_private(folder)?;
                own(&folder)?;
                Ok(Some(folder.as_file().try_clone()?))
            }
            Overmount::Folder(_) => Ok(None),
        }
    }

    /// Writes the content into the source folder.
    fn write(&self, content: &[u8], source: &Path, covered: Option<&File>) -> io::Result<File> {
        let place = Dir::locate_private(source)?;
        if place.kind()?.is_none() {
            place.dir.make_dir(&place.name, 0o700)?;
        }
        let folder = place.dir.dir(&place.name)?;
        let mut file = folder.open_or_create(self.name(), 0o600)?;
        file.set_len(0)?;
        file.write_all(content)?;
        match (self, covered) {
            (Overmount::File(_), Some(covered)) => copy_access(covered, &file)?,
            (Overmount::Overlay(_), Some(covered)) => {
                copy_access(covered, folder.as_file())?;
                file.set_permissions(fs::Permissions::from_mode(0o644))?;
                copy_label(covered, &file)?;
            }
            _ => {
                let file_mode = fs::Permissions::from_mode(0o755);
                folder.as_file().set_permissions(file_mode)?;
                file.set_permissions(fs::Permissions::from_mode(0o644))?;
            }
        }
        file.sync_all()?;
        Ok(file)
    }

    /// Mounts the file that was written, unless it is mounted.
    fn mount(&self, source: &Path, file: &File, shown: &Shown) -> io::Result<()> {
        if shown.mounts()?.iter().any(|mount| mount.point == self.path()) {
            return Ok(());
        }
        // In another mount namespace the same path might lead elsewhere.
        let folder = Dir::open_private(source)?;
        let from = folder.open_file(self.name())?;
        if !is_same(&from, file)? {
            return Err(io::Error::other(format!(
                "dockerd sees another {}",
                source.display()
            )));
        }
        match self {
            Overmount::File(path) => {
                let located = Dir::locate_private(path)?;
                let covered = located.open_private()?;
                mount_bind(by_descriptor(&from), by_descriptor(&covered))?;
                // By the name again, which now leads to the copy.
                let copy = located.dir.open_file(&located.name)?;
                // Read-only, so that a program that writes gets an error, and does not write into the copy. If
                // even root may not set that, it stays writable.
                let _ = mount_remount(by_descriptor(&copy), MountFlags::BIND | MountFlags::RDONLY, c"");
                if !is_same(&copy, file)? {
                    return Err(io::Error::other("something else was mounted there meanwhile"));
                }
            }
            Overmount::Overlay(path) => {
                let covered = Dir::open_private(path)?;
                own(&covered)?;
                // No other user can replace either of them.
                let layers = format!("lowerdir={}:{}", source.display(), path.display());
                let layers = std::ffi::CString::new(layers)?;
                let target = by_descriptor(covered.as_file());
                mount(OVERLAY, target, "overlay", MountFlags::RDONLY, layers.as_c_str())?;
            }
            Overmount::Folder(path) => {
                let (parent, name) = (self.parent()?, path.file_name().unwrap_or_default());
                if parent.kind(name)?.is_none() {
                    parent.make_dir(name, 0o755)?;
                    let made = parent.dir(name)?;
                    made.as_file()
                        .set_permissions(fs::Permissions::from_mode(0o755))?;
                }
                let covered = parent.dir(name)?;
                own(&covered)?;
                mount_bind(by_descriptor(folder.as_file()), by_descriptor(covered.as_file()))?;
            }
        }
        Ok(())
    }

    /// Removes the folder that was made as a mount point, if it is empty.
    fn remove_folder(&self) -> io::Result<()> {
        let Overmount::Folder(folder) = self else {
            return Ok(());
        };
        let removed = self
            .parent()
            .and_then(|parent| parent.remove_dir(folder.file_name().unwrap_or_default()));
        match removed {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

/// Why root does not use a path that another user can change or redirect.
pub fn unsafe_place(path: &Path, error: &io::Error) -> Obstacle {
    Obstacle::new(
        format!(
            "{} is not used, since another user could redirect root: {error}",
            path.display()
        ),
        format!(
            "give it and every folder above it to root alone (chown root, chmod go-w); namei -l '{}' shows whose they are",
            path.display()
        ),
    )
}

/// Checks that only root can make files in a folder.
fn own(folder: &Dir) -> io::Result<()> {
    let meta = folder.metadata()?;
    if meta.uid() == 0 && meta.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("another user can write to {}", folder.path().display()),
    ))
}

fn is_same(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Gives a file the owner, mode and SELinux label of another.
///
/// # Errors
///
/// If that is not possible.
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

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// A namespace's name may be that of another one by the time of an undo: here of one with another `/proc`.
    #[test]
    fn a_namespace_that_took_over_a_name_is_left_alone() {
        if !rustix::process::geteuid().is_root() {
            return; // no namespace can be made
        }
        let home = tempfile::tempdir().unwrap();
        let hosts = home.path().join("hosts");
        fs::write(&hosts, "").unwrap();
        let mut other = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", "echo; exec sleep 60"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0];
        io::Read::read_exact(&mut other.stdout.take().unwrap(), &mut line).unwrap();
        let name = fs::read_link(format!("/proc/{}/ns/mnt", other.id())).unwrap();
        let namespaces = Namespaces {
            mount: Some(name.display().to_string()),
            network: None,
        };
        let unmounted = Overmount::File(hosts).unmount_in(&namespaces, &home.path().join("source"));
        other.kill().unwrap();
        other.wait().unwrap();
        unmounted.unwrap();
    }
}
