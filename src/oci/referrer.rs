//! Manifests that refer to another one, such as signatures and SBOMs: OCI image specification, "Image Manifest",
//! `subject`; cosign, `pkg/oci/remote` (`SignatureTag`), for those that only a tag makes one.

use std::collections::BTreeMap;

use super::Digest;

/// What makes a manifest or index a referrer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// Digest of the manifest that it refers to.
    pub subject: Digest,
    /// Its type: the one that it names, else that of its config.
    pub artifact_type: Option<String>,
    /// Free text by key.
    pub annotations: BTreeMap<String, String>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    subject: Option<Subject>,
    artifact_type: Option<String>,
    config: Option<Typed>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(serde::Deserialize)]
struct Subject {
    digest: Digest,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    media_type: String,
}

impl Referrer {
    /// Reads the stored bytes of a manifest or index; `None` without a subject.
    ///
    /// Source: OCI distribution specification, "Listing Referrers".
    pub fn of(raw: &[u8]) -> Option<Referrer> {
        let fields: Fields = serde_json::from_slice(raw).ok()?;
        let config = || fields.config.map(|config| config.media_type);
        Some(Referrer {
            subject: fields.subject?.digest,
            artifact_type: fields.artifact_type.or_else(config),
            annotations: fields.annotations.unwrap_or_default(),
        })
    }

    /// The kind and the subject of what a tag such as `sha256-<hex>.sig` names, as cosign tags signatures (`sig`),
    /// attestations (`att`) and SBOMs (`sbom`).
    pub fn of_tag(tag: &str) -> Option<(&'static str, Digest)> {
        let (digest, end) = tag.split_once('.')?;
        let kind = match end {
            "sig" => "signature",
            "att" => "attestation",
            "sbom" => "SBOM",
            _ => return None,
        };
        Some((kind, digest.replacen('-', ":", 1).parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_or_a_tag_makes_a_referrer() {
        let subject = Digest::sha256(b"image");
        let raw = format!(
            r#"{{"config":{{"mediaType":"a/b"}},"subject":{{"digest":"{subject}"}},"annotations":{{"k":"v"}}}}"#
        );
        let referrer = Referrer::of(raw.as_bytes()).unwrap();
        assert_eq!(referrer.subject, subject);
        assert_eq!(referrer.artifact_type.as_deref(), Some("a/b"));
        assert_eq!(referrer.annotations["k"], "v");
        assert_eq!(Referrer::of(br#"{"config":{"mediaType":"a/b"}}"#), None);
        let tag = |end: &str| Referrer::of_tag(&format!("sha256-{}{end}", subject.hex()));
        assert_eq!(tag(".sig"), Some(("signature", subject)));
        assert_eq!(tag(".att"), Some(("attestation", subject)));
        for end in ["", ".tar", ".sig.sig"] {
            assert_eq!(tag(end), None, "{end}");
        }
        assert_eq!(Referrer::of_tag("1.sig"), None);
    }
}
