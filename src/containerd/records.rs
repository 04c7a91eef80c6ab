//! The image records that a pull leaves.
//!
//! A CRI pull of a tag leaves `name:tag`, `name@digest` and `sha256:<config>`; one of a digest, with or without a tag, only
//! the last two. The last is CRI's own, so there is none in other namespaces. There a pull by `ctr` or nerdctl leaves only
//! the name that was pulled; `name@digest` is set as well, because with it `nerdctl run name@digest` needs no registry.

use super::KUBERNETES;
use crate::load::PlannedImage;
use crate::oci::Reference;

/// The names of the records of an image, the tag last.
pub fn of(planned: &PlannedImage, namespace: &str) -> Vec<String> {
    let id = planned.image_id.filter(|_| namespace == KUBERNETES);
    let id = id.map(|id| id.to_string());
    let tag = planned.tag.as_ref().map(Reference::full);
    [id, digest(planned), tag].into_iter().flatten().collect()
}

/// The record that makes the digest of an image shown; `None` if its manifest is a substitute, of which the digest is in no
/// registry.
pub fn digest(planned: &PlannedImage) -> Option<String> {
    let digest = planned.digest.filter(|digest| *digest == planned.root)?;
    Some(Reference::digested(planned.name.repository(), digest).full())
}

/// The record by which the image is called.
pub fn main(planned: &PlannedImage) -> Option<String> {
    let tag = planned.tag.as_ref().map(Reference::full);
    tag.or_else(|| digest(planned))
}
