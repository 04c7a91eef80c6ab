//! What `doctor` says about containerd.

use std::path::{Path, PathBuf};

use sealift::containerd::inventory::Inventory;
use sealift::containerd::{Containerd, Options};
use sealift::host::{Engine, Facts, Runtime};
use sealift::load::{Candidates, Space, Target as _};
use sealift::{Error, Result};
use serde_json::json;

use super::super::output::{Failure, Output};
use super::super::size::Size;
use super::report::{EngineReport, print_error};

/// A socket of containerd, and what answers there.
pub struct Examined {
    socket: PathBuf,
    found: Result<Inventory>,
}

/// Asks every containerd of this host.
pub fn examine(facts: &Facts) -> Vec<Examined> {
    let mut sockets: Vec<PathBuf> = facts
        .named
        .iter()
        .filter(|named| named.engine == Engine::Containerd)
        .filter_map(|named| named.socket.clone())
        .collect();
    if let Some(Runtime::Containerd(socket)) = facts.kubelet.as_ref().map(|kubelet| &kubelet.runtime) {
        sockets.push(socket.clone());
    }
    sockets.extend(facts.containerd.iter().cloned());
    let mut examined: Vec<Examined> = Vec::new();
    for socket in sockets {
        if !examined.iter().any(|known| is_same(&known.socket, &socket)) {
            let found = ask(&socket);
            examined.push(Examined { socket, found });
        }
    }
    examined
}

fn ask(socket: &Path) -> Result<Inventory> {
    let options = Options {
        address: Some(socket.into()),
        ..Options::from_process()
    };
    Containerd::connect(&options)?.probe(&Candidates::default())
}

fn json_of(space: &Space) -> serde_json::Value {
    json!({ "path": space.path, "free": space.free })
}

/// Whether two paths lead to one socket.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into());
    real(one) == real(other)
}

impl Examined {
    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Why it cannot be asked.
    pub fn error(&self) -> Option<&Error> {
        self.found.as_ref().err()
    }

    /// What is common to all engines.
    pub fn report(&self) -> EngineReport {
        let address = self.socket.display().to_string();
        match &self.found {
            Err(error) => EngineReport::unreachable(Engine::Containerd, &address, error),
            Ok(inventory) => EngineReport {
                address,
                load: Some("over its API, and unpacked into the snapshotter"),
                space: inventory.details.space.content.as_ref().map(json_of),
                details: json!({
                    "namespace": inventory.namespace,
                    "reason": inventory.details.reason,
                    "snapshotter": inventory.details.snapshotter,
                    "unpacked": inventory.details.space.snapshots.as_ref().map(json_of),
                }),
                ..EngineReport::of(Engine::Containerd, inventory)
            },
        }
    }

    /// Prints all of it.
    pub fn print(&self, output: &Output) -> Result<(), Failure> {
        let inventory = match &self.found {
            Ok(inventory) => inventory,
            Err(error) => return print_error(output, error),
        };
        let details = &inventory.details;
        output.line(format_args!(
            "{}: version {}",
            inventory.target,
            inventory.version.as_deref().unwrap_or_default()
        ))?;
        output.line(format_args!(
            "  namespace: {} ({})",
            inventory.namespace.as_deref().unwrap_or_default(),
            details.reason
        ))?;
        output.line(format_args!("  snapshotter: {}", details.snapshotter))?;
        if let Some(space) = &details.space.content {
            output.line(format_args!("  space: {} are free", Size(space.free)))?;
        }
        if let Some(space) = &details.space.snapshots {
            let (path, free) = (space.path.display(), Size(space.free));
            output.line(format_args!(
                "  space for unpacked layers: {free} are free in {path}"
            ))?;
        }
        if let Some(platform) = &inventory.platform {
            output.line(format_args!("  platform: {platform}"))?;
        }
        output.line(format_args!("  images: {}", inventory.images.len()))?;
        output.line("  digests: are shown after every load")
    }
}
