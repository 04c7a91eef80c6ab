//! Digests that no registry gave: podman shows that of a manifest which it made itself, in a build or a `podman load`, or
//! which sealift made for an image whose own could not be recovered.
//!
//! podman keeps the manifest of each image in `<root>/<driver>-images/<id>/manifest`. One that podman made has the diff ids
//! as the digests of its layers, since its storage keeps no compressed layers. An image that came compressed, such as by
//! `podman save --format oci-archive`, cannot be told from a pulled one.
//!
//! Source: containers/storage, `images.go`, and containers/image, `storage/storage_dest.go`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::{Inventory, Podman};
use crate::archive::format::SUBSTITUTE;
use crate::oci::{Digest, Document, MAX_METADATA, Manifest};

/// A digest that podman shows, and that no registry has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct OwnDigest {
    /// The image id.
    pub image_id: String,
    /// What the column DIGEST shows.
    pub digest: Digest,
    /// The image's names with a tag.
    pub names: Vec<String>,
    /// Whether sealift made the manifest, because the image's own could not be recovered.
    pub is_substitute: bool,
}

impl Podman {
    /// The digests of an inventory of all images that no registry gave, as far as that can be told.
    pub fn own_digests(&self, inventory: &Inventory) -> Vec<OwnDigest> {
        let details = &inventory.details;
        let folder = details.root.join(format!("{}-images", details.driver));
        let mut found = Vec::new();
        for known in &inventory.images {
            let shown = details.shown.get(&known.id).and_then(|shown| shown.digest);
            let Some(digest) = shown else { continue };
            let hex = known.id.trim_start_matches("sha256:");
            let Some(manifest) = manifest(&folder.join(hex).join("manifest"), &digest) else {
                continue;
            };
            let is_substitute = manifest.annotations.contains_key(SUBSTITUTE);
            let layers = manifest.layers.iter().map(|layer| layer.digest);
            let is_unpacked = !known.diff_ids.is_empty() && layers.eq(known.diff_ids.iter().copied());
            if is_substitute || is_unpacked {
                found.push(OwnDigest {
                    image_id: known.id.clone(),
                    digest,
                    names: known.tags.clone(),
                    is_substitute,
                });
            }
        }
        found
    }
}

/// The manifest in a file, if it has this digest.
fn manifest(path: &Path, digest: &Digest) -> Option<Manifest> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MAX_METADATA).read_to_end(&mut bytes).ok()?;
    if Digest::sha256(&bytes) != *digest {
        return None;
    }
    match Document::parse(&Document::sniff(&bytes)?, bytes).ok()? {
        Document::Manifest(manifest) => Some(manifest),
        Document::Index(_) => None,
    }
}
