//! Attaching digests to images of the classic store, which does not record them in a load.
//!
//! A [`Strategy`] makes the engine record `name@digest` for an image that it has. The first one in the ranking
//! without an obstacle is used; the obstacles of the others are reported.
//!
//! All of them work the same way. [`Strategy::apply`] waits for the host's lock, undoes an interrupted run, and
//! inspects the host. It changes the host only within [`Attach::journaled`]: each step is recorded in the
//! journal before it is taken, and all steps are undone at the end or on a signal. After a kill, the next run
//! or a repair undoes them: [`Folder::repair`].
//!
//! - `mirror`: for a moment the engine has a mirror of docker.io that serves only the manifests
//! - `offline`: the engine is stopped, and the digests are written into its store
//! - `hosts`: for a moment names of other registries resolve to this process, through `/etc/hosts`
//! - `journal`: what was started, so that it can be undone after a kill at any step
//! - [`folder`]: the folder of the journal, and the lock that lets one strategy work at a time
//! - `host_facts`: facts about the host on which the choice depends

pub mod folder;
pub(crate) mod host_facts;
pub(crate) mod hosts;
pub(crate) mod journal;
pub(crate) mod mirror;
pub(crate) mod offline;
pub(super) mod pull;

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

/// A digest to attach.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The name that gets the digest.
    pub repository: Repository,
    /// Digest of the manifest or index.
    pub digest: Digest,
    /// The image that must show it.
    pub image_id: Digest,
    /// The documents below the digest.
    pub graph: &'a Graph,
    /// The image's platform in its index. The engine might choose another one; without an index it has no
    /// choice.
    pub platform: Option<&'a Platform>,
}

impl Wanted<'_> {
    /// Whether the engine would record the same.
    pub fn is_same(&self, other: &Wanted<'_>) -> bool {
        self.digest == other.digest && self.image_id == other.image_id && self.repository == other.repository
    }
}

/// The result for one digest; `Err` says why it is not shown.
pub type Outcome = Result<(), Obstacle>;

/// The effect of a strategy on the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
    /// No method.
    None,
}

/// Which digests may be attached, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// Which methods may attach them.
    pub allowed: Allowed,
    /// Whether to attach digests that an archive records without proof.
    pub trust_recorded: bool,
}

/// Whether and how the engine may be restarted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restart {
    /// Whether it may be restarted.
    pub allowed: bool,
    /// The shell command that stops it; without one, systemd does.
    pub stop: Option<String>,
    /// The shell command that starts it.
    pub start: Option<String>,
}

/// Why nothing was attached.
pub enum Failed {
    /// The digests are not shown; everything else succeeded.
    Obstacle(Obstacle),
    /// The run must end.
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

/// A method of attaching digests.
pub trait Strategy {
    /// Its name in plans and reports.
    fn method(&self) -> AttachMethod;

    /// Whether the engine keeps running.
    fn disruption(&self) -> Disruption;

    /// Whether this method works for names of this repository. Pure.
    ///
    /// # Errors
    ///
    /// It would, but something on this host prevents it.
    fn serves(&self, repository: &Repository, facts: &HostFacts) -> Result<bool, Obstacle>;

    /// The steps of `apply` for these `name@digest`. Pure.
    fn steps(&self, wanted: &[String], facts: &HostFacts) -> Vec<String>;

    /// The folder of its journal.
    fn folder(&self) -> &Folder;

    /// Whether the user has allowed it.
    fn is_allowed(&self) -> bool {
        true
    }

    /// Inspects the host. Changes nothing.
    ///
    /// # Errors
    ///
    /// What prevents it, including missing consent.
    fn look(&self, client: &Client, info: &Info) -> Result<Box<dyn Prepared>, Vec<Obstacle>>;

    /// The obstacles on this host. Changes nothing.
    fn preflight(&self, client: &Client, info: &Info) -> Vec<Obstacle> {
        if !rustix::process::geteuid().is_root() {
            return vec![Obstacle::needs_root()];
        }
        match self.folder().has_leftover() {
            // An interrupted run may be the obstacle itself, and is undone first.
            Ok(true) if self.is_allowed() => Vec::new(),
            _ => self.look(client, info).err().unwrap_or_default(),
        }
    }

    /// Attaches, and finally undoes all changes to the engine's configuration.
    ///
    /// # Errors
    ///
    /// If the engine could not be prepared or restored. The results for each digest are in the outcomes.
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

/// A successful preflight, with everything that the strategy needs.
pub trait Prepared {
    /// Attaches, with everything that must be undone within [`Attach::journaled`].
    ///
    /// # Errors
    ///
    /// Why nothing was attached. The results for each digest are in the outcomes.
    fn attach(self: Box<Self>, attach: &Attach<'_>) -> Result<Vec<Outcome>, Failed>;
}

/// An attach in progress: the host lock is held and any interrupted attach has been undone.
pub struct Attach<'a> {
    client: &'a Client,
    wanted: &'a [Wanted<'a>],
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
    folder: &'a Folder,
    lock: &'a Lock,
}

impl Attach<'_> {
    /// Writes the journal, takes steps, and undoes them, whether they succeeded or not. A signal undoes them,
    /// too.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or the steps cannot be undone. The result of the steps is inside.
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
            return Err(Failed::Error(error.and_hint(B::REMEDY)));
        }
        Ok(taken)
    }
}

/// All methods, the best first: live ones before those that stop the engine.
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
