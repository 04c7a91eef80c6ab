//! Free space where containerd keeps content and unpacked layers.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use tokio::net::UnixStream;

use super::Containerd;
use super::api::introspection::PluginsRequest;
use super::api::introspection::introspection_client::IntrospectionClient;
use crate::error::{Hint, Remedy};
use crate::load::{DiskSpace, Space};

/// The name of containerd's process, also in Kubernetes distributions.
const PROGRAM: &str = "containerd";
/// Snapshotters whose snapshots are files in their folder. Others use block devices, or fetch layers later.
const OF_FILES: [&str; 4] = ["overlayfs", "native", "btrfs", "zfs"];

/// Free space, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FreeSpace {
    /// Where content is.
    pub content: Option<Space>,
    /// Where unpacked layers are, if that is another file system.
    pub snapshots: Option<Space>,
    /// Whether unpacked layers are on the file system of content.
    pub is_shared: bool,
}

impl FreeSpace {
    /// Compares it with the stored bytes of content and the bytes of unpacked layers that a load needs. The worse of
    /// two file systems is returned. `removal` is the command that removes images.
    pub fn needed_for(&self, stored: u64, unpacked: u64, removal: &str) -> Option<DiskSpace> {
        let hint = || {
            let hint = Hint::from(format!("free some space there: {removal} removes images"));
            hint.and(Remedy::LoadFewer)
        };
        let content = self.content.as_ref().map(|space| match self.is_shared {
            true => space.needed_for(stored, unpacked, hint()),
            false => space.needed_for(stored, 0, hint()),
        });
        let snapshots = self.snapshots.as_ref();
        let snapshots = snapshots.map(|space| space.needed_for(0, unpacked, hint()));
        let by_severity = |space: &DiskSpace| (space.is_insufficient, space.is_short(), !space.is_ample());
        // Of two that are ample, that of the layers, which are larger.
        content.into_iter().chain(snapshots).max_by_key(by_severity)
    }
}

impl Containerd {
    /// Free space in its folders, if they can be reached from here.
    pub(super) fn free_space(&self) -> FreeSpace {
        self.look_at_folders().unwrap_or_default()
    }

    fn look_at_folders(&self) -> Option<FreeSpace> {
        let content = self.plugin_folder("type==io.containerd.content.v1")?;
        let snapshots = OF_FILES
            .contains(&self.snapshotter.as_str())
            .then(|| format!("type==io.containerd.snapshotter.v1,id=={}", self.snapshotter));
        let snapshots = snapshots.and_then(|filter| self.plugin_folder(&filter));
        let root = self.root_of_process()?;
        let content_folder = open_folder(&root, &content).ok()?;
        let snapshots_folder = snapshots.as_deref().map(|path| open_folder(&root, path));
        let snapshots_folder = snapshots_folder.and_then(Result::ok);
        let device = |folder: &File| fstat(folder).ok().map(|stat| stat.st_dev);
        let is_shared = snapshots_folder
            .as_ref()
            .is_some_and(|folder| device(folder).is_some() && device(folder) == device(&content_folder));
        let snapshots = match (snapshots, snapshots_folder) {
            (Some(path), Some(folder)) if !is_shared => Space::of_folder(&path, &folder),
            _ => None,
        };
        Some(FreeSpace {
            content: Space::of_folder(content.parent()?, &content_folder),
            snapshots,
            is_shared,
        })
    }

    /// The folder of the first plugin that matches, as containerd sees it.
    pub(super) fn plugin_folder(&self, filter: &str) -> Option<PathBuf> {
        let mut stub = IntrospectionClient::new(self.client.channel());
        let request = self.client.request(PluginsRequest {
            filters: vec![filter.into()],
        });
        let found = self
            .client
            .wait("ask for its plugins", stub.plugins(request))
            .ok()?;
        let mut plugins = found.plugins.into_iter();
        let folder = plugins.find_map(|mut plugin| plugin.exports.remove("root"))?;
        Some(folder.into()).filter(|folder: &PathBuf| folder.is_absolute())
    }

    /// The `/` of the process that listens on the socket, if that is containerd and not a program that passes calls on to
    /// it. Only root can open that of another user.
    fn root_of_process(&self) -> Option<File> {
        let socket = self.client.address().socket();
        let connected = self.client.block_on(UnixStream::connect(socket)).ok()?;
        // Zero if it cannot be seen from here.
        let pid = connected.peer_cred().ok()?.pid().filter(|pid| *pid > 0)?;
        // What is opened through it belongs to this process, also if another one gets its id later.
        let process = File::open(format!("/proc/{pid}")).ok()?;
        let open = |name: &str, flags| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | flags;
            openat(&process, name, flags, Mode::empty()).map(File::from).ok()
        };
        let mut name = String::new();
        open("comm", OFlags::empty())?.read_to_string(&mut name).ok()?;
        (name.trim_end() == PROGRAM).then(|| open("root", OFlags::DIRECTORY))?
    }
}

/// Opens the folder of a plugin, or the one above it: containerd 2 creates it with the first content.
fn open_folder(root: &File, path: &Path) -> io::Result<File> {
    match (open_below(root, path), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => open_below(root, parent),
        (opened, _) => opened,
    }
}

/// Opens a folder by its path below another root.
fn open_below(root: &File, path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = path.strip_prefix("/").unwrap_or(path);
    Ok(openat2(root, path, flags, Mode::empty(), resolve)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_and_layers_add_up_on_one_file_system() {
        let space = |path: &str, free| Space {
            path: path.into(),
            free,
            is_certain: true,
        };
        let content = || Some(space("/content", 1500));
        let one = FreeSpace {
            content: content(),
            snapshots: None,
            is_shared: true,
        };
        let two = |free| FreeSpace {
            content: content(),
            snapshots: Some(space("/snapshots", free)),
            is_shared: false,
        };
        let only_content = FreeSpace {
            content: content(),
            ..FreeSpace::default()
        };
        // The folder, what is needed there, whether it may not fit, and whether it certainly does not.
        for (free, expected) in [
            (one, ("/content", 1600, true, false)),
            (two(1000), ("/snapshots", 1000, false, false)),
            (two(950), ("/snapshots", 1000, true, false)),
            (two(800), ("/snapshots", 1000, true, true)),
            // Both suffice; only the second is ample.
            (two(5 << 30), ("/content", 600, false, false)),
            (only_content, ("/content", 600, false, false)),
        ] {
            let needed = free.needed_for(600, 1000, "crictl rmi").unwrap();
            let found = (
                needed.path.as_str(),
                needed.needed,
                needed.is_short(),
                needed.is_insufficient,
            );
            assert_eq!(found, expected);
        }
        let needed = two(5000).needed_for(1501, 1000, "crictl rmi").unwrap();
        assert_eq!((needed.path.as_str(), needed.is_insufficient), ("/content", true));
        assert_eq!(FreeSpace::default().needed_for(1, 1, "crictl rmi"), None);
    }

    #[test]
    fn links_lead_to_folders_of_the_other_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::create_dir_all(path.join("disk/root")).unwrap();
        std::os::unix::fs::symlink("/disk", path.join("link")).unwrap();
        let root = File::open(path).unwrap();
        assert!(open_below(&root, Path::new("/link/root")).is_ok());
        assert!(open_below(&root, Path::new("/link/../../disk/root")).is_ok());
        assert!(open_below(&root, Path::new("/etc")).is_err());
    }
}
