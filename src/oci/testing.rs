//! Small images for tests: their documents as bytes, and the descriptor of each.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Descriptor, Digest, MediaType, Platform};

/// The descriptor of a blob.
pub(crate) fn describe(media_type: &str, bytes: &[u8]) -> Descriptor {
    let size = u64::try_from(bytes.len()).unwrap();
    Descriptor::new(MediaType::new(media_type), Digest::sha256(bytes), size)
}

/// A blob and its descriptor.
#[derive(Debug, Clone)]
pub(crate) struct TestBlob {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Vec<u8>,
}

impl TestBlob {
    pub(crate) fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> TestBlob {
        let bytes = bytes.into();
        let descriptor = describe(media_type, &bytes);
        TestBlob { descriptor, bytes }
    }

    pub(crate) fn json(media_type: &str, value: &Value) -> TestBlob {
        TestBlob::new(media_type, value.to_string())
    }
}

/// An index over these entries.
pub(crate) fn index(manifests: &[Descriptor]) -> TestBlob {
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": manifests});
    TestBlob::json(MediaType::OCI_INDEX, &index)
}

/// An image of one manifest: `linux/amd64` without layers, until told otherwise.
#[derive(Debug, Clone)]
pub(crate) struct TestImage {
    platform: Platform,
    author: Option<String>,
    config: Option<TestBlob>,
    config_media_type: &'static str,
    diff_ids: Vec<Digest>,
    layers: Vec<Descriptor>,
    /// The layers that have content.
    layer_blobs: Vec<TestBlob>,
    annotations: BTreeMap<&'static str, &'static str>,
}

impl TestImage {
    pub(crate) fn new() -> TestImage {
        TestImage {
            platform: Platform::linux("amd64", None),
            author: None,
            config: None,
            config_media_type: MediaType::OCI_CONFIG,
            diff_ids: Vec::new(),
            layers: Vec::new(),
            layer_blobs: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// Sets the platform in the config and in the entry of an index.
    pub(crate) fn platform(mut self, platform: &Platform) -> TestImage {
        self.platform = platform.clone();
        self
    }

    /// Sets the author in the config: images that differ in nothing else have different digests.
    pub(crate) fn author(mut self, author: &str) -> TestImage {
        self.author = Some(author.into());
        self
    }

    /// Sets the media type that the manifest gives for the config.
    pub(crate) fn config_media_type(mut self, media_type: &'static str) -> TestImage {
        self.config_media_type = media_type;
        self
    }

    /// Replaces the config, as in an artifact.
    pub(crate) fn with_config(mut self, config: TestBlob) -> TestImage {
        self.config = Some(config);
        self
    }

    /// Adds a layer that is stored uncompressed.
    pub(crate) fn layer(mut self, tar: impl Into<Vec<u8>>) -> TestImage {
        let layer = TestBlob::new(MediaType::OCI_LAYER, tar);
        self.layer_blobs.push(layer.clone());
        self.stored_layer(layer.descriptor.digest, layer.descriptor)
    }

    /// Adds a layer in its stored form, with the diff id that the config gives for it.
    pub(crate) fn stored_layer(mut self, diff_id: Digest, stored: Descriptor) -> TestImage {
        self.diff_ids.push(diff_id);
        self.layers.push(stored);
        self
    }

    /// Adds an annotation to the manifest.
    pub(crate) fn annotation(mut self, key: &'static str, value: &'static str) -> TestImage {
        self.annotations.insert(key, value);
        self
    }

    pub(crate) fn config(&self) -> TestBlob {
        if let Some(config) = &self.config {
            return config.clone();
        }
        let mut config = serde_json::to_value(&self.platform).unwrap();
        config["rootfs"] = json!({"type": "layers", "diff_ids": self.diff_ids});
        if let Some(author) = &self.author {
            config["author"] = json!(author);
        }
        TestBlob::json(self.config_media_type, &config)
    }

    pub(crate) fn manifest(&self) -> TestBlob {
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
            "config": self.config().descriptor, "layers": self.layers,
        });
        if !self.annotations.is_empty() {
            manifest["annotations"] = json!(self.annotations);
        }
        TestBlob::json(MediaType::OCI_MANIFEST, &manifest)
    }

    /// The manifest's descriptor in an index, with the platform.
    pub(crate) fn entry(&self) -> Descriptor {
        let mut entry = self.manifest().descriptor;
        entry.platform = Some(self.platform.clone());
        entry
    }

    /// Manifest, config and the layers that have content.
    pub(crate) fn blobs(&self) -> Vec<TestBlob> {
        let documents = [self.manifest(), self.config()];
        documents.into_iter().chain(self.layer_blobs.clone()).collect()
    }
}
