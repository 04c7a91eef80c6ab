//! Manifests, indexes and configs, parsed and kept once for all images.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Place, Problem, Result};
use crate::oci::{Config, Descriptor, Digest, Document, Index, Kind, Manifest, MediaType};

/// A parsed document or config.
#[derive(Debug, Clone)]
pub enum Parsed {
    /// An image manifest.
    Manifest(Arc<Manifest>),
    /// An image index.
    Index(Arc<Index>),
    /// A config: stored bytes and parsed form.
    Config(Arc<[u8]>, Arc<Config>),
}

impl Parsed {
    /// Parses the stored bytes of a config or a document, by the media type of its descriptor.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if they are malformed.
    pub fn parse(descriptor: &Descriptor, bytes: Vec<u8>) -> Result<Parsed> {
        let refused = |problem: Problem| Error::refused(Place::blob(descriptor.digest), problem);
        if descriptor.media_type.kind() == Kind::Config {
            let config = Config::parse(&bytes).map_err(|reason| refused(Problem::Document { reason }))?;
            return Ok(Parsed::Config(bytes.into(), Arc::new(config)));
        }
        Ok(
            match Document::parse(&descriptor.media_type, bytes).map_err(|error| refused(error.into()))? {
                Document::Manifest(manifest) => Parsed::Manifest(Arc::new(manifest)),
                Document::Index(index) => Parsed::Index(Arc::new(index)),
            },
        )
    }
}

/// The documents and configs that were read.
#[derive(Debug, Default)]
pub struct Documents {
    /// By what the descriptor says: another size or media type is a different key.
    known: Mutex<HashMap<(Digest, u64, MediaType), Parsed>>,
}

impl Documents {
    /// Returns a document or config. Calls `read` for its stored bytes, verified against the descriptor, if it
    /// was not read before. `None` if `read` does not have it.
    ///
    /// # Errors
    ///
    /// Those of `read`, and those of [`Parsed::parse`].
    pub fn get(
        &self,
        descriptor: &Descriptor,
        read: impl FnOnce() -> Result<Option<Vec<u8>>>,
    ) -> Result<Option<Parsed>> {
        let key = (descriptor.digest, descriptor.size, descriptor.media_type.clone());
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known().get(&key).cloned();
        if found.is_some() {
            return Ok(found);
        }
        let Some(bytes) = read()? else {
            return Ok(None);
        };
        let parsed = Parsed::parse(descriptor, bytes)?;
        // Another thread may have read it in the meantime; one copy is kept.
        Ok(Some(known().entry(key).or_insert(parsed).clone()))
    }
}
