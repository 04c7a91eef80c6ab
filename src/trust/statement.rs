//! in-toto statements and the DSSE envelopes around them.
//!
//! Source: in-toto/attestation, `spec/v1/statement.md`; secure-systems-lab/dsse, `protocol.md`; cosign,
//! `pkg/cosign/verify.go`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::oci::{Digest, json};

/// The media type of a statement.
pub(super) const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The predicate type that makes a statement the signature of an image.
pub(super) const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
const TYPES: [&str; 2] = [
    "https://in-toto.io/Statement/v0.1",
    "https://in-toto.io/Statement/v1",
];

/// A DSSE envelope. Only base64 with its padding is read, so that equal content has one spelling.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    sig: String,
    /// A hint, which bundles have elsewhere.
    #[serde(rename = "keyid")]
    _key_id: Option<IgnoredAny>,
}

/// What an envelope is about and who claims it, decoded.
pub(super) struct Decoded {
    /// The statement's bytes.
    pub(super) payload: Vec<u8>,
    /// The bytes that are signed.
    pub(super) signed: Vec<u8>,
    pub(super) signature: Vec<u8>,
    /// The signature in base64, as logs have it.
    pub(super) signature_text: String,
}

impl Envelope {
    /// Decodes it. It must have one signature, as cosign and the bundle format demand.
    pub(super) fn decode(&self) -> Result<Decoded, String> {
        let bytes =
            |name: &str, text: &str| STANDARD.decode(text).map_err(|error| format!("{name}: {error}"));
        let [signature] = self.signatures.as_slice() else {
            return Err(format!(
                "an envelope with {} signatures, expected one",
                self.signatures.len()
            ));
        };
        if self.payload_type != IN_TOTO {
            return Err(format!("an envelope around {}", self.payload_type));
        }
        let payload = bytes("payload", &self.payload)?;
        let header = format!(
            "DSSEv1 {} {} {} ",
            self.payload_type.len(),
            self.payload_type,
            payload.len()
        );
        let mut signed = header.into_bytes();
        signed.extend_from_slice(&payload);
        Ok(Decoded {
            payload,
            signed,
            signature: bytes("signature", &signature.sig)?,
            signature_text: signature.sig.clone(),
        })
    }
}

/// An in-toto statement: what it is about, and of which type it is.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The type of what it states.
    pub predicate_type: String,
    subjects: Vec<Subject>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    #[serde(rename = "predicate")]
    _predicate: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Deserialize)]
struct Subject {
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

impl Statement {
    /// Parses a statement.
    ///
    /// # Errors
    ///
    /// If it is not one of version 0.1 or 1.
    pub fn parse(bytes: &[u8]) -> Result<Statement, String> {
        let fields: Fields = json::from_slice(bytes).map_err(|error| format!("statement: {error}"))?;
        if !TYPES.contains(&fields.kind.as_str()) {
            return Err(format!("a statement of the type {}", fields.kind));
        }
        Ok(Statement {
            predicate_type: fields.predicate_type,
            subjects: fields.subject,
        })
    }

    /// Whether one of its subjects has this digest.
    pub fn is_about(&self, digest: &Digest) -> bool {
        let hex = digest.hex();
        let mut subjects = self.subjects.iter();
        subjects.any(|subject| subject.digest.get(digest.algorithm()) == Some(&hex))
    }

    /// Whether it names nothing that it is about, as statements of buildkit with `oci-artifact`.
    pub fn is_about_nothing(&self) -> bool {
        self.subjects.is_empty()
    }

    /// What it is about, in words.
    pub(super) fn about(&self) -> String {
        const SHOWN: usize = 3;
        let digests = self.subjects.iter().flat_map(|subject| &subject.digest);
        let mut shown: Vec<String> = digests
            .take(SHOWN + 1)
            .map(|(name, hex)| format!("{name}:{hex}"))
            .collect();
        if shown.len() > SHOWN {
            shown.truncate(SHOWN);
            shown.push("and more".into());
        }
        match shown.is_empty() {
            true => "nothing".into(),
            false => shown.join(", "),
        }
    }
}
