//! What a Docker has: its version and store, and the images that it holds.

use std::collections::HashSet;

use super::api::{ApiVersion, Client};
use super::attach::{Manner, Strategy, Surroundings};
use super::endpoint::Endpoint;
use crate::docker::api::images::{self, Held};
use super::plan::Takes;
use super::platforms;
use super::space::Space;
use crate::error::Result;
use crate::oci::{Digest, Hasher, Image, Platform};
use crate::target::{Obstacle, Offer, Offers};

/// From this version of the API on (Docker 23), layers may be zstd.
const ZSTD_SINCE: ApiVersion = ApiVersion { major: 1, minor: 42 };

/// How a Docker keeps images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// A graph driver: layers unpacked, digests forgotten unless they came by a pull.
    Classic,
    /// containerd's content store and a snapshotter.
    Containerd,
}

/// What a Docker told about itself.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Inventory {
    /// Where it is.
    pub engine: String,
    /// Its version.
    pub version: String,
    /// The version of the API that is spoken.
    pub api: ApiVersion,
    /// How it keeps images.
    pub store: Store,
    /// Its storage driver or snapshotter.
    pub driver: String,
    /// The platform that it runs.
    #[serde(serialize_with = "Platform::serialize_text")]
    pub platform: Platform,
    /// Those that it takes from an index, the best first.
    #[serde(serialize_with = "Platform::serialize_texts")]
    pub platforms: Vec<Platform>,
    /// Where it keeps its data, as it sees it.
    pub data_root: String,
    /// Free room where it keeps images, if that can be known.
    pub space: Option<Space>,
    /// Mirrors of docker.io.
    pub mirrors: Vec<String>,
    /// Whether it reads zstd layers.
    pub zstd: bool,
    /// Whether it can tell what content of an image is there.
    pub tells_content: bool,
    /// The images that it holds.
    pub images: Vec<Held>,
    /// Ways to attach digests, with what is in the way of each; the containerd store needs none.
    pub attach: Vec<Way>,
    /// What of the host the choice of a way depends on.
    pub surroundings: Surroundings,
}

/// A way to attach digests on this host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Way {
    /// The strategy's name.
    pub strategy: &'static str,
    /// Whether the engine keeps running.
    pub manner: Manner,
    /// What is in the way, whatever the name. Empty if nothing is.
    pub obstacles: Vec<Obstacle>,
}

/// `GET /info`, as far as it matters.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    driver: String,
    #[serde(default)]
    driver_status: Option<Vec<(String, String)>>,
    #[serde(default)]
    architecture: String,
    #[serde(rename = "OSType", default)]
    os_type: String,
    #[serde(default)]
    docker_root_dir: String,
    #[serde(default)]
    kernel_version: String,
    #[serde(default)]
    mem_total: u64,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
    #[serde(default)]
    components: Option<Vec<Component>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    name: String,
}

/// Asks an engine for what matters to the images that are wanted; without them, for everything.
///
/// # Errors
///
/// [`crate::Error::Engine`]; also if it is podman.
pub fn probe(
    client: &Client,
    strategies: &[Box<dyn Strategy>],
    wanted: Option<&Offers<'_>>,
) -> Result<Inventory> {
    let action = "ask what it has";
    let version: Version = client.get(action, "/version")?;
    let components = version.components.iter().flatten();
    if components
        .map(|component| &component.name)
        .any(|name| name.contains("Podman"))
    {
        return Err(client.podman());
    }
    let info: Info = client.get(action, "/info")?;
    let store = store(&info);
    let tells_content = images::tells_content(client, store);
    let mut images = images::list(client, store)?;
    look_at_layers(client, store, &mut images, wanted)?;
    let surroundings = match store {
        Store::Containerd => Surroundings::default(),
        Store::Classic => Surroundings::look(client),
    };
    let attach = match store {
        Store::Containerd => Vec::new(),
        Store::Classic => strategies
            .iter()
            .map(|strategy| Way {
                strategy: strategy.name(),
                manner: strategy.manner(),
                obstacles: strategy.preflight(client),
            })
            .collect(),
    };
    let platform = platform(&info);
    let level = is_here(client, &info).then(platforms::level);
    Ok(Inventory {
        engine: client.endpoint().to_string(),
        version: version.version,
        api: client.version(),
        store,
        platforms: platforms::taken(&platform, store, client.version(), level),
        platform,
        driver: info.driver,
        space: Space::look(client, store, &info.docker_root_dir),
        data_root: info.docker_root_dir,
        mirrors: crate::docker::daemon::process::memory(client)?.mirrors(),
        zstd: reads_zstd(store, client),
        tells_content,
        images,
        attach,
        surroundings,
    })
}

fn store(info: &Info) -> Store {
    let status = info.driver_status.iter().flatten();
    let is_containerd = status
        .filter(|(key, _)| key == "driver-type")
        .any(|(_, value)| value.starts_with("io.containerd.snapshotter"));
    if is_containerd {
        Store::Containerd
    } else {
        Store::Classic
    }
}

/// Whether the engine runs on this machine: a socket may lead to another one, or into a virtual one.
fn is_here(client: &Client, info: &Info) -> bool {
    let Endpoint::Unix(_) = client.endpoint() else {
        return false;
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let bytes = kilobytes.and_then(|text| text.parse::<u64>().ok()?.checked_mul(1024));
    kernel.trim() == info.kernel_version && bytes == Some(info.mem_total)
}

/// `Architecture` is what `uname` says, so the variant of an arm is in it.
fn platform(info: &Info) -> Platform {
    let (architecture, variant) = match info.architecture.as_str() {
        "x86_64" => ("amd64", None),
        "aarch64" => ("arm64", None),
        "armv8l" | "armv7l" => ("arm", Some("v7")),
        "armv6l" => ("arm", Some("v6")),
        other => (other, None),
    };
    Platform {
        os: info.os_type.clone(),
        ..Platform::linux(architecture, variant)
    }
}

/// Asks for the layers of the images that are wanted, unless the engine tells that all of them are there; where one is
/// not, for those of all others too, with which it may share layers.
fn look_at_layers(
    client: &Client,
    store: Store,
    images: &mut [Held],
    wanted: Option<&Offers<'_>>,
) -> Result<()> {
    let Some(wanted) = wanted else {
        return images::look_at_layers(client, images, |_| true);
    };
    let known = images::Known::of(images);
    let is_there = |offer: &Offer<'_>| {
        let root = known.get(&offer.graph.root.digest);
        root.is_some_and(|held| offer.graph.runnable().any(|image| held.has(image)))
    };
    if wanted.images.iter().all(is_there) {
        return Ok(());
    }
    let ids: HashSet<String> = wanted
        .images
        .iter()
        .flat_map(|offer| match store {
            Store::Containerd => vec![offer.graph.root.digest],
            Store::Classic => offer.graph.runnable().map(Image::id).collect(),
        })
        .map(|id| id.to_string())
        .collect();
    images::look_at_layers(client, images, |held| ids.contains(&held.id))?;
    let known = images::Known::of(images);
    let has_layers = |id: &Digest, image: &Image| {
        let held = known.get(id);
        held.is_some_and(|held| {
            image
                .config
                .as_ref()
                .is_some_and(|config| config.diff_ids == held.diff_ids)
        })
    };
    let is_there = |offer: &Offer<'_>| {
        offer.graph.runnable().any(|image| match store {
            Store::Containerd => has_layers(&offer.graph.root.digest, image),
            Store::Classic => has_layers(&image.id(), image),
        })
    };
    if !images::tells_content(client, store) && wanted.images.iter().all(is_there) {
        return Ok(());
    }
    images::look_at_layers(client, images, |held| !ids.contains(&held.id))
}

/// How an engine keeps images, and its version.
///
/// # Errors
///
/// [`crate::Error::Engine`].
pub fn store_of(client: &Client) -> Result<(Store, String)> {
    let action = "ask what it is";
    let version: Version = client.get(action, "/version")?;
    let info: Info = client.get(action, "/info")?;
    Ok((store(&info), version.version))
}

/// In what form an engine takes content; nothing is left out.
///
/// # Errors
///
/// [`crate::Error::Engine`].
pub fn takes(client: &Client) -> Result<Takes> {
    let info: Info = client.get("ask what it has", "/info")?;
    let store = store(&info);
    Ok(Takes {
        store,
        zstd: reads_zstd(store, client),
        chains: HashSet::new(),
    })
}

fn reads_zstd(store: Store, client: &Client) -> bool {
    store == Store::Containerd || client.version() >= ZSTD_SINCE
}

impl Inventory {
    /// The chains of layers that are there: identified as engines do it, by the chain id of each prefix.
    ///
    /// Source: OCI image specification, "Layer ChainID".
    pub fn chains(&self) -> HashSet<Digest> {
        let known = self.images.iter().filter(|image| match self.store {
            Store::Classic => true,
            // A snapshot may be there without the blob that it came from.
            Store::Containerd => !image.manifests.is_empty(),
        });
        known.flat_map(|image| chain_ids(&image.diff_ids)).collect()
    }

    /// What was found of a way to attach digests.
    pub fn way(&self, strategy: &str) -> Option<&Way> {
        self.attach.iter().find(|way| way.strategy == strategy)
    }

    /// The image with this id.
    pub fn image(&self, id: &Digest) -> Option<&Held> {
        let id = id.to_string();
        self.images.iter().find(|image| image.id == id)
    }
}

/// The chain id of each prefix of a list of layers, base first.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let chain = match chains.last() {
            None => *diff_id,
            Some(parent) => {
                let mut hasher = Hasher::sha256();
                hasher.update(format!("{parent} {diff_id}").as_bytes());
                hasher.finish()
            }
        };
        chains.push(chain);
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_as_engines_name_them() {
        // What containerd's store of Docker 28 labels the config of an image of these layers with.
        let layers = [
            "sha256:f6f19fe88ae188055d9822fd65343474de176ae4082ac480937e66d0f8d5f09d",
            "sha256:6598fb21506deedbb2d8f85be794940a005ebb5e2c88878b4cc4c5b8f65f1527",
            "sha256:05628862c36c5599888db5f9769d7c2b21c8a97dab67e2f44cda60e8e0e64dc5",
        ];
        let layers: Vec<Digest> = layers.iter().map(|text| text.parse().unwrap()).collect();
        let chains = chain_ids(&layers);
        assert_eq!(chains[0], layers[0]);
        let snapshot = "sha256:b08fe50de760f7612a96f81733c70f6eedcd7af48afa24f9563c3da9018ff41c";
        assert_eq!(chains[2].to_string(), snapshot);
        assert_eq!(chain_ids(&[]), []);
    }

    #[test]
    fn the_store_and_platform_are_read_from_info() {
        let info = |text: &str| serde_json::from_str::<Info>(text).unwrap();
        let classic = info(
            r#"{"Driver":"overlay2","DriverStatus":[["Backing Filesystem","extfs"]],"Architecture":"x86_64","OSType":"linux"}"#,
        );
        assert_eq!(store(&classic), Store::Classic);
        assert_eq!(platform(&classic).to_string(), "linux/amd64");
        let containerd = info(
            r#"{"Driver":"overlayfs","DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]],"Architecture":"aarch64","OSType":"linux"}"#,
        );
        assert_eq!(store(&containerd), Store::Containerd);
        assert_eq!(platform(&containerd).to_string(), "linux/arm64");
        let arm = info(r#"{"Driver":"vfs","DriverStatus":null,"Architecture":"armv6l","OSType":"linux"}"#);
        assert_eq!(
            (store(&arm), platform(&arm).to_string()),
            (Store::Classic, "linux/arm/v6".into())
        );
    }
}
