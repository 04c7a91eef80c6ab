//! Descriptors: OCI image specification, "Content Descriptors".

use std::collections::BTreeMap;

use super::{Digest, MediaType, Platform};

/// Names a blob: what it is, its digest and its stored size.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: MediaType,
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// Stored bytes.
    pub size: u64,
    /// Where else the blob could be fetched (foreign layers). Never followed unless allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free text by key.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// The platform that an index entry is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(
        <Option<BTreeMap<String, String>> as serde::Deserialize>::deserialize(deserializer)?
            .unwrap_or_default(),
    )
}

impl Descriptor {
    /// Makes a descriptor with nothing but the three mandatory fields.
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

    /// The same blob without annotations and platform: what is sent to a place that must not learn names.
    pub fn bare(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest, self.size)
    }

    /// The digest of the image that a buildkit attestation manifest belongs to, if this is one.
    ///
    /// Source: buildkit, `docs/attestations/attestation-storage.md`.
    pub fn attests(&self) -> Option<&str> {
        (self
            .annotations
            .get("vnd.docker.reference.type")
            .map(String::as_str)
            == Some("attestation-manifest"))
        .then(|| {
            self.annotations
                .get("vnd.docker.reference.digest")
                .map(String::as_str)
        })
        .flatten()
    }
}
