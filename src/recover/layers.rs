//! The form in which each layer is saved: stored, if the store or the registry has that or it can be
//! recompressed, else uncompressed.

use std::collections::HashMap;
use std::io::{BufReader, Read as _};

use super::LocalStore;
use crate::blob::Stored;
use crate::blob::decompress::Decompressor;
use crate::blob::decompress::compression_of;
use crate::error::{Error, Place, Problem, Result};
use crate::image::provenance::LayerOrigin;
use crate::interrupt::Interrupt;
use crate::oci::{Compression, Descriptor, Digest, Hasher, Kind, MediaType, Repository};
use crate::progress::Progress;
use crate::recover::forms::KnownForms;
use crate::recover::recompress::{self, Deflate, Expected, MissingLayer, Outcome, Recompressed};
use crate::source::Upstream;

/// Uncompressed bytes that are hashed at once.
const PIECE: usize = 256 << 10;
/// Why a layer that could be recompressed was not.
pub(super) const SWITCHED_OFF: &str = "recompression is switched off";

/// What is known about the layers of all images, once it was looked up.
#[derive(Default)]
pub(super) struct Layers {
    /// The origin of each layer, by the digests in manifests.
    pub origins: HashMap<Digest, LayerOrigin>,
    /// Layers that were recompressed.
    pub recompressed: HashMap<Digest, Stored>,
    /// Layers that the registry has, each with its repository.
    pub upstream: HashMap<Digest, Repository>,
    /// By the digests in manifests: the uncompressed layers in place of them.
    pub uncompressed: HashMap<Digest, Descriptor>,
    /// Why layers could not be recompressed, by their digests.
    pub unmatched: HashMap<Digest, String>,
    /// Layers whose manifest gives them a wrong type, with the right one. Readers would refuse them.
    pub mislabelled: HashMap<Digest, String>,
}

/// Where to look for layers.
pub(super) struct Places<'a> {
    pub store: &'a dyn LocalStore,
    pub known: &'a KnownForms<'a>,
    pub upstream: &'a Upstream,
    /// The repository in which the registry has them.
    pub repository: &'a Repository,
}

/// The layers to recompress.
#[derive(Default)]
pub(super) struct MissingLayers {
    wanted: Vec<MissingLayer>,
    known: HashMap<(Digest, Option<Digest>), usize>,
}

impl MissingLayers {
    /// Adds a layer to recompress, once, and returns its position in the outcomes.
    fn add(&mut self, diff_id: Digest, digest: Option<Digest>, expected: impl FnOnce() -> Expected) -> usize {
        *self.known.entry((diff_id, digest)).or_insert_with(|| {
            self.wanted.push(MissingLayer {
                diff_id,
                expected: expected(),
            });
            self.wanted.len() - 1
        })
    }

    /// A layer of an image whose manifest is not known: any stored form that it is known to have had will do.
    pub fn unknown(&mut self, store: &dyn LocalStore, repository: &Repository, diff_id: Digest) -> usize {
        self.add(diff_id, None, || {
            match store.stored_digests(&diff_id, repository) {
                digests if digests.is_empty() => Expected::Anything(Deflate::DOCKER_PUSH),
                digests => Expected::OneOf(digests),
            }
        })
    }

    /// Recompresses all of them.
    pub fn recompress(
        &self,
        store: &dyn LocalStore,
        options: &super::Options,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Vec<Outcome>> {
        if self.wanted.is_empty() {
            return Ok(Vec::new());
        }
        if options.rebuild == super::Rebuild::Never {
            return Ok(Vec::new());
        }
        let how = recompress::Options {
            tmpdir: options.tmpdir.clone(),
            jobs: options.jobs,
            is_trial: options.is_trial,
        };
        recompress::recompress(store, &self.wanted, &how, progress, interrupt)
    }
}

impl Layers {
    /// Adds what is known about the layers of more images.
    pub fn extend(&mut self, more: Layers) {
        self.origins.extend(more.origins);
        self.recompressed.extend(more.recompressed);
        self.upstream.extend(more.upstream);
        self.uncompressed.extend(more.uncompressed);
        self.unmatched.extend(more.unmatched);
        self.mislabelled.extend(more.mislabelled);
    }

    /// Finds a layer of a known manifest. If it is not found, returns its position among the layers to
    /// recompress.
    pub fn look(
        &mut self,
        places: &Places<'_>,
        layer: &Descriptor,
        diff_id: Option<Digest>,
        missing: &mut MissingLayers,
    ) -> Result<Option<usize>> {
        let (store, upstream) = (places.store, places.upstream);
        if self.origins.contains_key(&layer.digest) {
            return Ok(None);
        }
        if let (Some(diff_id), Some(reason)) = (diff_id, self.mislabelled.get(&layer.digest)) {
            let reason = reason.clone();
            return self
                .leave_uncompressed(store, layer, diff_id, reason)
                .map(|()| None);
        }
        let stored = store.stored(&layer.digest)?.map(|stored| stored.size);
        let plain = match diff_id {
            Some(diff_id) if diff_id == layer.digest => store.size(&diff_id)?,
            _ => None,
        };
        let origin = if stored.or(plain) == Some(layer.size) || places.known.is_elsewhere(layer) {
            LayerOrigin::Stored
        } else if upstream.has(places.repository, layer)? {
            self.upstream.insert(layer.digest, places.repository.clone());
            LayerOrigin::Registry
        } else if let (Some(diff_id), Some(reason)) = (diff_id, self.unmatched.get(&layer.digest)) {
            let reason = reason.clone();
            return self
                .leave_uncompressed(store, layer, diff_id, reason)
                .map(|()| None);
        } else if let Some(diff_id) = diff_id {
            let expected = || Expected::Exactly(layer.clone());
            return Ok(Some(missing.add(diff_id, Some(layer.digest), expected)));
        } else {
            return Err(incomplete(store, layer));
        };
        self.origins.insert(layer.digest, origin);
        Ok(None)
    }

    /// Keeps a recompressed layer.
    pub fn keep(&mut self, digest: Digest, layer: &Recompressed) {
        self.recompressed.insert(digest, layer.stored.clone());
        let by = layer.encoder.name.into();
        self.origins.insert(digest, LayerOrigin::Rebuilt { by });
    }

    /// Decides the form of a layer of a known manifest, after recompressing.
    pub fn settle(
        &mut self,
        store: &dyn LocalStore,
        layer: &Descriptor,
        diff_id: Digest,
        outcome: Option<&Outcome>,
    ) -> Result<()> {
        // Another image has found it elsewhere, or decided it.
        if self.origins.contains_key(&layer.digest) {
            return Ok(());
        }
        let reason = match outcome {
            Some(Outcome::Recompressed(recompressed)) => {
                self.keep(layer.digest, recompressed);
                return Ok(());
            }
            Some(Outcome::Unmatched { reason, .. }) => reason.to_string(),
            Some(Outcome::Failed(error)) => return Err(error.clone()),
            None => SWITCHED_OFF.into(),
        };
        self.leave_uncompressed(store, layer, diff_id, reason)
    }

    /// Uses a layer's uncompressed tar instead.
    fn leave_uncompressed(
        &mut self,
        store: &dyn LocalStore,
        layer: &Descriptor,
        diff_id: Digest,
        reason: String,
    ) -> Result<()> {
        let tar = uncompressed(store, diff_id)?.ok_or_else(|| incomplete(store, layer))?;
        self.uncompressed.insert(layer.digest, tar);
        self.origins
            .insert(layer.digest, LayerOrigin::Uncompressed { reason });
        Ok(())
    }
}

/// The stored form of a layer that no manifest describes; `None` if the store does not have it.
pub(super) fn stored(
    store: &dyn LocalStore,
    repository: &Repository,
    diff_id: &Digest,
) -> Result<Option<Descriptor>> {
    let mut found = None;
    for digest in store.stored_digests(diff_id, repository) {
        found = store.stored(&digest)?.map(|stored| (digest, stored));
        if found.is_some() {
            break;
        }
    }
    let Some((digest, stored)) = found else {
        return Ok(None);
    };
    let mut magic = Vec::new();
    let read = stored.reader(0).take(4).read_to_end(&mut magic);
    read.map_err(|error| Error::from_reader(error, Error::io("read", &stored.entry)))?;
    let media_type = match compression_of(&magic) {
        Compression::Gzip => MediaType::OCI_LAYER_GZIP,
        Compression::Zstd => MediaType::OCI_LAYER_ZSTD,
        Compression::None => MediaType::OCI_LAYER,
    };
    Ok(Some(Descriptor::new(
        MediaType::new(media_type),
        digest,
        stored.size,
    )))
}

/// Verifies that the stored bytes of a layer have its diff id, if no manifest vouches for them.
pub(super) fn prove(
    store: &dyn LocalStore,
    layer: &Descriptor,
    diff_id: Digest,
    interrupt: &Interrupt,
) -> Result<()> {
    let Some(stored) = store.stored(&layer.digest)? else {
        return Err(absent(store, format!("layer {}", layer.digest)));
    };
    let compression = match layer.media_type.kind() {
        Kind::Layer(compression) => compression,
        _ => Compression::None,
    };
    let place = stored.locate(Place::blob(layer.digest).within(store.label()));
    let input = BufReader::with_capacity(PIECE, stored.reader(0));
    let mut tar = Decompressor::new(compression, input, store.max_layer_size(), place.clone())?;
    let mut hasher = Hasher::like(&diff_id);
    let mut buffer = vec![0; PIECE];
    loop {
        interrupt.check()?;
        let count = tar.next_bytes(&mut buffer)?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else {
            break;
        };
        hasher.update(piece);
    }
    let (expected, found) = (diff_id, hasher.finish());
    match found == expected {
        true => Ok(()),
        false => Err(Error::refused(place, Problem::DiffIdDiffers { expected, found })),
    }
}

/// The descriptor of an uncompressed layer; `None` if the store does not have it.
pub(super) fn uncompressed(store: &dyn LocalStore, diff_id: Digest) -> Result<Option<Descriptor>> {
    let media_type = MediaType::new(MediaType::OCI_LAYER);
    let size = store.size(&diff_id)?;
    Ok(size.map(|size| Descriptor::new(media_type, diff_id, size)))
}

/// The error for something that a store should have and does not.
pub(super) fn absent(store: &dyn LocalStore, what: String) -> Error {
    Error::NotFound {
        what,
        place: store.label().into(),
        hint: None,
    }
}

fn incomplete(store: &dyn LocalStore, layer: &Descriptor) -> Error {
    Error::NotFound {
        what: format!("layer {}", layer.digest),
        place: store.label().into(),
        hint: Some(
            "its store has the image, but not all of its content, as after a pull that found the layer unpacked \
             already; save where the registry can be reached"
                .into(),
        ),
    }
}
