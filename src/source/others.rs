//! What the other sources of a save know about layers: the manifest of a base image in one of them names the
//! layers of an image in another.

use super::Source;
use crate::oci::{Config, Descriptor, Digest, Manifest};

/// A layer's stored form, by a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredForm {
    /// Digest of the uncompressed tar, if the manifest's config is known.
    pub diff_id: Option<Digest>,
    /// The stored bytes, as the manifest describes them.
    pub layer: Descriptor,
    /// Whether they can be read where the manifest is.
    pub is_here: bool,
}

impl StoredForm {
    /// The layers of a manifest. `config` is the one that it names.
    pub fn of(
        manifest: &Manifest,
        config: Option<&Config>,
        is_here: impl Fn(&Descriptor) -> bool,
    ) -> Vec<StoredForm> {
        // They correspond layer by layer, or not at all.
        let diff_ids = config
            .map(|config| config.diff_ids.as_slice())
            .filter(|diff_ids| diff_ids.len() == manifest.layers.len());
        let form = |(at, layer): (usize, &Descriptor)| StoredForm {
            diff_id: diff_ids.and_then(|diff_ids| diff_ids.get(at)).copied(),
            is_here: is_here(layer),
            layer: layer.clone(),
        };
        manifest.layers.iter().enumerate().map(form).collect()
    }
}

/// The other sources of a save, beside the one that is asked.
#[derive(Clone, Copy)]
pub struct Others<'a> {
    sources: &'a [Box<dyn Source>],
    /// The position of the one that is asked.
    asked: usize,
    /// The others of a source that has these sources in it.
    outer: Option<&'a Others<'a>>,
}

impl<'a> Others<'a> {
    /// No others.
    pub const NONE: Others<'static> = Others {
        sources: &[],
        asked: 0,
        outer: None,
    };

    /// These, and all of a list but the one that is asked.
    pub fn beside(&'a self, sources: &'a [Box<dyn Source>], asked: usize) -> Others<'a> {
        Others {
            sources,
            asked,
            outer: Some(self),
        }
    }

    /// What they know about layers.
    pub fn stored_forms(&self) -> Vec<StoredForm> {
        let sources = self.sources.iter().enumerate();
        let others = sources.filter(|(at, _)| *at != self.asked);
        let mut forms: Vec<StoredForm> = others.flat_map(|(_, source)| source.stored_forms()).collect();
        if let Some(outer) = self.outer {
            forms.extend(outer.stored_forms());
        }
        forms
    }
}
