//! `live-restore`: makes the engine keep its containers running during a restart.
//!
//! As with the mirror, no file is changed: another `daemon.json` is mounted over the real one until the engine
//! has started again and the setting is reverted. Source: moby, `daemon/reload.go`; the new daemon stops
//! running containers unless it has the setting, too.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::docker::api::Client;
use crate::docker::api::info::Info;
use crate::docker::attach::folder::Folder;
use crate::docker::daemon::config::Configuration;
use crate::docker::daemon::namespaces::Namespaces;
use crate::docker::daemon::overmount::Overmount;
use crate::docker::daemon::process::Process;
use crate::docker::endpoint::Endpoint;
use crate::error::Result;

const KEY: &str = "live-restore";
const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// The effect on running containers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case", tag = "they", content = "because")]
pub enum ContainerImpact {
    /// There are none.
    None,
    /// They keep running: live-restore is enabled.
    Stay,
    /// They keep running: live-restore can be enabled for the restart.
    Spared,
    /// They stop, and why.
    Stop(String),
}

/// The setting, mounted over `daemon.json` for the time of a restart.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LiveRestore {
    overmount: Overmount,
    /// A `daemon.json` with the setting.
    on: String,
    /// One that reverts it.
    off: String,
}

impl LiveRestore {
    /// Plans the setting. Changes nothing.
    ///
    /// # Errors
    ///
    /// Why it is not possible.
    pub fn plan(process: &Process, info: &Info) -> Result<LiveRestore, String> {
        let line = process.command_line();
        if let Some(obstacle) = line.obstacles.first() {
            return Err(obstacle.reason.clone());
        }
        if line.live_restore {
            return Err("dockerd was started with --live-restore=false".into());
        }
        let (configuration, overmount) = process.configuration().map_err(|obstacle| obstacle.reason)?;
        if let Some(obstacle) = configuration.edited(info, &line) {
            return Err(obstacle.reason);
        }
        let with = |value: bool| text(&configuration, value);
        Ok(LiveRestore {
            overmount,
            on: with(true),
            off: with(false),
        })
    }

    /// Enables the setting.
    ///
    /// # Errors
    ///
    /// If the engine does not apply it.
    pub fn switch_on(&self, client: &Client, process: &Process, folder: &Folder) -> Result<()> {
        self.mount(&self.on, folder)?;
        reload(client, process, true)
    }

    /// Reverts it, if the engine is running and has it, and unmounts the file.
    ///
    /// # Errors
    ///
    /// If the engine does not apply it, or the file cannot be unmounted.
    pub fn switch_off(&self, socket: &Path, folder: &Folder) -> Result<()> {
        if let Ok(client) = Client::connect(&Endpoint::Unix(socket.into()))
            && Info::ask(&client)?.live_restore() != Some(false)
        {
            self.mount(&self.off, folder)?;
            let process = Process::find(socket).map_err(|obstacle| {
                let hint = "restart docker: it then forgets live-restore".into();
                client.error("reload its configuration", &obstacle.reason, Some(hint))
            })?;
            reload(&client, &process, false)?;
        }
        self.overmount
            .unmount_in(&Namespaces::default(), &folder.source())
    }

    fn mount(&self, content: &str, folder: &Folder) -> Result<()> {
        self.overmount
            .mount_in(&Namespaces::default(), content.as_bytes(), &folder.source())
    }
}

fn text(configuration: &Configuration, value: bool) -> String {
    String::from_utf8_lossy(&configuration.with(KEY, Value::Bool(value))).into_owned()
}

fn reload(client: &Client, process: &Process, expected: bool) -> Result<()> {
    let action = "set live-restore";
    process
        .hang_up()
        .map_err(|error| client.error(action, &error.to_string(), None))?;
    let until = Instant::now() + LIMIT;
    while Info::ask(client)?.live_restore() != Some(expected) {
        if Instant::now() > until {
            let problem = format!("dockerd did not apply it within {} s", LIMIT.as_secs());
            let hint = "its log says why (journalctl -u docker)".into();
            return Err(client.error(action, &problem, Some(hint)));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
