//! Real engines and a real registry.
//!
//! ```text
//! harness.rs   what the other tests stand on: images, registries, daemons are what they claim, and leave nothing behind
//! ```
//!
//! Docker 26 is tested with the feature `test-all` only, as `make test-all` does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure here is a failed test

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod harness;
