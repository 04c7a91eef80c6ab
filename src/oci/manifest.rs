//! Manifests and indexes: OCI image specification, "Image Manifest" and "Image Index", and their Docker schema
//! 2 forms. They keep the bytes that were hashed beside the parsed view.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Descriptor, Kind, MediaType, json, schema};

/// An image manifest: a config and layers.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The stored bytes.
    pub raw: Arc<[u8]>,
    /// The image config.
    pub config: Descriptor,
    /// Layers, base first; sizes are stored bytes.
    pub layers: Vec<Descriptor>,
    /// The type of an artifact, if the manifest names one.
    pub artifact_type: Option<String>,
    /// Free text by key.
    pub annotations: BTreeMap<String, String>,
}

/// An image index or manifest list: manifests, one for each platform.
#[derive(Debug, Clone)]
pub struct Index {
    /// The stored bytes.
    pub raw: Arc<[u8]>,
    /// The manifests, and possibly further indexes.
    pub manifests: Vec<Descriptor>,
    /// Free text by key.
    pub annotations: BTreeMap<String, String>,
}

/// A manifest or an index.
#[derive(Debug, Clone)]
pub enum Document {
    /// An image manifest.
    Manifest(Manifest),
    /// An image index.
    Index(Index),
}

/// Why bytes are not the document that a descriptor describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentError {
    /// They are not JSON that every reader understands the same way.
    Json {
        /// What is wrong.
        reason: String,
    },
    /// Something is missing or malformed.
    Malformed {
        /// What.
        reason: String,
    },
    /// A manifest of schema 1, which has no stable digest.
    Schema1,
    /// Both a manifest and an index.
    Ambiguous,
    /// The document's own media type differs from its descriptor's.
    MediaTypeDiffers {
        /// The descriptor's media type.
        expected: String,
        /// The document's own.
        found: String,
    },
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    schema_version: Option<u64>,
    media_type: Option<MediaType>,
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "present")]
    layers: Option<Option<Vec<Descriptor>>>,
    #[serde(default, deserialize_with = "present")]
    manifests: Option<Option<Vec<Descriptor>>>,
    annotations: Option<BTreeMap<String, String>>,
    artifact_type: Option<String>,
    #[serde(rename = "fsLayers", default, deserialize_with = "present")]
    fs_layers: Option<Option<serde_json::Value>>,
}

/// Distinguishes an absent key from one that is `null`.
fn present<'de, T: serde::Deserialize<'de>, D: serde::Deserializer<'de>>(
    d: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

impl Document {
    /// Parses stored bytes as the document that `media_type` says.
    ///
    /// # Errors
    ///
    /// Refuses documents that two readers could understand differently (CVE-2021-41190): one that is both a
    /// manifest and an index, or whose own media type differs from its descriptor's. Also refuses schema 1.
    pub fn parse(media_type: &MediaType, bytes: Vec<u8>) -> Result<Document, DocumentError> {
        if media_type.kind() == Kind::Schema1 {
            return Err(DocumentError::Schema1);
        }
        json::check(&bytes, &schema::DOCUMENT).map_err(|error| DocumentError::Json {
            reason: error.to_string(),
        })?;
        let fields: Fields = serde_json::from_slice(&bytes).map_err(|error| DocumentError::Malformed {
            reason: format!("not a manifest or index: {error}"),
        })?;
        if let Some(found) = &fields.media_type {
            if found.kind() == Kind::Schema1 {
                return Err(DocumentError::Schema1);
            }
            if found != media_type {
                return Err(DocumentError::MediaTypeDiffers {
                    expected: media_type.to_string(),
                    found: found.to_string(),
                });
            }
        }
        if fields.schema_version == Some(1) || fields.fs_layers.is_some() {
            return Err(DocumentError::Schema1);
        }
        if fields.schema_version != Some(2) {
            return Err(DocumentError::Malformed {
                reason: "schemaVersion is not 2".into(),
            });
        }
        if fields.manifests.is_some() && (fields.config.is_some() || fields.layers.is_some()) {
            return Err(DocumentError::Ambiguous);
        }
        let raw: Arc<[u8]> = bytes.into();
        match (media_type.kind(), fields.config, fields.layers, fields.manifests) {
            (Kind::Index, None, None, Some(manifests)) => Ok(Document::Index(Index {
                raw,
                manifests: manifests.unwrap_or_default(),
                annotations: fields.annotations.unwrap_or_default(),
            })),
            (Kind::Manifest, Some(config), Some(layers), None) => Ok(Document::Manifest(Manifest {
                raw,
                config,
                layers: layers.unwrap_or_default(),
                artifact_type: fields.artifact_type,
                annotations: fields.annotations.unwrap_or_default(),
            })),
            (Kind::Index, ..) => Err(DocumentError::Malformed {
                reason: "an index without manifests".into(),
            }),
            (Kind::Manifest, ..) => Err(DocumentError::Malformed {
                reason: "a manifest without config or layers".into(),
            }),
            _ => Err(DocumentError::Malformed {
                reason: format!("{media_type} is neither a manifest nor an index"),
            }),
        }
    }

    /// The media type that a document states, or the only one possible for its fields.
    ///
    /// For bytes that came without a descriptor: a registry's answer without a usable `Content-Type`.
    pub fn sniff(bytes: &[u8]) -> Option<MediaType> {
        let fields: Fields = serde_json::from_slice(bytes).ok()?;
        if fields.media_type.is_some() {
            return fields.media_type;
        }
        match (fields.config, fields.manifests) {
            (Some(config), None) if config.media_type.as_str().starts_with("application/vnd.docker.") => {
                Some(MediaType::new(MediaType::DOCKER_MANIFEST))
            }
            (Some(_), None) => Some(MediaType::new(MediaType::OCI_MANIFEST)),
            (None, Some(_)) => Some(MediaType::new(MediaType::OCI_INDEX)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Problem;

    fn descriptor() -> String {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":2}}"#,
            crate::oci::Digest::sha256(b"{}")
        )
    }

    #[test]
    fn one_document_is_one_thing() {
        let d = descriptor();
        let manifest = MediaType::new(MediaType::OCI_MANIFEST);
        let index = MediaType::new(MediaType::OCI_INDEX);
        let good = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[]}}"#);
        assert!(matches!(
            Document::parse(&manifest, good.clone().into_bytes()),
            Ok(Document::Manifest(m)) if &*m.raw == good.as_bytes()
        ));
        for (media_type, text, expected) in [
            (
                &manifest,
                format!(r#"{{"schemaVersion":2,"config":{d},"layers":[],"manifests":[]}}"#),
                "ambiguous",
            ),
            (
                &manifest,
                format!(r#"{{"schemaVersion":2,"config":{d},"layers":[],"manifests":null}}"#),
                "ambiguous",
            ),
            (
                &index,
                r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#.to_string(),
                "ambiguous",
            ),
            (&index, good.clone(), "document"),
            (
                &manifest,
                r#"{"schemaVersion":2,"manifests":[]}"#.to_string(),
                "document",
            ),
            (
                &manifest,
                format!(
                    r#"{{"schemaVersion":2,"mediaType":"{}","config":{d},"layers":[]}}"#,
                    MediaType::DOCKER_MANIFEST
                ),
                "media-type-differs",
            ),
            (
                &manifest,
                r#"{"schemaVersion":1,"fsLayers":[]}"#.to_string(),
                "schema1",
            ),
            (
                &manifest,
                r#"{"schemaVersion":2,"schemaVersion":2}"#.to_string(),
                "json",
            ),
            (
                &manifest,
                format!(r#"{{"schemaVersion":3,"config":{d},"layers":[]}}"#),
                "document",
            ),
        ] {
            let problem = Document::parse(media_type, text.clone().into_bytes()).unwrap_err();
            assert_eq!(Problem::from(problem).code(), expected, "{text}");
        }
    }
}
