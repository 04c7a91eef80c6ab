//! Calls of containerd's API from threads: async code stays in this folder.
//!
//! One thread drives a current-thread runtime. Calls block the thread that makes them; several threads may call
//! at the same time over the one connection.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::codegen::http::Uri;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

use super::failure::{self, Address};
use crate::error::{Error, Result};

/// How often a long call checks whether to stop.
const TICK: Duration = Duration::from_millis(50);
/// Most bytes of a message from containerd, as in its own client. Source: containerd, `defaults/defaults.go`.
pub(super) const MAX_MESSAGE: usize = 16 << 20;
/// Names the namespace of a call. Source: containerd, `pkg/namespaces/grpc.go`.
const NAMESPACE: &str = "containerd-namespace";
/// Names the lease that keeps what a call creates. Source: containerd, `core/leases/grpc.go`.
const LEASE: &str = "containerd-lease";

/// A connection to containerd, for one namespace.
#[derive(Clone)]
pub struct Client {
    runtime: Arc<Runtime>,
    channel: Channel,
    address: Arc<Address>,
    namespace: MetadataValue<Ascii>,
    lease: Option<MetadataValue<Ascii>>,
}

/// The runtime and its thread, which ends when the last client is dropped.
struct Runtime {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    fn start() -> io::Result<Runtime> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("containerd".into())
            .spawn(move || {
                // An error means that the sender is gone, which ends it too.
                let _ = runtime.block_on(stopped);
            })?;
        Ok(Runtime {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Client {
    /// Connects to a socket.
    ///
    /// # Errors
    ///
    /// If nothing accepts the connection.
    pub fn connect(socket: &Path, namespace: &str) -> Result<Client> {
        let address = Address::new(socket);
        let runtime = Runtime::start().map_err(Error::io("start a thread for", socket))?;
        let path = socket.to_path_buf();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        // The address in the endpoint is not used: the connector always opens the socket.
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = runtime
            .handle
            .block_on(endpoint.connect_with_connector(connector))
            .map_err(|error| failure::unreachable(&address, &error))?;
        let namespace = address.metadata("namespace", namespace)?;
        Ok(Client {
            runtime: Arc::new(runtime),
            channel,
            address: Arc::new(address),
            namespace,
            lease: None,
        })
    }

    /// The same connection, for another namespace.
    ///
    /// # Errors
    ///
    /// If the name cannot be sent.
    pub fn with_namespace(&self, namespace: &str) -> Result<Client> {
        Ok(Client {
            namespace: self.address.metadata("namespace", namespace)?,
            ..self.clone()
        })
    }

    /// The same connection; what its calls create is kept by a lease.
    ///
    /// # Errors
    ///
    /// If the id cannot be sent.
    pub fn with_lease(&self, id: &str) -> Result<Client> {
        Ok(Client {
            lease: Some(self.address.metadata("lease", id)?),
            ..self.clone()
        })
    }

    /// Where it is, for messages.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The channel, for the stub of a service.
    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A request in this namespace, and under the lease if there is one.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert(NAMESPACE, self.namespace.clone());
        if let Some(lease) = &self.lease {
            metadata.insert(LEASE, lease.clone());
        }
        request
    }

    /// Waits for an answer. `action` says what was requested, as in "list images".
    pub(super) fn wait<T>(
        &self,
        action: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T> {
        match self.block_on(call) {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(self.address.error(action, &status)),
        }
    }

    /// As [`Client::wait`]; `None` if the thing does not exist.
    pub(super) fn find<T>(
        &self,
        action: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Option<T>> {
        match self.block_on(call) {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.address.error(action, &status)),
        }
    }

    /// As [`Client::wait`]; false if the thing exists already.
    pub(super) fn create<T>(
        &self,
        action: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<bool> {
        match self.block_on(call) {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::AlreadyExists => Ok(false),
            Err(status) => Err(self.address.error(action, &status)),
        }
    }

    /// The items of all messages of a response.
    pub(super) fn collect<T, I>(
        &self,
        action: &str,
        mut messages: Streaming<T>,
        items: impl Fn(T) -> Vec<I>,
    ) -> Result<Vec<I>> {
        let mut all = Vec::new();
        loop {
            match self.block_on(messages.message()) {
                Ok(Some(message)) => all.extend(items(message)),
                Ok(None) => return Ok(all),
                Err(status) => return Err(self.address.error(action, &status)),
            }
        }
    }

    /// As [`Client::block_on`], for a call that may take minutes. It is cancelled once `check` fails.
    pub(super) fn block_on_long<F: Future>(
        &self,
        future: F,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<F::Output> {
        self.block_on(async {
            let mut future = pin!(future);
            loop {
                if let Ok(output) = timeout(TICK, &mut future).await {
                    return Ok(output);
                }
                check()?;
            }
        })
    }

    /// Runs a future to its end, on this thread, unless that takes longer.
    pub(super) fn block_on_briefly<F: Future>(&self, future: F, longest: Duration) -> Option<F::Output> {
        self.block_on(async { timeout(longest, future).await.ok() })
    }

    /// Runs a future to its end, on this thread.
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.handle.block_on(future)
    }
}
