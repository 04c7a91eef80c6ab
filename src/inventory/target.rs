//! What a target has, as a document: a plan can be made from one that was written elsewhere and read back.
//!
//! Every target fills the common part as far as it knows it. What only one kind of target has is in `details`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::image::Image;
use crate::oci::{Descriptor, Digest, Platform, chain_ids, platform};

/// The version of the document.
const SCHEMA: u32 = 1;

/// What a target has. Equal content makes equal documents.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Inventory<D> {
    /// The version of this document.
    pub schema: u32,
    /// Where the target is: an address or a path.
    pub target: String,
    /// Its version, if it is a program.
    pub version: Option<String>,
    /// The namespace that this is of; `None` if it has no namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The platform that it runs; `None` if it runs nothing.
    #[serde(with = "platform::optional_text")]
    pub platform: Option<Platform>,
    /// The platforms that it takes from an index, the best first; empty if it takes all.
    #[serde(with = "platform::texts")]
    pub platforms: Vec<Platform>,
    /// The forms of layers that it takes.
    pub accepts: LayerForms,
    /// Its images.
    pub images: Vec<KnownImage>,
    /// The blobs that it has in their stored form, with their sizes in bytes, as far as they were looked for.
    pub blobs: BTreeMap<Digest, u64>,
    /// The layers that it has unpacked, each as the chain id of the layers up to it, as far as they were looked for.
    pub chains: BTreeSet<Digest>,
    /// Whether it takes an image without the blobs of layers that it has unpacked.
    pub unpacked_suffices: bool,
    /// What only this kind of target has.
    pub details: D,
}

/// The forms of layers that a target takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LayerForms {
    /// Whether a layer may be uncompressed that its manifest names in a compressed form.
    pub uncompressed: bool,
    /// Whether it may be zstd.
    pub zstd: bool,
}

/// An image that a target has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KnownImage {
    /// The target's id of it: the config's digest in Docker's classic store and in podman, the index's or manifest's
    /// where content is kept as it was stored.
    pub id: String,
    /// Names with a tag.
    pub tags: Vec<String>,
    /// `name@digest` that it shows.
    pub digests: Vec<String>,
    /// Uncompressed layers of its host platform, base first. Empty if they are not all present.
    pub diff_ids: Vec<Digest>,
    /// Manifests of its platforms whose content is complete and unpacked, if the target tells.
    pub manifests: Vec<Digest>,
    /// Those whose blobs are all present, unpacked or not.
    pub available: Vec<Digest>,
    /// Configs of its images, where `id` is no config's and they were read: in Docker's containerd store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_ids: Vec<Digest>,
    /// Configs of those manifests that are not substitutes, if they were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configs: Option<Vec<Digest>>,
}

impl KnownImage {
    /// An image of which only the id is known.
    pub fn new(id: impl ToString) -> KnownImage {
        KnownImage {
            id: id.to_string(),
            tags: Vec::new(),
            digests: Vec::new(),
            diff_ids: Vec::new(),
            manifests: Vec::new(),
            available: Vec::new(),
            image_ids: Vec::new(),
            configs: None,
        }
    }

    /// Whether a target that tells which content is complete has all of an image. An image without layers has nothing
    /// to unpack.
    pub fn has(&self, image: &Image) -> bool {
        let whole = match image.manifest.layers.is_empty() {
            true => &self.available,
            false => &self.manifests,
        };
        whole.contains(&image.descriptor.digest)
    }
}

impl<D> Inventory<D> {
    /// A target without content, which takes layers in every form.
    pub fn new(target: impl Into<String>, details: D) -> Inventory<D> {
        Inventory {
            schema: SCHEMA,
            target: target.into(),
            version: None,
            namespace: None,
            platform: None,
            platforms: Vec::new(),
            accepts: LayerForms {
                uncompressed: true,
                zstd: true,
            },
            images: Vec::new(),
            blobs: BTreeMap::new(),
            chains: BTreeSet::new(),
            unpacked_suffices: false,
            details,
        }
    }

    /// Puts the images in an order of their own, whatever the target's is.
    #[must_use]
    pub fn sorted(mut self) -> Inventory<D> {
        for image in &mut self.images {
            image.tags.sort();
            image.digests.sort();
            image.manifests.sort();
            image.available.sort();
            image.image_ids.sort();
        }
        self.images.sort_by(|one, other| one.id.cmp(&other.id));
        self
    }

    /// The image with this id.
    pub fn image(&self, id: &Digest) -> Option<&KnownImage> {
        let id = id.to_string();
        self.images.iter().find(|image| image.id == id)
    }

    /// Whether it has a blob in its stored form.
    pub fn has_blob(&self, digest: &Digest, size: u64) -> bool {
        self.blobs.get(digest) == Some(&size)
    }

    /// Whether it takes an image without the blob of a layer: it has the blob, or it has the layer unpacked and needs no
    /// blob then. `chain` is the chain id of the layers up to this one, if it is known.
    pub fn has_layer(&self, layer: &Descriptor, chain: Option<&Digest>) -> bool {
        let chains = self.unpacked_suffices.then_some(&self.chains);
        has_layer(&self.blobs, chains, layer, chain)
    }
}

/// Whether a layer is among these blobs, or the chain that it ends among these chains.
pub(super) fn has_layer(
    blobs: &BTreeMap<Digest, u64>,
    chains: Option<&BTreeSet<Digest>>,
    layer: &Descriptor,
    chain: Option<&Digest>,
) -> bool {
    let has_chain = |chain: &Digest| chains.is_some_and(|chains| chains.contains(chain));
    blobs.get(&layer.digest) == Some(&layer.size) || chain.is_some_and(has_chain)
}

/// The chain ids of each prefix of these images' layers, by which engines identify layers.
///
/// Source: OCI image specification, "Layer ChainID".
pub fn chains<'i>(images: impl Iterator<Item = &'i KnownImage>) -> BTreeSet<Digest> {
    let seen: HashSet<&[Digest]> = images.map(|image| image.diff_ids.as_slice()).collect();
    seen.into_iter().flat_map(chain_ids).collect()
}
