//! Whether a load fits into the engine's data folder.
//!
//! The classic store unpacks the stream into a temporary folder of its data root, and the layers beside it. The
//! containerd store keeps the blobs, and unpacks the layers beside them. Either needs space for the stream and
//! the uncompressed layers at the same time.

use std::collections::HashSet;
use std::fs;

use super::api::Client;
use super::api::info::{Info, Store};
use super::content::{Accepts, ImageToLoad, layers};
use super::store::containerd;
use crate::docker::daemon::reach;
use crate::error::{Hint, Remedy};
use crate::load::{DiskSpace, Space, UploadBlob};
use crate::oci::{Compression, Kind};

/// The variable that moves dockerd's temporary files.
const TMPDIR: &[u8] = b"DOCKER_TMPDIR=";

/// Determines the free space for images; `None` if that is not possible, as for an engine on another host.
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
    let space = Space::of_folder(&path, here.as_file())?;
    let environment = fs::read(format!("/proc/{}/environ", process.pid())).unwrap_or_default();
    process.identity().check().ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    Some(Space {
        is_certain: space.is_certain && !variables.any(|one| one.starts_with(TMPDIR)),
        ..space
    })
}

/// Compares the needed space with the free space.
pub fn needed_for(space: &Space, stream: u64, unpacked: u64) -> DiskSpace {
    let hint = Hint::from("free some space there (docker system df shows what takes it)");
    space.needed_for(stream, unpacked, hint.and(Remedy::LoadFewer))
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
