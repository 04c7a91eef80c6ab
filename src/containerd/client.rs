//! Calls of containerd's API from threads: async code stays in this folder.
//!
//! One thread drives a current-thread runtime. Calls block the thread that makes them; several threads may call
//! at the same time over the one connection.

use std::future::{Future, poll_fn};
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tonic::codegen::http::Uri;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

use super::api::version::version_client::VersionClient;
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

/// Most bytes of a list of many messages: that of a million blobs with a few labels each.
pub(super) const MAX_LIST: u64 = 512 << 20;
/// Bytes that a message counts for at least, so that one of empty messages ends too.
const MIN_MESSAGE: u64 = 64;
/// Bytes per second at which any disk can be read and written.
const SLOWEST_DISK: u64 = 10_000_000;

/// How long containerd may take. Unpacking a layer has no limit while containerd answers questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, and for the answer to a question.
    pub answer: Duration,
    /// For a change of a record, which may wait until its disk has written other data.
    pub change: Duration,
    /// For the next message while content is read or written.
    pub idle: Duration,
    /// For CRI to show new names: containerd tells it of them by events.
    pub shown: Duration,
}

impl Default for Timeouts {
    /// 30 seconds, 5 minutes, 60 seconds, 10 seconds.
    fn default() -> Timeouts {
        Timeouts {
            answer: Duration::from_secs(30),
            change: Duration::from_secs(5 * 60),
            idle: Duration::from_secs(60),
            shown: Duration::from_secs(10),
        }
    }
}

impl Timeouts {
    /// For containerd to read or to flush so many stored bytes of a blob before it answers.
    pub(super) fn of_blob(&self, bytes: u64) -> Duration {
        self.idle
            .saturating_add(Duration::from_secs(bytes / SLOWEST_DISK))
    }
}

/// A connection to containerd, for one namespace.
#[derive(Clone)]
pub struct Client {
    runtime: Arc<Runtime>,
    channel: Channel,
    address: Arc<Address>,
    timeouts: Timeouts,
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
    pub fn connect(socket: &Path, namespace: &str, timeouts: &Timeouts) -> Result<Client> {
        let address = Address::new(socket);
        let runtime = Runtime::start().map_err(Error::io("start a thread for", socket))?;
        let path = socket.to_path_buf();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        // The address in the endpoint is not used: the connector always opens the socket.
        let endpoint = Endpoint::from_static("http://localhost");
        let connected = runtime.handle.block_on(async {
            let connect = endpoint.connect_with_connector(connector);
            timeout(timeouts.answer, connect).await
        });
        let channel = match connected {
            Ok(connected) => connected.map_err(|error| failure::unreachable(&address, &error))?,
            Err(_) => return Err(address.error("connect", &failure::silent(timeouts.answer))),
        };
        let namespace = address.metadata("namespace", namespace)?;
        Ok(Client {
            runtime: Arc::new(runtime),
            channel,
            address: Arc::new(address),
            timeouts: timeouts.clone(),
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

    /// How long containerd may take.
    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Waits for the answer to a question. `action` says what was requested, as in "list images".
    pub(super) fn wait<T>(
        &self,
        action: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T> {
        self.answer(action, self.within(self.timeouts.answer, call))
    }

    /// As [`Client::wait`]; `None` if the thing does not exist.
    pub(super) fn find<T>(
        &self,
        action: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Option<T>> {
        match self.within(self.timeouts.answer, call) {
            Err(status) if status.code() == Code::NotFound => Ok(None),
            answer => self.answer(action, answer).map(Some),
        }
    }

    /// Waits until something is changed.
    pub(super) fn change<T>(
        &self,
        action: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<()> {
        self.answer(action, self.within(self.timeouts.change, call))
            .map(|_| ())
    }

    /// As [`Client::change`]; false if the thing exists already.
    pub(super) fn create<T>(
        &self,
        action: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<bool> {
        match self.within(self.timeouts.change, call) {
            Err(status) if status.code() == Code::AlreadyExists => Ok(false),
            answer => self.answer(action, answer).map(|_| true),
        }
    }

    /// As [`Client::change`]. It is no error if the thing does not exist.
    pub(super) fn remove<T>(
        &self,
        action: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<()> {
        match self.within(self.timeouts.change, call) {
            Err(status) if status.code() == Code::NotFound => Ok(()),
            answer => self.answer(action, answer).map(|_| ()),
        }
    }

    fn answer<T>(&self, action: &str, answer: Result<Response<T>, Status>) -> Result<T> {
        answer
            .map(Response::into_inner)
            .map_err(|status| self.address.error(action, &status))
    }

    /// The items of all messages of a response, which has at most so many bytes.
    pub(super) fn collect<T: Message, I>(
        &self,
        action: &str,
        mut messages: Streaming<T>,
        limit: u64,
        items: impl Fn(T) -> Vec<I>,
    ) -> Result<Vec<I>> {
        let failed = |status: Status| self.address.error(action, &status);
        let mut all = Vec::new();
        let mut left = limit;
        while let Some(message) = self.next(&mut messages).map_err(failed)? {
            let length = u64::try_from(message.encoded_len()).unwrap_or(u64::MAX);
            let more = || failed(Status::out_of_range(format!("it sends more than {limit} bytes")));
            left = left.checked_sub(length.max(MIN_MESSAGE)).ok_or_else(more)?;
            all.extend(items(message));
        }
        Ok(all)
    }

    /// The next message of a response.
    pub(super) fn next<T>(&self, messages: &mut Streaming<T>) -> Result<Option<T>, Status> {
        self.within(self.timeouts.idle, messages.message())
    }

    /// Waits for a call as long as it takes, while containerd answers questions. It is cancelled once `check` fails.
    pub(super) fn wait_long<T>(
        &self,
        call: impl Future<Output = Result<T, Status>>,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Result<T, Status>> {
        self.block_on(async {
            let mut call = pin!(call);
            let mut silence = pin!(self.silence());
            let mut first = poll_fn(|context| match call.as_mut().poll(context) {
                Poll::Pending => silence.as_mut().poll(context).map(Err),
                ended => ended,
            });
            loop {
                if let Ok(ended) = timeout(TICK, &mut first).await {
                    return Ok(ended);
                }
                check()?;
            }
        })
    }

    /// Asks for the version again and again. Ends once there is no answer in time.
    async fn silence(&self) -> Status {
        let longest = self.timeouts.answer;
        loop {
            sleep(longest).await;
            let mut stub = VersionClient::new(self.channel());
            // Any other error is an answer, or ends the call that is waited for too.
            match within(longest, stub.version(self.request(()))).await {
                Err(status) if status.code() == Code::DeadlineExceeded => return status,
                _ => {}
            }
        }
    }

    /// Waits for a call, which fails if it takes longer than this.
    pub(super) fn within<T>(
        &self,
        longest: Duration,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        self.block_on(within(longest, call))
    }

    /// Runs a future to its end, on this thread.
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.handle.block_on(future)
    }
}

/// Awaits a call, which fails if it takes longer than this.
pub(super) async fn within<T>(
    longest: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    timeout(longest, call)
        .await
        .unwrap_or_else(|_| Err(failure::silent(longest)))
}
