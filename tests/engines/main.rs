//! Real engines and a real registry.
//!
//! ```text
//! harness.rs   what the other tests stand on: images, registries, daemons are what they claim, and leave nothing behind
//! ```

#[path = "../support/mod.rs"]
mod support;

mod harness;
