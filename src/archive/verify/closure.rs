//! Follows `index.json` down to the layers. Unlike [`crate::image::Graph::walk`], which ends at the first
//! thing that is wrong, this goes on and gathers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::documents::{Blob, ManifestNode, Node, NodeContent, Nodes};
use super::place_of;
use crate::archive::content::Content;
use crate::archive::format::Entry;
use crate::error::{Error, Finding, Problem};
use crate::image::choice::Contest;
use crate::image::graph::{MAX_ALL_DESCRIPTORS, MAX_DEPTH, MAX_DESCRIPTORS};
use crate::image::provenance::Evidence;
use crate::oci::{Descriptor, Digest, Kind, MediaType, Platform, Reference};

/// What is known about all images together.
pub(super) struct Closure<'a> {
    pub content: &'a dyn Content,
    pub findings: Vec<Finding>,
    pub unread: Vec<Error>,
    /// Every blob that something refers to, here or not.
    pub blobs: BTreeMap<Digest, Blob>,
    pub(super) documents: HashMap<Digest, Rc<Node>>,
    followed: HashMap<Root, Rc<Followed>>,
    /// Wrong sizes that were reported.
    pub(super) sizes: HashSet<(Digest, u64)>,
    /// Manifests whose platforms were reported to be others than their index says.
    pub(super) denied: HashSet<Digest>,
    contest: Contest,
    descriptors: usize,
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

    /// Looks for indexes of which engines could take different images for one platform.
    fn check_choice(&mut self, root: &Digest) {
        self.contest.look(&Nodes(&self.documents), root);
        for (index, problem) in std::mem::take(&mut self.contest.found) {
            self.find(&index, problem);
        }
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
}
