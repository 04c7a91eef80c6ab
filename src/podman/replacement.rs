//! Images for which podman shows a digest that no registry has for them: a `podman load` or a build made a manifest of its
//! own. podman keeps what it shows first: a later pull adds digests, and the column DIGEST stays.
//!
//! Such an image is removed and pulled anew. Before that its twin is pulled and gets its names (see `twin`), so that a load
//! that ends in between loses nothing. Containers are never removed.

use super::inventory::{Details, Inventory, Shown};
use super::plan::record;
use super::program::Program;
use super::twin;
use crate::error::{Remedy, Result};
use crate::escape::shell_word;
use crate::interrupt::Interrupt;
use crate::load::{Candidate, Candidates, DigestStatus, Obstacle, Plan, PlannedImage, Replaced};
use crate::oci::Digest;

/// A digest that podman shows for an image to load, and that the archive does not have for it.
fn wrong<'i>(
    planned: &PlannedImage,
    candidates: &Candidates<'_>,
    inventory: &'i Inventory,
) -> Option<(Digest, &'i Shown)> {
    let id = planned.image_id?;
    let shown = inventory.details.shown.get(&id.to_string())?;
    let digest = shown.digest?;
    // Every index that leads to the image is right, and so is its own manifest.
    let is_right = |candidate: &Candidate<'_>| {
        let graph = &candidate.image.graph;
        let mut indexes = graph.indexes.iter().map(|(index, _)| index.digest);
        let mut images = graph.runnable();
        let leads = graph.runnable().any(|image| image.id() == id);
        leads
            && (indexes.any(|index| index == digest)
                || images.any(|image| image.id() == id && image.descriptor.digest == digest))
    };
    let candidate = candidates.images.get(planned.candidate)?;
    let is_wrong = candidate.image.provenance.substitute.is_none() && !candidates.images.iter().any(is_right);
    is_wrong.then_some((digest, shown))
}

/// Reports wrong digests as obstacles.
pub fn report(plan: &mut Plan, candidates: &Candidates<'_>, inventory: &Inventory) {
    for planned in &mut plan.images {
        if let Some((digest, _)) = wrong(planned, candidates, inventory) {
            obstruct(planned, digest, Obstacle::new("", Remedy::ReplaceImage));
        }
    }
}

/// Plans to replace the images with wrong digests, or reports what prevents that.
pub fn plan(plan: &mut Plan, candidates: &Candidates<'_>, inventory: &Inventory) {
    let records: Vec<(Option<Digest>, String)> = plan
        .images
        .iter()
        .map(|planned| (planned.image_id, record(&planned.name).full()))
        .collect();
    let mut replaced: Vec<Replaced> = Vec::new();
    for planned in &mut plan.images {
        let Some((digest, shown)) = wrong(planned, candidates, inventory) else {
            continue;
        };
        let Some(id) = planned.image_id else { continue };
        let is_loaded = |name: &&String| records.contains(&(Some(id), (*name).clone()));
        let content = planned.content(candidates).ok();
        let layers = content.and_then(|(candidate, image)| candidate.layer_obstacle(image));
        let lost = shown.pinned.iter().find(|name| !is_loaded(name));
        let details = &inventory.details;
        let command = &details.command;
        let obstacle = match (shown.containers, lost, layers) {
            (0, None, None) => twin_obstacle(planned, &id, details),
            (0, None, Some(layers)) => Some(layers),
            (0, Some(name), _) => Some(Obstacle::new(
                format!("the image also has the name {name}, which only a pull can set"),
                format!(
                    "load that name too, or remove it with `{command} untag {} {}`",
                    hex(&id),
                    shell_word(name)
                ),
            )),
            (count, ..) => Some(Obstacle::new(
                match count {
                    1 => "1 container uses it, and containers are never removed".into(),
                    _ => format!("{count} containers use it, and containers are never removed"),
                },
                format!(
                    "`{command} ps --all --external --filter ancestor={}` lists its containers, and `{command} rm CONTAINER` \
                     removes one",
                    hex(&id)
                ),
            )),
        };
        if let Some(obstacle) = obstacle {
            obstruct(planned, digest, obstacle);
            continue;
        }
        planned.present = false;
        planned.digest_status = DigestStatus::Native;
        if !replaced.iter().any(|known| known.image_id == id) {
            let tags = inventory
                .image(&id)
                .map(|known| known.tags.clone())
                .unwrap_or_default();
            let is_other = |name: &String| !records.iter().any(|(_, record)| record == name);
            replaced.push(Replaced {
                image_id: id,
                digest,
                names: tags.into_iter().filter(is_other).collect(),
            });
        }
    }
    plan.details.replaced = replaced;
}

/// Why the twin of an image cannot be pulled, which is pulled before the image is removed.
fn twin_obstacle(planned: &PlannedImage, id: &Digest, details: &Details) -> Option<Obstacle> {
    let twin = twin::name(planned.name.repository(), id);
    let rejection = details.policy.rejection(&twin.parse().ok()?)?;
    let reason = format!(
        "to replace it, podman has to pull {twin}, and {}",
        rejection.reason
    );
    Some(Obstacle::new(reason, rejection.hint.unwrap_or_default()))
}

fn obstruct(planned: &mut PlannedImage, digest: Digest, why: Obstacle) {
    let shown = format!(
        "podman images --digests shows {digest} for it, which the archive does not have, and a pull does not change that"
    );
    let reason = match why.reason.as_str() {
        "" => shown,
        why => format!("{shown}; {why}"),
    };
    planned.digest_status = DigestStatus::Unavailable {
        obstacles: vec![Obstacle::new(reason, why.hint.unwrap_or_default())],
    };
}

/// An image id as podman takes it.
fn hex(id: &Digest) -> String {
    id.to_string().trim_start_matches("sha256:").to_string()
}

/// Moves the names of an image to its twin, and removes the image. It is to be pulled anew.
///
/// # Errors
///
/// If podman does not do it. Each name then leads to the image or to its twin.
pub fn remove(
    program: &Program,
    id: &Digest,
    twin: &str,
    tags: &[String],
    interrupt: &Interrupt,
) -> Result<()> {
    let id = hex(id);
    restore(program, twin, tags, interrupt)?;
    program.act(&["untag", &id], interrupt)?;
    program.act(&["rmi", &id], interrupt)
}

/// Sets further names of an image.
///
/// # Errors
///
/// If podman does not set them.
pub fn restore(program: &Program, id: &str, names: &[String], interrupt: &Interrupt) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let id = id.trim_start_matches("sha256:");
    let mut args = vec!["tag", id];
    args.extend(names.iter().map(String::as_str));
    program.act(&args, interrupt)
}
