//! What refers to an image, in short: what lists of images show.

use std::collections::HashMap;

use super::kind::predicate_types;
use super::{ReferrerGraph, ReferrerKind};
use crate::image::graph::Image;
use crate::image::named::NamedImage;
use crate::oci::{Digest, Platform, platform};

/// A referrer, in short. All of it is what the referrer says itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ReferrerSummary {
    /// What it is.
    pub kind: ReferrerKind,
    /// What it refers to.
    pub of: ReferrerSubject,
    /// The platform of what it refers to, if that is the manifest of one.
    #[serde(
        serialize_with = "platform::optional_text::serialize",
        skip_serializing_if = "Option::is_none"
    )]
    pub platform: Option<Platform>,
    /// Its artifact type, or the type of its content.
    #[serde(rename = "type")]
    pub content_type: String,
    /// The predicate types of its contents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub predicate_types: Vec<String>,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Digest of what it refers to.
    pub subject: Digest,
    /// The tag that it must have to be found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Stored bytes of its blobs.
    pub size: u64,
}

/// What a referrer refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferrerSubject {
    /// The image's index, or one in it.
    Index,
    /// A manifest of the image.
    Manifest,
    /// An attestation in the image's index.
    Attestation,
    /// Another referrer.
    Referrer,
}

impl ReferrerSummary {
    /// Everything that refers to an image: its referrers, and the attestations in its index.
    pub fn all(image: &NamedImage) -> Vec<ReferrerSummary> {
        let graph = &image.graph;
        let mut subjects: HashMap<Digest, (ReferrerSubject, Option<Platform>)> = HashMap::new();
        for (index, _) in &graph.indexes {
            subjects.insert(index.digest, (ReferrerSubject::Index, None));
        }
        let platform_of = |image: &Image| {
            image
                .platform()
                .filter(|platform| !platform.is_unknown())
                .cloned()
        };
        for image in graph
            .images
            .iter()
            .filter(|image| image.descriptor.attests().is_none())
        {
            subjects.insert(
                image.descriptor.digest,
                (ReferrerSubject::Manifest, platform_of(image)),
            );
        }
        let mut all = Vec::new();
        for image in &graph.images {
            let Some(subject) = image
                .descriptor
                .attests()
                .and_then(|subject| subject.parse().ok())
            else {
                continue;
            };
            let (of, platform) = subjects
                .get(&subject)
                .cloned()
                .unwrap_or((ReferrerSubject::Manifest, None));
            all.push(ReferrerSummary {
                kind: ReferrerKind::Attestation,
                of,
                platform: platform.clone(),
                content_type: image.content_type().to_string(),
                predicate_types: owned(predicate_types(&image.manifest)),
                digest: image.descriptor.digest,
                subject,
                tag: None,
                size: size(image),
            });
            subjects.insert(image.descriptor.digest, (ReferrerSubject::Attestation, platform));
        }
        all.extend(image.referrers.iter().map(|referrer| {
            let known = subjects.get(&referrer.subject).cloned();
            let (of, platform) = known.unwrap_or((ReferrerSubject::Referrer, None));
            ReferrerSummary::of(referrer, of, platform)
        }));
        all.sort_by_cached_key(|one| {
            let platform = one.platform.as_ref().map(ToString::to_string);
            (one.of, platform, one.kind, one.content_type.clone(), one.digest)
        });
        all
    }

    fn of(referrer: &ReferrerGraph, of: ReferrerSubject, platform: Option<Platform>) -> ReferrerSummary {
        ReferrerSummary {
            kind: referrer.kind(),
            of,
            platform,
            content_type: referrer.told_type().into(),
            predicate_types: owned(referrer.predicate_types()),
            digest: referrer.digest(),
            subject: referrer.subject,
            tag: referrer.tag.clone(),
            size: referrer.size(),
        }
    }
}

fn owned(texts: Vec<&str>) -> Vec<String> {
    texts.into_iter().map(str::to_string).collect()
}

/// Stored bytes of a manifest with its config and layers.
fn size(image: &Image) -> u64 {
    let layers = image.manifest.layers.iter().map(|layer| layer.size);
    let documents = [image.descriptor.size, image.manifest.config.size];
    layers.chain(documents).fold(0, u64::saturating_add)
}
