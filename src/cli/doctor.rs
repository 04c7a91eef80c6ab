//! `sealift doctor`.

use clap::Args;
use sealift::docker::attach::folder::Folder;
use sealift::docker::inventory::{Inventory, Store};
use sealift::docker::{self, Docker};
use sealift::interrupt::Interrupt;
use sealift::target::Target as _;

use super::bars;
use super::output::{Failure, Outcome, Output};

/// Tell what this host has, how digests would be shown, and what is in the way
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sudo sealift doctor
  sudo sealift doctor --repair     # undo what a killed load left behind

Nothing is changed without --repair.")]
pub struct Doctor {
    /// Undo what a load that was killed has left: mounts, and the mirror in Docker's memory
    #[arg(long)]
    repair: bool,
}

impl Doctor {
    /// Looks, and repairs if that is wanted.
    pub fn run(&self, output: &Output, interrupt: &Interrupt) -> Outcome {
        interrupt.check()?;
        let progress = bars::progress(output);
        let folder = Folder::default();
        let repaired = self.repair && docker::repair(&folder, progress.as_ref())?;
        progress.done();
        let leftover = folder.has_leftover()?;
        let inventory = Docker::connect(&docker::Options::from_process()).and_then(|docker| docker.probe());
        if output.is_json() {
            output.json(&serde_json::json!({
                "schema": 1,
                "repaired": repaired,
                "leftover": leftover,
                "docker": inventory.as_ref().ok(),
                "error": inventory.as_ref().err().map(ToString::to_string),
            }))?;
        } else {
            match &inventory {
                Ok(inventory) => engine(output, inventory)?,
                Err(error) => {
                    output.line(format_args!("docker: {error}"))?;
                    if let Some(hint) = error.hint() {
                        output.line(format_args!("  hint: {hint}"))?;
                    }
                }
            }
            output.line(match (leftover, repaired) {
                (true, _) => "leftovers: a killed load left something; `sealift doctor --repair` undoes it",
                (false, true) => "leftovers: undone",
                (false, false) => "leftovers: none",
            })?;
        }
        match inventory {
            Ok(_) => Ok(if leftover { 6 } else { 0 }),
            Err(error) => Ok(error.exit_code()),
        }
    }
}

fn engine(output: &Output, inventory: &Inventory) -> Result<(), Failure> {
    let store = match inventory.store {
        Store::Classic => "classic",
        Store::Containerd => "containerd",
    };
    output.line(format_args!(
        "docker: {} at {}",
        inventory.version, inventory.engine
    ))?;
    output.line(format_args!("  store: {store} ({})", inventory.driver))?;
    output.line(format_args!("  platform: {}", inventory.platform))?;
    output.line(format_args!("  images: {}", inventory.images.len()))?;
    if inventory.store == Store::Containerd {
        return output.line("  digests: are shown after every load");
    }
    for way in &inventory.attach {
        if way.obstacles.is_empty() {
            output.line(format_args!("  digests: can be attached by the {}", way.strategy))?;
        }
        for obstacle in &way.obstacles {
            output.line(format_args!("  digests: not by the {}: {obstacle}", way.strategy))?;
            if let Some(hint) = &obstacle.hint {
                output.line(format_args!("    hint: {hint}"))?;
            }
        }
    }
    Ok(())
}
