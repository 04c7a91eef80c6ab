//! Leases: what a load creates is not collected while it has no name yet.
//!
//! Source: containerd, `core/leases` and `docs/garbage-collection.md`.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tonic::transport::Channel;

use super::api::leases::leases_client::LeasesClient;
use super::api::leases::{CreateRequest, DeleteRequest, ListRequest};
use super::client::{Client, MAX_MESSAGE};
use super::owner::Owner;
use crate::error::{Error, Result};
use crate::interrupt::{Guard, Interrupt};

/// containerd removes the lease of a killed process at this time, an RFC 3339 text.
const EXPIRES: &str = "containerd.io/gc.expire";
/// Names the process that a lease belongs to.
const OWNER: &str = "sealift.owner";
/// What the ids of all leases of this program begin with.
const PREFIX: &str = "sealift-";
/// How long a load may take.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a load that failed, or a process that is to end, waits for its lease to be removed, and for what it kept.
const LONGEST_REMOVAL: Duration = Duration::from_secs(5);

/// A lease, removed when it is dropped.
pub struct Lease {
    client: Client,
    id: String,
    state: Mutex<State>,
    named: Condvar,
}

#[derive(Default)]
struct State {
    is_removed: bool,
    /// Whether names are being set for what it keeps.
    is_naming: bool,
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
        let id = format!("{PREFIX}{}-{}", std::process::id(), since.as_nanos());
        let expires = prost_types::Timestamp::from(now + LIFETIME).to_string();
        let owner = Owner::this().map(|owner| (OWNER.to_string(), owner.to_label()));
        let labels = std::iter::once((EXPIRES.to_string(), expires)).chain(owner);
        let mut stub = stub(client);
        let request = client.request(CreateRequest {
            id: id.clone(),
            labels: labels.collect(),
        });
        client.change("create a lease", stub.create(request))?;
        Ok(Lease {
            client: client.clone(),
            id,
            state: Mutex::default(),
            named: Condvar::new(),
        })
    }

    /// Creates a lease that a signal removes too, as long as the guard lives.
    ///
    /// # Errors
    ///
    /// If containerd cannot create it.
    pub fn create_until_signal(client: &Client, interrupt: &Interrupt) -> Result<(Arc<Lease>, Guard)> {
        let lease = Arc::new(Lease::create(client)?);
        let guard = interrupt.on_stop({
            let lease = Arc::clone(&lease);
            move || lease.remove(true)
        });
        Ok((lease, guard))
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Sets names for what the lease keeps. It is not removed before that has ended, so no name is set for content that is
    /// being collected.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] if the lease is removed already; the error of `set_names`.
    pub fn while_naming<T>(&self, set_names: impl FnOnce() -> Result<T>) -> Result<T> {
        {
            let mut state = self.state();
            if state.is_removed {
                return Err(Error::Interrupted);
            }
            state.is_naming = true;
        }
        let named = set_names();
        self.state().is_naming = false;
        self.named.notify_all();
        named
    }

    /// Removes it. Garbage collection then removes what it kept and nothing names, also snapshots in progress and parts of
    /// blobs; `waits` until that is done. If that fails it expires. While names are being set, it waits for their end; if
    /// that takes too long, the lease stays and expires.
    pub fn remove(&self, waits: bool) {
        let state = self.state();
        let ended = self
            .named
            .wait_timeout_while(state, LONGEST_REMOVAL, |state| state.is_naming);
        let (mut state, _) = ended.unwrap_or_else(PoisonError::into_inner);
        if state.is_naming || std::mem::replace(&mut state.is_removed, true) {
            return;
        }
        drop(state);
        let mut stub = stub(&self.client);
        let request = self.client.request(DeleteRequest {
            id: self.id.clone(),
            sync: waits,
        });
        let _ = self.client.within(LONGEST_REMOVAL, stub.delete(request));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.remove(true);
    }
}

/// Removes the leases of runs that were killed on this host. What they kept and nothing names is collected later, so this
/// comes last: a load continues with it. Others expire, and so do these if that fails.
pub fn remove_abandoned(client: &Client) {
    let Some(this) = Owner::this() else { return };
    let mut leases = stub(client);
    let listed = leases.list(client.request(ListRequest::default()));
    let listed = client.wait("list leases", listed).unwrap_or_default().leases;
    let abandoned = listed.into_iter().filter(|lease| {
        let owner = lease.labels.get(OWNER);
        lease.id.starts_with(PREFIX) && owner.is_some_and(|label| this.has_ended(label))
    });
    for lease in abandoned {
        let request = client.request(DeleteRequest {
            id: lease.id,
            sync: false,
        });
        let _ = client.within(LONGEST_REMOVAL, leases.delete(request));
    }
}

fn stub(client: &Client) -> LeasesClient<Channel> {
    LeasesClient::new(client.channel()).max_decoding_message_size(MAX_MESSAGE)
}
