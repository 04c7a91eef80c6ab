//! What is wrong in one repository, and the images that it affects.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::report::StorageFinding;
use crate::error::Finding;
use crate::image::AffectedImage;
use crate::oci::Digest;

/// The findings of a repository, by the manifests that they are about.
pub(super) struct Affected {
    repository: Arc<str>,
    findings: Vec<StorageFinding>,
    /// The findings with the same place and problem.
    known: HashMap<(Option<String>, String), usize>,
    /// The findings that a manifest has.
    broken: HashMap<Digest, BTreeSet<usize>>,
    /// Indexes with their children.
    indexes: Vec<(Digest, Vec<Digest>)>,
}

impl Affected {
    pub fn new(repository: &str) -> Affected {
        Affected {
            repository: repository.into(),
            findings: Vec::new(),
            known: HashMap::new(),
            broken: HashMap::new(),
            indexes: Vec::new(),
        }
    }

    /// Adds a finding; it breaks a manifest, if it is about one.
    pub fn add(&mut self, finding: Finding, manifest: Option<&Digest>) {
        let key = (finding.place.entry.clone(), finding.problem.to_string());
        let at = *self.known.entry(key).or_insert_with(|| {
            self.findings.push(StorageFinding::new(finding));
            self.findings.len() - 1
        });
        if let Some(manifest) = manifest {
            self.broken.entry(*manifest).or_default().insert(at);
        }
    }

    /// Adds a finding about an image, which may be named by a tag.
    pub fn add_about(&mut self, finding: Finding, tag: &str, digest: Option<Digest>) {
        let image = self.image(Some(tag.into()), digest);
        let images = vec![image];
        self.findings.push(StorageFinding { finding, images });
    }

    /// Adds an index: what breaks its children breaks it too.
    pub fn add_index(&mut self, index: Digest, children: Vec<Digest>) {
        self.indexes.push((index, children));
    }

    fn image(&self, tag: Option<String>, digest: Option<Digest>) -> AffectedImage {
        AffectedImage {
            repository: Arc::clone(&self.repository),
            tag,
            digest,
        }
    }

    /// Passes findings on from children to indexes, and names all manifests by their digests.
    pub fn spread(&mut self) {
        loop {
            let mut has_changed = false;
            for (index, children) in &self.indexes {
                let below: BTreeSet<usize> = children
                    .iter()
                    .filter_map(|child| self.broken.get(child))
                    .flatten()
                    .copied()
                    .collect();
                if below.is_empty() {
                    continue;
                }
                let own = self.broken.entry(*index).or_default();
                let before = own.len();
                own.extend(below);
                has_changed |= own.len() > before;
            }
            if !has_changed {
                break;
            }
        }
        for (manifest, findings) in &self.broken {
            let image = self.image(None, Some(*manifest));
            for at in findings {
                if let Some(found) = self.findings.get_mut(*at) {
                    found.images.push(image.clone());
                }
            }
        }
    }

    /// Names an image by a tag in everything that breaks it.
    pub fn tag(&mut self, tag: &str, manifest: &Digest) {
        let Some(findings) = self.broken.get(manifest) else {
            return;
        };
        let image = self.image(Some(tag.into()), Some(*manifest));
        for at in findings {
            if let Some(found) = self.findings.get_mut(*at) {
                found.images.push(image.clone());
            }
        }
    }

    pub fn into_findings(self) -> Vec<StorageFinding> {
        self.findings
    }
}
