//! What a save would write, and the space that it needs. Nothing is written.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::resolve::Images;
use super::{Options, Summary, planned, resolved, summary};
use crate::archive::writer::file_system::{FileSystem, too_little};
use crate::archive::writer::{self, cut};
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::image::named::{self, NamedImage};
use crate::image::provenance::LayerOrigin;
use crate::interrupt::Interrupt;
use crate::oci::{Digest, Reference, chain_ids};
use crate::progress::Progress;
use crate::source::Source;

/// What a save would write.
#[derive(Debug, Clone)]
pub struct Forecast {
    /// What would be saved. It has no files.
    pub summary: Summary,
    /// Bytes of recompressed layers, which are kept in temporary files until the archive is complete.
    pub temporary: u64,
    /// Stored bytes of the blobs of all images.
    pub blobs: u64,
    /// Uncompressed bytes of the layers of all images, each once for the layers below it, as an engine unpacks them. `None`
    /// if the source cannot tell.
    pub unpacked: Option<u64>,
}

/// Determines what [`save`](super::save()) would write.
///
/// The source must not have to keep what it prepares: a [`RecoverSource`](crate::recover::RecoverSource) can make a trial.
///
/// # Errors
///
/// As [`save`](super::save()), up to the first byte that it would write.
pub fn forecast(
    source: &dyn Source,
    references: &[Reference],
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Forecast> {
    let (mut images, mut skipped) = resolved(source, references, options, progress, interrupt)?;
    let (omission, plan) = planned(&mut images, &mut skipped, options)?;
    Ok(Forecast {
        temporary: total(&images, is_recompressed),
        blobs: total(&images, |_, _| true),
        unpacked: unpacked(source, &images)?,
        summary: summary(&images, skipped, &plan, &[], &omission, Vec::new()),
    })
}

/// Stored bytes of the blobs of all images that are meant, each once.
fn total(images: &Images, is_meant: impl Fn(&NamedImage, &Digest) -> bool) -> u64 {
    let mut blobs: HashMap<Digest, u64> = HashMap::new();
    for image in named::distinct(&images.named) {
        let meant = image.blobs().into_iter();
        let meant = meant.filter(|blob| is_meant(image, &blob.digest));
        blobs.extend(meant.map(|blob| (blob.digest, blob.size)));
    }
    blobs.into_values().fold(0, u64::saturating_add)
}

/// Whether a blob of an image is a layer that is recompressed.
fn is_recompressed(image: &NamedImage, blob: &Digest) -> bool {
    let origins = image.provenance.origins.as_ref();
    let origin = origins.and_then(|origins| origins.layers.get(blob));
    matches!(origin, Some(LayerOrigin::Rebuilt { .. }))
}

/// Uncompressed bytes of the layers of all images, once for each chain.
fn unpacked(source: &dyn Source, images: &Images) -> Result<Option<u64>> {
    let mut seen = HashSet::new();
    let mut sizes: HashMap<Digest, u64> = HashMap::new();
    let mut bytes = 0_u64;
    let distinct = named::distinct(&images.named);
    let configs = distinct.flat_map(|image| image.graph.runnable().map(|one| one.config.as_ref()));
    for config in configs {
        let Some(config) = config else { return Ok(None) };
        for (diff_id, chain) in config.diff_ids.iter().zip(chain_ids(&config.diff_ids)) {
            if !seen.insert(chain) {
                continue;
            }
            let size = match sizes.get(diff_id) {
                Some(size) => *size,
                None => match source.uncompressed_size(diff_id)? {
                    Some(size) => *sizes.entry(*diff_id).or_insert(size),
                    None => return Ok(None),
                },
            };
            bytes = bytes.saturating_add(size);
        }
    }
    Ok(Some(bytes))
}

/// A folder that is written to, with the bytes that it needs and that are free.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Room {
    /// The folder.
    pub path: PathBuf,
    /// Most bytes that are needed at the same time.
    pub needed: u64,
    /// Free bytes.
    pub free: u64,
}

impl Room {
    /// Checks that it suffices.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it does not.
    pub fn check(&self) -> Result<()> {
        match self.needed > self.free {
            false => Ok(()),
            true => Err(too_little(&self.path, self.needed, self.free)),
        }
    }
}

/// The folders that a save with these options writes to: that of its `output`, unless it is a pipe or device, and
/// `tmpdir`, unless nothing temporary is written or both are on one file system.
///
/// # Errors
///
/// If the file system cannot be asked, or does not take files as large as these.
pub fn rooms(
    forecast: &Forecast,
    options: &Options,
    output: Option<&Path>,
    tmpdir: &Path,
) -> Result<Vec<Room>> {
    let device = |path: &Path| std::fs::metadata(path).ok().map(|meta| meta.dev());
    let mut rooms = Vec::new();
    let mut temporary = forecast.temporary;
    if let Some(output) = output
        && let target = writer::locate(output)?
        && !target.is_special().map_err(Error::io("look at", output))?
    {
        let file_system = FileSystem::under(&target.dir)?;
        file_system.check_files(output, &cut(forecast.summary.size, options.split)?)?;
        let path = match target.dir.path() {
            here if here.as_os_str().is_empty() => ".".into(),
            folder => folder.to_path_buf(),
        };
        // Temporary files are there until the archive is complete, and what is beside it comes afterwards.
        let mut more = options.beside;
        if device(&path).is_some_and(|one| Some(one) == device(tmpdir)) {
            more = more.max(std::mem::take(&mut temporary));
        }
        let needed = forecast.summary.size.saturating_add(more);
        rooms.push(Room {
            path,
            needed,
            free: file_system.free,
        });
    }
    if temporary > 0 {
        let folder = Dir::open(tmpdir).map_err(Error::io("open", tmpdir))?;
        rooms.push(Room {
            path: tmpdir.to_path_buf(),
            needed: temporary,
            free: FileSystem::under(&folder)?.free,
        });
    }
    Ok(rooms)
}
