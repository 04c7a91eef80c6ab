//! The engine's process, its start, and reloading its configuration.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};

use super::config::{CommandLine, Configuration, DEFAULT_PATH, same};
use super::namespaces::{self, Namespaces};
use super::overmount::{Overmount, unsafe_place};
use super::peer::{listening_process, other_user};
use crate::dir::{Dir, Located, MAX_SETTING, read_setting, read_whole};
use crate::docker::api::info::Info;
use crate::docker::api::{Client, encode};
use crate::error::{Error, Result};
use crate::load::Obstacle;
use crate::process::Identity;

/// A reload takes some milliseconds, but longer on a busy host.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(25);

/// How a path is resolved.
type Locate = fn(&Path) -> io::Result<Located>;

/// A running dockerd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    identity: Identity,
    /// Its `/`, as a path below the root of its mount namespace.
    root: PathBuf,
    socket: PathBuf,
    namespaces: Namespaces,
    arguments: Vec<String>,
}

fn unknown(what: &str, error: &dyn std::fmt::Display) -> Obstacle {
    Obstacle::new(
        format!("{what}: {error}"),
        "run this on the engine's own host, outside of containers",
    )
}

impl Process {
    /// Finds the dockerd that answers on a socket of this host.
    ///
    /// # Errors
    ///
    /// Why it cannot be found or reached from here.
    pub fn find(socket: &Path) -> Result<Process, Obstacle> {
        let pid = listening_process(socket, "dockerd")?.ok_or_else(|| {
            Obstacle::new(
                format!(
                    "what answers on {} is not a dockerd that can be seen here",
                    socket.display()
                ),
                "point DOCKER_HOST at dockerd's own socket, and run this outside of containers",
            )
        })?;
        Process::of(pid, socket)
    }

    /// Inspects a process that answers on a socket.
    ///
    /// # Errors
    ///
    /// Why it cannot be reached from here, or that it is not root's.
    pub fn of(pid: i32, socket: &Path) -> Result<Process, Obstacle> {
        let gone = |error: io::Error| unknown("the engine's process cannot be looked at", &error);
        let identity = Identity::of(pid).map_err(gone)?;
        for (namespace, what) in [("user", "rootless, or in a container"), ("pid", "in a container")] {
            let its = namespaces::name(&pid.to_string(), namespace).map_err(gone)?;
            if its != namespaces::name("self", namespace).map_err(gone)? {
                return Err(Obstacle::new(
                    format!("dockerd (process {pid}) runs {what}: in a {namespace} namespace of its own"),
                    "run this inside of it, as its root; an image that is pushed to a registry and pulled by its \
                     digest shows it as well",
                ));
            }
        }
        if let Some(uid) = other_user(pid).map_err(gone)? {
            return Err(Obstacle::new(
                format!(
                    "dockerd (process {pid}) runs as another user (uid {uid}), and root does not rely on it"
                ),
                "run this as that user, or point DOCKER_HOST at root's dockerd, such as unix:///run/docker.sock",
            ));
        }
        let namespaces = Namespaces::of(pid).map_err(gone)?;
        let root = namespaces.with_files(|| fs::read_link(format!("/proc/{pid}/root")));
        let root = root.and_then(|root| root).map_err(gone)?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).map_err(gone)?;
        let arguments = line
            .split(|byte| *byte == 0)
            .skip(1)
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect();
        let process = Process {
            pid,
            identity,
            root,
            socket: socket.into(),
            namespaces,
            arguments,
        };
        // If it has ended in the meantime, all of that may belong to another process.
        process.identity().check().map_err(gone)?;
        Ok(process)
    }

    /// Its namespaces that differ from ours.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// Whether its `/` differs from ours.
    pub fn has_own_files(&self) -> bool {
        self.namespaces.mount.is_some() || self.root != Path::new("/")
    }

    /// The socket that it was found by.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Reads a settings file of root's in its files; `None` if it does not exist.
    pub fn read(&self, path: &str) -> Option<String> {
        let path = self.root.join(path.trim_start_matches('/'));
        let read = self.namespaces.with_files(|| read_setting(&path));
        Some(String::from_utf8_lossy(&read.ok()?.ok()?).into_owned())
    }

    /// Checks that it sees a folder of ours, or the nearest existing one above it, at the same path.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub fn sees(&self, folder: &Path) -> Result<(), Obstacle> {
        let known = folder
            .ancestors()
            .find(|folder| folder.exists())
            .unwrap_or(Path::new("/"));
        let id = || fs::metadata(known).map(|meta| (meta.dev(), meta.ino()));
        match (id(), self.namespaces.with_files(id)) {
            (Ok(ours), Ok(Ok(its))) if ours == its => Ok(()),
            _ => Err(Obstacle::new(
                format!(
                    "dockerd, in its own mount namespace, does not see {}",
                    known.display()
                ),
                "",
            )),
        }
    }

    /// The flags on its command line.
    pub fn command_line(&self) -> CommandLine {
        CommandLine::parse(&self.arguments)
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its `daemon.json`, which need not exist, as a path below the root of its mount namespace.
    ///
    /// # Errors
    ///
    /// Why it cannot be found.
    pub fn config_file(&self) -> Result<PathBuf, Obstacle> {
        self.locate(&self.config_path()?)
    }

    /// The same path in dockerd's view.
    fn config_path(&self) -> Result<PathBuf, Obstacle> {
        match self.command_line().config_file {
            None => Ok(PathBuf::from(DEFAULT_PATH)),
            Some(path) if path.is_absolute() => Ok(path),
            Some(path) => {
                let folder = fs::read_link(format!("/proc/{}/cwd", self.pid))
                    .and_then(|folder| self.identity().check().map(|()| folder));
                folder
                    .map(|folder| folder.join(path))
                    .map_err(|error| unknown("dockerd's working folder is not known", &error))
            }
        }
    }

    /// The content of its `daemon.json`. Another user may be able to write to that file: root compares it, and
    /// does not act on it.
    ///
    /// # Errors
    ///
    /// Why it cannot be read.
    pub fn settings(&self) -> Result<Configuration, Obstacle> {
        let is_named = self.command_line().config_file.is_some();
        let path = self.config_file()?;
        let read = || -> io::Result<Option<Vec<u8>>> {
            match Dir::locate(&path).and_then(|located| located.dir.open_file(&located.name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => Ok(None),
                opened => read_whole(opened?, MAX_SETTING).map(Some),
            }
        };
        let read = self.namespaces.with_files(read).and_then(|read| read);
        let bytes = read.map_err(|error| {
            Obstacle::new(
                format!("{} cannot be read: {error}", path.display()),
                "dockerd could not read it again either",
            )
        })?;
        Configuration::parse(bytes.as_deref()).map_err(|error| {
            Obstacle::new(
                format!("{}: {error}", path.display()),
                "dockerd could not read it again either; dockerd --validate checks it",
            )
        })
    }

    /// The content of its `daemon.json`, and how to mount over it.
    ///
    /// # Errors
    ///
    /// Why it cannot be read or mounted over.
    pub fn configuration(&self) -> Result<(Configuration, Overmount), Obstacle> {
        let overmount = self.overmount(&self.config_path()?)?;
        Ok((self.settings()?, overmount))
    }

    /// How to mount over a file of dockerd's. No other user may be able to change where its path leads.
    ///
    /// # Errors
    ///
    /// Why it cannot be mounted over.
    pub fn overmount(&self, inside: &Path) -> Result<Overmount, Obstacle> {
        let plan = || Overmount::plan(&self.resolve(inside, Dir::locate_private)?);
        let plan = self.namespaces.with_files(plan);
        plan.unwrap_or_else(|error| Err(unknown("dockerd's files cannot be reached", &error)))
    }

    /// A path of dockerd's as one below the root of its mount namespace, without links.
    ///
    /// # Errors
    ///
    /// If it leads nowhere or outside dockerd's root.
    pub fn locate(&self, inside: &Path) -> Result<PathBuf, Obstacle> {
        let found = self.namespaces.with_files(|| self.resolve(inside, Dir::locate));
        found.unwrap_or_else(|error| Err(unknown("dockerd's files cannot be reached", &error)))
    }

    /// A path of dockerd's as one that this process can open, as long as dockerd runs. After opening it,
    /// `Identity::check` tells whether it was dockerd's.
    ///
    /// # Errors
    ///
    /// As [`Process::locate`].
    pub fn reach(&self, inside: &Path) -> Result<PathBuf, Obstacle> {
        Ok(self.from_here(self.locate(inside)?))
    }

    /// Opens a folder by its path below the root of its mount namespace.
    ///
    /// # Errors
    ///
    /// If it does not exist, the path has a link of another user, or the process has ended.
    pub fn open(&self, found: PathBuf) -> io::Result<Dir> {
        let dir = Dir::open(&self.from_here(found))?;
        self.identity().check()?;
        Ok(dir)
    }

    /// A path below the root of its mount namespace, without links, as one that this process can open.
    pub fn from_here(&self, found: PathBuf) -> PathBuf {
        if self.namespaces.mount.is_none() {
            return found;
        }
        let below = found.strip_prefix(&self.root).unwrap_or(&found);
        let below = below.strip_prefix("/").unwrap_or(below);
        Path::new(&format!("/proc/{}/root", self.pid)).join(below)
    }

    fn resolve(&self, inside: &Path, locate: Locate) -> Result<PathBuf, Obstacle> {
        let joined = self.root.join(inside.strip_prefix("/").unwrap_or(inside));
        let mut missing = Vec::new();
        let mut known = joined.as_path();
        // The file and its folder may not exist.
        let found = loop {
            match canonical(known, locate) {
                Ok(found) => break found,
                Err(error) if error.kind() == io::ErrorKind::NotFound && missing.len() < 2 => {
                    if known.symlink_metadata().is_ok() {
                        return Err(unknown("a link that leads nowhere", &known.display()));
                    }
                    missing.push(known.file_name().unwrap_or_default());
                    known = known.parent().unwrap_or(Path::new("/"));
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(unsafe_place(&joined, &error));
                }
                Err(error) => return Err(unknown(&known.display().to_string(), &error)),
            }
        };
        if !found.starts_with(&self.root) {
            return Err(Obstacle::new(
                format!(
                    "{} leads out of dockerd's root folder by a link",
                    joined.display()
                ),
                "put the file itself there instead of the link",
            ));
        }
        Ok(missing.iter().rev().fold(found, |path, name| path.join(name)))
    }

    /// Makes it reload its configuration, without waiting.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn hang_up(&self) -> io::Result<()> {
        let pid = Pid::from_raw(self.pid).filter(|_| self.is_alive());
        let pid = pid.ok_or_else(|| io::Error::other("dockerd has ended meanwhile"))?;
        Ok(kill_process(pid, Signal::HUP)?)
    }

    /// Identifies it among all processes of this host since boot.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether it is still running.
    pub fn is_alive(&self) -> bool {
        self.identity.check().is_ok()
    }

    /// Makes it reload its configuration, and waits until the mirrors in its memory are `expected`.
    ///
    /// # Errors
    ///
    /// If it does not, or has ended.
    pub fn reload(&self, client: &Client, expected: &[String]) -> Result<()> {
        let action = "reload its configuration";
        let died = || client.error(action, "dockerd has ended meanwhile", None);
        let since = now();
        let pid = Pid::from_raw(self.pid).ok_or_else(died)?;
        if !self.is_alive() {
            return Err(died());
        }
        kill_process(pid, Signal::HUP).map_err(|error| client.error(action, &error.to_string(), None))?;
        let until = Instant::now() + RELOAD_TIMEOUT;
        loop {
            // The event proves a reload after the signal. The mirrors alone could be right because the signal
            // has not arrived yet.
            if has_reloaded(client, &since, expected)? && same(&Info::ask(client)?.mirrors(), expected) {
                return Ok(());
            }
            if !self.is_alive() {
                return Err(died());
            }
            if Instant::now() > until {
                let problem = format!("dockerd did not apply it within {} s", RELOAD_TIMEOUT.as_secs());
                let hint = "its log says why (journalctl -u docker)";
                return Err(client.error(action, &problem, Some(hint.into())));
            }
            std::thread::sleep(POLL);
        }
    }
}

/// A path without links. Only links of root are followed.
fn canonical(path: &Path, locate: Locate) -> io::Result<PathBuf> {
    if path == Path::new("/") {
        return Ok(path.into());
    }
    let located = locate(path)?;
    if located.kind()?.is_none() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let folder = located.dir.as_file().as_raw_fd();
    Ok(fs::read_link(format!("/proc/self/fd/{folder}"))?.join(&located.name))
}

fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// Whether a reload after `since` has applied these mirrors.
///
/// Source: moby, `daemon/reload.go`: the event's attributes are the configuration after the reload.
fn has_reloaded(client: &Client, since: &str, expected: &[String]) -> Result<bool> {
    #[derive(serde::Deserialize)]
    struct Event {
        #[serde(rename = "Actor")]
        actor: Actor,
    }
    #[derive(serde::Deserialize)]
    struct Actor {
        #[serde(rename = "Attributes", default)]
        attributes: std::collections::BTreeMap<String, String>,
    }
    let filters = encode(r#"{"type":["daemon"],"event":["reload"]}"#);
    let path = format!("/events?since={since}&until={}&filters={filters}", now());
    let events = client.get_list::<Event>("ask for its events", &path)?;
    Ok(events.iter().any(|event| {
        let mirrors = event.actor.attributes.get("registry-mirrors");
        mirrors
            .and_then(|text| serde_json::from_str::<Vec<String>>(text).ok())
            .is_some_and(|mirrors| same(&mirrors, expected))
    }))
}

/// The obstacle for a preflight that an error means.
pub fn obstacle(error: &Error) -> Obstacle {
    Obstacle::new(error.to_string(), error.hint().unwrap_or_default())
}
