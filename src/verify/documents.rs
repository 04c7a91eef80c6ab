//! The documents of images, each read once, and the descriptors of each blob.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::Verification;
use crate::error::{Error, MAX_WRONG_SIZES, Problem};
use crate::image::choice::{Below, Leaf, Tree};
use crate::image::graph::MAX_DESCRIPTORS;
use crate::image::walk::{denied, index_platforms};
use crate::oci::{Compression, Config, Descriptor, Digest, Document, Kind, MAX_METADATA, MediaType};

/// What the descriptors say about one blob.
#[derive(Default)]
pub(super) struct Blob {
    /// For a layer, its compression.
    pub compression: Option<Compression>,
    /// For a layer, the diff ids that the configs give it. More than one cannot be right.
    pub diff_ids: BTreeSet<Digest>,
    /// It has a wrong size, or is missing.
    is_unusable: bool,
    /// It was read and hashed with the documents.
    pub is_read: bool,
    pub is_reported_missing: bool,
}

impl Blob {
    /// Whether it needs no more work. A document that was read may also be a layer of another image.
    pub fn is_settled(&self) -> bool {
        let is_layer = self.compression.is_some() || !self.diff_ids.is_empty();
        self.is_unusable || self.is_read && !is_layer
    }
}

/// A document after it was read, without its bytes.
pub(super) struct Node {
    media_type: MediaType,
    pub content: NodeContent,
}

pub(super) enum NodeContent {
    Index(Vec<Descriptor>),
    Manifest(Rc<ManifestNode>),
    /// Already reported.
    Unusable,
}

/// A manifest with the fields of its config.
pub(crate) struct ManifestNode {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    /// `None` for an artifact, or if it could not be read.
    pub parsed: Option<Config>,
}

impl ManifestNode {
    /// As [`crate::image::Image::is_runnable`].
    pub fn is_runnable(&self) -> bool {
        let mut layers = self.layers.iter().map(|layer| layer.media_type.kind());
        self.parsed
            .as_ref()
            .is_some_and(|config| !config.platform.is_unknown())
            && layers.all(|kind| matches!(kind, Kind::Layer(_)))
    }

    /// Whether it may be runnable if its config cannot be read, which is a finding of its own.
    pub fn may_be_runnable(&self) -> bool {
        self.is_runnable() || self.parsed.is_none() && self.config.media_type.kind() == Kind::Config
    }

    pub fn agrees(&self) -> bool {
        let layers = self.layers.len();
        self.parsed
            .as_ref()
            .is_none_or(|config| config.diff_ids.len() == layers)
    }

    /// The diff id of the layer at a position, if the config is reliable.
    pub fn diff_id(&self, at: usize) -> Option<Digest> {
        let config = self.parsed.as_ref().filter(|_| self.agrees())?;
        config.diff_ids.get(at).copied()
    }
}

/// The documents that were read, by their digests.
pub(crate) struct Nodes<'a>(pub(super) &'a HashMap<Digest, Rc<Node>>);

impl Nodes<'_> {
    /// The manifest with a digest.
    pub fn manifest(&self, digest: &Digest) -> Option<&Rc<ManifestNode>> {
        match &self.0.get(digest)?.content {
            NodeContent::Manifest(manifest) => Some(manifest),
            NodeContent::Index(_) | NodeContent::Unusable => None,
        }
    }
}

impl Tree for Nodes<'_> {
    fn below(&self, digest: &Digest) -> Option<Below<'_>> {
        match &self.0.get(digest)?.content {
            NodeContent::Unusable => None,
            NodeContent::Index(children) => Some(Below::Index(children)),
            NodeContent::Manifest(manifest) => Some(Below::Manifest(Leaf {
                config: &manifest.config,
                platform: manifest.parsed.as_ref().map(|config| &config.platform),
                is_image: manifest.is_runnable(),
            })),
        }
    }
}

impl Verification<'_> {
    /// Notes a descriptor. Returns whether its blob is present with that size.
    pub(super) fn mention(&mut self, descriptor: &Descriptor) -> bool {
        let digest = descriptor.digest;
        let found = self.size(descriptor);
        let blob = self.noted.entry(digest).or_default();
        let mut clash = None;
        if let Kind::Layer(compression) = descriptor.media_type.kind() {
            let known = *blob.compression.get_or_insert(compression);
            clash = (known != compression).then_some(known);
        }
        let Some(found) = found else {
            blob.is_unusable = true;
            return false;
        };
        let fits = found == descriptor.size;
        blob.is_unusable |= !fits;
        if !fits {
            self.wrong_size(&digest, descriptor.size, found);
        }
        if let Some(known) = clash {
            let problem = Problem::MediaTypeDiffers {
                expected: descriptor.media_type.to_string(),
                found: format!("a {known} layer's in another manifest"),
            };
            self.find(&digest, problem);
        }
        fits
    }

    /// Reports a wrong size of a blob, once, and not each one of very many.
    fn wrong_size(&mut self, digest: &Digest, expected: u64, found: u64) {
        let sizes = self.wrong_sizes.entry(*digest).or_default();
        let problem = match sizes.len() {
            _ if sizes.contains(&expected) => return,
            0..MAX_WRONG_SIZES => Problem::SizeDiffers { expected, found },
            MAX_WRONG_SIZES => Problem::SizesDiffer { found },
            _ => return,
        };
        sizes.push(expected);
        self.find(digest, problem);
    }

    /// Reports a blob that was looked for and is missing, once.
    pub(super) fn require(&mut self, digest: &Digest) {
        if matches!(self.sizes.get(digest), Some(Some(_))) {
            return;
        }
        let blob = self.noted.entry(*digest).or_default();
        if !std::mem::replace(&mut blob.is_reported_missing, true) {
            self.find(digest, Problem::Missing);
        }
    }

    /// Reads a document or config, once. `None` if it is missing or unusable, which is reported.
    pub(super) fn read(&mut self, descriptor: &Descriptor) -> Option<Vec<u8>> {
        if !self.mention(descriptor) {
            return None;
        }
        let digest = descriptor.digest;
        if descriptor.size > MAX_METADATA {
            let (limit, found) = (MAX_METADATA, descriptor.size);
            self.find(&digest, Problem::TooLarge { limit, found });
            return None;
        }
        let outcome = self.blobs.metadata(descriptor);
        if let Some(blob) = self.noted.get_mut(&digest) {
            blob.is_read = true;
        }
        match outcome {
            Ok(bytes) => bytes,
            Err(Error::Refused(finding)) => {
                self.find(&digest, finding.problem);
                None
            }
            Err(error) => {
                self.unread.push((digest, error));
                None
            }
        }
    }

    /// The document of a descriptor; `None` if it is missing.
    pub(super) fn document(&mut self, descriptor: &Descriptor) -> Option<Rc<Node>> {
        let digest = descriptor.digest;
        if let Some(node) = self.documents.get(&digest).map(Rc::clone) {
            self.mention(descriptor);
            if node.media_type != descriptor.media_type {
                let problem = Problem::MediaTypeDiffers {
                    expected: descriptor.media_type.to_string(),
                    found: format!("{} by another descriptor", node.media_type),
                };
                self.find(&digest, problem);
            }
            return Some(node);
        }
        if self.size(descriptor).is_none() {
            self.mention(descriptor);
            return None;
        }
        let parsed = self
            .read(descriptor)
            .map(|bytes| Document::parse(&descriptor.media_type, bytes));
        let content = match parsed {
            None => NodeContent::Unusable,
            Some(Err(problem)) => {
                self.find(&digest, problem);
                NodeContent::Unusable
            }
            Some(Ok(Document::Index(index))) => {
                // One more than the limit, so that exceeding it is reported.
                let children = index.manifests.iter().take(MAX_DESCRIPTORS + 1);
                NodeContent::Index(children.map(Descriptor::bare_with_platform).collect())
            }
            Some(Ok(Document::Manifest(manifest))) => NodeContent::Manifest(self.parts(
                manifest.config.bare(),
                manifest.layers.iter().map(Descriptor::bare).collect(),
            )),
        };
        let media_type = descriptor.media_type.clone();
        let node = Rc::new(Node { media_type, content });
        self.documents.insert(digest, Rc::clone(&node));
        Some(node)
    }

    /// Notes a manifest's config and layers.
    fn parts(&mut self, config: Descriptor, layers: Vec<Descriptor>) -> Rc<ManifestNode> {
        for layer in &layers {
            self.mention(layer);
        }
        let mut parsed = None;
        if config.media_type.kind() != Kind::Config {
            self.mention(&config);
        } else if let Some(bytes) = self.read(&config) {
            match Config::parse(&bytes) {
                Ok(fields) => parsed = Some(fields),
                Err(reason) => self.find(&config.digest, Problem::Document { reason }),
            }
        }
        let node = ManifestNode {
            config,
            layers,
            parsed,
        };
        if let Some(fields) = node.parsed.as_ref().filter(|_| node.agrees()) {
            for (layer, diff_id) in node.layers.iter().zip(&fields.diff_ids) {
                if let Some(blob) = self.noted.get_mut(&layer.digest) {
                    blob.diff_ids.insert(*diff_id);
                }
            }
        }
        Rc::new(node)
    }

    /// Compares the configs of present manifests with their platforms in an index.
    pub(super) fn check_configs(&mut self, entries: &[Descriptor]) {
        let said = index_platforms(entries);
        for digest in entries.iter().map(|entry| &entry.digest) {
            let Some(NodeContent::Manifest(manifest)) = self.documents.get(digest).map(|node| &node.content)
            else {
                continue;
            };
            let (said, config) = (said.get(digest), manifest.parsed.as_ref());
            let problem = said.zip(config).and_then(|(said, config)| denied(said, config));
            if let Some(problem) = problem.filter(|_| self.denied.insert(*digest)) {
                self.find(digest, problem);
            }
        }
    }
}
