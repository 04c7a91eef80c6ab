//! Which blobs go to which repositories, and in which order an image's documents do.

use std::collections::HashMap;
use std::sync::Arc;

use super::content::Details;
use crate::image::Graph;
use crate::load::chosen::Chosen;
use crate::oci::{Descriptor, Digest, Repository};

/// A blob, and the repositories that need it.
pub(in crate::registry) struct BlobToPush {
    pub(in crate::registry) blob: Descriptor,
    /// The repositories that lack it.
    pub(in crate::registry) needed_in: Vec<Repository>,
    /// The path of a repository that has it.
    pub(in crate::registry) holder: Option<String>,
}

/// The blobs that repositories lack, the largest first: one that began last would run alone.
pub(in crate::registry) fn blobs_to_push(chosen: &[Chosen], details: &Details) -> Vec<BlobToPush> {
    let mut positions: HashMap<Digest, usize> = HashMap::new();
    let mut blobs: Vec<BlobToPush> = Vec::new();
    for image in chosen {
        let Some(name) = &image.named.reference else {
            continue;
        };
        let repository = name.repository();
        for blob in super::stored_blobs(image, details) {
            if details.has(repository, &blob.digest) {
                continue;
            }
            let at = *positions.entry(blob.digest).or_insert_with(|| {
                blobs.push(BlobToPush {
                    blob: blob.bare(),
                    needed_in: Vec::new(),
                    holder: details.holder(&blob.digest).map(String::from),
                });
                blobs.len() - 1
            });
            if let Some(known) = blobs.get_mut(at)
                && !known.needed_in.contains(repository)
            {
                known.needed_in.push(repository.clone());
            }
        }
    }
    blobs.sort_by_key(|one| std::cmp::Reverse(one.blob.size));
    blobs
}

/// The manifests and indexes of a graph, those that an index names before the index. The root is the last.
pub(in crate::registry) fn documents(graph: &Graph) -> Vec<(&Descriptor, &Arc<[u8]>)> {
    let manifests = graph
        .images
        .iter()
        .map(|image| (&image.descriptor, &image.manifest.raw));
    let indexes = graph
        .indexes
        .iter()
        .rev()
        .map(|(descriptor, index)| (descriptor, &index.raw));
    manifests.chain(indexes).collect()
}
