//! The stubs of containerd's gRPC services: only what sealift calls. `tests/stubs.rs` generates them from
//! `src/containerd/proto`.

#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::pedantic,
    reason = "generated code"
)]

#[rustfmt::skip]
pub mod content;
#[rustfmt::skip]
pub mod diff;
#[rustfmt::skip]
pub mod images;
#[rustfmt::skip]
pub mod introspection;
#[rustfmt::skip]
pub mod leases;
#[rustfmt::skip]
pub mod runtime;
#[rustfmt::skip]
pub mod snapshots;
#[rustfmt::skip]
pub mod types;
#[rustfmt::skip]
pub mod version;
