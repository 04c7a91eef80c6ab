//! The archives that are sent to Docker: content without names, then names without content.
//!
//! Source: moby, `image/tarexport/load.go` (classic store) and `daemon/containerd/image_exporter.go`.

use std::collections::BTreeMap;

use super::api::info::Store;
use super::content::{self, Accepts, ImageToLoad, is_decompressed, layers};
use crate::archive::format::{
    CONTAINERD_NAME, DockerImage, INDEX, MANIFEST, OCI_LAYOUT, OCI_LAYOUT_CONTENT, blob_path, to_json,
};
use crate::archive::view::{Item, View};
use crate::error::Result;
use crate::load::{Form, UploadBlob};
use crate::oci::{Descriptor, Digest, MediaType, Reference};

/// The archive without names that a plan sends.
///
/// # Errors
///
/// If two blobs would have one name.
pub fn content(images: &[ImageToLoad<'_, '_>], upload: &[UploadBlob], accepts: &Accepts) -> Result<View> {
    let mut items = Vec::new();
    for piece in upload {
        let Some(ImageToLoad { candidate, image, .. }) = images.get(piece.image) else {
            continue;
        };
        let stored = |digest: &Digest| {
            let blobs = candidate.image.graph.blobs().into_iter();
            let mut here = blobs.map(|blob| candidate.image.provenance.layer(&blob).clone());
            here.find(|blob| blob.digest == *digest)
        };
        match piece.form {
            Form::Document | Form::Config | Form::Layer => {
                items.extend(stored(&piece.digest).map(Item::Blob))
            }
            Form::Uncompressed => {
                let layer = layers(image).find(|(_, diff_id, _)| *diff_id == piece.digest);
                items.extend(layer.map(|(layer, diff_id, _)| Item::Uncompressed {
                    layer: layer.clone(),
                    diff_id,
                    size: piece.size,
                }));
            }
        }
    }
    let missing = content::sent(images, accepts.store).map(|(_, image)| image);
    match accepts.store {
        Store::Containerd => {
            items.extend(layout(
                missing
                    .map(|image| image.candidate.image.graph.root.bare())
                    .collect(),
            )?);
        }
        Store::Classic => {
            let list: Vec<DockerImage> = missing.map(|image| docker_image(image, accepts)).collect();
            items.push(file(MANIFEST, to_json(&list)?));
        }
    }
    View::new(items)
}

/// An archive that names an image that the engine's classic store has. Its only content is the config, by which
/// the engine knows the image.
///
/// `POST /images/{id}/tag` would work, but leaves a time of tagging, which a pull does not.
///
/// # Errors
///
/// Only if it cannot be serialised.
pub fn classic_name(image: &ImageToLoad<'_, '_>, name: &Reference, accepts: &Accepts) -> Result<View> {
    let mut entry = docker_image(image, accepts);
    entry.repo_tags = Some(vec![name.full()]);
    let config = Item::Blob(image.image.manifest.config.clone());
    View::new(vec![config, file(MANIFEST, to_json(&[entry])?)])
}

/// An archive that names an image that the engine's containerd store has, without any content. It is the only
/// way to get the record `name@digest` that a pull by digest leaves.
///
/// # Errors
///
/// Only if it cannot be serialised.
pub fn containerd_name(root: &Descriptor, name: &Reference) -> Result<View> {
    let mut root = root.bare();
    root.annotations = BTreeMap::from([(CONTAINERD_NAME.to_string(), name.full())]);
    View::new(layout(vec![root])?)
}

fn docker_image(to_load: &ImageToLoad<'_, '_>, accepts: &Accepts) -> DockerImage {
    let mut entry = DockerImage::new(to_load.image, |layer| layer);
    entry.layers = layers(to_load.image)
        .map(|(layer, diff_id, _)| {
            let here = to_load.candidate.image.provenance.layer(layer);
            blob_path(if is_decompressed(here, accepts) {
                &diff_id
            } else {
                &here.digest
            })
        })
        .collect();
    entry
}

fn layout(manifests: Vec<Descriptor>) -> Result<Vec<Item>> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Index {
        schema_version: u8,
        media_type: &'static str,
        manifests: Vec<Descriptor>,
    }
    let index = to_json(&Index {
        schema_version: 2,
        media_type: MediaType::OCI_INDEX,
        manifests,
    })?;
    Ok(vec![
        file(OCI_LAYOUT, OCI_LAYOUT_CONTENT.to_vec()),
        file(INDEX, index),
    ])
}

fn file(name: &str, bytes: Vec<u8>) -> Item {
    Item::Bytes {
        name: name.into(),
        bytes,
    }
}
