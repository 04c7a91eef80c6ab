//! Candidates without an archive, for tests of pure functions.

use std::sync::Arc;

use super::Candidate;
use crate::blob::{Blobs, OpenBlob};
use crate::error::Result;
use crate::image::provenance::Provenance;
use crate::image::{Graph, NamedImage};
use crate::oci::{Descriptor, Digest, MediaType, PlatformSelection};

/// An empty archive.
pub struct Nothing;

impl Blobs for Nothing {
    fn label(&self) -> &str {
        "images.tar"
    }

    fn size(&self, _: &Descriptor) -> Result<Option<u64>> {
        Ok(None)
    }

    fn open(&self, _: &Descriptor) -> Result<Option<OpenBlob>> {
        Ok(None)
    }
}

/// The diff id of a layer of this content.
pub fn diff_id(layer: &str) -> Digest {
    Digest::sha256(layer.as_bytes())
}

/// The digest of that layer in its stored form.
pub fn stored(layer: &str) -> Digest {
    Digest::sha256(format!("compressed {layer}").as_bytes())
}

/// An index over these platforms, with the same layers for each. A layer whose name ends in `.zst` is zstd.
pub fn candidate(name: Option<&str>, layers: &[&str], platforms: &[&str]) -> Candidate<'static> {
    let mut blobs = std::collections::BTreeMap::new();
    let mut put = |media_type: &str, text: String| {
        let digest = Digest::sha256(text.as_bytes());
        let size = u64::try_from(text.len()).unwrap();
        blobs.insert(digest, text.into_bytes());
        Descriptor::new(MediaType::new(media_type), digest, size)
    };
    let list: Vec<Descriptor> = layers
        .iter()
        .map(|layer| {
            let kind = if layer.ends_with(".zst") { "zstd" } else { "gzip" };
            let media_type = format!("application/vnd.oci.image.layer.v1.tar+{kind}");
            Descriptor::new(MediaType::new(media_type), stored(layer), 100)
        })
        .collect();
    let mut manifests = Vec::new();
    for platform in platforms {
        let (os, architecture) = platform.split_once('/').unwrap();
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| diff_id(layer)).collect();
        let config = serde_json::json!({
            "os": os,
            "architecture": architecture,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = put("application/vnd.oci.image.config.v1+json", config.to_string());
        let manifest = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": list });
        let mut manifest = put(MediaType::OCI_MANIFEST, manifest.to_string());
        manifest.platform = Some(platform.parse().unwrap());
        manifests.push(manifest);
    }
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
    let root = put(MediaType::OCI_INDEX, index.to_string());
    let graph = Graph::walk(&root, &PlatformSelection::Present, &mut |descriptor| {
        Ok(blobs.get(&descriptor.digest).cloned())
    });
    Candidate {
        blobs: &Nothing,
        image: NamedImage {
            reference: name.map(|name| name.parse().unwrap()),
            bare_tag: None,
            graph: Arc::new(graph.unwrap()),
            provenance: Provenance::default(),
        },
        layer_sizes: Arc::new(layers.iter().map(|layer| (diff_id(layer), 1000)).collect()),
    }
}
