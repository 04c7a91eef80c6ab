//! Plans the tar of an archive. Once the manifests are known, all sizes are known, and so are all headers
//! and offsets before a byte is written. Pure.
//!
//! Order: `oci-layout`; indexes, manifests and configs by digest; the other blobs by digest; then the names,
//! `index.json` and `manifest.json`, so that a truncated archive names nothing.
//!
//! Source: POSIX.1-2017, `pax`, "ustar Interchange Format" and "pax Extended Header".

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::format::{self, ManifestJson, Omitted};
use crate::blob::Verifier;
use crate::error::{Error, Place, Problem, Result};
use crate::image::Graph;
use crate::image::named::{self, NamedImage};
use crate::oci::{Descriptor, Digest, MAX_METADATA, MediaType, Platform};

/// Block size of a tar, in bytes.
pub const BLOCK: u64 = 512;
/// The largest size in eleven octal digits, in bytes: 8 GiB - 1. A larger one goes into a PAX record, which
/// Go's `archive/tar`, Python and GNU tar read the same way.
const MAX_OCTAL: u64 = 0o77_777_777_777;
/// The largest archive, in bytes: file offsets are signed.
const MAX_SIZE: u64 = u64::MAX >> 1;

/// The plan of an archive.
#[derive(Debug, Clone)]
pub struct TarPlan {
    blobs: Vec<PlannedBlob>,
    runs: Vec<Run>,
    names_at: u64,
    size: u64,
    digest: Digest,
}

/// A blob that must be fetched.
#[derive(Debug, Clone)]
pub struct PlannedBlob {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// Start of its content, in bytes.
    pub offset: u64,
}

/// Bytes that are known in advance: headers, padding, documents, names.
#[derive(Debug, Clone)]
pub struct Run {
    /// Their position.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A blob without a position yet.
struct UnplacedBlob {
    descriptor: Descriptor,
    is_metadata: bool,
    bytes: Option<Arc<[u8]>>,
}

impl TarPlan {
    /// Plans an archive of `images`, sorted by [`named::sort`]. `preferred` is the platform
    /// of `manifest.json` for images with several.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if a digest has two sizes, if bytes in a graph do not match their descriptor, or if
    /// the archive would be larger than a file can be; [`Error::Usage`] if its names exceed what readers
    /// accept.
    pub fn new(images: &[NamedImage], preferred: &Platform) -> Result<TarPlan> {
        TarPlan::omitting(images, preferred, Omitted::NONE)
    }

    /// Plans the same archive without some layers, which it declares to leave out.
    ///
    /// # Errors
    ///
    /// As [`TarPlan::new`].
    pub fn omitting(images: &[NamedImage], preferred: &Platform, omitted: &Omitted) -> Result<TarPlan> {
        let blobs = distinct_blobs(images, omitted)?.into_iter();
        let (metadata, layers): (Vec<UnplacedBlob>, Vec<UnplacedBlob>) =
            blobs.partition(|blob| blob.is_metadata);
        let manifest_json = format::manifest_json(images, Some(preferred))?;
        let is_first = manifest_json == format::manifest_json(images, None)?;
        let index = format::index_json(
            images,
            match is_first {
                true => ManifestJson::First,
                false => ManifestJson::Preferred(preferred),
            },
            omitted,
        )?;
        for (name, bytes) in [(format::INDEX, &index), (format::MANIFEST, &manifest_json)] {
            readable(name, bytes, images.len())?;
        }
        let digest = Digest::sha256(&index);
        let mut builder = Builder::default();
        builder.bytes(format::OCI_LAYOUT, format::OCI_LAYOUT_CONTENT)?;
        for blob in metadata.iter().chain(&layers) {
            builder.blob(blob)?;
        }
        let names_at = builder.at;
        builder.runs.push(Run {
            offset: names_at,
            bytes: Vec::new(),
        });
        builder.bytes(format::INDEX, &index)?;
        builder.bytes(format::MANIFEST, &manifest_json)?;
        builder.known(&[0; 2 * 512])?;
        Ok(TarPlan {
            blobs: builder.blobs,
            runs: builder.runs,
            names_at,
            size: builder.at,
            digest,
        })
    }

    /// The blobs that must be fetched, by offset.
    pub fn blobs(&self) -> &[PlannedBlob] {
        &self.blobs
    }

    /// The bytes that are known in advance, by offset. Together with the blobs they are the whole archive.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Offset of the names: `index.json` with its header.
    pub fn names_at(&self) -> u64 {
        self.names_at
    }

    /// The archive's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Digest of `index.json`, which pins everything named in the archive.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// Refuses to write what readers would refuse.
fn readable(name: &str, bytes: &[u8], images: usize) -> Result<()> {
    let size = bytes.len();
    if u64::try_from(size).is_ok_and(|size| size <= MAX_METADATA) {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!(
            "{name} of {images} images would have {size} bytes, more than the {MAX_METADATA} that are read"
        ),
        hint: Some("save them to several archives".into()),
    })
}

/// Every blob once, by digest, without the layers that are left out.
fn distinct_blobs(images: &[NamedImage], omitted: &Omitted) -> Result<Vec<UnplacedBlob>> {
    let mut blobs: BTreeMap<Digest, UnplacedBlob> = BTreeMap::new();
    for named in named::distinct(images) {
        let graph = &named.graph;
        for referrer in named.referrers.iter() {
            add_referrer(&mut blobs, &referrer.graph)?;
        }
        if let Some(list) = format::referrers_json(&named.referrers)? {
            let media_type = MediaType::new(MediaType::OCI_INDEX);
            let descriptor = Descriptor::new(media_type, Digest::sha256(&list), length(&list));
            add_blob(&mut blobs, &descriptor, true, Some(list.into()))?;
        }
        for (descriptor, index) in &graph.indexes {
            add_blob(&mut blobs, descriptor, true, Some(index.raw.clone()))?;
        }
        for image in &graph.images {
            add_blob(
                &mut blobs,
                &image.descriptor,
                true,
                Some(image.manifest.raw.clone()),
            )?;
            add_blob(&mut blobs, &image.manifest.config, true, image.config_raw.clone())?;
            let layers = image.manifest.layers.iter();
            for layer in layers.filter(|layer| !omitted.layers.contains(&layer.digest)) {
                add_blob(&mut blobs, named.provenance.layer(layer), false, None)?;
            }
        }
    }
    // The size that an index gives a present blob counts too, whether it was chosen by it or not.
    let sizes: HashMap<Digest, u64> = blobs.iter().map(|(d, blob)| (*d, blob.descriptor.size)).collect();
    let indexes = named::distinct(images).flat_map(|named| &named.graph.indexes);
    for entry in indexes.flat_map(|(_, index)| &index.manifests) {
        if let Some(size) = sizes.get(&entry.digest) {
            same_size(entry, *size)?;
        }
    }
    Ok(blobs.into_values().collect())
}

/// The blobs of a referrer. None of them is ever left out, and its configs are not read.
fn add_referrer(blobs: &mut BTreeMap<Digest, UnplacedBlob>, graph: &Graph) -> Result<()> {
    for (descriptor, index) in &graph.indexes {
        add_blob(blobs, descriptor, true, Some(index.raw.clone()))?;
    }
    for image in &graph.images {
        add_blob(blobs, &image.descriptor, true, Some(image.manifest.raw.clone()))?;
        add_blob(blobs, &image.manifest.config, true, None)?;
        for layer in &image.manifest.layers {
            add_blob(blobs, layer, false, None)?;
        }
    }
    Ok(())
}

fn add_blob(
    blobs: &mut BTreeMap<Digest, UnplacedBlob>,
    descriptor: &Descriptor,
    is_metadata: bool,
    bytes: Option<Arc<[u8]>>,
) -> Result<()> {
    let known = blobs.entry(descriptor.digest).or_insert_with(|| UnplacedBlob {
        descriptor: descriptor.bare(),
        is_metadata,
        bytes: None,
    });
    same_size(descriptor, known.descriptor.size)?;
    known.is_metadata |= is_metadata;
    if known.bytes.is_none() {
        if let Some(bytes) = &bytes {
            let mut verifier = Verifier::new(descriptor);
            verifier
                .update(bytes)
                .and_then(|()| verifier.finish())
                .map_err(|problem| Error::refused(Place::blob(descriptor.digest), problem))?;
        }
        known.bytes = bytes;
    }
    Ok(())
}

fn same_size(descriptor: &Descriptor, expected: u64) -> Result<()> {
    if descriptor.size == expected {
        return Ok(());
    }
    let problem = Problem::SizeDiffers {
        expected,
        found: descriptor.size,
    };
    Err(Error::refused(Place::blob(descriptor.digest), problem))
}

/// The plan while it is made.
#[derive(Default)]
struct Builder {
    blobs: Vec<PlannedBlob>,
    runs: Vec<Run>,
    at: u64,
}

impl Builder {
    fn blob(&mut self, blob: &UnplacedBlob) -> Result<()> {
        let path = format::blob_path(&blob.descriptor.digest);
        if let Some(bytes) = &blob.bytes {
            return self.bytes(&path, bytes);
        }
        let size = blob.descriptor.size;
        self.known(&header(&path, size)?)?;
        self.blobs.push(PlannedBlob {
            descriptor: blob.descriptor.clone(),
            offset: self.at,
        });
        self.advance(size)?;
        self.runs.push(Run {
            offset: self.at,
            bytes: Vec::new(),
        });
        self.pad(size)
    }

    fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let size = length(bytes);
        self.known(&header(path, size)?)?;
        self.known(bytes)?;
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let rest = usize::try_from(size.wrapping_neg() % BLOCK).unwrap_or_default();
        self.known([0; 512].get(..rest).unwrap_or_default())
    }

    fn known(&mut self, bytes: &[u8]) -> Result<()> {
        let offset = self.at;
        self.advance(length(bytes))?;
        match self.runs.last_mut() {
            Some(run) if run.offset + length(&run.bytes) == offset => run.bytes.extend_from_slice(bytes),
            _ => self.runs.push(Run {
                offset,
                bytes: bytes.to_vec(),
            }),
        }
        Ok(())
    }

    fn advance(&mut self, size: u64) -> Result<()> {
        let next = self.at.saturating_add(size);
        if next > MAX_SIZE {
            let problem = Problem::TooLarge {
                limit: MAX_SIZE,
                found: next,
            };
            return Err(Error::refused(Place::default(), problem));
        }
        self.at = next;
        Ok(())
    }
}

/// Length of bytes as a file size.
pub(super) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The header of a regular file with fixed mode, owner and time. A PAX header precedes it if its size or path
/// (of a SHA-512 blob) does not fit into ustar's fields.
pub(super) fn header(path: &str, size: u64) -> Result<Vec<u8>> {
    let mut records = String::new();
    if size > MAX_OCTAL {
        records += &record("size", &size.to_string());
    }
    let mut file = blank(tar::EntryType::Regular);
    if file.set_path(path).is_err() {
        records += &record("path", path);
        let start: String = path.chars().take(100).collect();
        file.set_path(start).map_err(Error::io("name", path))?;
    }
    // Zero beside a PAX size: readers that use both must not find two different sizes.
    file.set_size(if size > MAX_OCTAL { 0 } else { size });
    file.set_cksum();
    if records.is_empty() {
        return Ok(file.as_bytes().to_vec());
    }
    let mut pax = blank(tar::EntryType::XHeader);
    let last = path.rsplit('/').next().unwrap_or(path);
    let name: String = "PaxHeaders/".chars().chain(last.chars().take(64)).collect();
    pax.set_path(name).map_err(Error::io("name", path))?;
    pax.set_size(length(records.as_bytes()));
    pax.set_cksum();
    let mut bytes = pax.as_bytes().to_vec();
    bytes.extend_from_slice(records.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend_from_slice(file.as_bytes());
    Ok(bytes)
}

fn blank(kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// One PAX record: its length in decimal, which counts its own digits, then `key=value` and a line break.
fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut digits = 1;
    while (rest + digits).to_string().len() > digits {
        digits += 1;
    }
    format!("{} {key}={value}\n", rest + digits)
}

/// The first block of every archive. It tells an old part of a sealift archive from a foreign file.
pub(super) fn first_block() -> Result<Vec<u8>> {
    header(format::OCI_LAYOUT, length(format::OCI_LAYOUT_CONTENT))
}

#[cfg(test)]
#[path = "tar_plan_tests.rs"]
mod tests;
