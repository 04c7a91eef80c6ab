//! From archives to a target: [`load`] verifies archives, and has a [`Target`] take their images in.
//!
//! A target is three steps: [`Target::probe`] asks what it has, [`Target::plan`] says what will be sent, named and
//! attached, and what is in the way, and [`Target::apply`] does it and reports what the target shows afterwards.
//!
//! - `candidate`: the images of verified archives, which can be loaded
//! - `options`: which of them are loaded, and under which names
//! - `plan`: what a load will do; `report`: what it has done
//! - `unmatched`: images that have nothing for a target; `merged`: the blobs of all archives
//! - `obstacle`: what is in the way of a digest or an image

mod candidate;
mod merged;
mod obstacle;
mod options;
mod plan;
mod report;
#[cfg(test)]
pub(crate) mod sample;
mod unmatched;

use crate::archive::content::Content;
use crate::archive::verify;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::progress::Progress;

pub use crate::image::provenance::Evidence;
pub use candidate::{Candidate, Candidates, DamagedImage};
pub use merged::MergedBlobs;
pub use obstacle::{Obstacle, ObstacleKind};
pub use options::{LoadOptions, Selected};
pub use plan::{
    AttachMethod, Attachment, Change, DigestStatus, DiskSpace, Form, Plan, PlanDetails, PlannedImage,
    Platforms, Skipped, UploadBlob,
};
pub use report::{Loaded, LoadedDetails, Report, ReportDetails};

/// The version of the JSON documents that plans and reports are printed as.
const SCHEMA: u32 = 1;

/// A place that images are loaded into.
pub trait Target {
    /// What such a place tells about itself.
    type Inventory: serde::Serialize;

    /// Asks what the target has of what is wanted. Changes nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    fn probe(&self, wanted: &Candidates<'_>) -> Result<Self::Inventory>;

    /// Says what will be sent, named and attached, and what is in the way. Pure.
    ///
    /// # Errors
    ///
    /// If what is asked for is not offered, or cannot be loaded at all.
    fn plan(
        &self,
        candidates: &Candidates<'_>,
        options: &LoadOptions,
        inventory: &Self::Inventory,
    ) -> Result<Plan>;

    /// Does it, names last, and asks what is shown.
    ///
    /// # Errors
    ///
    /// If content could not be sent or is not right on the target: then nothing was named.
    fn apply(
        &self,
        candidates: &Candidates<'_>,
        plan: &Plan,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Report>;
}

/// What came of a load.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// What a load would do, if nothing was to be changed.
    Planned(Plan),
    /// What it has done.
    Loaded(Report),
}

/// Hears of a load before its outcome.
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

/// Hears nothing.
impl Observer for () {}

/// Loads images of archives into a target, after every byte of the archives was verified.
///
/// # Errors
///
/// [`Error::Unverified`] if an archive is damaged and damaged images are not to be skipped; what a target's `probe`,
/// `plan` and `apply` fail with; [`Error::Io`] if the target certainly has not enough space. Nothing was named then.
pub fn load<T: Target>(
    target: &T,
    archives: &[Box<dyn Content>],
    options: &LoadOptions,
    observer: &mut dyn Observer,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Outcome> {
    let mut candidates = Candidates::default();
    for archive in archives {
        let archive = archive.as_ref();
        let found = verify::verify(archive, &options.verify, progress, interrupt)?;
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

/// Refuses an archive that is damaged, unless images of it are whole and the others are to be skipped.
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
            hint: Some("nothing was loaded; --keep-going loads the images that are whole".into()),
        },
        other => other,
    })
}
