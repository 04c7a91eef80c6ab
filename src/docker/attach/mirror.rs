//! The engine is made to believe, for a moment, in a mirror of docker.io that is this process. It holds the
//! image, so a pull by digest asks for nothing but the manifests, and the engine records the digest.
//!
//! No file is changed: another `daemon.json` is laid over the real one while the engine reads it. The mirror
//! stands in the engine's memory until it reads a list without it, which is seen to on the way out and by
//! every repair. It listens on a port that only root can bind and answers no tags, so that nobody can
//! serve images through it.

use crate::docker::api::{Client, encode};
use crate::docker::endpoint::Endpoint;
use crate::docker::inventory::find_image;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::oci::reference::DEFAULT_DOMAIN;
use crate::oci::{Digest, Repository};
use crate::progress::Progress;
use crate::registry::server::{Documents, Server, bind_privileged};
use crate::target::Obstacle;

use super::config::Configuration;
use super::cover::Cover;
use super::daemon::{Process, memory, obstacle};
use super::journal::{Folder, Journal, Session, leftover};
use super::{Outcome, Strategy, Wanted};

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

    fn serves(&self, repository: &Repository) -> Result<(), Obstacle> {
        if repository.domain() == DEFAULT_DOMAIN {
            return Ok(());
        }
        Err(Obstacle::new(
            format!(
                "digests of names outside {DEFAULT_DOMAIN} are not attached by this version ({})",
                repository.domain()
            ),
            "the image is loaded and runs by its tag; the containerd store of Docker 24 and newer shows every digest",
        ))
    }

    fn preflight(&self, client: &Client) -> Vec<Obstacle> {
        if !rustix::process::geteuid().is_root() {
            return vec![Obstacle::new(
                "attaching digests needs root",
                "run the same command with sudo",
            )];
        }
        let mut obstacles = match (self.folder.has_leftover(), self.look(client)) {
            // What an interrupted run has left looks like an edit, and is undone before anything is attached.
            (Ok(true), _) | (_, Ok(_)) => Vec::new(),
            (_, Err(obstacles)) => obstacles,
        };
        if let Err(error) = bind_privileged() {
            obstacles.push(no_port(&error));
        }
        obstacles
    }

    fn apply(
        &self,
        client: &Client,
        wanted: &[Wanted<'_>],
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Vec<Outcome>> {
        let all = |obstacle: Obstacle| Ok(wanted.iter().map(|_| Err(obstacle.clone())).collect());
        let lock = self.folder.lock(progress)?;
        if let Err(error) = self.folder.repair(&lock) {
            return all(leftover(&error));
        }
        let found = match self.look(client) {
            Ok(found) => found,
            Err(obstacles) => return all(Obstacle::joined(obstacles)),
        };
        let listener = match bind_privileged() {
            Ok(listener) => listener,
            Err(error) => return all(no_port(&error)),
        };
        let mut documents = Documents::default();
        for one in wanted {
            documents.add(one.repository.path(), one.graph);
        }
        let server = match Server::start(listener, documents) {
            Ok(server) => server,
            Err(error) => return all(no_port(&error)),
        };
        let original = found.configuration.mirrors();
        let mirror = format!("http://{}", server.address());
        let session = Session::begin(
            &self.folder,
            Journal {
                socket: found.socket,
                mirror: mirror.clone(),
                quiet: String::from_utf8_lossy(&found.configuration.with_mirrors(&original)).into_owned(),
                original,
                cover: found.cover,
                steps: Vec::new(),
            },
        )?;
        let at_stop = session.clone();
        let guard = interrupt.on_stop(move || {
            // The process dies by the signal: what cannot be undone now is left to a repair.
            let _ = at_stop.end();
        });
        let loud = found.configuration.with_mirrors(&[mirror]);
        let outcomes = session.open(client, &found.process, &loud).and_then(|()| {
            wanted
                .iter()
                .map(|one| interrupt.check().map(|()| pull(client, one)))
                .collect()
        });
        let ended = session.end();
        drop(guard);
        let outcomes = outcomes?;
        ended?;
        Ok(outcomes)
    }
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
        let Endpoint::Unix(socket) = client.endpoint() else {
            return Err(vec![Obstacle::new(
                "the engine is reached over the network, its configuration is not",
                "run this on the engine's own host",
            )]);
        };
        let process = Process::find(socket).map_err(|obstacle| vec![obstacle])?;
        let mut obstacles = process.command_line().obstacles;
        let configuration = process.configuration();
        if let Ok((configuration, _)) = &configuration
            && obstacles.is_empty()
        {
            match memory(client) {
                Ok(memory) => obstacles.extend(unreloaded(&configuration.unreloaded(&memory))),
                Err(error) => obstacles.push(obstacle(&error)),
            }
        }
        match configuration {
            Ok((configuration, cover)) if obstacles.is_empty() => Ok(Found {
                socket: socket.clone(),
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

fn unreloaded(keys: &[&str]) -> Option<Obstacle> {
    (!keys.is_empty()).then(|| {
        Obstacle::new(
            format!(
                "dockerd has not taken in its daemon.json as it is now ({} differ), and attaching would make it",
                keys.join(", ")
            ),
            "systemctl reload docker takes it in (registry-mirrors that were removed need an empty list, [])",
        )
    })
}

fn no_port(error: &std::io::Error) -> Obstacle {
    Obstacle::new(
        format!("no port below 1024 can be had on 127.0.0.1: {error}"),
        "run with sudo, and leave one of the ports 512 to 1023 free",
    )
}

fn pull(client: &Client, wanted: &Wanted<'_>) -> Outcome {
    let name = format!("{}@{}", wanted.repository.familiar(), wanted.digest);
    let path = format!(
        "/images/create?fromImage={}&tag={}",
        encode(wanted.repository.full()),
        encode(&wanted.digest.to_string())
    );
    client
        .post_stream(&format!("attach {name}"), &path, &mut |_| {})
        .map_err(|error| obstacle(&error))?;
    match find_image(client, &name).map_err(|error| obstacle(&error))? {
        Some(image) if image.id.parse::<Digest>() == Ok(wanted.image_id) => Ok(()),
        Some(image) => Err(Obstacle::new(
            format!(
                "the engine shows {} for {name}, expected {}",
                image.id, wanted.image_id
            ),
            "it chose the image of another platform",
        )),
        None => Err(Obstacle::new(format!("the engine does not show {name}"), "")),
    }
}
