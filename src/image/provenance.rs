//! What an archive says about an image besides its documents: the evidence for its digest, which layers it has
//! only uncompressed, and where its manifest and layers came from.

use std::collections::BTreeMap;
use std::fmt;

use crate::oci::{Descriptor, Digest};

/// The evidence for a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// The manifest or index hashes to it; config and layers have the digests that it names.
    Verified,
    /// The engine that the image came from reports it, or the manifest that hashes to it may be in no registry.
    Recorded,
    /// The image never had a digest from a registry, or it is not known.
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

/// A manifest that sealift made because the registry's could not be recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Substitute {
    /// The digest that the engine reported for the image.
    pub recorded: Option<Digest>,
}

/// What is known about one image besides its documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Set if the manifest is a substitute for the registry's.
    pub substitute: Option<Substitute>,
    /// Set if nothing shows that a registry ever served the manifest or index, although it has the digest: the tool
    /// that made the archive may have written it.
    pub is_unproven: bool,
    /// The uncompressed layers in place of stored ones, by the digests of those.
    pub uncompressed: BTreeMap<Digest, Descriptor>,
    /// Where manifest and layers came from, if not all from a registry or an archive.
    pub origins: Option<Origins>,
}

impl Provenance {
    /// The digest of an image with this manifest or index; `None` if it is not known.
    pub fn digest(&self, root: Digest) -> Option<Digest> {
        self.substitute
            .map_or(Some(root), |substitute| substitute.recorded)
    }

    /// The evidence for that digest.
    pub fn evidence(&self) -> Evidence {
        match self.substitute {
            None if self.is_unproven => Evidence::Recorded,
            None => Evidence::Verified,
            Some(Substitute { recorded: Some(_) }) => Evidence::Recorded,
            Some(Substitute { recorded: None }) => Evidence::None,
        }
    }

    /// The layer as it is here: stored or uncompressed.
    pub fn layer<'a>(&'a self, layer: &'a Descriptor) -> &'a Descriptor {
        self.uncompressed.get(&layer.digest).unwrap_or(layer)
    }
}

/// Where the parts of an image came from. It is information for people; only digests prove anything.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Origins {
    /// Where index and manifest came from.
    pub manifest: ManifestOrigin,
    /// Where the layers came from, by their digests in the manifest.
    pub layers: BTreeMap<Digest, LayerOrigin>,
}

/// Where a manifest came from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum ManifestOrigin {
    /// The engine's store.
    Engine,
    /// A registry, by its digest.
    Registry,
    /// Rebuilt as the tool that pushed it wrote it; it hashes to the digest.
    Rebuilt {
        /// The tool, for people.
        by: String,
    },
    /// An archive; it may be in no registry.
    Unproven {
        /// Why.
        reason: String,
    },
    /// sealift: the original could not be recovered.
    #[serde(rename = "stand-in")]
    Substitute {
        /// Why not.
        reason: String,
    },
}

/// Where a layer came from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum LayerOrigin {
    /// The store or archive had it in its stored form.
    Stored,
    /// A registry.
    Registry,
    /// Recompressed; it hashes to the digest.
    Rebuilt {
        /// The encoder, for people.
        by: String,
    },
    /// Only its uncompressed form is here.
    Uncompressed {
        /// Why it could not be recompressed.
        reason: String,
    },
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.manifest {
            ManifestOrigin::Engine => f.write_str("manifest from the engine's store")?,
            ManifestOrigin::Registry => f.write_str("manifest from the registry")?,
            ManifestOrigin::Rebuilt { by } => write!(f, "manifest rebuilt ({by})")?,
            ManifestOrigin::Unproven { reason } => write!(f, "manifest not proven: {reason}")?,
            ManifestOrigin::Substitute { reason } => write!(f, "no manifest: {reason}")?,
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
        let reason = "no known encoder reproduces it".to_string();
        let origins = Origins {
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
            origins.to_string(),
            "manifest rebuilt (docker push), 2 of 3 layers rebuilt (Go gzip -1), 1 of 3 layers uncompressed (no \
             known encoder reproduces it)"
        );
        let json = serde_json::to_string(&origins).unwrap();
        assert_eq!(serde_json::from_str::<Origins>(&json).unwrap(), origins);
    }

    #[test]
    fn a_digest_is_that_of_the_manifest_unless_it_is_a_substitute() {
        let (root, other) = (Digest::sha256(b"root"), Digest::sha256(b"other"));
        let of = |substitute| {
            let provenance = Provenance {
                substitute,
                ..Provenance::default()
            };
            (provenance.digest(root), provenance.evidence())
        };
        assert_eq!(of(None), (Some(root), Evidence::Verified));
        let recorded = Some(other);
        assert_eq!(
            of(Some(Substitute { recorded })),
            (Some(other), Evidence::Recorded)
        );
        assert_eq!(of(Some(Substitute { recorded: None })), (None, Evidence::None));
    }
}
