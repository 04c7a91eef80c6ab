//! The layers of a store, by the digests that podman knows them by.
//!
//! podman requests no layer that it unpacked from a blob of the same digest. It does not list these digests; they are in
//! `<root>/<driver>-layers/layers.json`, which its user may read.
//!
//! Source: containers/storage, `layers.go` (`type Layer`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;

use crate::oci::Digest;

/// The lists of layers: those of images, and those that do not survive a power loss.
const LISTS: [&str; 2] = ["layers.json", "volatile-layers.json"];
/// Most bytes of a list: a hundred thousand layers.
const MAX_LIST: u64 = 256 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Layer {
    compressed_diff_digest: Option<String>,
    #[serde(default)]
    compressed_size: i64,
}

/// The digests and sizes of the blobs that the layers were unpacked from. Empty if that cannot be read: podman is then
/// expected to request all layers.
pub fn blobs(root: &Path, driver: &str) -> BTreeMap<Digest, u64> {
    let folder = root.join(format!("{driver}-layers"));
    let lists = LISTS.iter().filter_map(|name| read(&folder.join(name)));
    lists
        .flatten()
        .filter_map(|layer| {
            let digest = layer.compressed_diff_digest?.parse().ok()?;
            Some((digest, u64::try_from(layer.compressed_size).ok()?))
        })
        .collect()
}

fn read(path: &Path) -> Option<Vec<Layer>> {
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(MAX_LIST)
        .read_to_end(&mut bytes)
        .ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_known_by_the_blobs_that_they_came_from() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(blobs(root.path(), "overlay"), BTreeMap::new());
        let folder = root.path().join("overlay-layers");
        std::fs::create_dir(&folder).unwrap();
        let digest = Digest::sha256(b"layer");
        let list = serde_json::json!([
            { "id": "a", "compressed-diff-digest": digest.to_string(), "compressed-size": 12, "diff-size": 30 },
            { "id": "b", "created": "2024-01-01T00:00:00Z" },
        ]);
        std::fs::write(folder.join("layers.json"), list.to_string()).unwrap();
        assert_eq!(blobs(root.path(), "overlay"), BTreeMap::from([(digest, 12)]));
    }
}
