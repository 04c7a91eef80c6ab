//! Finds what refers to the images of a save: signatures, SBOMs, attestations. All images are looked at together, level by
//! level, so that the requests for many manifests run side by side.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::resolve::{Followed, Resolver};
use crate::error::{Error, Result};
use crate::image::referrers::{
    self, ListedReferrer, ReadReferrer, ReferrerGraph, ReferrerKind, ReferrerWalk, Referrers, Stray,
};
use crate::image::{Graph, NamedImage, Parsed};
use crate::oci::{Descriptor, Digest, Kind, Platform, Reference};
use crate::source::{self, Found};
use crate::workers;

/// Which referrers are saved with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReferrerSelection {
    /// All of them.
    #[default]
    All,
    /// Signatures.
    Signatures,
    /// None, and the source is not asked.
    None,
}

impl ReferrerSelection {
    /// Those of an image that are meant. A bundle that does not say whether it is a signature may be one.
    fn of(self, referrers: Arc<[ReferrerGraph]>, graph: &Graph) -> Arc<[ReferrerGraph]> {
        match self {
            ReferrerSelection::All => referrers,
            ReferrerSelection::Signatures => {
                let signatures = referrers.iter().filter(|referrer| referrer.may_be_signature());
                referrers::within(signatures, graph)
            }
            ReferrerSelection::None => Arc::default(),
        }
    }
}

/// What refers to an image, and what is said about that.
#[derive(Debug, Clone, Default)]
pub(super) struct Referring {
    pub strays: Vec<Stray>,
    /// Platforms that are not saved, and whose signatures are therefore not saved either.
    pub unsaved: Vec<Platform>,
}

/// An image whose referrers are looked for: of several names of one, in one repository, the first.
struct Looked<'f, 'q> {
    reference: &'f Reference,
    found: &'f Found<'q>,
    graph: Arc<Graph>,
    walk: ReferrerWalk,
    /// The platforms of the index that are not saved.
    absent: Vec<(Platform, Digest)>,
    unsaved: Vec<Platform>,
    error: Option<Error>,
}

/// A manifest whose referrers are asked for.
struct Ask<'w, 'f, 'q> {
    looked: usize,
    of: &'w Looked<'f, 'q>,
    subject: Digest,
    /// Whether it is not saved itself.
    is_absent: bool,
}

impl Resolver<'_> {
    /// Finds the referrers of images, as their sources know them.
    pub(super) fn refer<'f, 'q>(&self, images: &mut [(&'f Reference, &'f Found<'q>, &mut Result<Followed>)]) {
        let mut looked: Vec<Looked<'f, 'q>> = Vec::new();
        let mut places: HashMap<(*const Graph, String, String), usize> = HashMap::new();
        let mut place_of: Vec<Option<usize>> = Vec::with_capacity(images.len());
        for (reference, found, followed) in images.iter() {
            let Ok(followed) = followed else {
                place_of.push(None);
                continue;
            };
            let graph = &followed.named.graph;
            let repository = reference.repository().full().to_string();
            let key = (Arc::as_ptr(graph), repository, found.origin.clone());
            let place = *places.entry(key).or_insert_with(|| {
                looked.push(Looked {
                    reference,
                    found,
                    graph: Arc::clone(graph),
                    walk: ReferrerWalk::new(graph),
                    absent: absent(graph),
                    unsaved: Vec::new(),
                    error: None,
                });
                looked.len() - 1
            });
            place_of.push(Some(place));
        }
        while self.next_level(&mut looked) {}
        let answers: Vec<Result<(Referrers, Vec<Platform>)>> = looked
            .into_iter()
            .map(|looked| match looked.error {
                Some(error) => Err(error),
                None => {
                    let mut found = looked.walk.finish();
                    found.graphs = self.options.referrers.of(found.graphs, &looked.graph);
                    Ok((found, looked.unsaved))
                }
            })
            .collect();
        for ((_, _, followed), place) in images.iter_mut().zip(place_of) {
            let answer = place.and_then(|place| answers.get(place));
            match (followed.as_mut(), answer) {
                (Ok(image), Some(Ok((found, unsaved)))) => {
                    image.named.referrers = Arc::clone(&found.graphs);
                    image.asked.referring = Referring {
                        strays: found.strays.clone(),
                        unsaved: unsaved.clone(),
                    };
                }
                (Ok(_), Some(Err(error))) => **followed = Err(error.clone()),
                _ => {}
            }
        }
    }

    /// Asks for the referrers of one level of every image. False if there was nothing to ask for.
    fn next_level(&self, looked: &mut [Looked<'_, '_>]) -> bool {
        let asks: Vec<Ask<'_, '_, '_>> = looked
            .iter()
            .enumerate()
            .filter(|(_, of)| of.error.is_none())
            .flat_map(|(at, of)| {
                let ask = move |subject: Digest, is_absent| Ask {
                    looked: at,
                    of,
                    subject,
                    is_absent,
                };
                let subjects = of.walk.subjects().iter().map(move |subject| ask(*subject, false));
                subjects.chain(of.absent.iter().map(move |(_, digest)| ask(*digest, true)))
            })
            .collect();
        if asks.is_empty() {
            return false;
        }
        let answers = workers::map(
            self.options.jobs.get(),
            &asks,
            |ask| self.read_all(ask),
            |answer| {
                let error = answer.as_ref().err();
                error.is_some_and(|error| source::ends(error, self.options.keep_going))
            },
        );
        let asked: Vec<(usize, Digest, bool)> = asks
            .iter()
            .map(|ask| (ask.looked, ask.subject, ask.is_absent))
            .collect();
        let mut read: Vec<Vec<ReadReferrer>> = looked.iter().map(|_| Vec::new()).collect();
        for ((at, subject, is_absent), answer) in asked.into_iter().zip(answers) {
            let (Some(of), Some(read)) = (looked.get_mut(at), read.get_mut(at)) else {
                continue;
            };
            match answer {
                Some(Ok(referrers)) if is_absent => {
                    let is_signature = |one: &ReadReferrer| match one {
                        ReadReferrer::Referrer(one) => one.kind() == ReferrerKind::Signature,
                        ReadReferrer::Stray(_) => false,
                    };
                    if referrers.iter().any(is_signature) {
                        let platform = of.absent.iter().find(|(_, digest)| *digest == subject);
                        of.unsaved.extend(platform.map(|(platform, _)| platform.clone()));
                    }
                }
                Some(Ok(referrers)) => read.extend(referrers),
                Some(Err(error)) => drop(of.error.get_or_insert(error)),
                // An error of another one has ended the work.
                None => drop(of.error.get_or_insert(Error::Interrupted)),
            }
        }
        // The error that ended the work says more than that it was ended.
        let mut errors = looked.iter().filter_map(|of| of.error.as_ref());
        let ended = errors.find(|error| !matches!(error, Error::Interrupted)).cloned();
        for (of, read) in looked.iter_mut().zip(read) {
            of.absent.clear();
            if of.error.is_none() {
                of.error = of.walk.add(read).err();
            } else if let (Some(Error::Interrupted), Some(ended), Ok(())) =
                (&of.error, &ended, self.interrupt.check())
            {
                of.error = Some(ended.clone());
            }
        }
        true
    }

    /// The referrers of one manifest, with their own manifests.
    fn read_all(&self, ask: &Ask<'_, '_, '_>) -> Result<Vec<ReadReferrer>> {
        self.interrupt.check()?;
        let listed: Vec<ListedReferrer> = ask.of.found.about.referrers(&ask.subject)?;
        let fresh = listed
            .iter()
            .filter(|one| ask.is_absent || ask.of.walk.wants(one));
        let mut fetch = |descriptor: &Descriptor| -> Result<Option<Parsed>> {
            self.interrupt.check()?;
            self.documents.get(descriptor, || {
                match self.source.metadata(ask.of.reference.repository(), descriptor) {
                    Err(Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(error),
                    Ok(bytes) => self.admit(bytes).map(Some),
                }
            })
        };
        fresh.map(|one| one.read(&mut fetch)).collect()
    }
}

/// Whether an image has a signature of cosign or notation: of its root, or of each of its images that run, or of an artifact.
/// It is not checked.
pub(super) fn is_signed(image: &NamedImage) -> bool {
    let signatures = image.referrers.iter();
    let signatures = signatures.filter(|referrer| referrer.kind() == ReferrerKind::Signature);
    let signed: HashSet<Digest> = signatures.map(|referrer| referrer.subject).collect();
    let mut variants = image.graph.variants().peekable();
    signed.contains(&image.graph.root.digest)
        || variants.peek().is_some() && variants.all(|variant| signed.contains(&variant.descriptor.digest))
}

/// The images of an index that are not saved, by their platforms.
fn absent(graph: &Graph) -> Vec<(Platform, Digest)> {
    let images = graph
        .absent
        .iter()
        .filter(|entry| entry.media_type.kind() == Kind::Manifest && entry.attests().is_none());
    images
        .filter_map(|entry| Some((entry.platform.clone()?, entry.digest)))
        .filter(|(platform, _)| !platform.is_unknown())
        .collect()
}
