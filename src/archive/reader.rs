//! Opens archives: finds out what a path is and what it contains.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::containers_image;
use super::docker_save::{DockerSave, Files};
use super::folder;
use super::format::{self, Entry, Omitted};
use super::layout::Layout;
use super::referrers::LayoutReferrers;
use super::segments::{Segments, by_archive};
use super::spool::Options;
use super::tar_index::TarIndex;
use super::transport_folder;
use crate::blob::decompress::compression_of;
use crate::blob::{Blobs, OpenBlob, Stored};
use crate::error::{Error, Finding, Place, Problem, Result};
use crate::oci::{Compression, Descriptor, Digest, MAX_METADATA};

/// What messages call standard input.
pub const STDIN: &str = "standard input";

/// An open OCI layout: a tar, in one file or in parts, or a folder.
pub struct Archive {
    label: String,
    index: Vec<u8>,
    entries: Vec<Entry>,
    referrers: LayoutReferrers,
    omitted: Omitted,
    manifest_json: Option<Vec<u8>>,
    blobs: BTreeMap<Digest, Stored>,
    unknown: Vec<String>,
    findings: Vec<Finding>,
}

/// The kind of an archive.
pub enum Opened {
    /// An OCI layout.
    Layout(Box<dyn Layout>),
    /// An archive of `docker save`: images without a registry's manifest.
    DockerSave(DockerSave),
}

/// Opens one OCI layout: a file, a folder, the parts of one archive in any order, or `-` for standard input.
///
/// A tar that was compressed as a whole, or is not a regular file, is spooled first.
///
/// # Errors
///
/// [`Error::Refused`] if it is not an OCI layout or its structure is unsafe to read; [`Error::Io`] if it cannot
/// be read or spooled; [`Error::Usage`] if several archives are given at once.
pub fn open(paths: &[PathBuf], options: &Options) -> Result<Box<dyn Layout>> {
    match open_any(paths, options)? {
        Opened::Layout(layout) => Ok(layout),
        Opened::DockerSave(save) => {
            let place = Place::default().within(save.label());
            Err(Error::refused(place, Problem::DockerSave))
        }
    }
}

/// Opens one archive as [`open`] does, either an OCI layout or an archive of `docker save`.
///
/// # Errors
///
/// As [`open`]; [`Error::Refused`] also for any problem of an archive of `docker save`.
pub fn open_any(paths: &[PathBuf], options: &Options) -> Result<Opened> {
    let [path, others @ ..] = paths else {
        return Err(usage("no archive is given", None));
    };
    if !others.is_empty() && by_archive(paths).len() != 1 {
        return Err(usage("these are several archives", Some("open each on its own")));
    }
    if path == Path::new("-") {
        let input = BufReader::with_capacity(1 << 18, std::io::stdin());
        return Opened::read(STDIN, input, options);
    }
    if path.is_dir() {
        return folder::open(path, options);
    }
    let kind = path.metadata().map(|metadata| metadata.is_file());
    if kind.is_ok_and(|is_file| !is_file) {
        // A pipe or a device has no length, and a pipe can be read only once.
        let file = File::open(path).map_err(Error::io("open", path))?;
        let input = BufReader::with_capacity(1 << 18, file);
        return Opened::read(&path.display().to_string(), input, options);
    }
    Opened::tar(Segments::open(path)?, options)
}

fn usage(message: &str, hint: Option<&'static str>) -> Error {
    Error::Usage {
        message: message.into(),
        hint: hint.map(Into::into),
    }
}

impl Opened {
    /// Opens a tar, spooling it if it is compressed as a whole.
    ///
    /// # Errors
    ///
    /// As [`open_any`].
    pub fn tar(segments: Segments, options: &Options) -> Result<Opened> {
        let index = index_of(&segments, options).map_err(|error| segments.explain(error))?;
        Opened::index(segments.label(), index, options)
    }

    /// Opens a stream, decompressed if it is compressed. The data of its entries is written to a temporary
    /// file.
    ///
    /// # Errors
    ///
    /// As [`open_any`].
    pub fn read(label: &str, input: impl std::io::BufRead, options: &Options) -> Result<Opened> {
        Opened::index(label, TarIndex::read_stream(label, input, options)?, options)
    }

    /// Opens what a tar or folder contains.
    ///
    /// # Errors
    ///
    /// As [`open_any`].
    pub(super) fn index(label: &str, index: TarIndex, options: &Options) -> Result<Opened> {
        let files: BTreeMap<String, Stored> = index.files.into_iter().collect();
        if transport_folder::is_one(label, &files)? {
            let links = index.links.iter().map(|link| link.finding(label));
            let findings = index.findings.into_iter().chain(links).collect();
            return transport_folder::open(label, files, findings, options);
        }
        if is_docker_save(label, &files)? {
            if let Some(error) = index.findings.into_iter().find(Finding::is_error) {
                return Err(Error::Refused(Box::new(error)));
            }
            let files = Files::new(label, files, index.links);
            return Ok(Opened::DockerSave(DockerSave::new(files, options)?));
        }
        let mut findings = index.findings;
        findings.extend(index.links.iter().map(|link| link.finding(label)));
        Ok(Opened::Layout(Box::new(Archive::new(label, files, findings)?)))
    }
}

/// The index of a tar, which is spooled if it is compressed as a whole.
fn index_of(segments: &Segments, options: &Options) -> Result<TarIndex> {
    let mut magic = [0; 6];
    let count = segments.read_at(0, &mut magic)?;
    let magic = magic.get(..count).unwrap_or_default();
    if let Some(problem) = foreign(magic) {
        return Err(Error::refused(Place::default().within(segments.label()), problem));
    }
    if compression_of(magic) != Compression::None {
        let input = SegmentsReader { segments, offset: 0 };
        let input = BufReader::with_capacity(1 << 18, input);
        return TarIndex::read_stream(segments.label(), input, options);
    }
    TarIndex::read(segments)
}

impl Archive {
    /// Opens a layout, given its files.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if they are not an OCI layout, or its `index.json` is malformed.
    fn new(label: &str, files: BTreeMap<String, Stored>, mut findings: Vec<Finding>) -> Result<Archive> {
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
        let (Some(layout), Some(index)) = (layout.as_deref(), index.clone()) else {
            let missing = if layout.is_none() {
                format::OCI_LAYOUT
            } else {
                format::INDEX
            };
            // It may be there as something else than a file.
            let found = findings
                .into_iter()
                .find(|finding| finding.place.entry.as_deref() == Some(missing));
            return Err(match found {
                Some(finding) => Error::Refused(Box::new(finding)),
                None => no_layout(label, missing, &others),
            });
        };
        format::check_layout(layout).map_err(|problem| {
            let place = Place::default().within(label).entry(format::OCI_LAYOUT);
            Error::refused(place, problem)
        })?;
        let unknown = others.into_keys().collect();
        let archive = Archive::of_blobs(label, index, blobs, unknown, findings)?;
        Ok(Archive {
            manifest_json,
            ..archive
        })
    }

    /// Opens a layout, given `index.json` and blobs.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if `index.json` is malformed.
    pub(super) fn of_blobs(
        label: &str,
        index: Vec<u8>,
        blobs: BTreeMap<Digest, Stored>,
        unknown: Vec<String>,
        mut findings: Vec<Finding>,
    ) -> Result<Archive> {
        let parsed = format::parse_index(&index);
        let mut entries = parsed.map_err(|problem| {
            let place = Place::default().within(label).entry(format::INDEX);
            Error::refused(place, problem)
        })?;
        let omitted = Omitted::parse(&index).map_err(|problem| {
            let place = Place::default().within(label).entry(format::INDEX);
            Error::refused(place, problem)
        })?;
        // A document that cannot be read is reported when it is followed.
        let document = |digest: &Digest| read_small(label, blobs.get(digest)?).ok();
        containers_image::qualify(&index, &mut entries, document);
        let is_own = format::is_own(&index);
        if !is_own {
            format::recognise_substitutes(&mut entries, document);
        }
        // Only now it is known which digests are recorded.
        let of_names = format::check_names(&entries).into_iter();
        findings.extend(of_names.map(|(digest, problem)| Finding {
            place: Place::blob(digest).within(label).entry(format::INDEX),
            problem,
        }));
        let referrers = LayoutReferrers::take(&index, is_own, &mut entries, &document);
        Ok(Archive {
            label: label.into(),
            index,
            entries,
            referrers,
            omitted,
            manifest_json: None,
            blobs,
            unknown,
            findings,
        })
    }
}

/// Formats that are mistaken for an archive.
pub(super) fn foreign(magic: &[u8]) -> Option<Problem> {
    let reason = match magic {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some("this is compressed with xz; decompress it first"),
        [b'B', b'Z', b'h', ..] => Some("this is compressed with bzip2; decompress it first"),
        [b'P', b'K', 3, 4, ..] => Some("this is a zip file"),
        // Podman, skopeo and Docker before 23 recognise zstd by its other frames only, and read a tar here.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(
            "this begins with a skippable zstd frame, which some tools take for a tar; decompress it first",
        ),
        [] => Some("this is an empty file"),
        _ => None,
    };
    reason.map(|reason| Problem::Tar {
        reason: reason.into(),
    })
}

/// Whether these are the files of a `docker save` archive without a registry's manifests.
///
/// From 25 on, Docker writes an OCI layout around its archives even where it has no manifest. It makes
/// manifests from the config and the uncompressed layers. They are complete and valid, and only other files
/// distinguish them from a registry's: no tool that has the original manifests writes `LayerSources` or a file
/// `repositories` (seen with 26 and 28; 25.0 writes only the second); and an image without a name is in
/// `manifest.json` but not in `index.json`.
fn is_docker_save(label: &str, files: &BTreeMap<String, Stored>) -> Result<bool> {
    let (layout, index) = (files.get(format::OCI_LAYOUT), files.get(format::INDEX));
    let (manifest, index) = match (files.get(format::MANIFEST), layout, index) {
        (_, Some(_), Some(_)) if files.contains_key(format::REPOSITORIES) => return Ok(true),
        (Some(manifest), Some(_), Some(index)) => (manifest, index),
        // Half a layout is a damaged one.
        (manifest, layout, index) => return Ok(manifest.is_some() && layout.is_none() && index.is_none()),
    };
    // Not parsed: the next reader reports malformed content.
    let manifest = read_small(label, manifest)?;
    let key = br#""LayerSources""#;
    if manifest.windows(key.len()).any(|bytes| bytes == key) {
        return Ok(true);
    }
    #[derive(serde::Deserialize)]
    struct Names {
        manifests: Option<Vec<serde::de::IgnoredAny>>,
    }
    let index: Result<Names, _> = serde_json::from_slice(&read_small(label, index)?);
    let images: Result<Vec<serde::de::IgnoredAny>, _> = serde_json::from_slice(&manifest);
    let has_none = index.is_ok_and(|index| index.manifests.is_none_or(|list| list.is_empty()));
    Ok(has_none && images.is_ok_and(|images| !images.is_empty()))
}

/// Refuses what is not an OCI layout, and says what it is if that is known.
fn no_layout(label: &str, missing: &str, others: &BTreeMap<String, Stored>) -> Error {
    let place = Place::default().within(label);
    let is_older = others.contains_key(format::REPOSITORIES);
    if is_older && others.keys().any(|name| name.ends_with("/layer.tar")) {
        let reason = "this is a `docker save` archive of Docker before 1.10, which has no image ids; load it into \
                      a later Docker and save it again";
        return Error::refused(
            place,
            Problem::Document {
                reason: reason.into(),
            },
        );
    }
    Error::refused(place.entry(missing), Problem::Missing)
}

/// Reads a file of the layout that is not a blob, if it has at most [`MAX_METADATA`] bytes.
pub(super) fn read_small(label: &str, stored: &Stored) -> Result<Vec<u8>> {
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
        crate::blob::stored::read_exact_at(extent, extent.offset, piece)?;
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

impl Blobs for Archive {
    fn label(&self) -> &str {
        &self.label
    }

    fn size(&self, blob: &Descriptor) -> Result<Option<u64>> {
        Ok(self.blobs.get(&blob.digest).map(|stored| stored.size))
    }

    fn open(&self, blob: &Descriptor) -> Result<Option<OpenBlob>> {
        Ok(self.blobs.get(&blob.digest).cloned().map(OpenBlob::Stored))
    }

    fn place(&self, digest: &Digest) -> Place {
        let place = Place::blob(*digest).within(&self.label);
        match self.blobs.get(digest) {
            Some(stored) => stored.locate(place),
            None => place,
        }
    }
}

impl Layout for Archive {
    fn index(&self) -> &[u8] {
        &self.index
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn omitted(&self) -> &Omitted {
        &self.omitted
    }

    fn referrers(&self) -> &LayoutReferrers {
        &self.referrers
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
}
