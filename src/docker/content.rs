//! The content that is sent to an engine, and its form.

use std::collections::HashSet;

use super::api::Client;
use super::api::info::{Info, Store};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::load::{Candidate, Candidates, Form, Obstacle, PlannedImage, UploadBlob};
use crate::oci::{Compression, Descriptor, Digest, Kind, chain_ids};

/// The forms of content that an engine accepts, and what it has already.
#[derive(Debug, Clone)]
pub struct Accepts {
    /// How it stores images.
    pub store: Store,
    /// Whether it reads zstd layers.
    pub zstd: bool,
    /// Chain ids of layers that are not sent.
    pub chains: HashSet<Digest>,
}

impl Accepts {
    /// Asks an engine; nothing is omitted.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`].
    pub fn ask(client: &Client) -> Result<Accepts> {
        let store = Info::ask(client)?.store();
        Ok(Accepts {
            store,
            zstd: store.reads_zstd(client.version()),
            chains: HashSet::new(),
        })
    }
}

/// An image in a load: its plan, its content, and the results so far.
pub struct ImageToLoad<'l, 'a> {
    /// Its plan.
    pub planned: &'l PlannedImage,
    /// The candidate.
    pub candidate: &'l Candidate<'a>,
    /// The image of the candidate that the engine gets.
    pub image: &'l Image,
    /// Whether the engine has all of its content.
    pub is_present: bool,
    /// Bytes that were sent for it.
    pub sent: u64,
    /// Why its digest is not shown, as far as that is known.
    pub obstacles: Vec<Obstacle>,
    /// What changes its digest in a later push, with `keep_push_digest`.
    pub push: Option<Vec<Obstacle>>,
}

impl<'l, 'a> ImageToLoad<'l, 'a> {
    /// The image of a plan.
    ///
    /// # Errors
    ///
    /// If the plan is for other candidates.
    pub fn new(planned: &'l PlannedImage, candidates: &'l Candidates<'a>) -> Result<ImageToLoad<'l, 'a>> {
        let (candidate, image) = planned.content(candidates)?;
        Ok(ImageToLoad {
            planned,
            candidate,
            image,
            is_present: planned.present,
            sent: 0,
            obstacles: planned.obstacles().to_vec(),
            push: None,
        })
    }

    /// All images of a plan, in order.
    ///
    /// # Errors
    ///
    /// As [`ImageToLoad::new`].
    pub fn all(
        images: &'l [PlannedImage],
        candidates: &'l Candidates<'a>,
    ) -> Result<Vec<ImageToLoad<'l, 'a>>> {
        let images = images.iter();
        images
            .map(|planned| ImageToLoad::new(planned, candidates))
            .collect()
    }
}

/// The blobs to send for the images that are not present, each once.
///
/// # Errors
///
/// If a layer must be decompressed and its uncompressed size is not known.
pub fn upload(images: &[ImageToLoad<'_, '_>], accepts: &Accepts) -> Result<Vec<UploadBlob>> {
    let mut seen = HashSet::new();
    let mut upload = Vec::new();
    for (position, to_load) in sent(images, accepts.store) {
        let ImageToLoad { candidate, image, .. } = to_load;
        let mut add = |digest, size, form| {
            if seen.insert(digest) {
                upload.push(UploadBlob {
                    digest,
                    size,
                    form,
                    image: position,
                });
            }
        };
        if accepts.store == Store::Containerd {
            for (descriptor, _) in &candidate.image.graph.indexes {
                add(descriptor.digest, descriptor.size, Form::Document);
            }
            add(image.descriptor.digest, image.descriptor.size, Form::Document);
        }
        let config = &image.manifest.config;
        add(config.digest, config.size, Form::Config);
        for (layer, diff_id, chain) in layers(image) {
            if accepts.chains.contains(&chain) || candidate.is_omitted(layer) {
                continue;
            }
            let here = candidate.image.provenance.layer(layer);
            if is_decompressed(here, accepts) {
                add(
                    diff_id,
                    uncompressed_size(candidate, &diff_id)?,
                    Form::Uncompressed,
                );
            } else {
                add(here.digest, here.size, Form::Layer);
            }
        }
    }
    Ok(upload)
}

/// The images whose content is sent, with their positions. An image of the classic store is sent once for all
/// its names and digests; its layers may be stored differently under each.
pub fn sent<'i, 'l, 'a>(
    images: &'i [ImageToLoad<'l, 'a>],
    store: Store,
) -> impl Iterator<Item = (usize, &'i ImageToLoad<'l, 'a>)> {
    let mut seen = HashSet::new();
    let missing = images.iter().enumerate().filter(|(_, image)| !image.is_present);
    missing.filter(move |(_, image)| store == Store::Containerd || seen.insert(image.image.id()))
}

/// An image's layers with their diff ids, and the chains that they end.
pub fn layers(image: &Image) -> impl Iterator<Item = (&Descriptor, Digest, Digest)> {
    let diff_ids = image
        .config
        .as_ref()
        .map(|config| config.diff_ids.clone())
        .unwrap_or_default();
    let chains = chain_ids(&diff_ids);
    image
        .manifest
        .layers
        .iter()
        .zip(diff_ids)
        .zip(chains)
        .map(|((layer, diff_id), chain)| (layer, diff_id, chain))
}

/// Whether a layer of the archive is sent uncompressed.
pub fn is_decompressed(layer: &Descriptor, accepts: &Accepts) -> bool {
    let is_zstd = layer.media_type.kind() == Kind::Layer(Compression::Zstd);
    accepts.store == Store::Classic && !accepts.zstd && is_zstd
}

fn uncompressed_size(candidate: &Candidate<'_>, diff_id: &Digest) -> Result<u64> {
    candidate.layer_sizes.get(diff_id).copied().ok_or_else(|| Error::Usage {
        message: format!("layer {diff_id} is zstd, which this engine lacks, and was not decompressed when it was verified"),
        hint: Some("verify the layers of the archive too, not only its digests".into()),
    })
}
