//! Digests that no registry gave: podman shows that of a manifest which it made itself, in a build or a `podman load`, or
//! which sealift made for an image whose own could not be recovered.
//!
//! podman keeps the manifest of each image in `<root>/<driver>-images/<id>/manifest`. One that podman made has the diff ids
//! as the digests of its layers, since its storage keeps no compressed layers, and the form in which Go's `encoding/json`
//! writes it. `docker save` makes such manifests too. A manifest over compressed layers, such as one that
//! `podman save --format oci-archive` wrote, cannot be told from a pulled one.
//!
//! Source: containers/storage, `images.go`, and containers/image, `storage/storage_dest.go`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::{Inventory, Podman};
use crate::archive;
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
            let Some(shown) = details.shown.get(&known.id) else {
                continue;
            };
            let Some(digest) = shown.digest else { continue };
            let hex = known.id.trim_start_matches("sha256:");
            let Some(manifest) = manifest(&folder.join(hex).join("manifest"), &digest) else {
                continue;
            };
            let end = format!("@{digest}");
            let is_pulled = shown.pinned.iter().any(|name| name.ends_with(&end));
            if is_made_here(&manifest, Some(&known.diff_ids)) && !is_pulled {
                found.push(OwnDigest {
                    image_id: known.id.clone(),
                    digest,
                    names: known.tags.clone(),
                    is_substitute: is_substitute(&manifest),
                });
            }
        }
        found
    }
}

/// Whether a manifest in podman's storage is not a registry's: podman made it over uncompressed layers, or sealift made it
/// as a substitute. `diff_ids` are those of its config, if that could be read; an image without layers has none. A registry
/// may have one that was made over uncompressed layers: only the registry tells.
pub(super) fn is_made_here(manifest: &Manifest, diff_ids: Option<&[Digest]>) -> bool {
    let layers = manifest.layers.iter().map(|layer| layer.digest);
    let is_uncompressed = diff_ids.is_some_and(|diff_ids| layers.eq(diff_ids.iter().copied()));
    is_substitute(manifest) || is_uncompressed && archive::may_have_written(&manifest.raw)
}

fn is_substitute(manifest: &Manifest) -> bool {
    manifest.annotations.contains_key(SUBSTITUTE)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_layers_may_be_made_here() {
        let config = format!(
            r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":7}}"#,
            Digest::sha256(b"config")
        );
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let text =
            format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[]}}"#);
        let is_made_here = |text: &str, diff_ids: Option<&[Digest]>| {
            let bytes = text.as_bytes().to_vec();
            match Document::parse(&Document::sniff(&bytes).unwrap(), bytes).unwrap() {
                Document::Manifest(manifest) => is_made_here(&manifest, diff_ids),
                Document::Index(_) => panic!("{text}"),
            }
        };
        assert!(is_made_here(&text, Some(&[])));
        assert!(!is_made_here(&text, Some(&[Digest::sha256(b"layer")])));
        // Its config cannot be read.
        assert!(!is_made_here(&text, None));
        // As other tools write it.
        assert!(!is_made_here(&text.replacen(',', ", ", 1), Some(&[])));
    }
}
