//! A read-only registry: of archives, for many clients; or for an engine on this host, while images are loaded into it.
//!
//! - `content`: what is served: [`Documents`], which are manifests by their digests alone, or a [`Content`] with tags and
//!   blobs; [`Live`], which can be replaced while it is served
//! - `archives`: opened archives, and how a replaced one is opened again; `opened`: one of them; `assemble`: the content
//!   of all; `images`: its images by name
//! - `blob`: a blob, and the proof that its files have it
//! - `answer`: the answers to requests; `target`: what a request asks for; `body`: a blob on its way
//! - `page`: the page for people
//! - `access`: who may read; `tls`: the certificate
//! - `server`: the listener; `connection`: one connection and its limits; `event`: what a server tells
//! - `port`: ports that only root can bind
//!
//! Source: OCI distribution specification, "Pull" and "Content Discovery".

mod access;
mod answer;
mod archives;
mod assemble;
mod blob;
mod body;
mod connection;
mod content;
mod event;
mod images;
mod opened;
mod page;
mod port;
mod server;
mod target;
mod tls;

pub use access::{Access, Login, Users};
pub use archives::{Archives, Reopened, Watcher};
pub use assemble::Summary;
pub use content::{Content, Documents, Live};
pub use event::{Answered, Event, Report};
pub use opened::ArchiveFiles;
pub use port::{NoPort, UNPRIVILEGED, bind_privileged, privileged_again, unprivileged_from};
pub use server::{Options, Server};
pub use tls::Tls;
