//! What `doctor` says about containerd.

use std::path::{Path, PathBuf};

use sealift::containerd::inventory::Inventory;
use sealift::containerd::{Containerd, Options};
use sealift::host::{CONTAINERD, Engine, Facts, Runtime};
use sealift::load::{Candidates, LoadOptions, Target as _};
use sealift::{Error, Result};
use serde_json::json;

use super::super::containerd::ContainerdArgs;
use super::super::output::{Failure, Output};
use super::report::{EngineReport, print_error, print_space, space_json};

/// A socket of containerd, and what answers there.
pub struct Examined {
    socket: PathBuf,
    found: Result<Inventory>,
}

/// Asks every containerd of this host, or only the one at the address that an option names.
pub fn examine(facts: &Facts, args: &ContainerdArgs) -> Vec<Examined> {
    let mut examined: Vec<Examined> = Vec::new();
    let mut sockets = args
        .address()
        .map_or_else(|| sockets(facts), |named| vec![named.into()]);
    if sockets.is_empty() && args.given().is_some() {
        sockets.push(CONTAINERD[0].path());
    }
    for socket in sockets {
        if !examined.iter().any(|known| is_same(&known.socket, &socket)) {
            let found = ask(&socket, args);
            examined.push(Examined { socket, found });
        }
    }
    examined
}

/// The sockets of the containerds that were found.
fn sockets(facts: &Facts) -> Vec<PathBuf> {
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
    sockets
}

fn ask(socket: &Path, args: &ContainerdArgs) -> Result<Inventory> {
    let options = Options {
        address: Some(socket.into()),
        ..args.options()
    };
    Containerd::connect(&options)?.probe(&Candidates::default(), &LoadOptions::default())
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
                space: inventory.details.space.content.as_ref().map(space_json),
                details: json!({
                    "namespace": inventory.namespace,
                    "reason": inventory.details.reason,
                    "snapshotter": inventory.details.snapshotter,
                    "unpacked": inventory.details.space.snapshots.as_ref().map(space_json),
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
            print_space(output, "  free space", space)?;
        }
        if let Some(space) = &details.space.snapshots {
            print_space(output, "  free space for unpacked layers", space)?;
        }
        if let Some(platform) = &inventory.platform {
            output.line(format_args!("  platform: {platform}"))?;
        }
        output.line(format_args!("  images: {}", inventory.images.len()))?;
        output.line("  digests: are shown after every load")
    }
}
