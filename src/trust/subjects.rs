//! The manifests of an image with what refers to them, and the blobs of those.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::check::{ReferringManifest, Role, Subject};
use super::{Fetch, Policy, Subjects, Verdict};
use crate::blob::Blobs;
use crate::error::{Error, Place, Problem, Result};
use crate::image::{Image, NamedImage};
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, Digest, Platform, Reference};

/// How images are checked.
#[derive(Debug, Clone)]
pub struct PolicyCheck {
    /// The policy.
    pub policy: Arc<Policy>,
    /// The time that counts for what expires.
    pub now: SystemTime,
    /// Ends the check between two images or blobs.
    pub interrupt: Interrupt,
}

impl PolicyCheck {
    /// As [`Policy::check`], at the time that counts.
    ///
    /// # Errors
    ///
    /// As [`Policy::check`].
    pub fn check(&self, subjects: &Subjects, fetch: &mut dyn Fetch) -> Result<Verdict> {
        self.policy.check(subjects, self.now, fetch)
    }
}

impl Subjects {
    /// An image under a name. `parts` have the same manifest or index: each of several archives may have some of its
    /// platforms. `taken` are the manifests of platforms that somebody gets; all that are there if it is `None`.
    pub fn of<'i>(
        name: Reference,
        root: Digest,
        parts: impl IntoIterator<Item = &'i NamedImage>,
        taken: Option<&[Digest]>,
    ) -> Subjects {
        let mut subjects = Subjects {
            name,
            root,
            manifests: Vec::new(),
        };
        let mut places: HashMap<Digest, usize> = HashMap::new();
        for part in parts {
            for (index, _) in &part.graph.indexes {
                subjects.add(index.clone(), Role::Index, &mut places);
            }
            for image in &part.graph.images {
                let is_taken = taken.is_none_or(|taken| taken.contains(&image.descriptor.digest));
                // What an engine does not get it does not get unsigned either. The root is always checked.
                if is_taken || !image.is_runnable() || image.descriptor.digest == root {
                    subjects.add(described(image), role(image), &mut places);
                }
            }
            for referrer in part.referrers.iter() {
                let subject = places.get(&referrer.subject);
                let subject = subject.and_then(|at| subjects.manifests.get_mut(*at));
                let (Some(subject), Some(manifest)) = (subject, referrer.manifest()) else {
                    continue;
                };
                let digest = referrer.digest();
                if subject
                    .referring
                    .iter()
                    .all(|known| known.descriptor.digest != digest)
                {
                    subject.referring.push(ReferringManifest {
                        descriptor: referrer.graph.root.clone(),
                        manifest: manifest.raw.to_vec(),
                    });
                }
            }
        }
        subjects
    }

    fn add(&mut self, descriptor: Descriptor, role: Role, places: &mut HashMap<Digest, usize>) {
        let next = self.manifests.len();
        if *places.entry(descriptor.digest).or_insert(next) == next {
            self.manifests.push(Subject {
                descriptor,
                role,
                referring: Vec::new(),
            });
        }
    }
}

fn role(image: &Image) -> Role {
    match image.descriptor.attests() {
        Some(_) => Role::Attestation,
        None => Role::Platform,
    }
}

/// The descriptor of a manifest, with the platform that its config names if its index does not name one.
fn described(image: &Image) -> Descriptor {
    let mut descriptor = image.descriptor.clone();
    // An artifact has a config without one.
    let is_one = |platform: &&Platform| !platform.is_unknown() && !platform.os.is_empty();
    let platform = image.platform().filter(is_one);
    descriptor.platform = platform.cloned();
    descriptor
}

/// Reads the blobs of referrers from wherever the images are.
pub struct FetchFrom<'b> {
    places: Vec<&'b dyn Blobs>,
    interrupt: &'b Interrupt,
}

impl<'b> FetchFrom<'b> {
    /// Each blob comes from the first of these places that has it.
    pub fn new(places: Vec<&'b dyn Blobs>, interrupt: &'b Interrupt) -> FetchFrom<'b> {
        FetchFrom { places, interrupt }
    }
}

impl Fetch for FetchFrom<'_> {
    fn blob(&mut self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        for place in &self.places {
            self.interrupt.check()?;
            if let Some(bytes) = place.read_within(descriptor, limit)? {
                return Ok(bytes);
            }
        }
        Err(Error::refused(Place::blob(descriptor.digest), Problem::Missing))
    }
}
