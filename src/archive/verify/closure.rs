//! Follows `index.json` down to the layers. Unlike [`crate::image::Graph::walk`], which ends at the first
//! problem, this collects all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::documents::{Blob, ManifestNode, Node, NodeContent, Nodes};
use super::place_of;
use crate::archive::format::Entry;
use crate::archive::layout::Layout;
use crate::error::{Error, Finding, Problem};
use crate::image::choice::Contest;
use crate::image::graph::{MAX_ALL_DESCRIPTORS, MAX_DEPTH, MAX_DESCRIPTORS};
use crate::image::provenance::Evidence;
use crate::oci::{Descriptor, Digest, Kind, MediaType, Platform, Reference};

/// The state for all images together.
pub(super) struct Closure<'a> {
    pub content: &'a dyn Layout,
    pub findings: Vec<Finding>,
    pub unread: Vec<Error>,
    /// Every blob that is referred to, present or not.
    pub blobs: BTreeMap<Digest, Blob>,
    pub(super) documents: HashMap<Digest, Rc<Node>>,
    followed: HashMap<Root, Rc<Followed>>,
    /// Wrong sizes that were reported.
    pub(super) sizes: HashSet<(Digest, u64)>,
    /// Manifests that were reported to contradict the platform in their index.
    pub(super) denied: HashSet<Digest>,
    contest: Contest,
    descriptors: usize,
}

/// One entry of `index.json`.
pub(super) struct Walked {
    pub reference: Option<Reference>,
    pub bare_tag: Option<String>,
    /// Its digest.
    pub digest: Option<Digest>,
    /// The evidence for that digest.
    pub evidence: Evidence,
    /// What was found below it.
    pub followed: Rc<Followed>,
}

/// The properties of an entry besides names: entries with equal ones are followed once.
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
    /// Its manifests that are present.
    pub manifests: Vec<Rc<ManifestNode>>,
    /// Everything that it refers to and that is or must be present.
    pub blobs: HashSet<Digest>,
    /// Number of layers that are present only uncompressed.
    pub uncompressed: usize,
}

/// The state for one image.
struct Walk<'e> {
    entry: &'e Entry,
    platforms: Vec<Platform>,
    absent: Vec<Platform>,
    manifests: Vec<Rc<ManifestNode>>,
    blobs: HashSet<Digest>,
    uncompressed: usize,
    not_here: Vec<Descriptor>,
    /// Layers declared to be present only uncompressed; at the end, those that no manifest names.
    declared: BTreeSet<Digest>,
    descriptors: usize,
    /// Whether a limit was exceeded, so that the rest is ignored.
    is_over: bool,
}

impl Walk<'_> {
    fn root(&self) -> Digest {
        self.entry.descriptor.digest
    }
}

impl<'a> Closure<'a> {
    pub fn new(content: &'a dyn Layout) -> Closure<'a> {
        Closure {
            content,
            findings: Vec::new(),
            unread: Vec::new(),
            blobs: BTreeMap::new(),
            documents: HashMap::new(),
            followed: HashMap::new(),
            sizes: HashSet::new(),
            denied: HashSet::new(),
            contest: Contest::new(),
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
            evidence: entry.provenance().evidence(),
            followed: self.follow(entry),
        }
    }

    /// Follows the descriptor of an entry, or returns what was found for an equal one.
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
        self.check_configs(std::slice::from_ref(descriptor));
        self.check_platforms(&mut walk);
        self.check_choice(&root.digest);
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
        match &walked.entry.platforms {
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
                        .map_or(walked.root(), |child| child.digest);
                    walked.blobs.insert(missing);
                    self.require(&missing);
                    if missing == walked.root() {
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

    /// Notes a layer that is declared to be present only uncompressed. The config has its diff id, so the chain
    /// of digests is closed without its stored bytes. Those may be present too, for another image.
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
}
