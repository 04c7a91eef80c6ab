//! What of images an engine is sent, and in what form.

use std::collections::HashSet;

use super::api::Client;
use super::api::info::{Info, Store};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::load::{Candidate, Candidates, Form, Obstacle, PlannedImage, UploadBlob};
use crate::oci::{Compression, Descriptor, Digest, Kind, chain_ids};

/// In what form an engine accepts content, and what it need not be sent.
#[derive(Debug, Clone)]
pub struct Accepts {
    /// How it keeps images.
    pub store: Store,
    /// Whether it reads zstd layers.
    pub zstd: bool,
    /// Chain ids of layers that are left out.
    pub chains: HashSet<Digest>,
}

impl Accepts {
    /// Asks an engine; nothing is skipped.
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

/// An image in a load: what is planned of it, where its content is, and what has become of it so far.
pub struct ImageToLoad<'l, 'a> {
    /// What is planned.
    pub planned: &'l PlannedImage,
    /// The candidate.
    pub candidate: &'l Candidate<'a>,
    /// The one image of the candidate that the engine gets.
    pub image: &'l Image,
    /// Whether the engine has all of its content.
    pub is_present: bool,
    /// Bytes of the blobs that were sent for it.
    pub sent: u64,
    /// Why its digest is not shown, as far as it is known.
    pub obstacles: Vec<Obstacle>,
    /// What changes its digest in a later push, if it is to be kept.
    pub push: Option<Vec<Obstacle>>,
}

impl<'l, 'a> ImageToLoad<'l, 'a> {
    /// The image of a plan.
    ///
    /// # Errors
    ///
    /// If the plan was made of other candidates.
    pub fn new(planned: &'l PlannedImage, candidates: &'l Candidates<'a>) -> Result<ImageToLoad<'l, 'a>> {
        let candidate = candidates.images.get(planned.candidate);
        let found = candidate.and_then(|candidate| {
            let mut images = candidate.graph.runnable();
            Some((
                candidate,
                images.find(|image| planned.manifests.contains(&image.descriptor.digest))?,
            ))
        });
        let (candidate, image) = found.ok_or_else(|| Error::Usage {
            message: format!(
                "the plan has {}, and it is not among the images to load",
                planned.name
            ),
            hint: None,
        })?;
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

    /// All images of a plan, in its order.
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

/// What is sent for the images that are not present: each blob once.
///
/// # Errors
///
/// If a layer has to be decompressed and its uncompressed size is not known.
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
            for (descriptor, _) in &candidate.graph.indexes {
                add(descriptor.digest, descriptor.size, Form::Document);
            }
            add(image.descriptor.digest, image.descriptor.size, Form::Document);
        }
        let config = &image.manifest.config;
        add(config.digest, config.size, Form::Config);
        for (layer, diff_id, chain) in layers(image) {
            if accepts.chains.contains(&chain) {
                continue;
            }
            let here = candidate.provenance.layer(layer);
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

/// The images whose content is sent, with their positions. An image of the classic store goes once, whatever its names
/// and digests; its layers may be stored otherwise under each.
pub fn sent<'i, 'l, 'a>(
    images: &'i [ImageToLoad<'l, 'a>],
    store: Store,
) -> impl Iterator<Item = (usize, &'i ImageToLoad<'l, 'a>)> {
    let mut seen = HashSet::new();
    let missing = images.iter().enumerate().filter(|(_, image)| !image.is_present);
    missing.filter(move |(_, image)| store == Store::Containerd || seen.insert(image.image.id()))
}

/// An image's layers with their diff ids and the chains that end with them.
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

/// Whether a layer, as the archive has it, goes out as the plain tar that is in it.
pub fn is_decompressed(layer: &Descriptor, accepts: &Accepts) -> bool {
    let is_zstd = layer.media_type.kind() == Kind::Layer(Compression::Zstd);
    accepts.store == Store::Classic && !accepts.zstd && is_zstd
}

fn uncompressed_size(candidate: &Candidate<'_>, diff_id: &Digest) -> Result<u64> {
    candidate.layer_sizes.get(diff_id).copied().ok_or_else(|| Error::Usage {
        message: format!("layer {diff_id} is zstd, which this engine lacks, and was not decompressed when it was verified"),
        hint: Some("verify the archive wholly, not with --quick".into()),
    })
}
