//! Bundles of sigstore, version 0.3, with an envelope around a statement: the format that cosign 3 writes.
//!
//! Source: sigstore/protobuf-specs, `sigstore_bundle.proto` and `sigstore_common.proto`; cosign,
//! `pkg/cosign/verify_bundle.go`.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::flaw::Flaw;
use super::log::{BundleEntry, Entry};
use super::signer::{KeySignature, Signed, TrustedKey};
use super::statement::{Envelope, Statement};
use crate::oci::{Digest, json};

/// The media types of a bundle.
const MEDIA_TYPES: [&str; 2] = [
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
];
/// How the media types of all versions begin.
const ANY_VERSION: &str = "application/vnd.dev.sigstore.bundle";
/// Most entries of logs in a bundle.
const MAX_ENTRIES: usize = 32;

/// Whether a media type is that of a bundle, of any version.
pub(super) fn is_bundle(media_type: &str) -> bool {
    media_type.starts_with(ANY_VERSION)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Bundle {
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
    message_signature: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Option<Hint>,
    certificate: Option<IgnoredAny>,
    x509_certificate_chain: Option<IgnoredAny>,
    #[serde(default)]
    tlog_entries: Vec<BundleEntry>,
}

#[derive(Deserialize)]
struct Hint {
    #[serde(default)]
    hint: String,
}

impl Bundle {
    pub(super) fn parse(bytes: &[u8]) -> Result<Bundle, Flaw> {
        // The version first: other ones have other fields.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            media_type: String,
        }
        let Version { media_type } = json::from_slice(bytes).map_err(Flaw::malformed)?;
        if !MEDIA_TYPES.contains(&media_type.as_str()) {
            return Err(Flaw::not_supported(media_type));
        }
        let bundle: Bundle = json::from_slice(bytes).map_err(Flaw::malformed)?;
        if bundle.verification_material.tlog_entries.len() > MAX_ENTRIES {
            return Err(Flaw::malformed(format!("more than {MAX_ENTRIES} log entries")));
        }
        Ok(bundle)
    }

    /// The key that the bundle claims to be signed with, by its id.
    pub(super) fn key_hint(&self) -> Option<&str> {
        let hint = self.verification_material.public_key.as_ref();
        hint.map(|key| key.hint.as_str()).filter(|hint| !hint.is_empty())
    }

    /// The bytes of the statement, which nothing has checked; `None` without one.
    pub(super) fn statement(&self) -> Option<Vec<u8>> {
        let decoded = self.dsse_envelope.as_ref()?.decode();
        decoded.ok().map(|decoded| decoded.payload)
    }

    fn is_keyless(&self) -> bool {
        let material = &self.verification_material;
        material.certificate.is_some() || material.x509_certificate_chain.is_some()
    }

    /// Checks who signed the statement, and that it is of this type and about the subject.
    pub(super) fn check(
        &self,
        subject: &Digest,
        keys: &[TrustedKey],
        predicate_type: &str,
    ) -> Result<Signed, Flaw> {
        let Some(envelope) = &self.dsse_envelope else {
            return Err(match self.message_signature {
                Some(_) => Flaw::MessageSignature,
                None => Flaw::malformed("a bundle without content"),
            });
        };
        let decoded = envelope.decode().map_err(Flaw::malformed)?;
        let statement = Statement::parse(&decoded.payload);
        // Said first: that an attestation is no signature does not depend on who made it.
        if let Ok(found) = &statement
            && found.predicate_type != predicate_type
        {
            return Err(Flaw::attestation(&found.predicate_type));
        }
        if self.is_keyless() {
            return Err(Flaw::Keyless);
        }
        let signature = KeySignature {
            message: &decoded.signed,
            signature: &decoded.signature,
            text: &decoded.signature_text,
            payload: &decoded.payload,
            kind: "dsse",
        };
        let signed = signature.check(keys, || {
            let entries = self.verification_material.tlog_entries.iter().cloned();
            let entries: Result<Vec<Entry>, String> = entries.map(BundleEntry::decode).collect();
            entries.map_err(Flaw::log_entry)
        })?;
        let statement = statement.map_err(Flaw::malformed)?;
        match statement.is_about(subject) {
            true => Ok(signed),
            false => Err(Flaw::other_image(statement.about())),
        }
    }
}
