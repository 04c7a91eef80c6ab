//! Recorded digests. Nothing in the archive proves them, but a manifest or index of another image may disprove
//! them.

use std::collections::{BTreeSet, HashMap};

use super::Followed;
use crate::archive::Layout;
use crate::error::Problem;
use crate::image::provenance::Evidence;
use crate::oci::{Config, Descriptor, Digest, Document, Kind, MediaType, Platform};
use crate::verify::Verification;

/// Finds recorded digests that belong to other images.
pub(super) fn check(verification: &mut Verification<'_>, layout: &dyn Layout, images: &[Followed]) {
    let mut documents = Documents {
        layout,
        known: HashMap::new(),
    };
    let mut told = BTreeSet::new();
    for image in images {
        let root = image.root.descriptor.digest;
        let recorded = image.root.digest.filter(|digest| *digest != root);
        let Some(recorded) = recorded.filter(|_| image.root.evidence == Evidence::Recorded) else {
            continue;
        };
        let manifests = image.parts.manifests.iter();
        let configs =
            manifests.filter_map(|one| one.parsed.as_ref().map(|config| (one.config.digest, config)));
        for (id, config) in configs {
            if let Some(config) = documents.other(&recorded, &id, config)
                && told.insert((root, recorded))
            {
                verification.find(&root, Problem::RecordedDiffers { recorded, config });
            }
        }
    }
}

/// The target of a document.
enum Leads {
    /// A manifest: its config.
    To(Digest),
    /// An index: its entries.
    Among(Vec<Descriptor>),
    /// It is missing, or not a document.
    Nowhere,
}

struct Documents<'a> {
    layout: &'a dyn Layout,
    known: HashMap<Digest, Leads>,
}

impl Documents<'_> {
    /// The config that a recorded digest leads to, if it cannot lead to this one.
    fn other(&mut self, recorded: &Digest, id: &Digest, config: &Config) -> Option<Digest> {
        let entries = match self.leads(recorded) {
            Leads::To(config) => return (config != id).then_some(*config),
            Leads::Among(entries) => entries.clone(),
            Leads::Nowhere => return None,
        };
        let mut other = None;
        for entry in &entries {
            let is_elsewhere = |said: &Platform| said.is_unknown() || said.contradicts(&config.platform);
            match self.leads(&entry.digest) {
                Leads::To(config) if config == id => return None,
                Leads::To(config) => other = other.or(Some(*config)),
                _ if entry.platform.as_ref().is_some_and(is_elsewhere) => {}
                // A missing document may lead to it.
                _ => return None,
            }
        }
        other
    }

    fn leads(&mut self, digest: &Digest) -> &Leads {
        let layout = self.layout;
        self.known
            .entry(*digest)
            .or_insert_with(|| read(layout, digest).unwrap_or(Leads::Nowhere))
    }
}

/// Reads a document of unknown media type.
fn read(layout: &dyn Layout, digest: &Digest) -> Option<Leads> {
    let size = layout.stored(digest)?.size;
    let types = [
        MediaType::OCI_MANIFEST,
        MediaType::OCI_INDEX,
        MediaType::DOCKER_MANIFEST,
        MediaType::DOCKER_LIST,
    ];
    let descriptor = Descriptor::new(MediaType::new(MediaType::OCI_MANIFEST), *digest, size);
    let bytes = layout.metadata(&descriptor).ok().flatten()?;
    types.into_iter().find_map(|media_type| {
        match Document::parse(&MediaType::new(media_type), bytes.clone()).ok()? {
            Document::Manifest(manifest) => Some(Leads::To(manifest.config.digest)),
            Document::Index(index) => {
                let is_image = |entry: &&Descriptor| {
                    entry.attests().is_none()
                        && matches!(entry.media_type.kind(), Kind::Manifest | Kind::Index)
                };
                let entries = index.manifests.iter().filter(is_image);
                Some(Leads::Among(
                    entries.map(Descriptor::bare_with_platform).collect(),
                ))
            }
        }
    })
}
