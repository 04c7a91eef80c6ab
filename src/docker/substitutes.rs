//! Images that a containerd store has with their original manifests, when archives have substitutes for these.
//!
//! No response of the API has the config's digest. It is read from the store's content folder, which needs root.

use super::api::Client;
use super::api::info::Store;
use super::inventory::Inventory;
use super::store::content_of;
use crate::image::Image;
use crate::load::{Candidate, Candidates, KnownImage, substitute};
use crate::oci::{Digest, Manifest, Reference};

/// Notes the configs of a containerd store's images, if there are candidates with a substitute and its content
/// can be read.
pub fn look_at_configs(
    client: &Client,
    images: &mut [KnownImage],
    candidates: &Candidates<'_>,
    tells_content: bool,
) {
    if !substitute::has_substitutes(candidates) {
        return;
    }
    let Ok(folders) = content_of(client) else { return };
    let read = |digest: &Digest| folders.metadata(digest).ok().flatten();
    for known in images {
        let Ok(root) = known.id.parse() else { continue };
        let is_whole = |digest: &Digest, _: &Manifest| !tells_content || known.manifests.contains(digest);
        known.configs = Some(substitute::original_configs(root, &read, &is_whole));
    }
}

/// Notes the config of every image of a containerd store whose content can be read.
pub fn look_at_image_ids(client: &Client, store: Store, images: &mut [KnownImage]) {
    let folders = match store {
        Store::Classic => return,
        Store::Containerd => content_of(client),
    };
    let Ok(folders) = folders else { return };
    let read = |digest: &Digest| folders.metadata(digest).ok().flatten();
    for known in images {
        let Ok(root) = known.id.parse() else { continue };
        known.image_ids = substitute::configs(root, &read, &|_, _| true);
    }
}

/// As [`substitute::with_own_manifest`]; the classic store names images by their configs.
pub fn same<'i>(
    candidate: &Candidate<'_>,
    image: &Image,
    name: &Reference,
    inventory: &'i Inventory,
) -> Option<&'i KnownImage> {
    match inventory.details.store {
        Store::Classic => None,
        Store::Containerd => substitute::with_own_manifest(candidate, image, name, inventory),
    }
}
