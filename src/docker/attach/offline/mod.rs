//! Stops the engine, writes the names into its list, and starts it again.
//!
//! This works for every name, and for digests whose manifest is lost. It is the last choice, and needs the
//! user's consent: containers stop with the engine unless live-restore can be enabled.
//!
//! - [`service`]: stopping and starting, by systemd or by commands
//! - [`live_restore`]: keeping containers running
//! - [`impact`]: the effect of a restart on this host
//! - [`undo`]: the undo record

pub mod impact;
pub mod live_restore;
pub mod service;
pub mod undo;

use super::folder::Folder;
use super::journal::Session;
use super::{Attach, Disruption, Failed, HostFacts, Outcome, Prepared, Restart, Strategy, Wanted};
use crate::docker::api::Client;
use crate::docker::api::images::find_image;
use crate::docker::api::info::Info;
use crate::docker::daemon::process::{Process, obstacle};
use crate::docker::daemon::reach;
use crate::docker::store::files::Files;
use crate::docker::store::manifests::LockedManifests;
use crate::docker::store::repositories::Repositories;
use crate::error::{Error, Hint, Remedy, Result};
use crate::load::{AttachMethod, Obstacle};
use crate::oci::{Digest, Reference, Repository};
use crate::process::Identity;
use impact::RestartImpact;
use live_restore::ContainerImpact;
use service::Control;
use undo::{Step, UndoRecord};

/// Attaches digests while the engine is stopped.
#[derive(Debug)]
pub struct Offline {
    /// The folder of its journal.
    pub folder: Folder,
    /// Whether and how the engine may be restarted.
    pub restart: Restart,
}

impl Strategy for Offline {
    fn method(&self) -> AttachMethod {
        AttachMethod::Offline
    }

    fn disruption(&self) -> Disruption {
        Disruption::Restarting
    }

    fn serves(&self, _repository: &Repository, _: &HostFacts) -> Result<bool, Obstacle> {
        Ok(true)
    }

    fn steps(&self, wanted: &[String], facts: &HostFacts) -> Vec<String> {
        let impact = facts.restart.clone().unwrap_or_default();
        let stop = self.restart.stop.clone().unwrap_or_else(|| impact.stop_line());
        let start = self.restart.start.clone().unwrap_or_else(|| impact.start_line());
        let mut steps = Vec::new();
        let is_set = match impact.on_containers(self.restart.stop.is_some()) {
            ContainerImpact::Spared => {
                steps.push(format!(
                    "SIGHUP with live-restore in a copy of daemon.json that is bind-mounted over it: {} keep running",
                    impact.running.join(", ")
                ));
                true
            }
            ContainerImpact::Stop(_) => {
                steps.push(format!("these containers stop: {}", impact.stopped()));
                false
            }
            ContainerImpact::None | ContainerImpact::Stay => false,
        };
        steps.push(format!("stop the engine: {stop}"));
        steps.push(format!(
            "write {} into its repositories.json; the old one is kept beside it",
            wanted.join(", ")
        ));
        steps.push(format!("start the engine: {start}"));
        steps.push(
            "check that it shows them; if it does not come up, restore the old file and start it".into(),
        );
        if is_set {
            steps.push("SIGHUP without live-restore, unmount the copy".into());
        }
        if !impact.dependents.is_empty() && self.restart.stop.is_none() {
            steps.push(format!(
                "start the units that stopped with it: {}",
                impact.dependents.join(", ")
            ));
        }
        steps
    }

    fn folder(&self) -> &Folder {
        &self.folder
    }

    fn is_allowed(&self) -> bool {
        self.restart.allowed
    }

    fn look(&self, client: &Client, info: &Info) -> Result<Box<dyn Prepared>, Vec<Obstacle>> {
        let process = reach::process(client, info)?;
        let impact = RestartImpact::look(client, info, &process).map_err(|error| obstacle(&error))?;
        let on_containers = impact.on_containers(self.restart.stop.is_some());
        let control = Control::find(&self.restart, process.pid());
        let files = impact.files(&process);
        let mut obstacles: Vec<Obstacle> = files.as_ref().ok().and_then(unreadable).into_iter().collect();
        obstacles.extend(starts_otherwise(info, &process));
        match (control, files) {
            (Ok(_), Ok(_)) if obstacles.is_empty() && !self.is_allowed() => {
                let on_containers = impact.describe(&on_containers);
                let reason = "the digest can be attached while the engine is stopped, which was not allowed";
                Err(Obstacle::new(format!("{reason} ({on_containers})"), "")
                    .needing_restart()
                    .into())
            }
            (Ok(found), Ok(files)) if obstacles.is_empty() => {
                let record = UndoRecord {
                    socket: process.socket().into(),
                    process: process.identity(),
                    files,
                    control: found.control,
                    live_restore: impact.live_restore(&on_containers),
                    steps: Vec::new(),
                };
                Ok(Box::new(Preflight {
                    process,
                    record,
                    impact,
                    on_containers,
                }))
            }
            (control, files) => {
                obstacles.extend(control.err());
                obstacles.extend(files.err());
                Err(obstacles)
            }
        }
    }
}

/// The result of a preflight.
struct Preflight {
    process: Process,
    record: UndoRecord,
    impact: RestartImpact,
    on_containers: ContainerImpact,
}

impl Prepared for Preflight {
    fn attach(self: Box<Self>, attach: &Attach<'_>) -> Result<Vec<Outcome>, Failed> {
        let describe = self.impact.describe(&self.on_containers);
        attach
            .progress
            .note(&format!("restarting the engine ({describe})"));
        attach.interrupt.check()?;
        let record = self.record.clone();
        // The next save finds those of a pull elsewhere.
        let images = attach
            .wanted
            .iter()
            .map(|one| (one.digest, one.graph, one.image_id));
        let kept = LockedManifests::keep_all(&record.files, images, attach.progress);
        let outcomes = attach.journaled(record, |session| self.exchange(session, attach))?;
        if let Some(kept) = kept {
            kept.named(&self.record.files, attach.progress);
        }
        let missing = self.impact.missing(attach.client)?;
        if !missing.is_empty() {
            attach.progress.warn(&format!(
                "these containers were running before the restart and are not running now: {}; to start them: docker start {}",
                missing.join(", "),
                missing.join(" ")
            ));
        }
        Ok(outcomes?)
    }
}

impl Preflight {
    /// Stops the engine, writes, and starts it. Returns the results for the digests.
    fn exchange(&self, session: &Session<UndoRecord>, attach: &Attach<'_>) -> Result<Vec<Outcome>> {
        let client = attach.client;
        let stop = |record: &UndoRecord, process: Identity| {
            let held = attach.lock.share().map_err(Error::io("share", "the lock"))?;
            let stopped = record.control.stop(held);
            stopped.map_err(|problem| client.error("stop it", &problem, None))?;
            record.wait_for_end(process)
        };
        if let Some(live_restore) = &self.record.live_restore {
            session.step(Step::LiveRestore, |_, folder| {
                live_restore.switch_on(client, &self.process, folder)
            })?;
        }
        session.step(Step::Stop, |record, _| stop(record, record.process))?;
        // Not earlier: the engine may change them until it ends.
        let (content, had_names) = edited(&self.record.files, attach.wanted)?;
        let write = Step::Write {
            ours: Digest::sha256(&content),
            had_names,
        };
        session.step(write, |record, _| {
            let unused = record
                .files
                .take()
                .map_err(Error::io("lock", &record.files.data_root))?;
            let unused = unused.ok_or_else(|| {
                let hint = Hint::from("stop what starts it").and(Remedy::NameCommands);
                client.error("stop it", "something has started it again", Some(hint))
            })?;
            let exchanged = record.files.exchange(&content, &unused);
            exchanged.map_err(Error::io("write", record.files.names()))
        })?;
        session.step(Step::Start, |record, _| record.start())?;
        let outcomes: Vec<Outcome> = attach.wanted.iter().map(|one| shows(client, one)).collect();
        if !outcomes.is_empty() && outcomes.iter().all(Result::is_err) {
            session.step(Step::GoBack, |record, _| {
                let process = Process::find(&record.socket)
                    .map_err(|one| client.error("stop it", &one.reason, None))?;
                stop(record, process.identity())
            })?;
        }
        Ok(outcomes)
    }
}

/// The list including the wanted names, and whether there was a list before.
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

/// Why the list of this store cannot be replaced.
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

/// Why a start would not give the engine that is running now.
fn starts_otherwise(info: &Info, process: &Process) -> Option<Obstacle> {
    match process.settings() {
        Ok(configuration) => configuration.edited(info, &process.command_line()),
        Err(obstacle) => Some(obstacle),
    }
}
