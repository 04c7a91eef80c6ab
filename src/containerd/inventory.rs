//! What a containerd has: its image records, and of the wanted images the blobs and the unpacked layers.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Containerd;
use super::address::NamespaceReason;
use super::content::Content;
use super::images::Images;
use super::snapshots::{self, Snapshotter};
pub use super::space::FreeSpace;
use super::substitutes;
use crate::error::Result;
use crate::load::{self, Candidates, KnownImage, LayerForms};
use crate::oci::{Digest, Platform, Reference};

/// What a containerd has.
pub type Inventory = load::Inventory<Details>;

/// The part of an inventory that only containerd has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Details {
    /// Why the namespace was chosen.
    pub reason: NamespaceReason,
    /// Whether CRI is offered for the namespace.
    pub has_cri: bool,
    /// The snapshotter that layers are unpacked into.
    pub snapshotter: String,
    /// All image records: each name, and the digest that it stands for.
    pub records: BTreeMap<String, String>,
    /// Free space.
    pub space: FreeSpace,
}

impl Containerd {
    /// Everything that it has in the namespace.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Engine`].
    pub fn inventory(&self) -> Result<Inventory> {
        let blobs = Content::new(&self.client).list()?;
        let blobs = blobs.into_iter();
        let blobs = blobs.filter_map(|(digest, size)| Some((digest.parse().ok()?, size)));
        let snapshots = Snapshotter::new(&self.client, &self.snapshotter, "").list()?;
        let chains = snapshots.iter().filter_map(|name| name.parse().ok());
        self.with_content(blobs.collect(), chains.collect())
    }

    /// What it has of the wanted images, and all names.
    pub(super) fn look(&self, wanted: &Candidates<'_>) -> Result<Inventory> {
        let mut inventory = self.with_content(self.blobs(wanted)?, self.chains(wanted)?)?;
        substitutes::look_at_configs(&self.client, &mut inventory.images, wanted, &inventory.chains);
        Ok(inventory)
    }

    fn with_content(&self, blobs: BTreeMap<Digest, u64>, chains: BTreeSet<Digest>) -> Result<Inventory> {
        let records = self.records()?;
        let platform = Platform::host();
        let details = Details {
            reason: self.namespace.reason,
            has_cri: self.has_cri,
            snapshotter: self.snapshotter.clone(),
            records,
            space: self.free_space(),
        };
        let inventory = Inventory {
            version: Some(self.version.clone()),
            namespace: Some(self.namespace.name.clone()),
            platforms: platform.runs(),
            platform: Some(platform),
            accepts: LayerForms {
                uncompressed: false,
                zstd: true,
            },
            images: known(&details.records),
            blobs,
            chains,
            unpacked_suffices: self.options.unpacks,
            ..Inventory::new(self.client.address().engine(), details)
        };
        Ok(inventory.sorted())
    }

    /// All image records.
    pub(super) fn records(&self) -> Result<BTreeMap<String, String>> {
        let records = Images::new(&self.client).list()?.into_iter();
        let records = records.map(|record| (record.name, record.target.unwrap_or_default().digest));
        Ok(records.collect())
    }

    /// The blobs of the wanted images that it has, also those of their indexes that are not wanted: what it shows
    /// depends on them.
    fn blobs(&self, wanted: &Candidates<'_>) -> Result<BTreeMap<Digest, u64>> {
        let content = Content::new(&self.client);
        let mut blobs = BTreeMap::new();
        let mut seen = HashSet::new();
        let all = wanted.images.iter();
        let digests = all.flat_map(|candidate| {
            let graph = &candidate.image.graph;
            let entries = graph.indexes.iter().flat_map(|(_, index)| &index.manifests);
            let entries = entries.map(|entry| entry.digest);
            let referrers = candidate.image.referrers.iter();
            let referrers = referrers.flat_map(|referrer| referrer.graph.blobs());
            let blobs = graph.blobs().into_iter().chain(referrers);
            blobs.map(|blob| blob.digest).chain(entries)
        });
        for digest in digests {
            if !seen.insert(digest) {
                continue;
            }
            if let Some(found) = content.find(&digest)? {
                blobs.insert(digest, found.size);
            }
        }
        Ok(blobs)
    }

    /// The chains of layers of the wanted images that it has unpacked.
    fn chains(&self, wanted: &Candidates<'_>) -> Result<BTreeSet<Digest>> {
        let snapshotter = Snapshotter::new(&self.client, &self.snapshotter, "");
        let mut chains = BTreeSet::new();
        let mut missing = HashSet::new();
        let all = wanted.images.iter();
        for image in all.flat_map(|candidate| candidate.image.graph.runnable()) {
            let layers = snapshots::layers(image);
            for (at, layer) in layers.iter().enumerate().rev() {
                if chains.contains(&layer.chain) {
                    break;
                }
                if missing.contains(&layer.chain) {
                    continue;
                }
                if snapshotter.has(&layer.chain)? {
                    // A snapshot keeps those below it.
                    chains.extend(layers.iter().take(at + 1).map(|layer| layer.chain));
                    break;
                }
                missing.insert(layer.chain);
            }
        }
        Ok(chains)
    }
}

/// Images by the digests that names stand for.
fn known(records: &BTreeMap<String, String>) -> Vec<KnownImage> {
    let mut images: BTreeMap<&str, KnownImage> = BTreeMap::new();
    for (name, digest) in records {
        let image = images.entry(digest).or_insert_with(|| KnownImage::new(digest));
        match name.parse::<Reference>() {
            Ok(reference) if reference.digest().is_some() => image.digests.push(name.clone()),
            Ok(_) => image.tags.push(name.clone()),
            // CRI's record of an image id, or a name that only its client understands.
            Err(_) => {}
        }
    }
    images.into_values().collect()
}
