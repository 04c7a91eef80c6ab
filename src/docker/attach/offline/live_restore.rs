//! `live-restore`: for the time of the restart the engine is describe to let its containers run.
//!
//! As with the mirror, no file is changed: another `daemon.json` lies over the real one until the engine has
//! started again and has been describe to forget it. Source: moby, `daemon/reload.go`; the new daemon ends the
//! containers that it finds running unless it has the setting, too.

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

/// What becomes of containers that run while their engine restarts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case", tag = "they", content = "because")]
pub enum ContainerImpact {
    /// There are none.
    None,
    /// They keep running: the engine is set so.
    Stay,
    /// They keep running: the engine can be set so for that time.
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
    /// One that takes it back.
    off: String,
}

impl LiveRestore {
    /// Finds how the setting can be made. Changes nothing.
    ///
    /// # Errors
    ///
    /// Why it cannot.
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

    /// Makes the setting.
    ///
    /// # Errors
    ///
    /// If the engine does not take it in.
    pub fn switch_on(&self, client: &Client, process: &Process, folder: &Folder) -> Result<()> {
        self.mount(&self.on, folder)?;
        reload(client, process, true)
    }

    /// Takes it back, if the engine runs and has it, and uncovers the file.
    ///
    /// # Errors
    ///
    /// If the engine does not take it in, or the file cannot be uncovered.
    pub fn switch_off(&self, socket: &Path, folder: &Folder) -> Result<()> {
        if let Ok(client) = Client::connect(&Endpoint::Unix(socket.into()))
            && Info::ask(&client)?.live_restore() != Some(false)
        {
            self.mount(&self.off, folder)?;
            let process = Process::find(socket).map_err(|obstacle| {
                let hint = "restart docker: it then forgets live-restore".to_string();
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
            let problem = format!("dockerd did not take it in within {} s", LIMIT.as_secs());
            let hint = "its log says why (journalctl -u docker)".to_string();
            return Err(client.error(action, &problem, Some(hint)));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
