//! A registry as a target: blobs, then manifests, and at last the tags.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::client::Client;
use super::mirror::Endpoint;
use super::options::Options;
use super::push::{
    self, BlobToPush, Destination, Details, Offered, PushedReferrers, ReferrerPush, Uploader,
    first_error_first,
};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::load::chosen::Chosen;
use crate::load::{
    self, Candidates, Early, LoadOptions, Loaded, LoadedReferrers, MergedBlobs, Obstacle, Plan, PlannedImage,
    Report, Skipped, Target,
};
use crate::oci::{Descriptor, Digest, MediaType, Repository};
use crate::progress::Progress;
use crate::transfer::JOBS;
use crate::workers;

/// A registry that images are pushed into.
pub struct RegistryTarget {
    destination: Destination,
    of_platform: bool,
    client: Client,
    interrupt: Interrupt,
    /// What the last probe found.
    known: Mutex<Option<Details>>,
}

/// What a registry has of images.
pub type Inventory = load::Inventory<Details>;

impl RegistryTarget {
    /// Makes a target. It does not contact the registry yet. `of_platform` if the manifest of a platform is pushed in place
    /// of an index.
    ///
    /// # Errors
    ///
    /// If a certificate cannot be read.
    pub fn new(
        destination: Destination,
        of_platform: bool,
        options: Options,
        progress: Arc<dyn Progress>,
        interrupt: Interrupt,
    ) -> Result<RegistryTarget> {
        Ok(RegistryTarget {
            destination,
            of_platform,
            client: Client::new(options, progress, interrupt.clone())?,
            interrupt,
            known: Mutex::default(),
        })
    }
}

impl Target for RegistryTarget {
    type Details = Details;

    fn probe(&self, wanted: &Candidates<'_>, options: &LoadOptions) -> Result<Inventory> {
        let mut plan = Plan::new(self.destination.to_string());
        let chosen = push::choose(&self.destination, self.of_platform, wanted, options, &mut plan)?;
        let details = push::look(&self.client, &chosen, &self.interrupt)?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(details.clone());
        let blobs = chosen.iter().flat_map(push::all_blobs);
        let blobs = blobs.filter(|blob| details.holder(&blob.digest).is_some());
        let blobs = blobs.map(|blob| (blob.digest, blob.size)).collect();
        let mut inventory = Inventory::new(self.destination.to_string(), details);
        inventory.accepts.uncompressed = false;
        inventory.blobs = blobs;
        Ok(inventory)
    }

    fn plan(
        &self,
        candidates: &Candidates<'_>,
        options: &LoadOptions,
        inventory: &Inventory,
    ) -> Result<Plan> {
        push::plan(
            &self.destination,
            self.of_platform,
            candidates,
            options,
            inventory,
        )
    }

    /// Blobs that nothing names are removed by a registry's garbage collection.
    fn early(&self) -> Early {
        Early::Sends
    }

    fn apply(
        &self,
        candidates: &Candidates<'_>,
        plan: &Plan,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Report> {
        let mut report = Report::new(plan);
        if plan.images.is_empty() {
            return Ok(report);
        }
        let mut plan = plan.clone();
        let mut chosen = push::of_plan(&plan, candidates)?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).take();
        let details = match known {
            Some(details) => details,
            None => push::look(&self.client, &chosen, interrupt)?,
        };
        let refused = self.refused(&plan, &chosen, &details, interrupt)?;
        plan.images = without(plan.images, &refused);
        chosen = without(chosen, &refused);
        let blobs = chosen.iter().flat_map(push::all_blobs);
        let blobs: HashSet<Digest> = blobs.map(|blob| blob.digest).collect();
        plan.send.retain(|blob| blobs.contains(&blob.digest));
        report.skipped.extend(refused.into_values());
        let run = Push {
            client: &self.client,
            chosen: &chosen,
            details: &details,
            interrupt,
        };
        progress.phase("pushing", Some(plan.bytes()));
        let blobs = MergedBlobs::new(candidates);
        let uploader = Uploader {
            client: &self.client,
            candidates: Some(candidates),
            blobs: &blobs,
            is_replacing: false,
            progress,
            interrupt,
            part: AtomicU64::default(),
            is_ended: AtomicBool::default(),
        };
        let mut sent = run.push_blobs(&uploader)?;
        if !candidates.are_verified() {
            progress.phase("verifying", None);
        }
        candidates.wait_until_verified(interrupt)?;
        for manifest in run.push_manifests()? {
            *sent.entry(manifest.digest).or_default() += manifest.size;
        }
        let referrers = ReferrerPush {
            client: &self.client,
            details: &details,
            progress,
            interrupt,
        };
        let referrers = referrers.run(&chosen)?;
        for manifest in &referrers.sent {
            *sent.entry(manifest.digest).or_default() += manifest.size;
        }
        for (planned, image) in plan.images.iter().zip(&chosen) {
            interrupt.check()?;
            self.set_tag(planned, image)?;
        }
        report.sent = sent.values().sum();
        report.images = self.report(&plan, &chosen, sent, &referrers);
        Ok(report)
    }
}

impl RegistryTarget {
    /// Sets the tag of an image, unless it names the image already.
    fn set_tag(&self, planned: &PlannedImage, image: &Chosen) -> Result<()> {
        let tag = planned.tag.as_ref().and_then(|tag| tag.tag());
        let (Some(tag), false) = (tag, planned.tagged) else {
            return Ok(());
        };
        let at = Endpoint::of(planned.name.repository());
        match push::documents(&image.named.graph).last() {
            Some((root, bytes)) => self.client.put_manifest(&at, tag, root, bytes),
            None => Ok(()),
        }
    }

    /// Finds out whether the registry takes indexes of which it lacks manifests, before anything is sent: it is offered an
    /// index of only these, without a tag. One that takes it has it removed again.
    ///
    /// Returns the images that it does not take, by their positions, if these are to be skipped.
    fn refused(
        &self,
        plan: &Plan,
        chosen: &[Chosen],
        details: &Details,
        interrupt: &Interrupt,
    ) -> Result<BTreeMap<usize, Skipped>> {
        let mut refused = BTreeMap::new();
        let mut asked: HashMap<(&Repository, Digest), Option<Error>> = HashMap::new();
        for (at, (planned, image)) in plan.images.iter().zip(chosen).enumerate() {
            let (graph, Some(name)) = (&image.named.graph, &image.named.reference) else {
                continue;
            };
            let repository = name.repository();
            let absent = graph.absent.iter();
            let missing: Vec<&Descriptor> = absent
                .filter(|one| !details.has(repository, &one.digest))
                .collect();
            if missing.is_empty() || details.has(repository, &graph.root.digest) {
                continue;
            }
            let answer = match asked.entry((repository, graph.root.digest)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    interrupt.check()?;
                    new.insert(self.offer(repository, &graph.root.media_type, &missing)?)
                }
            };
            let Some(error) = answer.clone() else { continue };
            // One that is left is enough to go on.
            let is_end = !plan.details.keeps_going || refused.len() + 1 == plan.images.len();
            let error = push::sparse(error, &name.familiar(), missing.len(), is_end);
            if is_end {
                return Err(error);
            }
            let skipped = Skipped {
                name: planned.name.familiar(),
                reason: error.to_string(),
                hint: error.hint(),
                kind: error.kind(),
            };
            refused.insert(at, skipped);
        }
        Ok(refused)
    }

    /// Offers an index of manifests that a repository does not have. Returns why it is refused.
    fn offer(
        &self,
        repository: &Repository,
        media_type: &MediaType,
        missing: &[&Descriptor],
    ) -> Result<Option<Error>> {
        let bytes = offered(media_type, missing);
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let index = Descriptor::new(media_type.clone(), Digest::sha256(&bytes), size);
        let at = Endpoint::of(repository);
        let reference = index.digest.to_string();
        match self.client.offer_manifest(&at, &reference, &index, &bytes)? {
            Offered::Refused(error) => Ok(Some(error)),
            Offered::Stored { .. } => {
                self.client.remove_manifest(&at, &index.digest);
                Ok(None)
            }
        }
    }

    /// What the registry has under the names now. After one question that it does not answer it is not asked again.
    fn report(
        &self,
        plan: &Plan,
        chosen: &[Chosen],
        mut sent: HashMap<Digest, u64>,
        referrers: &PushedReferrers,
    ) -> Vec<Loaded> {
        let ask = |planned: &PlannedImage| {
            let at = Endpoint::of(planned.name.repository());
            let tag = planned.tag.as_ref().and_then(|tag| tag.tag());
            let name = tag.map_or_else(|| planned.root.to_string(), String::from);
            self.client.named(&at, &name)
        };
        let answers = workers::map(JOBS.get(), &plan.images, ask, Result::is_err);
        let images = plan.images.iter().zip(chosen).zip(answers);
        let images = images.map(|((planned, image), answer)| {
            let mut loaded = Loaded::planned(planned);
            let blobs = push::all_blobs(image);
            loaded.sent = blobs.filter_map(|blob| sent.remove(&blob.digest)).sum();
            tell_referrers(&mut loaded, planned.name.repository(), image, referrers);
            match answer {
                Some(Ok(found)) if found == Some(planned.root) => {
                    loaded.shown = planned.digest.map(|digest| digest == planned.root);
                }
                Some(Ok(_)) => loaded.obstacles.push(Obstacle::new(
                    format!("{} names another image now, or nothing", planned.name.familiar()),
                    "another program has changed it in the meantime; run this again",
                )),
                // It is pushed: what cannot be asked any more is no reason to fail without a report.
                Some(Err(error)) => loaded.obstacles.push(Obstacle::new(
                    format!("it is pushed, and what the registry shows is not known: {error}"),
                    "",
                )),
                None => loaded.obstacles.push(Obstacle::new(
                    "it is pushed, and what the registry shows is not known: it did not answer for another image",
                    "",
                )),
            }
            loaded
        });
        images.collect()
    }
}

/// Reports which referrers of an image the registry shows. It has a place for all of them: one that it does not take is
/// missing.
fn tell_referrers(loaded: &mut Loaded, repository: &Repository, image: &Chosen, pushed: &PushedReferrers) {
    loaded.referrers = LoadedReferrers::default();
    for referrer in image.named.referrers.iter() {
        let reason = pushed.untaken(repository, referrer);
        loaded.referrers.add(referrer.kind(), reason);
    }
    let dropped = loaded.referrers.dropped.iter();
    let obstacles = dropped.map(|dropped| {
        let reason = format!("the registry does not show its {dropped}: {}", dropped.reason);
        Obstacle::new(reason, "")
    });
    loaded.obstacles.extend(obstacles);
}

/// The others than those at these positions.
fn without<T>(all: Vec<T>, skipped: &BTreeMap<usize, Skipped>) -> Vec<T> {
    let others = all
        .into_iter()
        .enumerate()
        .filter(|(at, _)| !skipped.contains_key(at));
    others.map(|(_, one)| one).collect()
}

/// A push to one registry.
struct Push<'p> {
    client: &'p Client,
    chosen: &'p [Chosen],
    details: &'p Details,
    interrupt: &'p Interrupt,
}

impl Push<'_> {
    /// Pushes the blobs that repositories lack. Returns the bytes that were sent of each.
    fn push_blobs(&self, uploader: &Uploader<'_, '_>) -> Result<HashMap<Digest, u64>> {
        let blobs = push::blobs_to_push(self.chosen, self.details);
        let push = |blob: &BlobToPush| {
            let outcome = push_blob(uploader, blob);
            if outcome.is_err() {
                uploader.is_ended.store(true, Ordering::SeqCst);
            }
            outcome
        };
        let outcomes = workers::map(JOBS.get(), &blobs, push, Result::is_err);
        let mut sent = HashMap::new();
        for (blob, outcome) in blobs.iter().zip(first_error_first(outcomes)?) {
            sent.insert(blob.blob.digest, outcome);
        }
        Ok(sent)
    }

    /// Pushes the manifests that repositories lack, except for those that get a tag, if nothing refers to them: the tag is
    /// what names them. Returns those that were or will be sent.
    fn push_manifests(&self) -> Result<Vec<Descriptor>> {
        let push = |image: &Chosen| -> Result<Vec<Descriptor>> {
            let Some(name) = &image.named.reference else {
                return Ok(Vec::new());
            };
            let (repository, root) = (name.repository(), image.named.graph.root.digest);
            let at = Endpoint::of(repository);
            let mut sent = Vec::new();
            for (manifest, bytes) in push::documents(&image.named.graph) {
                self.interrupt.check()?;
                if self.details.has(repository, &manifest.digest) {
                    continue;
                }
                let is_referred = !image.named.referrers.is_empty();
                if manifest.digest != root || name.tag().is_none() || is_referred {
                    let digest = manifest.digest.to_string();
                    self.client.put_manifest(&at, &digest, manifest, bytes)?;
                }
                sent.push(manifest.bare());
            }
            Ok(sent)
        };
        let outcomes = workers::map(JOBS.get(), self.chosen, push, Result::is_err);
        let mut seen = HashSet::new();
        let mut all: Vec<Descriptor> = first_error_first(outcomes)?.into_iter().flatten().collect();
        all.retain(|manifest| seen.insert(manifest.digest));
        Ok(all)
    }
}

/// Gives a blob to the first repository that needs it, and has the others mount it. Returns the bytes that were sent.
fn push_blob(uploader: &Uploader<'_, '_>, to_push: &BlobToPush) -> Result<u64> {
    let mut holder = to_push.holder.clone();
    let mut sent = 0;
    for repository in &to_push.needed_in {
        let at = Endpoint::of(repository);
        sent += uploader.upload(&at, &to_push.blob, holder.as_deref())?;
        holder.get_or_insert_with(|| repository.path().into());
    }
    Ok(sent)
}

/// An index of these manifests.
fn offered(media_type: &MediaType, manifests: &[&Descriptor]) -> Arc<[u8]> {
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": manifests,
    });
    index.to_string().into_bytes().into()
}
