//! The source and the target against registries in this process that respond in every way.

mod auth;
mod dialects;
mod errors;
mod faults;
mod mirrors;
mod proxies;
mod push;
mod push_auth;
mod push_broken;
mod push_indexes;
mod push_registry;
mod redirects;
mod referrers;
mod repair;
mod tags;
mod tls;
mod verify;
mod verify_options;
