//! Loading into podman: one pull for each name, from the server of the load.
//!
//! podman writes an image's content first and its name last, in one step for each image. Images with content to send are
//! pulled before those without, and names that need no pull are set last.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::answers::PodmanImage;
use super::inventory::has_name;
use super::plan::{self, is_done, record};
use super::replacement;
use super::staging::Staging;
use super::twin;
use super::{Details, Inventory, Podman};
use crate::error::{Error, ErrorKind, Remedy, Result};
use crate::interrupt::{Guard, Interrupt};
use crate::load::{
    Candidates, Form, LoadOptions, Loaded, Obstacle, Plan, PlannedImage, Replaced, Report, Skipped, Target,
};
use crate::oci::{Digest, Reference};
use crate::progress::Progress;
use crate::serve::Event;

impl Target for Podman {
    type Details = Details;

    fn probe(&self, wanted: &Candidates<'_>, _: &LoadOptions) -> Result<Inventory> {
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
        let load = Load {
            podman: self,
            candidates,
            plan,
            progress,
            interrupt,
        };
        let mut loaded = Outcomes::new(plan);
        let guard = loaded.remark_on_stop(interrupt);
        let ended = load.load_all(&mut loaded);
        let ended = ended.map_err(|error| match error.kind() {
            ErrorKind::Engine if loaded.has_unreached() => error.and_hint(Remedy::KeepGoing),
            _ => error,
        });
        let mut report = Report::new(plan);
        match ended {
            Err(Error::Interrupted) => {
                guard.keep();
                return Err(Error::Interrupted);
            }
            Err(error) if !loaded.has_any() => return Err(error),
            ended => report.error = ended.err(),
        }
        report.skipped.extend(loaded.skipped(plan, report.error.as_ref()));
        report.sent = loaded.sent.iter().flatten().sum();
        report.images = load.ask(&loaded.sent);
        Ok(report)
    }
}

/// What became of the images of a plan, by their positions.
struct Outcomes {
    /// Bytes that were sent for each that has its name.
    sent: Vec<Option<u64>>,
    /// Why podman refused the others, as far as it was asked.
    refused: BTreeMap<usize, Error>,
    /// The names that were set, for a signal.
    named: Arc<Mutex<Vec<String>>>,
}

impl Outcomes {
    /// Those before the load: podman may have some images with their names.
    fn new(plan: &Plan) -> Outcomes {
        let images = plan.images.iter();
        Outcomes {
            sent: images.map(|planned| is_done(planned).then_some(0)).collect(),
            refused: BTreeMap::new(),
            named: Arc::default(),
        }
    }

    /// Whether podman has any image with its name.
    fn has_any(&self) -> bool {
        self.sent.iter().any(Option::is_some)
    }

    /// Whether there are images that podman was not asked for.
    fn has_unreached(&self) -> bool {
        let mut missing = self.sent.iter().enumerate().filter(|(_, sent)| sent.is_none());
        missing.any(|(at, _)| !self.refused.contains_key(&at))
    }

    /// Says after a signal which names were set before it.
    fn remark_on_stop(&self, interrupt: &Interrupt) -> Guard {
        let named = self.named.clone();
        interrupt.on_stop({
            let interrupt = interrupt.clone();
            move || {
                let named = named.lock().unwrap_or_else(PoisonError::into_inner);
                if !named.is_empty() {
                    interrupt.remark(format!(
                        "loaded and named before that: {}; run the same load again for the others",
                        named.join(", ")
                    ));
                }
            }
        })
    }

    /// Adds the result for an image: the bytes that were sent, or why it is not loaded.
    ///
    /// # Errors
    ///
    /// The error, if it ends the load.
    fn add(&mut self, at: usize, result: Result<u64>, plan: &Plan) -> Result<()> {
        match result {
            Ok(bytes) => {
                if let (Some(sent), Some(planned)) = (self.sent.get_mut(at), plan.images.get(at)) {
                    *sent = Some(bytes);
                    let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
                    named.push(planned.name.familiar());
                }
                Ok(())
            }
            // What else goes wrong concerns the images after it as well: a full disk, content that is not right any more.
            Err(error) if plan.details.keeps_going && error.kind() == ErrorKind::Engine => {
                self.refused.insert(at, error);
                Ok(())
            }
            Err(error) => {
                self.refused.insert(at, error.clone());
                Err(error)
            }
        }
    }

    /// The images that are not loaded; `error` is what ended the load.
    fn skipped(&self, plan: &Plan, error: Option<&Error>) -> Vec<Skipped> {
        let missing = plan.images.iter().enumerate().zip(&self.sent);
        let missing = missing.filter(|(_, sent)| sent.is_none()).map(|(image, _)| image);
        missing
            .map(|(at, planned)| {
                let refused = self.refused.get(&at);
                let (reason, hint) = match (refused, error) {
                    (Some(refused), None) => (refused.to_string(), refused.hint()),
                    (Some(_), Some(_)) => ("podman did not load it".into(), None),
                    (None, _) => ("the load ended before it".into(), None),
                };
                Skipped {
                    name: planned.name.familiar(),
                    reason,
                    hint,
                    kind: refused.or(error).map_or(ErrorKind::Engine, Error::kind),
                }
            })
            .collect()
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
    /// Gives every image of the plan its name.
    fn load_all(&self, loaded: &mut Outcomes) -> Result<()> {
        let ended = self.pull_and_tag(loaded);
        if matches!(ended, Err(Error::Interrupted)) {
            return ended;
        }
        // What stopped the load says more. Names that stay with a twin lead to the same content.
        let settled = twin::settle(self.podman, self.interrupt);
        ended.and(settled)
    }

    fn pull_and_tag(&self, loaded: &mut Outcomes) -> Result<()> {
        let pulled = plan::to_pull(self.plan, self.candidates)?;
        let images = self.plan.images.iter().enumerate();
        let tagged: Vec<(usize, &PlannedImage)> = images
            .filter(|(at, planned)| !is_done(planned) && !pulled.contains(at))
            .collect();
        if !pulled.is_empty() {
            self.pull_these(pulled, loaded)?;
        }
        for (at, planned) in tagged {
            loaded.add(at, self.tag(planned).map(|()| 0), self.plan)?;
        }
        Ok(())
    }

    /// Pulls the images at these positions of the plan, those with layers to send first.
    fn pull_these(&self, mut pulled: Vec<usize>, loaded: &mut Outcomes) -> Result<()> {
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
            let Some(planned) = images.get(at) else { continue };
            self.interrupt.check()?;
            let replaced = self.replace(planned, &mut removed, &staging);
            let result = replaced.and_then(|()| self.pull(planned, &staging));
            loaded.add(at, result, self.plan)?;
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
        if removed.contains(&replaced.image_id) {
            return Ok(());
        }
        let kept = twin::name(planned.name.repository(), &replaced.image_id);
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
        let Some(found) = found else {
            removed.insert(replaced.image_id);
            return Ok(());
        };
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
        )?;
        removed.insert(replaced.image_id);
        Ok(())
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
                Event::Answered(_) => {}
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

    /// Asks what podman shows of the images that are loaded: those with sent bytes, which may be none.
    fn ask(&self, sent: &[Option<u64>]) -> Vec<Loaded> {
        let listed = self.podman.images();
        let images = self.plan.images.iter().zip(sent);
        let images = images.filter_map(|(planned, sent)| Some((planned, (*sent)?)));
        let loaded = images.map(|(planned, sent)| {
            let mut loaded = Loaded::planned(planned);
            loaded.sent = sent;
            match &listed {
                Ok(listed) => compare(planned, listed, &mut loaded),
                // It is loaded: what cannot be asked any more is no reason to fail without a report.
                Err(error) => {
                    let reason = format!("it is loaded, and what podman shows is not known: {error}");
                    let hint = error.hint().unwrap_or_default();
                    loaded.obstacles.push(Obstacle::new(reason, hint));
                }
            }
            loaded
        });
        loaded.collect()
    }
}

/// Says what podman shows of an image.
fn compare(planned: &PlannedImage, listed: &[PodmanImage], loaded: &mut Loaded) {
    let id = planned.image_id.map(|id| id.to_string()).unwrap_or_default();
    let found = listed.iter().find(|one| id == format!("sha256:{}", one.id));
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
}
