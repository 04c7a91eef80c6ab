//! Follows `index.json` down to the layers. Unlike [`crate::image::Graph::walk`], which ends at the first
//! thing that is wrong, this goes on and gathers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::place_of;
use crate::archive::account::Evidence;
use crate::archive::content::Content;
use crate::archive::format::Entry;
use crate::error::{Error, Finding, Place, Problem};
use crate::image::graph::{MAX_ALL_DESCRIPTORS, MAX_DEPTH, MAX_DESCRIPTORS};
use crate::oci::{
    Compression, Config, Descriptor, Digest, Document, Kind, MAX_METADATA, MediaType, Platform, Reference,
};

/// What is known about all images together.
pub(super) struct Closure<'a> {
    pub content: &'a dyn Content,
    pub findings: Vec<Finding>,
    pub unread: Vec<Error>,
    /// Every blob that something refers to, here or not.
    pub blobs: BTreeMap<Digest, Blob>,
    documents: HashMap<Digest, Rc<Node>>,
    followed: HashMap<Root, Rc<Followed>>,
    /// Wrong sizes that were reported.
    sizes: HashSet<(Digest, u64)>,
    descriptors: usize,
}

/// What descriptors say about one blob.
#[derive(Default)]
pub(super) struct Blob {
    /// For a layer, how it is stored.
    pub compression: Option<Compression>,
    /// For a layer, what the configs say that it is uncompressed. More than one cannot be right.
    pub diff_ids: BTreeSet<Digest>,
    /// It has a wrong size, or is not here.
    is_unusable: bool,
    /// It was read and hashed while the documents were followed.
    is_read: bool,
    is_reported_missing: bool,
}

impl Blob {
    /// Whether nothing is left to do with it. What was read as a document may be a layer of another image.
    pub fn is_settled(&self) -> bool {
        let is_layer = self.compression.is_some() || !self.diff_ids.is_empty();
        self.is_unusable || self.is_read && !is_layer
    }
}

/// A document, as far as it is needed after it was read: never its bytes.
struct Node {
    media_type: MediaType,
    content: NodeContent,
}

enum NodeContent {
    Index(Vec<Descriptor>),
    Manifest(Rc<ManifestNode>),
    /// Already reported.
    Unusable,
}

/// A manifest with what its config says.
pub(super) struct ManifestNode {
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

    fn agrees(&self) -> bool {
        let layers = self.layers.len();
        self.parsed
            .as_ref()
            .is_none_or(|config| config.diff_ids.len() == layers)
    }

    /// What the layer at a position is uncompressed, if the config can be believed in that.
    fn diff_id(&self, at: usize) -> Option<Digest> {
        let config = self.parsed.as_ref().filter(|_| self.agrees())?;
        config.diff_ids.get(at).copied()
    }
}

/// One entry of `index.json`.
pub(super) struct Walked {
    pub reference: Option<Reference>,
    pub bare_tag: Option<String>,
    /// The digest that it is known by.
    pub digest: Option<Digest>,
    /// What stands behind that digest.
    pub evidence: Evidence,
    /// What was found below it.
    pub followed: Rc<Followed>,
}

/// What an entry says besides names: entries that agree in all of it are followed once.
#[derive(PartialEq, Eq, Hash)]
struct Root {
    media_type: MediaType,
    digest: Digest,
    size: u64,
    attests: Option<String>,
    platform: Option<Platform>,
    platforms: Option<Vec<Platform>>,
    uncompressed: BTreeSet<Digest>,
}

/// One image, followed down to its layers.
pub(super) struct Followed {
    pub root: Digest,
    pub platforms: Arc<[Platform]>,
    pub absent: Arc<[Platform]>,
    /// Its manifests that are here.
    pub manifests: Vec<Rc<ManifestNode>>,
    /// Everything that it refers to and that is here or must be.
    pub blobs: HashSet<Digest>,
    /// How many of its layers are here only uncompressed.
    pub uncompressed: usize,
}

/// One image that is being followed.
struct Walk<'e> {
    entry: &'e Entry,
    platforms: Vec<Platform>,
    absent: Vec<Platform>,
    manifests: Vec<Rc<ManifestNode>>,
    blobs: HashSet<Digest>,
    uncompressed: usize,
    not_here: Vec<Descriptor>,
    /// Layers that are declared to be here only uncompressed; those that no manifest names, in the end.
    declared: BTreeSet<Digest>,
    descriptors: usize,
    /// There were too many: the rest is not looked at.
    is_over: bool,
}

impl Walk<'_> {
    fn root(&self) -> Digest {
        self.entry.descriptor.digest
    }
}

impl<'a> Closure<'a> {
    pub fn new(content: &'a dyn Content) -> Closure<'a> {
        Closure {
            content,
            findings: Vec::new(),
            unread: Vec::new(),
            blobs: BTreeMap::new(),
            documents: HashMap::new(),
            followed: HashMap::new(),
            sizes: HashSet::new(),
            descriptors: 0,
        }
    }

    /// Blobs that were read and hashed on the way.
    pub fn checked(&self) -> Vec<Digest> {
        let read = self
            .blobs
            .iter()
            .filter(|(_, blob)| blob.is_read && blob.is_settled());
        read.map(|(digest, _)| *digest).collect()
    }

    pub fn find(&mut self, digest: &Digest, problem: impl Into<Problem>) {
        let problem = problem.into();
        let place = place_of(self.content, digest);
        self.findings.push(Finding { place, problem });
    }

    /// Follows one entry of `index.json`.
    pub fn image(&mut self, entry: &Entry) -> Walked {
        Walked {
            reference: entry.reference.clone(),
            bare_tag: entry.bare_tag.clone(),
            digest: entry.digest(),
            evidence: entry.account().evidence(),
            followed: self.follow(entry),
        }
    }

    /// Follows what an entry names, or gives what was found below another that names the same.
    fn follow(&mut self, entry: &Entry) -> Rc<Followed> {
        let descriptor = &entry.descriptor;
        let root = Root {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest,
            size: descriptor.size,
            attests: descriptor.attests().map(str::to_string),
            platform: descriptor.platform.clone(),
            platforms: entry.platforms.clone(),
            uncompressed: entry.uncompressed.clone(),
        };
        if let Some(known) = self.followed.get(&root) {
            return Rc::clone(known);
        }
        let mut walk = Walk {
            entry,
            platforms: Vec::new(),
            absent: Vec::new(),
            manifests: Vec::new(),
            blobs: HashSet::new(),
            uncompressed: 0,
            not_here: Vec::new(),
            declared: entry.uncompressed.clone(),
            descriptors: 0,
            is_over: false,
        };
        self.descend(descriptor, 0, &mut walk);
        self.check_platforms(&mut walk);
        if let Some(layer) = walk.declared.first() {
            let reason =
                format!("declared to hold layer {layer} uncompressed, which none of its manifests names");
            self.find(&root.digest, Problem::Document { reason });
        }
        let followed = Rc::new(Followed {
            root: root.digest,
            platforms: walk.platforms.into(),
            absent: walk.absent.into(),
            manifests: walk.manifests,
            blobs: walk.blobs,
            uncompressed: walk.uncompressed,
        });
        self.followed.insert(root, Rc::clone(&followed));
        followed
    }

    /// What a sparse index must have: the platforms that are declared, else at least one.
    fn check_platforms(&mut self, walked: &mut Walk<'_>) {
        walked.absent = walked
            .not_here
            .iter()
            .filter_map(|child| child.platform.clone())
            .collect();
        walked.absent.retain(|platform| !platform.is_unknown());
        let not_here = std::mem::take(&mut walked.not_here);
        match &walked.entry.platforms {
            Some(declared) => {
                for platform in declared {
                    if walked.platforms.iter().any(|here| platform.matches(here)) {
                        continue;
                    }
                    let offers = |child: &&Descriptor| {
                        child
                            .platform
                            .as_ref()
                            .is_some_and(|offered| platform.matches(offered))
                    };
                    let missing = not_here
                        .iter()
                        .find(offers)
                        .map_or(walked.root(), |child| child.digest);
                    walked.blobs.insert(missing);
                    self.require(&missing);
                    if missing == walked.root() {
                        let reason = format!("declared to hold {platform}, which it does not");
                        self.find(&missing, Problem::Document { reason });
                    }
                }
            }
            None if walked.manifests.is_empty() => {
                for child in &not_here {
                    walked.blobs.insert(child.digest);
                    self.require(&child.digest);
                }
            }
            None => {}
        }
    }

    fn descend(&mut self, descriptor: &Descriptor, depth: usize, walked: &mut Walk<'_>) {
        let digest = descriptor.digest;
        if depth > MAX_DEPTH {
            walked.blobs.insert(digest);
            self.find(&digest, Problem::TooDeep { limit: MAX_DEPTH });
            return;
        }
        if walked.blobs.contains(&digest) || !self.count(1, walked) {
            return;
        }
        let Some(node) = self.document(descriptor) else {
            if depth == 0 {
                walked.blobs.insert(digest);
                self.require(&digest);
            } else {
                walked.not_here.push(descriptor.bare_with_platform());
            }
            return;
        };
        walked.blobs.insert(digest);
        match &node.content {
            NodeContent::Unusable => {}
            NodeContent::Index(children) => {
                for child in children {
                    if walked.is_over {
                        break;
                    }
                    if child.media_type.is_document() || child.media_type.kind() == Kind::Schema1 {
                        self.descend(child, depth + 1, walked);
                    } else if self.mention(child) && self.count(1, walked) {
                        walked.blobs.insert(child.digest);
                    }
                }
            }
            NodeContent::Manifest(manifest) => self.manifest(descriptor, manifest, walked),
        }
    }

    /// Counts descriptors against the limits. False once one is passed.
    fn count(&mut self, more: usize, walked: &mut Walk<'_>) -> bool {
        walked.descriptors = walked.descriptors.saturating_add(more);
        self.descriptors = self.descriptors.saturating_add(more);
        let limit = if walked.descriptors > MAX_DESCRIPTORS {
            MAX_DESCRIPTORS
        } else if self.descriptors > MAX_ALL_DESCRIPTORS {
            MAX_ALL_DESCRIPTORS
        } else {
            return true;
        };
        if !std::mem::replace(&mut walked.is_over, true) {
            // So that the finding counts against this image, of which nothing may have been noted yet.
            walked.blobs.insert(walked.root());
            self.find(&walked.root(), Problem::TooMany { limit });
        }
        false
    }

    fn manifest(&mut self, descriptor: &Descriptor, manifest: &Rc<ManifestNode>, walked: &mut Walk<'_>) {
        if !self.count(1 + manifest.layers.len(), walked) {
            return;
        }
        walked.blobs.insert(manifest.config.digest);
        self.require(&manifest.config.digest);
        for (at, layer) in manifest.layers.iter().enumerate() {
            walked.declared.remove(&layer.digest);
            let is_declared = walked.entry.uncompressed.contains(&layer.digest);
            match manifest.diff_id(at).filter(|_| is_declared) {
                Some(diff_id) => self.uncompressed(&layer.digest, diff_id, walked),
                None => {
                    walked.blobs.insert(layer.digest);
                    self.require(&layer.digest);
                }
            }
        }
        if descriptor.attests().is_some() {
            return;
        }
        if let Some(config) = manifest.parsed.as_ref().filter(|_| !manifest.agrees()) {
            let (layers, diff_ids) = (manifest.layers.len(), config.diff_ids.len());
            walked.blobs.insert(manifest.config.digest);
            self.find(&manifest.config.digest, Problem::DiffIdCount { layers, diff_ids });
        }
        walked.manifests.push(Rc::clone(manifest));
        let platform = manifest.parsed.as_ref().map(|config| &config.platform);
        let platform = descriptor
            .platform
            .as_ref()
            .or(platform)
            .filter(|platform| !platform.is_unknown());
        if let Some(platform) = platform.filter(|platform| !walked.platforms.contains(platform)) {
            walked.platforms.push(platform.clone());
        }
    }

    /// Takes note of a layer that is declared to be here only uncompressed. The config says what it must be, so
    /// that the chain of digests is closed without its stored bytes. They may be here all the same, for another
    /// image.
    fn uncompressed(&mut self, layer: &Digest, diff_id: Digest, walked: &mut Walk<'_>) {
        let is_packed = self.content.stored(layer).is_some();
        if is_packed {
            walked.blobs.insert(*layer);
        }
        match self.content.stored(&diff_id).map(|stored| stored.size) {
            Some(size) => {
                let is_new = walked.blobs.insert(diff_id);
                walked.uncompressed += usize::from(is_new && !is_packed);
                let plain = MediaType::new(MediaType::OCI_LAYER);
                self.mention(&Descriptor::new(plain, diff_id, size));
                if let Some(blob) = self.blobs.get_mut(&diff_id) {
                    blob.diff_ids.insert(diff_id);
                }
            }
            None if is_packed => {}
            None => {
                walked.blobs.insert(*layer);
                let blob = self.blobs.entry(*layer).or_default();
                if !std::mem::replace(&mut blob.is_reported_missing, true) {
                    self.find(layer, Problem::MissingUncompressed { diff_id });
                }
            }
        }
    }

    /// Takes note of a descriptor. Whether its blob is here, in the size that it says.
    fn mention(&mut self, descriptor: &Descriptor) -> bool {
        let digest = descriptor.digest;
        let found = self.content.stored(&digest).map(|stored| stored.size);
        let blob = self.blobs.entry(digest).or_default();
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
        if !fits && self.sizes.insert((digest, descriptor.size)) {
            let expected = descriptor.size;
            self.find(&digest, Problem::SizeDiffers { expected, found });
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

    /// Reports a blob that is not here, once.
    pub fn require(&mut self, digest: &Digest) {
        if self.content.stored(digest).is_some() {
            return;
        }
        let blob = self.blobs.entry(*digest).or_default();
        if !std::mem::replace(&mut blob.is_reported_missing, true) {
            self.find(digest, Problem::Missing);
        }
    }

    /// Reads a document or config, once. `None` if it is not here, or cannot be used, which is reported.
    fn read(&mut self, descriptor: &Descriptor) -> Option<Vec<u8>> {
        if !self.mention(descriptor) {
            return None;
        }
        let digest = descriptor.digest;
        if descriptor.size > MAX_METADATA {
            let (limit, found) = (MAX_METADATA, descriptor.size);
            self.find(&digest, Problem::TooLarge { limit, found });
            return None;
        }
        let outcome = self.content.metadata(descriptor);
        if let Some(blob) = self.blobs.get_mut(&digest) {
            blob.is_read = true;
        }
        match outcome {
            Ok(bytes) => bytes,
            Err(Error::Refused(finding)) => {
                self.find(&digest, finding.problem);
                None
            }
            Err(error) => {
                self.unread.push(error);
                None
            }
        }
    }

    /// The document that a descriptor names; `None` if it is not here.
    fn document(&mut self, descriptor: &Descriptor) -> Option<Rc<Node>> {
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
        if self.content.stored(&digest).is_none() {
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
                // One more than are followed, so that it is told.
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

    /// Takes note of a manifest's config and layers.
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
                if let Some(blob) = self.blobs.get_mut(&layer.digest) {
                    blob.diff_ids.insert(*diff_id);
                }
            }
        }
        Rc::new(node)
    }

    pub fn place(&self, entry: &str) -> Place {
        Place::default().within(self.content.label()).entry(entry)
    }
}

impl Descriptor {
    /// What is kept of an index entry: no free text but what tells attestations.
    fn bare_with_platform(&self) -> Descriptor {
        let mut kept = self.bare();
        kept.platform.clone_from(&self.platform);
        if self.attests().is_some() {
            kept.annotations.clone_from(&self.annotations);
        }
        kept
    }
}
