//! What a referrer is, by the media types in its manifest. It is what the referrer says itself: nothing is checked.
//!
//! Sources: cosign, `specs/SIGNATURE_SPEC.md` and `specs/BUNDLE_SPEC.md`; notation, `specs/signature-specification.md`;
//! in-toto, `spec/v1/bundle.md`.

use std::fmt;

use super::ReferrerGraph;
use crate::oci::{Manifest, MediaType, Referrer};

/// The layer of cosign's signatures.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// What the media types of Sigstore's bundles begin with.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// The artifact type of notation's signatures.
const NOTATION: &str = "application/vnd.cncf.notary.signature";
/// The layers of attestations.
const ATTESTATIONS: [&str; 2] = [
    "application/vnd.dsse.envelope.v1+json",
    "application/vnd.in-toto+json",
];
/// The predicate type of a bundle that signs an image. Every other one is an attestation about it.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";
/// Parts of the media types of SBOMs.
const SBOMS: [&str; 3] = ["spdx", "cyclonedx", "syft"];
/// The annotations with a predicate type: of a bundle's manifest, of the layers of cosign and of buildkit.
const PREDICATE_TYPES: [&str; 3] = [
    "dev.sigstore.bundle.predicateType",
    "predicateType",
    "in-toto.io/predicate-type",
];
/// Most predicate types of a referrer that are reported.
const MAX_PREDICATE_TYPES: usize = 16;

/// What a referrer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferrerKind {
    /// A signature of cosign or notation.
    Signature,
    /// A statement about an image, such as its provenance.
    Attestation,
    /// A list of what is in an image.
    Sbom,
    /// Something else.
    Other,
}

impl fmt::Display for ReferrerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReferrerKind::Signature => "signature",
            ReferrerKind::Attestation => "attestation",
            ReferrerKind::Sbom => "SBOM",
            ReferrerKind::Other => "other",
        })
    }
}

impl ReferrerKind {
    /// The kind by a manifest, and by the tag that it stands under.
    pub fn of(manifest: &Manifest, tag: Option<&str>) -> ReferrerKind {
        let config = manifest.config.media_type.as_str();
        let artifact_type = manifest.artifact_type.as_deref().unwrap_or(config);
        let layers = || manifest.layers.iter().map(|layer| layer.media_type.as_str());
        if artifact_type == NOTATION || config == NOTATION || layers().any(|layer| layer == SIMPLE_SIGNING) {
            return ReferrerKind::Signature;
        }
        if layers().any(|layer| layer.starts_with(BUNDLE)) {
            return match predicate_types(manifest).as_slice() {
                [SIGNED] => ReferrerKind::Signature,
                [] => ReferrerKind::Other,
                _ => ReferrerKind::Attestation,
            };
        }
        if layers().any(|layer| ATTESTATIONS.contains(&layer)) {
            return ReferrerKind::Attestation;
        }
        let is_sbom = |text: &str| SBOMS.iter().any(|part| text.contains(part));
        if is_sbom(artifact_type) || layers().any(is_sbom) {
            return ReferrerKind::Sbom;
        }
        match tag.and_then(Referrer::of_tag) {
            Some(("signature", _)) => ReferrerKind::Signature,
            Some(("attestation", _)) => ReferrerKind::Attestation,
            Some(_) => ReferrerKind::Sbom,
            None => ReferrerKind::Other,
        }
    }
}

/// The predicate types that a manifest gives for its contents.
pub(crate) fn predicate_types(manifest: &Manifest) -> Vec<&str> {
    let layers = manifest.layers.iter().map(|layer| &layer.annotations);
    let mut found: Vec<&str> = Vec::new();
    for annotations in std::iter::once(&manifest.annotations).chain(layers) {
        let named = PREDICATE_TYPES.iter().filter_map(|key| annotations.get(*key));
        for text in named {
            if !found.contains(&text.as_str()) && found.len() < MAX_PREDICATE_TYPES {
                found.push(text);
            }
        }
    }
    found
}

impl ReferrerGraph {
    /// What it is.
    pub fn kind(&self) -> ReferrerKind {
        match self.manifest() {
            Some(manifest) => ReferrerKind::of(manifest, self.tag.as_deref()),
            None => ReferrerKind::Other,
        }
    }

    /// Whether it is a signature, or a bundle that does not say whether it is one.
    pub fn may_be_signature(&self) -> bool {
        let is_bundle = |manifest: &Manifest| {
            let mut layers = manifest.layers.iter();
            layers.any(|layer| layer.media_type.as_str().starts_with(BUNDLE))
        };
        match self.kind() {
            ReferrerKind::Signature => true,
            ReferrerKind::Other => self.manifest().is_some_and(is_bundle),
            ReferrerKind::Attestation | ReferrerKind::Sbom => false,
        }
    }

    /// The predicate types that it says its contents have.
    pub fn predicate_types(&self) -> Vec<&str> {
        self.manifest().map(predicate_types).unwrap_or_default()
    }

    /// Its type for people: the artifact type, or the type of its content if that says nothing.
    pub fn told_type(&self) -> &str {
        let of_images = || self.graph.artifact_type();
        let named = self.artifact_type.as_deref();
        let is_telling = |named: &&str| *named != MediaType::OCI_CONFIG && *named != MediaType::OCI_EMPTY;
        named
            .filter(is_telling)
            .or_else(of_images)
            .or(named)
            .unwrap_or_else(|| self.graph.root.media_type.as_str())
    }
}
