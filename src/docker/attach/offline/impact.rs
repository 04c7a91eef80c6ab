//! What a restart would do on this host.

use std::path::PathBuf;

use super::live_restore::{ContainerImpact, LiveRestore};
use super::service::Control;
use crate::docker::api::Client;
use crate::docker::api::info::Info;
use crate::docker::attach::Restart;
use crate::docker::daemon::process::Process;
use crate::docker::store::files::Files;
use crate::error::Result;
use crate::target::Obstacle;

/// What a restart of the engine would do, by whatever it is stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct RestartImpact {
    /// Containers that run.
    pub running: Vec<String>,
    /// Whether they outlive the engine as it is set now.
    pub live_restore: bool,
    /// Why it cannot be set so for the time of a restart; `None` if it can.
    pub live_restore_obstacle: Option<String>,
    /// Why systemd ends them nevertheless.
    pub kills: Option<String>,
    /// Units that stop along with the engine.
    pub dependents: Vec<String>,
    #[serde(skip)]
    control: Option<Control>,
    #[serde(skip)]
    setting: Option<LiveRestore>,
    #[serde(skip)]
    data_root: PathBuf,
    #[serde(skip)]
    driver: String,
}

/// One container of `GET /containers/json`: those that run.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    #[serde(default)]
    names: Vec<String>,
}

impl RestartImpact {
    /// Asks. Changes nothing.
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
        Ok(RestartImpact {
            running: running(client)?,
            live_restore: info.live_restore() == Some(true),
            live_restore_obstacle: setting.as_ref().err().cloned(),
            kills: kills.flatten(),
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

    /// What becomes of containers.
    pub fn on_containers(&self, by_command: bool) -> ContainerImpact {
        match (&self.kills, &self.live_restore_obstacle) {
            _ if self.running.is_empty() => ContainerImpact::None,
            (Some(kills), _) if !by_command => ContainerImpact::Stop(kills.clone()),
            _ if self.live_restore => ContainerImpact::Stay,
            (_, None) => ContainerImpact::Spared,
            (_, Some(obstacle)) => ContainerImpact::Stop(obstacle.clone()),
        }
    }

    /// The setting that a on_containers needs.
    pub fn live_restore(&self, on_containers: &ContainerImpact) -> Option<LiveRestore> {
        self.setting
            .clone()
            .filter(|_| *on_containers == ContainerImpact::Spared)
    }

    /// The same for people.
    pub fn describe(&self, on_containers: &ContainerImpact) -> String {
        let names = self.running.join(", ");
        match on_containers {
            ContainerImpact::None => "no container runs".into(),
            ContainerImpact::Stay => format!("containers keep running, by live-restore: {names}"),
            ContainerImpact::Spared => {
                format!("containers keep running, by live-restore for that time: {names}")
            }
            ContainerImpact::Stop(because) => {
                format!("containers stop: {names}; live-restore cannot keep them running: {because}")
            }
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

    /// The engine's store as paths of ours.
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

    /// Containers that ran and do not now.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Engine`].
    pub fn missing(&self, client: &Client) -> Result<Vec<String>> {
        let now = running(client)?;
        let before = self.running.iter();
        Ok(before.filter(|name| !now.contains(name)).cloned().collect())
    }
}

fn running(client: &Client) -> Result<Vec<String>> {
    let list: Vec<Container> = client.get("ask what runs", "/containers/json")?;
    let name = |one: Container| match one.names.into_iter().next() {
        Some(name) => name.trim_start_matches('/').to_string(),
        None => one.id,
    };
    let mut names: Vec<String> = list.into_iter().map(name).collect();
    names.sort();
    Ok(names)
}
