//! The registry that is repaired, as a source of what stores lack.
//!
//! An engine need not have an image under the name that it has in the registry: an image that was pulled through a mirror
//! has the name of its own registry there. So stores find manifests by image ids, in the registry's own repositories.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Wanted;
use crate::error::{Error, Problem, Result};
use crate::oci::{Descriptor, Digest, Document, Reference, Repository};
use crate::source::{Answer, Listing, Query, Source};

/// What is good in the registry, and which of its manifests are those of an image.
pub(crate) struct Registry {
    good: Arc<dyn Source>,
    /// The repositories of affected images begin with it. A storage folder does not know its host.
    host: Option<String>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The manifests of affected images, by their image ids.
    manifests: BTreeMap<Digest, BTreeSet<Reference>>,
    /// The digests of affected images, with their repositories.
    digests: BTreeMap<Digest, Repository>,
    /// Digests whose documents were read.
    read: BTreeSet<Digest>,
    /// The registry's repositories, by the names that stores have for them.
    renamed: HashMap<Repository, Repository>,
}

impl Registry {
    pub fn new(good: Arc<dyn Source>, host: Option<&str>) -> Registry {
        Registry {
            good,
            host: host.map(Into::into),
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the manifests of images that use wanted blobs. Those that are bad may be good the next time.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`].
    pub fn learn(&self, wanted: &BTreeMap<Digest, Wanted>) -> Result<()> {
        let host = self.host.as_deref().unwrap_or("localhost");
        for image in wanted.values().flat_map(|wanted| &wanted.images) {
            let Some(digest) = image.digest.filter(|digest| !self.known().read.contains(digest)) else {
                continue;
            };
            let Ok(repository) = format!("{host}/{}", image.repository).parse::<Repository>() else {
                continue;
            };
            self.known().digests.insert(digest, repository.clone());
            let name = Reference::digested(&repository, digest);
            let read = self.good.resolve(&name).and_then(|root| {
                let bytes = self.good.metadata(&repository, &root)?;
                Ok(Document::parse(&root.media_type, bytes))
            });
            match read {
                Ok(document) => {
                    let mut known = self.known();
                    known.read.insert(digest);
                    if let Ok(Document::Manifest(manifest)) = document {
                        let names = known.manifests.entry(manifest.config.digest).or_default();
                        names.insert(name);
                    }
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Whether this may be the id of an affected image, or the digest of one: engines call images by either.
    pub fn is_affected(&self, id: &Digest) -> bool {
        let known = self.known();
        known.manifests.contains_key(id) || known.digests.contains_key(id)
    }

    /// The registry's repository for one that a store names. No other registry is asked.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it cannot have one: a store's image need not have a name.
    fn home(&self, repository: &Repository, digest: Option<Digest>) -> Result<Repository> {
        let host = match &self.host {
            Some(host) if !host.eq_ignore_ascii_case(repository.domain()) => host,
            _ => return Ok(repository.clone()),
        };
        let mut known = self.known();
        let by_digest = digest.and_then(|digest| known.digests.get(&digest).cloned());
        let home = by_digest
            .or_else(|| known.renamed.get(repository).cloned())
            .or_else(|| format!("{host}/{}", repository.path()).parse().ok())
            .ok_or_else(|| Error::NotFound {
                what: repository.familiar().into(),
                place: host.clone(),
                hint: None,
            })?;
        known.renamed.insert(repository.clone(), home.clone());
        Ok(home)
    }
}

impl Source for Registry {
    fn find(&self, query: &Query<'_>) -> Result<Vec<Answer<'_>>> {
        query.each(|reference| {
            let home = self.home(reference.repository(), reference.digest())?;
            self.good.find_one(&reference.moved_to(&home), query.platforms)
        })
    }

    fn metadata(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.good.metadata(&self.home(repository, None)?, descriptor)
    }

    fn open(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        self.good.open(&self.home(repository, None)?, descriptor, offset)
    }

    fn list(&self) -> Result<Listing> {
        Ok(Listing::unknown())
    }

    fn fault(&self, repository: &Repository, descriptor: &Descriptor, problem: Problem) -> Error {
        let home = self.home(repository, None);
        self.good
            .fault(home.as_ref().unwrap_or(repository), descriptor, problem)
    }

    fn manifests_of(&self, image_id: &Digest) -> Vec<Reference> {
        let known = self.known();
        let names = known.manifests.get(image_id);
        names.into_iter().flatten().cloned().collect()
    }
}
