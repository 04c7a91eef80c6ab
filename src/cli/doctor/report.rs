//! What `doctor` says about every engine.

use sealift::Error;
use sealift::host::Engine;
use sealift::load::{Inventory, Obstacle, Space};
use serde::Serialize;

use super::super::output::{Failure, Output, error_json, hint_of};
use super::super::size::Size;

/// What is known of an engine.
#[derive(Debug, Clone, Serialize)]
pub struct EngineReport {
    /// The engine.
    pub engine: Engine,
    /// Where it is.
    pub address: String,
    /// Its version.
    pub version: Option<String>,
    /// The platform that it runs.
    pub platform: Option<String>,
    /// The number of its images.
    pub images: Option<usize>,
    /// How `load` loads into it, for people.
    pub load: Option<&'static str>,
    /// Free space for images.
    pub space: Option<serde_json::Value>,
    /// What only this engine has.
    pub details: serde_json::Value,
    /// What keeps digests from being shown, or images from being loaded.
    pub obstacles: Vec<Obstacle>,
    /// Why it cannot be asked.
    pub error: Option<serde_json::Value>,
}

impl EngineReport {
    /// What an inventory tells about an engine of any kind.
    pub fn of<D>(engine: Engine, inventory: &Inventory<D>) -> EngineReport {
        EngineReport {
            version: inventory.version.clone(),
            platform: inventory.platform.as_ref().map(ToString::to_string),
            images: Some(inventory.images.len()),
            ..EngineReport::at(engine, &inventory.target)
        }
    }

    /// An engine that cannot be asked.
    pub fn unreachable(engine: Engine, address: &str, error: &Error) -> EngineReport {
        EngineReport {
            error: Some(error_json(error)),
            ..EngineReport::at(engine, address)
        }
    }

    /// An engine of which nothing else is known.
    fn at(engine: Engine, address: &str) -> EngineReport {
        EngineReport {
            engine,
            address: address.into(),
            version: None,
            platform: None,
            images: None,
            load: None,
            space: None,
            details: serde_json::json!({}),
            obstacles: Vec::new(),
            error: None,
        }
    }
}

/// Free space of a folder, in JSON.
pub fn space_json(space: &Space) -> serde_json::Value {
    serde_json::json!({ "path": space.path, "free": space.free })
}

/// Prints the free space of a folder.
pub fn print_space(output: &Output, what: &str, space: &Space) -> Result<(), Failure> {
    let (free, path) = (Size(space.free), space.path.display());
    output.line(format_args!("{what}: {free} in {path}"))
}

/// Prints why an engine cannot be asked.
pub fn print_error(output: &Output, error: &Error) -> Result<(), Failure> {
    for error in error.each() {
        output.line(error)?;
        if let Some(hint) = hint_of(error) {
            output.line(format_args!("  hint: {hint}"))?;
        }
    }
    Ok(())
}
