//! Which image of an index an engine chooses.
//!
//! containerd, skopeo and Docker's classic store use the platforms of the index entries, not the manifests. An
//! entry with a platform comes before one without, and the first of several equal ones wins. containerd and
//! skopeo descend into a nested index at its place; Docker's classic store does not. An entry without a
//! platform has that of its config, or any. The containerd store of Docker 28 takes the first entry for the
//! platform that it finds, with or without a platform in the index, nested or not, and with any type of config.
//!
//! Engines therefore differ if an index has two images for one platform, or an entry for a platform that is not
//! an image. They also differ about an image without a platform in the index, if it is next to another that its
//! engines accept in its place. Of `[amd64 by its config; 386 in the index]`, pulls of Docker 26 and 28 choose 386,
//! Docker 20.10 none, and skopeo and a load into the containerd store amd64. Of `[386; amd64]`, both by their configs,
//! only the load chooses amd64. Such an index is refused ([`Contest`](super::contest::Contest)).
//!
//! Sources: containerd, `core/images/image.go` (`Manifest`); moby, `distribution/pull_v2_unix.go`; containers/image,
//! `internal/manifest/oci_index.go` (`chooseInstance`).

use std::collections::HashSet;

use super::graph::MAX_DEPTH;
use crate::oci::{Descriptor, Digest, Kind, MediaType, Platform};

/// The target of an index entry.
pub(crate) enum Below<'a> {
    Index(&'a [Descriptor]),
    Manifest(Leaf<'a>),
}

/// A manifest, with the fields that the choice depends on.
pub(crate) struct Leaf<'a> {
    /// Its config.
    pub config: &'a Descriptor,
    /// The platform in the config, if it is an image's config and was read.
    pub platform: Option<&'a Platform>,
    /// Whether config and layers are those of an image.
    pub is_image: bool,
}

impl Leaf<'_> {
    /// Whether an engine that reads the config may take this if the index names no platform.
    pub(super) fn may_fit(&self) -> bool {
        match self.platform {
            Some(platform) => is_named(platform),
            None => self.config.media_type.as_str() != MediaType::OCI_EMPTY,
        }
    }

    /// Whether its config is that of an image and could not be read.
    pub(super) fn is_open(&self) -> bool {
        self.platform.is_none() && self.config.media_type.kind() == Kind::Config
    }
}

/// Indexes and manifests by their digests.
pub(crate) trait Tree {
    /// The target of an entry, if it is present.
    fn below(&self, digest: &Digest) -> Option<Below<'_>>;
}

/// Whether an engine can select an image by this platform.
pub(super) fn is_named(platform: &Platform) -> bool {
    !platform.is_unknown() && !platform.architecture.is_empty()
}

/// The platform of an entry as engines read it: containerd and Docker replace a missing operating system by
/// their own.
pub(super) fn read(platform: &Platform) -> Platform {
    let mut read = platform.clone();
    if read.os.is_empty() {
        read.os = "linux".into();
    }
    read
}

/// The manifest that an engine with these platforms, the best first, chooses, if it is an image.
pub(crate) fn choose(tree: &dyn Tree, root: &Digest, platforms: &[Platform]) -> Option<Digest> {
    let mut choice = Choice {
        tree,
        platforms,
        seen: HashSet::new(),
    };
    choice.within(root, 0)?.ok()
}

struct Choice<'t, 'p> {
    tree: &'t dyn Tree,
    platforms: &'p [Platform],
    seen: HashSet<Digest>,
}

/// An engine would take something that is not an image.
struct NoImage;

impl Choice<'_, '_> {
    fn within(&mut self, index: &Digest, depth: usize) -> Option<Result<Digest, NoImage>> {
        if depth > MAX_DEPTH || !self.seen.insert(*index) {
            return None;
        }
        let tree = self.tree;
        let Some(Below::Index(entries)) = tree.below(index) else {
            return None;
        };
        let named = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(is_named);
        for wanted in self.platforms {
            for entry in entries.iter().filter(named) {
                let offered = entry.platform.as_ref().map(read);
                if !offered.is_some_and(|offered| wanted.matches(&offered)) {
                    continue;
                }
                match tree.below(&entry.digest) {
                    Some(Below::Manifest(leaf)) if leaf.is_image => {
                        return Some(Ok(entry.digest));
                    }
                    Some(Below::Manifest(leaf)) if !leaf.is_open() => return Some(Err(NoImage)),
                    Some(Below::Index(_)) => {
                        if let Some(chosen) = self.within(&entry.digest, depth + 1) {
                            return Some(chosen);
                        }
                    }
                    _ => {}
                }
            }
        }
        for entry in entries.iter().filter(|entry| entry.platform.is_none()) {
            match tree.below(&entry.digest) {
                Some(Below::Manifest(leaf)) => {
                    let takes = |found: &Platform| self.platforms.iter().any(|wanted| wanted.matches(found));
                    let fits = leaf.platform.is_some_and(takes);
                    if fits && leaf.is_image && entry.attests().is_none() {
                        return Some(Ok(entry.digest));
                    }
                    if fits {
                        return Some(Err(NoImage));
                    }
                }
                Some(Below::Index(_)) => {
                    if let Some(chosen) = self.within(&entry.digest, depth + 1) {
                        return Some(chosen);
                    }
                }
                None => {}
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
