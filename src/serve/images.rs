//! The named images of a registry, for the page's list and its search.

use std::fmt::Write as _;
use std::sync::Arc;

use super::content::Content;
use super::opened::blobs;
use super::target;
use crate::image::provenance::Evidence;
use crate::image::{NamedImage, Overview};
use crate::oci::{Digest, Reference};

/// Most platforms of an image that the search finds. A hostile index has thousands, and a search reads them for each name.
const SEARCHED: usize = 64;

/// A name that is served, and its image.
#[derive(Debug, Clone)]
pub(super) struct ServedName {
    /// As Docker shows it: `httpd:2.4`.
    pub(super) label: String,
    /// The whole name.
    pub(super) name: Reference,
    /// The path of its repository here.
    pub(super) path: String,
    pub(super) named: NamedImage,
    pub(super) overview: Arc<Overview>,
    /// Whether all configs and layers are here.
    pub(super) is_complete: bool,
    /// The text that is searched, in lower case.
    words: String,
}

impl ServedName {
    pub(super) fn new(
        name: &Reference,
        image: &NamedImage,
        overview: &Arc<Overview>,
        content: &Content,
    ) -> ServedName {
        let mut words = String::new();
        let root = image.graph.root.digest;
        let mut add = |word: &dyn std::fmt::Display| {
            // Writing to a string does not fail.
            let _ = writeln!(words, "{word}");
        };
        add(&name.full());
        add(&name.familiar());
        add(&root);
        if let Some(digest) = image.digest().filter(|digest| *digest != root) {
            add(&digest);
        }
        for platform in overview.platforms.iter().take(SEARCHED) {
            add(platform);
        }
        if let Some(artifact) = &overview.artifact_type {
            add(artifact);
        }
        for variant in overview.variants.iter().take(SEARCHED) {
            add(&variant.digest);
            add(&variant.config);
        }
        ServedName {
            label: name.familiar(),
            name: name.clone(),
            path: content.shortest(name.repository().full()),
            named: image.clone(),
            overview: Arc::clone(overview),
            is_complete: blobs(&image.graph).all(|blob| content.has_blob(&blob.digest)),
            words: words.to_lowercase(),
        }
    }

    /// Whether a search for this word, in lower case, finds it.
    pub(super) fn has(&self, word: &str) -> bool {
        self.words.contains(word)
    }

    /// The digest that clients get.
    pub(super) fn digest(&self) -> Digest {
        self.named.graph.root.digest
    }

    pub(super) fn evidence(&self) -> Evidence {
        self.named.evidence()
    }

    pub(super) fn tag(&self) -> Option<&str> {
        self.name.tag()
    }

    /// The address of its page.
    pub(super) fn address(&self) -> String {
        format!("/?image={}", target::encode(&self.name.full()))
    }
}
