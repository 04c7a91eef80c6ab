//! Hosts, and how the environment says to reach them.
//!
//! - [`address`]: host and port, and sets of them
//! - [`environment`]: the variables for it
//! - [`pem`]: certificates and keys in files
//! - [`proxy`]: the proxy for a URL, by the rules of Go's `net/http`

pub mod address;
pub mod environment;
pub mod pem;
pub mod proxy;
