//! Opening archives: what a path is, and what stands in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::blob::BlobReader;
use super::content::{Content, Stored};
use super::folder;
use super::format::{self, Entry};
use super::segments::{Segments, by_archive};
use super::spool::{Options, compression_of, spool};
use super::tar_index::{TarIndex, check_first};
use crate::error::{Error, Finding, Place, Problem, Result};
use crate::oci::{Compression, Descriptor, Digest, MAX_METADATA, json};

/// An OCI layout that was opened: a tar, whole or in parts, or a folder.
pub struct Archive {
    label: String,
    index: Vec<u8>,
    entries: Vec<Entry>,
    manifest_json: Option<Vec<u8>>,
    blobs: BTreeMap<Digest, Stored>,
    unknown: Vec<String>,
    findings: Vec<Finding>,
}

/// Opens one archive: a file, a folder, the parts of one archive in any order, or `-` for standard input.
///
/// A tar that was compressed as a whole, and what is no regular file, is spooled first.
///
/// # Errors
///
/// [`Error::Refused`] if it is no OCI layout or its structure is unsafe to read; [`Error::Io`] if it cannot
/// be read or spooled; [`Error::Usage`] if several archives are given at once.
pub fn open(paths: &[PathBuf], options: &Options) -> Result<Box<dyn Content>> {
    let [path, others @ ..] = paths else {
        return Err(usage("no archive is given", None));
    };
    if !others.is_empty() && by_archive(paths).len() != 1 {
        return Err(usage("these are several archives", Some("open each on its own")));
    }
    if path == Path::new("-") {
        let input = BufReader::with_capacity(1 << 18, std::io::stdin());
        return Ok(Box::new(Archive::spooled("standard input", input, options)?));
    }
    if path.is_dir() {
        return Ok(Box::new(folder::open(path)?));
    }
    let kind = path.metadata().map(|metadata| metadata.is_file());
    if kind.is_ok_and(|is_file| !is_file) {
        // A pipe, or a device: neither has a length, and a pipe is read but once.
        let file = File::open(path).map_err(Error::io("open", path))?;
        let input = BufReader::with_capacity(1 << 18, file);
        return Ok(Box::new(Archive::spooled(
            &path.display().to_string(),
            input,
            options,
        )?));
    }
    Ok(Box::new(Archive::tar(Segments::open(path)?, options)?))
}

fn usage(message: &str, hint: Option<&str>) -> Error {
    Error::Usage {
        message: message.into(),
        hint: hint.map(Into::into),
    }
}

impl Archive {
    /// Opens a tar, spooling it if it is compressed as a whole.
    ///
    /// # Errors
    ///
    /// As [`open`].
    pub fn tar(segments: Segments, options: &Options) -> Result<Archive> {
        let mut magic = [0; 6];
        let count = segments.read_at(0, &mut magic)?;
        let magic = magic.get(..count).unwrap_or_default();
        if compression_of(magic) != Compression::None {
            let input = SegmentsReader {
                segments: &segments,
                offset: 0,
            };
            let input = BufReader::with_capacity(1 << 18, input);
            return Archive::spooled(segments.label(), input, options);
        }
        if let Some(problem) = foreign(magic) {
            let place = Place::default().within(segments.label());
            return Err(Error::refused(place, problem));
        }
        let index = TarIndex::read(&segments)?;
        Archive::new(segments.label(), index.files, index.findings)
    }

    fn spooled(label: &str, input: impl std::io::BufRead, options: &Options) -> Result<Archive> {
        let file = spool(label, input, options, |block| {
            foreign(block).map_or_else(|| check_first(block), Err)
        })?;
        let segments = Segments::of_file(label, file, Path::new(label))?;
        let index = TarIndex::read(&segments)?;
        Archive::new(label, index.files, index.findings)
    }

    /// Makes sense of the files of a tar or folder.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if they are no OCI layout, or its `index.json` is malformed.
    pub(super) fn new(
        label: &str,
        files: Vec<(String, Stored)>,
        mut findings: Vec<Finding>,
    ) -> Result<Archive> {
        let mut blobs = BTreeMap::new();
        let mut others: BTreeMap<String, Stored> = BTreeMap::new();
        for (name, stored) in files {
            match format::digest_of_path(&name) {
                Ok(Some(digest)) => {
                    blobs.insert(digest, stored);
                }
                Ok(None) => {
                    others.insert(name, stored);
                }
                Err(problem) => {
                    let place = Place::default().within(label).entry(name);
                    findings.push(Finding { place, problem });
                }
            }
        }
        let mut read = |name: &str| -> Result<Option<Vec<u8>>> {
            others
                .remove(name)
                .map(|stored| read_small(label, &stored))
                .transpose()
        };
        let (layout, index, manifest_json) = (
            read(format::OCI_LAYOUT)?,
            read(format::INDEX)?,
            read(format::MANIFEST)?,
        );
        let names: BTreeSet<&str> = others.keys().map(String::as_str).collect();
        let (Some(layout), Some(index)) = (layout.as_deref(), index.clone()) else {
            let missing = if layout.is_none() {
                format::OCI_LAYOUT
            } else {
                format::INDEX
            };
            return Err(no_layout(label, missing, manifest_json.is_some(), &names));
        };
        let refuse =
            |name: &str, problem| Error::refused(Place::default().within(label).entry(name), problem);
        check_layout(layout).map_err(|problem| refuse(format::OCI_LAYOUT, problem))?;
        let entries = format::parse_index(&index).map_err(|problem| refuse(format::INDEX, problem))?;
        Ok(Archive {
            label: label.into(),
            index,
            entries,
            manifest_json,
            blobs,
            unknown: others.into_keys().collect(),
            findings,
        })
    }
}

/// Formats that are taken for an archive by mistake.
fn foreign(magic: &[u8]) -> Option<Problem> {
    let reason = match magic {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some("this is compressed with xz; decompress it first"),
        [b'B', b'Z', b'h', ..] => Some("this is compressed with bzip2; decompress it first"),
        [b'P', b'K', 3, 4, ..] => Some("this is a zip file"),
        [] => Some("this is an empty file"),
        _ => None,
    };
    reason.map(|reason| Problem::Tar {
        reason: reason.into(),
    })
}

/// Refuses what is no OCI layout, saying what it is if that can be told.
fn no_layout(label: &str, missing: &str, has_manifest_json: bool, others: &BTreeSet<&str>) -> Error {
    let place = Place::default().within(label);
    let is_docker_save = has_manifest_json && others.iter().any(|name| name.ends_with("/layer.tar"));
    if is_docker_save {
        return Error::refused(
            place,
            Problem::Document {
                reason: "this is a `docker save` archive of Docker before 25: it has no OCI layout, and the \
                         manifests that digests belong to are not in it; save the images by their names with \
                         `sealift save`"
                    .into(),
            },
        );
    }
    Error::refused(place.entry(missing), Problem::Missing)
}

fn check_layout(bytes: &[u8]) -> Result<(), Problem> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let marker: Marker = json::from_slice(bytes).map_err(|error| Problem::Json {
        reason: error.to_string(),
    })?;
    if marker.image_layout_version != "1.0.0" {
        return Err(Problem::Document {
            reason: format!(
                "imageLayoutVersion is {:?}, expected \"1.0.0\"",
                marker.image_layout_version
            ),
        });
    }
    Ok(())
}

/// Reads a file of the layout that is no blob whole, if it is no more than [`MAX_METADATA`].
fn read_small(label: &str, stored: &Stored) -> Result<Vec<u8>> {
    if stored.size > MAX_METADATA {
        let problem = Problem::TooLarge {
            limit: MAX_METADATA,
            found: stored.size,
        };
        let place = stored.locate(Place::default().within(label));
        return Err(Error::refused(place, problem));
    }
    let mut bytes = vec![0; usize::try_from(stored.size).unwrap_or_default()];
    let mut rest = bytes.as_mut_slice();
    for extent in &stored.extents {
        let length = usize::try_from(extent.length).unwrap_or(usize::MAX);
        let Some((piece, after)) = rest.split_at_mut_checked(length) else {
            break;
        };
        super::map::read_exact_at(extent, extent.offset, piece)?;
        rest = after;
    }
    Ok(bytes)
}

struct SegmentsReader<'a> {
    segments: &'a Segments,
    offset: u64,
}

impl std::io::Read for SegmentsReader<'_> {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        let count = self
            .segments
            .read_at(self.offset, target)
            .map_err(std::io::Error::other)?;
        self.offset = self
            .offset
            .saturating_add(u64::try_from(count).unwrap_or_default());
        Ok(count)
    }
}

impl Content for Archive {
    fn label(&self) -> &str {
        &self.label
    }

    fn index(&self) -> &[u8] {
        &self.index
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn stored(&self, digest: &Digest) -> Option<&Stored> {
        self.blobs.get(digest)
    }

    fn blobs(&self) -> Vec<Digest> {
        self.blobs.keys().copied().collect()
    }

    fn unknown_files(&self) -> Vec<String> {
        self.unknown.clone()
    }

    fn manifest_json(&self) -> Option<&[u8]> {
        self.manifest_json.as_deref()
    }

    fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn metadata(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        let Some(stored) = self.blobs.get(&descriptor.digest) else {
            return Ok(None);
        };
        if descriptor.size > MAX_METADATA {
            let problem = Problem::TooLarge {
                limit: MAX_METADATA,
                found: descriptor.size,
            };
            let place = Place::blob(descriptor.digest).within(&self.label);
            return Err(Error::refused(place, problem));
        }
        let within = |error| match error {
            Error::Refused(mut finding) => {
                finding.place = finding.place.within(&self.label);
                Error::Refused(finding)
            }
            other => other,
        };
        let mut reader = BlobReader::new(stored, descriptor).map_err(within)?;
        let mut bytes = Vec::with_capacity(usize::try_from(stored.size).unwrap_or_default());
        reader
            .read_to_end(&mut bytes)
            .map_err(|error| within(Error::from_reader(error, Error::io("read", &self.label))))?;
        reader.finish().map_err(within)?;
        Ok(Some(bytes))
    }
}
