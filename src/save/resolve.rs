//! From references to images: resolves each and follows it down to its layers, several at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::referrers::{self, Referring};
use super::{Options, ReferrerSelection, Root, Skipped};
use crate::error::{Error, Hint, Place, Problem, Remedy, Result};
use crate::image::graph::MAX_ALL_DESCRIPTORS;
use crate::image::rename;
use crate::image::selector::Identity;
use crate::image::{Documents, Graph, NamedImage};
use crate::interrupt::Interrupt;
use crate::oci::{Digest, Kind, MediaType, PlatformSelection, Reference};
use crate::source::{self, Answer, Found, Query, Source};
use crate::workers;

/// Most bytes of manifests, indexes and configs in one save, counted for each image. They are held in memory
/// until the layout is known. A thousand images have some 20 MB.
const MAX_ALL_METADATA: u64 = 1 << 30;

/// Images to save.
pub(super) struct Images {
    /// The images with their names, in the archive's order.
    pub named: Vec<NamedImage>,
    /// Where each came from.
    pub asked: Vec<Asked>,
}

/// An image as it was asked for, and where it came from.
pub(super) struct Asked {
    /// The reference that found it.
    pub reference: Reference,
    /// As [`Found::origin`].
    pub origin: String,
    /// As [`Found::is_private`].
    pub is_private: bool,
    /// What is said about its referrers.
    pub referring: Referring,
}

/// An image that was followed down to its layers.
pub(super) struct Followed {
    pub named: NamedImage,
    pub asked: Asked,
    /// Other digests that the source shows for it.
    others: Vec<Reference>,
}

impl Images {
    /// Removes the images that need one of these blobs.
    pub fn without(&mut self, failed: &[(Digest, Error)]) -> Vec<Skipped> {
        self.take_out(|image, _| {
            let blobs = image.blobs();
            let needs = |(digest, _): &&(Digest, Error)| blobs.iter().any(|blob| blob.digest == *digest);
            failed.iter().find(needs).map(|(_, error)| error.clone())
        })
    }

    /// Removes the images that only Docker's classic store loads: the others take layers only as they were stored, and
    /// name an image without its own manifest by a tag only.
    pub fn without_those_for_the_classic_store(&mut self) -> Vec<Skipped> {
        self.take_out(|image, reference| {
            let mut uncompressed = image.graph.runnable().map(|one| image.uncompressed_layers(one));
            let is_bare = image.provenance.substitute.is_some()
                && image.reference.as_ref().is_none_or(|name| name.tag().is_none());
            let (reason, hint): (String, Hint) = match uncompressed.find_map(|layers| layers) {
                Some(layers) => (
                    format!("it has {layers}, and only the classic store of Docker takes them so"),
                    "save it where its registry can be reached".into(),
                ),
                None if is_bare => (
                    "its manifest could not be recovered, and it has no tag to be loaded by".into(),
                    Remedy::Rename(reference.familiar()).into(),
                ),
                None => return None,
            };
            Some(Error::NotShown {
                message: format!("{reference}: {reason}"),
                hint: Some(hint),
            })
        })
    }

    /// Removes the images that have no signature.
    pub fn without_unsigned(&mut self) -> Vec<Skipped> {
        self.take_out(|image, reference| {
            (!referrers::is_signed(image)).then(|| Error::NotShown {
                message: format!("{reference} is not signed"),
                hint: Some(
                    "a signature of the index, or of each platform that is saved, is required; an attestation is none"
                        .into(),
                ),
            })
        })
    }

    /// Removes the images for which there is an error.
    fn take_out(&mut self, fault: impl Fn(&NamedImage, &Reference) -> Option<Error>) -> Vec<Skipped> {
        let mut skipped = Vec::new();
        let (mut named, mut asked) = (Vec::new(), Vec::new());
        let images = std::mem::take(&mut self.named);
        for (image, from) in images.into_iter().zip(std::mem::take(&mut self.asked)) {
            match fault(&image, &from.reference) {
                Some(error) => skipped.push(Skipped {
                    reference: from.reference,
                    error,
                }),
                None => {
                    named.push(image);
                    asked.push(from);
                }
            }
        }
        (self.named, self.asked) = (named, asked);
        skipped
    }
}

/// Resolves references.
pub(super) struct Resolver<'a> {
    pub source: &'a dyn Source,
    pub options: &'a Options,
    pub interrupt: &'a Interrupt,
    /// Bytes of documents and configs that were read.
    pub metadata: AtomicU64,
    pub max_metadata: u64,
    pub documents: Documents,
    /// Descriptors of all graphs.
    descriptors: AtomicUsize,
    /// The graphs of images that were followed. An image with many names is followed once.
    graphs: Mutex<HashMap<GraphKey, Arc<Graph>>>,
}

/// What the graph of an image depends on: its root, the platforms, and the source.
type GraphKey = ((Digest, u64, MediaType), PlatformSelection, String);

impl<'a> Resolver<'a> {
    pub fn new(source: &'a dyn Source, options: &'a Options, interrupt: &'a Interrupt) -> Resolver<'a> {
        Resolver {
            source,
            options,
            interrupt,
            metadata: AtomicU64::new(0),
            max_metadata: MAX_ALL_METADATA,
            documents: Documents::default(),
            descriptors: AtomicUsize::new(0),
            graphs: Mutex::default(),
        }
    }

    /// Resolves every reference, several at once, and sorts the images in the archive's order. Those that
    /// failed are returned with their errors. A tag brings every digest that an engine shows for it.
    ///
    /// # Errors
    ///
    /// If two images would have one name, and the errors of [`rename::apply`].
    pub fn resolve(&self, references: &[Reference]) -> Result<(Images, Vec<Skipped>)> {
        let mut known = HashSet::new();
        let mut asked = references.to_vec();
        asked.retain(|reference| known.insert(reference.full()));
        let mut followed = self.all(&asked)?;
        followed.sort_by_cached_key(|(reference, _)| reference.full());
        let found = followed.iter().filter_map(|(_, image)| image.as_ref().ok());
        let others: BTreeMap<String, Reference> = found
            .flat_map(|image| &image.others)
            .map(|reference| (reference.full(), reference.clone()))
            .filter(|(name, _)| !known.contains(name))
            .collect();
        let others: Vec<Reference> = others.into_values().collect();
        followed.extend(self.all(&others)?);
        let (mut images, mut skipped) = (Vec::new(), Vec::new());
        for (reference, image) in followed {
            match image {
                Ok(image) => images.push(image),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => skipped.push(Skipped {
                    reference: reference.clone(),
                    error: source::naming(error, reference),
                }),
            }
        }
        // A missing image may be the one to rename.
        if skipped.is_empty() || self.options.keep_going {
            self.rename(&mut images)?;
        }
        let key = |image: &Followed| {
            let name = image.named.reference.as_ref().map(Reference::full);
            (name, image.named.graph.root.digest)
        };
        images.sort_by_key(key);
        images.dedup_by_key(|image| key(image));
        let (asked, named): (Vec<Asked>, Vec<NamedImage>) =
            images.into_iter().map(|image| (image.asked, image.named)).unzip();
        one_digest_a_name(&named)?;
        Ok((Images { named, asked }, skipped))
    }

    /// Looks up digests. Returns one answer for each reference, in order.
    pub fn digests(&self, references: &[Reference]) -> Result<Vec<Result<Root>>> {
        let query = Query {
            jobs: self.options.jobs,
            keep_going: true,
            ..Query::new(references, None)
        };
        let found = references.iter().zip(self.source.find(&query)?);
        let mut roots = Vec::with_capacity(references.len());
        for (reference, answer) in found {
            let root = answer.map_err(Error::from).and_then(|found| {
                let digest = match found.is_partial {
                    // The manifest in a store or archive may be a substitute.
                    true => self.walk(reference, &found)?.named.digest(),
                    false => Some(found.root.digest),
                };
                Ok(Root {
                    digest,
                    origin: found.origin,
                })
            });
            match root {
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                root => roots.push(root.map_err(|error| source::naming(error, reference))),
            }
        }
        Ok(roots)
    }

    /// Finds images and follows them, several at once. After an error that concerns more than one image, it follows no
    /// more.
    fn all<'r>(&self, references: &'r [Reference]) -> Result<Vec<(&'r Reference, Result<Followed>)>> {
        if references.is_empty() {
            return Ok(Vec::new());
        }
        let mut found: Vec<(&Reference, Answer<'_>)> = Vec::with_capacity(references.len());
        for (platforms, group) in self.by_platforms(references) {
            let asked: Vec<Reference> = group.iter().map(|reference| (*reference).clone()).collect();
            let query = Query {
                jobs: self.options.jobs,
                keep_going: self.options.keep_going,
                ..Query::new(&asked, platforms)
            };
            found.extend(group.into_iter().zip(self.source.find(&query)?));
        }
        let followed = workers::map(
            self.options.jobs.get(),
            &found,
            |(reference, answer)| {
                let found = answer.as_ref().map_err(|unavailable| unavailable.error.clone());
                (*reference, found.and_then(|found| self.walk(reference, found)))
            },
            |(_, followed)| {
                followed
                    .as_ref()
                    .is_err_and(|error| source::ends(error, self.options.keep_going))
            },
        );
        let mut followed: Vec<(&Reference, Result<Followed>)> = followed.into_iter().flatten().collect();
        // None is missing unless the work has ended.
        let has_ended = followed.len() < found.len();
        if self.options.referrers != ReferrerSelection::None && !has_ended {
            let images = followed.iter_mut().zip(&found);
            let mut images: Vec<_> = images
                .filter_map(|((reference, followed), (_, answer))| {
                    Some((*reference, answer.as_ref().ok()?, followed))
                })
                .collect();
            self.refer(&mut images);
        }
        Ok(followed)
    }

    /// The platforms that an image is asked for.
    fn platforms(&self, reference: &Reference) -> Option<&PlatformSelection> {
        let options = self.options;
        let own = || options.platforms_of.get(&reference.full());
        options.platforms.as_ref().or_else(own)
    }

    /// The images that are asked for the same platforms, together.
    fn by_platforms<'r>(
        &self,
        references: &'r [Reference],
    ) -> Vec<(Option<&PlatformSelection>, Vec<&'r Reference>)> {
        let mut groups: Vec<(Option<&PlatformSelection>, Vec<&Reference>)> = Vec::new();
        let mut places: HashMap<Option<&PlatformSelection>, usize> = HashMap::new();
        for reference in references {
            let platforms = self.platforms(reference);
            let place = *places.entry(platforms).or_insert(groups.len());
            match groups.get_mut(place) {
                Some((_, group)) => group.push(reference),
                None => groups.push((platforms, vec![reference])),
            }
        }
        groups
    }

    /// Renames images.
    fn rename(&self, images: &mut [Followed]) -> Result<()> {
        let identities: Vec<Identity<'_>> = images.iter().map(|image| image.named.identity()).collect();
        let names = rename::apply(&self.options.renames, &identities)?;
        for (image, name) in images.iter_mut().zip(names) {
            image.named.reference = name;
        }
        Ok(())
    }

    /// Follows one image down to its layers.
    fn walk(&self, reference: &Reference, found: &Found<'_>) -> Result<Followed> {
        self.interrupt.check()?;
        let asked = self.platforms(reference);
        let root = &found.root;
        let selection = match found.platforms.clone() {
            // A manifest without an index has one platform, so there is no choice.
            PlatformSelection::Only(_) if asked.is_none() && root.media_type.kind() == Kind::Manifest => {
                PlatformSelection::All
            }
            selection => selection,
        };
        let id = (root.digest, root.size, root.media_type.clone());
        let key = (id, selection.clone(), found.origin.clone());
        let graphs = || self.graphs.lock().unwrap_or_else(PoisonError::into_inner);
        let known = graphs().get(&key).cloned();
        let graph = match known {
            Some(graph) => graph,
            None => {
                let graph = self.follow(reference, found, &selection)?;
                self.count(&graph)?;
                graphs().entry(key).or_insert(Arc::new(graph)).clone()
            }
        };
        let tagged = reference.without_digest().filter(|_| self.options.names_by_tag);
        let name = tagged.unwrap_or_else(|| reference.clone());
        Ok(Followed {
            named: NamedImage {
                reference: Some(name.clone()).filter(|reference| !reference.is_nameless()),
                bare_tag: None,
                provenance: found.about.provenance(&graph)?,
                graph,
                referrers: Arc::default(),
            },
            others: found.about.other_digests(),
            asked: Asked {
                reference: name,
                origin: found.origin.clone(),
                is_private: found.is_private,
                referring: Referring::default(),
            },
        })
    }

    fn follow(
        &self,
        reference: &Reference,
        found: &Found<'_>,
        selection: &PlatformSelection,
    ) -> Result<Graph> {
        Graph::walk_shared(&found.root, selection, &mut |descriptor| {
            self.interrupt.check()?;
            // A request for one platform of a partial image does not include attestations.
            let may_lack = *selection == PlatformSelection::Present
                || found.is_partial && descriptor.attests().is_some();
            if may_lack && found.about.omits(descriptor) {
                return Ok(None);
            }
            self.documents.get(descriptor, || {
                match self.source.metadata(reference.repository(), descriptor) {
                    Err(Error::NotFound { .. }) if may_lack => Ok(None),
                    Err(error) => Err(error),
                    Ok(bytes) => self.admit(bytes).map(Some),
                }
            })
        })
    }

    /// Counts the descriptors of all graphs against the limit.
    fn count(&self, graph: &Graph) -> Result<()> {
        let more = graph.descriptors();
        let found = self.descriptors.fetch_add(more, Ordering::SeqCst);
        if found.saturating_add(more) <= MAX_ALL_DESCRIPTORS {
            return Ok(());
        }
        let limit = MAX_ALL_DESCRIPTORS;
        let place = Place::default().within("all images together");
        Err(Error::refused(place, Problem::TooMany { limit }))
    }

    /// Counts the bytes held in memory against the limit.
    pub fn admit(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let found = self
            .metadata
            .fetch_add(more, Ordering::SeqCst)
            .saturating_add(more);
        if found <= self.max_metadata {
            return Ok(bytes);
        }
        let limit = self.max_metadata;
        let place = Place::default().within("manifests and configs of all images");
        Err(Error::refused(place, Problem::TooLarge { limit, found }))
    }
}

/// Refuses `x:1` beside `x:1@sha256:...` if they are different images, which the archive could not both name.
fn one_digest_a_name(images: &[NamedImage]) -> Result<()> {
    let mut known: HashMap<String, Digest> = HashMap::new();
    for named in images {
        let Some(name) = named.reference.as_ref().and_then(Reference::without_digest) else {
            continue;
        };
        let digest = named.graph.root.digest;
        let first = *known.entry(name.full()).or_insert(digest);
        if first != digest {
            return Err(Error::Usage {
                message: format!("{name} would be the name of two images, {first} and {digest}"),
                hint: Some("save them to two archives, or name one of them by digest only".into()),
            });
        }
    }
    Ok(())
}
