//! What a target shows of that which refers to images: signatures, SBOMs, attestations.

use std::collections::BTreeMap;
use std::fmt;

use super::{Candidate, Requested};
use crate::image::Image;
use crate::image::referrers::{self, ReferrerGraph, ReferrerKind};

/// What refers to an image and to what is loaded of it, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct LoadedReferrers {
    /// Number of those that the target shows.
    pub shown: BTreeMap<ReferrerKind, usize>,
    /// Those that it does not show.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<DroppedReferrers>,
}

/// Referrers of one kind that a target does not show.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DroppedReferrers {
    /// What they are.
    pub kind: ReferrerKind,
    /// Their number.
    pub count: usize,
    /// Why.
    pub reason: String,
}

impl LoadedReferrers {
    /// All of these are shown.
    pub(crate) fn all_shown<'r>(referrers: impl IntoIterator<Item = &'r ReferrerGraph>) -> LoadedReferrers {
        let mut loaded = LoadedReferrers::default();
        for referrer in referrers {
            loaded.add(referrer.kind(), None);
        }
        loaded
    }

    /// None of these is shown.
    pub(crate) fn all_dropped<'r>(
        referrers: impl IntoIterator<Item = &'r ReferrerGraph>,
        reason: &str,
    ) -> LoadedReferrers {
        let mut loaded = LoadedReferrers::default();
        for referrer in referrers {
            loaded.add(referrer.kind(), Some(reason));
        }
        loaded
    }

    /// Counts a referrer: one that is shown, or is not for a reason.
    pub(crate) fn add(&mut self, kind: ReferrerKind, reason: Option<&str>) {
        let Some(reason) = reason else {
            *self.shown.entry(kind).or_default() += 1;
            return;
        };
        let mut known = self.dropped.iter_mut();
        match known.find(|dropped| dropped.kind == kind && dropped.reason == reason) {
            Some(dropped) => dropped.count += 1,
            None => self.dropped.push(DroppedReferrers {
                kind,
                count: 1,
                reason: reason.into(),
            }),
        }
    }

    /// Whether nothing refers to the image.
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty() && self.dropped.is_empty()
    }

    /// Those that are shown, for people: "2 signatures, 1 SBOM".
    pub fn shown_text(&self) -> String {
        referrers::count(self.shown.iter().map(|(kind, count)| (*kind, *count)))
    }
}

impl fmt::Display for DroppedReferrers {
    /// "2 signatures".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&referrers::count([(self.kind, self.count)]))
    }
}

impl Requested<'_> {
    /// What refers to the index and to the manifest that an engine gets, and what refers to that.
    pub(crate) fn referrers(&self) -> Vec<&ReferrerGraph> {
        self.candidate.referrers_of(self.image)
    }
}

impl Candidate<'_> {
    /// What refers to the indexes, to the manifest of one of its images, and what refers to that.
    pub(crate) fn referrers_of(&self, image: &Image) -> Vec<&ReferrerGraph> {
        let indexes = self.image.graph.indexes.iter();
        let indexes = indexes.map(|(index, _)| index.digest);
        let documents = indexes.chain(std::iter::once(image.descriptor.digest));
        referrers::of_documents(self.image.referrers.iter(), documents)
    }
}
