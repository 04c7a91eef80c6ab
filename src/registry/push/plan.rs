//! What a push will do.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Destination;
use super::content::Details;
use crate::error::{Error, Hint, Remedy, Result};
use crate::image::provenance::Evidence;
use crate::image::{Graph, Image, NamedImage, names, referrers};
use crate::load::chosen::{self, Chosen};
use crate::load::{
    Candidate, Candidates, Change, DigestStatus, Inventory, LoadOptions, Obstacle, Plan, PlannedImage,
};
use crate::oci::{Digest, Reference};

/// Chooses images by the options, and gives them their names in the registry. Those that are not pushed are noted in the
/// plan as skipped. `of_platform` if the manifest of a platform is pushed in place of an index.
///
/// # Errors
///
/// As [`chosen::choose`]; [`Error::Usage`] if an image has no name, or two get the same.
pub(in crate::registry) fn choose(
    destination: &Destination,
    of_platform: bool,
    candidates: &Candidates<'_>,
    options: &LoadOptions,
    plan: &mut Plan,
) -> Result<Vec<Chosen>> {
    let mut unnamed = Vec::new();
    let mut named: Vec<Chosen> = Vec::new();
    let mut known: HashMap<Reference, usize> = HashMap::new();
    for mut image in chosen::choose(candidates, options, plan)? {
        let candidate = candidates.images.get(image.candidate);
        let Some(source) = image.named.reference.clone() else {
            unnamed.extend(candidate);
            continue;
        };
        image.named.reference = Some(destination.name(&source)?);
        if of_platform {
            reduce(&mut image)?;
        }
        let Some(name) = image.named.reference.clone() else {
            continue;
        };
        // A tag names one manifest, also where the name has a digest.
        let key = name.without_digest().unwrap_or_else(|| name.clone());
        match known.get(&key).and_then(|at| named.get(*at)) {
            None => {
                known.insert(key, named.len());
                named.push(image);
            }
            Some(first) if first.named.graph.root.digest == image.named.graph.root.digest => {}
            Some(first) => {
                let first = candidates.images.get(first.candidate).map(Candidate::label);
                return Err(Error::Usage {
                    message: format!(
                        "two different images would be pushed as {name}: {} and {}",
                        first.unwrap_or_default(),
                        source.familiar()
                    ),
                    hint: Some(Remedy::SelectOrRename.into()),
                });
            }
        }
    }
    plan.refuse_unnamed(&unnamed, candidates, options)?;
    Ok(named)
}

/// The images that were planned.
///
/// # Errors
///
/// If the plan was made of other candidates.
pub(in crate::registry) fn of_plan(plan: &Plan, candidates: &Candidates<'_>) -> Result<Vec<Chosen>> {
    let mut images = chosen::of_plan(plan, candidates)?;
    for (image, planned) in images.iter_mut().zip(&plan.images) {
        if image.named.graph.root.digest != planned.root {
            reduce(image)?;
        }
    }
    Ok(images)
}

/// Replaces an index by the manifest of its only platform. An image without an index stays as it is, and so does an
/// artifact.
fn reduce(image: &mut Chosen) -> Result<()> {
    let graph = &image.named.graph;
    let runnable: Vec<&Image> = graph.runnable().collect();
    let only = match runnable.as_slice() {
        _ if graph.indexes.is_empty() => return Ok(()),
        [] => return Ok(()),
        [only] => (*only).clone(),
        several => {
            let name = image.named.reference.as_ref().map(Reference::familiar);
            return Err(Error::Usage {
                message: format!(
                    "the manifest of one platform is to be pushed, and {} has {}",
                    name.unwrap_or_default(),
                    names::count(several.len(), "platform")
                ),
                hint: Some(Remedy::OnePlatform.into()),
            });
        }
    };
    let digest = only.descriptor.digest;
    if let Some(name) = &image.named.reference
        && name.digest().is_some()
    {
        let tag = name.without_digest();
        let by_digest = || Reference::digested(name.repository(), digest);
        image.named.reference = Some(tag.unwrap_or_else(by_digest));
    }
    image.named.graph = Arc::new(Graph {
        root: only.descriptor.clone(),
        indexes: Vec::new(),
        images: vec![only],
        absent: Vec::new(),
    });
    let kept = referrers::within(image.named.referrers.iter(), &image.named.graph);
    image.named.referrers = kept;
    Ok(())
}

/// Plans a push. It depends on the inventory and not on the registry.
///
/// # Errors
///
/// As [`choose`]; [`Error::NotShown`] if the archives have layers only uncompressed that the registry lacks.
pub(in crate::registry) fn plan(
    destination: &Destination,
    of_platform: bool,
    candidates: &Candidates<'_>,
    options: &LoadOptions,
    inventory: &Inventory<Details>,
) -> Result<Plan> {
    let mut plan = Plan::new(format!("registry {}", inventory.target));
    plan.details.keeps_going = options.keep_going;
    let mut images = choose(destination, of_platform, candidates, options, &mut plan)?;
    let mut obstructed = Vec::new();
    images.retain(|image| {
        let candidate = candidates.images.get(image.candidate);
        let obstacle =
            candidate.and_then(|candidate| Some((candidate, obstacle(candidate, image, inventory)?.into())));
        let is_free = obstacle.is_none();
        obstructed.extend(obstacle);
        is_free
    });
    plan.images = chosen::planned(&images, candidates, |image| state(image, &inventory.details));
    for (planned, image) in plan.images.iter_mut().zip(&images) {
        if let Some(candidate) = candidates.images.get(planned.candidate) {
            adjust(planned, candidate, image);
        }
    }
    plan.refuse_obstructed(obstructed, options)?;
    plan.send = chosen::blobs(&images);
    let mut needed = HashSet::new();
    for image in &images {
        needed.extend(needed_by(image, candidates, inventory));
    }
    plan.send.retain(|blob| needed.contains(&blob.digest));
    if options.dry_run {
        plan.details.warnings = sparse_warnings(&images, &inventory.details);
    }
    Ok(plan)
}

/// What becomes of the name of an image, and whether the repository has all of its content.
fn state(image: &NamedImage, details: &Details) -> (Change, bool) {
    let (graph, Some(name)) = (&image.graph, &image.reference) else {
        return (Change::New, false);
    };
    let repository = name.repository();
    let mut blobs = graph.blobs().into_iter();
    let mut referrers = image.referrers.iter();
    let is_present = blobs.all(|blob| details.has(repository, &blob.digest))
        && referrers.all(|referrer| details.shows(repository, referrer));
    let root = graph.root.digest;
    let change = match name.tag() {
        Some(tag) => match details.tagged(repository, tag) {
            None => Change::New,
            Some(digest) if *digest == root => Change::Unchanged,
            Some(digest) => Change::Moved {
                from: digest.to_string(),
            },
        },
        None if details.has(repository, &root) => Change::Unchanged,
        None => Change::New,
    };
    (change, is_present)
}

/// Why a registry cannot have an image.
fn obstacle(candidate: &Candidate<'_>, image: &Chosen, inventory: &Inventory<Details>) -> Option<Obstacle> {
    let graph = &image.named.graph;
    let is_lacking = |one: &&Image| {
        let mut layers = one.manifest.layers.iter();
        layers.any(|layer| {
            let is_uncompressed = image.named.provenance.uncompressed.contains_key(&layer.digest);
            is_uncompressed && !inventory.has_blob(&layer.digest, layer.size)
        })
    };
    if let Some(lacking) = graph.images.iter().find(is_lacking) {
        return candidate.layer_obstacle(lacking);
    }
    let is_by_digest = image
        .named
        .reference
        .as_ref()
        .is_some_and(|name| name.tag().is_none());
    let has_another = recorded(candidate).is_some_and(|digest| digest != graph.root.digest);
    (is_by_digest && has_another).then(|| substitute(candidate, graph))
}

/// The digest that was recorded for an image whose manifest is a substitute.
fn recorded(candidate: &Candidate<'_>) -> Option<Digest> {
    candidate.image.provenance.substitute?.recorded
}

fn substitute(candidate: &Candidate<'_>, graph: &Graph) -> Obstacle {
    let recorded = recorded(candidate).map_or_else(String::new, |digest| format!(", not {digest}"));
    Obstacle::new(
        format!(
            "the archive has a substitute for its manifest, which has the digest {}{recorded}",
            graph.root.digest
        ),
        "save it again where its registry can be reached",
    )
}

/// Corrects what is planned for an image whose manifest is not the one that its digest is of.
fn adjust(planned: &mut PlannedImage, candidate: &Candidate<'_>, image: &Chosen) {
    let graph = &image.named.graph;
    if graph.root.digest != candidate.image.graph.root.digest {
        planned.digest = Some(graph.root.digest);
    } else if recorded(candidate).is_some() {
        planned.digest_status = DigestStatus::Unavailable {
            obstacles: substitute(candidate, graph).into(),
        };
    } else if planned.digest.is_none() {
        // The registry names it by this digest from now on.
        planned.digest = Some(graph.root.digest);
        planned.evidence = Evidence::Verified;
        planned.digest_status = match planned.tagged && planned.present {
            true => DigestStatus::Present,
            false => DigestStatus::Native,
        };
    }
}

/// The blobs of an image that must be sent: the documents that its repository lacks, and the other blobs that no
/// repository has.
fn needed_by(image: &Chosen, candidates: &Candidates<'_>, inventory: &Inventory<Details>) -> Vec<Digest> {
    let graph = &image.named.graph;
    let Some(name) = &image.named.reference else {
        return Vec::new();
    };
    let omitted = candidates
        .images
        .get(image.candidate)
        .map(|candidate| &candidate.omitted.layers);
    let documents = graph.indexes.iter().map(|(index, _)| index);
    let documents = documents.chain(graph.images.iter().map(|image| &image.descriptor));
    let documents = documents.map(|document| document.digest);
    let referrers = inventory.details.unshown(image);
    let documents = documents.chain(referrers.flat_map(|referrer| referrer.graph.documents()));
    let documents = documents.filter(|digest| !inventory.details.has(name.repository(), digest));
    let blobs = super::stored_blobs(image, &inventory.details).filter(|blob| {
        let is_omitted = omitted.is_some_and(|omitted| omitted.contains(&blob.digest));
        !is_omitted && !inventory.has_blob(&blob.digest, blob.size)
    });
    documents.chain(blobs.map(|blob| blob.digest)).collect()
}

/// Warns of indexes that the registry may refuse.
fn sparse_warnings(images: &[Chosen], details: &Details) -> Vec<String> {
    let warnings = images.iter().filter_map(|image| {
        let name = image.named.reference.as_ref()?;
        let absent = image.named.graph.absent.iter();
        let missing = absent
            .filter(|one| !details.has(name.repository(), &one.digest))
            .count();
        (missing > 0).then(|| {
            let hint =
                Hint::from("many registries refuse such an index; a push finds out before it sends anything");
            format!(
                "{}: neither the archive nor the registry has {} of its index: {hint}",
                name.familiar(),
                names::count(missing, "manifest")
            )
        })
    });
    let mut warnings: Vec<String> = warnings.collect();
    warnings.dedup();
    warnings
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
