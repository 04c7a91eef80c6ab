//! Where the engines are. Docker 20.10 is this host's own where it has it, without a
//! chroot; the others live in a Debian in a folder, which every daemon sees through
//! an overlay of its own, so that what one writes there reaches no other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::{clean, run};

/// A version of Docker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// 20.10, of Debian 12.
    Docker20,
    /// 26.1, of Debian 13; only after `install.sh all`.
    Docker26,
    /// 28.5, of Debian forky.
    Docker28,
}

/// How Docker keeps images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// The graph driver overlay2.
    Classic,
    /// containerd's content store and snapshotter; from Docker 24 on.
    Containerd,
}

impl Engine {
    /// What `docker version` begins with.
    pub fn version(self) -> &'static str {
        match self {
            Self::Docker20 => "20.10.",
            Self::Docker26 => "26.1.",
            Self::Docker28 => "28.",
        }
    }

    /// The folder with the engine's Debian, or none where it is the host itself.
    pub fn root(self) -> Option<PathBuf> {
        let suite = match self {
            Self::Docker20 if host_is_docker20() => return None,
            Self::Docker20 => "bookworm",
            Self::Docker26 => "trixie",
            Self::Docker28 => "forky",
        };
        let engines = std::env::var_os("SEALIFT_ENGINES_DIR").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/engines"),
            PathBuf::from,
        );
        let root = engines.join(suite);
        let how = if self == Self::Docker26 {
            "install.sh all"
        } else {
            "install.sh"
        };
        assert!(
            root.join("etc/sealift-engine").exists(),
            "{} is missing: run tests/engines/{how}",
            root.display()
        );
        Some(root)
    }
}

/// The rule of install.sh: a system containerd would be joined by a dockerd beside it.
fn host_is_docker20() -> bool {
    if Path::new("/run/containerd/containerd.sock").exists() {
        return false;
    }
    Command::new("/usr/sbin/dockerd")
        .arg("--version")
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("version 20.10."))
}

/// An engine's root in use: `folder/root` over its Debian, with `folder/data` at `/sealift` in it.
#[derive(Debug)]
pub struct Root {
    root: Option<PathBuf>,
    data: PathBuf,
}

impl Root {
    /// Mounts what the engine needs below `folder`; the owner of the folder unmounts it.
    pub fn new(engine: Engine, folder: &Path) -> Self {
        let data = folder.join("data");
        fs::create_dir_all(&data).unwrap();
        let Some(lower) = engine.root() else {
            return Self { root: None, data };
        };
        let root = folder.join("root");
        let [upper, work] = ["upper", "work"].map(|name| folder.join(name));
        for path in [&root, &upper, &work] {
            fs::create_dir(path).unwrap();
        }
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        );
        mount(&["-t", "overlay", "-o", &layers, "overlay"], &root);
        mount(&["--make-rprivate"], &root);
        mount(&["-t", "proc", "proc"], &root.join("proc"));
        for shared in ["/sys", "/dev"] {
            let point = root.join(&shared[1..]);
            mount(&["--rbind", shared], &point);
            mount(&["--make-rslave"], &point);
        }
        for name in ["run", "tmp"] {
            mount(&["-t", "tmpfs", "tmpfs"], &root.join(name));
        }
        mount(&["--bind", data.to_str().unwrap()], &root.join("sealift"));
        Self {
            root: Some(root),
            data,
        }
    }

    /// The host's path of a file that belongs to the daemon.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// The path of the same file as the daemon sees it.
    pub fn inside(&self, name: &str) -> PathBuf {
        if self.root.is_some() {
            Path::new("/sealift").join(name)
        } else {
            self.outside(name)
        }
    }

    /// The host's path of a folder whose mounts the daemon sees.
    pub fn mount_point(&self, name: &str) -> PathBuf {
        let inside = self.inside(name);
        self.path().join(inside.strip_prefix("/").unwrap())
    }

    /// Puts a folder of the daemon on a file system of this size, such as `16m`.
    pub fn mount_disk(&self, name: &str, size: &str) {
        let point = self.mount_point(name);
        fs::create_dir_all(&point).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], &point);
    }

    /// Gives that file system another size.
    #[track_caller]
    pub fn resize_disk(&self, name: &str, size: &str) {
        let options = format!("remount,size={size}");
        let mut mount = Command::new("mount");
        run(mount.args(["-o", &options]).arg(self.mount_point(name))).ok();
    }

    /// The root folder of the daemon, seen from the host; `/` without a chroot.
    pub fn path(&self) -> &Path {
        self.root.as_deref().unwrap_or(Path::new("/"))
    }

    /// A command among the engine's programs, in a clean environment.
    pub fn command(&self, program: &str) -> Command {
        // By their full paths: another docker may come before them in PATH.
        let program = match program {
            "dockerd" => "/usr/sbin/dockerd".to_owned(),
            other => format!("/usr/bin/{other}"),
        };
        match &self.root {
            None => clean(program, &self.data),
            Some(root) => {
                let mut command = clean("/usr/sbin/chroot", Path::new("/sealift"));
                command.arg(root).arg(program);
                command
            }
        }
    }
}

fn mount(args: &[&str], point: &Path) {
    run(Command::new("mount").args(args).arg(point)).ok();
}
