//! Fetches what a verification reads first: manifests, indexes and configs.

use std::sync::Arc;

use super::blobs::{RegistryBlobs, is_document};
use super::{Depth, Options};
use crate::error::{Error, Remedy, Result};
use crate::image::graph::MAX_DEPTH;
use crate::interrupt::Interrupt;
use crate::oci::{
    Config, Descriptor, Digest, Document, Index, MAX_METADATA, Manifest, Platform, Reference, Repository,
};

/// An image whose documents were fetched, or need not be.
pub(super) enum Fetched {
    /// An earlier run verified it.
    Known(Digest),
    /// Its manifest or index.
    Read(Descriptor),
}

/// Fetches images.
pub(super) struct Images<'a> {
    pub blobs: &'a RegistryBlobs,
    pub options: &'a Options,
}

/// The documents of one image.
struct Walk<'a> {
    images: &'a Images<'a>,
    repository: Arc<Repository>,
    interrupt: &'a Interrupt,
}

impl Images<'_> {
    /// Resolves an image and fetches its documents. What is wrong with those, the verification finds.
    ///
    /// # Errors
    ///
    /// If it cannot be resolved.
    pub fn fetch(&self, reference: &Reference, interrupt: &Interrupt) -> Result<Fetched> {
        let (root, bytes) = self.blobs.source.resolve_document(reference)?;
        let platforms = self.options.platforms.as_deref();
        let since = self.options.since.as_ref();
        if since.is_some_and(|since| since.has(reference, &root.digest, platforms)) {
            return Ok(Fetched::Known(root.digest));
        }
        let walk = Walk {
            images: self,
            repository: Arc::new(reference.repository().clone()),
            interrupt,
        };
        let blobs = self.blobs;
        blobs.add_home(&root.digest, &walk.repository);
        if blobs.claim(&root.digest) {
            let parsed = Document::parse(&root.media_type, bytes.clone());
            blobs.keep(&root.digest, Ok(Some(bytes)));
            match parsed {
                Ok(Document::Manifest(manifest)) => {
                    let config = walk.manifest(&manifest)?;
                    if let Some(found) = config.map(|config| config.platform)
                        && !found.is_unknown()
                        && platforms.is_some_and(|wanted| wanted.iter().all(|one| !one.matches(&found)))
                    {
                        blobs.refuse(&root.digest, not_there(&root.digest, platforms, &[found]));
                    }
                }
                Ok(Document::Index(index)) => drop(walk.index(&root.digest, &index, 0)?),
                Err(_) => {}
            }
        }
        Ok(Fetched::Read(root))
    }
}

impl Walk<'_> {
    fn blobs(&self) -> &RegistryBlobs {
        self.images.blobs
    }

    /// Fetches a document, unless another image had it.
    fn document(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        self.interrupt.check()?;
        self.blobs().add_home(&descriptor.digest, &self.repository);
        if descriptor.size > MAX_METADATA || !self.blobs().claim(&descriptor.digest) {
            return Ok(None);
        }
        let document = match self.blobs().source.document(&self.repository, descriptor) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => Err(error),
        };
        let bytes = document.as_ref().ok().cloned().flatten();
        self.blobs().keep(&descriptor.digest, document);
        Ok(bytes)
    }

    /// Fetches the children of an index, for the chosen platforms. Returns the platforms that it has, as far as it or
    /// the configs tell.
    fn index(&self, digest: &Digest, index: &Index, depth: usize) -> Result<Vec<Platform>> {
        let wanted = self.images.options.platforms.as_deref();
        let is_chosen = |platform: &Platform| {
            wanted.is_none_or(|wanted| wanted.iter().any(|wanted| wanted.matches(platform)))
        };
        let images = || index.manifests.iter().filter(|child| child.attests().is_none());
        let mut offered: Vec<Platform> = images().filter_map(|child| child.platform.clone()).collect();
        if depth == 0 && images().all(|child| child.platform.is_some()) && self.refuses(digest, &offered) {
            return Ok(offered);
        }
        let mut chosen: Vec<String> = Vec::new();
        for child in images() {
            if child
                .platform
                .as_ref()
                .is_some_and(|platform| !is_chosen(platform))
            {
                self.blobs().exclude(&child.digest);
                continue;
            }
            let below = self.child(child, depth + 1)?;
            if child.platform.is_none() {
                let is_other = !below.is_empty() && !below.iter().any(is_chosen);
                offered.extend(below);
                if is_other {
                    self.blobs().exclude(&child.digest);
                    continue;
                }
            }
            chosen.push(child.digest.to_string());
        }
        for child in index.manifests.iter() {
            match child.attests() {
                Some(image) if chosen.iter().any(|chosen| chosen == image) => {
                    drop(self.child(child, depth + 1)?)
                }
                Some(_) => self.blobs().exclude(&child.digest),
                None => {}
            }
        }
        if depth == 0 && !offered.is_empty() {
            self.refuses(digest, &offered);
        }
        Ok(offered)
    }

    /// Refuses an image that lacks a platform which was asked for.
    fn refuses(&self, root: &Digest, offered: &[Platform]) -> bool {
        let wanted = self.images.options.platforms.as_deref().unwrap_or_default();
        let has = |one: &Platform| offered.iter().any(|offered| one.matches(offered));
        if wanted.iter().all(has) {
            return false;
        }
        self.blobs().refuse(root, not_there(root, Some(wanted), offered));
        true
    }

    /// Fetches a child of an index, and what is below it. Returns the platforms that it has.
    fn child(&self, child: &Descriptor, depth: usize) -> Result<Vec<Platform>> {
        if depth > MAX_DEPTH {
            return Ok(Vec::new());
        }
        if !child.media_type.is_document() {
            return self.blob(child).map(|()| Vec::new());
        }
        let Some(bytes) = self.document(child)? else {
            return Ok(Vec::new());
        };
        match Document::parse(&child.media_type, bytes) {
            Ok(Document::Manifest(manifest)) => {
                let config = self.manifest(&manifest)?;
                let platform = config.map(|config| config.platform);
                Ok(platform
                    .filter(|platform| !platform.is_unknown())
                    .into_iter()
                    .collect())
            }
            Ok(Document::Index(index)) => self.index(&child.digest, &index, depth),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Fetches the config of a manifest, and notes where its other blobs are.
    fn manifest(&self, manifest: &Manifest) -> Result<Option<Config>> {
        let config = match is_document(&manifest.config) {
            true => self.document(&manifest.config)?,
            false => {
                self.blob(&manifest.config)?;
                None
            }
        };
        for layer in &manifest.layers {
            self.blob(layer)?;
        }
        Ok(config.and_then(|bytes| Config::parse(&bytes).ok()))
    }

    /// Notes where a blob is, and asks for its size if it is not fetched later.
    fn blob(&self, blob: &Descriptor) -> Result<()> {
        self.interrupt.check()?;
        let is_first = self.blobs().add_home(&blob.digest, &self.repository);
        if is_first && (self.images.options.depth == Depth::Sizes || !blob.urls.is_empty()) {
            self.blobs().ask_size(&self.repository, blob)?;
        }
        Ok(())
    }
}

fn not_there(root: &Digest, wanted: Option<&[Platform]>, offered: &[Platform]) -> Error {
    let texts = |platforms: &[Platform]| {
        let mut texts: Vec<String> = platforms
            .iter()
            .filter(|platform| !platform.is_unknown())
            .map(ToString::to_string)
            .collect();
        texts.sort();
        texts.dedup();
        texts.join(", ")
    };
    let missing: Vec<Platform> = wanted
        .unwrap_or_default()
        .iter()
        .filter(|one| offered.iter().all(|offered| !one.matches(offered)))
        .cloned()
        .collect();
    Error::NotFound {
        what: format!("platform {}", texts(&missing)),
        place: root.to_string(),
        hint: Some(
            crate::error::Hint::from(format!("it has {}", texts(offered))).and(Remedy::ChoosePlatform),
        ),
    }
}
