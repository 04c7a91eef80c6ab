//! The source against registries in this process that respond in every way.

mod auth;
mod dialects;
mod errors;
mod faults;
mod mirrors;
mod proxies;
mod redirects;
mod tls;
mod verify;
