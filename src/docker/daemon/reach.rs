//! Whether the engine's process can be reached from here; if not, what kind of engine it is, and what works
//! with it.

use crate::docker::api::Client;
use crate::docker::api::info::Info;
use crate::docker::daemon::process::Process;
use crate::docker::endpoint::Endpoint;
use crate::load::Obstacle;

/// Finds the process of an engine whose files and network can be changed from here for a moment.
///
/// # Errors
///
/// Why there is none, and what works with such an engine.
pub fn process(client: &Client, info: &Info) -> Result<Process, Obstacle> {
    let Endpoint::Unix(socket) = client.endpoint() else {
        return Err(Obstacle::new(
            "the engine is reached over the network, its configuration is not",
            "run this on the engine's own host, with its own socket",
        ));
    };
    kind(info)?;
    Process::find(socket)
}

fn kind(info: &Info) -> Result<(), Obstacle> {
    if info.operating_system.contains("Docker Desktop") {
        return Err(Obstacle::new(
            "the engine is Docker Desktop's, which runs in a virtual machine",
            "switch its containerd image store on (Settings, General): that one shows every digest",
        ));
    }
    if info.is_rootless() {
        return Err(Obstacle::new(
            "the engine is rootless: it runs in namespaces of its user",
            "switch its containerd image store on ({\"features\":{\"containerd-snapshotter\":true}}, Docker 24 and \
             newer): that one shows every digest",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_that_are_out_of_reach_are_recognised() {
        for (text, says) in [
            (
                r#"{"OperatingSystem":"Debian GNU/Linux 12","SecurityOptions":["name=seccomp,profile=default"]}"#,
                None,
            ),
            (
                r#"{"OperatingSystem":"Debian GNU/Linux 12","SecurityOptions":null}"#,
                None,
            ),
            (
                r#"{"OperatingSystem":"Docker Desktop","SecurityOptions":["name=seccomp"]}"#,
                Some("Docker Desktop"),
            ),
            (
                r#"{"SecurityOptions":["name=seccomp","name=rootless","name=cgroupns"]}"#,
                Some("rootless"),
            ),
        ] {
            let found = kind(&serde_json::from_str(text).unwrap());
            assert_eq!(found.is_err(), says.is_some(), "{text}");
            if let (Err(obstacle), Some(says)) = (found, says) {
                assert!(
                    obstacle.reason.contains(says) && obstacle.hint.is_some(),
                    "{obstacle:?}"
                );
            }
        }
    }
}
