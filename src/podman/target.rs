//! Loading into podman: one pull for each name, from the server of the load.
//!
//! podman writes an image's content first and its name last, in one step for each image. Images with content to send are
//! pulled before those without, and names that need no pull are set last.

use std::collections::HashSet;

use super::inventory::has_name;
use super::plan::{self, is_done, is_only_tagged, record};
use super::replacement;
use super::staging::Staging;
use super::twin;
use super::{Details, Inventory, Podman};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::load::{
    Candidates, Form, LoadOptions, Loaded, Obstacle, Plan, PlannedImage, Replaced, Report, Target,
};
use crate::oci::{Digest, Reference};
use crate::progress::Progress;
use crate::serve::Event;

impl Target for Podman {
    type Details = Details;

    fn probe(&self, wanted: &Candidates<'_>) -> Result<Inventory> {
        self.examine(Some(wanted))
    }

    fn plan(
        &self,
        candidates: &Candidates<'_>,
        options: &LoadOptions,
        inventory: &Inventory,
    ) -> Result<Plan> {
        plan::plan(candidates, options, self.replace, inventory)
    }

    fn apply(
        &self,
        candidates: &Candidates<'_>,
        plan: &Plan,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Report> {
        let mut report = Report::new(plan);
        let load = Load {
            podman: self,
            candidates,
            plan,
            progress,
            interrupt,
        };
        let sent = match load.pull_all() {
            Ok(sent) => sent,
            Err(error) => {
                if !matches!(error, Error::Interrupted) {
                    // What stopped the load says more. Names that stay with a twin lead to the same content.
                    let _ = twin::settle(self, interrupt);
                }
                return Err(error);
            }
        };
        report.sent = sent.iter().sum();
        report.images = load.ask(&sent)?;
        Ok(report)
    }
}

/// A load in progress.
struct Load<'l, 'a> {
    podman: &'l Podman,
    candidates: &'l Candidates<'a>,
    plan: &'l Plan,
    progress: &'l dyn Progress,
    interrupt: &'l Interrupt,
}

impl Load<'_, '_> {
    /// Gives every image of the plan its name. Returns the bytes that were sent for each.
    fn pull_all(&self) -> Result<Vec<u64>> {
        let images = &self.plan.images;
        let mut sent = vec![0; images.len()];
        let (mut pulled, mut tagged) = (Vec::new(), Vec::new());
        for (at, planned) in images.iter().enumerate().filter(|(_, planned)| !is_done(planned)) {
            match is_only_tagged(planned, planned.content(self.candidates)?.0) {
                true => tagged.push(planned),
                false => pulled.push(at),
            }
        }
        if !pulled.is_empty() {
            self.pull_these(pulled, &mut sent)?;
        }
        for planned in tagged {
            self.tag(planned)?;
        }
        twin::settle(self.podman, self.interrupt)?;
        Ok(sent)
    }

    /// Pulls the images at these positions of the plan, those with layers to send first.
    fn pull_these(&self, mut pulled: Vec<usize>, sent: &mut [u64]) -> Result<()> {
        let images = &self.plan.images;
        let with_content: HashSet<usize> = self
            .plan
            .send
            .iter()
            .filter(|blob| blob.form == Form::Layer)
            .map(|blob| blob.image)
            .collect();
        pulled.sort_by_key(|at| !with_content.contains(at));
        let served: Vec<&PlannedImage> = pulled.iter().filter_map(|at| images.get(*at)).collect();
        let is_replaced = |planned: &PlannedImage| self.replaced(planned).is_some();
        let staging = Staging::new(&served, self.candidates, is_replaced, self.interrupt)?;
        self.progress.phase("sending", Some(self.plan.bytes()));
        let mut removed: HashSet<Digest> = HashSet::new();
        for at in pulled {
            let (Some(planned), Some(sent)) = (images.get(at), sent.get_mut(at)) else {
                continue;
            };
            self.interrupt.check()?;
            self.replace(planned, &mut removed, &staging)?;
            *sent = self.pull(planned, &staging)?;
        }
        Ok(())
    }

    /// What the plan says of the replacement of an image, if it is replaced.
    fn replaced(&self, planned: &PlannedImage) -> Option<&Replaced> {
        let mut all = self.plan.details.replaced.iter();
        all.find(|replaced| Some(replaced.image_id) == planned.image_id)
    }

    /// Names an image that podman has, and whose manifest in the archive is a substitute.
    fn tag(&self, planned: &PlannedImage) -> Result<()> {
        let id = planned.image_id.map(|id| id.to_string()).unwrap_or_default();
        replacement::restore(&self.podman.program, &id, &[planned.name.full()], self.interrupt)
    }

    /// Removes an image that is to be replaced, before it is pulled for the first time. Its twin is pulled before that: it
    /// proves that podman takes the image, and keeps its names.
    fn replace(
        &self,
        planned: &PlannedImage,
        removed: &mut HashSet<Digest>,
        staging: &Staging,
    ) -> Result<()> {
        let Some(replaced) = self.replaced(planned) else {
            return Ok(());
        };
        if !removed.insert(replaced.image_id) {
            return Ok(());
        }
        let repository = planned.name.repository().full();
        let kept = format!("{repository}:{}", twin::tag(&replaced.image_id));
        let auth = staging.auth().display().to_string();
        let args = ["pull", "--quiet", "--authfile", &auth, &kept];
        let mut failed = None;
        let pulled = self.podman.program.pull(
            &args,
            &staging.registries(),
            self.interrupt,
            &staging.events,
            &mut |event| {
                if let Event::Failed { error } = event {
                    failed = Some(error);
                }
            },
        );
        pulled.map_err(|error| match (error, failed) {
            (Error::Interrupted, _) => Error::Interrupted,
            (error, failed) => failed.unwrap_or(error),
        })?;
        let id = replaced.image_id.to_string();
        let listed = self.podman.images()?;
        let found = listed.into_iter().find(|one| id == format!("sha256:{}", one.id));
        let Some(found) = found else { return Ok(()) };
        if found.containers > 0 {
            let problem = "a container was made of it meanwhile, so it is not replaced".to_string();
            return Err(self.podman.program.error(&["rmi"], problem, None));
        }
        let tags: Vec<String> = found
            .names
            .into_iter()
            .filter(|name| !name.contains('@'))
            .collect();
        replacement::remove(
            &self.podman.program,
            &replaced.image_id,
            &kept,
            &tags,
            self.interrupt,
        )
    }

    /// Has podman pull an image by its name. Returns the bytes that were sent.
    fn pull(&self, planned: &PlannedImage, staging: &Staging) -> Result<u64> {
        let (candidate, image) = planned.content(self.candidates)?;
        let auth = staging.auth().display().to_string();
        let mut args = vec!["pull", "--quiet", "--authfile", &auth];
        let has_index = !candidate.image.graph.indexes.is_empty();
        let platform = image.descriptor.platform.as_ref().filter(|_| has_index);
        let platform = platform.map(ToString::to_string);
        if let Some(platform) = &platform {
            args.extend(["--platform", platform]);
        }
        let name = record(&planned.name).full();
        args.push(&name);
        let mut sent = 0;
        let mut failed = None;
        let pulled = self.podman.program.pull(
            &args,
            &staging.registries(),
            self.interrupt,
            &staging.events,
            &mut |event| match event {
                Event::Started { digest, size } => self.progress.blob_started(&digest, size, 0),
                Event::Advanced { digest, bytes } => {
                    sent += bytes;
                    self.progress.blob_advanced(&digest, bytes);
                }
                Event::Finished { digest } => self.progress.blob_finished(&digest),
                Event::Failed { error } => failed = Some(error),
            },
        );
        match (pulled, failed) {
            (Err(Error::Interrupted), _) => Err(Error::Interrupted),
            // What was wrong with the archive says more than that podman got no answer.
            (Err(_), Some(failed)) => Err(failed),
            (Err(error), None) => Err(error),
            (Ok(id), _) => self.check(planned, &args, &id).map(|()| sent),
        }
    }

    /// Checks that podman took the image that was planned.
    fn check(&self, planned: &PlannedImage, args: &[&str], id: &str) -> Result<()> {
        let found: Option<Digest> = format!("sha256:{id}").parse().ok();
        match found.is_some() && found == planned.image_id {
            true => Ok(()),
            false => {
                let wanted = planned
                    .image_id
                    .map(|id| id.short().to_string())
                    .unwrap_or_default();
                let problem = format!(
                    "it chose another image of the index, {}, not {wanted}",
                    crate::escape::Escaped(id)
                );
                Err(self.podman.program.error(args, problem, None))
            }
        }
    }

    /// Asks what podman shows.
    fn ask(&self, sent: &[u64]) -> Result<Vec<Loaded>> {
        let listed = self.podman.images()?;
        let images = self.plan.images.iter().zip(sent);
        let loaded = images.map(|(planned, sent)| {
            let id = planned.image_id.map(|id| id.to_string()).unwrap_or_default();
            let found = listed.iter().find(|one| id == format!("sha256:{}", one.id));
            let mut loaded = Loaded::planned(planned);
            loaded.sent = *sent;
            let name = record(&planned.name);
            if !found.is_some_and(|one| has_name(&one.names, &name)) {
                let reason = format!("podman does not show the name {name}");
                loaded.obstacles.push(Obstacle::new(reason, "load it again"));
            }
            if let Some(digest) = planned.digest {
                let pinned = Reference::digested(planned.name.repository(), digest);
                let is_shown = found.is_some_and(|one| has_name(&one.repo_digests, &pinned));
                loaded.shown = Some(is_shown && planned.obstacles().is_empty());
            }
            loaded
        });
        Ok(loaded.collect())
    }
}
