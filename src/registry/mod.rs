//! The distribution protocol: OCI distribution specification, version 2 of the API.
//!
//! - `options`: how to reach registries
//! - `mirror`: other hosts that have a registry's content
//! - `source`: registries as a source of images; it tries the hosts of a repository in order
//! - `referrers`: what refers to an image
//! - [`verify`]: verifies images in registries; `read`: what it reads besides a source's blobs
//! - [`repair`](mod@repair): replaces bad and missing blobs of images
//! - `target`, `push`: a registry as a target
//! - `client`, `scheme`: one registry's API, with authentication and retries, over https or http
//! - `access`, `auth`, `token`, [`challenge`], `credentials`, `secret`: authentication
//! - `transport`, `location`, `connect`, `tls`: one HTTP request with its redirects, and its connection
//! - `blob`: content as it arrives, counted and with a minimum rate
//! - `failure`, `request_error`, `storage_fault`, `retry_after`: what can go wrong, what it means, and when to
//!   retry
//!
//! A request passes down this list: the source or target calls the client, which calls the transport. Errors come back as
//! a `Failure` of the transport, a `RequestError` of the client, and an [`Error`](crate::Error) of the source or target.

mod access;
mod auth;
mod blob;
mod client;
mod connect;
mod failure;
mod location;
mod request_error;
mod retry_after;
mod scheme;
mod storage_fault;
mod token;
mod transport;

pub mod challenge;
mod credentials;
mod mirror;
mod options;
mod push;
mod read;
mod referrers;
pub mod repair;
mod secret;
mod source;
mod target;
mod tls;
pub mod verify;

pub use crate::net::address::{Address, AddressError, Insecure};
pub use crate::net::environment::Environment;
pub use crate::net::proxy::Proxies;
pub use credentials::{Credential, Credentials};
pub use mirror::{Mirror, MirrorError};
pub use options::Options;
pub use push::{Destination, DestinationError, Details, RepositoryContent};
pub use secret::Secret;
pub use source::RegistrySource;
pub use target::{Inventory, RegistryTarget};
pub use tls::ClientCertificate;
pub use transport::Timeouts;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
