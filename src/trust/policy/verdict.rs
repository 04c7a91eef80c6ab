//! What a check of an image by a policy found.

use std::fmt;

use serde::Serialize;
use serde::ser::SerializeMap as _;

use super::super::check::ManifestVerdict;
use super::RuleKind;
use crate::escape::Escaped;
use crate::oci::{Digest, Platform, Reference};

/// What a policy says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The image's name.
    pub name: Reference,
    /// Digest of its manifest or index.
    pub digest: Digest,
    /// The pattern or scope of the policy that the name is in; `None` if the default counts.
    pub scope: Option<String>,
    /// What the policy does with such images.
    pub rule: RuleKind,
    /// The manifests whose signatures were checked.
    pub manifests: Vec<ManifestVerdict>,
    /// The demands of the policy that are not met.
    pub unmet: Vec<Unmet>,
}

/// A demand of a policy that an image does not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// The manifest that does not meet it; `None` if it is the whole image.
    pub manifest: Option<Digest>,
    /// Its platform, if the index says so.
    pub platform: Option<Platform>,
    /// Why.
    pub reason: UnmetReason,
}

/// Why a demand is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnmetReason {
    /// The policy rejects images of this name.
    Rejected,
    /// The manifest has no signature.
    NotSigned,
    /// It has signatures, and none that counts.
    NoGoodSignature {
        /// Number of its signatures.
        bad: usize,
    },
    /// This build cannot check what the policy demands.
    NotSupported {
        /// What that is.
        what: String,
    },
}

impl Verdict {
    /// Whether the image meets the policy.
    pub fn is_met(&self) -> bool {
        self.unmet.is_empty()
    }

    /// Adds what another demand of the same rule found.
    pub(super) fn merge(&mut self, checked: Vec<ManifestVerdict>) {
        if self.manifests.is_empty() {
            self.manifests = checked;
            return;
        }
        for (known, found) in self.manifests.iter_mut().zip(checked) {
            let new = found.signatures.into_iter();
            let new: Vec<_> = new.filter(|one| !known.signatures.contains(one)).collect();
            known.signatures.extend(new);
        }
    }
}

impl UnmetReason {
    /// A name that does not change, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            UnmetReason::Rejected => "rejected",
            UnmetReason::NotSigned => "not-signed",
            UnmetReason::NoGoodSignature { .. } => "no-good-signature",
            UnmetReason::NotSupported { .. } => "not-supported",
        }
    }
}

impl Unmet {
    pub(super) fn of_image(reason: UnmetReason) -> Unmet {
        Unmet {
            manifest: None,
            platform: None,
            reason,
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(platform) = &self.platform {
            write!(f, "{platform}: ")?;
        }
        match &self.reason {
            UnmetReason::Rejected => f.write_str("the policy rejects images of this name")?,
            UnmetReason::NotSigned => f.write_str("no signature")?,
            UnmetReason::NoGoodSignature { bad: 1 } => f.write_str("its signature does not count")?,
            UnmetReason::NoGoodSignature { bad } => write!(f, "none of its {bad} signatures counts")?,
            UnmetReason::NotSupported { what } => {
                write!(f, "the policy demands {}, which is not supported", Escaped(what))?;
            }
        }
        match &self.manifest {
            Some(digest) => write!(f, " ({digest})"),
            None => Ok(()),
        }
    }
}

impl Serialize for Unmet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("manifest", &self.manifest)?;
        map.serialize_entry("platform", &self.platform.as_ref().map(ToString::to_string))?;
        map.serialize_entry("code", self.reason.code())?;
        map.serialize_entry("message", &self.to_string())?;
        map.end()
    }
}
