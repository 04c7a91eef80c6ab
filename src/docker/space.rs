//! Whether a load fits into the engine's data folder.
//!
//! The classic store unpacks the stream into a temporary folder of its data root, and the layers beside it. The
//! containerd store keeps the blobs, and unpacks the layers beside them. Either needs space for the stream and
//! the uncompressed layers at the same time.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use super::api::Client;
use super::api::info::{Info, Store};
use super::content::{Accepts, ImageToLoad, layers};
use super::store::containerd;
use crate::dir::Dir;
use crate::docker::daemon::reach;
use crate::error::{Hint, Remedy};
use crate::load::{DiskSpace, UploadBlob};
use crate::oci::{Compression, Kind};

/// File systems that may compress, so that files take less than their size: btrfs, ZFS, bcachefs.
const COMPRESSING: [u64; 3] = [0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e];

/// The variable that moves dockerd's temporary files.
const TMPDIR: &[u8] = b"DOCKER_TMPDIR=";

/// Free space for an engine's data.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Space {
    /// The folder, as the engine names it or as a path in our namespace.
    pub path: PathBuf,
    /// Free bytes.
    pub free: u64,
    /// Whether everything is written there, uncompressed.
    pub is_certain: bool,
}

impl Space {
    /// Determines it; `None` if that is not possible, as for an engine on another host.
    pub fn look(client: &Client, info: &Info) -> Option<Space> {
        let process = reach::process(client, info).ok()?;
        let (path, here) = match info.store() {
            Store::Classic => {
                let path = info.docker_root_dir.clone();
                let here = process.open(process.locate(&path).ok()?).ok()?;
                (path, here)
            }
            Store::Containerd => {
                let root = containerd::root_of(&process)?;
                (root.path().to_path_buf(), root)
            }
        };
        let (free, kind) = free(&here)?;
        let environment = fs::read(format!("/proc/{}/environ", process.pid())).unwrap_or_default();
        process.identity().check().ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        Some(Space {
            path,
            free,
            is_certain: !COMPRESSING.contains(&kind) && !variables.any(|one| one.starts_with(TMPDIR)),
        })
    }

    /// Compares the needed space with the free space. A tenth of the layers is allowed for what tars and file
    /// systems add, before the load is refused.
    pub fn needed_for(&self, stream: u64, unpacked: u64) -> DiskSpace {
        let needed = stream.saturating_add(unpacked);
        DiskSpace {
            path: self.path.display().to_string(),
            needed,
            free: self.free,
            is_insufficient: self.is_certain && needed.saturating_sub(unpacked / 10) > self.free,
            hint: Hint::from("free some space there (docker system df shows what takes it)")
                .and(Remedy::LoadFewer),
        }
    }
}

/// Free bytes for root, and the kind of the file system.
fn free(folder: &Dir) -> Option<(u64, u64)> {
    let stat = rustix::fs::fstatvfs(folder.as_file()).ok()?;
    let kind = rustix::fs::fstatfs(folder.as_file()).ok()?.f_type;
    Some((
        stat.f_bfree.saturating_mul(stat.f_frsize),
        u64::try_from(kind).unwrap_or_default(),
    ))
}

/// Uncompressed bytes of the layers that the engine unpacks for these images: one for each chain that it lacks.
pub fn unpacked(images: &[ImageToLoad<'_, '_>], accepts: &Accepts) -> u64 {
    let mut seen = HashSet::new();
    let mut bytes = 0_u64;
    for ImageToLoad { candidate, image, .. } in images.iter().filter(|image| !image.is_present) {
        for (layer, diff_id, chain) in layers(image) {
            if accepts.chains.contains(&chain) || !seen.insert(chain) {
                continue;
            }
            let here = candidate.image.provenance.layer(layer);
            let size = match here.media_type.kind() {
                Kind::Layer(Compression::None) => here.size,
                // A layer that was not counted takes at least its compressed size.
                _ => candidate.layer_sizes.get(&diff_id).copied().unwrap_or(here.size),
            };
            bytes = bytes.saturating_add(size);
        }
    }
    bytes
}

/// Bytes of a stream of these blobs.
pub fn stream(upload: &[UploadBlob]) -> u64 {
    upload
        .iter()
        .fold(0, |sum, piece| u64::saturating_add(sum, piece.size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_certainly_does_not_fit_is_refused() {
        let space = |free, is_certain| Space {
            path: "/var/lib/docker".into(),
            free,
            is_certain,
        };
        for (free, is_certain, is_insufficient, is_short) in [
            (1500, true, false, false),
            (1499, true, false, true),
            (1400, true, false, true),
            (1399, true, true, true),
            (10, false, false, true),
        ] {
            let needed = space(free, is_certain).needed_for(500, 1000);
            assert_eq!(
                (needed.is_insufficient, needed.is_short()),
                (is_insufficient, is_short),
                "{free}"
            );
            let checked = needed.check();
            assert_eq!(checked.is_err(), is_insufficient, "{free}");
            if let Err(error) = checked {
                assert_eq!(error.kind(), ErrorKind::Io);
                let said =
                    format!("cannot load into /var/lib/docker: 1500 bytes are needed, {free} are free");
                assert_eq!(error.to_string(), said);
            }
        }
    }
}
