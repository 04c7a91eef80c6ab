//! The classic store of a stopped Docker: a golden image, an installer, a stopped host.
//!
//! Only a daemon can add images to it. Names and digests of images that it has can be written: the daemon reads
//! them when it starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::attach::folder::Folder;
use super::attach::{Allowed, Rules};
use super::content::ImageToLoad;
use super::endpoint::{DEFAULT_SOCKET, Endpoint, Environment};
use super::plan::CLASSIC;
use super::push;
use super::store::files::Files;
use super::store::manifests::LockedManifests;
use super::store::repositories::Repositories;
use crate::docker::unsupported;
use crate::error::{Error, ErrorKind, Hint, Remedy, Result};
use crate::image::Image;
use crate::interrupt::Interrupt;
use crate::load::substitute::has_name;
use crate::load::{
    self, AttachMethod, Attachment, Candidate, Candidates, Change, DigestStatus, Evidence, KnownImage,
    LoadOptions, Loaded, LoadedReferrers, Obstacle, Plan, PlannedImage, Report, Skipped, Target, chains,
};
use crate::oci::chain_ids;
use crate::oci::{Digest, Platform, Reference};
use crate::progress::Progress;
use crate::store::files::digest_path;

/// The store of a stopped Docker.
#[derive(Debug)]
pub struct StoppedStore {
    files: Files,
    folder: Folder,
    rules: Rules,
    keep_push_digest: bool,
}

/// What such a store has.
pub type Inventory = load::Inventory<Details>;

/// What only such a store has in its inventory.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Details {
    /// Its data root.
    pub data_root: PathBuf,
    /// Its storage driver.
    pub driver: String,
    /// The file with its names.
    pub names: PathBuf,
}

impl StoppedStore {
    /// Finds the store in a data root; without one, in that of this host's daemon.
    ///
    /// # Errors
    ///
    /// If there is no classic store.
    pub fn find(data_root: Option<&Path>, options: &super::Options) -> Result<StoppedStore> {
        Ok(StoppedStore {
            files: Files::find(data_root)?,
            folder: options.folder.clone(),
            rules: options.attach,
            keep_push_digest: options.keep_push_digest,
        })
    }

    /// Whether the store that [`StoppedStore::find`] finds without a data root belongs to this engine.
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

    fn error(&self, problem: &str, hint: impl Into<Hint>) -> Error {
        Error::Engine {
            engine: format!("store in {}", self.files.data_root.display()),
            action: "attach".into(),
            problem: problem.into(),
            hint: Some(hint.into()),
        }
    }
}

/// The first of an image's requested platforms that the store has.
fn find_in_store<'o>(
    candidate: &'o Candidate<'_>,
    platform: Option<&Platform>,
    inventory: &Inventory,
) -> Option<&'o Image> {
    let is_wanted = |image: &&Image| {
        platform.is_none_or(|wanted| image.offered().is_some_and(|offered| wanted.matches(offered)))
    };
    let has = |image: &&Image| {
        let known = inventory.image(&image.id());
        known.is_some_and(|known| known.has(image))
    };
    let mut images = candidate.image.graph.runnable().filter(is_wanted);
    images.find(has)
}

/// The image that a store has under a name.
fn named(inventory: &Inventory, name: &Reference) -> Option<Digest> {
    let is_named = |known: &&KnownImage| has_name(&known.tags, name) || has_name(&known.digests, name);
    inventory.images.iter().find(is_named)?.id.parse().ok()
}

impl Target for StoppedStore {
    type Details = Details;

    fn probe(&self, wanted: &Candidates<'_>, _: &LoadOptions) -> Result<Inventory> {
        let mut images: BTreeMap<Digest, KnownImage> = BTreeMap::new();
        for (name, id) in self.files.repositories()?.names() {
            let known = images.entry(id).or_insert_with(|| KnownImage::new(id));
            match name.contains('@') {
                true => known.digests.push(name.into()),
                false => known.tags.push(name.into()),
            }
        }
        let wanted = wanted.images.iter();
        for image in wanted.flat_map(|candidate| candidate.image.graph.runnable()) {
            if !self.has(image)? {
                continue;
            }
            let known = images.entry(image.id());
            let known = known.or_insert_with(|| KnownImage::new(image.id()));
            if let Some(config) = &image.config {
                known.diff_ids.clone_from(&config.diff_ids);
            }
            let manifest = image.descriptor.digest;
            if !known.manifests.contains(&manifest) {
                known.manifests.push(manifest);
                known.available.push(manifest);
            }
        }
        let details = Details {
            data_root: self.files.data_root.clone(),
            driver: self.files.driver.clone(),
            names: self.files.names(),
        };
        let inventory = Inventory {
            chains: chains(images.values()),
            unpacked_suffices: true,
            images: images.into_values().collect(),
            ..Inventory::new(details.data_root.display().to_string(), details)
        };
        Ok(inventory.sorted())
    }

    fn plan(
        &self,
        candidates: &Candidates<'_>,
        options: &LoadOptions,
        inventory: &Inventory,
    ) -> Result<Plan> {
        let platform = options.platform()?;
        let selected = options.select(candidates)?;
        let mut plan = Plan::new(format!(
            "the store in {} ({}, of a stopped Docker)",
            inventory.details.data_root.display(),
            inventory.details.driver
        ));
        plan.skipped = selected.skipped;
        let (mut missing, mut unnamed) = (Vec::new(), Vec::new());
        for (at, name) in selected.images {
            let Some(candidate) = candidates.images.get(at) else {
                continue;
            };
            match find_in_store(candidate, platform, inventory) {
                Some(image) => match name {
                    Some(name) => {
                        candidate.check_name(&name)?;
                        let planned = planned(at, candidate, image, name, self.rules, inventory);
                        plan.images.push(planned);
                    }
                    None => unnamed.push(candidate),
                },
                None => missing.push(candidate),
            }
        }
        let is_image = |candidate: &&&Candidate<'_>| candidate.image.graph.artifact_type().is_none();
        if !missing.is_empty() && !options.keep_going {
            let names: Vec<String> = missing.iter().map(|candidate| candidate.label()).collect();
            let artifacts = missing.iter().filter(|candidate| !is_image(candidate));
            let mut hint: Hint = artifacts
                .map(|candidate| format!("{} is {}", candidate.label(), candidate.nature()).into())
                .collect();
            if missing.iter().any(|candidate| is_image(&candidate)) {
                hint = hint.and("only a running daemon takes images in: start it, load, and stop it again");
            }
            return Err(Error::NotFound {
                what: format!("image {}", names.join(", ")),
                place: plan.target,
                hint: Some(hint.and(Remedy::KeepGoing)),
            });
        }
        plan.skipped.extend(missing.into_iter().map(|candidate| Skipped {
            name: candidate.label(),
            reason: match is_image(&&candidate) {
                true => "the store does not have it, and only a running daemon takes it in".into(),
                false => format!("it is {}", candidate.nature()),
            },
            hint: None,
            kind: ErrorKind::NotFound,
        }));
        plan.refuse_unnamed(&unnamed, candidates, options)?;
        plan.details.attach = attachment(&plan.images, &inventory.details.names)
            .into_iter()
            .collect();
        Ok(plan)
    }

    fn apply(
        &self,
        candidates: &Candidates<'_>,
        plan: &Plan,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Report> {
        let lock = self.folder.lock(progress)?;
        self.folder.repair(&lock)?;
        interrupt.check()?;
        let images = ImageToLoad::all(&plan.images, candidates)?;
        self.write(&images, progress)?;
        let now = self.files.repositories()?;
        let mut report = Report::new(plan);
        for image in &images {
            report.images.push(self.loaded(image, &now));
        }
        Ok(report)
    }
}

impl StoppedStore {
    /// Writes the names atomically.
    fn write(&self, images: &[ImageToLoad<'_, '_>], progress: &dyn Progress) -> Result<()> {
        let path = self.files.names();
        let unused = self
            .files
            .take()
            .map_err(Error::io("lock", &self.files.data_root))?
            .ok_or_else(|| self.error("a daemon works on it", Remedy::UseDaemon))?;
        // For the next save, on any host.
        let named = images.iter().filter_map(|image| {
            let planned = image.planned;
            let is_shown = !matches!(planned.digest_status, DigestStatus::Unavailable { .. });
            let digest = planned.digest.filter(|_| is_shown)?;
            Some((digest, &*image.candidate.image.graph, image.image.id()))
        });
        let kept = LockedManifests::keep_all(&self.files, named, progress);
        let mut repositories = self.files.repositories()?;
        let mut changed = false;
        for ImageToLoad { planned, image, .. } in images {
            let pinned = planned
                .pinned()
                .filter(|_| matches!(planned.digest_status, DigestStatus::ViaAttach { .. }));
            for name in planned.tag.iter().chain(&pinned) {
                changed |= repositories.set(name, &image.id());
            }
        }
        if changed {
            let written = self.files.exchange(&repositories.to_bytes(), &unused);
            written.map_err(Error::io("write", &path))?;
        }
        if let Some(kept) = kept {
            kept.named(&self.files, progress);
        }
        // A failure does no harm: the next run tries again.
        let _ = push::tidy(&self.files);
        self.files.settle().map_err(Error::io("clean up beside", &path))
    }

    fn loaded(&self, to_load: &ImageToLoad<'_, '_>, now: &Repositories) -> Loaded {
        let planned = to_load.planned;
        let mut loaded = Loaded::planned(planned);
        let has = |name: &Reference| now.get(name) == Some(to_load.image.id());
        let pinned = planned.pinned();
        loaded.shown = pinned.as_ref().map(has);
        let is_attached = matches!(planned.digest_status, DigestStatus::ViaAttach { .. });
        let wanted = planned.tag.iter().chain(pinned.iter().filter(|_| is_attached));
        for name in wanted.filter(|name| !has(name)) {
            let reason = format!("{name} is not in the store's list of names");
            loaded.obstacles.push(Obstacle::new(reason, ""));
        }
        if self.keep_push_digest {
            loaded.details.push = push::obstacles(to_load, Some(Ok(&self.files)));
        }
        loaded
    }
}

fn planned(
    at: usize,
    candidate: &Candidate<'_>,
    image: &Image,
    name: Reference,
    rules: Rules,
    inventory: &Inventory,
) -> PlannedImage {
    let has = |name: &Reference| named(inventory, name) == Some(image.id());
    let digest = candidate.digest();
    let pinned = digest.map(|digest| Reference::digested(name.repository(), digest));
    let digest_status = digest_status(candidate, pinned.as_ref(), image.id(), rules, inventory);
    // As after a pull: with a digest in the name, no tag is set.
    let tag = match (name.digest(), &digest_status) {
        (Some(_), DigestStatus::Present | DigestStatus::ViaAttach { .. }) => None,
        _ => name.without_digest(),
    };
    PlannedImage {
        candidate: at,
        digest,
        root: candidate.image.graph.root.digest,
        manifests: vec![image.descriptor.digest],
        image_id: Some(image.id()),
        platforms: image.offered().cloned().unwrap_or_else(Platform::host).into(),
        // What its daemon will run is not known.
        is_foreign: false,
        evidence: candidate.evidence(),
        present: true,
        tagged: tag.as_ref().is_some_and(has),
        change: match tag.as_ref().or(pinned.as_ref()) {
            Some(name) if has(name) => Change::Unchanged,
            Some(name) => match named(inventory, name) {
                Some(other) => Change::Moved {
                    from: other.to_string(),
                },
                None => Change::New,
            },
            None => Change::New,
        },
        digest_status,
        referrers: LoadedReferrers::all_dropped(candidate.referrers_of(image), CLASSIC),
        policy: None,
        name,
        tag,
    }
}

/// How an image's digest gets shown once the engine runs.
fn digest_status(
    candidate: &Candidate<'_>,
    pinned: Option<&Reference>,
    image_id: Digest,
    rules: Rules,
    inventory: &Inventory,
) -> DigestStatus {
    let (Some(pinned), Some(digest)) = (pinned, candidate.digest()) else {
        return DigestStatus::NoDigest {
            reason: candidate.no_digest(),
        };
    };
    let named = named(inventory, pinned);
    let unavailable = |obstacle| DigestStatus::Unavailable {
        obstacles: vec![obstacle],
    };
    match rules.allowed {
        _ if named == Some(image_id) => DigestStatus::Present,
        Allowed::None => DigestStatus::Declined,
        Allowed::Live => unavailable(Obstacle::new(
            "the engine is not running, and nothing else than writing into its store was left to do",
            Remedy::AttachOffline,
        )),
        Allowed::Auto | Allowed::Offline if candidate.evidence() == Evidence::Recorded => {
            let other = named.map(|named| named.to_string());
            let obstacle = unsupported::recorded(candidate, &digest, other.as_deref(), rules);
            obstacle.map_or(
                DigestStatus::ViaAttach {
                    method: AttachMethod::Offline,
                },
                unavailable,
            )
        }
        Allowed::Auto | Allowed::Offline => DigestStatus::ViaAttach {
            method: AttachMethod::Offline,
        },
    }
}

fn attachment(images: &[PlannedImage], names: &Path) -> Option<Attachment> {
    let wanted: Vec<String> = images
        .iter()
        .flat_map(|planned| {
            let is_attached = matches!(planned.digest_status, DigestStatus::ViaAttach { .. });
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
        method: AttachMethod::Offline,
        restarts: false,
        runs: false,
        steps: vec![format!("write {} into {}", wanted.join(", "), names.display())],
    })
}
