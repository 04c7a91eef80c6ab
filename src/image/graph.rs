//! The graph below a reference: its descriptor and everything that it leads to, for a set of platforms.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::choice::{self, Below, Contest, Leaf, Tree};
use super::documents::{Documents, Parsed};
use crate::error::{Error, Hint, Place, Problem, Remedy, Result};
use crate::oci::{
    Config, Descriptor, Digest, Index, Kind, MAX_METADATA, Manifest, Platform, PlatformSelection,
};

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
    fn is_image(&self) -> bool {
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
        let named = manifest.artifact_type.as_deref();
        if config.kind() != Kind::Config {
            return Some(named.unwrap_or(config.as_str()));
        }
        let content = manifest.layers.iter().map(|layer| &layer.media_type);
        let mut content = content.filter(|media_type| !matches!(media_type.kind(), Kind::Layer(_)));
        content.next().map(|first| named.unwrap_or(first.as_str()))
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
    /// [`Error::NotFound`] if a requested platform does not exist, with those that do; [`Error::Refused`] if a
    /// document is malformed, missing or over a limit.
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

    /// The number of its own descriptors, without those in documents that graphs may share.
    pub fn descriptors(&self) -> usize {
        self.indexes.len() + self.images.len() + self.absent.len()
    }

    /// The images that run as containers.
    pub fn runnable(&self) -> impl Iterator<Item = &Image> {
        self.images.iter().filter(|image| image.is_runnable())
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
struct Branches<'a> {
    indexes: HashMap<Digest, &'a Index>,
    images: HashMap<Digest, &'a Image>,
}

impl<'a> Branches<'a> {
    fn of(graph: &'a Graph) -> Branches<'a> {
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

/// The platforms that an index gives a manifest, which it may list several times.
pub(crate) type Said<'a> = &'a [Option<&'a Platform>];

/// The platforms that the entries of an index give each manifest.
pub(crate) fn said_of(entries: &[Descriptor]) -> HashMap<Digest, Vec<Option<&Platform>>> {
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
pub(crate) fn denied(said: Said<'_>, config: &Config) -> Option<Problem> {
    let denies = |said: &Option<&Platform>| said.is_some_and(|said| said.contradicts(&config.platform));
    let first = said.first().copied().flatten()?;
    said.iter().all(denies).then(|| Problem::PlatformDiffers {
        said: first.clone(),
        found: config.platform.clone(),
    })
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
    fn descend(&mut self, descriptor: &Descriptor, said: Said<'_>, depth: usize) -> Result<bool> {
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
        said: Said<'_>,
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
        let said = said_of(&index.manifests);
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
            if !missing.is_empty() && !is_artifact {
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

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
