//! The images that use bad blobs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Homes, root};
use crate::error::{Error, Finding, Result};
use crate::image::AffectedImage;
use crate::image::graph::MAX_DEPTH;
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, Digest, Reference, Repository};
use crate::registry::source::RegistrySource;
use crate::registry::verify::{Checked, Report};
use crate::repair::{Wanted, references_of};

/// Bad blobs: which images use them, and what good manifests say about them.
pub(super) struct Users {
    images: BTreeMap<Digest, BTreeSet<AffectedImage>>,
    descriptors: BTreeMap<Digest, Descriptor>,
    homes: Homes,
}

/// An image that is followed down to bad blobs.
struct Walk<'a> {
    users: &'a mut Users,
    source: &'a RegistrySource,
    bad: &'a BTreeMap<Digest, Finding>,
    image: &'a Checked,
    repository: Arc<Repository>,
    interrupt: &'a Interrupt,
}

impl Users {
    /// Follows every image that has errors.
    pub fn find(
        source: &RegistrySource,
        report: &Report,
        bad: &BTreeMap<Digest, Finding>,
        interrupt: &Interrupt,
    ) -> Result<Users> {
        let mut users = Users {
            images: BTreeMap::new(),
            descriptors: BTreeMap::new(),
            homes: Homes::new(),
        };
        let is_bad = super::is_bad(report);
        for image in report.images.iter().filter(|image| is_bad(image)) {
            let Some(root) = root(image) else { continue };
            let mut walk = Walk {
                users: &mut users,
                source,
                bad,
                image,
                repository: Arc::new(image.reference.repository().clone()),
                interrupt,
            };
            if bad.contains_key(&root) {
                walk.note(root, &[root]);
                continue;
            }
            let named = Reference::digested(image.reference.repository(), root);
            match source.resolve_document(&named) {
                Ok((_, bytes)) => walk.below(&mut vec![root], bytes)?,
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(_) => {}
            }
        }
        Ok(users)
    }

    /// A bad blob, to be looked for.
    pub fn wanted(&self, digest: &Digest, finding: &Finding) -> Wanted {
        let images = self.images.get(digest);
        Wanted {
            finding: finding.clone(),
            images: images.into_iter().flatten().cloned().collect(),
            descriptor: self.descriptors.get(digest).cloned(),
        }
    }

    /// The first repository of an image that uses a blob.
    pub fn home(&self, digest: &Digest) -> Option<&Arc<Repository>> {
        self.homes.get(digest)
    }
}

impl Walk<'_> {
    /// Notes that the image uses a blob, which the last of these manifests names.
    fn note(&mut self, digest: Digest, manifests: &[Digest]) {
        let image = |tag: Option<&str>, digest| AffectedImage {
            repository: self.repository.path().into(),
            tag: tag.map(Into::into),
            digest,
        };
        let tagged = self.image.reference.tag();
        let tagged = tagged.map(|tag| image(Some(tag), manifests.first().copied()));
        let manifests = manifests.iter().map(|manifest| image(None, Some(*manifest)));
        let images = self.users.images.entry(digest).or_default();
        images.extend(tagged.into_iter().chain(manifests));
        let homes = &mut self.users.homes;
        homes
            .entry(digest)
            .or_insert_with(|| Arc::clone(&self.repository));
    }

    /// Follows a manifest or index, the last of `path`.
    fn below(&mut self, path: &mut Vec<Digest>, bytes: Vec<u8>) -> Result<()> {
        for descriptor in references_of(bytes) {
            let digest = descriptor.digest;
            if self.bad.contains_key(&digest) {
                self.note(digest, path);
                self.users.descriptors.entry(digest).or_insert(descriptor);
                continue;
            }
            if !descriptor.media_type.is_document() || path.len() > MAX_DEPTH || path.contains(&digest) {
                continue;
            }
            self.interrupt.check()?;
            match self.source.document(&self.repository, &descriptor) {
                Ok(bytes) => {
                    path.push(digest);
                    self.below(path, bytes)?;
                    path.pop();
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(_) => {}
            }
        }
        Ok(())
    }
}
