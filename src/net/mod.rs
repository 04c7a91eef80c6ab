//! Hosts and the way to them, as the environment says it.
//!
//! - [`address`]: host and port, and sets of them
//! - [`environment`]: the variables that say how hosts are reached
//! - [`proxy`]: the proxy for a URL, by the rules of Go's `net/http`

pub mod address;
pub mod environment;
pub mod proxy;
