//! The list of a store's layers, `<root>/<driver>-layers/layers.json`, which its user may read.
//!
//! podman requests no layer that it unpacked from a blob of the same digest. It does not list these digests; they are here.
//!
//! Source: containers/storage, `layers.go` (`type Layer`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::dir::{Dir, read_whole};
use crate::oci::Digest;
use crate::store::files::open_below;

/// The lists of layers: those of images, and those that do not survive a power loss.
const LISTS: [&str; 2] = ["layers.json", "volatile-layers.json"];
/// Most bytes of a list: a hundred thousand layers.
pub const MAX_LIST: u64 = 256 << 20;

/// A layer of the list.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Layer {
    /// The name of its folder.
    pub id: String,
    compressed_diff_digest: Option<String>,
    #[serde(default)]
    compressed_size: i64,
    diff_digest: Option<String>,
    #[serde(default)]
    flags: BTreeMap<String, serde_json::Value>,
}

impl Layer {
    /// The digest of the blob that it was unpacked from.
    pub fn blob(&self) -> Option<Digest> {
        self.compressed_diff_digest.as_ref()?.parse().ok()
    }

    /// Digest of its uncompressed tar.
    pub fn diff_id(&self) -> Option<Digest> {
        self.diff_digest.as_ref()?.parse().ok()
    }

    /// Whether podman is still unpacking it, or was interrupted.
    pub fn is_incomplete(&self) -> bool {
        self.flags.get("incomplete").and_then(serde_json::Value::as_bool) == Some(true)
    }
}

/// The folder of the lists, below a store's root.
pub fn folder(driver: &str) -> PathBuf {
    format!("{driver}-layers").into()
}

/// Reads the lists of a store. podman replaces each as a whole, so that they can be read while it runs.
///
/// # Errors
///
/// If one exists and cannot be read.
pub fn list(root: &Dir, driver: &str) -> io::Result<Vec<Layer>> {
    let mut layers = Vec::new();
    for name in LISTS {
        let Some(file) = open_below(root, &folder(driver).join(name))? else {
            continue;
        };
        let listed: Vec<Layer> = serde_json::from_slice(&read_whole(file, MAX_LIST)?)?;
        layers.extend(listed);
    }
    Ok(layers)
}

/// The digests and sizes of the blobs that the layers were unpacked from. Empty if that cannot be read: podman is then
/// expected to request all layers.
pub fn blobs(root: &Path, driver: &str) -> BTreeMap<Digest, u64> {
    let listed = Dir::open(root).and_then(|root| list(&root, driver));
    let layers = listed.unwrap_or_default().into_iter();
    layers
        .filter_map(|layer| Some((layer.blob()?, u64::try_from(layer.compressed_size).ok()?)))
        .collect()
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
