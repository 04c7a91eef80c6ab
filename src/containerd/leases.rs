//! Leases: what a load creates is not collected while it has no name yet.
//!
//! Source: containerd, `core/leases` and `docs/garbage-collection.md`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tonic::transport::Channel;

use super::api::leases::leases_client::LeasesClient;
use super::api::leases::{CreateRequest, DeleteRequest};
use super::client::Client;
use crate::error::Result;

/// containerd removes the lease of a killed process at this time, an RFC 3339 text.
const EXPIRES: &str = "containerd.io/gc.expire";
/// How long a load may take.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a load that failed, or a process that is to end, waits for its lease to be removed, and for what it kept.
const LONGEST_REMOVAL: Duration = Duration::from_secs(5);

/// A lease, removed when it is dropped.
pub struct Lease {
    client: Client,
    id: String,
    is_removed: AtomicBool,
}

impl Lease {
    /// Creates a lease.
    ///
    /// # Errors
    ///
    /// If containerd cannot create it.
    pub fn create(client: &Client) -> Result<Lease> {
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let id = format!("sealift-{}-{}", std::process::id(), since.as_nanos());
        let expires = prost_types::Timestamp::from(now + LIFETIME).to_string();
        let mut stub = stub(client);
        let request = client.request(CreateRequest {
            id: id.clone(),
            labels: HashMap::from([(EXPIRES.to_string(), expires)]),
        });
        client.wait("create a lease", stub.create(request))?;
        Ok(Lease {
            client: client.clone(),
            id,
            is_removed: AtomicBool::new(false),
        })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Removes it. Garbage collection then removes what it kept and nothing names, also snapshots in progress and parts of
    /// blobs; `waits` until that is done. If that fails it expires.
    pub fn remove(&self, waits: bool) {
        if self.is_removed.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut stub = stub(&self.client);
        let request = self.client.request(DeleteRequest {
            id: self.id.clone(),
            sync: waits,
        });
        let _ = self
            .client
            .block_on_briefly(stub.delete(request), LONGEST_REMOVAL);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.remove(true);
    }
}

fn stub(client: &Client) -> LeasesClient<Channel> {
    LeasesClient::new(client.channel())
}
