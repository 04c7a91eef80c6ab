//! Images that Docker cannot have, and digests that are not attached, and why.

use super::api::info::Store;
use super::attach::Rules;
use crate::error::Remedy;
use crate::load::{Candidate, DigestStatus, Obstacle, PlannedImage, Requested};
use crate::oci::Digest;

/// Why a store cannot have an image. The containerd store needs compressed layers, and can name a substitute
/// only by a tag. A classic store can name it by its recorded digest only if that is attached. `None` if it
/// can, or has all of it.
pub(super) fn obstacle(planned: &PlannedImage, requested: &Requested<'_>, store: Store) -> Option<Obstacle> {
    let candidate = requested.candidate;
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
    let obstacle = candidate.layer_obstacle(requested.image);
    obstacle.filter(|_| !planned.present)
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
