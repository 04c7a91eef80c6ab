//! For a moment the engine has a mirror of docker.io that is this process. The engine has the image, so a pull
//! by digest requests only the manifests, and the engine records the digest.
//!
//! No file is changed: another `daemon.json` is mounted over the real one while the engine reads it. The mirror
//! stays in the engine's memory until it reads a list without it, which the end of the attach and every repair
//! ensure. It listens on a port that only root can bind and serves no tags, so no other user can serve images
//! through it.

pub mod undo;

use std::net::TcpListener;

use crate::docker::api::Client;
use crate::docker::api::info::Info;
use crate::image::names;
use crate::load::{AttachMethod, Obstacle};
use crate::oci::Repository;
use crate::oci::reference::DEFAULT_DOMAIN;
use crate::serve::{NoPort, Server, UNPRIVILEGED, bind_privileged};

use super::folder::Folder;
use super::{Attach, Disruption, Failed, HostFacts, Outcome, Prepared, Strategy, pull};
use crate::docker::daemon::config::{Configuration, DEFAULT_PATH};
use crate::docker::daemon::overmount::Overmount;
use crate::docker::daemon::process::Process;
use crate::docker::daemon::reach;
use undo::{Step, UndoRecord};

/// Attaches digests through a mirror of docker.io.
#[derive(Debug)]
pub struct Mirror {
    /// The folder of its journal.
    pub folder: Folder,
}

impl Strategy for Mirror {
    fn method(&self) -> AttachMethod {
        AttachMethod::Mirror
    }

    fn disruption(&self) -> Disruption {
        Disruption::Live
    }

    fn serves(&self, repository: &Repository, _: &HostFacts) -> Result<bool, Obstacle> {
        Ok(repository.domain() == DEFAULT_DOMAIN)
    }

    fn steps(&self, wanted: &[String], facts: &HostFacts) -> Vec<String> {
        let file = facts.config_file.as_deref();
        let file = file.map_or_else(|| DEFAULT_PATH.into(), |path| path.display().to_string());
        let network = facts.network.as_ref();
        let first = network.and_then(|network| network.unprivileged_from);
        let first = first.unwrap_or(UNPRIVILEGED);
        let pid = facts
            .pid
            .map(|pid| format!(" (process {pid})"))
            .unwrap_or_default();
        vec![
            format!("serve the manifests, by digest only, on a port below {first} of 127.0.0.1"),
            format!("bind-mount a copy of {file}, with that address as the mirror of docker.io, over it"),
            format!("SIGHUP dockerd{pid}, which reads the copy"),
            format!(
                "let it pull {}: it asks for manifests only",
                names::first(wanted, 3)
            ),
            "SIGHUP with the original mirrors, unmount the copy".into(),
        ]
    }

    fn folder(&self) -> &Folder {
        &self.folder
    }

    fn look(&self, client: &Client, info: &Info) -> Result<Box<dyn Prepared>, Vec<Obstacle>> {
        let process = reach::process(client, info)?;
        let line = process.command_line();
        let mut obstacles = line.obstacles.clone();
        obstacles.extend(line.fixed_mirrors.clone());
        obstacles.extend(self.folder.seen_by(&process).err());
        obstacles.extend(bind(&process).err());
        let configuration = process.configuration();
        if let Ok((configuration, _)) = &configuration
            && obstacles.is_empty()
        {
            obstacles.extend(configuration.edited(info, &line));
        }
        match configuration {
            Ok((configuration, overmount)) if obstacles.is_empty() => Ok(Box::new(Preflight {
                process,
                configuration,
                overmount,
            })),
            Ok(_) => Err(obstacles),
            Err(obstacle) => {
                obstacles.push(obstacle);
                Err(obstacles)
            }
        }
    }
}

/// The result of a preflight.
struct Preflight {
    process: Process,
    configuration: Configuration,
    overmount: Overmount,
}

impl Prepared for Preflight {
    fn attach(self: Box<Self>, attach: &Attach<'_>) -> Result<Vec<Outcome>, Failed> {
        let listener = bind(&self.process)?;
        let server = Server::start(listener, pull::documents(attach.wanted))
            .map_err(|error| Obstacle::new(format!("the manifests cannot be served: {error}"), ""))?;
        let original = self.configuration.mirrors();
        let mirror = format!("http://{}", server.address());
        let with_mirror = self.configuration.with_mirrors(std::slice::from_ref(&mirror));
        let original_config = self.configuration.with_mirrors(&original);
        let record = UndoRecord {
            socket: self.process.socket().into(),
            mirror,
            original_config: String::from_utf8_lossy(&original_config).into_owned(),
            original,
            overmount: self.overmount,
            namespaces: self.process.namespaces().clone(),
            steps: Vec::new(),
        };
        let outcomes = attach.journaled(record, |session| {
            session.step(Step::Overmount, |record, folder| {
                record
                    .overmount
                    .mount_in(&record.namespaces, &with_mirror, &folder.source())
            })?;
            session.step(Step::Reload, |record, _| {
                let mirrors = std::slice::from_ref(&record.mirror);
                self.process.reload(attach.client, mirrors)
            })?;
            let wanted = attach.wanted.iter();
            wanted.map(|one| pull::by_digest(attach, one)).collect()
        })?;
        Ok(outcomes?)
    }
}

fn bind(process: &Process) -> Result<TcpListener, Obstacle> {
    let bound = process.namespaces().with_network(bind_privileged);
    let bound = bound.unwrap_or_else(|error| Err(NoPort::new(error)));
    bound.map_err(|no_port| Obstacle::new(no_port.reason("dockerd"), no_port.hint()))
}
