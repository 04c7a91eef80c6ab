//! Unpacking: a layer's tar becomes a snapshot above its parent's.
//!
//! Source: containerd, `core/unpack/unpacker.go` and `pkg/rootfs/apply.go`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::api::diff::diff_client::DiffClient;
use super::api::diff::{ApplyRequest, DiffRequest};
use super::api::snapshots::snapshots_client::SnapshotsClient;
use super::api::snapshots::{
    CommitSnapshotRequest, Info, Kind, ListSnapshotsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
    StatSnapshotRequest, ViewSnapshotRequest,
};
use super::api::types::Mount;
use super::client::{Client, MAX_LIST, MAX_MESSAGE};
use super::images::wire;
use super::labels::Labels;
use crate::error::{Error, Place, Problem, Result};
use crate::image::Image;
use crate::oci::{Descriptor, Digest, MediaType, chain_ids};

/// On a snapshot: the name under which it is asked for, also by remote snapshotters.
const REFERENCE: &str = "containerd.io/snapshot.ref";

/// How long the end of a snapshot in progress that is not needed any more is waited for.
const LONGEST_DISCARD: Duration = Duration::from_secs(5);

/// A snapshotter of containerd.
pub struct Snapshotter<'c> {
    client: &'c Client,
    name: String,
    prefix: String,
    /// Numbers the snapshots in progress.
    next: AtomicU64,
}

/// A snapshot that is only read.
#[derive(Default)]
struct View {
    /// Its key; empty if there is none.
    key: String,
    mounts: Vec<Mount>,
}

/// A layer to unpack.
#[derive(Clone)]
pub struct Layer<'l> {
    /// Its blob, in the stored form.
    pub blob: &'l Descriptor,
    /// The digest of its tar.
    pub diff_id: Digest,
    /// The chain id of the layers below; `None` for the base.
    pub parent: Option<Digest>,
    /// The chain id of all layers up to this one.
    pub chain: Digest,
}

/// The layers of an image, base first.
pub fn layers(image: &Image) -> Vec<Layer<'_>> {
    let diff_ids = image.config.as_deref().map(|config| config.diff_ids.as_slice());
    let diff_ids = diff_ids.unwrap_or_default();
    let chains = chain_ids(diff_ids);
    let parents = std::iter::once(None).chain(chains.iter().copied().map(Some));
    let layers = image.manifest.layers.iter().zip(diff_ids);
    let layers = layers.zip(parents.zip(chains.iter().copied()));
    layers
        .map(|((blob, diff_id), (parent, chain))| Layer {
            blob,
            diff_id: *diff_id,
            parent,
            chain,
        })
        .collect()
}

impl<'c> Snapshotter<'c> {
    /// A snapshotter by its name. The names of snapshots in progress begin with `prefix`, which is unique.
    pub fn new(client: &'c Client, name: &str, prefix: &str) -> Snapshotter<'c> {
        Snapshotter {
            client,
            name: name.into(),
            prefix: prefix.into(),
            next: AtomicU64::new(0),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn stub(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.client.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Whether the layers of a chain are unpacked.
    ///
    /// # Errors
    ///
    /// If containerd cannot be asked.
    pub fn has(&self, chain: &Digest) -> Result<bool> {
        let mut stub = self.stub();
        let request = self.client.request(StatSnapshotRequest {
            snapshotter: self.name.clone(),
            key: chain.to_string(),
        });
        let found = self.client.find("look for a snapshot", stub.stat(request))?;
        Ok(found.is_some())
    }

    /// The names of all snapshots that are complete.
    ///
    /// # Errors
    ///
    /// If containerd cannot be asked.
    pub fn list(&self) -> Result<Vec<String>> {
        Ok(self.complete()?.map(|snapshot| snapshot.name).collect())
    }

    fn complete(&self) -> Result<impl Iterator<Item = Info> + use<>> {
        let mut stub = self.stub();
        let request = self.client.request(ListSnapshotsRequest {
            snapshotter: self.name.clone(),
            filters: Vec::new(),
        });
        let action = "list snapshots";
        let listed = self.client.wait(action, stub.list(request))?;
        let snapshots = self.client.collect(action, listed, MAX_LIST, |part| part.info)?;
        let snapshots = snapshots.into_iter();
        Ok(snapshots.filter(|snapshot| snapshot.kind() == Kind::Committed))
    }

    /// The names of a snapshot that a layer was unpacked into, and of its parent.
    ///
    /// # Errors
    ///
    /// If containerd cannot be asked.
    pub fn find_layer(&self, diff_id: &Digest) -> Result<Option<(String, Option<String>)>> {
        let is_meant = |snapshot: &Info| match snapshot.parent.as_str() {
            "" => snapshot.name == diff_id.to_string(),
            // As `chain_ids` has it.
            parent => snapshot.name == Digest::sha256(format!("{parent} {diff_id}").as_bytes()).to_string(),
        };
        let found = self.complete()?.find(is_meant);
        Ok(found.map(|found| (found.name, Some(found.parent).filter(|parent| !parent.is_empty()))))
    }

    /// Has containerd write the tar of what a snapshot adds to its parent, under the client's lease. Returns its digest and
    /// its bytes; `None` if this containerd cannot.
    ///
    /// Source: containerd, `pkg/rootfs/diff.go` (`CreateDiff`).
    ///
    /// # Errors
    ///
    /// If the call fails.
    pub fn diff(
        &self,
        chain: &str,
        parent: Option<&str>,
        check_work: &dyn Fn() -> Result<()>,
    ) -> Result<Option<(Digest, u64)>> {
        let lower = match parent {
            Some(parent) => self.view(parent, check_work)?,
            None => View::default(),
        };
        let upper = self.view(chain, check_work)?;
        let request = self.client.request(DiffRequest {
            left: lower.mounts,
            right: upper.mounts,
            media_type: MediaType::OCI_LAYER.into(),
            r#ref: format!("{} {chain}", self.prefix),
        });
        let mut stub = DiffClient::new(self.client.channel());
        let written = self.client.wait_long(stub.diff(request), check_work)?;
        for key in [lower.key, upper.key].iter().filter(|key| !key.is_empty()) {
            self.discard(key);
        }
        let written = match written {
            Ok(written) => written.into_inner().diff,
            Err(status) if status.code() == Code::Unimplemented => None,
            Err(status) => {
                let action = format!("write the layer of snapshot {chain}");
                return Err(self.client.address().error(&action, &status));
            }
        };
        let found = written.and_then(|written| {
            let digest = written.digest.parse().ok()?;
            Some((digest, u64::try_from(written.size).ok()?))
        });
        Ok(found)
    }

    /// A view of a snapshot.
    fn view(&self, of: &str, check_work: &dyn Fn() -> Result<()>) -> Result<View> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let key = format!("{}-{number} {of}", self.prefix);
        let mut stub = self.stub();
        let request = self.client.request(ViewSnapshotRequest {
            snapshotter: self.name.clone(),
            key: key.clone(),
            parent: of.into(),
            labels: Labels::new(),
        });
        let viewed = self.client.wait_long(stub.view(request), check_work)?;
        let viewed = viewed.map_err(|status| self.client.address().error("view a snapshot", &status))?;
        Ok(View {
            key,
            mounts: viewed.into_inner().mounts,
        })
    }

    /// Unpacks a layer whose parent is there, and compares the digest of its tar with the diff id. `ensure` gets a blob with
    /// the tar there; it is not called if the layer is unpacked already, which the client's lease keeps from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the tar is not what the config says; no snapshot is left then.
    pub fn unpack(
        &self,
        layer: &Layer<'_>,
        ensure: impl FnOnce() -> Result<Descriptor>,
        check_work: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let key = format!("{}-{number} {}", self.prefix, layer.chain);
        let Some(mounts) = self.prepare(layer, &key, check_work)? else {
            return Ok(());
        };
        let unpacked = ensure().and_then(|blob| self.apply(layer, &blob, mounts, check_work));
        match unpacked.and_then(|()| self.commit(layer, &key, check_work)) {
            Ok(true) => Ok(()),
            // A pull was faster.
            Ok(false) => self.remove(&key),
            Err(error) => {
                self.discard(&key);
                Err(error)
            }
        }
    }

    /// Prepares the snapshot of a layer; `None` if the layer is unpacked already.
    fn prepare(
        &self,
        layer: &Layer<'_>,
        key: &str,
        check_work: &dyn Fn() -> Result<()>,
    ) -> Result<Option<Vec<Mount>>> {
        let attempt = || {
            let mut stub = self.stub();
            let request = self.client.request(PrepareSnapshotRequest {
                snapshotter: self.name.clone(),
                key: key.into(),
                parent: layer.parent.map(|parent| parent.to_string()).unwrap_or_default(),
                labels: labels_of(layer),
            });
            // Some snapshotters copy the parent.
            self.client.wait_long(stub.prepare(request), check_work)
        };
        let prepared = match attempt()? {
            Err(status) if is_of_killed(&status) => attempt()?,
            other => other,
        };
        match prepared {
            Ok(prepared) => Ok(Some(prepared.into_inner().mounts)),
            Err(status) if status.code() == Code::AlreadyExists && self.has(&layer.chain)? => Ok(None),
            Err(status) => Err(self.failed(layer, &status)),
        }
    }

    fn apply(
        &self,
        layer: &Layer<'_>,
        blob: &Descriptor,
        mounts: Vec<Mount>,
        check_work: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let request = self.client.request(ApplyRequest {
            diff: Some(wire(blob)),
            mounts,
        });
        let mut diff = DiffClient::new(self.client.channel());
        let applied = self.client.wait_long(diff.apply(request), check_work)?;
        let applied = applied
            .map_err(|status| self.failed(layer, &status))?
            .into_inner();
        let found = applied.applied.map(|tar| tar.digest).unwrap_or_default();
        check(layer, &found)
    }

    /// Gives the snapshot its name. False if another client was faster.
    fn commit(&self, layer: &Layer<'_>, key: &str, check_work: &dyn Fn() -> Result<()>) -> Result<bool> {
        let mut stub = self.stub();
        let request = self.client.request(CommitSnapshotRequest {
            snapshotter: self.name.clone(),
            name: layer.chain.to_string(),
            key: key.into(),
            labels: labels_of(layer),
        });
        // Its size is determined file by file.
        match self.client.wait_long(stub.commit(request), check_work)? {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::AlreadyExists => Ok(false),
            Err(status) => Err(self.failed(layer, &status)),
        }
    }

    fn failed(&self, layer: &Layer<'_>, status: &Status) -> Error {
        let action = format!("unpack layer {}", layer.blob.digest);
        self.client.address().error(&action, status)
    }

    /// Removes a snapshot in progress.
    fn remove(&self, key: &str) -> Result<()> {
        let mut stub = self.stub();
        let removal = stub.remove(self.removal(key));
        self.client.remove("remove a snapshot", removal)
    }

    /// Removes a snapshot in progress if that is possible at once. The lease's removal removes it otherwise.
    fn discard(&self, key: &str) {
        let mut stub = self.stub();
        let removal = stub.remove(self.removal(key));
        let _ = self.client.within(LONGEST_DISCARD, removal);
    }

    fn removal(&self, key: &str) -> Request<RemoveSnapshotRequest> {
        self.client.request(RemoveSnapshotRequest {
            snapshotter: self.name.clone(),
            key: key.into(),
        })
    }
}

/// Whether a folder is in the way of a new snapshot. A containerd that was killed while it created a snapshot leaves it;
/// the attempt that fails because of it removes it.
///
/// Source: containerd, `plugins/snapshots/overlay/overlay.go` (`createSnapshot`).
fn is_of_killed(status: &Status) -> bool {
    status.message().contains("failed to rename") && status.message().contains("file exists")
}

fn labels_of(layer: &Layer<'_>) -> Labels {
    Labels::from([(REFERENCE.to_string(), layer.chain.to_string())])
}

/// Compares what containerd has unpacked with the config.
fn check(layer: &Layer<'_>, found: &str) -> Result<()> {
    match found.parse::<Digest>() {
        Ok(found) if found == layer.diff_id => Ok(()),
        Ok(found) => {
            let problem = Problem::DiffIdDiffers {
                expected: layer.diff_id,
                found,
            };
            Err(Error::refused(Place::blob(layer.blob.digest), problem))
        }
        Err(error) => {
            let problem = Problem::BadDigest {
                reason: error.to_string(),
            };
            Err(Error::refused(Place::blob(layer.blob.digest), problem))
        }
    }
}
