//! cosign's first format of signatures: a simple signing document as a layer, and the signature of its bytes in an
//! annotation.
//!
//! Source: cosign, `specs/SIGNATURE_SPEC.md`; containers/image, `docs/containers-signature.5.md` and
//! `signature/internal/sigstore_payload.go`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::flaw::Flaw;
use super::log::Entry;
use super::signer::{KeySignature, Signed, TrustedKey};
use crate::oci::{Digest, json};

/// The media type of the layer.
pub(super) const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotations of the layer.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const LOG_ENTRY: &str = "dev.sigstore.cosign/bundle";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// What the document says that it is. skopeo writes the same.
const TYPE: &str = "cosign container image signature";

#[derive(Deserialize)]
struct Document {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: Image,
    #[serde(default)]
    identity: Option<Identity>,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

#[derive(Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference", default)]
    name: Option<String>,
}

/// Checks one layer: its bytes, and the annotations of its descriptor. Also gives the name that was signed.
pub(super) fn check(
    payload: &[u8],
    annotations: &BTreeMap<String, String>,
    subject: &Digest,
    keys: &[TrustedKey],
) -> Result<(Signed, Option<String>), Flaw> {
    let text = annotations.get(SIGNATURE);
    let text = text.ok_or_else(|| Flaw::malformed(format!("no annotation {SIGNATURE}")))?;
    let signature = STANDARD
        .decode(text)
        .map_err(|error| Flaw::malformed(format!("{SIGNATURE}: {error}")))?;
    let signature = KeySignature {
        message: payload,
        signature: &signature,
        text,
        payload,
        kind: "hashedrekord",
    };
    let entries = || match annotations.get(LOG_ENTRY) {
        Some(text) => Ok(vec![Entry::of_annotation(text).map_err(Flaw::log_entry)?]),
        None => Ok(Vec::new()),
    };
    let signed = signature.check(keys, entries).map_err(|flaw| match flaw {
        Flaw::WrongKey | Flaw::NotInPolicy { .. } if annotations.contains_key(CERTIFICATE) => Flaw::Keyless,
        other => other,
    })?;
    let document: Document = json::from_slice(payload).map_err(Flaw::malformed)?;
    let critical = document.critical;
    if critical.kind != TYPE {
        return Err(Flaw::malformed(format!(
            "a document of the type {:?}",
            critical.kind
        )));
    }
    if critical.image.digest != subject.to_string() {
        return Err(Flaw::other_image(critical.image.digest));
    }
    Ok((signed, critical.identity.and_then(|identity| identity.name)))
}
