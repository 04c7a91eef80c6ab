//! The distribution protocol: OCI distribution specification, version 2 of the API.
//!
//! - [`options`]: what is said about registries
//! - [`mirror`]: other hosts that have a registry's content
//! - [`source`]: registries as a source of images; it tries the places of a repository in order
//! - `client`, `scheme`: one registry's API, with authentication and retries, by https or http
//! - `auth`, `token`, [`challenge`], [`credentials`], [`secret`]: proving who is asking
//! - `transport`, `location`, `connect`, [`tls`]: one HTTP request with its redirects, and how it gets there
//! - `blob`: content as it comes, counted and watched
//! - `failure`, `request_error`, `retry`, `date`: what can go wrong, what it means, and when to ask again
//!
//! A request goes down this list: the source asks the client, which asks the transport; what went wrong comes
//! back as a `Failure` of the transport, a `RequestError` of the client, an [`Error`](crate::Error) of the source.

mod auth;
mod blob;
mod client;
mod connect;
mod date;
mod failure;
mod location;
mod request_error;
mod retry;
mod scheme;
mod token;
mod transport;

pub mod challenge;
pub mod credentials;
pub mod mirror;
pub mod options;
pub mod secret;
pub mod source;
pub mod tls;

pub use crate::net::environment::Environment;
pub use credentials::{Credential, Credentials};
pub use mirror::Mirror;
pub use options::Options;
pub use retry::Retry;
pub use secret::Secret;
pub use source::RegistrySource;
pub use tls::ClientCertificate;
pub use transport::Timeouts;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
