//! What `doctor` says about podman, and about the storage of CRI-O.

use std::path::PathBuf;

use sealift::host::{Choice, Engine, Facts};
use sealift::load::Obstacle;
use sealift::podman::{Inventory, Options, OwnDigest, policy_obstacles};
use sealift::{Error, Result};
use serde_json::json;

use super::super::output::{Failure, Output};
use super::super::size::Size;
use super::super::{podman, remedy};
use super::report::{EngineReport, print_error};

/// podman, or CRI-O, and what its storage has.
pub struct Examined {
    engine: Engine,
    found: Result<Found>,
}

struct Found {
    inventory: Inventory,
    own: Vec<OwnDigest>,
    obstacles: Vec<Obstacle>,
}

/// Asks the podman of this user, and looks at the storage of CRI-O, if the host has them.
pub fn examine(facts: &Facts, choice: Option<&Choice>) -> Vec<Examined> {
    let engines = facts.engines().into_iter();
    let engines = engines.filter(|engine| matches!(engine, Engine::Podman | Engine::Crio));
    let examined = engines.map(|engine| {
        let chosen = choice.filter(|choice| choice.engine == engine);
        let socket = chosen.and_then(|choice| choice.socket.clone());
        Examined {
            engine,
            found: ask(engine, socket),
        }
    });
    examined.collect()
}

fn ask(engine: Engine, socket: Option<PathBuf>) -> Result<Found> {
    let options = Options {
        socket,
        ..Options::from_process()
    };
    let podman = podman::connect(engine, options)?;
    let inventory = podman.inventory()?;
    Ok(Found {
        own: podman.own_digests(&inventory),
        obstacles: inventory
            .details
            .unserved
            .clone()
            .into_iter()
            .chain(policy_obstacles())
            .collect(),
        inventory,
    })
}

impl Examined {
    /// Which of the two it is.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Why it cannot be asked.
    pub fn error(&self) -> Option<&Error> {
        self.found.as_ref().err()
    }

    /// What is common to all engines.
    pub fn report(&self) -> EngineReport {
        let Found {
            inventory,
            own,
            obstacles,
        } = match &self.found {
            Err(error) => return EngineReport::unreachable(self.engine, self.engine.word(), error),
            Ok(found) => found,
        };
        let details = &inventory.details;
        let space = |space: &sealift::load::Space| json!({ "path": space.path, "free": space.free });
        EngineReport {
            load: Some("by podman pull, from a server of sealift's own"),
            details: json!({
                "driver": details.driver,
                "root": details.root,
                "runroot": details.runroot,
                "rootless": details.is_rootless,
                "temporary": details.temporary.as_ref().map(space),
                "own_digests": own,
            }),
            space: details.space.as_ref().map(space),
            obstacles: obstacles.clone(),
            ..EngineReport::of(self.engine, inventory)
        }
    }

    /// Prints all of it.
    pub fn print(&self, output: &Output) -> Result<(), Failure> {
        let found = match &self.found {
            Ok(found) => found,
            Err(error) => return print_error(output, error),
        };
        let inventory = &found.inventory;
        let details = &inventory.details;
        output.line(format_args!(
            "{}: version {}",
            inventory.target,
            inventory.version.as_deref().unwrap_or_default()
        ))?;
        let user = if details.is_rootless {
            "rootless"
        } else {
            "of root"
        };
        output.line(format_args!(
            "  storage: {} ({user}), state in {}",
            details.driver,
            details.runroot.display()
        ))?;
        if let Some(platform) = &inventory.platform {
            output.line(format_args!("  platform: {platform}"))?;
        }
        output.line(format_args!("  images: {}", inventory.images.len()))?;
        if let Some(space) = &details.space {
            output.line(format_args!("  space: {} are free", Size(space.free)))?;
        }
        if let Some(space) = &details.temporary {
            let path = space.path.display();
            let free = Size(space.free);
            output.line(format_args!(
                "  podman's temporary files: {free} are free in {path}"
            ))?;
        }
        match found.obstacles.is_empty() {
            true => output.line("  digests: are shown after every load")?,
            false => output.line("  digests: are shown after a load; not every image can be loaded")?,
        }
        for obstacle in &found.obstacles {
            output.line(format_args!("    {obstacle}"))?;
            if let Some(hint) = remedy::of_obstacle(obstacle) {
                output.line(format_args!("    hint: {hint}"))?;
            }
        }
        print_own(output, &found.own)
    }
}

/// Prints the digests that no registry has.
fn print_own(output: &Output, own: &[OwnDigest]) -> Result<(), Failure> {
    for one in own {
        let name = one.names.first().unwrap_or(&one.image_id);
        let why = match one.is_substitute {
            true => "its manifest could not be recovered",
            false => "a build or a podman load made it",
        };
        output.line(format_args!(
            "  no registry's digest: {name} shows {}; {why}",
            one.digest
        ))?;
    }
    if own.iter().any(|one| !one.is_substitute) {
        output.line(
            "    hint: for an image of a registry, `sealift load --force` of an archive with its original manifest \
             replaces it",
        )?;
    }
    Ok(())
}
