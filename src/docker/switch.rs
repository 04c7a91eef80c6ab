//! What a switch of this host's Docker from its classic store to the containerd store would meet.
//!
//! Source: moby 28, `daemon/daemon.go`, `NewDaemon`.

use std::path::PathBuf;

use super::Options;
use super::api::info::{Info, Store};
use super::api::{ApiVersion, Client};
use super::daemon::process::Process;
use super::daemon::reach;
use super::endpoint::Endpoint;
use super::store::containerd;
use crate::error::Result;
use crate::load::{Obstacle, Space};

/// From this API version on (Docker 24), there is a containerd store.
const SINCE: ApiVersion = ApiVersion { major: 1, minor: 43 };

/// What a switch to the containerd store would meet.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Switch {
    /// Free space where Docker's containerd keeps its data; `None` if it is not known.
    pub space: Option<Space>,
    /// All containers by their names: the containerd store does not show those of the classic store.
    pub containers: Vec<String>,
    /// What keeps this Docker from using the containerd store.
    pub obstacles: Vec<Obstacle>,
}

/// One container of `GET /containers/json`.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
}

impl Switch {
    /// Asks Docker, and looks at its files if it can. `None` if Docker uses the containerd store already.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Engine`].
    pub fn look(options: &Options) -> Result<Option<Switch>> {
        let client = Client::connect(&Endpoint::find(&options.environment)?)?;
        let info = Info::ask(&client)?;
        if info.store() == Store::Containerd {
            return Ok(None);
        }
        let process = reach::process(&client, &info).ok();
        Ok(Some(Switch {
            space: process.as_ref().and_then(space),
            containers: containers(&client)?,
            obstacles: obstacles(&client, &info, process.as_ref()),
        }))
    }
}

fn space(process: &Process) -> Option<Space> {
    let root = containerd::root_of(process)?;
    let path: PathBuf = root.path().to_path_buf();
    Space::of_folder(&path, root.as_file())
}

fn containers(client: &Client) -> Result<Vec<String>> {
    let list: Vec<Container> = client.get("ask for its containers", "/containers/json?all=1")?;
    let named = |one: Container| match one.names.into_iter().flatten().next() {
        Some(name) => name.trim_start_matches('/').to_string(),
        None => one.id,
    };
    let mut names: Vec<String> = list.into_iter().map(named).collect();
    names.sort();
    Ok(names)
}

fn obstacles(client: &Client, info: &Info, process: Option<&Process>) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    if client.version() < SINCE {
        obstacles.push(Obstacle::new(
            "this version of Docker has no containerd store",
            "Docker 24 and newer have one",
        ));
    }
    if info.has_user_namespaces() {
        // moby#47377; Docker 29: moby#51042.
        obstacles.push(Obstacle::new(
            "Docker remaps users (userns-remap), and cannot build images then in its containerd store",
            "stay with the classic store, as Docker 29 does with userns-remap",
        ));
    }
    obstacles.extend(process.and_then(storage_driver));
    obstacles
}

/// A storage driver that is set explicitly. Docker 28 takes it for the name of a snapshotter, starts, and can neither pull
/// an image nor create a container.
fn storage_driver(process: &Process) -> Option<Obstacle> {
    if process.command_line().sets_storage_driver() {
        return Some(Obstacle::new(
            "the command line of dockerd sets the storage driver, which would be the name of a snapshotter",
            "remove it there together with the switch",
        ));
    }
    let settings = process.settings().ok()?;
    let driver = settings.text("storage-driver")?;
    Some(Obstacle::new(
        format!("daemon.json sets the storage-driver {driver}, which would be the name of a snapshotter"),
        "remove it together with the switch",
    ))
}
