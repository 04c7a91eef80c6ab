//! Indexes of which engines could take different images for one platform.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use super::choice::{Below, Tree, is_named, read};
use super::graph::{MAX_ALL_DESCRIPTORS, MAX_DEPTH};
use crate::error::Problem;
use crate::oci::{Descriptor, Digest, Platform};

/// Whether a platform is one that engines accept in place of another, or one of those.
fn has_rivals(platform: &Platform) -> bool {
    let is_known = |variant: &str| matches!(variant.as_bytes(), [b'v', b'1'..=b'9']);
    let variant = platform.variant.as_deref();
    matches!(platform.architecture.as_str(), "386" | "amd64" | "arm" | "arm64")
        && variant.is_none_or(is_known)
}

/// Whether engines of a platform also accept images for another.
///
/// Source: containerd, `platforms/compare.go` (`platformVector`).
fn is_accepted_for(other: &Platform, own: &Platform) -> bool {
    match (other.architecture.as_str(), own.architecture.as_str()) {
        ("386", "amd64") | ("arm", "arm64") => true,
        ("arm", "arm") => other.variant < own.variant,
        _ => false,
    }
}

/// The fields by which engines distinguish platforms: operating system, architecture and variant; on systems
/// other than Linux also version and features.
type Key = (Platform, String);

fn key(platform: &Platform) -> Key {
    let mut normal = read(platform).normalized();
    if normal.os == "linux" {
        normal.os_version = None;
        normal.os_features.clear();
    }
    let mut features = std::mem::take(&mut normal.os_features);
    features.sort();
    (normal, features.join(","))
}

/// An image in an index: its manifest and its id.
#[derive(Clone, Copy)]
struct Offered {
    manifest: Digest,
    id: Digest,
    /// Whether the index gives no platform for it.
    is_silent: bool,
    /// Its place in the index.
    at: usize,
}

/// The images of an index, one for each platform.
#[derive(Default)]
struct IndexImages {
    images: BTreeMap<Key, Offered>,
    /// Entries that are not images and would be taken for a platform.
    others: BTreeMap<Key, Digest>,
    /// The first entry that is not an image and has no platform in index or config.
    any: Option<Digest>,
}

/// Finds indexes of which engines could take different images for one platform.
pub(crate) struct Contest {
    known: HashMap<Digest, Rc<IndexImages>>,
    /// The problems, by the digest of the index.
    pub found: Vec<(Digest, Problem)>,
    offers: usize,
}

impl Contest {
    pub(crate) fn new() -> Contest {
        Contest {
            known: HashMap::new(),
            found: Vec::new(),
            offers: 0,
        }
    }

    /// Checks an index and nested ones, each once.
    pub(crate) fn look(&mut self, tree: &dyn Tree, index: &Digest) {
        self.of(tree, index, 0);
    }

    fn of(&mut self, tree: &dyn Tree, index: &Digest, depth: usize) -> Rc<IndexImages> {
        if let Some(known) = self.known.get(index) {
            return Rc::clone(known);
        }
        if depth > MAX_DEPTH {
            return Rc::default();
        }
        // An index cannot contain itself; a tree that says so is refused elsewhere.
        self.known.insert(*index, Rc::default());
        let mut contest = Level {
            index: *index,
            offers: IndexImages::default(),
            found: BTreeMap::new(),
        };
        if let Some(Below::Index(entries)) = tree.below(index) {
            let mut seen = HashSet::new();
            let mut entries: Vec<&Descriptor> = entries.iter().collect();
            entries.retain(|entry| {
                seen.insert((entry.digest, entry.platform.as_ref(), entry.attests().is_some()))
            });
            for (at, entry) in entries.into_iter().enumerate() {
                self.entry(tree, (at, entry), &mut contest, depth);
            }
            contest.judge();
        }
        self.found
            .extend(contest.found.into_values().map(|problem| (*index, problem)));
        let offers = Rc::new(contest.offers);
        self.known.insert(*index, Rc::clone(&offers));
        offers
    }

    fn entry(&mut self, tree: &dyn Tree, (at, entry): (usize, &Descriptor), level: &mut Level, depth: usize) {
        let leaf = match tree.below(&entry.digest) {
            Some(Below::Manifest(leaf)) => leaf,
            Some(Below::Index(_)) => {
                let inner = self.of(tree, &entry.digest, depth + 1);
                for (key, other) in &inner.others {
                    self.count(level, |level| level.other(key.clone(), *other));
                }
                for (key, image) in &inner.images {
                    if let Some(other) = level.offers.any {
                        level.no_image(key, other);
                    }
                    let is_silent = image.is_silent || entry.platform.is_none();
                    let image = Offered {
                        is_silent,
                        at,
                        ..*image
                    };
                    self.count(level, |level| level.image(key.clone(), image));
                }
                level.offers.any = level.offers.any.or(inner.any);
                return;
            }
            None => return,
        };
        let is_image = leaf.is_image && entry.attests().is_none();
        let said = entry.platform.as_ref().filter(|platform| is_named(platform));
        // Docker treats an empty platform like none.
        let is_empty = |platform: &Platform| platform.os.is_empty() && platform.architecture.is_empty();
        let is_silent = entry.platform.as_ref().is_none_or(is_empty);
        let platform = match said {
            Some(said) => Some(said),
            None if is_silent => leaf.platform.filter(|platform| is_named(platform)),
            None => return,
        };
        match platform {
            _ if leaf.is_open() => {}
            Some(platform) if is_image => {
                if let Some(other) = level.offers.any {
                    level.no_image(&key(platform), other);
                }
                let image = Offered {
                    manifest: entry.digest,
                    id: leaf.config.digest,
                    is_silent: said.is_none(),
                    at,
                };
                level.image(key(platform), image);
            }
            Some(platform) => level.other(key(platform), entry.digest),
            None if leaf.may_fit() && entry.attests().is_none() => {
                level.offers.any.get_or_insert(entry.digest);
            }
            None => {}
        }
    }

    /// Counts the entries taken over from nested indexes, up to a limit.
    fn count(&mut self, level: &mut Level, take: impl FnOnce(&mut Level)) {
        self.offers = self.offers.saturating_add(1);
        if self.offers <= MAX_ALL_DESCRIPTORS {
            take(level);
        } else if self.offers == MAX_ALL_DESCRIPTORS + 1 {
            let limit = MAX_ALL_DESCRIPTORS;
            self.found.push((level.index, Problem::TooMany { limit }));
        }
    }
}

/// One index that is being checked.
struct Level {
    index: Digest,
    offers: IndexImages,
    found: BTreeMap<Key, Problem>,
}

impl Level {
    fn image(&mut self, at: Key, image: Offered) {
        let known = self.offers.images.entry(at.clone()).or_insert(image);
        known.is_silent &= image.is_silent;
        let first = *known;
        if first.id != image.id {
            let platform = at.0.clone();
            self.found.entry(at).or_insert(Problem::PlatformOfTwoImages {
                platform,
                first: first.manifest,
                second: image.manifest,
            });
        }
    }

    /// Adds something that is not an image. An engine takes the first of several.
    fn other(&mut self, at: Key, other: Digest) {
        if !self.offers.images.contains_key(&at) {
            self.offers.others.entry(at).or_insert(other);
        }
    }

    fn no_image(&mut self, at: &Key, other: Digest) {
        let platform = at.0.clone();
        let problem = Problem::PlatformOfNoImage { platform, other };
        self.found.entry(at.clone()).or_insert(problem);
    }

    /// Finds entries that some engines would take instead of another.
    fn judge(&mut self) {
        self.judge_accepted();
        self.judge_others();
    }

    /// Finds images, and other entries, that engines accept in place of an image without a platform in the index. They
    /// prefer those with a platform there, or else take the first.
    fn judge_accepted(&mut self) {
        // Grouped, so that a hostile index with many platforms does not take long.
        let mut systems: HashMap<&str, System<'_>> = HashMap::new();
        for (at, image) in self.offers.images.iter().filter(|(at, _)| has_rivals(&at.0)) {
            let system = systems.entry(at.0.os.as_str()).or_default();
            system.images.push((at, image));
        }
        for (at, other) in self.offers.others.iter().filter(|(at, _)| has_rivals(&at.0)) {
            let system = systems.entry(at.0.os.as_str()).or_default();
            system.others.push((at, other));
        }
        let found: Vec<(Key, Problem)> = systems.values().flat_map(System::problems).collect();
        for (at, problem) in found {
            self.found.entry(at).or_insert(problem);
        }
    }

    /// Finds entries that are not images and would be taken instead of an image for the same architecture.
    fn judge_others(&mut self) {
        if self.offers.others.is_empty() {
            return;
        }
        let place = |key: &Key| (key.0.os.clone(), key.0.architecture.clone());
        let images: HashSet<(String, String)> = self.offers.images.keys().map(place).collect();
        for (at, other) in &self.offers.others {
            if images.contains(&place(at)) {
                let (platform, other) = (at.0.clone(), *other);
                let problem = Problem::PlatformOfNoImage { platform, other };
                self.found.entry(at.clone()).or_insert(problem);
            }
        }
    }
}

/// The entries of an index for one operating system that engines may accept in place of others.
#[derive(Default)]
struct System<'o> {
    images: Vec<(&'o Key, &'o Offered)>,
    others: Vec<(&'o Key, &'o Digest)>,
}

impl System<'_> {
    fn problems(&self) -> Vec<(Key, Problem)> {
        let mut found = Vec::new();
        for (at, silent) in self.images.iter().filter(|(_, image)| image.is_silent) {
            let platform = &at.0;
            let rival = self.images.iter().find(|(other, image)| {
                let comes_first = !image.is_silent || image.at < silent.at;
                comes_first && image.id != silent.id && is_accepted_for(&other.0, platform)
            });
            let mut others = self.others.iter();
            let other = others.find(|(other, _)| is_accepted_for(&other.0, platform));
            let problem = match (rival, other) {
                (Some((_, rival)), _) => Problem::PlatformOfTwoImages {
                    platform: platform.clone(),
                    first: silent.manifest,
                    second: rival.manifest,
                },
                (None, Some((_, other))) => Problem::PlatformOfNoImage {
                    platform: platform.clone(),
                    other: **other,
                },
                (None, None) => continue,
            };
            found.push(((*at).clone(), problem));
        }
        found
    }
}
