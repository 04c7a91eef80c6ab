//! What a target or a host has, as documents: a load can be planned, and a save can leave layers out, on a machine that
//! cannot reach it.
//!
//! - `target`: what one target has
//! - `host`: what the engines of a host have; the document of an inventory
//! - `compare`: whether names and digests are as in an inventory
//! - `namespace`: the names of containerd's namespaces

mod compare;
mod host;
mod namespace;
mod target;

pub use compare::{Comparison, Difference, Reason};
pub use host::{EngineInventory, HostInventory, InventoryId, KnownHost, MAX_LABEL};
pub(crate) use namespace::is_namespace;
pub use target::{Inventory, KnownImage, LayerForms, chains};
