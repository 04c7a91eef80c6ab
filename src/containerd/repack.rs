//! A layer in a form that containerd unpacks faster.
//!
//! containerd inflates gzip in one thread of Go, which takes about as long as all the rest of unpacking; its zstd decoder
//! takes a fraction of that. So a gzip layer is inflated here and also sent as a temporary zstd blob, which containerd
//! unpacks instead. The tar is the same, and both sides compare its digest with the diff id.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use zstd::stream::write::Encoder;

use super::client::Client;
use super::content::Content;
use super::leases::Lease;
use super::snapshots::Layer;
use super::upload::Upload;
use crate::blob::BlobReader;
use crate::error::{Error, Result};
use crate::oci::{Compression, Descriptor, Digest, Hasher, Kind, MediaType};
use crate::verify::{LayerReader, VerifiedLayer};

/// Smaller layers, in stored bytes, are unpacked as they are.
const SMALLEST: u64 = 1 << 20;
/// zstd's fastest level but for those that hardly compress.
const LEVEL: i32 = 1;
/// Uncompressed bytes per step, and zstd bytes per message.
const PIECE: usize = 256 << 10;
/// The first bytes of a zstd frame that decoders skip. Source: RFC 8878, 3.1.2.
const SKIPPED_FRAME: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

/// Stored bytes of temporary blobs that may be garbage at a time.
const MAX_GARBAGE: u64 = 1 << 30;

/// The temporary blobs of a load.
pub struct Repacked<'c> {
    client: &'c Client,
    /// Names the blobs.
    lease: &'c Lease,
    /// Most layers that are here at a time.
    limit: usize,
    /// Layers that are being repacked, and the blobs of those that are not unpacked yet, by chain id.
    blobs: Mutex<HashMap<Digest, Option<Descriptor>>>,
    /// Stored bytes that garbage collection may remove.
    garbage: AtomicU64,
}

impl<'c> Repacked<'c> {
    /// No blobs yet. The client has this lease.
    pub fn new(client: &'c Client, lease: &'c Lease) -> Repacked<'c> {
        Repacked {
            client,
            lease,
            limit: available_parallelism().map_or(1, NonZeroUsize::get),
            blobs: Mutex::default(),
            garbage: AtomicU64::new(0),
        }
    }

    fn blobs(&self) -> MutexGuard<'_, HashMap<Digest, Option<Descriptor>>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is faster to repack a layer. It is not without a processor that would be idle else.
    pub fn is_for(&self, layer: &Layer<'_>) -> bool {
        let is_gzip = layer.blob.media_type.kind() == Kind::Layer(Compression::Gzip);
        is_gzip && layer.blob.size >= SMALLEST && self.limit > 1
    }

    /// Counts a layer among those that are being repacked, until it is removed. False if there are too many.
    pub fn claim(&self, layer: &Layer<'_>) -> bool {
        let mut blobs = self.blobs();
        let is_free = blobs.len() < self.limit;
        if is_free {
            blobs.insert(layer.chain, None);
        }
        is_free
    }

    /// Repacks a layer and verifies it: its stored bytes, its diff id, its form as a tar, and that it has not more than
    /// `limit` uncompressed bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the layer is not what its digest and its diff id say; [`Error::Engine`].
    pub fn add(
        &self,
        layer: &Layer<'_>,
        stored: BlobReader,
        limit: u64,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<VerifiedLayer> {
        let name = format!("{}-{}", self.lease.id(), layer.chain);
        let (blob, verified) = repack(self.client, &name, layer, stored, limit, check).inspect_err(|_| {
            // The lease's removal removes it otherwise.
            Content::new(self.client).abort(&name);
        })?;
        self.blobs().insert(layer.chain, Some(blob));
        Ok(verified)
    }

    /// The temporary blob of a layer, if it has one.
    pub fn of(&self, layer: &Layer<'_>) -> Option<Descriptor> {
        self.blobs().get(&layer.chain).cloned().flatten()
    }

    /// Removes the temporary blob of a layer. Garbage collection takes its time where there are many images, so it does not
    /// follow each.
    ///
    /// # Errors
    ///
    /// If containerd cannot remove it.
    pub fn remove(&self, layer: &Layer<'_>) -> Result<()> {
        let removed = self.blobs().remove(&layer.chain);
        let Some(blob) = removed.flatten() else {
            return Ok(());
        };
        Content::new(self.client).delete(&blob.digest)?;
        let before = self.garbage.fetch_add(blob.size, Ordering::Relaxed);
        if before.saturating_add(blob.size) >= MAX_GARBAGE {
            self.garbage.store(0, Ordering::Relaxed);
            // containerd collects garbage when a lease is removed.
            Lease::create(self.client)?.remove(true);
        }
        Ok(())
    }

    /// Whether removed blobs wait for garbage collection.
    pub fn has_garbage(&self) -> bool {
        self.garbage.load(Ordering::Relaxed) > 0
    }
}

/// Sends the tar of a gzip layer as zstd, and verifies it as `verify` does: its stored bytes, its diff id and its form.
/// Returns the temporary blob, whose digest no other blob has if no other has this `name`. Refuses more than `limit`
/// uncompressed bytes.
///
/// # Errors
///
/// [`Error::Refused`] if the layer is not what its digest and its diff id say; [`Error::Engine`]. The blob is not in the
/// store then.
fn repack(
    client: &Client,
    name: &str,
    layer: &Layer<'_>,
    stored: BlobReader,
    limit: u64,
    check: &dyn Fn() -> Result<()>,
) -> Result<(Descriptor, VerifiedLayer)> {
    let mut tar = LayerReader::new(stored, Compression::Gzip, &layer.diff_id, limit)?;
    let place = tar.place().clone();
    let failed = |error: io::Error| Error::from_reader(error, Error::io("compress", place.to_string()));
    let message = BufWriter::with_capacity(PIECE, Message::start(client, name, layer.blob)?);
    let mut zstd = Encoder::new(message, LEVEL).map_err(failed)?;
    let mut piece = vec![0; PIECE];
    loop {
        check()?;
        let count = tar.next_bytes(&mut piece)?;
        let bytes = piece.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        zstd.write_all(bytes).map_err(failed)?;
    }
    let verified = tar.finish()?;
    let mut message = zstd.finish().map_err(failed)?;
    message.write_all(&SKIPPED_FRAME).map_err(failed)?;
    let length = u32::try_from(name.len()).unwrap_or_default();
    message.write_all(&length.to_le_bytes()).map_err(failed)?;
    message.write_all(name.as_bytes()).map_err(failed)?;
    let message = message.into_inner().map_err(|error| failed(error.into_error()))?;
    Ok((message.commit()?, verified))
}

/// Bytes on their way to containerd.
struct Message<'c> {
    client: &'c Client,
    upload: Upload,
    hasher: Hasher,
    /// What fails if a call does.
    action: String,
    has_failed: bool,
}

impl<'c> Message<'c> {
    fn start(client: &'c Client, name: &str, blob: &Descriptor) -> Result<Message<'c>> {
        let action = format!("unpack layer {}", blob.digest);
        let longest = client.timeouts().of_blob(blob.size);
        let upload = client.within(longest, Upload::start_unknown(client, name));
        Ok(Message {
            client,
            upload: upload.map_err(|status| client.address().error(&action, &status))?,
            hasher: Hasher::sha256(),
            action,
            has_failed: false,
        })
    }

    fn commit(self) -> Result<Descriptor> {
        let (digest, size): (Digest, u64) = (self.hasher.finish(), self.upload.offset());
        let longest = self.client.timeouts().of_blob(size);
        self.client
            .within(longest, self.upload.commit_as(&digest))
            .map_err(|status| self.client.address().error(&self.action, &status))?;
        Ok(Descriptor::new(
            MediaType::new(MediaType::OCI_LAYER_ZSTD),
            digest,
            size,
        ))
    }
}

impl Write for Message<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A buffer tries once more when it is dropped.
        if self.has_failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.hasher.update(bytes);
        let idle = self.client.timeouts().idle;
        let sent = self.client.within(idle, self.upload.send(bytes));
        self.has_failed = sent.is_err();
        sent.map_err(|status| io::Error::other(self.client.address().error(&self.action, &status)))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
