//! Manifests that refer to another one, such as signatures and SBOMs, and the tags that lead to them: OCI image
//! specification, "Image Manifest", `subject`; OCI distribution specification, "Referrers Tag Schema"; cosign,
//! `pkg/oci/remote` (`SignatureTag`).

use std::collections::BTreeMap;

use super::{Descriptor, Digest};

/// The longest tag that a registry takes, in characters: OCI distribution specification, "Pulling manifests".
const MAX_TAG: usize = 128;
/// Most characters of the algorithm, and of the hash, in the tag of a list.
const LIST_TAG: (usize, usize) = (32, 64);
/// What cosign's tags end in, and what they name.
const KINDS: [(&str, &str); 3] = [("sig", "signature"), ("att", "attestation"), ("sbom", "SBOM")];

/// A manifest or index that refers to another one by its `subject`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// Digest of the manifest that it refers to.
    pub subject: Digest,
    /// Its descriptor as a list of referrers has it: with its annotations, and the artifact type computed from the
    /// manifest. Lists of some tools have a wrong type.
    pub descriptor: Descriptor,
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

impl Fields {
    fn of(raw: &[u8]) -> Option<Fields> {
        serde_json::from_slice(raw).ok()
    }

    /// The named type, else that of the config.
    fn artifact_type(&self) -> Option<String> {
        let named = self.artifact_type.clone().filter(|named| !named.is_empty());
        named.or_else(|| Some(self.config.as_ref()?.media_type.clone()))
    }
}

impl Referrer {
    /// Reads the stored bytes of a manifest or index; `None` without a subject.
    ///
    /// Source: OCI distribution specification, "Listing Referrers".
    pub fn of(descriptor: &Descriptor, raw: &[u8]) -> Option<Referrer> {
        let fields = Fields::of(raw)?;
        let mut listed = descriptor.bare();
        listed.artifact_type = fields.artifact_type();
        listed.annotations = fields.annotations.unwrap_or_default();
        Some(Referrer {
            subject: fields.subject?.digest,
            descriptor: listed,
        })
    }

    /// The digest that the stored bytes of a manifest or index refer to.
    pub fn subject(raw: &[u8]) -> Option<Digest> {
        Some(Fields::of(raw)?.subject?.digest)
    }

    /// The artifact type by the stored bytes of a manifest or index, with or without a subject.
    pub fn artifact_type(raw: &[u8]) -> Option<String> {
        Fields::of(raw)?.artifact_type()
    }

    /// The kind and the subject of what a tag such as `sha256-<hex>.sig` names, as cosign tags signatures (`sig`),
    /// attestations (`att`) and SBOMs (`sbom`).
    pub fn of_tag(tag: &str) -> Option<(&'static str, Digest)> {
        let (digest, end) = tag.split_once('.')?;
        let (_, kind) = KINDS.iter().find(|(suffix, _)| *suffix == end)?;
        Some((kind, digest_in(digest)?))
    }

    /// The tags by which cosign finds what refers to a manifest. None for digests that are too long for a tag.
    pub fn tags(subject: &Digest) -> Vec<String> {
        let all = KINDS.iter().map(|(suffix, _)| Referrer::tag(subject, suffix));
        all.filter(|tag| tag.len() <= MAX_TAG).collect()
    }

    /// One of cosign's tags: `sha256-<hex>.<suffix>`.
    pub fn tag(subject: &Digest, suffix: &str) -> String {
        format!("{}-{}.{suffix}", subject.algorithm(), subject.hex())
    }

    /// The tag of the index that lists the referrers of a manifest where a registry has no API for that.
    pub fn list_tag(subject: &Digest) -> String {
        let (algorithm, hash) = LIST_TAG;
        let algorithm: String = subject.algorithm().chars().take(algorithm).collect();
        let hash: String = subject.hex().chars().take(hash).collect();
        format!("{algorithm}-{hash}")
    }

    /// The digest whose referrers an index with this tag lists. `None` if it is another tag, or if the tag has only
    /// the beginning of a longer digest.
    pub fn subject_of_list(tag: &str) -> Option<Digest> {
        digest_in(tag)
    }
}

/// The digest in `sha256-<hex>`.
fn digest_in(tag: &str) -> Option<Digest> {
    tag.replacen('-', ":", 1).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::testing::describe;

    #[test]
    fn a_subject_makes_a_referrer() {
        let subject = Digest::sha256(b"image");
        let read = |text: String| Referrer::of(&describe("x/y", text.as_bytes()), text.as_bytes());
        let subject_text = format!(r#""subject":{{"digest":"{subject}"}}"#);
        for (fields, artifact_type) in [
            (r#""config":{"mediaType":"a/b"}"#, Some("a/b")),
            (
                r#""artifactType":"c/d","config":{"mediaType":"a/b"}"#,
                Some("c/d"),
            ),
            (r#""artifactType":"","config":{"mediaType":"a/b"}"#, Some("a/b")),
            (r#""manifests":[]"#, None),
        ] {
            let text = format!(r#"{{{fields},{subject_text},"annotations":{{"k":"v"}}}}"#);
            let referrer = read(text.clone()).unwrap();
            assert_eq!(referrer.subject, subject);
            assert_eq!(
                referrer.descriptor.artifact_type.as_deref(),
                artifact_type,
                "{text}"
            );
            assert_eq!(referrer.descriptor.annotations["k"], "v");
            assert_eq!(referrer.descriptor.digest, Digest::sha256(text.as_bytes()));
            assert_eq!(Referrer::subject(text.as_bytes()), Some(subject));
        }
        assert_eq!(read(r#"{"config":{"mediaType":"a/b"}}"#.into()), None);
        assert_eq!(read("no JSON".into()), None);
    }

    #[test]
    fn tags_lead_to_referrers_and_lists_of_them() {
        let subject = Digest::sha256(b"image");
        let tag = |end: &str| Referrer::of_tag(&format!("sha256-{}{end}", subject.hex()));
        assert_eq!(tag(".sig"), Some(("signature", subject)));
        assert_eq!(tag(".att"), Some(("attestation", subject)));
        assert_eq!(tag(".sbom"), Some(("SBOM", subject)));
        for end in ["", ".tar", ".sig.sig"] {
            assert_eq!(tag(end), None, "{end}");
        }
        assert_eq!(Referrer::of_tag("1.sig"), None);
        let tags = Referrer::tags(&subject);
        assert_eq!(tags.len(), 3);
        assert!(tags.iter().all(|tag| Referrer::of_tag(tag).is_some()));
        let list = Referrer::list_tag(&subject);
        assert_eq!(list, format!("sha256-{}", subject.hex()));
        assert_eq!(Referrer::subject_of_list(&list), Some(subject));
        for other in ["1.0", "sha256", "sha256-abc", tags[0].as_str()] {
            assert_eq!(Referrer::subject_of_list(other), None, "{other}");
        }
        let long: Digest = format!("sha512:{}", "ab".repeat(64)).parse().unwrap();
        assert_eq!(Referrer::list_tag(&long), format!("sha512-{}", "ab".repeat(32)));
        assert_eq!(Referrer::tags(&long), [""; 0]);
    }
}
