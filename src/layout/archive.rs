//! One archive as a target: written anew, as `save` writes it, beside its place and renamed when it is whole.

use std::path::PathBuf;
use std::sync::Arc;

use super::{inputs, is_private};
use crate::archive::TarPlan;
use crate::archive::writer::file_system::FileSystem;
use crate::archive::writer::{self, Writer};
use crate::error::{Remedy, Result};
use crate::interrupt::Interrupt;
use crate::load::chosen::{self, Chosen};
use crate::load::{self, Candidates, Change, Copier, DiskSpace, LoadOptions, Plan, Report, Target};
use crate::oci::Platform;
use crate::progress::Progress;
use crate::transfer::Sink as _;

/// An archive that images are loaded into. What has its name is replaced.
#[derive(Debug, Clone)]
pub struct ArchiveTarget {
    path: PathBuf,
    split: Option<u64>,
}

/// What there is for an archive.
pub type Inventory = load::Inventory<Details>;

/// What only an archive has in its inventory.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Details {
    /// The folder that it is written to.
    pub folder: PathBuf,
    /// Free bytes there.
    pub free: u64,
}

impl ArchiveTarget {
    /// An archive at `path`, in parts of `split` bytes if it is to be split.
    ///
    /// # Errors
    ///
    /// If an archive cannot be written there.
    pub fn new(path: impl Into<PathBuf>, split: Option<u64>) -> Result<ArchiveTarget> {
        let path = path.into();
        writer::check_place(&path, split.is_some(), Remedy::LoadInto)?;
        Ok(ArchiveTarget { path, split })
    }
}

impl Target for ArchiveTarget {
    type Details = Details;

    fn probe(&self, wanted: &Candidates<'_>, _: &LoadOptions) -> Result<Inventory> {
        inputs(wanted).refuse_archive(&self.path)?;
        let located = writer::locate(&self.path)?;
        let file_system = FileSystem::under(&located.dir)?;
        let details = Details {
            folder: located.dir.path().to_path_buf(),
            free: file_system.free,
        };
        Ok(Inventory::new(self.path.display().to_string(), details))
    }

    fn plan(
        &self,
        candidates: &Candidates<'_>,
        options: &LoadOptions,
        inventory: &Inventory,
    ) -> Result<Plan> {
        let mut plan = Plan::new(format!("archive {}", inventory.target));
        let chosen = chosen::choose(candidates, options, &mut plan)?;
        let tar = tar_plan(&chosen)?;
        plan.images = chosen::planned(&chosen, candidates, |_| (Change::New, false));
        plan.send = chosen::blobs(&chosen);
        plan.space = Some(DiskSpace {
            path: inventory.details.folder.display().to_string(),
            needed: tar.size(),
            free: inventory.details.free,
            is_insufficient: tar.size() > inventory.details.free,
            hint: "free some space, or write to another disk".into(),
        });
        Ok(plan)
    }

    fn apply(
        &self,
        candidates: &Candidates<'_>,
        plan: &Plan,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Report> {
        let mut report = Report::new(plan);
        if plan.images.is_empty() {
            return Ok(report);
        }
        let chosen = chosen::of_plan(plan, candidates)?;
        let tar = Arc::new(tar_plan(&chosen)?);
        let options = writer::Options {
            split: self.split,
            // Its bytes are at hand: there is nothing to fetch again.
            resume: false,
            private: is_private(candidates),
            in_order: false,
            beside: 0,
            sign: None,
        };
        let located = writer::locate(&self.path)?;
        let writer = Writer::create(located, Arc::clone(&tar), &options, interrupt)?;
        progress.phase(
            "writing",
            Some(tar.blobs().iter().map(|blob| blob.descriptor.size).sum()),
        );
        let copier = Copier::new(candidates, progress, interrupt);
        let mut proofs = Vec::new();
        for blob in tar.blobs() {
            let blob = &blob.descriptor;
            writer.begin(blob, &mut |_| Ok(()))?;
            proofs.push(copier.copy(blob, &mut |at, bytes| writer.write(blob, at, bytes))?);
        }
        progress.phase("writing to disk", None);
        report.details.files = writer.seal(&proofs)?.files;
        report.details.digest = Some(tar.digest());
        report.sent = tar.size();
        report.images = chosen::loaded(plan, &plan.send);
        Ok(report)
    }
}

/// The archive of these images.
fn tar_plan(chosen: &[Chosen]) -> Result<TarPlan> {
    TarPlan::new(&chosen::listed(chosen), &Platform::host())
}
