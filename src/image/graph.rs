//! The graph below a reference: its descriptor and everything that it leads to, for a set of platforms.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::choice::{self, Below, Leaf, Tree};
use super::documents::{Documents, Parsed};
use super::walk;
use crate::error::Result;
use crate::oci::{Config, Descriptor, Digest, Index, Kind, Manifest, Platform, PlatformSelection, chain_ids};

/// Deepest nesting of indexes.
pub const MAX_DEPTH: usize = 8;
/// Most descriptors in one graph.
pub const MAX_DESCRIPTORS: usize = 10_000;
/// Most descriptors of all images of an archive together; thousands of images have fewer. Without this limit,
/// many small indexes that each lead to one large one could exhaust memory.
pub const MAX_ALL_DESCRIPTORS: usize = 500_000;

/// One image: a manifest, its config and layers.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest's descriptor, with its platform in the index.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// The config, unless this is an artifact or attestation.
    pub config: Option<Arc<Config>>,
    /// The config's stored bytes, if the config was read.
    pub config_raw: Option<Arc<[u8]>>,
}

impl Image {
    /// The platform of the config, which decides on what engines it runs.
    pub fn platform(&self) -> Option<&Platform> {
        self.config
            .as_deref()
            .map(|config| &config.platform)
            .or(self.descriptor.platform.as_ref())
    }

    /// The platform by which an engine selects it: the one in the index, else the config's.
    pub fn offered(&self) -> Option<&Platform> {
        self.descriptor.platform.as_ref().or(self.platform())
    }

    /// Whether it runs as a container: not an attestation, not an artifact.
    pub fn is_runnable(&self) -> bool {
        self.descriptor.attests().is_none() && self.is_image()
    }

    /// Whether it is an image, judged without its descriptor.
    pub(super) fn is_image(&self) -> bool {
        let mut layers = self.manifest.layers.iter();
        self.config
            .as_deref()
            .is_some_and(|config| !config.platform.is_unknown())
            && layers.all(|layer| matches!(layer.media_type.kind(), Kind::Layer(_)))
    }

    /// The type of an artifact: the one that its manifest names, else that of its config. If the config is an
    /// image's, as in a signature of cosign, it is the type of what is in place of a layer. `None` for an image
    /// and for an attestation.
    ///
    /// Source: OCI image specification, "Guidelines for Artifact Usage".
    pub fn artifact_type(&self) -> Option<&str> {
        let manifest = &self.manifest;
        let config = &manifest.config.media_type;
        if self.descriptor.attests().is_some() {
            return None;
        }
        if config.kind() != Kind::Config {
            let named = manifest.artifact_type.as_deref();
            return Some(named.unwrap_or(config.as_str()));
        }
        self.other_content()
    }

    /// As [`Image::artifact_type`], but for attestations too; the media type of the config if there is no better one.
    pub(super) fn content_type(&self) -> &str {
        let told = self.manifest.artifact_type.as_deref();
        let told = told.or_else(|| self.other_content());
        told.unwrap_or(self.manifest.config.media_type.as_str())
    }

    /// The named type, or the one of what is in the place of a layer.
    fn other_content(&self) -> Option<&str> {
        let named = self.manifest.artifact_type.as_deref();
        let content = self.manifest.layers.iter().map(|layer| &layer.media_type);
        let mut content = content.filter(|media_type| !matches!(media_type.kind(), Kind::Layer(_)));
        content.next().map(|first| named.unwrap_or(first.as_str()))
    }

    /// Its layers, each with the chain id of the layers up to it; without one if the config does not tell.
    pub fn chained_layers(&self) -> impl Iterator<Item = (&Descriptor, Option<Digest>)> {
        let layers = &self.manifest.layers;
        let diff_ids = self.config.as_deref().map(|config| config.diff_ids.as_slice());
        let diff_ids = diff_ids.filter(|diff_ids| diff_ids.len() == layers.len());
        let mut chains = chain_ids(diff_ids.unwrap_or_default()).into_iter();
        layers.iter().map(move |layer| (layer, chains.next()))
    }

    /// The image id: digest of the config.
    pub fn id(&self) -> Digest {
        self.manifest.config.digest
    }
}

/// A descriptor and everything below it, for the chosen platforms.
#[derive(Debug, Clone)]
pub struct Graph {
    /// What the reference resolved to.
    pub root: Descriptor,
    /// Indexes, the root first.
    pub indexes: Vec<(Descriptor, Arc<Index>)>,
    /// The chosen images, then their attestations.
    pub images: Vec<Image>,
    /// Index entries that were not chosen or are missing: the index is sparse.
    pub absent: Vec<Descriptor>,
}

/// Reads the stored bytes of a document or config, verified against the descriptor; `None` if it is missing. A
/// missing attestation is never an error.
pub type Fetch<'a> = dyn FnMut(&Descriptor) -> Result<Option<Vec<u8>>> + 'a;

/// The same, parsed.
pub type FetchParsed<'a> = dyn FnMut(&Descriptor) -> Result<Option<Parsed>> + 'a;

impl Graph {
    /// Follows `root` down to the layers, for the platforms of `selection`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NotFound`] if a requested platform does not exist, with those that do;
    /// [`crate::Error::Refused`] if a document is malformed, missing or over a limit.
    pub fn walk(root: &Descriptor, selection: &PlatformSelection, fetch: &mut Fetch<'_>) -> Result<Graph> {
        let documents = Documents::default();
        Graph::walk_shared(root, selection, &mut |descriptor| {
            documents.get(descriptor, || fetch(descriptor))
        })
    }

    /// The same, with documents that several graphs share.
    ///
    /// # Errors
    ///
    /// As [`Graph::walk`].
    pub fn walk_shared(
        root: &Descriptor,
        selection: &PlatformSelection,
        fetch: &mut FetchParsed<'_>,
    ) -> Result<Graph> {
        walk::walk(root, selection, fetch)
    }

    /// Every blob of the graph once: indexes, manifests, configs, then layers, in the order of the graph.
    pub fn blobs(&self) -> Vec<Descriptor> {
        let mut seen = HashSet::new();
        let indexes = self.indexes.iter().map(|(descriptor, _)| descriptor);
        let manifests = self.images.iter().map(|image| &image.descriptor);
        let configs = self.images.iter().map(|image| &image.manifest.config);
        let layers = self.images.iter().flat_map(|image| &image.manifest.layers);
        indexes
            .chain(manifests)
            .chain(configs)
            .chain(layers)
            .filter(|descriptor| seen.insert(descriptor.digest))
            .cloned()
            .collect()
    }

    /// The digests of its indexes and manifests: what something else can refer to.
    pub fn documents(&self) -> impl Iterator<Item = Digest> {
        let indexes = self.indexes.iter().map(|(descriptor, _)| descriptor.digest);
        indexes.chain(self.images.iter().map(|image| image.descriptor.digest))
    }

    /// The number of its own descriptors, without those in documents that graphs may share.
    pub fn descriptors(&self) -> usize {
        self.indexes.len() + self.images.len() + self.absent.len()
    }

    /// The images that run as containers.
    pub fn runnable(&self) -> impl Iterator<Item = &Image> {
        self.images.iter().filter(|image| image.is_runnable())
    }

    /// Every image that runs and every artifact, but no attestation.
    pub fn variants(&self) -> impl Iterator<Item = &Image> {
        let is_variant = |image: &&Image| image.is_runnable() || image.artifact_type().is_some();
        self.images.iter().filter(is_variant)
    }

    /// The type of an artifact, if the graph has no image: see [`Image::artifact_type`].
    pub fn artifact_type(&self) -> Option<&str> {
        match self.runnable().next() {
            Some(_) => None,
            None => self.images.iter().find_map(Image::artifact_type),
        }
    }

    /// The image that an engine with these platforms, the best first, chooses. `None` if there is none, or if
    /// an engine would take something that is not an image.
    pub fn image_for(&self, platforms: &[Platform]) -> Option<&Image> {
        if self.indexes.is_empty() {
            let fits = |offered: &Platform| platforms.iter().any(|wanted| wanted.matches(offered));
            return self.runnable().find(|image| image.offered().is_some_and(fits));
        }
        let found = choice::choose(&Branches::of(self), &self.root.digest, platforms)?;
        self.runnable().find(|image| image.descriptor.digest == found)
    }
}

/// The documents of a graph by their digests.
pub(super) struct Branches<'a> {
    indexes: HashMap<Digest, &'a Index>,
    images: HashMap<Digest, &'a Image>,
}

impl<'a> Branches<'a> {
    pub(super) fn of(graph: &'a Graph) -> Branches<'a> {
        let indexes = graph.indexes.iter();
        let images = graph.images.iter();
        Branches {
            indexes: indexes.map(|(at, index)| (at.digest, &**index)).collect(),
            images: images.map(|image| (image.descriptor.digest, image)).collect(),
        }
    }
}

impl Tree for Branches<'_> {
    fn below(&self, digest: &Digest) -> Option<Below<'_>> {
        if let Some(index) = self.indexes.get(digest) {
            return Some(Below::Index(&index.manifests));
        }
        let image = self.images.get(digest)?;
        let config = image.config.as_deref();
        Some(Below::Manifest(Leaf {
            config: &image.manifest.config,
            platform: config.map(|config| &config.platform),
            is_image: image.is_image(),
        }))
    }
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
