//! What `doctor` says about Docker.

use sealift::docker::api::info::Store;
use sealift::docker::endpoint::{Endpoint, Environment};
use sealift::docker::inventory::Inventory;
use sealift::docker::{self, Docker};
use sealift::host::Engine;
use sealift::load::{DigestStatus, Obstacle};
use sealift::{Error, Result};
use serde_json::json;

use super::super::output::{Failure, Output};
use super::super::remedy;
use super::report::{EngineReport, print_space, space_json};

/// A Docker that has answered.
pub struct Examined {
    inventory: Inventory,
    kinds: Vec<KindOfNames>,
}

/// Asks Docker for everything; with `tidies`, also removes manifests that are kept for images that it no longer has.
///
/// # Errors
///
/// If it cannot be asked.
pub fn examine(tidies: bool) -> Result<Examined> {
    let docker = Docker::connect(&docker::Options::from_process())?;
    let mut inventory = docker.inventory()?;
    if tidies {
        docker.tidy();
    }
    let mut kinds = kinds(&docker, &inventory)?;
    for option in &mut inventory.details.attach {
        remedy::word_all(&mut option.obstacles);
    }
    for kind in &mut kinds {
        remedy::word_status(&mut kind.digest_status);
    }
    Ok(Examined { inventory, kinds })
}

/// Where Docker is, as far as its settings say.
pub fn address() -> String {
    let environment = Environment::from_process();
    Endpoint::find(&environment).map_or_else(|_| "docker".into(), |endpoint| endpoint.to_string())
}

impl Examined {
    /// The kinds of names, in JSON.
    pub fn kinds(&self) -> &impl serde::Serialize {
        &self.kinds
    }

    /// What is common to all engines.
    pub fn report(&self) -> EngineReport {
        let details = &self.inventory.details;
        let is_classic = details.store == Store::Classic;
        let mut obstacles: Vec<Obstacle> = Vec::new();
        for kind in &self.kinds {
            if let DigestStatus::Unavailable { obstacles: new } = &kind.digest_status {
                let new: Vec<Obstacle> = new
                    .iter()
                    .filter(|obstacle| !obstacles.contains(obstacle))
                    .cloned()
                    .collect();
                obstacles.extend(new);
            }
        }
        EngineReport {
            load: Some(match is_classic {
                true => "over its API; digests are attached",
                false => "over its API",
            }),
            details: json!({ "store": details.store, "driver": details.driver }),
            space: details.space.as_ref().map(space_json),
            obstacles,
            ..EngineReport::of(Engine::Docker, &self.inventory)
        }
    }

    /// The inventory in JSON, without what only a plan needs.
    pub fn document(&self) -> Result<serde_json::Value> {
        let inventory = &self.inventory;
        let json = |value: serde_json::Result<serde_json::Value>| {
            value.map_err(|error| Error::Usage {
                message: format!("the inventory cannot be written as JSON: {error}"),
                hint: None,
            })
        };
        let mut docker = json(serde_json::to_value(&inventory.details))?;
        for (part, private) in [("network", "nsswitch"), ("restart", "control")] {
            if let Some(part) = docker["host"][part].as_object_mut() {
                part.remove(private);
            }
        }
        docker["engine"] = inventory.target.as_str().into();
        docker["version"] = inventory.version.as_deref().into();
        docker["platform"] = inventory.platform.as_ref().map(ToString::to_string).into();
        let platforms = inventory.platforms.iter().map(ToString::to_string);
        docker["platforms"] = platforms.collect::<Vec<_>>().into();
        docker["zstd"] = inventory.accepts.zstd.into();
        docker["images"] = json(serde_json::to_value(&inventory.images))?;
        Ok(docker)
    }

    /// Prints all of it.
    pub fn print(&self, output: &Output) -> Result<(), Failure> {
        let (inventory, kinds) = (&self.inventory, &self.kinds);
        let store = match inventory.details.store {
            Store::Classic => "classic",
            Store::Containerd => "containerd",
        };
        output.line(format_args!(
            "{}: version {}",
            inventory.target,
            inventory.version.as_deref().unwrap_or_default()
        ))?;
        output.line(format_args!("  store: {store} ({})", inventory.details.driver))?;
        if let Some(platform) = &inventory.platform {
            output.line(format_args!("  platform: {platform}"))?;
        }
        output.line(format_args!("  images: {}", inventory.images.len()))?;
        if let Some(space) = &inventory.details.space {
            print_space(output, "  free space", space)?;
        }
        if let Some(pid) = inventory.details.host.pid {
            output.line(format_args!("  process: {pid}"))?;
        }
        if let Some(file) = &inventory.details.host.config_file {
            let absent = if file.exists() { "" } else { " (does not exist)" };
            output.line(format_args!("  configuration: {}{absent}", file.display()))?;
        }
        if let Some(impact) = &inventory.details.host.restart {
            let containers = impact.on_containers(false);
            output.line(format_args!("  in a restart: {}", impact.describe(&containers)))?;
        }
        if inventory.details.store == Store::Containerd {
            return output.line("  digests: are shown after every load");
        }
        let mut groups: Vec<(&DigestStatus, Vec<&str>)> = Vec::new();
        for KindOfNames { names, digest_status } in kinds {
            match groups.last_mut() {
                Some((known, all))
                    if *known == digest_status
                        && matches!(digest_status, DigestStatus::Unavailable { .. }) =>
                {
                    all.push(names);
                }
                _ => groups.push((digest_status, vec![names])),
            }
        }
        for (digest_status, names) in groups {
            let names = names.join(", ");
            match digest_status {
                DigestStatus::Unavailable { obstacles } => {
                    output.line(format_args!("  digests of {names}: cannot be attached"))?;
                    for obstacle in obstacles {
                        output.line(format_args!("    {obstacle}"))?;
                        if let Some(hint) = remedy::of_obstacle(obstacle) {
                            output.line(format_args!("    hint: {hint}"))?;
                        }
                    }
                }
                DigestStatus::ViaAttach { method } => {
                    output.line(format_args!("  digests of {names}: can be attached ({method})"))?;
                }
                DigestStatus::Native
                | DigestStatus::Present
                | DigestStatus::Declined
                | DigestStatus::NoDigest { .. } => {
                    output.line(format_args!("  digests of {names}: are shown"))?;
                }
            }
        }
        Ok(())
    }
}

/// A kind of names, and how their digests get shown.
#[derive(serde::Serialize)]
struct KindOfNames {
    names: &'static str,
    #[serde(flatten)]
    digest_status: DigestStatus,
}

fn kinds(docker: &Docker, inventory: &Inventory) -> Result<Vec<KindOfNames>> {
    let kinds = [
        ("docker.io", "docker.io/library/app"),
        ("other registries", "registry.example/app"),
        ("registries with a port", "registry.example:5000/app"),
        ("registries of this host", "localhost:5000/app"),
    ];
    kinds
        .into_iter()
        .map(|(names, sample)| {
            let digest_status = docker.digest_status(&sample.parse()?, inventory);
            Ok(KindOfNames { names, digest_status })
        })
        .collect()
}
