//! The engine is stopped, the names are written into its own list, and it is started again.
//!
//! This works for every name, and for digests whose manifest nobody has. It is the last choice, and needs the
//! user's consent: containers stop along with the engine unless it can be told to let them run.
//!
//! - [`exchange`]: putting another list in the place of the old one, and back
//! - [`service`]: stopping and starting, by systemd or by commands
//! - [`live_restore`]: letting containers run meanwhile
//! - [`outlook`]: what a restart would do on this host
//! - [`begun`]: what is written down, and how it is undone

pub mod begun;
pub mod exchange;
pub mod live_restore;
pub mod outlook;
pub mod service;

use std::path::PathBuf;

use super::daemon::{Identity, Process, memory, obstacle};
use super::folder::{Folder, Lock};
use super::journal::{Session, leftover};
use super::reach;
use super::{Failed, Manner, Outcome, Restart, Strategy, Surroundings, Wanted};
use crate::docker::api::Client;
use crate::docker::inventory::find_image;
use crate::docker::store::files::Files;
use crate::docker::store::repositories::Repositories;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::oci::{Digest, Reference, Repository};
use crate::progress::Progress;
use crate::target::Obstacle;
use begun::{Begun, Step};
use live_restore::{Fate, LiveRestore};
use outlook::Outlook;
use service::Control;

/// The hint where nothing but the user's consent is missing.
pub const CONSENT: &str = "--allow-restart allows it";

/// The strategy.
#[derive(Debug)]
pub struct Offline {
    folder: Folder,
    restart: Restart,
}

impl Offline {
    /// Keeps its journal in `folder`.
    pub fn new(folder: Folder, restart: Restart) -> Offline {
        Offline { folder, restart }
    }
}

impl Strategy for Offline {
    fn name(&self) -> &'static str {
        "offline"
    }

    fn manner(&self) -> Manner {
        Manner::Restarting
    }

    fn serves(&self, _repository: &Repository, _surroundings: &Surroundings) -> Result<bool, Obstacle> {
        Ok(true)
    }

    fn preflight(&self, client: &Client) -> Vec<Obstacle> {
        if !rustix::process::geteuid().is_root() {
            return vec![Obstacle::new(
                "attaching digests needs root",
                "run the same command with sudo",
            )];
        }
        match (self.folder.has_leftover(), self.look(client)) {
            // What an interrupted run has left is undone before anything is attached.
            (Ok(true), _) if self.restart.allowed => Vec::new(),
            (_, Ok(found)) => self.refusal(&found).into_iter().collect(),
            (_, Err(obstacles)) => obstacles,
        }
    }

    fn steps(&self, wanted: &[String], surroundings: &Surroundings) -> Vec<String> {
        let outlook = surroundings.restart.clone().unwrap_or_default();
        let stop = self.restart.stop.clone().unwrap_or_else(|| outlook.stop_line());
        let start = self.restart.start.clone().unwrap_or_else(|| outlook.start_line());
        let mut steps = Vec::new();
        let is_set = match outlook.fate(self.restart.stop.is_some()) {
            Fate::Spared => {
                steps.push(format!(
                    "SIGHUP with live-restore in a copy of daemon.json that is bind-mounted over it: {} keep running",
                    outlook.running.join(", ")
                ));
                true
            }
            Fate::Stop(_) => {
                steps.push(format!("these containers stop: {}", outlook.running.join(", ")));
                false
            }
            Fate::None | Fate::Stay => false,
        };
        steps.push(format!("stop the engine: {stop}"));
        steps.push(format!(
            "write {} into its repositories.json; the old one is kept beside it",
            wanted.join(", ")
        ));
        steps.push(format!("start the engine: {start}"));
        steps.push(
            "see that it shows them; if it does not come up, put the old file back and start it".into(),
        );
        if is_set {
            steps.push("SIGHUP without live-restore, unmount the copy".into());
        }
        if !outlook.dependents.is_empty() && self.restart.stop.is_none() {
            steps.push(format!(
                "start again what stopped along with it: {}",
                outlook.dependents.join(", ")
            ));
        }
        steps
    }

    fn apply(
        &self,
        client: &Client,
        wanted: &[Wanted<'_>],
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Vec<Outcome>> {
        Failed::told(wanted, self.attach(client, wanted, progress, interrupt))
    }
}

/// What a preflight finds.
struct Found {
    socket: PathBuf,
    process: Process,
    files: Files,
    control: Control,
    outlook: Outlook,
    fate: Fate,
    live_restore: Option<LiveRestore>,
}

impl Offline {
    fn look(&self, client: &Client) -> Result<Found, Vec<Obstacle>> {
        let process = reach::process(client).map_err(|obstacle| vec![obstacle])?;
        let mut obstacles = Vec::new();
        let outlook = Outlook::look(client, &process).map_err(|error| vec![obstacle(&error)])?;
        let control = Control::find(&self.restart, process.pid());
        let files = outlook.files(&process);
        if let Ok(files) = &files {
            obstacles.extend(unreadable(files));
        }
        obstacles.extend(starts_otherwise(client, &process));
        match (control, files) {
            (Ok(found), Ok(files)) if obstacles.is_empty() => {
                let fate = outlook.fate(self.restart.stop.is_some());
                Ok(Found {
                    socket: process.socket().into(),
                    live_restore: outlook.live_restore(&fate),
                    process,
                    files,
                    control: found.control,
                    outlook,
                    fate,
                })
            }
            (control, files) => {
                obstacles.extend(control.err());
                obstacles.extend(files.err());
                Err(obstacles)
            }
        }
    }

    /// What keeps it from being done although it could be: nobody has agreed to it.
    fn refusal(&self, found: &Found) -> Option<Obstacle> {
        (!self.restart.allowed).then(|| {
            Obstacle::new(
                format!(
                    "the digest can be attached while the engine is stopped, which was not allowed ({})",
                    found.outlook.told(&found.fate)
                ),
                CONSENT,
            )
        })
    }

    fn attach(
        &self,
        client: &Client,
        wanted: &[Wanted<'_>],
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Vec<Outcome>, Failed> {
        let lock = self.folder.lock(progress)?;
        self.folder.repair(&lock).map_err(|error| leftover(&error))?;
        let found = self.look(client).map_err(Obstacle::joined)?;
        if let Some(obstacle) = self.refusal(&found) {
            return Err(obstacle.into());
        }
        progress.note(&format!(
            "restarting the engine ({})",
            found.outlook.told(&found.fate)
        ));
        interrupt.check()?;
        let session = Session::begin(
            &self.folder,
            Begun {
                socket: found.socket.clone(),
                process: found.process.identity(),
                files: found.files.clone(),
                control: found.control.clone(),
                live_restore: found.live_restore.clone(),
                steps: Vec::new(),
            },
        )?;
        let at_stop = session.clone();
        let guard = interrupt.on_stop(move || {
            // The process dies by the signal: what cannot be undone now is left to a repair.
            let _ = at_stop.end();
        });
        let outcomes = exchange(&session, client, &found, wanted, &lock);
        let ended = session.end();
        drop(guard);
        if let Err(error) = ended {
            progress.note("the engine is not as it was; `sealift doctor --repair` tries again");
            return Err(Failed::Error(error));
        }
        for name in found.outlook.missing(client)? {
            progress.note(&format!(
                "container {name} ran before the restart and does not now"
            ));
        }
        Ok(outcomes?)
    }
}

/// Stops the engine, writes, and starts it. What becomes of the digests.
fn exchange(
    session: &Session<Begun>,
    client: &Client,
    found: &Found,
    wanted: &[Wanted<'_>],
    lock: &Lock,
) -> Result<Vec<Outcome>> {
    let stop = |begun: &Begun, process: Identity| {
        let held = lock.share().map_err(Error::io("share", "the lock"))?;
        let stopped = begun.control.stop(held);
        stopped.map_err(|problem| client.error("stop it", &problem, None))?;
        begun.wait_for_end(process)
    };
    if let Some(live_restore) = &found.live_restore {
        session.step(Step::LiveRestore, |_, folder| {
            live_restore.switch_on(client, &found.process, folder)
        })?;
    }
    session.step(Step::Stop, |begun, _| stop(begun, begun.process))?;
    // Not before: until its end the engine may have changed them.
    let (content, had_names) = edited(&found.files, wanted)?;
    let write = Step::Write {
        ours: Digest::sha256(&content),
        had_names,
    };
    session.step(write, |begun, _| {
        let unused = begun
            .files
            .take()
            .map_err(Error::io("lock", &begun.files.data_root))?;
        let unused = unused.ok_or_else(|| {
            let hint = "stop what starts it, or name it in --stop-command";
            client.error("stop it", "something has started it again", Some(hint.into()))
        })?;
        let exchanged = begun.files.exchange(&content, &unused);
        exchanged.map_err(Error::io("write", begun.files.names()))
    })?;
    session.step(Step::Start, |begun, _| begun.start())?;
    let outcomes: Vec<Outcome> = wanted.iter().map(|one| shows(client, one)).collect();
    if !outcomes.is_empty() && outcomes.iter().all(Result::is_err) {
        session.step(Step::GoBack, |begun, _| {
            let process =
                Process::find(&begun.socket).map_err(|one| client.error("stop it", &one.reason, None))?;
            stop(begun, process.identity())
        })?;
    }
    Ok(outcomes)
}

/// The names with the wanted ones among them, and whether there were any before.
fn edited(files: &Files, wanted: &[Wanted<'_>]) -> Result<(Vec<u8>, bool)> {
    let path = files.names();
    let bytes = files.read().map_err(Error::io("read", &path))?;
    let mut repositories = match &bytes {
        None => Repositories::empty(),
        Some(bytes) => Repositories::parse(bytes)
            .map_err(|problem| Error::io("read", &path)(std::io::Error::other(problem)))?,
    };
    for one in wanted {
        repositories.set(&name(one), &one.image_id);
    }
    Ok((repositories.to_bytes(), bytes.is_some()))
}

fn name(wanted: &Wanted<'_>) -> Reference {
    Reference::digested(&wanted.repository, wanted.digest)
}

fn shows(client: &Client, wanted: &Wanted<'_>) -> Outcome {
    let name = name(wanted).familiar();
    match find_image(client, &name).map_err(|error| obstacle(&error))? {
        Some(image) if image.id.parse::<Digest>() == Ok(wanted.image_id) => Ok(()),
        _ => Err(Obstacle::new(
            format!("the engine does not show {name} although it was written into its repositories.json"),
            "its log may say why (journalctl -u docker)",
        )),
    }
}

/// Why the names cannot be exchanged in this store.
fn unreadable(files: &Files) -> Option<Obstacle> {
    let path = files.names();
    let problem = match files.read() {
        Err(error) => Some(error.to_string()),
        Ok(None) => None,
        Ok(Some(bytes)) => Repositories::parse(&bytes).err(),
    };
    if let Some(problem) = problem {
        return Some(Obstacle::new(
            format!("{}: {problem}", path.display()),
            "dockerd would not start with it either; docker tag, or rmi of a tag, makes it write a new one",
        ));
    }
    (!files.is_used()).then(|| {
        Obstacle::new(
            format!(
                "no daemon seems to work on {}, so it could not be seen that it has ended",
                files.data_root.display()
            ),
            "is its data root on another host?",
        )
    })
}

/// Why a start would not give the engine that runs now.
fn starts_otherwise(client: &Client, process: &Process) -> Option<Obstacle> {
    let configuration = match process.configuration() {
        Ok((configuration, _)) => configuration,
        Err(obstacle) => return Some(obstacle),
    };
    match memory(client) {
        Ok(memory) => configuration.edited(&memory, "a restart"),
        Err(error) => Some(obstacle(&error)),
    }
}
