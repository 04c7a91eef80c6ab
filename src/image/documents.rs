//! Manifests, indexes and configs, each parsed and kept once, however many images lead to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Place, Problem, Result};
use crate::oci::{Config, Descriptor, Digest, Document, Index, Kind, Manifest, MediaType};

/// A document or config that was parsed.
#[derive(Debug, Clone)]
pub enum Parsed {
    /// An image manifest.
    Manifest(Arc<Manifest>),
    /// An image index.
    Index(Arc<Index>),
    /// A config's stored bytes, and what they say.
    Config(Arc<[u8]>, Arc<Config>),
}

impl Parsed {
    /// Parses the stored bytes of what a descriptor names: by its media type a config, or a document.
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

/// The documents and configs that were read so far.
#[derive(Debug, Default)]
pub struct Documents {
    /// By what a descriptor says of one: another size or media type is not the same.
    known: Mutex<HashMap<(Digest, u64, MediaType), Parsed>>,
}

impl Documents {
    /// A document or config; `read` is asked for its stored bytes, checked against the descriptor, if it was not
    /// read before. `None` if `read` does not have it.
    ///
    /// # Errors
    ///
    /// Those of `read`, and as [`Parsed::parse`].
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
        // Another thread may have read it meanwhile: one copy stays.
        Ok(Some(known().entry(key).or_insert(parsed).clone()))
    }
}
