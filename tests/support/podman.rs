//! A podman with storage of its own: 4.3 of Debian 12 or 5 of forky, as root or rootless.
//!
//! A rootless podman runs as `nobody`, with subordinate ids that only its mount namespace knows. In a chroot the kernel
//! makes no user namespaces, so that the newer one runs in a root of its own instead.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::command::{Run, clean, install, run};
use super::engine::{Engine, Root};
use super::folder::Folder;
use super::registry::Registry;

/// A version of podman.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 4.3, of Debian 12.
    Four,
    /// 5, of Debian forky.
    Five,
}

/// Who runs podman.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Root.
    Root,
    /// A user without privileges.
    Rootless,
}

const NOBODY: u32 = 65_534;

/// Enters the mounts of a rootless podman, and gives up root.
const ENTER: &str = r#"set -e; root=$1; ids=$2; shift 2
if [ "$root" = / ]; then
    mount --bind "$ids" /etc/subuid; mount --bind "$ids" /etc/subgid
else
    cd "$root"; pivot_root . .; umount -l .; cd /
fi
cd "$HOME"
exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all -- "$@""#;

/// A podman.
#[derive(Debug)]
pub struct Podman {
    root: Root,
    version: Version,
    user: User,
    // Last: its processes end before it is removed.
    folder: Folder,
}

impl Podman {
    /// Prepares one without images.
    pub fn new(version: Version, user: User) -> Self {
        let folder = Folder::new();
        let engine = match version {
            Version::Four => Engine::Docker20,
            Version::Five => Engine::Docker28,
        };
        let root = Root::new(engine, folder.path());
        let podman = Self {
            root,
            version,
            user,
            folder,
        };
        fs::set_permissions(podman.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let ids = "nobody:100000:65536\n";
        fs::write(podman.outside("ids"), ids).unwrap();
        if podman.root.path() != Path::new("/") {
            for file in ["subuid", "subgid"] {
                fs::write(podman.root.path().join("etc").join(file), ids).unwrap();
            }
        }
        install(env!("CARGO_BIN_EXE_sealift"), &podman.outside("sealift"));
        for name in ["home", "state", "tmp"] {
            let path = podman.outside(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
            if user == User::Rootless {
                chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        podman
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Who runs it.
    pub fn user(&self) -> User {
        self.user
    }

    /// The root folder that it sees.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The host's path of one of its files.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.root.outside(name)
    }

    /// The path of the same file as it sees it.
    pub fn inside(&self, name: &str) -> String {
        self.root.inside(name).display().to_string()
    }

    /// Puts one of its folders on a file system of this size, such as `16m`.
    pub fn mount_disk(&self, name: &str, size: &str) {
        self.root.mount_disk(name, size);
    }

    /// Gives that file system another size.
    #[track_caller]
    pub fn resize_disk(&self, name: &str, size: &str) {
        self.root.resize_disk(name, size);
    }

    /// Writes a file below its home that it may read.
    pub fn write_home(&self, name: &str, text: &str) {
        let path = self.outside("home").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        if self.user == User::Rootless {
            run(Command::new("chown")
                .args(["-R", "65534:65534"])
                .arg(self.outside("home")))
            .ok();
        }
    }

    /// The options of its storage.
    pub fn storage(&self) -> Vec<String> {
        match self.user {
            User::Rootless => Vec::new(),
            User::Root => [
                "--root",
                &self.inside("storage"),
                "--runroot",
                &self.inside("run-storage"),
            ]
            .map(String::from)
            .into(),
        }
    }

    /// The folder of its images, as it sees it.
    pub fn graph_root(&self) -> String {
        match self.user {
            User::Root => self.inside("storage"),
            User::Rootless => self.inside("home/.local/share/containers/storage"),
        }
    }

    /// A command as its user.
    pub fn command(&self, program: &str) -> Command {
        let program = match program {
            "sealift" => self.inside("sealift"),
            other => format!("/usr/bin/{other}"),
        };
        let home = PathBuf::from(self.inside("home"));
        let is_host = self.root.path() == Path::new("/");
        let mut command = match (self.user, is_host) {
            (User::Root, true) => clean(&program, &home),
            (User::Root, false) => {
                let mut command = clean("/usr/sbin/chroot", &home);
                command.arg(self.root.path()).arg(&program);
                command
            }
            (User::Rootless, _) => {
                let mut command = clean("/usr/bin/unshare", &home);
                command
                    .args(["--mount", "sh", "-c", ENTER, "enter"])
                    .arg(self.root.path());
                command.arg(self.outside("ids")).arg(&program);
                command
            }
        };
        command.env("XDG_RUNTIME_DIR", self.inside("state"));
        command.env("TMPDIR", self.inside("tmp"));
        command
    }

    /// Runs podman on its storage.
    #[track_caller]
    pub fn podman(&self, args: &[&str]) -> Run {
        run(self.command("podman").args(self.storage()).args(args))
    }

    /// `sealift load` into its storage.
    pub fn load_command(&self, args: &[&str]) -> Command {
        let mut command = self.command("sealift");
        command
            .arg("load")
            .args(["--to", "podman"])
            .args(self.storage())
            .args(args);
        command
    }

    /// Runs `sealift load` into its storage.
    #[track_caller]
    pub fn load(&self, args: &[&str]) -> Run {
        run(&mut self.load_command(args))
    }

    /// The same, and its JSON document.
    #[track_caller]
    pub fn load_json(&self, args: &[&str]) -> Value {
        self.load(&[args, &["--json"]].concat()).ok().json()
    }

    /// Pulls images of any registry from this one.
    #[track_caller]
    pub fn pull(&self, registry: &Registry, references: &[String]) {
        let mut conf = String::from("unqualified-search-registries = []\n");
        for prefix in ["docker.io", "quay.io", "registry.example:5000"] {
            conf += &format!(
                "[[registry]]\nprefix = \"{prefix}\"\nlocation = \"{}\"\ninsecure = true\n",
                registry.address()
            );
        }
        fs::write(self.outside("twin.conf"), conf).unwrap();
        for reference in references {
            let mut command = self.command("podman");
            command.env("CONTAINERS_REGISTRIES_CONF", self.inside("twin.conf"));
            run(command.args(self.storage()).args(["pull", "--quiet", reference])).ok();
        }
    }

    /// What `podman images` lists, in order of the ids.
    pub fn images(&self) -> Vec<Value> {
        let listed = self
            .podman(&["images", "--all", "--digests", "--format", "json"])
            .ok()
            .json();
        let mut images = listed.as_array().unwrap().clone();
        for image in &mut images {
            sort(image, &["Names", "RepoDigests"]);
        }
        images.sort_by_key(|image| image["Id"].to_string());
        images
    }

    /// What `podman image inspect` tells, without the folders of the storage.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        let mut inspected = self.podman(&["image", "inspect", name]).ok().json()[0].take();
        inspected["GraphDriver"]["Data"] = Value::Null;
        sort(&mut inspected, &["RepoTags", "RepoDigests"]);
        inspected
    }

    /// What the column DIGEST shows for a name.
    #[track_caller]
    pub fn digest(&self, name: &str) -> String {
        let images = self.images();
        let mut images = images.iter();
        let named = images.find(|image| {
            image["Names"]
                .as_array()
                .is_some_and(|names| names.iter().any(|one| one == name))
        });
        named.unwrap_or_else(|| panic!("no {name}"))["Digest"]
            .as_str()
            .unwrap()
            .into()
    }

    /// The names of all images, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .images()
            .iter()
            .flat_map(|image| image["Names"].as_array().cloned().unwrap_or_default())
            .map(|name| name.as_str().unwrap().to_owned())
            .collect();
        // An image with several names is listed several times.
        names.sort();
        names.dedup();
        names
    }

    /// Runs a container of an image without any network, and gives what a file of the image says.
    #[track_caller]
    pub fn cat(&self, name: &str, file: &str) -> String {
        // The limits are those of this process: it may not raise them.
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"];
        let container = ["run", "--rm", "--network", "none", "--pull", "never"];
        let command = [name, "/bin/busybox", "cat", file];
        let args = [&["--runtime", "runc"], &container[..], &limits, &command].concat();
        // On a busy machine podman 4.3 may lose what a container prints that ends at once.
        let runs = std::iter::repeat_with(|| self.podman(&args).ok().stdout);
        let mut runs = runs.take(5).skip_while(String::is_empty);
        runs.next().unwrap_or_default()
    }
}

fn sort(value: &mut Value, lists: &[&str]) {
    for list in lists {
        if let Some(list) = value[*list].as_array_mut() {
            list.sort_by_key(Value::to_string);
        }
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // The process that keeps a rootless podman's namespaces.
        let pause = fs::read_to_string(self.outside("state/libpod/tmp/pause.pid"));
        let pid = pause
            .ok()
            .and_then(|text| Pid::from_raw(text.trim().parse().ok()?));
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// `on_every_podman!(function)`: a test for each version and user of `function(Version, User)`.
#[allow(
    unused_macros,
    reason = "each test program includes all of this and uses a part"
)]
macro_rules! on_every_podman {
    ($function:ident) => {
        mod $function {
            use super::$function as function;
            use crate::support::podman::{User, Version};

            #[test]
            fn podman_4_root() {
                function(Version::Four, User::Root);
            }

            #[test]
            fn podman_4_rootless() {
                function(Version::Four, User::Rootless);
            }

            #[test]
            fn podman_5_root() {
                function(Version::Five, User::Root);
            }

            #[test]
            fn podman_5_rootless() {
                function(Version::Five, User::Rootless);
            }
        }
    };
}

/// `on_both_podmans!(function)`: a test for each version, one rootless and the other as root.
#[allow(
    unused_macros,
    reason = "each test program includes all of this and uses a part"
)]
macro_rules! on_both_podmans {
    ($function:ident) => {
        mod $function {
            use super::$function as function;
            use crate::support::podman::{User, Version};

            #[test]
            fn podman_4_rootless() {
                function(Version::Four, User::Rootless);
            }

            #[test]
            fn podman_5_root() {
                function(Version::Five, User::Root);
            }
        }
    };
}
