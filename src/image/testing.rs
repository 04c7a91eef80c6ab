//! Documents in memory, for tests of indexes.

use std::collections::HashMap;

use crate::oci::testing::{TestBlob, TestImage};
use crate::oci::{Descriptor, Digest};

/// Documents by digest.
#[derive(Default)]
pub(super) struct Store(pub(super) HashMap<Digest, Vec<u8>>);

impl Store {
    pub(super) fn add(&mut self, document: TestBlob) -> Descriptor {
        self.0.insert(document.descriptor.digest, document.bytes);
        document.descriptor
    }

    /// Adds manifest and config of an image; the descriptor of the manifest has no platform.
    pub(super) fn add_image(&mut self, image: &TestImage) -> Descriptor {
        self.add(image.config());
        self.add(image.manifest())
    }
}
