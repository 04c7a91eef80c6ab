//! What refers to images, for people: below an image, one line for all of one kind.

use std::collections::BTreeMap;

use sealift::image::names::count;
use sealift::image::referrers::{ReferrerKind, ReferrerSubject, ReferrerSummary};

use super::size::Size;

/// What referrers on one line have in common: what they refer to, its platform, their kind and what they say.
type Group = (ReferrerSubject, Option<String>, ReferrerKind, String);

/// The lines about an image.
pub fn lines(referrers: &[ReferrerSummary]) -> Vec<Vec<String>> {
    let mut groups: BTreeMap<Group, (usize, u64)> = BTreeMap::new();
    for one in referrers {
        let platform = one.platform.as_ref().map(ToString::to_string);
        // For a statement, the predicate type says more than the media type.
        let told = match one.predicate_types.as_slice() {
            [] => one.content_type.clone(),
            types => types.join(", "),
        };
        let group = groups.entry((one.of, platform, one.kind, told)).or_default();
        group.0 += 1;
        group.1 = group.1.saturating_add(one.size);
    }
    let groups = groups.into_iter();
    groups
        .map(|((of, platform, kind, told), (number, size))| {
            let of = match (of, platform) {
                (ReferrerSubject::Index, _) => "of the index".into(),
                (ReferrerSubject::Manifest, Some(platform)) => format!("of {platform}"),
                (ReferrerSubject::Manifest, None) => "of the manifest".into(),
                (ReferrerSubject::Attestation, Some(platform)) => {
                    format!("of the attestation for {platform}")
                }
                (ReferrerSubject::Attestation, None) => "of an attestation".into(),
                (ReferrerSubject::Referrer, _) => "of a referrer".into(),
            };
            let kind = match kind {
                ReferrerKind::Other => "other referrer".to_string(),
                kind => kind.to_string(),
            };
            vec![
                format!("{} {of}", count(number, &kind)),
                told,
                Size(size).to_string(),
            ]
        })
        .collect()
}
