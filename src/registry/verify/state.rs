//! What a run verified, for the next one.

use std::collections::{BTreeMap, HashMap};

use crate::error::{Error, Result};
use crate::oci::{Digest, Platform, Reference};

/// The version of the document.
const SCHEMA: u32 = 1;

/// What the last run verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Images by their names.
    pub images: BTreeMap<String, VerifiedImage>,
}

/// An image that was verified.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VerifiedImage {
    /// Digest of its manifest or index.
    pub digest: Digest,
    /// The platforms that were verified; `None` for all that were there.
    #[serde(default, with = "platforms")]
    pub platforms: Option<Vec<Platform>>,
    /// When: RFC 3339, in UTC.
    pub time: String,
    /// Its blobs; layers with their diff ids.
    pub blobs: BTreeMap<Digest, Option<Digest>>,
}

/// The document.
#[derive(serde::Serialize, serde::Deserialize)]
struct Document {
    schema: u32,
    images: BTreeMap<String, VerifiedImage>,
}

impl State {
    /// Reads the document of an earlier run.
    ///
    /// # Errors
    ///
    /// A usage error if it is something else. `place` names it.
    pub fn parse(bytes: &[u8], place: &str) -> Result<State> {
        let wrong = |reason: String| Error::Usage {
            message: format!("{place} is not what an earlier run verified: {reason}"),
            hint: Some("without this file, everything is verified again".into()),
        };
        let document: Document = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        match document.schema {
            SCHEMA => Ok(State {
                images: document.images,
            }),
            other => Err(wrong(format!(
                "it has schema {other}, and this sealift reads {SCHEMA}"
            ))),
        }
    }

    /// The document.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "schema": SCHEMA, "images": self.images })
    }

    /// All blobs that were verified, layers with their diff ids.
    pub(super) fn blobs(&self) -> HashMap<Digest, Option<Digest>> {
        let blobs = self.images.values().flat_map(|image| &image.blobs);
        blobs.map(|(blob, diff_id)| (*blob, *diff_id)).collect()
    }

    /// Those of images in a registry.
    pub(super) fn blobs_of(&self, registry: &str) -> HashMap<Digest, Option<Digest>> {
        let is_there = |name: &str| {
            let name = name.parse::<Reference>();
            name.is_ok_and(|name| name.repository().domain().eq_ignore_ascii_case(registry))
        };
        let images = self.images.iter().filter(|(name, _)| is_there(name));
        let blobs = images.flat_map(|(_, image)| &image.blobs);
        blobs.map(|(blob, diff_id)| (*blob, *diff_id)).collect()
    }

    /// Whether an image was verified as it is now.
    pub(super) fn has(&self, reference: &Reference, digest: &Digest, platforms: Option<&[Platform]>) -> bool {
        self.images
            .get(&reference.to_string())
            .is_some_and(|image| image.digest == *digest && image.platforms.as_deref() == platforms)
    }
}

/// Platforms as text.
mod platforms {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::oci::Platform;

    pub(super) fn serialize<S: Serializer>(
        platforms: &Option<Vec<Platform>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match platforms {
            None => serializer.serialize_none(),
            Some(platforms) => serializer.collect_seq(platforms.iter().map(ToString::to_string)),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<Platform>>, D::Error> {
        let texts = Option::<Vec<String>>::deserialize(deserializer)?;
        let parse = |text: &String| text.parse().map_err(D::Error::custom);
        texts.map(|texts| texts.iter().map(parse).collect()).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let [index, layer, diff_id, other] =
            ["index", "layer", "tar", "other"].map(|text| Digest::sha256(text.as_bytes()));
        let image = |platforms| VerifiedImage {
            digest: index,
            platforms,
            time: "2026-11-27T20:40:33Z".into(),
            blobs: [(layer, Some(diff_id)), (other, None)].into(),
        };
        let arm = Platform::linux("arm64", Some("v8"));
        let state = State {
            images: [
                ("example.com/app:1".to_string(), image(None)),
                ("example.com/app:2".to_string(), image(Some(vec![arm.clone()]))),
            ]
            .into(),
        };
        let text = state.to_json().to_string();
        let read = State::parse(text.as_bytes(), "x").unwrap();
        assert_eq!(read, state);
        let one: Reference = "example.com/app:1".parse().unwrap();
        let two: Reference = "example.com/app:2".parse().unwrap();
        assert!(read.has(&one, &index, None) && read.has(&two, &index, Some(&[arm])));
        assert!(!read.has(&two, &index, None) && !read.has(&one, &layer, None));
        for wrong in [
            "",
            "{}",
            r#"{"schema":2,"images":{}}"#,
            r#"{"schema":1,"images":[]}"#,
        ] {
            let error = State::parse(wrong.as_bytes(), "state.json").unwrap_err();
            assert!(error.to_string().starts_with("state.json is not what"), "{error}");
        }
    }
}
