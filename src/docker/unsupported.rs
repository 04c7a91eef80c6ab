//! Images that an engine cannot have: refused by name, all at once, or skipped.

use super::api::info::Store;
use super::attach::Rules;
use crate::error::{Error, ErrorKind, Hint, Remedy, Result};
use crate::image::Image;
use crate::load::{Candidate, Candidates, DigestStatus, LoadOptions, Obstacle, Plan, PlannedImage, Skipped};
use crate::oci::Digest;

/// Why a store cannot have an image. The containerd store needs compressed layers, and can name a substitute
/// only by a tag. A classic store can name it by its recorded digest only if that is attached. `None` if it
/// can, or has all of it.
pub(super) fn obstructed(
    planned: &PlannedImage,
    candidate: &Candidate<'_>,
    image: &Image,
    store: Store,
) -> Option<Obstacle> {
    let is_nameless = candidate.image.provenance.substitute.is_some() && planned.tag.is_none();
    let rename = || Remedy::Rename(planned.name.familiar());
    if store == Store::Classic {
        let is_unavailable = matches!(planned.digest_status, DigestStatus::Unavailable { .. });
        return (is_nameless && is_unavailable).then(|| {
            let why = Obstacle::joined(planned.obstacles().to_vec());
            let hint = why.hint.unwrap_or_default().and(rename());
            Obstacle::new(format!("it has no tag, and {}", why.reason), hint)
        });
    }
    if is_nameless && !planned.tagged {
        return Some(Obstacle::new(
            "its manifest could not be recovered, and the containerd store can name it only by a tag",
            rename(),
        ));
    }
    candidate.layer_obstacle(image).filter(|_| !planned.present)
}

/// Why a digest is not attached that an archive recorded without its manifest, or with one that may be no
/// registry's: any archive can claim any digest. `other` is the image for which the engine shows it. `None` if
/// it can be attached.
pub(super) fn recorded(
    candidate: &Candidate<'_>,
    digest: &Digest,
    other: Option<&str>,
    rules: Rules,
) -> Option<Obstacle> {
    if !rules.trust_recorded {
        let reason = match candidate.image.provenance.is_unproven {
            true => format!(
                "nothing proves that a registry has {digest}: the tool that made the archive may have written its manifest"
            ),
            false => format!("the archive recorded {digest} without its manifest, so nothing proves it"),
        };
        return Some(Obstacle::new(reason, Remedy::TrustRecorded));
    }
    other.map(|other| {
        Obstacle::new(
            format!("the engine shows {digest} for another image, {other}, and nothing proves that it is this one's"),
            "remove that image first if it is the wrong one",
        )
    })
}

/// Refuses images that the engine cannot have, by name and all at once. A further digest of an image that it
/// gets under another name is only skipped.
pub(super) fn uncompressed(
    plan: &mut Plan,
    refused: Vec<(&Candidate<'_>, Obstacle)>,
    options: &LoadOptions,
) -> Result<()> {
    let gets = |image: &Image| {
        plan.images
            .iter()
            .any(|planned| planned.image_id == Some(image.id()))
    };
    let is_had = |candidate: &Candidate<'_>| {
        candidate
            .image
            .reference
            .as_ref()
            .is_some_and(|name| name.tag().is_none())
            && candidate.image.provenance.substitute.is_some()
            && candidate.image.graph.runnable().any(gets)
    };
    let (skipped, refused): (Vec<_>, Vec<_>) = refused
        .into_iter()
        .partition(|(candidate, _)| options.keep_going || is_had(candidate));
    plan.skipped
        .extend(skipped.into_iter().map(|(candidate, obstacle)| Skipped {
            name: candidate.label(),
            reason: obstacle.reason,
            hint: None,
            kind: ErrorKind::NotShown,
        }));
    if refused.is_empty() {
        return Ok(());
    }
    let reasons: Vec<String> = refused
        .iter()
        .map(|(candidate, obstacle)| format!("{}: {obstacle}", candidate.label()))
        .collect();
    let hint: Hint = refused
        .into_iter()
        .filter_map(|(_, obstacle)| obstacle.hint)
        .collect();
    Err(Error::NotShown {
        message: format!("{} cannot take {}", plan.target, reasons.join("; ")),
        hint: Some(hint.and(Remedy::KeepGoing)),
    })
}

/// Images without a new name are refused by their ids, all at once, or skipped.
pub(super) fn unnamed(
    plan: &mut Plan,
    unnamed: &[&Candidate<'_>],
    candidates: &Candidates<'_>,
    options: &LoadOptions,
) -> Result<()> {
    if options.keep_going {
        plan.skipped.extend(unnamed.iter().map(|candidate| Skipped {
            name: candidate.label(),
            reason: "it has no name".into(),
            hint: Some(Remedy::Rename(candidate.label()).into()),
            kind: ErrorKind::Usage,
        }));
        return Ok(());
    }
    let Some(first) = unnamed.first() else {
        return Ok(());
    };
    let labels: Vec<String> = unnamed.iter().map(|candidate| candidate.label()).collect();
    let (images, have) = match labels.len() {
        1 => ("image", "has"),
        _ => ("images", "have"),
    };
    let (labels, place) = (labels.join(", "), candidates.place());
    Err(Error::Usage {
        message: format!("{images} {labels} {have} no name in {place}"),
        hint: Some(Hint::from(Remedy::Rename(first.label())).and(Remedy::KeepGoing)),
    })
}
