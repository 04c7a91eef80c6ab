//! From archives to a target: [`load`] verifies archives and loads their images into a [`Target`].
//!
//! A target has three steps: [`Target::probe`] asks what it has, [`Target::plan`] decides what is sent, named
//! and attached, and [`Target::apply`] does it and reports what the target shows afterwards.
//!
//! - `candidate`: the images of verified archives
//! - `inventory`: what a target has
//! - `options`: which of them to load, and under which names
//! - `plan`, `plan_text`: what a load will do; `report`: what it has done
//! - `unmatched`: images that have nothing for a target
//! - `merged`: the blobs of all archives; `copier`: reads them for a target and verifies them
//! - `obstacle`: why something is not possible, and what would help

mod candidate;
mod copier;
mod inventory;
mod merged;
mod obstacle;
mod options;
mod plan;
mod plan_text;
mod report;
#[cfg(test)]
pub(crate) mod sample;
mod unmatched;

use crate::archive::{self, Layout};
use crate::error::{Error, Hint, Remedy, Result};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::verify;

pub use crate::image::provenance::Evidence;
pub use candidate::{Candidate, Candidates, DamagedImage};
pub use copier::Copier;
pub use inventory::{Inventory, KnownImage, LayerForms, chains};
pub use merged::MergedBlobs;
pub use obstacle::Obstacle;
pub use options::{LoadOptions, Selected};
pub use plan::{
    AttachMethod, Attachment, Change, DigestStatus, DiskSpace, Form, Plan, PlanDetails, PlannedImage,
    Platforms, Skipped, UploadBlob,
};
pub use report::{Loaded, LoadedDetails, Report, ReportDetails};

/// A place to load images into.
pub trait Target {
    /// What only this kind of target has in its inventory.
    type Details: serde::Serialize + serde::de::DeserializeOwned;

    /// Asks what the target has of the wanted images. Changes nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    fn probe(&self, wanted: &Candidates<'_>) -> Result<Inventory<Self::Details>>;

    /// Decides what is sent, named and attached, and finds the obstacles. Pure: it depends on the inventory, which may
    /// have been read from a document, and not on the target.
    ///
    /// # Errors
    ///
    /// If a requested image is not a candidate, or cannot be loaded at all.
    fn plan(
        &self,
        candidates: &Candidates<'_>,
        options: &LoadOptions,
        inventory: &Inventory<Self::Details>,
    ) -> Result<Plan>;

    /// Executes the plan, names last, and asks what is shown.
    ///
    /// # Errors
    ///
    /// If content could not be sent or is not right on the target. Nothing was named then.
    fn apply(
        &self,
        candidates: &Candidates<'_>,
        plan: &Plan,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Report>;
}

/// The result of a load.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// What a load would do, for a dry run.
    Planned(Plan),
    /// What it has done.
    Loaded(Report),
}

/// Receives reports of a load before its outcome.
pub trait Observer {
    /// An archive is damaged. `is_refused` if nothing of it is loaded, which ends the load with an error.
    fn damaged(&mut self, report: &verify::Report, is_refused: bool) {
        let _ = (report, is_refused);
    }

    /// The plan is made, and nothing was changed yet.
    fn planned(&mut self, plan: &Plan) {
        let _ = plan;
    }
}

/// Ignores the reports.
impl Observer for () {}

/// Loads images of archives into a target, after verifying every byte of the archives.
///
/// # Errors
///
/// [`Error::Unverified`] if an archive is damaged and damaged images are not skipped; the errors of the
/// target's `probe`, `plan` and `apply`; [`Error::Io`] if the target certainly has not enough space. Nothing
/// was named then.
pub fn load<T: Target>(
    target: &T,
    archives: &[Box<dyn Layout>],
    options: &LoadOptions,
    observer: &mut dyn Observer,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Outcome> {
    let mut candidates = Candidates::default();
    for archive in archives {
        let archive = archive.as_ref();
        let found = archive::verify(archive, &options.verify, progress, interrupt)?;
        candidates.add(archive, &usable(found, options, observer)?)?;
    }
    let inventory = target.probe(&candidates)?;
    let plan = target.plan(&candidates, options, &inventory)?;
    observer.planned(&plan);
    if options.dry_run {
        return Ok(Outcome::Planned(plan));
    }
    plan.check_space()?;
    let report = target.apply(&candidates, &plan, progress, interrupt)?;
    Ok(Outcome::Loaded(report))
}

/// Refuses a damaged archive, unless some of its images have no errors and the others are skipped.
fn usable(
    found: verify::Report,
    options: &LoadOptions,
    observer: &mut dyn Observer,
) -> Result<verify::Report> {
    if found.is_good() {
        return Ok(found);
    }
    let has_whole = found.images.iter().any(|image| image.is_good);
    let is_refused = !(options.keep_going && has_whole);
    observer.damaged(&found, is_refused);
    if !is_refused {
        return Ok(found);
    }
    found.into_good().map_err(|error| match error {
        Error::Unverified { place, count, .. } if has_whole => Error::Unverified {
            place,
            count,
            hint: Some(Hint::from("nothing was loaded").and(Remedy::KeepGoing)),
        },
        other => other,
    })
}
