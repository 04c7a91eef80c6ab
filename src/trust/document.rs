//! Documents about an image: what attestations state, and SBOMs.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Fetch;
use super::artifact::{MAX_READ, STATEMENTS, is_sbom};
use super::attestation::statement_of;
use super::bundle;
use super::statement::{self, Statement};
use crate::error::Result;
use crate::oci::{Descriptor, Manifest, json};

/// Largest document that is read, in bytes, with the envelope around it. SBOMs of large images have some ten megabytes.
pub const MAX_DOCUMENT: u64 = 128 << 20;

/// How the predicate types of SBOMs begin.
const SBOM_PREDICATES: [&str; 3] = [
    "https://spdx.dev/Document",
    "https://cyclonedx.org/bom",
    "https://syft.dev/bom",
];
/// The names that cosign has for types of predicates, and how the types begin.
const TYPES: [(&str, &str); 9] = [
    ("slsaprovenance", "https://slsa.dev/provenance/"),
    ("slsaprovenance02", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance1", "https://slsa.dev/provenance/v1"),
    ("spdx", "https://spdx.dev/Document"),
    ("spdxjson", "https://spdx.dev/Document"),
    ("cyclonedx", "https://cyclonedx.org/bom"),
    ("vuln", "https://cosign.sigstore.dev/attestation/vuln/"),
    ("openvex", "https://openvex.dev/ns"),
    ("link", "https://in-toto.io/Link/"),
];

/// A document about an image. Who signed it is not checked.
#[derive(Debug, Clone)]
pub struct AttachedDocument {
    /// The statement around it; `None` for an SBOM without one.
    pub statement: Option<Statement>,
    /// Its media type, if no statement says what it is.
    pub media_type: String,
    /// Its bytes as they are stored: the predicate of the statement.
    pub bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct Predicate {
    predicate: Option<Box<RawValue>>,
}

impl AttachedDocument {
    /// Gives the documents in a manifest one by one, each of at most `limit` bytes with what is around it. What claims to be
    /// a statement and is none is left out, and so are signatures.
    ///
    /// # Errors
    ///
    /// Those of `fetch`.
    pub fn each(
        manifest: &Manifest,
        limit: u64,
        fetch: &mut dyn Fetch,
        take: &mut dyn FnMut(AttachedDocument),
    ) -> Result<()> {
        let is_all_sbom = manifest.artifact_type.as_deref().is_some_and(is_sbom);
        for layer in manifest.layers.iter().take(MAX_READ) {
            let media_type = layer.media_type.as_str();
            if bundle::is_bundle(media_type) || STATEMENTS.contains(&media_type) {
                let bytes = fetch.blob(layer, limit)?;
                if let Some(document) = stated(layer, &bytes) {
                    take(document);
                }
            } else if is_sbom(media_type) || is_all_sbom {
                take(AttachedDocument {
                    statement: None,
                    media_type: media_type.into(),
                    bytes: fetch.blob(layer, limit)?,
                });
            }
        }
        Ok(())
    }

    /// What it is: the type of its predicate, or its media type.
    pub fn kind(&self) -> &str {
        let statement = self.statement.as_ref();
        statement.map_or(&self.media_type, |statement| &statement.predicate_type)
    }

    /// Whether it lists what is in an image.
    pub fn is_sbom(&self) -> bool {
        match &self.statement {
            Some(statement) => {
                let mut types = SBOM_PREDICATES.iter();
                types.any(|known| statement.predicate_type.starts_with(known))
            }
            None => true,
        }
    }

    /// Whether it is an attestation of a type: one of cosign's names, such as `slsaprovenance`, `spdx` or `cyclonedx`, or
    /// the URI of a predicate type.
    pub fn is_attestation(&self, wanted: &str) -> bool {
        let Some(statement) = &self.statement else {
            return false;
        };
        let known = TYPES.iter().find(|(name, _)| *name == wanted);
        match known {
            Some((_, beginning)) => statement.predicate_type.starts_with(beginning),
            None => statement.predicate_type == wanted,
        }
    }
}

/// The document in a layer with a statement.
fn stated(layer: &Descriptor, bytes: &[u8]) -> Option<AttachedDocument> {
    let payload = statement_of(layer.media_type.as_str(), bytes).ok()??;
    let statement = Statement::parse(&payload).ok()?;
    let predicate: Predicate = json::from_slice(&payload).ok()?;
    (statement.predicate_type != statement::SIGNATURE).then(|| AttachedDocument {
        statement: Some(statement),
        media_type: layer.media_type.to_string(),
        bytes: predicate
            .predicate
            .map_or_else(|| b"null".to_vec(), |raw| raw.get().as_bytes().to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::oci::{Digest, MediaType};

    fn read(media_type: &str, text: &str) -> Option<AttachedDocument> {
        let bytes = text.as_bytes().to_vec();
        let layer = Descriptor::new(MediaType::new(media_type), Digest::sha256(&bytes), 0);
        stated(&layer, &bytes)
    }

    #[test]
    fn a_predicate_is_given_as_it_is_stored() {
        let statement = |kind: &str| {
            format!(
                r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"{kind}","predicate":{{ "a": 1.50,"b":"\u0041" }} }}"#
            )
        };
        let spdx = statement("https://spdx.dev/Document/v2.3");
        let document = read("application/vnd.in-toto+json", &spdx).unwrap();
        assert_eq!(document.bytes, br#"{ "a": 1.50,"b":"\u0041" }"#);
        assert!(
            document.is_sbom() && document.is_attestation("spdx") && !document.is_attestation("cyclonedx")
        );
        assert!(document.is_attestation("https://spdx.dev/Document/v2.3"));
        assert!(!document.is_attestation("https://spdx.dev/Document"));
        let envelope = format!(
            r#"{{"payload":"{}","payloadType":"application/vnd.in-toto+json","signatures":[{{"sig":""}}]}}"#,
            STANDARD.encode(&spdx)
        );
        let enveloped = read("application/vnd.dsse.envelope.v1+json", &envelope).unwrap();
        assert_eq!(enveloped.bytes, document.bytes);
        let signature = statement("https://sigstore.dev/cosign/sign/v1");
        assert!(read("application/vnd.in-toto+json", &signature).is_none());
        for bad in [
            "",
            "{",
            "[]",
            r#"{"payload":"?"}"#,
            r#"{"payload":""}"#,
            r#"{"dsseEnvelope":{}}"#,
        ] {
            assert!(read("application/vnd.in-toto+json", bad).is_none(), "{bad}");
            assert!(
                read("application/vnd.dev.sigstore.bundle.v0.3+json", bad).is_none(),
                "{bad}"
            );
        }
    }
}
