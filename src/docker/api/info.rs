//! An engine's report of itself: `GET /version` and `GET /info`. A probe asks once.
//!
//! Source: moby, `api/swagger.yaml`, `SystemInfo`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{ApiVersion, Client};
use crate::docker::endpoint::Endpoint;
use crate::error::Result;
use crate::oci::Platform;

/// From this API version on (Docker 23), layers may be zstd.
const ZSTD_SINCE: ApiVersion = ApiVersion { major: 1, minor: 42 };

/// How Docker stores images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// A graph driver: layers are uncompressed, and digests are kept only for pulled images.
    Classic,
    /// containerd's content store and a snapshotter.
    Containerd,
}

impl Store {
    /// Whether an engine with this store reads zstd layers.
    pub fn reads_zstd(self, api: ApiVersion) -> bool {
        self == Store::Containerd || api >= ZSTD_SINCE
    }
}

/// The relevant fields of `GET /version`.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    /// The engine's version.
    pub version: String,
    #[serde(default)]
    components: Option<Vec<Component>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    name: String,
}

impl Version {
    /// Requests it.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Engine`].
    pub fn ask(client: &Client) -> Result<Version> {
        client.get("ask for its version", "/version")
    }

    /// Whether the engine is podman.
    pub fn is_podman(&self) -> bool {
        let mut components = self.components.iter().flatten();
        components.any(|component| component.name.contains("Podman"))
    }
}

/// The relevant fields of `GET /info`.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// The storage driver or snapshotter.
    pub driver: String,
    driver_status: Option<Vec<(String, String)>>,
    architecture: String,
    #[serde(rename = "OSType")]
    os_type: String,
    /// The name of the host's operating system.
    pub operating_system: String,
    kernel_version: String,
    mem_total: u64,
    /// Its data root, as it names it.
    pub docker_root_dir: PathBuf,
    security_options: Option<Vec<String>>,
    /// Its proxy for plain HTTP.
    pub http_proxy: String,
    /// Its proxy for HTTPS.
    pub https_proxy: String,
    /// Hosts that it reaches without a proxy.
    pub no_proxy: String,
    swarm: Option<Swarm>,
    registry_config: Option<RegistryConfig>,
    /// Its labels, which a reload can change.
    pub labels: Option<Vec<String>>,
    /// Whether debug logging is on, which a reload can change.
    pub debug: Option<bool>,
    live_restore_enabled: Option<bool>,
    /// The default runtime of containers, which a reload can change.
    pub default_runtime: Option<String>,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Swarm {
    local_node_state: String,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RegistryConfig {
    mirrors: Option<Vec<String>>,
    #[serde(rename = "InsecureRegistryCIDRs")]
    insecure_cidrs: Option<Vec<String>>,
    index_configs: Option<BTreeMap<String, IndexConfig>>,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct IndexConfig {
    secure: bool,
}

impl Info {
    /// Requests it.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Engine`].
    pub fn ask(client: &Client) -> Result<Info> {
        client.get("ask what it is", "/info")
    }

    /// How it stores images.
    pub fn store(&self) -> Store {
        let mut status = self.driver_status.iter().flatten();
        let is_containerd =
            status.any(|(key, value)| key == "driver-type" && value.starts_with("io.containerd.snapshotter"));
        match is_containerd {
            true => Store::Containerd,
            false => Store::Classic,
        }
    }

    /// Its platform. `Architecture` is the machine of `uname`, which includes the variant of an arm.
    pub fn platform(&self) -> Platform {
        let (architecture, variant) = match self.architecture.as_str() {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "armv8l" | "armv7l" => ("arm", Some("v7")),
            "armv6l" => ("arm", Some("v6")),
            other => (other, None),
        };
        Platform {
            os: self.os_type.clone(),
            ..Platform::linux(architecture, variant)
        }
    }

    /// Whether the engine runs on this machine: a socket may lead to another or a virtual one.
    pub fn is_of_this_machine(&self, endpoint: &Endpoint) -> bool {
        let Endpoint::Unix(_) = endpoint else {
            return false;
        };
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kilobytes = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        let bytes = kilobytes.and_then(|text| text.parse::<u64>().ok()?.checked_mul(1024));
        kernel.trim() == self.kernel_version && bytes == Some(self.mem_total)
    }

    /// Whether it runs in a user namespace.
    pub fn is_rootless(&self) -> bool {
        let mut options = self.security_options.iter().flatten();
        options.any(|option| option.contains("rootless"))
    }

    /// Whether its containers run in a user namespace of their own (`userns-remap`).
    pub fn has_user_namespaces(&self) -> bool {
        let mut options = self.security_options.iter().flatten();
        options.any(|option| option == "name=userns")
    }

    /// Whether it is part of a swarm.
    pub fn is_in_swarm(&self) -> bool {
        let swarm = self.swarm.as_ref();
        swarm.is_some_and(|swarm| !["", "inactive"].contains(&swarm.local_node_state.as_str()))
    }

    /// The mirrors of docker.io in its memory. A reload can change them.
    pub fn mirrors(&self) -> Vec<String> {
        self.registry_config
            .as_ref()
            .and_then(|config| config.mirrors.clone())
            .unwrap_or_default()
    }

    /// Whether containers keep running without the engine, if it reports that. A reload can change it.
    pub fn live_restore(&self) -> Option<bool> {
        self.live_restore_enabled
    }

    /// Whether it treats an entry of `insecure-registries` as insecure, as far as it reports that. A reload can
    /// change it.
    pub fn is_insecure(&self, entry: &str) -> bool {
        let Some(config) = &self.registry_config else {
            return true;
        };
        let host = entry
            .strip_prefix("http://")
            .or_else(|| entry.strip_prefix("https://"))
            .unwrap_or(entry)
            .trim_end_matches('/');
        config.insecure_cidrs.iter().flatten().any(|cidr| cidr == host)
            || config
                .index_configs
                .iter()
                .flatten()
                .any(|(name, index)| name.eq_ignore_ascii_case(host) && !index.secure)
            || host.contains('/') // another spelling of a network; the engine prints its own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_and_platform_are_read_from_info() {
        let info = |text: &str| serde_json::from_str::<Info>(text).unwrap();
        let classic = info(
            r#"{"Driver":"overlay2","DriverStatus":[["Backing Filesystem","extfs"]],"Architecture":"x86_64","OSType":"linux"}"#,
        );
        assert_eq!(classic.store(), Store::Classic);
        assert_eq!(classic.platform().to_string(), "linux/amd64");
        let containerd = info(
            r#"{"Driver":"overlayfs","DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]],"Architecture":"aarch64","OSType":"linux"}"#,
        );
        assert_eq!(containerd.store(), Store::Containerd);
        assert_eq!(containerd.platform().to_string(), "linux/arm64");
        let arm = info(r#"{"Driver":"vfs","DriverStatus":null,"Architecture":"armv6l","OSType":"linux"}"#);
        assert_eq!(
            (arm.store(), arm.platform().to_string()),
            (Store::Classic, "linux/arm/v6".into())
        );
    }
}
