//! Whether a host still has, or another host has as well, every name and digest of an inventory.
//!
//! Docker's two stores, containerd and podman name one image by different ids: of the config, of the manifest, or of the
//! index. Images are the same if they have a digest or a config in common, or else all of their layers.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{EngineInventory, KnownHost, KnownImage};
use crate::oci::{Digest, Reference};

/// The result of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Comparison {
    /// Number of names, with a tag or a digest, that lead to the same image.
    pub same: usize,
    /// The names that do not.
    pub differences: Vec<Difference>,
    /// Names that the inventory does not have.
    pub more: Vec<String>,
    /// Number of images without a name, which are not compared.
    pub nameless: usize,
}

/// A name that does not lead to the image of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The name, with a tag or a digest.
    pub name: String,
    /// The kind of engine that should have it.
    pub engine: String,
    /// What is different.
    pub reason: Reason,
    /// The digest of the image in the inventory, or its id.
    pub before: String,
    /// The digest of the image that has the name now, or its id.
    pub now: Option<String>,
}

/// What is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No image has the name.
    Missing,
    /// Another image has it.
    OtherImage,
    /// An image has it that cannot be compared: its digests are others, and neither configs nor layers are known.
    Unknown,
    /// The engine lacks content of the image.
    Incomplete,
}

impl Comparison {
    /// Compares what a host has now with an inventory of it or of another host. Each engine is compared with the one of
    /// its kind and namespace, of several the one with the same target; if there is one on either side, with that.
    pub fn of(before: &KnownHost, now: &[EngineInventory]) -> Comparison {
        let mut comparison = Comparison::default();
        let mut more = BTreeSet::new();
        for engine in &before.engines {
            let is_its =
                |one: &&EngineInventory| one.engine == engine.engine && one.namespace == engine.namespace;
            let counterpart = match (before.engines.as_slice(), now) {
                ([_], [only]) => Some(only),
                _ => {
                    let mut its = now.iter().filter(is_its);
                    let same = its.clone().find(|one| one.target == engine.target);
                    same.or_else(|| its.next())
                }
            };
            let names = Names::of(counterpart);
            comparison.add(engine, &names);
            let known = Names::of(Some(engine));
            let has = |name: &&String| known.0.contains_key(*name);
            more.extend(names.0.keys().filter(|name| !has(name)).cloned());
        }
        comparison
            .differences
            .sort_by(|one, other| one.name.cmp(&other.name));
        comparison.more = more.into_iter().collect();
        comparison
    }

    fn add(&mut self, engine: &EngineInventory, names: &Names<'_>) {
        for image in &engine.images {
            if names_of(image).next().is_none() {
                self.nameless = self.nameless.saturating_add(1);
            }
            let before = HostImage { image, engine };
            for name in names_of(image) {
                let now = names.0.get(&name);
                let Some(reason) = before.difference(now) else {
                    self.same = self.same.saturating_add(1);
                    continue;
                };
                self.differences.push(Difference {
                    before: shown(image, &name),
                    now: now.map(|now| shown(now.image, &name)),
                    name,
                    engine: engine.engine.clone(),
                    reason,
                });
            }
        }
    }
}

/// The images of an engine by their names.
struct Names<'e>(HashMap<String, HostImage<'e>>);

impl<'e> Names<'e> {
    fn of(engine: Option<&'e EngineInventory>) -> Names<'e> {
        let mut names = HashMap::new();
        if let Some(engine) = engine {
            for image in &engine.images {
                let found = HostImage { image, engine };
                names.extend(names_of(image).map(|name| (name, found)));
            }
        }
        Names(names)
    }
}

/// An image of an engine.
#[derive(Clone, Copy)]
struct HostImage<'e> {
    image: &'e KnownImage,
    engine: &'e EngineInventory,
}

impl HostImage<'_> {
    /// What is different about the image that has its name now.
    fn difference(&self, now: Option<&HostImage<'_>>) -> Option<Reason> {
        let Some(now) = now else {
            return Some(Reason::Missing);
        };
        match self.is_same(now) {
            None => Some(Reason::Unknown),
            Some(false) => Some(Reason::OtherImage),
            Some(true) if now.engine.lacks_content(now.image) => Some(Reason::Incomplete),
            Some(true) => None,
        }
    }

    /// Whether two images are the same; `None` if that is not known.
    fn is_same(&self, other: &HostImage<'_>) -> Option<bool> {
        if !self.roots().is_disjoint(&other.roots()) {
            return Some(true);
        }
        let (own, others) = (self.configs(), other.configs());
        if !own.is_empty() && !others.is_empty() {
            return Some(!own.is_disjoint(&others));
        }
        let (own, others) = (&self.image.diff_ids, &other.image.diff_ids);
        if !own.is_empty() && !others.is_empty() {
            return Some(own == others);
        }
        // Two of a kind that name images by their manifests would name the same one equally.
        let is_of_its_kind = self.engine.engine == other.engine.engine;
        let has_configs = self.has_config_as_id() || other.has_config_as_id();
        (is_of_its_kind && !has_configs).then_some(false)
    }

    /// Digests of its manifest or index.
    fn roots(&self) -> HashSet<Digest> {
        let digests = self.image.digests.iter();
        let digests = digests.filter_map(|name| name.parse::<Reference>().ok()?.digest());
        let id = self.image.id.parse().ok().filter(|_| !self.has_config_as_id());
        digests.chain(id).collect()
    }

    /// Digests of its configs, if they are known.
    fn configs(&self) -> HashSet<Digest> {
        let id = self.image.id.parse().ok().filter(|_| self.has_config_as_id());
        id.into_iter()
            .chain(self.image.image_ids.iter().copied())
            .collect()
    }

    fn has_config_as_id(&self) -> bool {
        match self.engine.engine.as_str() {
            // Only the classic store takes layers in any form.
            "docker" => self.engine.accepts.uncompressed,
            "podman" | "crio" => true,
            _ => false,
        }
    }
}

/// The names of an image, with a tag or a digest. Docker's containerd store gives an incomplete image a bare digest,
/// which is none.
fn names_of(image: &KnownImage) -> impl Iterator<Item = String> {
    let names = image.tags.iter().chain(&image.digests);
    let names = names.filter(|name| name.parse::<Digest>().is_err());
    names.map(|name| familiar(name))
}

/// A name as people write it; one that is none stays as it is.
fn familiar(name: &str) -> String {
    let parsed = name.parse::<Reference>();
    parsed.map_or_else(|_| name.into(), |reference| reference.familiar())
}

/// The digest of an image in the repository of a name, or else its id.
fn shown(image: &KnownImage, name: &str) -> String {
    let digest = |name: &String| name.parse::<Reference>().ok()?.digest();
    let repository = |name: &str| {
        name.parse::<Reference>()
            .ok()
            .map(|name| name.repository().clone())
    };
    let its = repository(name);
    let mut own = image.digests.iter().filter(|one| repository(one) == its);
    own.find_map(digest)
        .map_or_else(|| image.id.clone(), |digest| digest.to_string())
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
