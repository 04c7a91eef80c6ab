//! What an image consists of, in short: what lists of images show.

use std::collections::BTreeSet;

use super::graph::Graph;
use super::named::NamedImage;
use crate::oci::{Digest, Platform, platform};

/// What an image consists of.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The platforms of the images that run, sorted.
    pub platforms: Vec<Platform>,
    /// Its type, if it is an artifact.
    pub artifact_type: Option<String>,
    /// Digest of the index, if there is one.
    pub index: Option<Digest>,
    /// The images and artifacts that are present, in the order of the index.
    pub variants: Vec<Variant>,
    /// Number of different layers.
    pub layers: usize,
    /// Stored bytes of its blobs.
    pub size: u64,
}

/// One platform's image, or an artifact.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Variant {
    /// Its platform.
    #[serde(serialize_with = "platform::optional_text::serialize")]
    pub platform: Option<Platform>,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Digest of the config.
    pub config: Digest,
    /// Docker's image id in each kind of store; `None` for an artifact.
    pub image_id: Option<ImageId>,
}

/// What Docker shows as image id.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ImageId {
    /// In a classic store: digest of the config.
    pub classic: Digest,
    /// In a containerd store: digest of the index, or of the manifest without one.
    pub containerd: Digest,
}

impl Overview {
    /// Looks at an image.
    pub fn of(image: &NamedImage) -> Overview {
        let graph = &image.graph;
        let mut platforms: Vec<Platform> = graph
            .runnable()
            .filter_map(|image| image.platform().cloned())
            .collect();
        platforms.sort_by_cached_key(ToString::to_string);
        platforms.dedup();
        let manifests = graph.images.iter().map(|image| &image.manifest);
        let layers: BTreeSet<Digest> = manifests
            .flat_map(|manifest| manifest.layers.iter().map(|layer| layer.digest))
            .collect();
        let blobs = image.blobs();
        Overview {
            platforms,
            artifact_type: graph.artifact_type().map(str::to_string),
            index: graph.indexes.first().map(|(root, _)| root.digest),
            variants: variants(graph),
            layers: layers.len(),
            size: blobs
                .iter()
                .fold(0, |sum, blob| u64::saturating_add(sum, blob.size)),
        }
    }
}

fn variants(graph: &Graph) -> Vec<Variant> {
    graph
        .variants()
        .map(|image| Variant {
            platform: image.platform().cloned(),
            digest: image.descriptor.digest,
            config: image.id(),
            image_id: image.is_runnable().then(|| ImageId {
                classic: image.id(),
                containerd: graph.root.digest,
            }),
        })
        .collect()
}
