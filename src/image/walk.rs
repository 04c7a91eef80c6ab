//! The walk from a descriptor down to its layers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::contest::Contest;
use super::documents::Parsed;
use super::graph::{Branches, FetchParsed, Graph, Image, MAX_DEPTH, MAX_DESCRIPTORS};
use crate::error::{Error, Hint, Place, Problem, Remedy, Result};
use crate::oci::{
    Config, Descriptor, Digest, Index, Kind, MAX_METADATA, Manifest, Platform, PlatformSelection,
};

/// The platforms that an index gives a manifest, which it may list several times.
pub(crate) type IndexPlatforms<'a> = &'a [Option<&'a Platform>];

/// The platforms that the entries of an index give each manifest.
pub(crate) fn index_platforms(entries: &[Descriptor]) -> HashMap<Digest, Vec<Option<&Platform>>> {
    let mut said: HashMap<Digest, Vec<Option<&Platform>>> = HashMap::new();
    for entry in entries {
        said.entry(entry.digest)
            .or_default()
            .push(entry.platform.as_ref());
    }
    said
}

/// The problem of a config that contradicts every platform that the index gives its manifest. One entry that
/// agrees is enough, because an index may list an image of data for every platform.
pub(crate) fn denied(said: IndexPlatforms<'_>, config: &Config) -> Option<Problem> {
    let denies = |said: &Option<&Platform>| said.is_some_and(|said| said.contradicts(&config.platform));
    let first = said.first().copied().flatten()?;
    said.iter().all(denies).then(|| Problem::PlatformDiffers {
        said: first.clone(),
        found: config.platform.clone(),
    })
}

/// Follows a descriptor down to the layers.
pub(super) fn walk(
    root: &Descriptor,
    selection: &PlatformSelection,
    fetch: &mut FetchParsed<'_>,
) -> Result<Graph> {
    let mut walk = Walk {
        graph: Graph {
            root: root.clone(),
            indexes: Vec::new(),
            images: Vec::new(),
            absent: Vec::new(),
        },
        fetch,
        selection,
        seen: HashSet::new(),
        descriptors: 1,
        offered: Vec::new(),
        matched: HashSet::new(),
    };
    walk.descend(root, &[root.platform.as_ref()], 0)?;
    walk.finish()
}

struct Walk<'a, 'f> {
    graph: Graph,
    fetch: &'a mut FetchParsed<'f>,
    selection: &'a PlatformSelection,
    seen: HashSet<Digest>,
    descriptors: usize,
    /// Platforms that exist, for the message if one is missing.
    offered: Vec<Platform>,
    /// Positions in `Only` that were found.
    matched: HashSet<usize>,
}

impl Walk<'_, '_> {
    fn read(&mut self, descriptor: &Descriptor) -> Result<Option<Parsed>> {
        if descriptor.size > MAX_METADATA {
            let problem = Problem::TooLarge {
                limit: MAX_METADATA,
                found: descriptor.size,
            };
            return Err(Error::refused(Place::blob(descriptor.digest), problem));
        }
        (self.fetch)(descriptor)
    }

    /// Follows a descriptor with these platforms in its index. False if it leads to an image for a platform
    /// that was not chosen.
    fn descend(&mut self, descriptor: &Descriptor, said: IndexPlatforms<'_>, depth: usize) -> Result<bool> {
        let refuse = |problem| Err(Error::refused(Place::blob(descriptor.digest), problem));
        if depth > MAX_DEPTH {
            return refuse(Problem::TooDeep { limit: MAX_DEPTH });
        }
        if !self.seen.insert(descriptor.digest) {
            return Ok(true);
        }
        let Some(document) = self.read(descriptor)? else {
            let may_lack = *self.selection == PlatformSelection::Present || descriptor.attests().is_some();
            if depth == 0 || !may_lack {
                return refuse(Problem::Missing);
            }
            self.graph.absent.push(descriptor.clone());
            return Ok(true);
        };
        match document {
            Parsed::Manifest(manifest) => {
                let is_wanted = self.manifest(descriptor, manifest, said, depth == 0)?;
                if !is_wanted {
                    // Another entry may select it.
                    self.seen.remove(&descriptor.digest);
                }
                Ok(is_wanted)
            }
            Parsed::Index(index) => self.index(descriptor, index, depth).map(|()| true),
            // Only the descriptor of a config gives one, and those are not followed.
            Parsed::Config(..) => refuse(Problem::Document {
                reason: format!("{} is neither a manifest nor an index", descriptor.media_type),
            }),
        }
    }

    fn count(&mut self, more: usize) -> Result<()> {
        self.descriptors = self.descriptors.saturating_add(more);
        if self.descriptors > MAX_DESCRIPTORS {
            let place = Place::blob(self.graph.root.digest);
            return Err(Error::refused(
                place,
                Problem::TooMany {
                    limit: MAX_DESCRIPTORS,
                },
            ));
        }
        Ok(())
    }

    fn manifest(
        &mut self,
        descriptor: &Descriptor,
        manifest: Arc<Manifest>,
        said: IndexPlatforms<'_>,
        is_root: bool,
    ) -> Result<bool> {
        self.count(1 + manifest.layers.len())?;
        let mut image = Image {
            descriptor: descriptor.clone(),
            manifest,
            config: None,
            config_raw: None,
        };
        let config = image.manifest.config.clone();
        if config.media_type.kind() == Kind::Config {
            match self.read(&config)? {
                None if *self.selection == PlatformSelection::Present => {}
                None => return Err(Error::refused(Place::blob(config.digest), Problem::Missing)),
                Some(Parsed::Config(raw, parsed)) => {
                    let layers = image.manifest.layers.len();
                    if descriptor.attests().is_none() && parsed.diff_ids.len() != layers {
                        let problem = Problem::DiffIdCount {
                            layers,
                            diff_ids: parsed.diff_ids.len(),
                        };
                        return Err(Error::refused(Place::blob(config.digest), problem));
                    }
                    image.config = Some(parsed);
                    image.config_raw = Some(raw);
                }
                Some(Parsed::Manifest(_) | Parsed::Index(_)) => {
                    let reason = format!("{} is not a config", config.media_type);
                    return Err(Error::refused(
                        Place::blob(config.digest),
                        Problem::Document { reason },
                    ));
                }
            }
        }
        if let Some(problem) = image.config.as_deref().and_then(|config| denied(said, config)) {
            return Err(Error::refused(Place::blob(descriptor.digest), problem));
        }
        if (is_root || descriptor.platform.is_none()) && image.is_runnable() {
            // The index gives no platform, so the config's is used.
            let platform = image.platform().cloned();
            if let Some(platform) = platform
                && !self.choose(&platform)
            {
                return Ok(false);
            }
        } else if is_root && let PlatformSelection::Only(wanted) = self.selection {
            // An artifact has no platform, and is the only choice.
            self.matched.extend(0..wanted.len());
        }
        self.graph.images.push(image);
        Ok(true)
    }

    fn index(&mut self, descriptor: &Descriptor, index: Arc<Index>, depth: usize) -> Result<()> {
        self.count(index.manifests.len())?;
        self.graph.indexes.push((descriptor.clone(), Arc::clone(&index)));
        let said = index_platforms(&index.manifests);
        let said = |entry: &Descriptor| said.get(&entry.digest).map_or(&[][..], Vec::as_slice);
        let mut attestations = Vec::new();
        let mut chosen: HashSet<String> = HashSet::new();
        for entry in &index.manifests {
            if entry.attests().is_some() {
                attestations.push(entry);
                continue;
            }
            let wanted = match (&entry.platform, entry.media_type.kind()) {
                (_, Kind::Index) => true,
                (Some(platform), Kind::Manifest) => self.choose(platform),
                (None, Kind::Manifest) => true,
                _ => *self.selection == PlatformSelection::All,
            };
            if wanted && entry.media_type.is_document() && self.descend(entry, said(entry), depth + 1)? {
                chosen.insert(entry.digest.to_string());
            } else {
                self.graph.absent.push(entry.clone());
            }
        }
        for entry in attestations {
            let along = entry.attests().is_some_and(|image| chosen.contains(image));
            if along && entry.media_type.is_document() {
                self.descend(entry, said(entry), depth + 1)?;
            } else {
                self.graph.absent.push(entry.clone());
            }
        }
        Ok(())
    }

    fn choose(&mut self, offered: &Platform) -> bool {
        self.offered.push(offered.clone());
        match self.selection {
            PlatformSelection::All | PlatformSelection::Present => true,
            PlatformSelection::Only(wanted) => {
                let hits: Vec<usize> = wanted
                    .iter()
                    .enumerate()
                    .filter(|(_, p)| p.matches(offered))
                    .map(|(at, _)| at)
                    .collect();
                self.matched.extend(&hits);
                !hits.is_empty()
            }
        }
    }

    fn finish(self) -> Result<Graph> {
        if let PlatformSelection::Only(wanted) = self.selection {
            let missing: Vec<String> = wanted
                .iter()
                .enumerate()
                .filter(|(at, _)| !self.matched.contains(at))
                .map(|(_, platform)| platform.to_string())
                .collect();
            // Artifacts have no platform. They are chosen if nothing else is there.
            let is_artifact = self.offered.is_empty() && !self.graph.images.is_empty();
            let is_without_index = self.graph.indexes.is_empty();
            // A manifest has one platform, and cannot have all of several.
            let is_enough = is_artifact || is_without_index && !self.matched.is_empty();
            if !missing.is_empty() && !is_enough {
                let mut offered: Vec<String> = self
                    .offered
                    .iter()
                    .filter(|p| !p.is_unknown())
                    .map(ToString::to_string)
                    .collect();
                offered.sort();
                offered.dedup();
                return Err(Error::NotFound {
                    what: format!("platform {}", missing.join(", ")),
                    place: self.graph.root.digest.to_string(),
                    hint: Some(match offered.len() {
                        0 => "it holds no image for any platform".into(),
                        _ if is_without_index => {
                            let has = format!("it has no index, and is for {} only", offered.join(", "));
                            Hint::from(has).and(Remedy::ChoosePlatform)
                        }
                        _ => Hint::from(format!("it has {}", offered.join(", "))).and(Remedy::ChoosePlatform),
                    }),
                });
            }
        }
        if *self.selection == PlatformSelection::Present && self.graph.images.is_empty() {
            let place = Place::blob(
                self.graph
                    .absent
                    .first()
                    .map_or(self.graph.root.digest, |d| d.digest),
            );
            return Err(Error::refused(place, Problem::Missing));
        }
        if !self.graph.indexes.is_empty() {
            let mut contest = Contest::new();
            contest.look(&Branches::of(&self.graph), &self.graph.root.digest);
            if let Some((index, problem)) = contest.found.into_iter().next() {
                return Err(Error::refused(Place::blob(index), problem));
            }
        }
        Ok(self.graph)
    }
}
