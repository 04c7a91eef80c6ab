//! Descriptors: OCI image specification, "Content Descriptors".

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Digest, MediaType, Platform};

/// Names a blob: what it is, its digest and its stored size.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", try_from = "Fields")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: MediaType,
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// Stored bytes.
    pub size: u64,
    /// Other addresses of the blob (foreign layers). Followed only where that is allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free text by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The platform that an index entry is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The type of an artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// A descriptor as JSON has it.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    media_type: MediaType,
    digest: Digest,
    size: u64,
    urls: Option<Vec<String>>,
    annotations: Option<BTreeMap<String, String>>,
    platform: Option<Platform>,
    artifact_type: Option<String>,
    data: Option<String>,
}

impl TryFrom<Fields> for Descriptor {
    type Error = String;

    /// Refuses a descriptor whose `data` differs from the content that it names: some readers use `data` and
    /// fetch nothing.
    fn try_from(fields: Fields) -> Result<Descriptor, String> {
        if let Some(data) = fields.data.filter(|data| !data.is_empty()) {
            let bytes = STANDARD.decode(data).map_err(|error| format!("data: {error}"))?;
            let is_named = u64::try_from(bytes.len()) == Ok(fields.size)
                && fields.digest.of_same_algorithm(&bytes) == fields.digest;
            if !is_named {
                return Err(format!("data is not the content of {}", fields.digest));
            }
        }
        Ok(Descriptor {
            media_type: fields.media_type,
            digest: fields.digest,
            size: fields.size,
            urls: fields.urls.unwrap_or_default(),
            annotations: fields.annotations.unwrap_or_default(),
            platform: fields.platform,
            artifact_type: fields.artifact_type,
        })
    }
}

impl Descriptor {
    /// Makes a descriptor with the three mandatory fields only.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }

    /// The same blob without annotations and platform, for a recipient that must not see names.
    pub fn bare(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest, self.size)
    }

    /// The fields of an index entry that say what it is: without free text, except that which marks attestations.
    pub(crate) fn bare_with_platform(&self) -> Descriptor {
        let mut kept = self.bare();
        kept.platform.clone_from(&self.platform);
        if self.attests().is_some() {
            kept.annotations.clone_from(&self.annotations);
        }
        kept
    }

    /// The digest of the image that a buildkit attestation manifest belongs to, if this is one. Engines
    /// recognise it by its platform, `unknown/unknown`. With any other platform they treat it as an image,
    /// whatever its annotations.
    ///
    /// Source: buildkit, `docs/attestations/attestation-storage.md`.
    pub fn attests(&self) -> Option<&str> {
        let is_unknown = self.platform.as_ref().is_none_or(Platform::is_unknown);
        let kind = self.annotations.get("vnd.docker.reference.type");
        (is_unknown && kind.map(String::as_str) == Some("attestation-manifest"))
            .then(|| {
                self.annotations
                    .get("vnd.docker.reference.digest")
                    .map(String::as_str)
            })
            .flatten()
    }
}
