//! What of the host the choice of a strategy depends on: asked once, by a probe.

use std::path::PathBuf;

use crate::docker::api::Client;
use crate::docker::api::info::Info;
use crate::docker::attach::offline::impact::RestartImpact;
use crate::docker::daemon::network::Network;
use crate::docker::daemon::reach;

/// What is known of the engine's process and the host that it sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct HostFacts {
    /// The engine's process.
    pub pid: Option<i32>,
    /// Its `daemon.json`, whether or not it exists, as a path of ours.
    pub config_file: Option<PathBuf>,
    /// What a restart of it would do.
    pub restart: Option<RestartImpact>,
    /// Its network.
    pub network: Option<Network>,
}

impl HostFacts {
    /// Looks. What cannot be seen is left out: a strategy's preflight says why. Changes nothing.
    pub fn look(client: &Client, info: &Info) -> HostFacts {
        let Ok(process) = reach::process(client, info) else {
            return HostFacts::default();
        };
        HostFacts {
            pid: Some(process.pid()),
            config_file: process.config_file().ok(),
            restart: RestartImpact::look(client, info, &process).ok(),
            network: Some(Network::look(info, &process)),
        }
    }
}
