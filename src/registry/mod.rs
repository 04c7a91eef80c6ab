//! The distribution protocol: OCI distribution specification, version 2 of the API.

pub mod server;
