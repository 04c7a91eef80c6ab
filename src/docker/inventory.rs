//! What Docker has: its version, its store, and its images.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::api::info::{Info, Store, Version};
use super::api::{ApiVersion, Client};
use super::attach::{Disruption, HostFacts, Strategy};
use super::content::Accepts;
use super::platforms;
use super::space;
use super::store::content_of;
use super::substitutes;
use crate::docker::api::images;
use crate::error::Result;
use crate::image::Image;
use crate::image::graph::MAX_ALL_DESCRIPTORS;
use crate::load::{
    self, AttachMethod, Candidate, Candidates, KnownImage, LayerForms, Obstacle, Space, chains,
};
use crate::oci::{Descriptor, Digest, Document};

/// What Docker has.
pub type Inventory = load::Inventory<Details>;

/// The part of an inventory that only Docker has.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Details {
    /// The API version in use.
    pub api: ApiVersion,
    /// How it stores images.
    pub store: Store,
    /// Its storage driver or snapshotter.
    pub driver: String,
    /// Its data root, as it names it.
    pub data_root: String,
    /// Free space for images, if that is known.
    pub space: Option<Space>,
    /// Mirrors of docker.io.
    pub mirrors: Vec<String>,
    /// Whether it reports which content of an image is present.
    pub tells_content: bool,
    /// Methods of attaching digests, with their obstacles; the containerd store needs none.
    pub attach: Vec<AttachOption>,
    /// Facts about the host on which the choice of a method depends.
    pub host: HostFacts,
}

/// A method of attaching digests on this host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AttachOption {
    /// The method.
    #[serde(rename = "strategy")]
    pub method: AttachMethod,
    /// Whether the engine keeps running.
    pub disruption: Disruption,
    /// Its obstacles, whatever the name.
    pub obstacles: Vec<Obstacle>,
}

/// Asks an engine about the wanted images; without them, about everything.
///
/// # Errors
///
/// [`crate::Error::Engine`]; also if it is podman.
pub fn probe(
    client: &Client,
    strategies: &[Box<dyn Strategy>],
    wanted: Option<&Candidates<'_>>,
) -> Result<Inventory> {
    let version = Version::ask(client)?;
    if version.is_podman() {
        return Err(client.podman());
    }
    let info = Info::ask(client)?;
    let store = info.store();
    let tells_content = images::tells_content(client, store);
    let mut images = images::list(client, store)?;
    look_at_layers(client, store, &mut images, wanted)?;
    match (store, wanted) {
        (Store::Containerd, Some(wanted)) => {
            substitutes::look_at_configs(client, &mut images, wanted, tells_content);
        }
        (_, Some(_)) => {}
        (_, None) => substitutes::look_at_image_ids(client, store, &mut images),
    }
    let host = match store {
        Store::Containerd => HostFacts::default(),
        Store::Classic => HostFacts::look(client, &info),
    };
    let attach = match store {
        Store::Containerd => Vec::new(),
        Store::Classic => strategies
            .iter()
            .map(|strategy| AttachOption {
                method: strategy.method(),
                disruption: strategy.disruption(),
                obstacles: strategy.preflight(client, &info),
            })
            .collect(),
    };
    let platform = info.platform();
    let level = info.is_of_this_machine(client.endpoint()).then(platforms::level);
    let details = Details {
        api: client.version(),
        store,
        driver: info.driver.clone(),
        space: space::look(client, &info),
        data_root: info.docker_root_dir.display().to_string(),
        mirrors: info.mirrors(),
        tells_content,
        attach,
        host,
    };
    let inventory = Inventory {
        version: Some(version.version),
        platforms: platforms::taken(&platform, store, client.version(), level),
        platform: Some(platform),
        accepts: LayerForms {
            uncompressed: store == Store::Classic,
            zstd: store.reads_zstd(client.version()),
        },
        chains: unpacked(&images, store),
        unpacked_suffices: store == Store::Classic,
        blobs: match wanted {
            // A load asks which manifests are complete, and needs no list of blobs, unless an archive leaves some out.
            Some(wanted) if wanted.images.iter().all(|image| image.omitted.layers.is_empty()) => {
                BTreeMap::new()
            }
            _ => blobs(client, store, &images),
        },
        images,
        ..Inventory::new(client.endpoint().to_string(), details)
    };
    Ok(inventory.sorted())
}

/// The blobs of a containerd store's images, with their sizes. The engine does not list them: they are looked for in the
/// store's content folder, which needs root. Unreadable ones are omitted. A classic store keeps no layers as they were
/// stored.
fn blobs(client: &Client, store: Store, images: &[KnownImage]) -> BTreeMap<Digest, u64> {
    let mut blobs = BTreeMap::new();
    let folders = match store {
        Store::Classic => None,
        Store::Containerd => content_of(client).ok(),
    };
    let Some(folders) = folders else {
        return blobs;
    };
    let is_there = |part: &Descriptor| {
        let stored = folders.stored(&part.digest).ok().flatten();
        stored.is_some_and(|stored| stored.size == part.size)
    };
    let mut left: Vec<Digest> = images.iter().filter_map(|image| image.id.parse().ok()).collect();
    let mut seen = HashSet::new();
    while let Some(digest) = left.pop() {
        if seen.len() > MAX_ALL_DESCRIPTORS || !seen.insert(digest) {
            continue;
        }
        let Ok(Some(bytes)) = folders.metadata(&digest) else {
            continue;
        };
        blobs.insert(digest, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        match Document::sniff(&bytes).map(|kind| Document::parse(&kind, bytes)) {
            Some(Ok(Document::Manifest(manifest))) => {
                let parts = manifest.layers.iter().chain([&manifest.config]);
                let present = parts.filter(|part| is_there(part));
                blobs.extend(present.map(|part| (part.digest, part.size)));
            }
            Some(Ok(Document::Index(index))) => {
                left.extend(index.manifests.iter().map(|entry| entry.digest));
            }
            _ => {}
        }
    }
    blobs
}

/// The chains of layers that a store has unpacked.
pub fn unpacked(images: &[KnownImage], store: Store) -> BTreeSet<Digest> {
    chains(images.iter().filter(|image| match store {
        Store::Classic => true,
        // A snapshot may exist without the blob that it was unpacked from.
        Store::Containerd => !image.manifests.is_empty(),
    }))
}

/// Asks for the layers of the wanted images, unless the engine reports that all of them are present. If one is
/// missing, also for those of all other images, with which it may share layers.
fn look_at_layers(
    client: &Client,
    store: Store,
    images: &mut [KnownImage],
    wanted: Option<&Candidates<'_>>,
) -> Result<()> {
    let Some(wanted) = wanted else {
        return images::look_at_layers(client, images, |_| true);
    };
    let known = images::Known::of(images);
    let is_there = |candidate: &Candidate<'_>| {
        let root = known.get(&candidate.image.graph.root.digest);
        root.is_some_and(|known| candidate.image.graph.runnable().any(|image| known.has(image)))
    };
    if wanted.images.iter().all(is_there) {
        return Ok(());
    }
    let ids: HashSet<String> = wanted
        .images
        .iter()
        .flat_map(|candidate| match store {
            Store::Containerd => vec![candidate.image.graph.root.digest],
            Store::Classic => candidate.image.graph.runnable().map(Image::id).collect(),
        })
        .map(|id| id.to_string())
        .collect();
    images::look_at_layers(client, images, |known| ids.contains(&known.id))?;
    let known = images::Known::of(images);
    let has_layers = |id: &Digest, image: &Image| {
        let known = known.get(id);
        known.is_some_and(|known| {
            image
                .config
                .as_ref()
                .is_some_and(|config| config.diff_ids == known.diff_ids)
        })
    };
    let is_there = |candidate: &Candidate<'_>| {
        candidate.image.graph.runnable().any(|image| match store {
            Store::Containerd => has_layers(&candidate.image.graph.root.digest, image),
            Store::Classic => has_layers(&image.id(), image),
        })
    };
    if !images::tells_content(client, store) && wanted.images.iter().all(is_there) {
        return Ok(());
    }
    images::look_at_layers(client, images, |known| !ids.contains(&known.id))
}

impl super::Docker {
    /// Everything that the engine has.
    ///
    /// # Errors
    ///
    /// As [`probe`].
    pub fn inventory(&self) -> Result<Inventory> {
        probe(&self.client, &self.strategies, None)
    }
}

impl Inventory {
    /// The forms of content that the engine accepts, and the layers that it has.
    pub fn accepts(&self) -> Accepts {
        Accepts {
            store: self.details.store,
            zstd: self.accepts.zstd,
            chains: self.chains.iter().copied().collect(),
        }
    }

    /// The result for a method of attaching digests.
    pub fn option(&self, method: AttachMethod) -> Option<&AttachOption> {
        self.details.attach.iter().find(|option| option.method == method)
    }
}
