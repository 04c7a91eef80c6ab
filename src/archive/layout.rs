//! What can be read as an OCI layout: a tar, in one file or in parts, or a folder.

use std::collections::HashSet;

use super::format::{Entry, Omitted};
use super::referrers::LayoutReferrers;
use crate::blob::{Blobs, Stored};
use crate::error::{Error, Finding, Result};
use crate::image::Graph;
use crate::image::provenance::{LayerOrigin, Provenance};
use crate::oci::{Descriptor, Digest, MediaType};

/// An opened OCI layout.
pub trait Layout: Blobs {
    /// The stored bytes of `index.json`.
    fn index(&self) -> &[u8];

    /// The entries of `index.json` that are images or artifacts of their own.
    fn entries(&self) -> &[Entry];

    /// What it names that refers to these, beside the lists of its own entries.
    fn referrers(&self) -> &LayoutReferrers;

    /// Where a blob's stored bytes are; `None` if it is missing.
    fn stored(&self, digest: &Digest) -> Option<&Stored>;

    /// The blobs that are present.
    fn blobs(&self) -> Vec<Digest>;

    /// Files that are neither blobs nor part of the layout.
    fn unknown_files(&self) -> Vec<String>;

    /// The layers that it declares to leave out.
    fn omitted(&self) -> &Omitted;

    /// The stored bytes of `manifest.json`, which a bare `docker load` reads, if it is present.
    fn manifest_json(&self) -> Option<&[u8]>;

    /// What was found wrong on opening. A layout with an error among these must not be used: [`super::verify()`]
    /// reports them, and other users call [`Layout::check_opening`].
    fn findings(&self) -> &[Finding];

    /// Refuses a layout that was found wrong on opening.
    ///
    /// # Errors
    ///
    /// The first finding that is an error.
    fn check_opening(&self) -> Result<()> {
        match self.findings().iter().find(|finding| finding.is_error()) {
            Some(finding) => Err(Error::Refused(Box::new(finding.clone()))),
            None => Ok(()),
        }
    }

    /// Digest of `index.json`, which pins everything named in it.
    fn digest(&self) -> Digest {
        Digest::sha256(self.index())
    }

    /// The provenance of an entry's image, as far as it concerns a graph that begins at or below the entry.
    fn provenance(&self, entry: &Entry, graph: &Graph) -> Provenance {
        let mut provenance = entry.provenance();
        let declared = !entry.uncompressed.is_empty();
        for image in graph.images.iter().filter(|_| declared) {
            let diff_ids = image.config.iter().flat_map(|config| &config.diff_ids);
            for (layer, diff_id) in image.manifest.layers.iter().zip(diff_ids) {
                let is_packed = self.stored(&layer.digest).is_some();
                if is_packed || !entry.uncompressed.contains(&layer.digest) {
                    continue;
                }
                if let Some(stored) = self.stored(diff_id) {
                    let tar = Descriptor::new(MediaType::new(MediaType::OCI_LAYER), *diff_id, stored.size);
                    provenance.uncompressed.insert(layer.digest, tar);
                }
            }
        }
        let is_substitute = provenance.substitute.is_some();
        if let Some(origins) = &mut provenance.origins {
            let layers = graph.images.iter().flat_map(|image| &image.manifest.layers);
            let layers: HashSet<Digest> = layers.map(|layer| layer.digest).collect();
            origins.layers.retain(|layer, _| layers.contains(layer));
            for (layer, origin) in &mut origins.layers {
                // Another image of the archive has its stored form. Substitutes are over uncompressed layers.
                let is_here = !is_substitute && self.stored(layer).is_some();
                if is_here && matches!(origin, LayerOrigin::Uncompressed { .. }) {
                    *origin = LayerOrigin::Stored;
                }
            }
        }
        provenance
    }
}
