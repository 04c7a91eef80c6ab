//! The tar that is sent to an engine: it has what the engine lacks, in the form that it accepts. It is streamed
//! from the archive; nothing is written to disk.
//!
//! Every blob is hashed again while it is sent, which detects a file that changed after it was verified.
//! `index.json` and `manifest.json`, which give the content its meaning, come last. An error ends the stream
//! before them, which aborts the upload.

use std::io::{self, Read};

use super::format::{INDEX, MANIFEST, blob_path};
use super::tar_plan::{self, BLOCK, length};
use crate::blob::decompress::Decompressor;
use crate::blob::{BlobReader, Blobs};
use crate::error::{Error, Place, Problem, Result};
use crate::oci::{Descriptor, Digest, Hasher, Kind};

/// Stored bytes of a layer that are decompressed at once.
const PIECE: usize = 256 << 10;

/// One entry of a view.
#[derive(Debug, Clone)]
pub enum Item {
    /// A file made for this view.
    Bytes {
        /// Its path.
        name: String,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// A blob in its stored form.
    Blob(Descriptor),
    /// A layer, decompressed: `blobs/sha256/<diff id>`.
    Uncompressed {
        /// The stored layer.
        layer: Descriptor,
        /// Digest of the uncompressed layer.
        diff_id: Digest,
        /// Uncompressed bytes.
        size: u64,
    },
}

impl Item {
    fn name(&self) -> String {
        match self {
            Item::Bytes { name, .. } => name.clone(),
            Item::Blob(blob) => blob_path(&blob.digest),
            Item::Uncompressed { diff_id, .. } => blob_path(diff_id),
        }
    }

    fn size(&self) -> u64 {
        match self {
            Item::Bytes { bytes, .. } => length(bytes),
            Item::Blob(blob) => blob.size,
            Item::Uncompressed { size, .. } => *size,
        }
    }

    /// Order: `oci-layout` and the like first, then blobs, then what names them.
    fn rank(&self) -> u8 {
        match self {
            Item::Bytes { name, .. } if name == INDEX || name == MANIFEST => 2,
            Item::Bytes { .. } => 0,
            _ => 1,
        }
    }
}

/// The entries, in the order in which they are sent.
#[derive(Debug, Clone)]
pub struct View {
    items: Vec<(Vec<u8>, Item)>,
}

impl View {
    /// Orders entries: what names things last, otherwise as given.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if two entries have the same name: readers would disagree about which applies.
    pub fn new(mut items: Vec<Item>) -> Result<View> {
        items.sort_by_key(Item::rank);
        let mut names = std::collections::HashSet::new();
        let mut entries = Vec::new();
        for item in items {
            let name = item.name();
            let header = tar_plan::header(&name, item.size())?;
            if !names.insert(name.clone()) {
                return Err(Error::refused(Place::default().entry(name), Problem::Duplicate));
            }
            entries.push((header, item));
        }
        Ok(View { items: entries })
    }

    /// Bytes of the whole stream, including headers, padding and end.
    pub fn size(&self) -> u64 {
        let entries = self.items.iter().map(|(header, item)| {
            let padded = item.size().div_ceil(BLOCK).saturating_mul(BLOCK);
            length(header).saturating_add(padded)
        });
        entries.fold(2 * BLOCK, u64::saturating_add)
    }

    /// Streams the tar. Blobs are read from the archive from which the view was made.
    ///
    /// The reader's errors wrap an [`Error`]; [`Error::from_reader`] returns it. After an error, every read
    /// fails.
    pub fn open<'a>(&'a self, blobs: &'a dyn Blobs) -> ViewReader<'a> {
        ViewReader {
            blobs,
            items: self.items.iter(),
            now: Now::Bytes(&[]),
            next: Next::Header,
            failed: false,
        }
    }
}

/// Reads the bytes of a [`View`].
pub struct ViewReader<'a> {
    blobs: &'a dyn Blobs,
    items: std::slice::Iter<'a, (Vec<u8>, Item)>,
    now: Now<'a>,
    next: Next<'a>,
    failed: bool,
}

/// What is sent next.
enum Next<'a> {
    Header,
    Content(&'a Item),
    Padding(&'a Item),
    Nothing,
}

/// What is being sent.
enum Now<'a> {
    Bytes(&'a [u8]),
    Blob(Box<BlobReader>),
    Layer(Box<Layer>),
    Zeros(io::Take<io::Repeat>),
}

/// An uncompressed layer that is being sent.
struct Layer {
    stream: Decompressor<BlobReader>,
    hasher: Hasher,
    diff_id: Digest,
    size: u64,
    place: Place,
}

impl Layer {
    fn read(&mut self, target: &mut [u8]) -> Result<usize> {
        let most = target.len().min(PIECE);
        let target = target.get_mut(..most).unwrap_or_default();
        let count = self.stream.next_bytes(target)?;
        if self.stream.count() > self.size {
            return Err(self.size_differs());
        }
        self.hasher.update(target.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn size_differs(&self) -> Error {
        let problem = Problem::SizeDiffers {
            expected: self.size,
            found: self.stream.count(),
        };
        Error::refused(self.place.clone(), problem)
    }

    /// Verifies the stored bytes, then the uncompressed ones.
    fn finish(self) -> Result<()> {
        if self.stream.count() != self.size {
            return Err(self.size_differs());
        }
        self.stream.into_inner().finish()?;
        let found = self.hasher.finish();
        if found == self.diff_id {
            return Ok(());
        }
        let expected = self.diff_id;
        Err(Error::refused(
            self.place,
            Problem::DiffIdDiffers { expected, found },
        ))
    }
}

impl<'a> ViewReader<'a> {
    /// Reads the next bytes; zero at the end of the stream.
    fn next_bytes(&mut self, target: &mut [u8]) -> Result<usize> {
        if target.is_empty() {
            return Ok(0);
        }
        loop {
            let count = match &mut self.now {
                Now::Bytes(bytes) => bytes.read(target).unwrap_or_default(),
                Now::Zeros(zeros) => zeros.read(target).unwrap_or_default(),
                Now::Blob(blob) => blob
                    .read(target)
                    .map_err(|error| Error::from_reader(error, Error::io("read", self.blobs.label())))?,
                Now::Layer(layer) => layer.read(target)?,
            };
            if count > 0 {
                return Ok(count);
            }
            if !self.advance()? {
                return Ok(0);
            }
        }
    }

    /// Verifies what was sent and moves on to the next entry. False at the end of the stream.
    fn advance(&mut self) -> Result<bool> {
        match std::mem::replace(&mut self.now, Now::Bytes(&[])) {
            Now::Blob(blob) => drop(blob.finish()?),
            Now::Layer(layer) => layer.finish()?,
            Now::Bytes(_) | Now::Zeros(_) => {}
        }
        match self.next {
            Next::Header => match self.items.next() {
                Some((header, item)) => {
                    self.now = Now::Bytes(header);
                    self.next = Next::Content(item);
                }
                None => {
                    self.now = Now::Zeros(io::repeat(0).take(2 * BLOCK));
                    self.next = Next::Nothing;
                }
            },
            Next::Content(item) => {
                self.now = self.content_of(item)?;
                self.next = Next::Padding(item);
            }
            Next::Padding(item) => {
                let rest = item.size() % BLOCK;
                self.now = Now::Zeros(io::repeat(0).take((BLOCK - rest) % BLOCK));
                self.next = Next::Header;
            }
            Next::Nothing => return Ok(false),
        }
        Ok(true)
    }

    fn content_of(&self, item: &'a Item) -> Result<Now<'a>> {
        Ok(match item {
            Item::Bytes { bytes, .. } => Now::Bytes(bytes),
            Item::Blob(blob) => Now::Blob(Box::new(self.blob(blob)?)),
            Item::Uncompressed { layer, diff_id, size } => {
                let reader = self.blob(layer)?;
                let place = reader.place().clone();
                let Kind::Layer(compression) = layer.media_type.kind() else {
                    let reason = format!("{} is not a layer", layer.media_type);
                    return Err(Error::refused(place, Problem::Document { reason }));
                };
                Now::Layer(Box::new(Layer {
                    stream: Decompressor::new(compression, reader, u64::MAX, place.clone())?,
                    hasher: Hasher::like(diff_id),
                    diff_id: *diff_id,
                    size: *size,
                    place,
                }))
            }
        })
    }

    fn blob(&self, blob: &Descriptor) -> Result<BlobReader> {
        match self.blobs.open(blob)? {
            Some(open) => BlobReader::new(open, blob),
            None => {
                let place = Place::blob(blob.digest).within(self.blobs.label());
                Err(Error::refused(place, Problem::Missing))
            }
        }
    }
}

impl Read for ViewReader<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::Error::other("the stream ended in an error before"));
        }
        let outcome = self.next_bytes(target);
        self.failed = outcome.is_err();
        outcome.map_err(io::Error::other)
    }
}
