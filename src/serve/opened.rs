//! One opened archive, and the state of the files that it was opened from.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blob::{Blob, FileState};
use crate::archive::signature::Required;
use crate::archive::{self, Graphs, Layout, segments};
use crate::error::Result;
use crate::image::named::{self, NamedImage};
use crate::image::{Graph, Overview};
use crate::oci::{Descriptor, Digest};

/// The files of one archive, as [`archive::open`] takes them.
#[derive(Debug, Clone)]
pub struct ArchiveFiles {
    /// The file or folder, or parts.
    pub files: Vec<PathBuf>,
    /// The digest that it must have.
    pub expected: Option<Digest>,
    /// The signature that it must have.
    pub signature: Option<Required>,
}

/// The state of the files of an archive, by their paths. Empty for a stream.
pub(super) type FilesSeen = Vec<(PathBuf, Option<FileState>)>;

/// One opened archive.
pub(super) struct Opened {
    pub(super) label: String,
    pub(super) digest: Digest,
    pub(super) seen: FilesSeen,
    pub(super) images: Vec<NamedImage>,
    /// What they consist of, in the same order. Several names of one image share it.
    pub(super) overviews: Vec<Arc<Overview>>,
    /// Its configs and layers, by the digests that manifests give them.
    pub(super) blobs: HashMap<Digest, Arc<Blob>>,
}

impl Opened {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// Those of opening it, and of reading its manifests.
    pub(super) fn new(given: &ArchiveFiles, options: &archive::Options) -> Result<Opened> {
        // Before it is opened: what changes meanwhile is seen later.
        let seen = seen(given);
        let layout = archive::open(&given.files, options)?;
        let layout = layout.as_ref();
        if let Some(expected) = &given.expected {
            archive::expect(layout, expected)?;
        }
        if let Some(required) = &given.signature {
            required.check(layout)?;
        }
        layout.check_opening()?;
        let mut graphs = Graphs::new(layout);
        let mut opened = Opened {
            label: layout.label().into(),
            digest: layout.digest(),
            seen,
            images: Vec::new(),
            overviews: Vec::new(),
            blobs: HashMap::new(),
        };
        for entry in layout.entries() {
            options.interrupt.check()?;
            let image = graphs.named(entry)?;
            opened.add_blobs(layout, &image.graph);
            for referrer in image.referrers.iter() {
                opened.add_blobs(layout, &referrer.graph);
            }
            opened.images.push(image);
        }
        let mut overviews: HashMap<usize, Arc<Overview>> = HashMap::new();
        for (image, first) in opened.images.iter().zip(named::firsts(&opened.images)) {
            let overview = overviews.entry(first);
            let overview = overview.or_insert_with(|| Arc::new(Overview::of(image)));
            opened.overviews.push(Arc::clone(overview));
        }
        Ok(opened)
    }

    fn add_blobs(&mut self, layout: &dyn Layout, graph: &Graph) {
        for blob in blobs(graph) {
            if self.blobs.contains_key(&blob.digest) {
                continue;
            }
            if let Some(stored) = layout.stored(&blob.digest) {
                self.blobs.insert(blob.digest, Arc::new(Blob::new(blob, stored)));
            }
        }
    }
}

/// The configs and layers of a graph.
pub(super) fn blobs(graph: &Graph) -> impl Iterator<Item = &Descriptor> {
    let manifests = graph.images.iter().map(|image| &image.manifest);
    manifests.flat_map(|manifest| std::iter::once(&manifest.config).chain(&manifest.layers))
}

/// The state of the files that an archive is opened from, and of its signature, which may come after it.
pub(super) fn seen(given: &ArchiveFiles) -> FilesSeen {
    let mut paths = BTreeSet::new();
    for path in given.files.iter().filter(|path| *path != Path::new("-")) {
        match path.is_dir() {
            true => paths.extend(["index.json", "manifest.json"].map(|name| path.join(name))),
            false => paths.extend(segments::files(path)),
        }
    }
    if let Some(required) = given.signature.as_ref().filter(|_| !paths.is_empty()) {
        paths.insert(required.file.clone());
    }
    let state = |path: &PathBuf| path.metadata().ok().map(|meta| FileState::from(&meta));
    let seen = paths.into_iter().map(|path| {
        let state = state(&path);
        (path, state)
    });
    seen.collect()
}
