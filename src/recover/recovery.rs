//! Makes images ready: finds their documents, then their layers, and settles what each image is once missing layers
//! were recompressed.

use std::collections::HashMap;

use super::draft::{Asked, Draft, of, of_one_image};
use super::layers::{MissingLayers, Places};
use super::manifests::{self, Found};
use super::platforms::{fits, is_among, lacking};
use super::ready::{Ready, ReadyImage};
use super::{BareImage, LocalStore, StoreImage};
use crate::archive::format;
use crate::error::{Error, Place, Problem, Result};

use crate::image::graph::MAX_ALL_DESCRIPTORS;
use crate::image::provenance::{ManifestOrigin, Substitute};
use crate::interrupt::Interrupt;
use crate::oci::{PlatformSelection, Reference};
use crate::recover::forms::KnownForms;
use crate::recover::recompress::Outcome;
use crate::source::{Others, Upstream};

/// Why an image is not given by a digest that the store does not show for it.
pub(super) const UNPROVEN: &str = "it has an image of that name, but nothing that proves this digest for it; without the digest, the image \
                        is saved as one that has none";

/// Images that are made ready together.
pub(super) struct Recovery<'a> {
    pub store: &'a dyn LocalStore,
    pub upstream: &'a Upstream,
    /// What else is known about layers.
    pub known: KnownForms<'a>,
    pub interrupt: &'a Interrupt,
    platforms: Option<&'a PlatformSelection>,
    asked: Vec<Asked>,
    pub drafts: Vec<Draft>,
    /// Positions of drafts by their digests.
    drafted: HashMap<String, usize>,
    pub ready: Ready,
    pub missing: MissingLayers,
    /// Number of layers of all drafts.
    layers: usize,
    /// Notes about tags whose digest is a guess.
    pub guesses: Vec<String>,
}

impl<'a> Recovery<'a> {
    pub fn new(
        store: &'a dyn LocalStore,
        upstream: &'a Upstream,
        interrupt: &'a Interrupt,
        platforms: Option<&'a PlatformSelection>,
        others: &'a Others<'a>,
    ) -> Recovery<'a> {
        Recovery {
            store,
            upstream,
            known: KnownForms::new(store, others),
            interrupt,
            platforms,
            asked: Vec::new(),
            drafts: Vec::new(),
            drafted: HashMap::new(),
            ready: Ready::default(),
            missing: MissingLayers::default(),
            layers: 0,
            guesses: Vec::new(),
        }
    }

    /// Counts the layers that stay in memory until all images are ready.
    fn count(&mut self, image: &BareImage) -> Result<()> {
        self.layers = self.layers.saturating_add(image.config.diff_ids.len());
        if self.layers <= MAX_ALL_DESCRIPTORS {
            return Ok(());
        }
        let limit = MAX_ALL_DESCRIPTORS;
        let place = Place::default().within(format!("layers of all images in {}", self.store.label()));
        Err(Error::refused(place, Problem::TooMany { limit }))
    }

    /// Finds the documents of a reference's image: of every digest that the store shows for its repository. An image
    /// that the store does not have is no error yet.
    pub fn ask(&mut self, reference: &Reference) -> Result<()> {
        match self.find(reference) {
            Err(error) => {
                let failed = of_one_image(error)?;
                self.ready.failed.insert(reference.full(), failed);
                Ok(())
            }
            asked => asked,
        }
    }

    fn find(&mut self, reference: &Reference) -> Result<()> {
        self.interrupt.check()?;
        let Some(entry) = self.store.find(reference)? else {
            return Ok(());
        };
        if let Some(image) = &entry.image
            && !fits(image, self.platforms)
        {
            self.leave_out(reference, format!("it has {}", image.config.platform));
            return Ok(());
        }
        let digests = match (reference.digest(), &entry.image) {
            // Without a name it is an image id, or the digest of a manifest or index.
            (Some(digest), Some(image)) if reference.is_nameless() && image.id == digest => Vec::new(),
            (Some(_), None) if reference.is_nameless() => entry.digests.clone(),
            (Some(digest), _) => vec![Reference::digested(reference.repository(), digest)],
            (None, _) => entry.digests.clone(),
        };
        let mut drafts = Vec::new();
        for digest in &digests {
            drafts.push(self.draft(reference, digest, &entry)?);
        }
        if drafts.is_empty() {
            drafts.push(self.draft_without_digest(reference, &entry)?);
        }
        self.asked.push(Asked {
            reference: reference.clone(),
            drafts,
        });
        Ok(())
    }

    pub(super) fn leave_out(&mut self, reference: &Reference, reason: String) {
        self.ready.left_out.insert(reference.full(), reason);
    }

    /// Finds the documents of one digest, once, and returns its draft's place.
    fn draft(&mut self, reference: &Reference, digest: &Reference, entry: &StoreImage) -> Result<usize> {
        if let Some(at) = self.drafted.get(&digest.full()) {
            return Ok(*at);
        }
        let found = manifests::find(self.store, self.upstream, entry.image.as_ref(), digest)?;
        if found.is_none() && entry.image.is_none() {
            return Err(not_whole(self.store, reference));
        }
        self.add(reference, Some(digest), entry, found)
    }

    /// A name without a digest. Manifests of the same image are made ready, too, because they name the same content:
    /// those that the registry knows for its id, and the first that is found in another repository.
    fn draft_without_digest(&mut self, reference: &Reference, entry: &StoreImage) -> Result<usize> {
        let known = entry.image.as_ref();
        let known = known.map_or_else(Vec::new, |image| self.upstream.manifests_of(&image.id));
        for digest in &known {
            if self.drafted.contains_key(&digest.full()) {
                continue;
            }
            let found = manifests::find(self.store, self.upstream, entry.image.as_ref(), digest)?;
            if found.is_some() {
                self.add(reference, Some(digest), entry, found)?;
            }
        }
        for digest in &entry.elsewhere {
            if self.drafted.contains_key(&digest.full()) {
                break;
            }
            let found = manifests::find(self.store, self.upstream, entry.image.as_ref(), digest)?;
            if found.is_some() {
                self.add(reference, Some(digest), entry, found)?;
                break;
            }
        }
        self.add(reference, None, entry, None)
    }

    fn add(
        &mut self,
        reference: &Reference,
        digest: Option<&Reference>,
        entry: &StoreImage,
        found: Option<Found>,
    ) -> Result<usize> {
        if let Some(image) = &entry.image {
            self.count(image)?;
        }
        let at = self.drafts.len();
        if let Some(digest) = digest {
            self.drafted.insert(digest.full(), at);
        }
        let is_made = match digest {
            Some(name) if entry.image.is_none() => self.is_made(reference, name)?,
            _ => false,
        };
        let mut shown = entry.digests.iter().chain(&entry.elsewhere);
        self.drafts.push(Draft {
            is_made,
            reference: reference.clone(),
            is_shown: digest.is_none_or(|digest| shown.any(|shown| shown == digest)),
            digest: digest.and_then(Reference::digest),
            has_others: !entry.elsewhere.is_empty(),
            left_out: self.lacks_platforms(found.as_ref(), entry),
            failed: None,
            image: entry.image.clone(),
            found,
            pending: Vec::new(),
            unrecovered: None,
            reasons: HashMap::new(),
        });
        Ok(at)
    }

    /// Whether a manifest is a substitute. Once it is pushed, it is a registry's like any other.
    fn is_made(&self, reference: &Reference, name: &Reference) -> Result<bool> {
        let Some(digest) = name.digest() else {
            return Ok(false);
        };
        let bytes = self.store.document(&digest)?;
        if !bytes.is_some_and(|bytes| format::is_substitute(&bytes)) {
            return Ok(false);
        }
        Ok(reference.is_nameless() || self.upstream.resolve(name.repository(), digest)?.is_none())
    }

    /// Why an engine's only image is less than requested, if it is.
    fn lacks_platforms(&self, found: Option<&Found>, entry: &StoreImage) -> Option<String> {
        let image = entry.image.as_ref()?;
        let is_part = found.is_some_and(|found| found.is_part);
        let is_less = is_part && self.platforms == Some(&PlatformSelection::All);
        let platform = &image.config.platform;
        is_less.then(|| format!("it has {platform}, one of several platforms"))
    }

    /// Finds the images' layers.
    pub fn find_layers(&mut self) -> Result<()> {
        let mut drafts = std::mem::take(&mut self.drafts);
        for draft in drafts.iter_mut().filter(|draft| draft.left_out.is_none()) {
            let found = self.find_layers_of(draft);
            draft.take(found)?;
        }
        self.drafts = drafts;
        Ok(())
    }

    fn find_layers_of(&mut self, draft: &mut Draft) -> Result<()> {
        let Some(found) = &mut draft.found else {
            return Ok(());
        };
        let store = self.store;
        self.ready.is_open |= draft.image.is_none();
        self.ready.documents.extend(std::mem::take(&mut found.documents));
        if let Some(image) = &draft.image {
            self.ready.documents.insert(image.id, image.raw.to_vec());
        }
        let graph = match self.ready.walk(store, &found.root) {
            // An index of which nothing is here.
            Err(Error::Refused(finding)) if finding.problem == Problem::Missing => {
                return Err(not_whole(store, &draft.reference));
            }
            graph => graph?,
        };
        let wanted = match (&draft.image, self.platforms) {
            (None, Some(PlatformSelection::Only(wanted))) => wanted.as_slice(),
            _ => &[],
        };
        if let Some(offered) = lacking(&graph, wanted) {
            draft.left_out = Some(format!("it has {}", offered.join(", ")));
            return Ok(());
        }
        for image in graph
            .images
            .iter()
            .filter(|image| is_among(image, &graph, wanted))
        {
            let diff_ids = image.config.as_ref().map(|config| config.diff_ids.as_slice());
            for (at, layer) in image.manifest.layers.iter().enumerate() {
                self.interrupt.check()?;
                let diff_id = diff_ids.and_then(|diff_ids| diff_ids.get(at)).copied();
                let places = Places {
                    store,
                    known: &self.known,
                    upstream: self.upstream,
                    repository: &found.repository,
                };
                let (layers, missing) = (&mut self.ready.layers, &mut self.missing);
                let place = layers.look(&places, layer, diff_id, missing);
                let place = place.map_err(|error| of(error, &draft.reference))?;
                if let (Some(place), Some(diff_id)) = (place, diff_id) {
                    draft.pending.push((layer.clone(), diff_id, place));
                }
            }
        }
        Ok(())
    }

    /// Evaluates the results of recompressing, and decides the form of each image.
    pub fn settle(mut self, outcomes: &[Outcome]) -> Result<Ready> {
        let mut drafts = std::mem::take(&mut self.drafts);
        let mut images = Vec::new();
        for draft in &mut drafts {
            let proven = self.proven(draft, outcomes);
            images.push(draft.take(proven)?.flatten());
        }
        for (at, draft) in drafts.iter_mut().enumerate() {
            let (Some(None), false, Some(image)) = (images.get(at), draft.is_lost(), &draft.image) else {
                continue;
            };
            if !draft.is_shown {
                draft.left_out = Some(match &draft.unrecovered {
                    Some(why) => format!("{UNPROVEN} ({why})"),
                    None => UNPROVEN.into(),
                });
                continue;
            }
            let is_same = |root: &&ReadyImage| root.substitute.is_none() && root.image_id == Some(image.id);
            let same = images
                .iter()
                .flatten()
                .find(is_same)
                .map(|image| image.root.clone());
            let substitute = self.substitute(draft, image, same.as_ref());
            let substitute = draft.take(substitute.map_err(|error| of(error, &draft.reference)))?;
            if let Some(image) = images.get_mut(at) {
                *image = substitute;
            }
        }
        for asked in std::mem::take(&mut self.asked) {
            self.choose(&asked, &drafts, &images)?;
        }
        self.tell_guesses();
        Ok(self.ready)
    }

    /// An image of which everything is proven, or which sealift made.
    fn proven(&mut self, draft: &Draft, outcomes: &[Outcome]) -> Result<Option<ReadyImage>> {
        if draft.is_lost() {
            return Ok(None);
        }
        for (layer, diff_id, place) in &draft.pending {
            let layers = &mut self.ready.layers;
            let settled = layers.settle(self.store, layer, *diff_id, outcomes.get(*place));
            settled.map_err(|error| of(error, &draft.reference))?;
        }
        let image_id = draft.image.as_ref().map(|image| image.id);
        Ok(match (&draft.found, &draft.image) {
            (Some(found), _) => Some(ReadyImage {
                root: found.root.clone(),
                image_id,
                substitute: draft.is_made.then_some(Substitute { recorded: None }),
                origin: match draft.is_made {
                    true => ManifestOrigin::Substitute {
                        reason: format::MADE.into(),
                    },
                    false => found.origin.clone(),
                },
            }),
            (None, _) => None,
        })
    }
}

/// The error of an image of which the store has only the name.
fn not_whole(store: &dyn LocalStore, reference: &Reference) -> Error {
    Error::NotFound {
        what: format!("the manifest of {reference}"),
        place: store.label().into(),
        hint: Some("the store has the image, but not all of its content: pull it again".into()),
    }
}
