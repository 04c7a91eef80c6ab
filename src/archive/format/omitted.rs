//! The layers that an archive leaves out because the host that it is for has them.

use std::collections::{BTreeMap, BTreeSet};

use super::{OMITTED, OMITTED_FOR, to_json};
use crate::error::{Problem, Result};
use crate::inventory::InventoryId;
use crate::oci::{Digest, json};

/// The layers that an archive leaves out. It has every manifest, index and config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Omitted {
    /// The layers, by the digests that manifests give them.
    pub layers: BTreeSet<Digest>,
    /// The inventories of the hosts that have all of them.
    pub inventories: Vec<InventoryId>,
}

impl Omitted {
    /// Nothing.
    pub const NONE: &'static Omitted = &Omitted {
        layers: BTreeSet::new(),
        inventories: Vec::new(),
    };

    /// The annotations of `index.json` that declare them.
    ///
    /// # Errors
    ///
    /// Only if they cannot be serialised.
    pub(super) fn annotations(&self) -> Result<BTreeMap<&'static str, String>> {
        if self.layers.is_empty() {
            return Ok(BTreeMap::new());
        }
        let layers: Vec<String> = self.layers.iter().map(ToString::to_string).collect();
        let inventories = to_json(&self.inventories)?;
        Ok(BTreeMap::from([
            (OMITTED, layers.join(",")),
            (OMITTED_FOR, String::from_utf8_lossy(&inventories).into_owned()),
        ]))
    }

    /// Parses the annotations of an `index.json`.
    ///
    /// # Errors
    ///
    /// If one is malformed.
    pub fn parse(index: &[u8]) -> Result<Omitted, Problem> {
        #[derive(serde::Deserialize)]
        struct Peek {
            annotations: Option<BTreeMap<String, String>>,
        }
        let wrong = |key: &str, reason: String| Problem::Document {
            reason: format!("{key}: {reason}"),
        };
        let peek: Peek = json::from_slice(index).map_err(|error| Problem::Json {
            reason: error.to_string(),
        })?;
        let annotations = peek.annotations.unwrap_or_default();
        let layers = annotations.get(OMITTED).into_iter();
        let layers = layers.flat_map(|list| list.split(',')).map(|text| {
            let parsed: Result<Digest, _> = text.parse();
            parsed.map_err(|error| wrong(OMITTED, format!("{error}")))
        });
        let inventories = annotations.get(OMITTED_FOR).map(|text| {
            let parsed = json::from_slice(text.as_bytes());
            parsed.map_err(|error| wrong(OMITTED_FOR, error.to_string()))
        });
        Ok(Omitted {
            layers: layers.collect::<Result<_, _>>()?,
            inventories: inventories.transpose()?.unwrap_or_default(),
        })
    }
}
