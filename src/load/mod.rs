//! From archives to targets: [`load`] verifies archives and loads their images into a [`Target`], [`load_each`] into
//! several.
//!
//! A target has three steps: [`Target::probe`] asks what it has, [`Target::plan`] decides what is sent, named
//! and attached, and [`Target::apply`] does it and reports what the target shows afterwards.
//!
//! - `into`: verifies the archives, and loads into one target or several
//! - `early`: sends content while the archives are still being verified
//! - `candidate`: the images of verified archives
//! - `chosen`: images for targets that take them with several platforms
//! - `options`: which of them to load, and under which names
//! - `plan`, `plan_text`: what a load will do; `report`: what it has done
//! - `unmatched`: images that have nothing for a target; `refused`: images that it cannot have
//! - `policy`: images that a policy does not accept
//! - `merged`: the blobs of all archives; `copier`: reads them for a target and verifies them
//! - `omitted`: layers that archives leave out for a host that has them
//! - `referrers`: what a target shows of signatures, SBOMs and attestations
//! - `substitute`: images that a target has with their own manifests, when archives have substitutes for these
//! - `space`: whether a load fits
//! - `obstacle`: why something is not possible, and what would help

mod candidate;
pub(crate) mod chosen;
mod copier;
mod early;
mod into;
mod merged;
mod obstacle;
mod omitted;
mod options;
mod plan;
mod plan_text;
mod policy;
mod referrers;
mod refused;
mod report;
mod requested;
#[cfg(test)]
pub(crate) mod sample;
mod space;
pub(crate) mod substitute;
mod unmatched;

use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::verify;

pub use crate::image::provenance::Evidence;
pub use crate::inventory::{Inventory, KnownImage, LayerForms, chains};
pub use candidate::{Candidate, Candidates, DamagedImage};
pub use copier::Copier;
pub use early::{Early, Proof};
pub use into::{AnyTarget, load, load_each};
pub use merged::MergedBlobs;
pub use obstacle::Obstacle;
pub use omitted::LackingImage;
pub use options::{LoadOptions, Selected};
pub use plan::{
    AttachMethod, Attachment, Change, DigestStatus, DiskSpace, Form, Plan, PlanDetails, PlannedImage,
    Platforms, Replaced, Skipped, UploadBlob,
};
pub use referrers::{DroppedReferrers, LoadedReferrers};
pub use refused::Refusal;
pub use report::{Loaded, LoadedDetails, Report, ReportDetails};
pub use requested::Requested;
pub use space::Space;

/// A place to load images into.
pub trait Target {
    /// What only this kind of target has in its inventory.
    type Details: serde::Serialize + serde::de::DeserializeOwned;

    /// Asks what the target has of the wanted images that the options select. The answer may include more. Changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    fn probe(&self, wanted: &Candidates<'_>, options: &LoadOptions) -> Result<Inventory<Self::Details>>;

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

    /// What `apply` does while the archives are still being verified, of which only the documents were read.
    fn early(&self) -> Early {
        Early::Nothing
    }

    /// Executes the plan, names last, and asks what is shown.
    ///
    /// # Errors
    ///
    /// If content could not be sent or is not right on the target. No name was set then. A target that sets each name
    /// with its content, as podman does, has [`Report::error`] if it has loaded some images before.
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
