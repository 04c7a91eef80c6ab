//! `sealift doctor`.

use std::io;

use clap::Args;
use sealift::docker::api::info::Store;
use sealift::docker::attach::folder::Folder;
use sealift::docker::inventory::Inventory;
use sealift::docker::{self, Docker};
use sealift::error::ErrorKind;
use sealift::interrupt::Interrupt;
use sealift::load::DigestStatus;
use sealift::{Error, Result};

use super::bars;
use super::output::{Failure, Outcome, Output, error_json, hint_of};
use super::remedy;

/// Show what this host's Docker has, and what blocks attaching digests
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sudo sealift doctor
  sudo sealift doctor --repair     # undo what an interrupted load left

Without --repair, `doctor` changes nothing.")]
pub struct Doctor {
    /// Undo what an interrupted load left
    ///
    /// Unmounts files, clears the mirror from Docker's memory, and starts Docker if it was left stopped. Also removes
    /// manifests kept for images that Docker no longer has.
    #[arg(long)]
    repair: bool,
    /// Command that starts Docker if it was left stopped
    ///
    /// [default: the one that the load used]
    #[arg(long, value_name = "COMMAND", requires = "repair")]
    start_command: Option<String>,
}

impl Doctor {
    /// Reports, and repairs with `--repair`.
    pub fn run(&self, output: &Output, interrupt: &Interrupt) -> Outcome {
        interrupt.check()?;
        let progress = bars::progress(output);
        let folder = Folder::default();
        if self.repair && !rustix::process::geteuid().is_root() {
            return Err(Error::Io {
                action: "undo",
                path: "what a load left".into(),
                offset: None,
                source: io::Error::from(io::ErrorKind::PermissionDenied).into(),
                hint: Some("run it with sudo".into()),
            }
            .into());
        }
        let start = self.start_command.as_deref();
        let repaired = self.repair && docker::repair(&folder, start, progress.as_ref())?;
        progress.done();
        let leftover = leftover(&folder)?;
        let mut looked = Docker::connect(&docker::Options::from_process()).and_then(|docker| {
            let inventory = docker.inventory()?;
            if self.repair {
                docker.tidy();
            }
            let kinds = kinds(&docker, &inventory)?;
            Ok((inventory, kinds))
        });
        if output.is_json() {
            if let Ok((inventory, kinds)) = &mut looked {
                for option in &mut inventory.details.attach {
                    remedy::word_all(&mut option.obstacles);
                }
                for kind in kinds {
                    remedy::word_status(&mut kind.digest_status);
                }
            }
            output.json(&serde_json::json!({
                "schema": 1,
                "repaired": repaired,
                "leftover": leftover,
                "root": rustix::process::geteuid().is_root(),
                "docker": looked.as_ref().ok().map(|(inventory, _)| document(inventory)).transpose()?,
                "digests": looked.as_ref().ok().map(|(_, kinds)| kinds),
                "error": looked.as_ref().err().map(error_json),
            }))?;
        } else {
            match &looked {
                Ok((inventory, kinds)) => engine(output, inventory, kinds)?,
                Err(error) => {
                    output.line(error)?;
                    if let Some(hint) = hint_of(error) {
                        output.line(format_args!("  hint: {hint}"))?;
                    }
                }
            }
            output.line(match (leftover, repaired) {
                (None, _) => "leftovers: not known without root",
                (Some(true), _) => {
                    "leftovers: an interrupted load left something; `sealift doctor --repair` undoes it"
                }
                (Some(false), true) => "leftovers: undone",
                (Some(false), false) => "leftovers: none",
            })?;
        }
        match looked {
            Ok(_) => Ok((leftover == Some(true)).then_some(ErrorKind::NotShown)),
            Err(error) => Ok(Some(error.kind())),
        }
    }
}

/// Whether an interrupted load left something; `None` if only root can know.
fn leftover(folder: &Folder) -> Result<Option<bool>> {
    match folder.has_leftover() {
        Ok(found) => Ok(Some(found)),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
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

/// The inventory in JSON, without what only a plan needs.
fn document(inventory: &Inventory) -> Result<serde_json::Value> {
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

fn engine(output: &Output, inventory: &Inventory, kinds: &[KindOfNames]) -> Result<(), Failure> {
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
                if *known == digest_status && matches!(digest_status, DigestStatus::Unavailable { .. }) =>
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
