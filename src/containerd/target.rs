//! Loading into containerd: content under a lease, then the names one by one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::cri::Hidden;
use super::deliver::{Delivered, Delivery, ImageToLoad};
use super::images::Images;
use super::inventory::{Details, Inventory};
use super::leases::{self, Lease};
use super::repack::Repacked;
use super::snapshots::Snapshotter;
use super::{Containerd, KUBERNETES, cri, labels, plan, records};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::load::{
    Candidates, DiskSpace, Early, LoadOptions, Loaded, Obstacle, Plan, PlannedImage, Report, Target,
};
use crate::oci::{Descriptor, Digest, MediaType};
use crate::progress::Progress;

/// The hint where only containerd knows more.
const LOG: &str = "see its log (journalctl -u containerd)";

impl Target for Containerd {
    type Details = Details;

    fn probe(&self, wanted: &Candidates<'_>, _: &LoadOptions) -> Result<Inventory> {
        self.look(wanted)
    }

    fn plan(
        &self,
        candidates: &Candidates<'_>,
        options: &LoadOptions,
        inventory: &Inventory,
    ) -> Result<Plan> {
        let mut plan = plan::plan(candidates, options, self.options.unpacks, inventory)?;
        plan.details.warnings.extend(self.pin_warning());
        Ok(plan)
    }

    fn early(&self) -> Early {
        match self.options.unpacks {
            true => Early::Unpacks,
            false => Early::Sends,
        }
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
        let images = plan.images.iter().map(|planned| {
            let (candidate, image) = planned.content(candidates)?;
            Ok(ImageToLoad {
                planned,
                candidate,
                image,
            })
        });
        let images = images.collect::<Result<Vec<_>>>()?;
        let (lease, _guard) = Lease::create_until_signal(&self.client, interrupt)?;
        let client = self.client.with_lease(lease.id())?;
        let snapshotter = Snapshotter::new(&client, &self.snapshotter, lease.id());
        let snapshotter = Some(snapshotter).filter(|_| self.options.unpacks);
        let check = || interrupt.check().and_then(|()| candidates.check());
        // Temporary blobs take space as well.
        let repacked = Repacked::new(&client, &lease);
        let repacked = Some(repacked).filter(|_| plan.space.as_ref().is_none_or(DiskSpace::is_ample));
        let delivery = Delivery::new(&client, repacked, snapshotter, candidates, progress, &check);
        let whole = |image: &&ImageToLoad<'_, '_>| !plan::has_own_manifest(image.planned, image.candidate);
        let to_deliver: Vec<_> = images.iter().filter(whole).collect();
        let delivered = delivery.run(&to_deliver, &plan.send);
        let Delivered { sent, has_garbage } = delivered.map_err(|error| candidates.omitted_or(error))?;
        if !candidates.are_verified() {
            progress.phase("verifying", None);
        }
        candidates.wait_until_verified(interrupt)?;
        lease.while_naming(|| {
            images.iter().try_for_each(|to_load| {
                interrupt.check()?;
                self.name(to_load)
            })
        })?;
        lease.remove(has_garbage);
        leases::remove_abandoned(&self.client);
        self.report(&images, &sent, interrupt, &mut report)?;
        Ok(report)
    }
}

impl Containerd {
    /// Sets the records of an image.
    fn name(&self, to_load: &ImageToLoad<'_, '_>) -> Result<()> {
        let is_of_cri = self.namespace.name == KUBERNETES;
        let labels = labels::of_record(is_of_cri, self.options.is_pinned);
        let images = Images::new(&self.client);
        let own = match plan::has_own_manifest(to_load.planned, to_load.candidate) {
            true => Some(self.own_root(to_load.planned)?),
            false => None,
        };
        let root = own.as_ref().unwrap_or(&to_load.candidate.image.graph.root);
        for name in records::of(to_load.planned, &self.namespace.name) {
            images.set(&name, root, &labels)?;
        }
        Ok(())
    }

    /// The manifest or index that containerd has of an image, which a name keeps.
    fn own_root(&self, planned: &PlannedImage) -> Result<Descriptor> {
        let digest = planned.root.to_string();
        let records = Images::new(&self.client).list()?.into_iter();
        let mut targets = records.filter_map(|record| record.target);
        let found = targets.find(|target| target.digest == digest);
        let found = found.ok_or_else(|| Error::Engine {
            engine: self.client.address().engine(),
            action: format!("name {}", planned.name.familiar()),
            problem: format!("{digest} has lost its names in the meantime"),
            hint: Some("run this again".into()),
        })?;
        let size = u64::try_from(found.size).unwrap_or_default();
        Ok(Descriptor::new(
            MediaType::new(found.media_type),
            planned.root,
            size,
        ))
    }

    /// Reports what the names stand for now, and which of them CRI shows.
    fn report(
        &self,
        images: &[ImageToLoad<'_, '_>],
        sent: &HashMap<Digest, u64>,
        interrupt: &Interrupt,
        report: &mut Report,
    ) -> Result<()> {
        let to_show = images.iter().filter(|image| !plan::is_hidden(image.planned));
        let names = to_show.flat_map(|image| shown_names(image.planned));
        let hidden = match self.has_cri {
            true => cri::hidden(&self.client, names.collect(), interrupt)?,
            false => Hidden::default(),
        };
        // The images are loaded: what cannot be asked any more is no reason to fail without a report.
        let now = self.records();
        let mut left = sent.clone();
        report.sent = sent.values().sum();
        for to_load in images {
            let referrers = to_load.candidate.referrers_of(to_load.image).into_iter();
            let referrers = referrers.flat_map(plan::blobs_of_referrer);
            let blobs = plan::blobs(to_load.candidate, to_load.image).chain(referrers);
            let sent = blobs.filter_map(|(blob, _)| left.remove(&blob.digest)).sum();
            report.images.push(loaded(to_load, sent, &now, &hidden));
        }
        Ok(())
    }
}

/// The names of an image that are to be shown: its tag and its digest.
fn shown_names(planned: &PlannedImage) -> impl Iterator<Item = String> {
    let names = BTreeSet::from([records::main(planned), records::digest(planned)]);
    names.into_iter().flatten()
}

/// The result for an image, according to all records, and to the names that CRI does not show.
fn loaded(
    to_load: &ImageToLoad<'_, '_>,
    sent: u64,
    now: &Result<BTreeMap<String, String>>,
    hidden: &Hidden,
) -> Loaded {
    let planned = to_load.planned;
    let root = planned.root.to_string();
    let mut loaded = Loaded {
        sent,
        ..Loaded::planned(planned)
    };
    let now = match now {
        Ok(now) => now,
        Err(error) => {
            let reason = format!("it is loaded, and what containerd shows is not known: {error}");
            loaded.obstacles.push(Obstacle::new(reason, LOG));
            return loaded;
        }
    };
    let is_shown = |name: &String| now.get(name) == Some(&root) && !hidden.names.contains(name);
    if let Some(name) = records::digest(planned) {
        loaded.shown = Some(is_shown(&name) && !plan::is_hidden(planned));
    }
    for name in shown_names(planned) {
        if now.get(&name) != Some(&root) {
            loaded.obstacles.push(Obstacle::new(
                format!("{name} names another image now, or nothing"),
                "another program has changed it in the meantime; run this again",
            ));
        } else if hidden.names.contains(&name) {
            let reason = match &hidden.error {
                Some(error) => format!("containerd has {name}, and its CRI does not answer: {error}"),
                None => format!("containerd has {name}, and its CRI does not show it"),
            };
            loaded.obstacles.push(Obstacle::new(reason, LOG));
        }
    }
    loaded
}
