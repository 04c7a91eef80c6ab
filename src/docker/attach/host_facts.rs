//! Facts about the host on which the choice of a strategy depends. A probe collects them once.

use std::path::PathBuf;

use crate::docker::api::Client;
use crate::docker::api::info::Info;
use crate::docker::attach::offline::impact::RestartImpact;
use crate::docker::daemon::network::Network;
use crate::docker::daemon::reach;

/// What is known about the engine's process and its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostFacts {
    /// The engine's process.
    pub pid: Option<i32>,
    /// Its `daemon.json`, which need not exist, as a path in our namespace.
    pub config_file: Option<PathBuf>,
    /// The effect of restarting it.
    pub restart: Option<RestartImpact>,
    /// Its network.
    pub network: Option<Network>,
}

impl HostFacts {
    /// Collects them. What cannot be determined is omitted; a strategy's preflight says why. Changes nothing.
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
