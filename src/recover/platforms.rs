//! Which platforms of an image are requested, and which are present.

use super::BareImage;
use crate::image::{Graph, Image};
use crate::oci::{Platform, PlatformSelection};

/// Whether an engine's only image is for a requested platform.
pub(super) fn fits(image: &BareImage, platforms: Option<&PlatformSelection>) -> bool {
    match platforms {
        Some(PlatformSelection::Only(wanted)) => wanted
            .iter()
            .all(|platform| platform.matches(&image.config.platform)),
        _ => true,
    }
}

/// The platforms that are present, if a requested one is not among them.
pub(super) fn lacking(graph: &Graph, wanted: &[Platform]) -> Option<Vec<String>> {
    let absent = graph.absent.iter().filter_map(|entry| entry.platform.as_ref());
    let present = graph.runnable().filter_map(Image::platform);
    let mut offered: Vec<&Platform> = present.chain(absent).collect();
    offered.retain(|platform| !platform.is_unknown());
    let is_there = |platform: &Platform| offered.iter().any(|offered| platform.matches(offered));
    if offered.is_empty() || wanted.iter().all(is_there) {
        return None;
    }
    let mut names: Vec<String> = offered.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    Some(names)
}

/// Whether an image is requested, or is the attestation of one that is. Without a list, all are.
pub(super) fn is_among(image: &Image, graph: &Graph, wanted: &[Platform]) -> bool {
    if wanted.is_empty() {
        return true;
    }
    if let Some(attested) = image.descriptor.attests() {
        let mut images = graph.runnable();
        let attested = images.find(|image| image.descriptor.digest.to_string() == attested);
        return attested.is_some_and(|image| is_among(image, graph, wanted));
    }
    let platform = image.platform().filter(|platform| !platform.is_unknown());
    platform.is_none_or(|offered| wanted.iter().any(|platform| platform.matches(offered)))
}
