//! The classic store of a Docker that does not run: a golden image, an installer, a stopped host.
//!
//! Images cannot be put into it, that takes the daemon. Names and digests of images that it has can be: the
//! daemon reads them when it starts.

use std::path::{Path, PathBuf};

use super::attach::folder::Folder;
use super::content::found;
use super::endpoint::{DEFAULT_SOCKET, Endpoint, Environment};
use super::plan::checked_name;
use super::push;
use super::store::files::{Files, digest_path};
use super::store::manifests::LockedManifests;
use super::store::repositories::Repositories;
use crate::docker::unsupported;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::interrupt::Interrupt;
use crate::oci::chain_ids;
use crate::oci::{Digest, Platform, Reference};
use crate::progress::Progress;
use crate::target::{
    Attach, Attachment, Change, Evidence, LeftOut, Loaded, Obstacle, Offer, Offers, Plan, PlannedImage,
    Report, Request, Showing, Target,
};

/// The store of a Docker that does not run.
#[derive(Debug)]
pub struct StoppedStore {
    files: Files,
    folder: Folder,
    keep_push_digest: bool,
}

/// What such a store has.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Inventory {
    /// Where it is.
    pub data_root: PathBuf,
    /// Its storage driver.
    pub driver: String,
    /// Names and digests with the images that they stand for.
    pub names: Vec<(String, Digest)>,
    #[serde(skip)]
    repositories: Repositories,
}

impl StoppedStore {
    /// Finds the store in a data root; without one, in the one that this host's daemon would use.
    ///
    /// # Errors
    ///
    /// If there is none of the classic kind.
    pub fn find(data_root: Option<&Path>, options: &super::Options) -> Result<StoppedStore> {
        Ok(StoppedStore {
            files: Files::find(data_root)?,
            folder: options.folder.clone(),
            keep_push_digest: options.keep_push_digest,
        })
    }

    /// Whether the store that [`StoppedStore::find`] finds by itself is the one of the engine that is meant.
    pub fn is_of(environment: &Environment) -> bool {
        Endpoint::find(environment).is_ok_and(|found| found == Endpoint::Unix(DEFAULT_SOCKET.into()))
    }

    /// Whether the store has an image's config and layers.
    fn has(&self, image: &Image) -> Result<bool> {
        let Some(config) = &image.config else {
            return Ok(false);
        };
        let path = self.files.config(&image.id());
        let file = self.files.open_file(&path).map_err(Error::io("open", &path))?;
        let Some(top) = chain_ids(&config.diff_ids).pop() else {
            return Ok(file.is_some());
        };
        let path = digest_path(&self.files.chains(), &top);
        let layer = self.files.folder(&path).map_err(Error::io("open", &path))?;
        Ok(file.is_some() && layer.is_some())
    }

    /// The first of an image's platforms that the store has, of those that are asked for.
    fn find_in_store<'o>(&self, offer: &'o Offer<'_>, request: &Request) -> Result<Option<&'o Image>> {
        let is_wanted = |image: &&Image| {
            let wanted = request.platform.as_ref();
            wanted.is_none_or(|wanted| image.offered().is_some_and(|offered| wanted.matches(offered)))
        };
        for image in offer.graph.runnable().filter(is_wanted) {
            if self.has(image)? {
                return Ok(Some(image));
            }
        }
        Ok(None)
    }

    fn error(&self, problem: &str, hint: &str) -> Error {
        Error::Engine {
            engine: format!("store in {}", self.files.data_root.display()),
            action: "attach".into(),
            problem: problem.into(),
            hint: Some(hint.into()),
        }
    }
}

impl Target for StoppedStore {
    type Inventory = Inventory;

    fn probe(&self, _: Option<&Offers<'_>>) -> Result<Inventory> {
        let repositories = self.files.repositories()?;
        Ok(Inventory {
            data_root: self.files.data_root.clone(),
            driver: self.files.driver.clone(),
            names: repositories
                .names()
                .map(|(name, id)| (name.to_string(), id))
                .collect(),
            repositories,
        })
    }

    fn plan(&self, offers: &Offers<'_>, request: &Request, inventory: &Inventory) -> Result<Plan> {
        let selection = request.select(offers)?;
        let mut plan = Plan::new(format!(
            "the store in {} ({}, of a Docker that does not run)",
            inventory.data_root.display(),
            inventory.driver
        ));
        plan.left_out = selection.left_out;
        let mut missing = Vec::new();
        for (at, name) in selection.images {
            let Some(offer) = offers.images.get(at) else {
                continue;
            };
            match self.find_in_store(offer, request)? {
                Some(image) => {
                    let name = checked_name(offer, name)?;
                    plan.images
                        .push(planned(at, offer, image, name, request, inventory));
                }
                None => missing.push(offer),
            }
        }
        let is_image = |offer: &&&Offer<'_>| offer.graph.artifact_type().is_none();
        if !missing.is_empty() && !request.keep_going {
            let names: Vec<String> = missing.iter().map(|offer| offer.label()).collect();
            let mut hints: Vec<String> = missing
                .iter()
                .filter(|offer| !is_image(offer))
                .map(|offer| format!("{} is {}", offer.label(), unsupported::nature(offer)))
                .collect();
            if missing.iter().any(|offer| is_image(&offer)) {
                hints.push("only a running daemon takes images in: start it, load, and stop it again".into());
            }
            hints.push("--keep-going attaches the digests of those that are there".into());
            return Err(Error::NotFound {
                what: format!("image {}", names.join(", ")),
                place: plan.target,
                hint: Some(hints.join("; ")),
            });
        }
        plan.left_out.extend(missing.into_iter().map(|offer| LeftOut {
            name: offer.label(),
            reason: match is_image(&&offer) {
                true => "the store does not have it, and only a running daemon takes it in".into(),
                false => format!("it is {}", unsupported::nature(offer)),
            },
            exit_code: 7,
        }));
        plan.attach = attachment(&plan.images, self.files.names()).into_iter().collect();
        Ok(plan)
    }

    fn apply(
        &self,
        offers: &Offers<'_>,
        plan: &Plan,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Report> {
        let lock = self.folder.lock(progress)?;
        self.folder.repair(&lock)?;
        interrupt.check()?;
        self.write(plan, offers, progress)?;
        let now = self.files.repositories()?;
        let mut report = Report::new(plan);
        for planned in &plan.images {
            report.images.push(self.loaded(planned, offers, &now));
        }
        Ok(report)
    }
}

impl StoppedStore {
    /// Writes the names, as a whole or not at all.
    fn write(&self, plan: &Plan, offers: &Offers<'_>, progress: &dyn Progress) -> Result<()> {
        let path = self.files.names();
        let unused = self
            .files
            .take()
            .map_err(Error::io("lock", &self.files.data_root))?
            .ok_or_else(|| {
                self.error(
                    "a daemon works on it",
                    "leave out --data-root, and it is asked instead",
                )
            })?;
        // For the next save, on whatever host that is.
        let named = plan.images.iter().filter_map(|planned| {
            let is_shown = !matches!(planned.showing, Showing::Hidden { .. });
            let offer = offers.images.get(planned.offer).filter(|_| is_shown)?;
            Some((planned.digest?, &*offer.graph, planned.image_id))
        });
        let kept = LockedManifests::keep_all(&self.files, named, progress);
        let mut repositories = self.files.repositories()?;
        let mut changed = false;
        for planned in &plan.images {
            let pinned = planned
                .pinned()
                .filter(|_| matches!(planned.showing, Showing::Attach { .. }));
            for name in planned.tag.iter().chain(&pinned) {
                changed |= repositories.set(name, &planned.image_id);
            }
        }
        if changed {
            let written = self.files.exchange(&repositories.to_bytes(), &unused);
            written.map_err(Error::io("write", &path))?;
        }
        if let Some(kept) = kept {
            kept.named(&self.files, progress);
        }
        // It is in nobody's way: the next run tries again.
        let _ = push::tidy(&self.files);
        self.files.settle().map_err(Error::io("clean up beside", &path))
    }

    fn loaded(&self, planned: &PlannedImage, offers: &Offers<'_>, now: &Repositories) -> Loaded {
        let mut loaded = Loaded::planned(planned);
        let has = |name: &Reference| now.get(name) == Some(planned.image_id);
        let pinned = planned.pinned();
        loaded.shown = pinned.as_ref().map(has);
        let is_attached = matches!(planned.showing, Showing::Attach { .. });
        let wanted = planned.tag.iter().chain(pinned.iter().filter(|_| is_attached));
        for name in wanted.filter(|name| !has(name)) {
            let reason = format!("{name} is not in the store's list of names");
            loaded.obstacles.push(Obstacle::new(reason, ""));
        }
        let push = self.keep_push_digest.then(|| found(planned, offers)).flatten();
        loaded.push = push.and_then(|(offer, image)| {
            if let Some(stand_in) = offer.account.stand_in {
                return stand_in.recorded.map(|digest| vec![push::unproven(&digest)]);
            }
            let written = push::remember(&self.files, &[planned.name.repository()], image);
            let failed = written.err().map(|error| Obstacle::new(error.to_string(), ""));
            let differs = push::differs(&offer.graph, image);
            Some(failed.into_iter().chain(differs).collect())
        });
        loaded
    }
}

fn planned(
    at: usize,
    offer: &Offer<'_>,
    image: &Image,
    name: Reference,
    request: &Request,
    inventory: &Inventory,
) -> PlannedImage {
    let has = |name: &Reference| inventory.repositories.get(name) == Some(image.id());
    let digest = offer.digest();
    let pinned = digest.map(|digest| Reference::digested(name.repository(), digest));
    let showing = showing(offer, pinned.as_ref(), image.id(), request, inventory);
    // As after a pull: a digest in the name leaves the tag alone.
    let tag = match (name.digest(), &showing) {
        (Some(_), Showing::Already | Showing::Attach { .. }) => None,
        _ => name.without_digest(),
    };
    PlannedImage {
        offer: at,
        digest,
        root: offer.graph.root.digest,
        manifest: image.descriptor.digest,
        image_id: image.id(),
        platform: image.offered().cloned().unwrap_or_else(Platform::host),
        // What its daemon will run is not known.
        is_foreign: false,
        evidence: offer.evidence(),
        present: true,
        tagged: tag.as_ref().is_some_and(has),
        change: match tag.as_ref().or(pinned.as_ref()) {
            Some(name) if has(name) => Change::Unchanged,
            Some(name) => match inventory.repositories.get(name) {
                Some(other) => Change::Moved {
                    from: other.to_string(),
                },
                None => Change::New,
            },
            None => Change::New,
        },
        showing,
        name,
        tag,
    }
}

/// How an image's digest gets shown once the engine runs.
fn showing(
    offer: &Offer<'_>,
    pinned: Option<&Reference>,
    image_id: Digest,
    request: &Request,
    inventory: &Inventory,
) -> Showing {
    let (Some(pinned), Some(digest)) = (pinned, offer.digest()) else {
        return Showing::NoDigest {
            reason: offer.no_digest(),
        };
    };
    let holder = inventory.repositories.get(pinned);
    let hidden = |obstacle| Showing::Hidden {
        obstacles: vec![obstacle],
    };
    match request.attach {
        _ if holder == Some(image_id) => Showing::Already,
        Attach::None => Showing::Declined,
        Attach::Live => hidden(Obstacle::new(
            "the engine does not run, and nothing else than writing into its store was left to do",
            "--attach offline does that",
        )),
        Attach::Auto | Attach::Offline if offer.evidence() == Evidence::Recorded => {
            let other = holder.map(|holder| holder.to_string());
            let obstacle = unsupported::recorded(offer, &digest, other.as_deref(), request);
            obstacle.map_or(Showing::Attach { strategy: "offline" }, hidden)
        }
        Attach::Auto | Attach::Offline => Showing::Attach { strategy: "offline" },
    }
}

fn attachment(images: &[PlannedImage], names: PathBuf) -> Option<Attachment> {
    let wanted: Vec<String> = images
        .iter()
        .flat_map(|planned| {
            let is_attached = matches!(planned.showing, Showing::Attach { .. });
            let pinned = planned.pinned().filter(|_| is_attached);
            planned
                .tag
                .clone()
                .filter(|_| !planned.tagged)
                .into_iter()
                .chain(pinned)
        })
        .map(|name| name.familiar())
        .collect();
    (!wanted.is_empty()).then(|| Attachment {
        strategy: "offline",
        restarts: false,
        runs: false,
        steps: vec![format!("write {} into {}", wanted.join(", "), names.display())],
    })
}
