//! A read-only registry for an engine on this host.
//!
//! - `content`: what is served: [`Documents`], which are manifests by their digests alone, or a [`Content`] with tags and
//!   blobs
//! - `body`: a blob on its way, hashed again while it is sent
//! - `server`: the listener and its answers
//!
//! Source: OCI distribution specification, "Pull".

mod body;
mod content;
mod server;

pub use body::Event;
pub use content::{Content, Documents};
pub use server::{Login, Server, UNPRIVILEGED, bind_below};
