//! What the engines of a host have: the document that an offline host writes, and that a save reads elsewhere.
//!
//! An inventory is untrusted. One that lies leads to an archive that the host cannot load, and never to one with other
//! content or names than it says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::target::has_layer;
use super::{Inventory, KnownImage, LayerForms, namespace};
use crate::error::{Error, Remedy, Result};
use crate::escape::Escaped;
use crate::oci::{Descriptor, Digest, Platform, json, platform};

/// The version of the document.
const SCHEMA: u32 = 1;
/// The largest document that is read, in bytes: thousands of images have some 20 MB.
const MAX_SIZE: u64 = 64 << 20;
/// The longest label of a host, in characters.
pub const MAX_LABEL: usize = 256;

/// What the engines of a host have. Equal content makes equal documents.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct HostInventory {
    /// The version of this document.
    schema: u32,
    /// A label for people, such as the host's name.
    pub host: Option<String>,
    /// Its engines.
    pub engines: Vec<EngineInventory>,
}

/// What an engine has: an [`Inventory`] without the details of its kind.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EngineInventory {
    /// Its kind, such as `docker`.
    pub engine: String,
    /// As [`Inventory::target`].
    pub target: String,
    /// As [`Inventory::version`].
    pub version: Option<String>,
    /// As [`Inventory::namespace`].
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "namespace::optional"
    )]
    pub namespace: Option<String>,
    /// As [`Inventory::platform`].
    #[serde(with = "platform::optional_text")]
    pub platform: Option<Platform>,
    /// As [`Inventory::platforms`].
    #[serde(with = "platform::texts")]
    pub platforms: Vec<Platform>,
    /// As [`Inventory::accepts`].
    pub accepts: LayerForms,
    /// As [`Inventory::images`].
    pub images: Vec<KnownImage>,
    /// As [`Inventory::blobs`].
    pub blobs: BTreeMap<Digest, u64>,
    /// As [`Inventory::chains`].
    pub chains: BTreeSet<Digest>,
    /// As [`Inventory::unpacked_suffices`].
    pub unpacked_suffices: bool,
}

impl EngineInventory {
    /// The inventory of an engine of this kind.
    pub fn new<D>(engine: impl Into<String>, inventory: Inventory<D>) -> EngineInventory {
        let inventory = inventory.sorted();
        EngineInventory {
            engine: engine.into(),
            target: inventory.target,
            version: inventory.version,
            namespace: inventory.namespace,
            platform: inventory.platform,
            platforms: inventory.platforms,
            accepts: inventory.accepts,
            images: inventory.images,
            blobs: inventory.blobs,
            chains: inventory.chains,
            unpacked_suffices: inventory.unpacked_suffices,
        }
    }

    /// Whether the engine tells which content is there, and lacks some of an image of it.
    pub fn lacks_content(&self, image: &KnownImage) -> bool {
        let mut images = self.images.iter();
        image.available.is_empty() && images.any(|image| !image.available.is_empty())
    }

    /// As [`Inventory::has_layer`].
    pub fn has_layer(&self, layer: &Descriptor, chain: Option<&Digest>) -> bool {
        let chains = self.unpacked_suffices.then_some(&self.chains);
        has_layer(&self.blobs, chains, layer, chain)
    }
}

impl HostInventory {
    /// The inventory of a host with these engines.
    pub fn new(host: Option<String>, mut engines: Vec<EngineInventory>) -> HostInventory {
        engines.sort_by(|one, other| (&one.engine, &one.target).cmp(&(&other.engine, &other.target)));
        HostInventory {
            schema: SCHEMA,
            host,
            engines,
        }
    }
}

/// Which inventory: the digest of its document, its label, and the namespaces that it is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct InventoryId {
    /// Digest of the document.
    #[serde(rename = "inventory")]
    pub digest: Digest,
    /// As [`HostInventory::host`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The namespaces of its engines that have images, sorted. Older documents do not name them.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "namespace::several"
    )]
    pub namespaces: Vec<String>,
}

impl fmt::Display for InventoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_ref().map(|host| Escaped(host).to_string());
        let namespaces = self.namespaces.iter();
        let namespaces = namespaces.map(|name| format!("namespace {}", Escaped(name)));
        let about: Vec<String> = host.into_iter().chain(namespaces).collect();
        match about.is_empty() {
            true => self.digest.fmt(f),
            false => write!(f, "{} ({})", self.digest, about.join(", ")),
        }
    }
}

/// A host whose inventory was read.
#[derive(Debug, Clone)]
pub struct KnownHost {
    /// Which inventory it is.
    pub id: InventoryId,
    /// The engines that have images. One without images is not in use, and none of its content counts.
    pub engines: Vec<EngineInventory>,
}

impl KnownHost {
    /// Reads the inventory of a host from a file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read; [`Error::Usage`] if it is not an inventory.
    pub fn read(path: &Path) -> Result<KnownHost> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(Error::io("open", path))?;
        let read = file.take(MAX_SIZE.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(Error::io("read", path))?;
        KnownHost::parse(&bytes, &path.display().to_string())
    }

    /// Parses the inventory of a host; `label` is its name in messages.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if it is malformed, of another version, or too large.
    pub fn parse(bytes: &[u8], label: &str) -> Result<KnownHost> {
        #[derive(serde::Deserialize)]
        struct Peek {
            schema: Option<serde_json::Value>,
        }
        let refuse = |why: String| {
            Err(Error::Usage {
                message: format!("{}: {why}", Escaped(label)),
                hint: Some(Remedy::WriteInventory.into()),
            })
        };
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_SIZE {
            return refuse(format!(
                "larger than {MAX_SIZE} bytes, the most that an inventory may have"
            ));
        }
        match json::from_slice::<Peek>(bytes) {
            Err(error) => return refuse(format!("this is not an inventory: {error}")),
            Ok(Peek { schema: None }) => return refuse("this is not an inventory: it has no schema".into()),
            Ok(Peek { schema: Some(found) }) if found != SCHEMA => {
                return refuse(format!(
                    "an inventory of schema {found}, and only {SCHEMA} is known"
                ));
            }
            Ok(_) => {}
        }
        let inventory: HostInventory = match serde_json::from_slice(bytes) {
            Ok(inventory) => inventory,
            Err(error) => return refuse(format!("this is not an inventory: {error}")),
        };
        if let Some(host) = &inventory.host
            && host.chars().count() > MAX_LABEL
        {
            return refuse(format!("its label has more than {MAX_LABEL} characters"));
        }
        let mut engines = inventory.engines;
        engines.retain(|engine| !engine.images.is_empty());
        let namespaces: BTreeSet<&String> = engines.iter().filter_map(|one| one.namespace.as_ref()).collect();
        Ok(KnownHost {
            id: InventoryId {
                digest: Digest::sha256(bytes),
                host: inventory.host,
                namespaces: namespaces.into_iter().cloned().collect(),
            },
            engines,
        })
    }

    /// Whether every engine of the host takes an image without the blob of a layer: which of them the archive will be
    /// loaded into is not known.
    pub fn has_layer(&self, layer: &Descriptor, chain: Option<&Digest>) -> bool {
        let mut engines = self.engines.iter();
        !self.engines.is_empty() && engines.all(|engine| engine.has_layer(layer, chain))
    }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
