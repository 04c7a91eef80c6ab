//! The list of an image's referrers: an index in a blob, whose digest is an annotation of the image's entry.
//!
//! One more entry in `index.json` would break `podman load`, skopeo and crane, and Docker 26 and 28 would make a hidden image
//! of it. The descriptors are those of containerd's exporter (`core/images/archive/exporter.go`), which Docker 29 writes
//! and reads, too.

use std::collections::BTreeMap;

use super::to_json;
use crate::error::{Problem, Result};
use crate::image::referrers::{ListedReferrer, MAX_REFERRERS, ReferrerGraph};
use crate::oci::{Descriptor, Digest, Document, MediaType, Referrer};

/// The digest of the list; on the entry of an image.
pub const REFERRERS: &str = "dev.sealift.referrers";
/// Digest of the manifest that a referrer refers to; on its descriptor.
pub const SUBJECT: &str = "io.containerd.manifest.subject";
/// One of cosign's tags, by which a manifest without a subject is a referrer; on its descriptor.
pub const TAG: &str = "dev.sealift.tag";

/// Makes the list of these sorted referrers; `None` if there are none.
///
/// # Errors
///
/// Only if it cannot be serialised.
pub fn referrers_json(referrers: &[ReferrerGraph]) -> Result<Option<Vec<u8>>> {
    if referrers.is_empty() {
        return Ok(None);
    }
    let all = referrers.iter().map(|referrer| {
        let mut root = referrer.graph.root.bare();
        root.artifact_type.clone_from(&referrer.artifact_type);
        listed_descriptor(&ListedReferrer {
            subject: referrer.subject,
            descriptor: root,
            tag: referrer.tag.clone(),
        })
    });
    list_json(all.collect()).map(Some)
}

/// A list of these descriptors, which are sorted.
///
/// # Errors
///
/// Only if it cannot be serialised.
pub(crate) fn list_json(manifests: Vec<Descriptor>) -> Result<Vec<u8>> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct List {
        schema_version: u8,
        media_type: &'static str,
        manifests: Vec<Descriptor>,
    }
    to_json(&List {
        schema_version: 2,
        media_type: MediaType::OCI_INDEX,
        manifests,
    })
}

/// The descriptor of a referrer in the list.
pub(crate) fn listed_descriptor(referrer: &ListedReferrer) -> Descriptor {
    let mut listed = referrer.descriptor.clone();
    listed.annotations = BTreeMap::from([(SUBJECT.into(), referrer.subject.to_string())]);
    if let Some(tag) = &referrer.tag {
        listed.annotations.insert(TAG.into(), tag.clone());
    }
    listed
}

/// Parses the stored bytes of a list.
///
/// # Errors
///
/// If it is malformed, or too long.
pub fn parse_referrers(bytes: &[u8]) -> Result<Vec<ListedReferrer>, Problem> {
    let document = Document::parse(&MediaType::new(MediaType::OCI_INDEX), bytes.to_vec())?;
    let Document::Index(index) = document else {
        return Err(Problem::Document {
            reason: "not an index".into(),
        });
    };
    if index.manifests.len() > MAX_REFERRERS {
        return Err(Problem::TooManyReferrers { limit: MAX_REFERRERS });
    }
    index.manifests.into_iter().map(listed).collect()
}

/// What a descriptor of a list says.
fn listed(descriptor: Descriptor) -> Result<ListedReferrer, Problem> {
    let digest = descriptor.digest;
    let wrong = |reason: String| Problem::Document { reason };
    let subject = descriptor
        .annotations
        .get(SUBJECT)
        .ok_or_else(|| wrong(format!("it does not say what {digest} refers to")))?;
    let subject: Digest = subject
        .parse()
        .map_err(|error| wrong(format!("{SUBJECT} of {digest}: {error}")))?;
    let tag = descriptor.annotations.get(TAG).cloned();
    if let Some(tag) = &tag
        && Referrer::of_tag(tag).is_none_or(|(_, of_tag)| of_tag != subject)
    {
        return Err(wrong(format!(
            "{TAG} of {digest} is {tag:?}, which is no tag for {subject}"
        )));
    }
    let mut kept = descriptor.bare();
    kept.artifact_type = descriptor.artifact_type;
    Ok(ListedReferrer {
        subject,
        descriptor: kept,
        tag,
    })
}
