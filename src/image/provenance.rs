//! What an archive says of an image besides its documents: what stands behind its digest, which layers are here
//! only uncompressed, and where everything came from.

use std::collections::BTreeMap;
use std::fmt;

use crate::oci::{Descriptor, Digest};

/// What stands behind a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// The documents hash to it, and config and layers to what they say.
    Verified,
    /// The engine that the image came from says so, or a manifest is here that has it and may be nobody else's.
    Recorded,
    /// There is none: the image has no digest that a registry gave it, or none that is known.
    None,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Evidence::Verified => "verified",
            Evidence::Recorded => "recorded",
            Evidence::None => "none",
        })
    }
}

/// A manifest that was made when the image was sealed, because the one that a registry had could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandIn {
    /// The digest that the engine showed which the image came from.
    pub recorded: Option<Digest>,
}

/// What is told of one image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Set if the manifest is no registry's.
    pub stand_in: Option<StandIn>,
    /// Set if the manifest or index here has the digest, and nothing tells that a registry ever served it: who made the
    /// archive may have written it.
    pub is_unproven: bool,
    /// By the digests of layers as they were stored: the uncompressed layers that are here in their place.
    pub uncompressed: BTreeMap<Digest, Descriptor>,
    /// Where everything came from, if not simply from a registry or an archive.
    pub provenance: Option<Provenance>,
}

impl Account {
    /// The digest that an image with this manifest or index is known by; `None` if none is known.
    pub fn digest(&self, root: Digest) -> Option<Digest> {
        self.stand_in.map_or(Some(root), |stand_in| stand_in.recorded)
    }

    /// What stands behind that digest.
    pub fn evidence(&self) -> Evidence {
        match self.stand_in {
            None if self.is_unproven => Evidence::Recorded,
            None => Evidence::Verified,
            Some(StandIn { recorded: Some(_) }) => Evidence::Recorded,
            Some(StandIn { recorded: None }) => Evidence::None,
        }
    }

    /// What is here of a layer: as it was stored, or uncompressed.
    pub fn layer<'a>(&'a self, layer: &'a Descriptor) -> &'a Descriptor {
        self.uncompressed.get(&layer.digest).unwrap_or(layer)
    }
}

/// Where the parts of an image came from. It says so and proves nothing: digests do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Provenance {
    /// Where index and manifest came from.
    pub manifest: ManifestOrigin,
    /// Where the layers came from, by their digests in the manifest.
    pub layers: BTreeMap<Digest, LayerOrigin>,
}

/// Where a manifest came from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum ManifestOrigin {
    /// The engine had it.
    Engine,
    /// The registry, by its digest.
    Registry,
    /// It was written again as the tool did that pushed it, and hashes to the digest.
    Rebuilt {
        /// What wrote it, for people.
        by: String,
    },
    /// It was in an archive, and may be in no registry.
    Unproven {
        /// Why.
        reason: String,
    },
    /// It could not be had.
    StandIn {
        /// Why not.
        reason: String,
    },
}

/// Where a layer came from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum LayerOrigin {
    /// It was there as it is stored.
    Stored,
    /// The registry.
    Registry,
    /// It was packed again, and hashes to the digest.
    Rebuilt {
        /// The encoder, for people.
        by: String,
    },
    /// It is here only uncompressed.
    Uncompressed {
        /// Why it could not be packed as it was.
        reason: String,
    },
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.manifest {
            ManifestOrigin::Engine => f.write_str("manifest from the engine's store")?,
            ManifestOrigin::Registry => f.write_str("manifest from the registry")?,
            ManifestOrigin::Rebuilt { by } => write!(f, "manifest rebuilt ({by})")?,
            ManifestOrigin::Unproven { reason } => write!(f, "manifest not proven: {reason}")?,
            ManifestOrigin::StandIn { reason } => write!(f, "no manifest: {reason}")?,
        }
        let mut groups: BTreeMap<String, usize> = BTreeMap::new();
        for layer in self.layers.values() {
            let group = match layer {
                LayerOrigin::Stored => "as stored".into(),
                LayerOrigin::Registry => "from the registry".into(),
                LayerOrigin::Rebuilt { by } => format!("rebuilt ({by})"),
                LayerOrigin::Uncompressed { reason } => format!("uncompressed ({reason})"),
            };
            *groups.entry(group).or_default() += 1;
        }
        for (group, count) in groups {
            write!(f, ", {count} of {} layers {group}", self.layers.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provenance_reads_as_a_sentence_and_survives_json() {
        let digest = |text: &str| Digest::sha256(text.as_bytes());
        let rebuilt = || LayerOrigin::Rebuilt {
            by: "Go gzip -1".into(),
        };
        let reason = "no known encoder gives it".to_string();
        let provenance = Provenance {
            manifest: ManifestOrigin::Rebuilt {
                by: "docker push".into(),
            },
            layers: BTreeMap::from([
                (digest("a"), rebuilt()),
                (digest("b"), rebuilt()),
                (digest("c"), LayerOrigin::Uncompressed { reason }),
            ]),
        };
        assert_eq!(
            provenance.to_string(),
            "manifest rebuilt (docker push), 2 of 3 layers rebuilt (Go gzip -1), 1 of 3 layers uncompressed (no \
             known encoder gives it)"
        );
        let json = serde_json::to_string(&provenance).unwrap();
        assert_eq!(serde_json::from_str::<Provenance>(&json).unwrap(), provenance);
    }

    #[test]
    fn a_digest_is_that_of_the_manifest_unless_it_is_a_stand_in() {
        let (root, other) = (Digest::sha256(b"root"), Digest::sha256(b"other"));
        let of = |stand_in| {
            let account = Account {
                stand_in,
                ..Account::default()
            };
            (account.digest(root), account.evidence())
        };
        assert_eq!(of(None), (Some(root), Evidence::Verified));
        let recorded = Some(other);
        assert_eq!(of(Some(StandIn { recorded })), (Some(other), Evidence::Recorded));
        assert_eq!(of(Some(StandIn { recorded: None })), (None, Evidence::None));
    }
}
