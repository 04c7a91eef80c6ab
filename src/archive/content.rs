//! What can be read as an OCI layout: a tar, in parts or whole, or a folder. Three primitives, and everything
//! else on top of them, so that verification, views and sources do not care which it is.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use super::account::{Account, LayerOrigin};
use super::format::Entry;
use super::map::read_exact_at;
use crate::error::{Error, Finding, Place, Result};
use crate::image::Graph;
use crate::oci::{Descriptor, Digest, MediaType};

/// A stretch of a file.
#[derive(Debug, Clone)]
pub struct Extent {
    /// The open file.
    pub file: Arc<File>,
    /// Its path, for messages.
    pub path: Arc<PathBuf>,
    /// Where the stretch begins, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// Where the stored bytes of a blob are: one extent, or several when an archive was cut into parts.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The extents, in order.
    pub extents: Vec<Extent>,
    /// Stored bytes in all of them.
    pub size: u64,
    /// The entry's or file's name, for messages.
    pub entry: String,
    /// Where they begin in the archive, its parts taken as one, in bytes; `None` for a file of its own.
    pub offset: Option<u64>,
}

impl Stored {
    /// The same place, at these bytes.
    pub fn locate(&self, place: Place) -> Place {
        Place {
            entry: Some(self.entry.clone()),
            offset: self.offset,
            ..place
        }
    }

    /// Gives the stored bytes from the one at `offset` on, unchecked.
    pub fn reader(&self, offset: u64) -> StoredReader {
        StoredReader {
            stored: self.clone(),
            at: offset,
        }
    }
}

/// Reads stored bytes out of their extents. Its errors wrap a [`Error`].
pub struct StoredReader {
    stored: Stored,
    /// Bytes from the first extent's begin.
    at: u64,
}

impl Read for StoredReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let mut begin = 0_u64;
        for extent in &self.stored.extents {
            let end = begin.saturating_add(extent.length);
            if self.at >= begin && self.at < end {
                let left = usize::try_from(end - self.at).unwrap_or(usize::MAX);
                let count = left.min(target.len());
                let offset = extent.offset.saturating_add(self.at - begin);
                let piece = target.get_mut(..count).unwrap_or_default();
                read_exact_at(extent, offset, piece).map_err(io::Error::other)?;
                self.at = self.at.saturating_add(u64::try_from(count).unwrap_or_default());
                return Ok(count);
            }
            begin = end;
        }
        Ok(0)
    }
}

/// An opened OCI layout.
pub trait Content: Send + Sync {
    /// What to call it in messages: its path as it was given.
    fn label(&self) -> &str;

    /// The stored bytes of `index.json`.
    fn index(&self) -> &[u8];

    /// The entries of `index.json`.
    fn entries(&self) -> &[Entry];

    /// Where a blob's stored bytes are; `None` if it is not here.
    fn stored(&self, digest: &Digest) -> Option<&Stored>;

    /// The blobs that are here.
    fn blobs(&self) -> Vec<Digest>;

    /// Names of files that are neither blobs nor part of the layout.
    fn unknown_files(&self) -> Vec<String>;

    /// The stored bytes of `manifest.json`, which a bare `docker load` follows, if it is here.
    fn manifest_json(&self) -> Option<&[u8]>;

    /// What was found wrong when it was opened. Content with an error among them is not to be used:
    /// [`super::verify`] reports them, and whoever does not verify calls [`Content::check_opening`].
    fn findings(&self) -> &[Finding];

    /// Refuses content that was found wrong when it was opened.
    ///
    /// # Errors
    ///
    /// The first finding that is an error.
    fn check_opening(&self) -> Result<()> {
        match self.findings().iter().find(|finding| finding.is_error()) {
            Some(finding) => Err(Error::Refused(Box::new(finding.clone()))),
            None => Ok(()),
        }
    }

    /// Digest of `index.json`: the one line that pins everything named in it.
    fn digest(&self) -> Digest {
        Digest::sha256(self.index())
    }

    /// What is told of an entry's image, as far as it concerns a graph that begins there or below.
    fn account(&self, entry: &Entry, graph: &Graph) -> Account {
        let mut account = entry.account();
        let declared = !entry.uncompressed.is_empty();
        for image in graph.images.iter().filter(|_| declared) {
            let diff_ids = image.config.iter().flat_map(|config| &config.diff_ids);
            for (layer, diff_id) in image.manifest.layers.iter().zip(diff_ids) {
                let is_packed = self.stored(&layer.digest).is_some();
                if is_packed || !entry.uncompressed.contains(&layer.digest) {
                    continue;
                }
                if let Some(stored) = self.stored(diff_id) {
                    let tar = Descriptor::new(MediaType::new(MediaType::OCI_LAYER), *diff_id, stored.size);
                    account.uncompressed.insert(layer.digest, tar);
                }
            }
        }
        let is_stand_in = account.stand_in.is_some();
        if let Some(provenance) = &mut account.provenance {
            let layers = graph.images.iter().flat_map(|image| &image.manifest.layers);
            let layers: HashSet<Digest> = layers.map(|layer| layer.digest).collect();
            provenance.layers.retain(|layer, _| layers.contains(layer));
            for (layer, origin) in &mut provenance.layers {
                // Another image of the archive has it as it was stored. Stand-ins are over uncompressed layers.
                let is_here = !is_stand_in && self.stored(layer).is_some();
                if is_here && matches!(origin, LayerOrigin::Uncompressed { .. }) {
                    *origin = LayerOrigin::Stored;
                }
            }
        }
        account
    }

    /// Reads a manifest, index or config whole, checked against size and digest; `None` if it is not here.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Refused`] if the bytes are not what the descriptor says or are more than
    /// [`crate::oci::MAX_METADATA`].
    fn metadata(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>>;
}
