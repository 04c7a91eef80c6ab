//! What a target or a host has, as documents: a load can be planned, and a save can leave layers out, on a machine that
//! cannot reach it.
//!
//! - `target`: what one target has
//! - `host`: what the engines of a host have; the document of an inventory

mod host;
mod target;

pub use host::{EngineInventory, HostInventory, InventoryId, KnownHost, MAX_LABEL};
pub use target::{Inventory, KnownImage, LayerForms, chains};
