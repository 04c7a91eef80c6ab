//! The engine is made to believe, for a moment, in a mirror of docker.io that is this process. It holds the
//! image, so a pull by digest asks for nothing but the manifests, and the engine records the digest.
//!
//! No file is changed: another `daemon.json` is laid over the real one while the engine reads it. The mirror
//! stands in the engine's memory until it reads a list without it, which is seen to on the way out and by
//! every repair. It listens on a port that only root can bind and answers no tags, so that nobody can
//! serve images through it.

pub mod begun;

use std::io;
use std::net::TcpListener;

use crate::docker::api::Client;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::oci::Repository;
use crate::oci::reference::DEFAULT_DOMAIN;
use crate::progress::Progress;
use crate::registry::server::{Documents, Server, bind_privileged};
use crate::target::Obstacle;

use super::config::{Configuration, DEFAULT_PATH};
use super::cover::Cover;
use super::daemon::{Process, memory, obstacle};
use super::folder::Folder;
use super::journal::{Session, leftover};
use super::{Failed, Manner, Outcome, Strategy, Surroundings, Wanted, pull, reach};
use begun::{Begun, Step};

/// The strategy.
#[derive(Debug)]
pub struct Mirror {
    folder: Folder,
}

impl Mirror {
    /// Keeps its journal in `folder`.
    pub fn new(folder: Folder) -> Mirror {
        Mirror { folder }
    }
}

impl Strategy for Mirror {
    fn name(&self) -> &'static str {
        "mirror"
    }

    fn manner(&self) -> Manner {
        Manner::Live
    }

    fn serves(&self, repository: &Repository, _: &Surroundings) -> Result<bool, Obstacle> {
        Ok(repository.domain() == DEFAULT_DOMAIN)
    }

    fn preflight(&self, client: &Client) -> Vec<Obstacle> {
        if !rustix::process::geteuid().is_root() {
            return vec![Obstacle::needs_root()];
        }
        match (self.folder.has_leftover(), self.look(client)) {
            // What an interrupted run has left looks like an edit, and is undone before anything is attached.
            (Ok(true), _) | (_, Ok(_)) => Vec::new(),
            (_, Err(obstacles)) => obstacles,
        }
    }

    fn steps(&self, wanted: &[String], surroundings: &Surroundings) -> Vec<String> {
        let file = surroundings.config_file.as_deref();
        let file = file.map_or_else(|| DEFAULT_PATH.into(), |path| path.display().to_string());
        let pid = surroundings
            .pid
            .map(|pid| format!(" (process {pid})"))
            .unwrap_or_default();
        vec![
            "serve the manifests, by digest only, on a port below 1024 of 127.0.0.1".into(),
            format!("bind-mount a copy of {file}, with that address as the mirror of docker.io, over it"),
            format!("SIGHUP dockerd{pid}, which reads the copy"),
            format!("let it pull {}: it asks for manifests only", wanted.join(", ")),
            "SIGHUP with the mirrors as they were, unmount the copy".into(),
        ]
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

impl Mirror {
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
        let mut documents = Documents::default();
        for one in wanted {
            documents.add(one.repository.path(), one.graph);
        }
        let server = bind(&found.process)
            .and_then(|listener| Server::start(listener, documents))
            .map_err(|error| no_port(&error))?;
        let original = found.configuration.mirrors();
        let mirror = format!("http://{}", server.address());
        let loud = found.configuration.with_mirrors(std::slice::from_ref(&mirror));
        let quiet = found.configuration.with_mirrors(&original);
        let begun = Begun {
            socket: found.socket,
            mirror,
            quiet: String::from_utf8_lossy(&quiet).into_owned(),
            original,
            cover: found.cover,
            namespaces: found.process.namespaces().clone(),
            steps: Vec::new(),
        };
        let session = Session::begin(&self.folder, begun)?;
        let at_stop = session.clone();
        let guard = interrupt.on_stop(move || {
            // The process dies by the signal: what cannot be undone now is left to a repair.
            let _ = at_stop.end();
        });
        let outcomes = open(&session, client, &found.process, &loud).and_then(|()| {
            wanted
                .iter()
                .map(|one| interrupt.check().map(|()| pull::by_digest(client, one)))
                .collect::<Result<Vec<Outcome>>>()
        });
        let ended = session.end();
        drop(guard);
        if let Err(error) = ended {
            progress
                .note("the engine's configuration could not be put back; `sealift doctor --repair` does it");
            return Err(Failed::Error(error));
        }
        Ok(outcomes?)
    }
}

/// Lays the other `daemon.json` and makes the engine read it.
fn open(session: &Session<Begun>, client: &Client, process: &Process, loud: &[u8]) -> Result<()> {
    session.step(Step::Cover, |begun, folder| {
        begun.cover.lay_in(&begun.namespaces, loud, &folder.source())
    })?;
    session.step(Step::Reload, |begun, _| {
        process.reload(client, std::slice::from_ref(&begun.mirror))
    })
}

/// What a preflight finds.
struct Found {
    socket: std::path::PathBuf,
    process: Process,
    configuration: Configuration,
    cover: Cover,
}

impl Mirror {
    fn look(&self, client: &Client) -> Result<Found, Vec<Obstacle>> {
        let process = reach::process(client).map_err(|obstacle| vec![obstacle])?;
        let mut obstacles = process.command_line().obstacles;
        obstacles.extend(process.sees(self.folder.path()).err());
        obstacles.extend(bind(&process).err().map(|error| no_port(&error)));
        let configuration = process.configuration();
        if let Ok((configuration, _)) = &configuration
            && obstacles.is_empty()
        {
            match memory(client) {
                Ok(memory) => obstacles.extend(configuration.edited(&memory, "attaching")),
                Err(error) => obstacles.push(obstacle(&error)),
            }
        }
        match configuration {
            Ok((configuration, cover)) if obstacles.is_empty() => Ok(Found {
                socket: process.socket().into(),
                process,
                configuration,
                cover,
            }),
            Ok(_) => Err(obstacles),
            Err(obstacle) => {
                obstacles.push(obstacle);
                Err(obstacles)
            }
        }
    }
}

fn bind(process: &Process) -> io::Result<TcpListener> {
    process.namespaces().with_network(bind_privileged)?
}

fn no_port(error: &io::Error) -> Obstacle {
    Obstacle::new(
        format!("no port below 1024 can be had on 127.0.0.1: {error}"),
        "run with sudo, and leave one of the ports 512 to 1023 free",
    )
}
