//! Follows an image down to its layers. Unlike [`crate::image::Graph::walk`], which ends at the first problem,
//! this collects all of them.

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::documents::{ManifestNode, NodeContent, Nodes};
use super::referrers::FollowedReferrers;
use super::{Root, Verification};
use crate::error::Problem;
use crate::image::graph::{MAX_ALL_DESCRIPTORS, MAX_DEPTH, MAX_DESCRIPTORS};
use crate::oci::{Descriptor, Digest, Kind, MediaType, Platform};

/// An image that was followed.
pub struct Followed {
    pub(crate) root: Root,
    /// What was found below it.
    pub(crate) parts: Rc<Parts>,
    /// What refers to it.
    pub(crate) referrers: Rc<FollowedReferrers>,
}

/// The properties of a root besides names: roots with equal ones are followed once.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Key {
    media_type: MediaType,
    digest: Digest,
    size: u64,
    attests: Option<String>,
    platform: Option<Platform>,
    platforms: Option<Vec<Platform>>,
    uncompressed: BTreeSet<Digest>,
}

/// What is below a root, down to the layers.
pub(crate) struct Parts {
    pub platforms: Arc<[Platform]>,
    pub absent: Arc<[Platform]>,
    /// Its manifests that are present.
    pub manifests: Vec<Rc<ManifestNode>>,
    /// Its manifests and indexes that are present.
    pub documents: Vec<Digest>,
    /// Everything that it refers to and that is or must be present.
    pub blobs: HashSet<Digest>,
    /// Number of layers that are present only uncompressed.
    pub uncompressed: usize,
    /// Layers that are declared to be left out.
    pub omitted: BTreeSet<Digest>,
}

/// The state while one image is followed.
struct Walk<'r> {
    root: &'r Root,
    platforms: Vec<Platform>,
    absent: Vec<Platform>,
    manifests: Vec<Rc<ManifestNode>>,
    documents: Vec<Digest>,
    blobs: HashSet<Digest>,
    uncompressed: usize,
    omitted: BTreeSet<Digest>,
    not_here: Vec<Descriptor>,
    /// Layers declared to be present only uncompressed; at the end, those that no manifest names.
    declared: BTreeSet<Digest>,
    descriptors: usize,
    /// Whether a limit was exceeded, so that the rest is ignored.
    is_over: bool,
}

impl Walk<'_> {
    fn digest(&self) -> Digest {
        self.root.descriptor.digest
    }
}

impl Verification<'_> {
    /// Follows an image: reads its documents and configs, and notes its layers.
    pub fn follow(&mut self, root: Root) -> Followed {
        let parts = self.parts_of(&root);
        Followed {
            root,
            parts,
            referrers: Rc::default(),
        }
    }

    /// Follows a root, or returns what was found for an equal one.
    fn parts_of(&mut self, root: &Root) -> Rc<Parts> {
        let descriptor = &root.descriptor;
        let key = Key {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest,
            size: descriptor.size,
            attests: descriptor.attests().map(str::to_string),
            platform: descriptor.platform.clone(),
            platforms: root.platforms.clone(),
            uncompressed: root.uncompressed.clone(),
        };
        if let Some(known) = self.followed.get(&key) {
            return Rc::clone(known);
        }
        let mut walk = Walk {
            root,
            platforms: Vec::new(),
            absent: Vec::new(),
            manifests: Vec::new(),
            documents: Vec::new(),
            blobs: HashSet::new(),
            uncompressed: 0,
            omitted: BTreeSet::new(),
            not_here: Vec::new(),
            declared: root.uncompressed.clone(),
            descriptors: 0,
            is_over: false,
        };
        self.descend(descriptor, 0, &mut walk);
        self.check_configs(std::slice::from_ref(descriptor));
        self.check_platforms(&mut walk);
        self.check_choice(&descriptor.digest);
        if let Some(layer) = walk.declared.first() {
            let reason =
                format!("declared to hold layer {layer} uncompressed, which none of its manifests names");
            self.find(&descriptor.digest, Problem::Document { reason });
        }
        let parts = Rc::new(Parts {
            platforms: walk.platforms.into(),
            absent: walk.absent.into(),
            manifests: walk.manifests,
            documents: walk.documents,
            blobs: walk.blobs,
            uncompressed: walk.uncompressed,
            omitted: walk.omitted,
        });
        self.followed.insert(key, Rc::clone(&parts));
        parts
    }

    /// Finds indexes of which engines could take different images for one platform.
    fn check_choice(&mut self, root: &Digest) {
        self.contest.look(&Nodes(&self.documents), root);
        for (index, problem) in std::mem::take(&mut self.contest.found) {
            self.find(&index, problem);
        }
    }

    /// Checks that a sparse index has the declared platforms, or at least one.
    fn check_platforms(&mut self, walked: &mut Walk<'_>) {
        walked.absent = walked
            .not_here
            .iter()
            .filter_map(|child| child.platform.clone())
            .collect();
        walked.absent.retain(|platform| !platform.is_unknown());
        let not_here = std::mem::take(&mut walked.not_here);
        match &walked.root.platforms {
            Some(declared) if !declared.is_empty() => {
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
                        .map_or(walked.digest(), |child| child.digest);
                    walked.blobs.insert(missing);
                    self.require(&missing);
                    if missing == walked.digest() {
                        let reason = format!("declared to hold {platform}, which it does not");
                        self.find(&missing, Problem::Document { reason });
                    }
                }
            }
            _ if walked.manifests.is_empty() => {
                for child in &not_here {
                    walked.blobs.insert(child.digest);
                    self.require(&child.digest);
                }
            }
            _ => {}
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
        walked.documents.push(digest);
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
                self.check_configs(children);
            }
            NodeContent::Manifest(manifest) => self.manifest(descriptor, manifest, walked),
        }
    }

    /// Counts descriptors against the limits. False once one is exceeded.
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
            // So that the finding counts for this image, even if nothing of it has been noted yet.
            walked.blobs.insert(walked.digest());
            self.find(&walked.digest(), Problem::TooMany { limit });
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
            let is_declared = walked.root.uncompressed.contains(&layer.digest);
            match manifest.diff_id(at).filter(|_| is_declared) {
                Some(diff_id) => self.uncompressed(layer, diff_id, walked),
                None if self.omits(descriptor, manifest, layer) => {
                    walked.omitted.insert(layer.digest);
                }
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

    /// Whether a layer of an image is missing, and declared to be left out. Nothing else may be.
    fn omits(&mut self, descriptor: &Descriptor, manifest: &ManifestNode, layer: &Descriptor) -> bool {
        let is_image = descriptor.attests().is_none() && manifest.is_runnable();
        if !is_image || !self.omits.contains(&layer.digest) || self.size(layer).is_some() {
            return false;
        }
        self.omitted.insert(layer.digest, layer.size);
        true
    }

    /// Notes a layer that is declared to be present only uncompressed. The config has its diff id, so the chain
    /// of digests is closed without its stored bytes. Those may be present too, for another image.
    fn uncompressed(&mut self, layer: &Descriptor, diff_id: Digest, walked: &mut Walk<'_>) {
        let is_stored = self.size(layer).is_some();
        if is_stored {
            walked.blobs.insert(layer.digest);
        }
        let mut tar = Descriptor::new(MediaType::new(MediaType::OCI_LAYER), diff_id, 0);
        match self.size(&tar) {
            Some(size) => {
                let is_new = walked.blobs.insert(diff_id);
                walked.uncompressed += usize::from(is_new && !is_stored);
                tar.size = size;
                self.mention(&tar);
                if let Some(blob) = self.noted.get_mut(&diff_id) {
                    blob.diff_ids.insert(diff_id);
                }
            }
            None if is_stored => {}
            None => {
                walked.blobs.insert(layer.digest);
                let blob = self.noted.entry(layer.digest).or_default();
                if !std::mem::replace(&mut blob.is_reported_missing, true) {
                    self.find(&layer.digest, Problem::MissingUncompressed { diff_id });
                }
            }
        }
    }
}
