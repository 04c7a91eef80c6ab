//! Candidates without an archive, for tests of pure functions.

use std::sync::Arc;

use super::Candidate;
use crate::archive::format::Omitted;
use crate::blob::{Blobs, OpenBlob};
use crate::error::Result;
use crate::image::provenance::Provenance;
use crate::image::{Graph, NamedImage};
use crate::oci::testing::{TestBlob, TestImage, index};
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
    let mut put = |blob: TestBlob| {
        blobs.insert(blob.descriptor.digest, blob.bytes);
        blob.descriptor
    };
    let mut manifests = Vec::new();
    for platform in platforms {
        let image = TestImage::new().platform(&platform.parse().unwrap());
        let image = layers.iter().fold(image, |image, layer| {
            let media_type = match layer.ends_with(".zst") {
                true => MediaType::OCI_LAYER_ZSTD,
                false => MediaType::OCI_LAYER_GZIP,
            };
            let described = Descriptor::new(MediaType::new(media_type), stored(layer), 100);
            image.stored_layer(diff_id(layer), described)
        });
        for blob in image.blobs() {
            put(blob);
        }
        manifests.push(image.entry());
    }
    let root = put(index(&manifests));
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
            referrers: Arc::default(),
        },
        omitted: Omitted::default(),
        layer_sizes: Arc::new(layers.iter().map(|layer| (diff_id(layer), 1000)).collect()),
    }
}
