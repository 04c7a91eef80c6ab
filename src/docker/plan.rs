//! What a load into Docker will do. Pure: depends on the candidates, the options and the inventory.

use std::collections::HashSet;

use super::api::info::Store;
use super::attach::pull::taken;
use super::attach::{Allowed, Disruption, Rules, Strategy};
use super::content::{ImageToLoad, upload};
use super::inventory::Inventory;
use super::{platforms, space, substitutes};
use crate::docker::unsupported;
use crate::error::Result;
use crate::image::Image;
use crate::load::substitute::has_name;
use crate::load::{
    Attachment, Candidate, Candidates, Change, DigestStatus, Evidence, KnownImage, LoadOptions,
    LoadedReferrers, Obstacle, Plan, PlannedImage, Requested,
};
use crate::oci::{Digest, Reference, Repository};

/// Why the classic store shows nothing that refers to its images.
pub const CLASSIC: &str = "Docker's classic store keeps no signatures, SBOMs or attestations";

/// Why the containerd store gets nothing that refers to its images: Docker 26 and 28 make a hidden image of each, and Docker 29
/// loses some of them.
const CONTAINERD: &str = "Docker's containerd store takes them for images, or loses them";

/// Plans a load.
///
/// # Errors
///
/// As [`crate::load::Target::plan`].
pub fn plan(
    candidates: &Candidates<'_>,
    options: &LoadOptions,
    rules: Rules,
    inventory: &Inventory,
    strategies: &[Box<dyn Strategy>],
) -> Result<Plan> {
    let target = format!(
        "{} (version {}, {} store)",
        inventory.target,
        inventory.version.as_deref().unwrap_or_default(),
        match inventory.details.store {
            Store::Classic => "classic",
            Store::Containerd => "containerd",
        }
    );
    let mut plan = Plan::of_requested(target, candidates, options, inventory, |requested| {
        let planned = planned(requested, rules, inventory, strategies);
        let obstacle = unsupported::obstacle(&planned, requested, inventory.details.store);
        obstacle.map_or(Ok(planned), |obstacle| Err(obstacle.into()))
    })?;
    plan.details.attach = attachments(&plan.images, inventory, strategies);
    let accepts = inventory.accepts();
    let images = ImageToLoad::all(&plan.images, candidates)?;
    let send = upload(&images, &accepts)?;
    let unpacked = space::unpacked(&images, &accepts);
    plan.space = inventory
        .details
        .space
        .as_ref()
        .map(|space| space::needed_for(space, space::stream(&send), unpacked));
    plan.send = send;
    Ok(plan)
}

fn planned(
    requested: &Requested<'_>,
    rules: Rules,
    inventory: &Inventory,
    strategies: &[Box<dyn Strategy>],
) -> PlannedImage {
    let Requested {
        candidate,
        image,
        name,
        ..
    } = requested;
    let same = substitutes::same(candidate, image, name, inventory);
    let root = same.and_then(|known| known.id.parse().ok());
    let root = root.unwrap_or(candidate.image.graph.root.digest);
    // The containerd store names images by their manifests.
    let id = match inventory.details.store {
        Store::Classic => image.id(),
        Store::Containerd => root,
    };
    let known = inventory.image(&id);
    let present = known.is_some_and(|known| {
        if same.is_some() {
            return true;
        }
        if inventory.details.tells_content {
            return known.has(image);
        }
        // An engine reports the layers only of an image whose content it has.
        let config = image.config.as_ref();
        config.is_some_and(|config| config.diff_ids == known.diff_ids)
    });
    let known = known.filter(|_| present);
    let digest_status = match (same, candidate.digest()) {
        (Some(known), Some(digest)) if is_shown(known, name, &digest) => DigestStatus::Present,
        // The engine has the recorded manifest.
        (Some(_), Some(digest)) if digest == root => DigestStatus::Native,
        _ => digest_status(candidate, image, name, known, rules, inventory, strategies),
    };
    // A pull of `name:tag@digest` leaves only the digest, because the tag may have moved on. Without the digest
    // the tag is the only name.
    let tag = match (name.digest(), &digest_status) {
        (Some(_), DigestStatus::Unavailable { .. } | DigestStatus::Declined) | (None, _) => {
            name.without_digest()
        }
        (Some(_), _) => None,
    };
    // The containerd store keeps `name@digest` as a separate name.
    let record = tag.clone().or_else(|| {
        (inventory.details.store == Store::Containerd).then(|| Reference::digested(name.repository(), root))
    });
    let tagged = record.is_some_and(|record| known.is_some_and(|known| has_name(&known.tags, &record)));
    let tagged = tagged || same.is_some() && tag.is_none();
    let is_named = tagged || tag.is_none() && digest_status == DigestStatus::Present;
    let change = match is_named {
        true => Change::Unchanged,
        false => moved(tag.as_ref(), id, inventory),
    };
    let dropped = match inventory.details.store {
        Store::Classic => CLASSIC,
        Store::Containerd => CONTAINERD,
    };
    PlannedImage {
        root,
        present,
        tagged,
        change,
        digest_status,
        tag,
        referrers: LoadedReferrers::all_dropped(requested.referrers(), dropped),
        ..requested.planned(inventory)
    }
}

/// The change of a tag that does not name the image yet, or names an image with this id whose content is
/// incomplete.
fn moved(tag: Option<&Reference>, id: Digest, inventory: &Inventory) -> Change {
    let names = |known: &&KnownImage| tag.is_some_and(|tag| has_name(&known.tags, tag));
    match inventory.images.iter().find(names) {
        Some(known) if known.id.parse::<Digest>() == Ok(id) => Change::Unchanged,
        Some(known) => Change::Moved {
            from: known.id.clone(),
        },
        None => Change::New,
    }
}

/// Whether an engine shows an image by a digest in the repository of a name.
fn is_shown(known: &KnownImage, name: &Reference, digest: &Digest) -> bool {
    has_name(&known.digests, &Reference::digested(name.repository(), *digest))
}

/// How a candidate's digest gets shown.
fn digest_status(
    candidate: &Candidate<'_>,
    image: &Image,
    name: &Reference,
    known: Option<&KnownImage>,
    rules: Rules,
    inventory: &Inventory,
    strategies: &[Box<dyn Strategy>],
) -> DigestStatus {
    let Some(digest) = candidate.digest() else {
        return DigestStatus::NoDigest {
            reason: candidate.no_digest(),
        };
    };
    let evidence = candidate.evidence();
    let pinned = Reference::digested(name.repository(), digest);
    let unavailable = |obstacle: Obstacle| DigestStatus::Unavailable {
        obstacles: vec![obstacle],
    };
    let is_substitute = candidate.image.provenance.substitute.is_some();
    if inventory.details.store == Store::Containerd && is_substitute {
        return unavailable(Obstacle::new(
            format!(
                "{digest} was recorded without its manifest, and the containerd store shows digests of manifests only"
            ),
            "save the image again from a registry that has it",
        ));
    }
    if known.is_some_and(|known| is_shown(known, name, &digest)) {
        return DigestStatus::Present;
    }
    let unfit = match is_substitute {
        true => Some("shows no digest that was recorded without its manifest"),
        false => platforms::unpulled(&candidate.image.graph, image, inventory.details.api),
    };
    match inventory.details.store {
        Store::Containerd => DigestStatus::Native,
        Store::Classic if rules.allowed == Allowed::None => DigestStatus::Declined,
        Store::Classic => {
            let other = other_image(&pinned, image, inventory);
            let obstacle = match (evidence, other) {
                (Evidence::Recorded, _) => unsupported::recorded(candidate, &digest, other, rules),
                // Written into the stopped engine's list, it moves.
                (_, Some(other)) if rules.allowed != Allowed::Offline => Some(taken(&pinned, other)),
                _ => None,
            };
            match obstacle {
                Some(obstacle) => unavailable(obstacle),
                None => way(name.repository(), unfit, rules, inventory, strategies),
            }
        }
    }
}

/// The id of another image for which the engine shows this digest: of another platform of the same index.
fn other_image<'i>(pinned: &Reference, image: &Image, inventory: &'i Inventory) -> Option<&'i str> {
    let id = image.id().to_string();
    let others = inventory.images.iter().filter(|known| known.id != id);
    let mut found = others.filter(|known| has_name(&known.digests, pinned));
    found.next().map(|known| known.id.as_str())
}

/// How the classic store gets to show digests of a repository's names. `unfit` says why a live attach cannot
/// show this one.
pub fn way(
    repository: &Repository,
    unfit: Option<&str>,
    rules: Rules,
    inventory: &Inventory,
    strategies: &[Box<dyn Strategy>],
) -> DigestStatus {
    let mut obstacles = Vec::new();
    for strategy in strategies.iter().filter(|one| is_wanted(one.as_ref(), rules)) {
        let serves = strategy.serves(repository, &inventory.details.host);
        if serves == Ok(false) {
            continue;
        }
        if let Some(unfit) = unfit.filter(|_| strategy.disruption() == Disruption::Live) {
            obstacles.push(Obstacle::new(format!("{} {unfit}", strategy.method()), ""));
            continue;
        }
        if let Err(obstacle) = serves {
            obstacles.push(obstacle);
            continue;
        }
        match inventory.option(strategy.method()) {
            Some(option) if option.obstacles.is_empty() => {
                return DigestStatus::ViaAttach {
                    method: strategy.method(),
                };
            }
            option => {
                for obstacle in option.iter().flat_map(|option| &option.obstacles) {
                    // Several methods may have the same obstacle, such as root.
                    if !obstacles.contains(obstacle) {
                        obstacles.push(obstacle.clone());
                    }
                }
            }
        }
    }
    let has_hint = obstacles.iter().any(|obstacle| obstacle.hint.is_some());
    if !has_hint && rules.allowed != Allowed::Offline {
        obstacles = needing_restart(obstacles);
    }
    if obstacles.is_empty() {
        obstacles.push(Obstacle::new(
            format!("there is no way to attach digests of names of {} as it is asked for", repository.domain()),
            "the image is loaded and runs by its tag; the containerd store of Docker 24 and newer shows every digest",
        ));
    }
    DigestStatus::Unavailable { obstacles }
}

/// Marks the last obstacle as one that a restart of the engine removes.
fn needing_restart(mut obstacles: Vec<Obstacle>) -> Vec<Obstacle> {
    if let Some(last) = obstacles.pop() {
        obstacles.push(last.needing_restart());
    }
    obstacles
}

fn is_wanted(strategy: &dyn Strategy, rules: Rules) -> bool {
    match (rules.allowed, strategy.disruption()) {
        (Allowed::None, _)
        | (Allowed::Live, Disruption::Restarting)
        | (Allowed::Offline, Disruption::Live) => false,
        (Allowed::Auto | Allowed::Live | Allowed::Offline, _) => true,
    }
}

/// What the chosen strategies will do.
fn attachments(
    images: &[PlannedImage],
    inventory: &Inventory,
    strategies: &[Box<dyn Strategy>],
) -> Vec<Attachment> {
    let chosen = |strategy: &dyn Strategy| -> Vec<String> {
        let digest_status = DigestStatus::ViaAttach {
            method: strategy.method(),
        };
        let images = images
            .iter()
            .filter(|planned| planned.digest_status == digest_status);
        // Several tags of an image in one repository share its digest.
        let mut seen = HashSet::new();
        let pinned = images.filter_map(PlannedImage::pinned);
        let pinned = pinned.map(|name| name.familiar());
        pinned.filter(|name| seen.insert(name.clone())).collect()
    };
    let used = strategies
        .iter()
        .map(|strategy| (strategy, chosen(strategy.as_ref())));
    used.filter(|(_, wanted)| !wanted.is_empty())
        .map(|(strategy, wanted)| Attachment {
            method: strategy.method(),
            restarts: strategy.disruption() == Disruption::Restarting,
            runs: true,
            steps: strategy.steps(&wanted, &inventory.details.host),
        })
        .collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "plan_uncompressed_tests.rs"]
mod unpacked_tests;
