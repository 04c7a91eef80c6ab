//! What is wrong in one repository, and the images that it affects.
//!
//! A finding names the manifests that it is about. The indexes above them, and the tags, are kept once for a
//! repository, however many findings there are: one manifest may have thousands of findings and of tags.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::report::StorageFinding;
use crate::error::{Finding, MAX_WRONG_SIZES, Problem};
use crate::image::AffectedImage;
use crate::oci::Digest;

/// The images that a finding concerns: by each of their tags, and by the digest of each manifest.
#[derive(Debug, Clone, Default)]
pub struct AffectedImages {
    /// Manifests of repositories; those above them are affected too.
    below: Vec<(Arc<Users>, Arc<[Digest]>)>,
    /// Images without manifests.
    others: Vec<AffectedImage>,
}

impl AffectedImages {
    /// The images, sorted.
    pub fn to_set(&self) -> BTreeSet<AffectedImage> {
        AffectedImages::set_of([self])
    }

    /// The images of all of these, sorted.
    pub fn set_of<'a>(all: impl IntoIterator<Item = &'a AffectedImages>) -> BTreeSet<AffectedImage> {
        let mut set = BTreeSet::new();
        let mut repositories: HashMap<*const Users, (&Users, HashSet<Digest>)> = HashMap::new();
        // Findings that share their manifests do so with many others.
        let mut known: HashSet<*const Digest> = HashSet::new();
        for images in all {
            set.extend(images.others.iter().cloned());
            for (users, manifests) in &images.below {
                if known.insert(manifests.as_ptr()) {
                    let of = repositories.entry(Arc::as_ptr(users));
                    let (_, below) = of.or_insert_with(|| (users, HashSet::new()));
                    below.extend(manifests.iter().copied());
                }
            }
        }
        for (users, below) in repositories.into_values() {
            users.add_images(below, &mut set);
        }
        set
    }

    /// Whether no image is affected.
    pub fn is_empty(&self) -> bool {
        self.below.is_empty() && self.others.is_empty()
    }

    /// Adds others.
    pub(super) fn append(&mut self, other: &mut AffectedImages) {
        self.below.append(&mut other.below);
        self.others.append(&mut other.others);
    }
}

/// What is above the manifests of a repository that have findings.
#[derive(Debug)]
struct Users {
    repository: Arc<str>,
    /// The indexes that have a manifest.
    indexes: HashMap<Digest, Vec<Digest>>,
    tags: HashMap<Digest, Vec<String>>,
}

impl Users {
    /// Adds these manifests, all that is above them, and the tags.
    fn add_images(&self, below: HashSet<Digest>, set: &mut BTreeSet<AffectedImage>) {
        for manifest in with_indexes(below, &self.indexes) {
            let tags = self.tags.get(&manifest).into_iter().flatten();
            for tag in tags.map(|tag| Some(tag.clone())).chain([None]) {
                set.insert(AffectedImage {
                    repository: Arc::clone(&self.repository),
                    tag,
                    digest: Some(manifest),
                });
            }
        }
    }
}

/// Manifests, and the indexes above them.
fn with_indexes(below: HashSet<Digest>, indexes: &HashMap<Digest, Vec<Digest>>) -> HashSet<Digest> {
    let mut left: Vec<Digest> = below.iter().copied().collect();
    let mut all = below;
    while let Some(manifest) = left.pop() {
        for index in indexes.get(&manifest).into_iter().flatten() {
            if all.insert(*index) {
                left.push(*index);
            }
        }
    }
    all
}

/// The findings of a repository, by the manifests that they are about.
pub(super) struct Affected {
    repository: Arc<str>,
    /// Each finding, and the manifests that it breaks.
    findings: Vec<(Finding, BTreeSet<Digest>)>,
    /// The findings with the same place and problem.
    known: HashMap<(Option<String>, String), usize>,
    /// How many wrong sizes of a blob were found.
    wrong_sizes: HashMap<Digest, usize>,
    /// Findings about images without manifests.
    others: Vec<StorageFinding>,
    /// The indexes that have a manifest.
    indexes: HashMap<Digest, Vec<Digest>>,
    /// The manifests with findings, and the indexes above them.
    broken: HashSet<Digest>,
    tags: HashMap<Digest, Vec<String>>,
}

impl Affected {
    pub fn new(repository: &str) -> Affected {
        Affected {
            repository: repository.into(),
            findings: Vec::new(),
            known: HashMap::new(),
            wrong_sizes: HashMap::new(),
            others: Vec::new(),
            indexes: HashMap::new(),
            broken: HashSet::new(),
            tags: HashMap::new(),
        }
    }

    /// Adds a finding; it breaks a manifest, if it is about one.
    pub fn add(&mut self, finding: Finding, manifest: Option<&Digest>) {
        let mut finding = finding;
        if !self.known.contains_key(&key(&finding)) {
            self.limit_sizes(&mut finding);
        }
        let at = *self.known.entry(key(&finding)).or_insert_with(|| {
            self.findings.push((finding, BTreeSet::new()));
            self.findings.len() - 1
        });
        if let (Some(manifest), Some((_, manifests))) = (manifest, self.findings.get_mut(at)) {
            manifests.insert(*manifest);
        }
    }

    /// Joins the wrong sizes of a blob from some number on: a manifest may give it thousands.
    fn limit_sizes(&mut self, finding: &mut Finding) {
        let (Some(digest), Some(found)) = (finding.place.digest, finding.problem.wrong_size()) else {
            return;
        };
        let count = self.wrong_sizes.entry(digest).or_default();
        *count += 1;
        if *count > MAX_WRONG_SIZES {
            finding.problem = Problem::SizesDiffer { found };
        }
    }

    /// Adds a finding about a tag, with the manifests that it had before if it has none now.
    pub fn add_about(&mut self, finding: Finding, tag: &str, digest: Option<Digest>, before: Vec<Digest>) {
        let image = AffectedImage {
            repository: Arc::clone(&self.repository),
            tag: Some(tag.into()),
            digest,
        };
        let images = AffectedImages {
            below: Vec::new(),
            others: vec![image],
        };
        self.others.push(StorageFinding {
            finding,
            images,
            tagged_before: before,
        });
    }

    /// Adds an index: what breaks its children breaks it too.
    pub fn add_index(&mut self, index: Digest, children: Vec<Digest>) {
        for child in children {
            self.indexes.entry(child).or_default().push(index);
        }
    }

    /// Passes findings on from children to indexes. All manifests must have been added.
    pub fn spread(&mut self) {
        let broken = self.findings.iter().flat_map(|(_, manifests)| manifests);
        self.broken = with_indexes(broken.copied().collect(), &self.indexes);
        self.indexes.retain(|child, _| self.broken.contains(child));
    }

    /// Names an image by a tag in everything that breaks it.
    pub fn tag(&mut self, tag: &str, manifest: &Digest) {
        if self.broken.contains(manifest) {
            self.tags.entry(*manifest).or_default().push(tag.into());
        }
    }

    pub fn into_findings(self) -> Vec<StorageFinding> {
        let users = Arc::new(Users {
            repository: self.repository,
            indexes: self.indexes,
            tags: self.tags,
        });
        let mut known: HashSet<Arc<[Digest]>> = HashSet::new();
        let mut shared = |manifests: BTreeSet<Digest>| {
            let manifests: Arc<[Digest]> = manifests.into_iter().collect();
            let shared = known.get(&manifests).cloned();
            shared.unwrap_or_else(|| {
                known.insert(Arc::clone(&manifests));
                manifests
            })
        };
        let findings = self.findings.into_iter().map(|(finding, manifests)| {
            if manifests.is_empty() {
                return StorageFinding::new(finding);
            }
            let images = AffectedImages {
                below: vec![(Arc::clone(&users), shared(manifests))],
                others: Vec::new(),
            };
            StorageFinding {
                images,
                ..StorageFinding::new(finding)
            }
        });
        findings.chain(self.others).collect()
    }
}

fn key(finding: &Finding) -> (Option<String>, String) {
    (finding.place.entry.clone(), finding.problem.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Place;

    #[test]
    fn findings_of_one_manifest_share_its_images() {
        let [manifest, index] = [b"manifest", b"an index"].map(|text| Digest::sha256(text));
        let mut affected = Affected::new("app");
        for blob in 0..100_u8 {
            let place = Place::blob(Digest::sha256(&[blob])).entry(blob.to_string());
            let problem = Problem::Missing;
            affected.add(Finding { place, problem }, Some(&manifest));
        }
        affected.add_index(index, vec![manifest]);
        affected.spread();
        for tag in 0..50 {
            affected.tag(&format!("m{tag}"), &manifest);
            affected.tag(&format!("i{tag}"), &index);
        }
        let findings = affected.into_findings();
        assert_eq!(findings.len(), 100);
        let (users, manifests) = &findings[0].images.below[0];
        for found in &findings {
            let [(other_users, other_manifests)] = found.images.below.as_slice() else {
                panic!("{found:?}");
            };
            assert!(Arc::ptr_eq(users, other_users) && Arc::ptr_eq(manifests, other_manifests));
            assert!(found.images.others.is_empty());
        }
        assert_eq!(findings[99].images.to_set().len(), 102);
        let all = AffectedImages::set_of(findings.iter().map(|found| &found.images));
        assert_eq!(all, findings[0].images.to_set());
    }
}
