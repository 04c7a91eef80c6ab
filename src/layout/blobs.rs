//! The blobs of the images that a layout gets.

use std::collections::HashSet;

use super::images::Chosen;
use crate::load::{Form, UploadBlob};
use crate::oci::Descriptor;

/// The blobs of these images, each once and with the first image that has it.
pub fn all(images: &[Chosen]) -> Vec<UploadBlob> {
    let mut seen = HashSet::new();
    let mut blobs = Vec::new();
    for (at, chosen) in images.iter().enumerate() {
        let named = &chosen.named;
        let mut add = |blob: &Descriptor, form: Form| {
            if seen.insert(blob.digest) {
                blobs.push(UploadBlob {
                    digest: blob.digest,
                    size: blob.size,
                    form,
                    image: at,
                });
            }
        };
        for (index, _) in &named.graph.indexes {
            add(index, Form::Document);
        }
        for image in &named.graph.images {
            add(&image.descriptor, Form::Document);
            add(&image.manifest.config, Form::Config);
            for layer in &image.manifest.layers {
                match named.provenance.uncompressed.get(&layer.digest) {
                    Some(tar) => add(tar, Form::Uncompressed),
                    None => add(layer, Form::Layer),
                }
            }
        }
    }
    blobs
}
