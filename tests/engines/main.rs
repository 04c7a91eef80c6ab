//! Real engines and a real registry.
//!
//! ```text
//! harness.rs   what the other tests stand on: images, registries, daemons are what they claim, and leave nothing behind
//! command.rs   the command as a user runs it
//! other_tools.rs   skopeo, podman, ctr and a bare docker load on what sealift sealed
//! loading.rs   loads through the library, for the tests below
//! load.rs      loading into Docker
//! load_faults.rs  loads that go wrong
//! load_attach.rs  attaching digests: what it leaves, and what keeps it from being done
//! ```
//!
//! Docker 26 is tested with the feature `test-all` only, as `make test-all` does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure here is a failed test

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod command;
mod harness;
mod load;
mod load_attach;
mod load_faults;
mod loading;
mod other_tools;
