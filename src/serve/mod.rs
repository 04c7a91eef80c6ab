//! A read-only registry for an engine on this host.
//!
//! - `content`: what is served: [`Documents`], which are manifests by their digests alone, or a [`Content`] with tags and
//!   blobs
//! - `body`: a blob on its way, hashed again while it is sent
//! - `server`: the listener and its answers
//! - `port`: ports that only root can bind
//!
//! Source: OCI distribution specification, "Pull".

mod body;
mod content;
mod port;
mod server;

pub use body::Event;
pub use content::{Content, Documents};
pub use port::{NoPort, UNPRIVILEGED, bind_privileged, privileged_again, unprivileged_from};
pub use server::{Login, Server};
