//! What a load has done, image by image.

use std::path::PathBuf;

use super::plan::Platforms;
use super::{Change, DigestStatus, Evidence, LoadedReferrers, Obstacle, Plan, PlannedImage, Skipped};
use crate::error::{Error, ErrorKind};
use crate::oci::{Digest, Reference};
use crate::trust::Verdict;

/// What only some targets report about an image; others leave it empty.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct LoadedDetails {
    /// Whether the digest is not attached, as requested.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub declined: bool,
    /// Whether the digest was to be attached, because the target did not show it.
    #[serde(skip)]
    pub attached: bool,
    /// What changes the digest in a later push from the target, with `keep_push_digest`; empty if nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<Vec<Obstacle>>,
    /// What the policy of the load says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Verdict>,
}

/// The result for one image.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Loaded {
    /// Its name.
    #[serde(serialize_with = "Reference::serialize_name")]
    pub name: Reference,
    /// The tag that names it now, if one was to be set.
    pub tag: Option<Reference>,
    /// The effect on its name.
    #[serde(flatten)]
    pub change: Change,
    /// Its digest; `None` if not known.
    pub digest: Option<Digest>,
    /// Digest of its config; `None` if the target got several images, or one without a config.
    pub image_id: Option<Digest>,
    /// The platforms that the target got.
    #[serde(flatten)]
    pub platforms: Platforms,
    /// Whether the target cannot run these platforms.
    #[serde(rename = "foreign")]
    pub is_foreign: bool,
    /// The evidence for the digest.
    pub evidence: Evidence,
    /// Whether the target shows the digest; `None` if there is none to show.
    pub shown: Option<bool>,
    /// Why the digest is not shown, or why the name is not set.
    pub obstacles: Vec<Obstacle>,
    /// Why there is no digest, if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_digest: Option<String>,
    /// What the target shows of what refers to it.
    #[serde(skip_serializing_if = "LoadedReferrers::is_empty")]
    pub referrers: LoadedReferrers,
    /// What only some targets report.
    #[serde(flatten)]
    pub details: LoadedDetails,
    /// Bytes of the blobs that were sent for it. Shared blobs count for the first image.
    pub sent: u64,
}

impl Loaded {
    /// An image of a plan, before its result is known.
    pub fn planned(planned: &PlannedImage) -> Loaded {
        Loaded {
            name: planned.name.clone(),
            tag: planned.tag.clone(),
            change: planned.change.clone(),
            digest: planned.digest,
            image_id: planned.image_id,
            platforms: planned.platforms.clone(),
            is_foreign: planned.is_foreign,
            evidence: planned.evidence,
            shown: planned.digest.map(|_| false),
            obstacles: planned.obstacles().to_vec(),
            no_digest: match &planned.digest_status {
                DigestStatus::NoDigest { reason } => Some(reason.clone()),
                _ => None,
            },
            referrers: planned.referrers.clone(),
            details: LoadedDetails {
                declined: planned.digest_status == DigestStatus::Declined,
                attached: matches!(planned.digest_status, DigestStatus::ViaAttach { .. }),
                push: None,
                policy: planned.policy.clone(),
            },
            sent: 0,
        }
    }

    /// Whether it is named and shown as requested.
    pub fn is_as_asked(&self) -> bool {
        self.obstacles.is_empty() && (self.shown != Some(false) || self.details.declined)
    }

    /// Whether the target shows a digest that nothing proves.
    pub fn is_unproven(&self) -> bool {
        self.evidence == Evidence::Recorded && self.shown == Some(true)
    }
}

/// What only some targets report: the others leave it empty.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct ReportDetails {
    /// Digest of `index.json` of the layout that was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The files that were written, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
    /// Warnings for the user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What a load has done.
#[derive(Debug, Clone)]
pub struct Report {
    /// The target.
    pub target: String,
    /// As [`Plan::version`].
    pub version: Option<String>,
    /// The images that are loaded.
    pub images: Vec<Loaded>,
    /// Requested images that were skipped, and those that were not loaded because of the error.
    pub skipped: Vec<Skipped>,
    /// What ended the load before all images were loaded. Only a target that names each image with its content has
    /// loaded some then.
    pub error: Option<Error>,
    /// Bytes of all streams that were sent, including their framing.
    pub sent: u64,
    /// What only some targets report.
    pub details: ReportDetails,
}

impl Report {
    /// A report without images, for a plan.
    pub fn new(plan: &Plan) -> Report {
        Report {
            target: plan.target.clone(),
            version: plan.version.clone(),
            images: Vec::new(),
            skipped: plan.skipped.clone(),
            error: None,
            sent: 0,
            details: ReportDetails {
                warnings: plan.details.warnings.clone(),
                ..ReportDetails::default()
            },
        }
    }

    /// Whether the load changed the target: something was sent, a name is new or moved, or a digest is attached.
    pub fn changed(&self) -> bool {
        let is_changed = |image: &Loaded| {
            image.change != Change::Unchanged || image.details.attached && image.shown == Some(true)
        };
        self.sent > 0 || self.images.iter().any(is_changed)
    }

    /// The most severe reason why an image is not loaded, named, shown and proven as requested.
    pub fn failure(&self) -> Option<ErrorKind> {
        let is_kept = |image: &Loaded| image.details.push.iter().flatten().next().is_none();
        let is_well = |image: &Loaded| image.is_as_asked() && !image.is_unproven() && is_kept(image);
        let shown = (!self.images.iter().all(is_well)).then_some(ErrorKind::NotShown);
        let error = self.error.as_ref().map(Error::kind);
        let skipped = self.skipped.iter().map(|image| image.kind);
        skipped.chain(error).chain(shown).max()
    }
}
