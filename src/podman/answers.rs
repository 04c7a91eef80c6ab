//! What podman prints as JSON. Only what a load needs is read.
//!
//! Source: podman, `libpod/define/info.go` and `pkg/domain/entities/images.go`; inspected on 4.3 and 5.8.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use crate::oci::{Digest, Platform};

/// `podman info`.
#[derive(Debug, Clone, Deserialize)]
pub struct Info {
    pub host: Host,
    pub store: Store,
    pub version: Version,
    /// Entries of registries.conf by their prefixes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub registries: BTreeMap<String, serde_json::Value>,
}

/// The host.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    pub arch: String,
    pub os: String,
    #[serde(default)]
    pub variant: String,
    #[serde(default)]
    pub service_is_remote: bool,
    pub security: Security,
    pub remote_socket: Option<RemoteSocket>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Security {
    pub rootless: bool,
}

/// Where its service would listen.
#[derive(Debug, Clone, Deserialize)]
pub struct RemoteSocket {
    #[serde(default)]
    pub path: String,
}

/// The storage.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Store {
    pub graph_driver_name: String,
    /// Options of the driver, such as the additional stores.
    #[serde(default, deserialize_with = "null_is_default")]
    pub graph_options: BTreeMap<String, serde_json::Value>,
    pub graph_root: PathBuf,
    pub run_root: PathBuf,
    /// Where the compressed layers of a pull are kept meanwhile. podman before 4.2 does not tell.
    pub image_copy_tmp_dir: Option<PathBuf>,
}

/// The option with all additional stores.
const ADDITIONAL: &str = "additionalImageStores";

impl Store {
    /// Whether it may have more additional stores than it tells: podman 4 names each `overlay.imagestore`, and prints the
    /// last alone.
    pub fn may_have_more(&self) -> bool {
        !self.graph_options.contains_key(ADDITIONAL) && !self.additional().is_empty()
    }

    /// The additional stores, which it only reads. podman 5 has a list of all, and the last of them as `imagestore` too.
    pub fn additional(&self) -> Vec<PathBuf> {
        let is_store = |name: &str| name == ADDITIONAL || name.ends_with("imagestore");
        let mut folders: Vec<PathBuf> = Vec::new();
        for (_, value) in self.graph_options.iter().filter(|(name, _)| is_store(name)) {
            let named = match value {
                serde_json::Value::Array(named) => named.as_slice(),
                one => std::slice::from_ref(one),
            };
            for folder in named
                .iter()
                .filter_map(|folder| folder.as_str())
                .map(PathBuf::from)
            {
                if !folders.contains(&folder) && folder != self.graph_root {
                    folders.push(folder);
                }
            }
        }
        folders
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    pub version: String,
}

impl Info {
    /// The platform of the host's images.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.host.os.clone(),
            variant: Some(self.host.variant.clone()).filter(|variant| !variant.is_empty()),
            ..Platform::linux(&self.host.arch, None)
        }
    }

    /// The prefixes of registries.conf that its drop-in files have. The file itself is an empty one of sealift's.
    pub fn redirected(&self) -> Vec<String> {
        // Another entry lists where short names are looked up.
        let prefixes = self.registries.iter().filter(|(_, entry)| entry.is_object());
        prefixes.map(|(prefix, _)| prefix.clone()).collect()
    }
}

/// An image of `podman images`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PodmanImage {
    /// The image id, without `sha256:`.
    pub id: String,
    /// Its names, with tags or digests.
    #[serde(default, deserialize_with = "null_is_default")]
    pub names: Vec<String>,
    /// Every repository with every digest.
    #[serde(default, deserialize_with = "null_is_default")]
    pub repo_digests: Vec<String>,
    /// What the column DIGEST shows.
    #[serde(default)]
    pub digest: String,
    /// The number of containers made of it.
    #[serde(default)]
    pub containers: i64,
}

impl PodmanImage {
    /// What the column DIGEST shows.
    pub fn shown(&self) -> Option<Digest> {
        self.digest.parse().ok()
    }
}

/// An image of `podman image inspect`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspected {
    /// The image id, without `sha256:`.
    pub id: String,
    /// Its layers.
    #[serde(rename = "RootFS")]
    pub root_fs: Option<RootFs>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RootFs {
    /// The diff ids, base first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Digest>,
}

/// Go prints an empty list or map as null.
fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_podman_prints_is_understood() {
        let info: Info = serde_json::from_value(serde_json::json!({
            "host": {
                "arch": "arm64", "os": "linux", "variant": "v8", "serviceIsRemote": false,
                "security": { "rootless": true },
            },
            "store": { "graphDriverName": "overlay", "graphRoot": "/a", "runRoot": "/b", "graphStatus": {},
                "graphOptions": { "additionalImageStores": ["/c", "/d"], "imagestore": "/d", "mountopt": "nodev" } },
            "version": { "Version": "5.8.6" },
            "registries": { "search": ["docker.io"], "quay.io/a": { "Prefix": "quay.io/a" } },
        }))
        .unwrap();
        assert_eq!(info.platform().to_string(), "linux/arm64/v8");
        assert_eq!(info.redirected(), ["quay.io/a"]);
        assert!(info.host.security.rootless);
        assert_eq!(
            info.store.additional(),
            [PathBuf::from("/c"), PathBuf::from("/d")]
        );
        assert!(!info.store.may_have_more());
        let mut four = info.store;
        four.graph_options = BTreeMap::from([("overlay.imagestore".into(), "/d".into())]);
        assert!(four.may_have_more());
        assert_eq!(four.additional(), [PathBuf::from("/d")]);
        let listed: PodmanImage = serde_json::from_value(serde_json::json!({
            "Id": "db82ab29", "RepoTags": null, "Names": null, "RepoDigests": null, "Containers": 2,
        }))
        .unwrap();
        assert_eq!(
            (listed.names.len(), listed.shown(), listed.containers),
            (0, None, 2)
        );
    }
}
