//! What a referrer is, without checking it.

use std::collections::BTreeSet;

use serde::Serialize;

use super::bundle::{self, Bundle};
use super::flaw::clipped;
use super::notation::Envelope;
use super::statement::{self, Statement};
use super::{Fetch, MAX_ENVELOPE, simple_signing};
use crate::error::Result;
use crate::oci::{Document, Manifest, MediaType};

/// Annotations of a manifest with a bundle: what the bundle's statement is.
const BUNDLE_PREDICATE: &str = "dev.sigstore.bundle.predicateType";
/// Annotations of a layer: what its statement is, as cosign and as buildkit write it.
const LAYER_PREDICATES: [&str; 2] = ["predicateType", "in-toto.io/predicate-type"];
/// Layers with a statement.
pub(super) const STATEMENTS: [&str; 2] = [
    "application/vnd.dsse.envelope.v1+json",
    "application/vnd.in-toto+json",
];
/// How the media types of SBOMs begin.
const SBOMS: [&str; 7] = [
    "text/spdx",
    "application/spdx",
    "application/vnd.spdx",
    "application/vnd.cyclonedx",
    "application/vnd.syft",
    "application/vnd.goharbor.harbor.sbom",
    "application/vnd.sbom",
];
/// Most layers of a referrer whose content is read to say what it claims.
pub(super) const MAX_READ: usize = 100;

/// What kind of artifact a referrer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactKind {
    /// Signatures in cosign's first format.
    CosignSignature,
    /// A signature in a bundle of sigstore, as cosign 3 writes it.
    CosignBundle,
    /// A signature of notation.
    NotationSignature,
    /// Statements about an image, such as its provenance, signed or not.
    Attestation,
    /// An SBOM without a statement around it.
    Sbom,
    /// Anything else.
    Other,
}

impl ArtifactKind {
    /// Whether it is a signature of an image.
    pub fn is_signature(self) -> bool {
        matches!(
            self,
            ArtifactKind::CosignSignature | ArtifactKind::CosignBundle | ArtifactKind::NotationSignature
        )
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            ArtifactKind::CosignSignature | ArtifactKind::CosignBundle => "cosign signature",
            ArtifactKind::NotationSignature => "notation signature",
            ArtifactKind::Attestation => "attestation",
            ArtifactKind::Sbom => "SBOM",
            ArtifactKind::Other => "artifact",
        }
    }
}

/// What a referrer is, and what it claims. Nothing of it has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Artifact {
    /// What kind of artifact it is.
    pub kind: ArtifactKind,
    /// Its type: the one that the manifest names, else that of its config; that of its first layer where those are of no
    /// use.
    pub artifact_type: String,
    /// The types of its statements.
    pub predicate_types: Vec<String>,
    /// Who claims to have signed it: ids of keys, and subjects of certificates. [`Artifact::of`] leaves it empty.
    pub signers: Vec<String>,
}

impl Artifact {
    /// Says what a manifest or index is by what is in it. Its signature, if it is one, is not checked.
    pub fn of(document: &Document) -> Artifact {
        match document {
            Document::Manifest(manifest) => of_manifest(manifest),
            Document::Index(index) => Artifact {
                kind: ArtifactKind::Other,
                artifact_type: Document::sniff(&index.raw)
                    .map(|found| found.to_string())
                    .unwrap_or_default(),
                predicate_types: Vec::new(),
                signers: Vec::new(),
            },
        }
    }

    /// Also reads what is signed, and so tells who claims to have signed it and what its statements are.
    ///
    /// What cannot be read or parsed is left out: this is for reports, and a check tells about it.
    ///
    /// # Errors
    ///
    /// Only if `fetch` is interrupted.
    pub fn read(document: &Document, fetch: &mut dyn Fetch) -> Result<Artifact> {
        let mut artifact = Artifact::of(document);
        let Document::Manifest(manifest) = document else {
            return Ok(artifact);
        };
        let (mut predicates, mut signers) = (BTreeSet::new(), BTreeSet::new());
        let is_notation = is_notation(manifest);
        for layer in manifest.layers.iter().take(MAX_READ) {
            let media_type = layer.media_type.as_str();
            if !is_notation && !bundle::is_bundle(media_type) {
                continue;
            }
            let Some(bytes) = super::optional(fetch.blob(layer, MAX_ENVELOPE))? else {
                continue;
            };
            if is_notation {
                let envelope = Envelope::parse(media_type, &bytes).ok();
                signers.extend(envelope.and_then(|envelope| envelope.claimed()));
                continue;
            }
            let Ok(bundle) = Bundle::parse(&bytes) else {
                continue;
            };
            signers.extend(bundle.key_hint().map(clipped));
            let statement = bundle.statement().map(|bytes| Statement::parse(&bytes));
            predicates.extend(
                statement
                    .and_then(std::result::Result::ok)
                    .map(|found| clipped(&found.predicate_type)),
            );
        }
        if !predicates.is_empty() {
            artifact.kind = of_predicates(predicates.iter().map(String::as_str));
            artifact.predicate_types = predicates.into_iter().collect();
        }
        artifact.signers = signers.into_iter().collect();
        Ok(artifact)
    }
}

/// Whether a media type or artifact type is that of an SBOM.
pub(super) fn is_sbom(media_type: &str) -> bool {
    SBOMS.iter().any(|sbom| media_type.starts_with(sbom))
}

fn of_manifest(manifest: &Manifest) -> Artifact {
    let layers = || manifest.layers.iter().map(|layer| layer.media_type.as_str());
    let first = layers().next();
    let config = manifest.config.media_type.as_str();
    let tells_nothing = [
        MediaType::OCI_EMPTY,
        MediaType::OCI_CONFIG,
        "application/vnd.docker.container.image.v1+json",
    ]
    .contains(&config);
    let named = manifest
        .artifact_type
        .as_deref()
        .filter(|named| !named.is_empty());
    let artifact_type = match (named, first) {
        (Some(named), _) => named,
        (None, Some(layer)) if tells_nothing => layer,
        (None, _) => config,
    };
    let mut predicates = BTreeSet::new();
    predicates.extend(manifest.annotations.get(BUNDLE_PREDICATE));
    for layer in &manifest.layers {
        predicates.extend(
            LAYER_PREDICATES
                .iter()
                .filter_map(|name| layer.annotations.get(*name)),
        );
    }
    let kind = if is_notation(manifest) {
        ArtifactKind::NotationSignature
    } else if layers().any(|layer| layer == simple_signing::MEDIA_TYPE) {
        ArtifactKind::CosignSignature
    } else if layers().any(bundle::is_bundle) {
        of_predicates(predicates.iter().map(|found| found.as_str()))
    } else if layers().any(|layer| STATEMENTS.contains(&layer)) {
        ArtifactKind::Attestation
    } else if layers().any(is_sbom) || is_sbom(artifact_type) {
        ArtifactKind::Sbom
    } else {
        ArtifactKind::Other
    };
    Artifact {
        kind,
        artifact_type: clipped(artifact_type),
        predicate_types: predicates.into_iter().map(|found| clipped(found)).collect(),
        signers: Vec::new(),
    }
}

/// What a bundle is by the types of its statements. Without one it may be a signature.
fn of_predicates<'p>(mut predicates: impl Iterator<Item = &'p str>) -> ArtifactKind {
    match predicates.all(|found| found == statement::SIGNATURE) {
        true => ArtifactKind::CosignBundle,
        false => ArtifactKind::Attestation,
    }
}

/// Whether a manifest is a signature of notation, by the type that it has for its own tools.
pub(super) fn is_notation(manifest: &Manifest) -> bool {
    const NOTATION: &str = "application/vnd.cncf.notary.signature";
    manifest.artifact_type.as_deref() == Some(NOTATION) || manifest.config.media_type.as_str() == NOTATION
}
