//! What is offered to a target: the images of archives that were verified.

use std::collections::BTreeMap;

use super::Evidence;
use crate::archive::account::Account;
use crate::archive::content::Content;
use crate::archive::verify;
use crate::error::Result;
use crate::oci::{Digest, Graph, PlatformSelection, Reference};

/// An image that could be loaded: one entry of an archive.
pub struct Offer<'a> {
    /// The archive with its blobs.
    pub content: &'a dyn Content,
    /// Its name there.
    pub reference: Option<Reference>,
    /// What it stands for.
    pub graph: Graph,
    /// What its archive says of it.
    pub account: Account,
    /// Uncompressed bytes of its layers by their diff ids, as far as they were counted.
    pub layer_sizes: BTreeMap<Digest, u64>,
}

impl Offer<'_> {
    /// The name for messages: as it was given, or the digest.
    pub fn label(&self) -> String {
        label(self.reference.as_ref(), &self.graph.root.digest)
    }

    /// The digest that it is known by: its manifest's or index's, or the one that was recorded in its place.
    pub fn digest(&self) -> Digest {
        let root = self.graph.root.digest;
        self.account.digest(root).unwrap_or(root)
    }

    /// What stands behind its digest.
    pub fn evidence(&self) -> Evidence {
        self.account.evidence()
    }
}

pub(super) fn label(reference: Option<&Reference>, digest: &Digest) -> String {
    reference.map_or_else(|| digest.to_string(), Reference::familiar)
}

/// An image that is in an archive and not whole.
#[derive(Debug, Clone)]
pub struct Damaged {
    /// Its name there.
    pub reference: Option<Reference>,
    /// Digest of its manifest or index.
    pub digest: Digest,
}

/// What is offered to a target: the images of archives that were verified.
#[derive(Default)]
pub struct Offers<'a> {
    /// Images that are whole.
    pub images: Vec<Offer<'a>>,
    /// Images that are not.
    pub damaged: Vec<Damaged>,
}

impl<'a> Offers<'a> {
    /// Adds the images of an archive, as its verification found them.
    ///
    /// # Errors
    ///
    /// If the documents of an image that was found whole cannot be read now.
    pub fn add(&mut self, content: &'a dyn Content, report: &verify::Report) -> Result<()> {
        let layer_sizes: BTreeMap<Digest, u64> = report
            .layers
            .values()
            .map(|layer| (layer.diff_id, layer.size))
            .collect();
        for image in &report.images {
            let entry = content
                .entries()
                .iter()
                .find(|entry| entry.descriptor.digest == image.digest && entry.reference == image.reference);
            let Some(entry) = entry.filter(|_| image.is_good) else {
                self.damaged.push(Damaged {
                    reference: image.reference.clone(),
                    digest: image.digest,
                });
                continue;
            };
            let graph = Graph::walk(
                &entry.descriptor,
                &PlatformSelection::Present,
                &mut |descriptor| content.metadata(descriptor),
            )?;
            self.images.push(Offer {
                content,
                reference: image.reference.clone(),
                account: content.account(entry, &graph),
                graph,
                layer_sizes: layer_sizes.clone(),
            });
        }
        Ok(())
    }
}

impl Offers<'_> {
    /// The archives' names, for messages.
    pub fn place(&self) -> String {
        let mut labels: Vec<&str> = self.images.iter().map(|offer| offer.content.label()).collect();
        labels.dedup();
        if labels.is_empty() {
            "the archive".into()
        } else {
            labels.join(", ")
        }
    }
}
