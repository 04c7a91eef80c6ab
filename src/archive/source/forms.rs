//! The layers that the manifests of a layout name.

use std::collections::HashSet;

use crate::archive::graphs::Graphs;
use crate::archive::layout::Layout;
use crate::source::StoredForm;

/// The layers in the manifests of a layout. Unreadable ones are omitted.
pub fn stored_forms(layout: &dyn Layout) -> Vec<StoredForm> {
    let mut graphs = Graphs::new(layout);
    let mut known = HashSet::new();
    let mut forms = Vec::new();
    // A substitute was made here, and names no blobs of a registry.
    let entries = layout.entries().iter().filter(|entry| entry.substitute.is_none());
    for entry in entries {
        let Ok(graph) = graphs.of(entry) else { continue };
        for image in graph.images.iter().filter(|image| image.is_runnable()) {
            if known.insert(image.descriptor.digest) {
                forms.extend(StoredForm::of(
                    &image.manifest,
                    image.config.as_deref(),
                    |layer| {
                        let stored = layout.stored(&layer.digest);
                        stored.is_some_and(|stored| stored.size == layer.size)
                    },
                ));
            }
        }
    }
    forms
}
