//! Documents in memory, for tests of indexes.

use std::collections::HashMap;

use crate::oci::{Descriptor, Digest, MediaType};

/// Documents by digest.
#[derive(Default)]
pub(super) struct Store(pub(super) HashMap<Digest, Vec<u8>>);

impl Store {
    pub(super) fn add(&mut self, media_type: &str, value: &serde_json::Value) -> Descriptor {
        let bytes = value.to_string().into_bytes();
        let digest = Digest::sha256(&bytes);
        let size = u64::try_from(bytes.len()).unwrap();
        self.0.insert(digest, bytes);
        Descriptor::new(MediaType::new(media_type), digest, size)
    }
}
