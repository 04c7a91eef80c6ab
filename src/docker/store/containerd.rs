//! The containerd of a dockerd, and where it keeps its data.
//!
//! It is a child of dockerd (`containerd --config EXEC-ROOT/containerd/containerd.toml`), one that has outlived
//! such a dockerd, or the system's, which stock units configure:
//! `--containerd=/run/containerd/containerd.sock`. Its configuration may be anywhere, but its open files are
//! unambiguous: a containerd keeps its database, `ROOT/io.containerd.metadata.v1.bolt/meta.db`, open as long as
//! it runs.
//!
//! Source: moby, `cmd/dockerd/daemon.go` and `libcontainerd/supervisor/remote_daemon.go`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::dir::{Dir, read_setting};
use crate::docker::daemon::peer::{listening_process, running};
use crate::docker::daemon::process::Process;
use crate::process::Stat;
use crate::store::content::{CONFIG, ContentFolders, DEFAULT_ROOT, configured_root};

const PROGRAM: &str = "containerd";
/// The database below containerd's root.
const DATABASE: &str = "io.containerd.metadata.v1.bolt/meta.db";
/// The socket of a stock containerd.
const DEFAULT_ADDRESS: &str = "/run/containerd/containerd.sock";
/// The state folder of a stock dockerd.
const DEFAULT_EXEC_ROOT: &str = "/var/run/docker";

/// The content folders of a running Docker: first the one that its containerd has open, then the likely ones.
///
/// `data_root` is the engine's, as it names it.
pub fn content_of(process: &Process, data_root: &Path) -> ContentFolders {
    let configured = process.read(CONFIG).and_then(|text| configured_root(&text));
    let inside = [data_root.join("containerd/daemon")]
        .into_iter()
        .chain(configured)
        .chain([DEFAULT_ROOT.into()]);
    let inside = inside.filter_map(|path| process.open(process.locate(&path).ok()?).ok());
    ContentFolders::of_roots(root_of(process).into_iter().chain(inside))
}

/// The content folders of a stopped Docker: the likely ones of its containerd.
pub fn content_of_stopped(data_root: &Path) -> ContentFolders {
    let text = read_setting(CONFIG.as_ref()).ok();
    let configured = text.and_then(|text| configured_root(&String::from_utf8_lossy(&text)));
    // Another machine's disk has it beside the data root, because /var/lib has both. With user namespaces
    // the data root is a folder inside the one that dockerd was given, and its containerd's data is not.
    let beside = ["containerd", "containerd/daemon"].map(|name| Some(data_root.parent()?.join(name)));
    let inside = Dir::open(data_root).and_then(|root| root.below(Path::new("containerd/daemon")));
    let elsewhere = beside
        .into_iter()
        .flatten()
        .chain(configured)
        .chain([DEFAULT_ROOT.into()]);
    let elsewhere = elsewhere.filter_map(|root| Dir::open(&root).ok());
    ContentFolders::of_roots(inside.into_iter().chain(elsewhere))
}

/// The root of dockerd's containerd, by its open files; `None` if it cannot be determined.
pub fn root_of(dockerd: &Process) -> Option<Dir> {
    root(&containerd(dockerd)?)
}

fn containerd(dockerd: &Process) -> Option<Process> {
    let line = dockerd.command_line();
    let told = || {
        let configuration = dockerd.settings().ok()?;
        let path = |key| configuration.text(key).map(PathBuf::from);
        Some((path("containerd"), path("exec-root")))
    };
    let (address, exec_root) = told().unwrap_or_default();
    let sockets = match line.containerd.clone().or(address) {
        Some(address) => vec![address],
        None => {
            if let Some(child) = child(dockerd) {
                return Some(child);
            }
            let state = line.exec_root.or(exec_root);
            let state = state.unwrap_or_else(|| DEFAULT_EXEC_ROOT.into());
            vec![state.join("containerd/containerd.sock"), DEFAULT_ADDRESS.into()]
        }
    };
    sockets.into_iter().find_map(|socket| {
        let socket = dockerd.reach(&socket).ok()?;
        let found = Process::of(listening_process(&socket, PROGRAM).ok()??, &socket).ok()?;
        dockerd.identity().check().ok().map(|()| found)
    })
}

/// The containerd that dockerd has started; its shims have no database.
fn child(dockerd: &Process) -> Option<Process> {
    let pids = running(PROGRAM).ok()?.into_iter();
    let children = pids.filter(|pid| Stat::of(*pid).is_ok_and(|stat| stat.parent == dockerd.pid()));
    children
        .filter_map(|pid| Process::of(pid, dockerd.socket()).ok())
        .find(|child| root(child).is_some())
}

fn root(containerd: &Process) -> Option<Dir> {
    let open = fs::read_dir(format!("/proc/{}/fd", containerd.pid())).ok()?;
    let mut open = open.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    let database = open.find(|path| path.is_absolute() && path.ends_with(DATABASE))?;
    let below = Path::new(DATABASE).components().count();
    containerd
        .open(database.ancestors().nth(below)?.to_path_buf())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::content::CONTENT;

    #[test]
    fn the_folder_beside_another_disks_data_root_is_found() {
        let home = tempfile::tempdir().unwrap();
        let (own, system) = (
            home.path().join("docker/containerd/daemon"),
            home.path().join("containerd"),
        );
        for root in [&own, &system] {
            fs::create_dir_all(root.join(CONTENT)).unwrap();
        }
        let found = content_of_stopped(&home.path().join("docker"));
        assert_eq!(found.paths()[..2], [own.join(CONTENT), system.join(CONTENT)]);
    }
}
