//! The effect of a restart on this host.

use std::path::PathBuf;

use super::live_restore::{ContainerImpact, LiveRestore};
use super::service::Control;
use crate::docker::api::info::Info;
use crate::docker::api::{Client, encode};
use crate::docker::attach::Restart;
use crate::docker::daemon::process::Process;
use crate::docker::store::files::Files;
use crate::error::Result;
use crate::load::Obstacle;

/// The effect of restarting the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RestartImpact {
    /// Running containers.
    pub running: Vec<String>,
    /// Whether they keep running, as the engine is configured now.
    pub live_restore: bool,
    /// Why live-restore cannot be enabled for the time of a restart; `None` if it can.
    pub live_restore_obstacle: Option<String>,
    /// Why systemd stops them all the same.
    pub kills: Option<String>,
    /// Those without a restart policy, which stay stopped if they stop.
    pub stay_down: Vec<String>,
    /// Units that stop with the engine.
    pub dependents: Vec<String>,
    /// What would stop and start the engine.
    control: Option<Control>,
    #[serde(skip)]
    setting: Option<LiveRestore>,
    #[serde(skip)]
    data_root: PathBuf,
    #[serde(skip)]
    driver: String,
}

/// One container of `GET /containers/json`, which lists the running ones.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    #[serde(default)]
    names: Vec<String>,
}

/// An inspected container.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    host_config: HostConfig,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    restart_policy: RestartPolicy,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RestartPolicy {
    name: String,
}

impl RestartImpact {
    /// Determines it. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Engine`].
    pub fn look(client: &Client, info: &Info, process: &Process) -> Result<RestartImpact> {
        let setting = match info.is_in_swarm() {
            true => Err("it is part of a swarm, which live-restore excludes".to_string()),
            false => LiveRestore::plan(process, info),
        };
        let by_systemd = Control::find(&Restart::default(), process.pid()).ok();
        let (control, kills) = by_systemd.map(|found| (found.control, found.kills)).unzip();
        let kills = kills.flatten();
        let running = running(client)?;
        // If they keep running, it does not matter.
        let stay_down = match setting.is_err() || kills.is_some() {
            true => without_policy(client, &running)?,
            false => Vec::new(),
        };
        Ok(RestartImpact {
            running: running.into_iter().map(|one| one.name).collect(),
            stay_down,
            live_restore: info.live_restore() == Some(true),
            live_restore_obstacle: setting.as_ref().err().cloned(),
            kills,
            dependents: control
                .as_ref()
                .map(|control| control.dependents().to_vec())
                .unwrap_or_default(),
            control,
            setting: setting.ok(),
            data_root: info.docker_root_dir.clone(),
            driver: info.driver.clone(),
        })
    }

    /// The effect on containers.
    pub fn on_containers(&self, by_command: bool) -> ContainerImpact {
        match (&self.kills, &self.live_restore_obstacle) {
            _ if self.running.is_empty() => ContainerImpact::None,
            (Some(kills), _) if !by_command => ContainerImpact::Stop(kills.clone()),
            _ if self.live_restore => ContainerImpact::Stay,
            (_, None) => ContainerImpact::Spared,
            (_, Some(obstacle)) => ContainerImpact::Stop(obstacle.clone()),
        }
    }

    /// The setting that this effect requires.
    pub fn live_restore(&self, on_containers: &ContainerImpact) -> Option<LiveRestore> {
        self.setting
            .clone()
            .filter(|_| *on_containers == ContainerImpact::Spared)
    }

    /// The same for people.
    pub fn describe(&self, on_containers: &ContainerImpact) -> String {
        let names = self.running.join(", ");
        match on_containers {
            ContainerImpact::None => "no container is running".into(),
            ContainerImpact::Stay => format!("containers keep running, by live-restore: {names}"),
            ContainerImpact::Spared => {
                format!("containers keep running, by live-restore for that time: {names}")
            }
            ContainerImpact::Stop(because) => {
                let stopped = self.stopped();
                format!("containers stop: {stopped}; live-restore cannot keep them running: {because}")
            }
        }
    }

    /// The containers that stop, if they do, and those that stay stopped.
    pub fn stopped(&self) -> String {
        let names = self.running.join(", ");
        match self.stay_down.as_slice() {
            [] => format!("{names}; their restart policies start them again"),
            down if down.len() == self.running.len() => {
                format!("{names}; none has a restart policy, so all stay stopped")
            }
            down => format!(
                "{names}; these have no restart policy and stay stopped: {}",
                down.join(", ")
            ),
        }
    }

    /// How systemd stops it.
    pub fn stop_line(&self) -> String {
        self.control.as_ref().map(Control::stop_line).unwrap_or_default()
    }

    /// How systemd starts it.
    pub fn start_line(&self) -> String {
        self.control.as_ref().map(Control::start_line).unwrap_or_default()
    }

    /// The engine's store, with paths in our namespace.
    ///
    /// # Errors
    ///
    /// If it cannot be reached.
    pub fn files(&self, process: &Process) -> Result<Files, Obstacle> {
        if process.namespaces().mount.is_some() {
            return Err(Obstacle::new(
                "dockerd sees other files than this process, and they may be gone once it is stopped",
                "run this where dockerd runs",
            ));
        }
        Files::of(process, &self.data_root, &self.driver)
    }

    /// Containers that were running and are not running now.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Engine`].
    pub fn missing(&self, client: &Client) -> Result<Vec<String>> {
        let now = running(client)?;
        let runs = |name: &&String| !now.iter().any(|one| one.name == **name);
        Ok(self.running.iter().filter(runs).cloned().collect())
    }
}

/// A running container.
struct RunningContainer {
    id: String,
    name: String,
}

fn running(client: &Client) -> Result<Vec<RunningContainer>> {
    let list: Vec<Container> = client.get("ask what runs", "/containers/json")?;
    let named = |one: Container| RunningContainer {
        name: match one.names.first() {
            Some(name) => name.trim_start_matches('/').to_string(),
            None => one.id.clone(),
        },
        id: one.id,
    };
    let mut running: Vec<RunningContainer> = list.into_iter().map(named).collect();
    running.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(running)
}

/// The names of those that Docker does not start again by itself.
fn without_policy(client: &Client, running: &[RunningContainer]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for one in running {
        let path = format!("/containers/{}/json", encode(&one.id));
        let inspected: Inspected = client.get("ask for its restart policy", &path)?;
        if matches!(inspected.host_config.restart_policy.name.as_str(), "" | "no") {
            names.push(one.name.clone());
        }
    }
    Ok(names)
}
