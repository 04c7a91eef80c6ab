//! Checks that the names in an `index.json` agree.
//!
//! An entry may have up to three names, and tools use different ones: containerd and Docker's containerd store
//! `io.containerd.image.name`, podman and skopeo `org.opencontainers.image.ref.name`, sealift its own first.
//! Tools that write two of them, such as containerd, Docker and buildkit, put only the part after the
//! repository into the second: `2.4`, `@sha256:...`, `2.4@sha256:...`, or nothing (containerd,
//! `ociReferenceName`).

use std::collections::{HashMap, HashSet};

use super::{CONTAINERD_NAME, Entry, REF_NAME, REFERENCE};
use crate::error::Problem;
use crate::oci::{Digest, Reference};

/// The problems of the names of these entries, each with the digest of its index or manifest.
///
/// A bare tag is not a name: the image specification's own example gives one tag to several entries.
pub(crate) fn check(entries: &[Entry]) -> Vec<(Digest, Problem)> {
    let names: Vec<Names<'_>> = entries.iter().map(Names::of).collect();
    let mut found = Vec::new();
    for (entry, names) in entries.iter().zip(&names) {
        let problems = [names.difference(), names.other_digest(entry)];
        found.extend(
            problems
                .into_iter()
                .flatten()
                .map(|problem| (entry.descriptor.digest, problem)),
        );
    }
    found.extend(of_two_images(entries, &names));
    found
}

/// The names of one entry.
struct Names<'a> {
    sealift: Option<Reference>,
    containerd: Option<Reference>,
    /// The layout's name, full or a part.
    layout: Option<&'a str>,
}

impl<'a> Names<'a> {
    fn of(entry: &'a Entry) -> Names<'a> {
        let text = |key: &str| entry.descriptor.annotations.get(key).map(String::as_str);
        let name = |key: &str| text(key).and_then(|name| name.parse().ok());
        Names {
            sealift: name(REFERENCE),
            containerd: name(CONTAINERD_NAME),
            layout: text(REF_NAME).filter(|name| !name.is_empty()),
        }
    }

    /// The layout's name, if it is a full one.
    fn whole(&self) -> Option<Reference> {
        let name = self.layout?;
        Entry::is_whole(name).then(|| name.parse().ok()).flatten()
    }

    /// Two names that contradict each other.
    fn difference(&self) -> Option<Problem> {
        let differ = |first: &Reference, second: &str| {
            let (first, second) = (first.full(), second.to_string());
            Some(Problem::NamesDiffer { first, second })
        };
        if let (Some(sealift), Some(containerd)) = (&self.sealift, &self.containerd)
            && !agree(sealift, containerd)
        {
            return differ(sealift, &containerd.full());
        }
        let (name, layout) = (self.containerd.as_ref().or(self.sealift.as_ref())?, self.layout?);
        let is_same = self
            .whole()
            .is_some_and(|whole| agree(name, &whole) || agree(&whole, name));
        if is_same || is_part(layout, name) {
            return None;
        }
        differ(name, layout)
    }

    /// A digest in a name that is not the entry's.
    fn other_digest(&self, entry: &Entry) -> Option<Problem> {
        let parsed = [self.sealift.as_ref(), self.containerd.as_ref()];
        let parsed = parsed.into_iter().flatten().filter_map(Reference::digest);
        let layout = self.layout.and_then(|name| name.split_once('@'));
        let layout = layout.and_then(|(_, digest)| digest.parse::<Digest>().ok());
        let is_its_own =
            |digest: &Digest| *digest == entry.descriptor.digest || Some(*digest) == entry.digest();
        let named = parsed.chain(layout).find(|digest| !is_its_own(digest))?;
        Some(Problem::NameDigestDiffers { named })
    }

    /// Everything that a tool may use as its name.
    fn all(&self) -> HashSet<String> {
        // Beside another name it is the same or a part of it.
        let layout = self.whole().filter(|_| self.containerd.is_none());
        let names = [self.sealift.as_ref(), self.containerd.as_ref(), layout.as_ref()];
        names.into_iter().flatten().map(Reference::full).collect()
    }
}

/// Whether a name agrees with one that has tag and digest. It may lack one of them.
fn agree(name: &Reference, other: &Reference) -> bool {
    name == other
        || name.without_digest().as_ref() == Some(other)
        || name
            .digest()
            .map(|digest| Reference::digested(name.repository(), digest))
            .as_ref()
            == Some(other)
}

/// Whether text is the part of a name after its repository.
fn is_part(text: &str, name: &Reference) -> bool {
    match (text.split_once('@'), name.digest()) {
        (None, _) => name.tag().is_none_or(|tag| tag == text),
        (Some((tag, digest)), Some(expected)) => {
            digest.parse() == Ok(expected) && (tag.is_empty() || name.tag() == Some(tag))
        }
        (Some(_), None) => false,
    }
}

/// Names of several images, reported for each of them.
fn of_two_images(entries: &[Entry], names: &[Names<'_>]) -> Vec<(Digest, Problem)> {
    let mut firsts: HashMap<String, Digest> = HashMap::new();
    let mut told: HashSet<(String, Digest)> = HashSet::new();
    let mut found = Vec::new();
    for (entry, names) in entries.iter().zip(names) {
        let root = entry.descriptor.digest;
        let mut all: Vec<String> = names.all().into_iter().collect();
        all.sort();
        for name in all {
            let first = *firsts.entry(name.clone()).or_insert(root);
            for (digest, other) in [(first, root), (root, first)] {
                if first != root && told.insert((name.clone(), digest)) {
                    let name = name.clone();
                    found.push((digest, Problem::NameOfTwoImages { name, other }));
                }
            }
        }
    }
    found
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
