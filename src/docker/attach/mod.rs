//! Attaching digests to images of the classic store, which forgets them in a load.
//!
//! A [`Strategy`] is one way to make the engine record `name@digest` for an image that it holds. The first
//! one in the ranking whose preflight finds no obstacle is taken; what keeps the others from it is told.
//!
//! An attach goes the same way in all of them. [`Strategy::apply`] waits for its turn on this host, undoes what
//! an interrupted run has left, and looks at the host as it is now. What is done to the host is done within
//! [`Attach::journaled`]: each step is in the journal before it is taken, and all are undone on the way out, or
//! when a signal comes. After a kill the next run undoes them, or `sealift doctor --repair`: [`Folder::repair`].
//!
//! - [`mirror`]: for a moment the engine believes in a mirror of docker.io that serves the manifests only
//! - [`offline`]: the engine is stopped, and the digests are written into its store
//! - [`hosts`]: for a moment names of other registries lead the engine to this process, by `/etc/hosts`
//! - [`reach`]: whether the engine's process can be reached from here, and if not, what it is
//! - [`namespaces`], [`network`]: the files and the network that the engine sees
//! - [`journal`]: what was started, so that it can be undone after a kill at any step
//! - [`folder`]: where the journal is, and the lock that lets one strategy work at a time
//! - [`host`]: what of the host a choice depends on
//! - [`daemon`]: which process the engine is, how it was started, how it is made to read its configuration
//! - [`config`]: `daemon.json` and the flags of the command line
//! - [`cover`]: laying another file over the real one without touching it

pub mod folder;
pub mod host_facts;
pub mod hosts;
pub mod journal;
pub mod mirror;
pub mod offline;
mod pull;

pub use host_facts::HostFacts;

use self::folder::{Folder, Lock};
use self::journal::{Session, UndoRecord, leftover};
use super::api::Client;
use super::api::info::Info;
use super::daemon::process;
use crate::error::{Error, Result};
use crate::image::Graph;
use crate::interrupt::Interrupt;
use crate::load::{AttachMethod, Obstacle};
use crate::oci::{Digest, Platform, Repository};
use crate::progress::Progress;

/// A digest to be attached.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The name that gets the digest.
    pub repository: Repository,
    /// Digest of the manifest or index.
    pub digest: Digest,
    /// The image that must show it.
    pub image_id: Digest,
    /// The documents that the digest stands for.
    pub graph: &'a Graph,
    /// The image's platform in its index. The engine might choose another; without an index it has no choice.
    pub platform: Option<&'a Platform>,
}

impl Wanted<'_> {
    /// Whether the engine would be made to record the same.
    pub fn is_same(&self, other: &Wanted<'_>) -> bool {
        self.digest == other.digest && self.image_id == other.image_id && self.repository == other.repository
    }
}

/// What became of one wanted digest; `Err` says why it is not shown.
pub type Outcome = Result<(), Obstacle>;

/// What a strategy does to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disruption {
    /// It keeps running.
    Live,
    /// It is stopped and started again.
    Restarting,
}

/// Which methods may attach digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Allowed {
    /// The first that works.
    #[default]
    Auto,
    /// Only those that do not stop the engine.
    Live,
    /// Only those that stop the engine and start it again.
    Offline,
    /// None.
    None,
}

/// Which digests may be attached, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// Which methods may attach them.
    pub allowed: Allowed,
    /// Whether digests are attached that an archive recorded and nothing proves.
    pub trust_recorded: bool,
}

/// Whether and how the engine may be stopped and started again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restart {
    /// Whether it may be.
    pub allowed: bool,
    /// The command that stops it, for a shell; without one systemd does it.
    pub stop: Option<String>,
    /// The command that starts it.
    pub start: Option<String>,
}

/// Why nothing was attached.
pub enum Failed {
    /// The digests are not shown; all else is well.
    Obstacle(Obstacle),
    /// The run has to end.
    Error(Error),
}

impl From<Obstacle> for Failed {
    fn from(obstacle: Obstacle) -> Failed {
        Failed::Obstacle(obstacle)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        match error {
            Error::Interrupted => Failed::Error(error),
            other => Failed::Obstacle(process::obstacle(&other)),
        }
    }
}

/// A way to attach digests.
pub trait Strategy {
    /// What it is called in plans and reports.
    fn method(&self) -> AttachMethod;

    /// Whether the engine keeps running.
    fn disruption(&self) -> Disruption;

    /// Whether names of this repository are for this way. Pure.
    ///
    /// # Errors
    ///
    /// They are, but something on this host is in the way of this one.
    fn serves(&self, repository: &Repository, facts: &HostFacts) -> Result<bool, Obstacle>;

    /// What `apply` would do for these `name@digest`, step by step. Pure.
    fn steps(&self, wanted: &[String], facts: &HostFacts) -> Vec<String>;

    /// Where it writes down what it begins.
    fn folder(&self) -> &Folder;

    /// Whether the user has agreed to what it does.
    fn is_allowed(&self) -> bool {
        true
    }

    /// Looks at the host. Changes nothing.
    ///
    /// # Errors
    ///
    /// What is in the way, the missing consent among it.
    fn look(&self, client: &Client, info: &Info) -> Result<Box<dyn Prepared>, Vec<Obstacle>>;

    /// What is in the way on this host. Empty if nothing is. Changes nothing.
    fn preflight(&self, client: &Client, info: &Info) -> Vec<Obstacle> {
        if !rustix::process::geteuid().is_root() {
            return vec![Obstacle::needs_root()];
        }
        match self.folder().has_leftover() {
            // What an interrupted run has left may be in the way itself, and is undone before anything else.
            Ok(true) if self.is_allowed() => Vec::new(),
            _ => self.look(client, info).err().unwrap_or_default(),
        }
    }

    /// Attaches, and undoes on the way out all that it did to the engine's configuration.
    ///
    /// # Errors
    ///
    /// If the engine could not be prepared or put back. What became of each digest is in the outcomes.
    fn apply(
        &self,
        client: &Client,
        wanted: &[Wanted<'_>],
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Vec<Outcome>> {
        let attach = || {
            let folder = self.folder();
            let lock = folder.lock(progress)?;
            folder.repair(&lock).map_err(|error| leftover(&error))?;
            let info = Info::ask(client)?;
            let ready = self.look(client, &info).map_err(Obstacle::joined)?;
            ready.attach(&Attach {
                client,
                wanted,
                progress,
                interrupt,
                folder,
                lock: &lock,
            })
        };
        match attach() {
            Ok(outcomes) => Ok(outcomes),
            Err(Failed::Obstacle(obstacle)) => Ok(wanted.iter().map(|_| Err(obstacle.clone())).collect()),
            Err(Failed::Error(error)) => Err(error),
        }
    }
}

/// What a look at the host has found: nothing is in the way, and all that the strategy has to know.
pub trait Prepared {
    /// Attaches, all that has to be undone within [`Attach::journaled`].
    ///
    /// # Errors
    ///
    /// Why nothing was attached. What became of each digest is in the outcomes.
    fn attach(self: Box<Self>, attach: &Attach<'_>) -> Result<Vec<Outcome>, Failed>;
}

/// An attach that goes on: nobody else's does on this host, and nothing is left of earlier ones.
pub struct Attach<'a> {
    client: &'a Client,
    wanted: &'a [Wanted<'a>],
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
    folder: &'a Folder,
    lock: &'a Lock,
}

impl Attach<'_> {
    /// Writes the journal, takes steps, and undoes them, whatever came of them. A signal undoes them, too.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or the steps cannot be undone. What came of them is within.
    pub fn journaled<B: UndoRecord + 'static, T>(
        &self,
        record: B,
        steps: impl FnOnce(&Session<B>) -> Result<T>,
    ) -> Result<Result<T>, Failed> {
        let session = Session::begin(self.folder, record)?;
        let at_stop = session.clone();
        let guard = self.interrupt.on_stop(move || {
            // The process dies by the signal: what cannot be undone now is left to a repair.
            let _ = at_stop.end();
        });
        let taken = steps(&session);
        let ended = session.end();
        drop(guard);
        if let Err(error) = ended {
            self.progress.note(B::LEFT);
            return Err(Failed::Error(error));
        }
        Ok(taken)
    }
}

/// The ways there are, the best first: live ones before those that stop the engine.
pub fn ranking(folder: &Folder, restart: &Restart) -> Vec<Box<dyn Strategy>> {
    vec![
        Box::new(mirror::Mirror {
            folder: folder.clone(),
        }),
        Box::new(hosts::Hosts {
            folder: folder.clone(),
        }),
        Box::new(offline::Offline {
            folder: folder.clone(),
            restart: restart.clone(),
        }),
    ]
}
