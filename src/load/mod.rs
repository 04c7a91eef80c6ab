//! Where images go. A target is three steps: [`Target::probe`] asks what the host has, [`Target::plan`] says
//! what will be sent, named and attached, and what is in the way, and [`Target::apply`] does it and asks
//! afterwards what is shown.
//!
//! - `candidate`: the images of verified archives, which can be loaded
//! - `options`: which of them are loaded, and under which names
//! - `plan`: what a load will do; `report`: what it has done
//! - `obstacle`: what is in the way of a digest or an image

mod candidate;
mod obstacle;
mod options;
mod plan;
mod report;
#[cfg(test)]
pub(crate) mod sample;

use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::progress::Progress;

pub use crate::image::provenance::Evidence;
pub use candidate::{Candidate, Candidates, DamagedImage};
pub use obstacle::{Obstacle, ObstacleKind};
pub use options::{Attach, LoadOptions, Selected};
pub use plan::{
    AttachMethod, Attachment, Change, DigestStatus, DiskSpace, Form, Plan, PlannedImage, Skipped, UploadBlob,
};
pub use report::{Loaded, Report};

/// The version of the JSON documents that plans and reports are printed as.
const SCHEMA: u32 = 1;

/// A place that images are loaded into.
pub trait Target {
    /// What such a place tells about itself.
    type Inventory: serde::Serialize;

    /// Asks what the target has of what is wanted; without it, of everything. Changes nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    fn probe(&self, wanted: Option<&Candidates<'_>>) -> Result<Self::Inventory>;

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
