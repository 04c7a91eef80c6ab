//! What `doctor` says about podman, and about the storage of CRI-O.

use std::path::PathBuf;

use sealift::host::{Choice, Engine, Facts};
use sealift::load::Obstacle;
use sealift::podman::{Inventory, Options, OwnDigest};
use sealift::{Error, Result};
use serde_json::json;

use super::super::output::{Failure, Output};
use super::super::podman::PodmanArgs;
use super::super::{podman, remedy};
use super::report::{EngineReport, print_error, print_space, space_json};

/// podman, or CRI-O, and what its storage has.
pub struct Examined {
    engine: Engine,
    /// The options that name its storage, for a command line.
    storage: String,
    found: Result<Found>,
}

struct Found {
    inventory: Inventory,
    own: Vec<OwnDigest>,
    obstacles: Vec<Obstacle>,
}

/// Asks the podman of this user, and looks at the storage of CRI-O, if the host has them or, in the case of podman, an
/// option is for it. The options are podman's: the configuration of CRI-O says where its storage is.
pub fn examine(facts: &Facts, choice: Option<&Choice>, args: &PodmanArgs) -> Vec<Examined> {
    let mut engines = facts.engines();
    if args.given().is_some() && !engines.contains(&Engine::Podman) {
        engines.push(Engine::Podman);
    }
    let engines = engines.into_iter();
    let engines = engines.filter(|engine| matches!(engine, Engine::Podman | Engine::Crio));
    let examined = engines.map(|engine| {
        let chosen = choice.filter(|choice| choice.engine == engine);
        let socket = chosen.and_then(|choice| choice.socket.clone());
        Examined {
            engine,
            storage: match engine {
                Engine::Podman => args.words(),
                _ => String::new(),
            },
            found: ask(engine, socket, args),
        }
    });
    examined.collect()
}

fn ask(engine: Engine, socket: Option<PathBuf>, args: &PodmanArgs) -> Result<Found> {
    let options = match engine {
        Engine::Podman => args.options(),
        _ => Options::from_process(),
    };
    let options = Options { socket, ..options };
    let podman = podman::connect(engine, options)?;
    let inventory = podman.inventory()?;
    Ok(Found {
        own: podman.own_digests(&inventory),
        obstacles: inventory
            .details
            .unserved
            .clone()
            .into_iter()
            .chain(inventory.details.policy.obstacles())
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
        EngineReport {
            load: Some("by podman pull, from a server of sealift's own"),
            details: json!({
                "driver": details.driver,
                "root": details.root,
                "runroot": details.runroot,
                "rootless": details.is_rootless,
                "temporary": details.temporary.as_ref().map(space_json),
                "own_digests": own,
            }),
            space: details.space.as_ref().map(space_json),
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
            print_space(output, "  free space", space)?;
        }
        if let Some(space) = &details.temporary {
            print_space(output, "  free space for podman's temporary files", space)?;
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
        print_own(
            output,
            &found.own,
            &format!("--to {}{}", self.engine.word(), self.storage),
        )
    }
}

/// Prints the digests that no registry has; `target` are the options of a load into the same storage.
fn print_own(output: &Output, own: &[OwnDigest], target: &str) -> Result<(), Failure> {
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
        output.line(format_args!(
            "    hint: for an image of a registry, `sealift load ARCHIVE {target} --force` replaces it, if the archive has \
             its original manifest"
        ))?;
    }
    Ok(())
}
