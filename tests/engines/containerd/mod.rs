//! What a containerd has, asked over its own API and as the kubelet asks.
//!
//! ```text
//! contents.rs  the records of its images, blobs, snapshots and leases, to compare
//! events.rs    what happens in it
//! cri.rs       the container runtime interface: pulls, lists and removes images, runs containers
//! twin.rs      loads, and the containerd that has pulled the same
//! ```
//!
//! The stubs of containerd's API are those that the program is compiled with. `tests/stubs.rs` generates them.

#[path = "../../../src/containerd/api/mod.rs"]
mod api;
mod contents;
mod cri;
mod events;
pub mod twin;

use std::future::Future;
use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint, Uri};

pub use contents::{Contents, SOURCE, collect_garbage};
pub use cri::Cri;
pub use events::{Events, removed_blobs};

/// The namespace of the kubelet's images.
pub const NAMESPACE: &str = "k8s.io";

/// A connection to a socket, which is opened anew when containerd has restarted.
struct Connection {
    runtime: Runtime,
    channel: Channel,
}

impl Connection {
    fn new(socket: PathBuf) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = runtime.block_on(async {
            Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
        });
        Self { runtime, channel }
    }

    fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }
}
