//! Manifests written by containers/image, the library of podman, skopeo, buildah and CRI-O.
//!
//! `podman save` and `buildah push` keep no manifest of a registry: they compress the layers again and write a
//! new manifest. `skopeo copy` keeps the bytes of a manifest, unless it converts one of Docker's types for an
//! OCI layout; then it writes manifest and index anew too. So a manifest in the library's form may be one that
//! no registry has. It may also be a registry's, because `podman push` writes the same form. Only the registry
//! tells.
//!
//! The form is that of Go's `encoding/json` on one line. Sources: containers/image `manifest/oci.go`,
//! `manifest/oci_index.go`, `manifest/docker_schema2.go`, `oci/layout/oci_dest.go`; output of podman 4.3 and
//! 5.8 and skopeo 1.9 and 1.22.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::format::{Entry, REF_NAME};
use crate::image::provenance::{ManifestOrigin, Origins, Substitute};
use crate::oci::{Digest, json};

/// Why such a manifest proves no digest, for people.
const REASON: &str = "podman, buildah or skopeo may have written it for this archive";

/// Why the manifest of a digest in a name is missing, for people.
const REPLACED: &str = "the tool that made the archive put another one in its place";

/// A manifest or index with its fields in the library's order.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written<D> {
    schema_version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<D>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<D>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<Vec<D>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<D>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Oci {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    urls: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Docker {
    media_type: String,
    size: u64,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    urls: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Platform {
    architecture: String,
    os: String,
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    os_version: Option<String>,
    #[serde(rename = "os.features", skip_serializing_if = "Option::is_none")]
    os_features: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
}

/// Whether the library may have written a manifest or index, by its form.
pub fn may_have_written(document: &[u8]) -> bool {
    rewritten::<Oci>(document).is_some() || rewritten::<Docker>(document).is_some()
}

/// The parsed document, if serialising it gives the same bytes.
fn rewritten<D: Serialize + DeserializeOwned>(document: &[u8]) -> Option<Written<D>> {
    let parsed: Written<D> = json::from_slice(document).ok()?;
    let text = serde_json::to_string(&parsed).ok()?;
    (go_escaped(&text).as_bytes() == document).then_some(parsed)
}

/// Escapes JSON as Go does: these characters occur in strings only.
fn go_escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '&' => escaped.push_str("\\u0026"),
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Marks the entries of a layout whose manifests do not prove their digests. `index` is its `index.json`;
/// `document` reads the manifest or index of an entry, if it is present.
///
/// Only entries that the library may have written are marked. It annotates nothing but a name.
pub(super) fn qualify(index: &[u8], entries: &mut [Entry], document: impl Fn(&Digest) -> Option<Vec<u8>>) {
    if rewritten::<Oci>(index).is_none_or(|index| index.annotations.is_some()) {
        return;
    }
    let mut known: BTreeMap<Digest, bool> = BTreeMap::new();
    for entry in entries {
        let mut annotations = entry.descriptor.annotations.keys();
        if annotations.any(|key| key != REF_NAME) {
            continue;
        }
        let root = entry.descriptor.digest;
        let pinned = entry.reference.as_ref().and_then(|name| name.digest());
        match pinned {
            // `podman save NAME@DIGEST`: the digest by which podman knew the image.
            Some(pinned) if pinned != root => {
                entry.substitute = Some(Substitute {
                    recorded: Some(pinned),
                });
                entry.origins = Some(said(ManifestOrigin::Substitute {
                    reason: REPLACED.into(),
                }));
            }
            Some(_) => {}
            None => {
                let may_be_new = known
                    .entry(root)
                    .or_insert_with(|| document(&root).is_some_and(|bytes| may_have_written(&bytes)));
                entry.is_unproven = *may_be_new;
            }
        }
        if entry.is_unproven {
            let reason = REASON.into();
            entry.origins = Some(said(ManifestOrigin::Unproven { reason }));
        }
    }
}

fn said(manifest: ManifestOrigin) -> Origins {
    Origins {
        manifest,
        layers: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(head: &str, order: [&str; 2], tail: &str) -> String {
        let digest = format!(r#""digest":"{}""#, Digest::sha256(b"x"));
        let of = |part: &str| match part {
            "digest" => digest.clone(),
            _ => r#""size":7"#.into(),
        };
        let [second, third] = order.map(of);
        let descriptor = |kind: &str| format!(r#"{{"mediaType":"{kind}",{second},{third}}}"#);
        format!(
            r#"{{"schemaVersion":2{head},"config":{},"layers":[{}]{tail}}}"#,
            descriptor("c"),
            descriptor("l")
        )
    }

    #[test]
    fn manifests_in_the_form_of_the_library() {
        let (oci, docker) = (["digest", "size"], ["size", "digest"]);
        let typed = r#","mediaType":"m""#;
        // As `podman save` keeps them, and as Go escapes them.
        let annotations = r#","annotations":{"a":"\u003c1\u0026","b":"2"}"#;
        for text in [
            manifest(typed, oci, ""),
            manifest("", oci, ""),
            manifest(typed, docker, ""),
            manifest(typed, oci, annotations),
        ] {
            assert!(may_have_written(text.as_bytes()), "{text}");
            let pretty = text.replacen(',', ", ", 1);
            assert!(!may_have_written(pretty.as_bytes()), "{pretty}");
            assert!(!may_have_written(format!("{text}\n").as_bytes()), "{text}");
        }
        for text in [
            manifest(typed, oci, r#","annotations":{"b":"2","a":"1"}"#),
            manifest(typed, oci, r#","annotations":{"a":"<"}"#),
            manifest(typed, oci, r#","other":1"#),
            manifest(typed, docker, annotations).replace("schemaVersion\":2,", "schemaVersion\":2, "),
            "[]".into(),
        ] {
            assert!(!may_have_written(text.as_bytes()), "{text}");
        }
    }
}
