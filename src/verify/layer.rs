//! One pass over a layer for code that needs its uncompressed bytes: they are verified on the way.

use super::layer_tar::LayerTar;
use super::report::Layer;
use crate::blob::BlobReader;
use crate::blob::decompress::Decompressor;
use crate::error::{Error, Place, Problem, Result};
use crate::oci::{Compression, Digest, Hasher};

/// A layer of which everything was verified: its stored bytes, its diff id, that it is a tar, and its size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VerifiedLayer {
    digest: Digest,
    compression: Compression,
    layer: Layer,
}

impl VerifiedLayer {
    /// Digest of its stored bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its uncompressed form, if this proves a layer with this compression and these diff ids.
    pub(super) fn proves(&self, compression: Option<Compression>, diff_ids: &[Digest]) -> Option<Layer> {
        let is_same = compression == Some(self.compression) && diff_ids == [self.layer.diff_id];
        is_same.then_some(self.layer)
    }
}

/// Decompresses a layer, and hashes its stored and its uncompressed bytes.
pub(crate) struct LayerReader {
    stored: Decompressor<BlobReader>,
    compression: Compression,
    diff_id: Digest,
    hasher: Hasher,
    tar: LayerTar,
    place: Place,
}

impl LayerReader {
    /// Starts at the first byte. Refuses more than `limit` uncompressed bytes.
    ///
    /// # Errors
    ///
    /// Only if a decompressor cannot be allocated.
    pub fn new(
        stored: BlobReader,
        compression: Compression,
        diff_id: &Digest,
        limit: u64,
    ) -> Result<LayerReader> {
        let place = stored.place().clone();
        Ok(LayerReader {
            stored: Decompressor::new(compression, stored, limit, place.clone())?,
            compression,
            diff_id: *diff_id,
            hasher: Hasher::like(diff_id),
            tar: LayerTar::new(),
            place,
        })
    }

    /// Where its stored bytes are, for messages.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Returns the next uncompressed bytes. Zero is the end.
    ///
    /// # Errors
    ///
    /// As [`Decompressor::next_bytes`].
    pub fn next_bytes(&mut self, target: &mut [u8]) -> Result<usize> {
        let count = self.stored.next_bytes(target)?;
        let bytes = target.get(..count).unwrap_or_default();
        self.hasher.update(bytes);
        self.tar.update(bytes);
        Ok(count)
    }

    /// Returns the proof. To be called after the last uncompressed byte: less has another diff id.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the layer is not what its digest and its diff id say.
    pub fn finish(self) -> Result<VerifiedLayer> {
        let refused = |problem| Error::refused(self.place.clone(), problem);
        let size = self.stored.count();
        let stored = self.stored.into_inner().finish()?;
        let found = self.hasher.finish();
        if found != self.diff_id {
            return Err(refused(Problem::DiffIdDiffers {
                expected: self.diff_id,
                found,
            }));
        }
        self.tar.finish(self.compression).map_err(refused)?;
        Ok(VerifiedLayer {
            digest: *stored.digest(),
            compression: self.compression,
            layer: Layer {
                diff_id: self.diff_id,
                size,
            },
        })
    }
}
