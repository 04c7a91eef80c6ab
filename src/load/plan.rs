//! What a load will do, image by image and as a whole.

use std::fmt;
use std::io;

use serde::ser::SerializeStruct as _;

use super::{Candidate, Candidates, Evidence, LoadedReferrers, Obstacle};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::image::Image;
use crate::oci::{Digest, Platform, Reference};
use crate::trust::Verdict;

/// By what the free space exceeds the known need if it is ample, beside `RESERVE`. Few images have less than a seventh of
/// their size when they are compressed, and the need has their stored bytes twice.
const AMPLE: u64 = 4;
/// Bytes for small images whose layers are nearly empty when they are compressed.
const RESERVE: u64 = 1 << 30;

/// How an image's digest gets shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case", tag = "way")]
pub enum DigestStatus {
    /// The target shows it by itself.
    #[serde(rename = "inherent")]
    Native,
    /// The target shows it already.
    #[serde(rename = "already")]
    Present,
    /// It is attached by this method.
    #[serde(rename = "attach")]
    ViaAttach {
        /// The method.
        #[serde(rename = "strategy")]
        method: AttachMethod,
    },
    /// It will not be shown.
    #[serde(rename = "hidden")]
    Unavailable {
        /// Why.
        obstacles: Vec<Obstacle>,
    },
    /// It is not attached, as requested.
    Declined,
    /// There is none: the image has only its name.
    NoDigest {
        /// Why there is none.
        reason: String,
    },
}

/// The effect of a load on an image's name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "change")]
pub enum Change {
    /// The name did not exist.
    New,
    /// It named another image.
    Moved {
        /// The target's id of that image.
        #[serde(rename = "moved_from")]
        from: String,
    },
    /// It names this image already.
    Unchanged,
}

/// The platforms of an image that a target gets. As JSON both `platforms` and, if there is one, `platform`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Platforms(pub Vec<Platform>);

impl Platforms {
    /// The platform, if there is one.
    pub fn only(&self) -> Option<&Platform> {
        match self.0.as_slice() {
            [platform] => Some(platform),
            _ => None,
        }
    }
}

impl From<Platform> for Platforms {
    fn from(only: Platform) -> Platforms {
        Platforms(vec![only])
    }
}

impl fmt::Display for Platforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(", "))
    }
}

impl serde::Serialize for Platforms {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        let mut fields = serializer.serialize_struct("Platforms", 2)?;
        fields.serialize_field("platform", &self.only().map(ToString::to_string))?;
        fields.serialize_field("platforms", &texts)?;
        fields.end()
    }
}

/// One image in a plan.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PlannedImage {
    /// Its position among the candidates.
    #[serde(skip)]
    pub candidate: usize,
    /// Its name, with a tag or a digest; its digest alone, if it has no name.
    #[serde(serialize_with = "Reference::serialize_name")]
    pub name: Reference,
    /// The tag to set, if there is one.
    pub tag: Option<Reference>,
    /// Its digest; `None` if not known.
    pub digest: Option<Digest>,
    /// Digest of its manifest or index in the archive, which may be a substitute.
    #[serde(skip)]
    pub root: Digest,
    /// Digests of the manifests of the images that the target gets.
    #[serde(skip)]
    pub manifests: Vec<Digest>,
    /// Digest of its config; `None` if the target gets several images, or one without a config.
    pub image_id: Option<Digest>,
    /// The platforms that the target gets.
    #[serde(flatten)]
    pub platforms: Platforms,
    /// Whether the target cannot run these platforms.
    #[serde(rename = "foreign")]
    pub is_foreign: bool,
    /// The evidence for the digest.
    pub evidence: Evidence,
    /// Whether the target has all of its content.
    pub present: bool,
    /// Whether the tag names this image already.
    pub tagged: bool,
    /// The effect on the name.
    #[serde(flatten)]
    pub change: Change,
    /// How its digest gets shown.
    #[serde(rename = "showing")]
    pub digest_status: DigestStatus,
    /// What the target will show of what refers to it.
    #[serde(skip_serializing_if = "LoadedReferrers::is_empty")]
    pub referrers: LoadedReferrers,
    /// What the policy of the load says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Verdict>,
}

impl PlannedImage {
    /// The name with the digest that is to be shown, if there is one.
    pub fn pinned(&self) -> Option<Reference> {
        let digest = self.digest?;
        Some(Reference::digested(self.name.repository(), digest))
    }

    /// The candidate, and the image of it that a target gets which takes one platform.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if the plan was made for other candidates.
    pub fn content<'c, 'a>(&self, candidates: &'c Candidates<'a>) -> Result<(&'c Candidate<'a>, &'c Image)> {
        let candidate = candidates.images.get(self.candidate);
        let found = candidate.and_then(|candidate| {
            let mut images = candidate.image.graph.runnable();
            let image = images.find(|image| self.manifests.contains(&image.descriptor.digest))?;
            Some((candidate, image))
        });
        found.ok_or_else(|| Error::Usage {
            message: format!(
                "the plan has {}, and it is not among the images to load",
                self.name
            ),
            hint: None,
        })
    }

    /// Whether its digest is shown without proof: the load succeeds, and reports it all the same.
    fn is_unproven(&self) -> bool {
        let is_shown = matches!(
            self.digest_status,
            DigestStatus::Present | DigestStatus::Native | DigestStatus::ViaAttach { .. }
        );
        is_shown && self.evidence == Evidence::Recorded
    }

    /// Why its digest cannot be shown, as far as that is known before the load.
    pub fn obstacles(&self) -> &[Obstacle] {
        match &self.digest_status {
            DigestStatus::Unavailable { obstacles } => obstacles,
            _ => &[],
        }
    }
}

/// A requested image that is skipped.
#[derive(Debug, Clone)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<Hint>,
    /// The kind of the reason.
    pub kind: ErrorKind,
}

/// The form of a blob that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A manifest or index.
    Document,
    /// A config.
    Config,
    /// A layer in the archive's form.
    Layer,
    /// A layer that is decompressed for the target; digest and size are those of the uncompressed tar.
    Uncompressed,
}

/// One blob that is sent.
#[derive(Debug, Clone, serde::Serialize)]
pub struct UploadBlob {
    /// Its digest, which is also its name in the stream.
    pub digest: Digest,
    /// Bytes in the stream.
    pub size: u64,
    /// Its form.
    pub form: Form,
    /// The first image in the plan that needs it.
    #[serde(skip)]
    pub image: usize,
}

/// A method of making an engine show digests, which it does not record in a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMethod {
    /// For a moment the engine has a mirror of docker.io that is this process.
    Mirror,
    /// For a moment names of registries resolve to this process, through `/etc/hosts`.
    Hosts,
    /// The digests are written into the store while the engine is not running.
    Offline,
}

impl fmt::Display for AttachMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AttachMethod::Mirror => "mirror",
            AttachMethod::Hosts => "hosts",
            AttachMethod::Offline => "offline",
        })
    }
}

/// What a method of attaching digests will do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Attachment {
    /// The method.
    #[serde(rename = "strategy")]
    pub method: AttachMethod,
    /// Whether the engine is stopped and started again.
    pub restarts: bool,
    /// Whether the engine is running.
    #[serde(skip)]
    pub runs: bool,
    /// The steps.
    pub steps: Vec<String>,
}

/// The disk space that a load needs, and the free space.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DiskSpace {
    /// The folder.
    pub path: String,
    /// Most bytes that are needed at the same time, as far as that is known.
    pub needed: u64,
    /// Free bytes.
    pub free: u64,
    /// Whether the load certainly does not fit, so that nothing is sent.
    #[serde(rename = "refused")]
    pub is_insufficient: bool,
    /// The hint for that case.
    #[serde(skip)]
    pub hint: Hint,
}

impl DiskSpace {
    /// Whether the load may not fit.
    pub fn is_short(&self) -> bool {
        self.needed > self.free
    }

    /// Whether the load fits even if layers are several times as large as their stored bytes.
    pub fn is_ample(&self) -> bool {
        let needed = self.needed.saturating_mul(AMPLE);
        self.needed == 0 || needed.saturating_add(RESERVE) <= self.free
    }

    /// Checks that the load may fit.
    ///
    /// # Errors
    ///
    /// If it certainly does not.
    pub fn check(&self) -> Result<()> {
        if !self.is_insufficient {
            return Ok(());
        }
        let said = format!("{} bytes are needed, {} are free", self.needed, self.free);
        Err(Error::Io {
            action: "load into",
            path: self.path.clone().into(),
            offset: None,
            source: io::Error::new(io::ErrorKind::StorageFull, said).into(),
            hint: Some(Hint::from("nothing was sent").and(self.hint.clone())),
        })
    }
}

/// An image of the target that is removed and loaded anew, because the target shows a wrong digest for it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Replaced {
    /// Its image id.
    pub image_id: Digest,
    /// The digest that the target shows.
    pub digest: Digest,
    /// Its names that are not among those to load. They are set again.
    pub names: Vec<String>,
}

/// What only some targets plan; others leave it empty.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct PlanDetails {
    /// How digests are attached.
    pub attach: Vec<Attachment>,
    /// The images that are replaced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<Replaced>,
    /// Warnings for the user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Whether the others are loaded if the target refuses one.
    #[serde(skip)]
    pub keeps_going: bool,
}

/// What a load will do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The target.
    pub target: String,
    /// Its version, if it is a program: that of its inventory.
    pub version: Option<String>,
    /// The images.
    pub images: Vec<PlannedImage>,
    /// Requested images that are skipped.
    pub skipped: Vec<Skipped>,
    /// What is sent.
    pub send: Vec<UploadBlob>,
    /// What only some targets plan.
    pub details: PlanDetails,
    /// The disk space that is needed, if the free space is known.
    pub space: Option<DiskSpace>,
}

impl Plan {
    /// An empty plan.
    pub fn new(target: impl Into<String>) -> Plan {
        Plan {
            target: target.into(),
            version: None,
            images: Vec::new(),
            skipped: Vec::new(),
            send: Vec::new(),
            details: PlanDetails::default(),
            space: None,
        }
    }

    /// Bytes of all blobs to send.
    pub fn bytes(&self) -> u64 {
        self.send.iter().map(|piece| piece.size).sum()
    }

    /// Whether the target certainly has enough space, as far as its free space is known.
    pub fn has_ample_space(&self) -> bool {
        self.space.as_ref().is_none_or(DiskSpace::is_ample)
    }

    /// Checks that the target may have enough space.
    ///
    /// # Errors
    ///
    /// If it certainly does not.
    pub fn check_space(&self) -> Result<()> {
        self.space.as_ref().map_or(Ok(()), DiskSpace::check)
    }

    /// The most severe reason why a load by this plan is incomplete even if every step succeeds.
    pub fn failure(&self) -> Option<ErrorKind> {
        let unavailable =
            |image: &PlannedImage| matches!(image.digest_status, DigestStatus::Unavailable { .. });
        let is_lacking = |image: &PlannedImage| unavailable(image) || image.is_unproven();
        let shown = self.images.iter().any(is_lacking).then_some(ErrorKind::NotShown);
        let space = self.check_space().err().map(|error| error.kind());
        let skipped = self.skipped.iter().map(|image| image.kind);
        skipped.chain(shown).chain(space).max()
    }
}
