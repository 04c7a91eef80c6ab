//! The rule of `auto`: one engine of those that a host has.

use std::path::PathBuf;

use super::{ContainerdSocket, DOCKER, Engine, Facts, Kubelet, Runtime};
use crate::error::{Error, Hint, Remedy};

/// The engine that `auto` means.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Choice {
    /// The engine.
    pub engine: Engine,
    /// Its socket, if the reason for it names one.
    pub socket: Option<PathBuf>,
    /// Why it is this one.
    pub reason: String,
    /// Whether the host has others, of which none was named.
    #[serde(skip)]
    pub is_one_of_several: bool,
}

impl Choice {
    /// The engine that was asked for, whatever else the host has.
    pub fn asked(engine: Engine, reason: String) -> Choice {
        Choice {
            engine,
            socket: None,
            reason,
            is_one_of_several: false,
        }
    }
}

impl Facts {
    /// Chooses an engine; `None` if there is none.
    ///
    /// 1. The one whose address the environment names.
    /// 2. On a Kubernetes node, the one that runs its containers.
    /// 3. Docker, if it is installed: its containerd is no reason to choose containerd.
    /// 4. podman, if it is installed.
    /// 5. containerd, if it runs; then CRI-O, if it runs.
    pub fn choose(&self) -> Option<Choice> {
        let found = self.engines();
        let choice = |engine, socket: Option<PathBuf>, reason: String| Choice {
            engine,
            socket,
            reason,
            is_one_of_several: false,
        };
        if let Some(named) = self.named.first() {
            let is_podmans = named.engine == Engine::Podman && named.by != "CONTAINER_HOST";
            let reason = match is_podmans {
                true => format!("{} names its socket", named.by),
                false => format!("{} names it", named.by),
            };
            return Some(choice(named.engine, named.socket.clone(), reason));
        }
        let mut chosen = match &self.kubelet {
            Some(kubelet) => {
                let (engine, socket, reason) = of_node(kubelet);
                choice(engine, socket, reason)
            }
            None => {
                let first = *found.iter().min_by_key(|engine| rank(**engine))?;
                let reason = match found.as_slice() {
                    [_] => "no other engine was found".into(),
                    _ => before(&found),
                };
                choice(first, None, reason)
            }
        };
        chosen.is_one_of_several = found.iter().any(|engine| *engine != chosen.engine);
        Some(chosen)
    }
}

/// The error where there is no engine: what was looked for.
pub fn absence() -> Error {
    let hint = match rustix::process::geteuid().is_root() {
        true => Hint::default(),
        false => Hint::from("only root can see some sockets").and(Remedy::RunAsRoot),
    };
    Error::Engine {
        engine: "this host".into(),
        action: "find an engine".into(),
        problem: format!(
            "no Docker (/{DOCKER}), no containerd ({}) and no podman was found",
            ContainerdSocket::list()
        ),
        hint: Some(hint.and(Remedy::NameEngine)),
    }
}

/// Its place among several engines; the first one is chosen.
fn rank(engine: Engine) -> u8 {
    match engine {
        Engine::Docker => 0,
        Engine::Podman => 1,
        Engine::Containerd => 2,
        Engine::Crio => 3,
    }
}

/// Why the first of these engines is chosen.
fn before(found: &[Engine]) -> String {
    let mut names = found.to_vec();
    names.sort_by_key(|engine| rank(*engine));
    let others: Vec<&str> = names.iter().skip(1).map(|engine| engine.name()).collect();
    format!("it is preferred to {}", others.join(" and "))
}

/// The engine of a Kubernetes node.
fn of_node(kubelet: &Kubelet) -> (Engine, Option<PathBuf>, String) {
    let name = kubelet.name;
    match &kubelet.runtime {
        Runtime::Containerd(socket) => (
            Engine::Containerd,
            Some(socket.clone()),
            format!("{name} runs this host's containers with {}", socket.display()),
        ),
        Runtime::Crio => (Engine::Crio, None, "it runs this host's containers".into()),
        Runtime::Docker => (
            Engine::Docker,
            None,
            format!("{name} runs this host's containers with it"),
        ),
    }
}
