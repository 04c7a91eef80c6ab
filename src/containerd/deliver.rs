//! Gets the content of images into containerd: blobs with their labels, and unpacked layers.
//!
//! A layer is unpacked as soon as it is proven and its blob and the layers below it are there, while other blobs are still
//! being sent. Meanwhile the next layers are repacked for it, which saves most of the time that it takes. A config is written
//! after the layers of its image are unpacked, because its label keeps them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;

use super::client::Client;
use super::content::Content;
use super::labels::{self, Labels};
use super::plan;
use super::repack::Repacked;
use super::schedule::{self, Task};
use super::snapshots::{self, Layer, Snapshotter};
use crate::blob::{BlobReader, Blobs as _};
use crate::error::{Error, Place, Problem, Result};
use crate::image::Image;
use crate::image::referrers::ReferrerGraph;
use crate::load::{Candidate, Candidates, Form, MergedBlobs, PlannedImage, UploadBlob};
use crate::oci::{Descriptor, Digest, Repository};
use crate::progress::Progress;
use crate::verify::VerifiedLayer;

/// An image that containerd gets.
pub struct ImageToLoad<'l, 'a> {
    /// Its plan.
    pub planned: &'l PlannedImage,
    /// The candidate.
    pub candidate: &'l Candidate<'a>,
    /// The image of the candidate.
    pub image: &'l Image,
}

impl ImageToLoad<'_, '_> {
    /// Whether names keep all of its content already.
    fn is_named(&self) -> bool {
        self.planned.present && self.planned.tagged
    }
}

/// A blob that containerd is to have.
struct WantedBlob<'l> {
    descriptor: &'l Descriptor,
    form: Form,
    /// What garbage collection reads on it.
    references: Labels,
    /// The repositories of the images that have it.
    repositories: BTreeSet<&'l Repository>,
    /// Whether it was missing according to the plan.
    is_missing: bool,
    /// Whether names keep it already.
    is_named: bool,
    /// Whether its image needs it although it may be unpacked: it is a layer of a referrer, which is not.
    is_of_referrer: bool,
}

enum Work<'l> {
    /// Writes a blob, or adds labels to it.
    Blob(WantedBlob<'l>),
    /// Writes the temporary blob that a layer is unpacked from.
    Repack(Layer<'l>),
    /// Unpacks a layer, of this many uncompressed bytes.
    Layer(Layer<'l>, u64),
}

/// What was delivered.
pub struct Delivered {
    /// Stored bytes that were sent, by blob.
    pub sent: HashMap<Digest, u64>,
    /// Whether temporary blobs wait for garbage collection.
    pub has_garbage: bool,
}

/// A delivery in progress.
pub struct Delivery<'d, 'a> {
    content: Content<'d>,
    snapshotter: Option<Snapshotter<'d>>,
    source: MergedBlobs<'a>,
    candidates: &'d Candidates<'a>,
    progress: &'d dyn Progress,
    /// Fails when the work is to stop.
    check: &'d (dyn Fn() -> Result<()> + Sync),
    sent: Mutex<HashMap<Digest, u64>>,
    repacked: Option<Repacked<'d>>,
}

impl<'d, 'a> Delivery<'d, 'a> {
    /// Prepares a delivery. The client has a lease. Without a snapshotter nothing is unpacked, and without `repacked` layers
    /// are unpacked from the blobs of the image.
    pub fn new(
        client: &'d Client,
        repacked: Option<Repacked<'d>>,
        snapshotter: Option<Snapshotter<'d>>,
        candidates: &'d Candidates<'a>,
        progress: &'d dyn Progress,
        check: &'d (dyn Fn() -> Result<()> + Sync),
    ) -> Delivery<'d, 'a> {
        Delivery {
            content: Content::new(client),
            snapshotter,
            source: MergedBlobs::new(candidates),
            candidates,
            progress,
            check,
            sent: Mutex::default(),
            repacked,
        }
    }

    /// Sends and unpacks what is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if a blob or an uncompressed layer is not what its digest says; [`Error::Engine`].
    pub fn run(self, images: &[&ImageToLoad<'_, '_>], upload: &[UploadBlob]) -> Result<Delivered> {
        let tasks = self.tasks(images, upload);
        let sizes = tasks.iter().map(|task| match &task.work {
            Work::Blob(blob) if blob.is_missing => blob.descriptor.size,
            Work::Blob(_) | Work::Repack(_) => 0,
            Work::Layer(_, size) => *size,
        });
        self.progress.phase("sending and unpacking", Some(sizes.sum()));
        // One more than processors: while containerd unpacks a layer, its worker only waits.
        let workers = available_parallelism().map_or(2, |count| count.get() + 1);
        let may_start =
            |work: &Work<'_>| {
                (self.check)()?;
                match work {
                    Work::Blob(_) => Ok(true),
                    Work::Repack(layer) => Ok(self
                        .repacked
                        .as_ref()
                        .is_none_or(|repacked| repacked.claim(layer))),
                    // containerd checks neither the size nor the content of what it unpacks.
                    Work::Layer(layer, _) => Ok(self.temporary_blob(layer).is_some()
                        || self.candidates.is_proven(&layer.blob.digest)?),
                }
            };
        self.candidates.verify_all_but(repacked(&tasks));
        // What waits for the verification may hold all places for repacked layers, for which the verification waits.
        let on_stall = || self.candidates.verify_all();
        schedule::run(workers, &tasks, may_start, on_stall, |work| {
            (self.check)()?;
            match work {
                Work::Blob(blob) => self.keep(blob),
                Work::Repack(layer) => self.repack(layer),
                Work::Layer(layer, size) => self.unpack(layer, *size),
            }
        })?;
        Ok(Delivered {
            sent: self.sent.into_inner().unwrap_or_else(PoisonError::into_inner),
            has_garbage: self.repacked.as_ref().is_some_and(Repacked::has_garbage),
        })
    }

    /// What is to be done for these images.
    fn tasks<'l>(&self, images: &[&'l ImageToLoad<'l, '_>], upload: &[UploadBlob]) -> Vec<Task<Work<'l>>> {
        let missing: HashSet<Digest> = upload.iter().map(|blob| blob.digest).collect();
        let mut tasks: Vec<Task<Work<'l>>> = Vec::new();
        let mut blobs: HashMap<Digest, usize> = HashMap::new();
        let mut unpacked: HashMap<Digest, usize> = HashMap::new();
        for to_load in images {
            let mut top = None;
            let referrers = to_load.candidate.referrers_of(to_load.image);
            let of_image =
                plan::blobs(to_load.candidate, to_load.image).map(|(blob, form)| (blob, form, None));
            let of_referrers = referrers.iter().flat_map(|referrer| {
                let blobs = plan::blobs_of_referrer(referrer);
                blobs.map(|(blob, form)| (blob, form, Some(*referrer)))
            });
            for (descriptor, form, referrer) in of_image.chain(of_referrers) {
                if form == Form::Config && referrer.is_none() {
                    top = self.unpack_tasks(to_load, &blobs, &mut unpacked, &mut tasks);
                }
                let at = *blobs.entry(descriptor.digest).or_insert_with(|| {
                    tasks.push(Task {
                        work: Work::Blob(WantedBlob {
                            descriptor,
                            form,
                            references: Labels::new(),
                            repositories: BTreeSet::new(),
                            is_missing: missing.contains(&descriptor.digest),
                            is_named: true,
                            is_of_referrer: false,
                        }),
                        after: Vec::new(),
                        is_urgent: false,
                    });
                    tasks.len() - 1
                });
                if let Some(Task {
                    work: Work::Blob(blob),
                    after,
                    ..
                }) = tasks.get_mut(at)
                {
                    match referrer {
                        None => blob.references.extend(self.references(to_load, descriptor, form)),
                        Some(referrer) => blob.references.extend(references_of(referrer, descriptor, form)),
                    }
                    blob.repositories.insert(to_load.planned.name.repository());
                    blob.is_named &= to_load.is_named();
                    blob.is_of_referrer |= referrer.is_some();
                    let is_config = form == Form::Config && referrer.is_none();
                    let top = top.filter(|top| is_config && !after.contains(top));
                    after.extend(top);
                }
            }
            for referrer in referrers {
                let subject = blobs.get(&referrer.subject).and_then(|at| tasks.get_mut(*at));
                if let Some(Task {
                    work: Work::Blob(blob),
                    ..
                }) = subject
                {
                    labels::add_referrer(&mut blob.references, &referrer.digest());
                }
            }
        }
        tasks
    }

    /// The tasks that unpack the layers of an image. Returns the last one.
    fn unpack_tasks<'l>(
        &self,
        to_load: &ImageToLoad<'l, '_>,
        blobs: &HashMap<Digest, usize>,
        unpacked: &mut HashMap<Digest, usize>,
        tasks: &mut Vec<Task<Work<'l>>>,
    ) -> Option<usize> {
        if self.snapshotter.is_none() || to_load.is_named() {
            return None;
        }
        let (mut parent, mut repacked) = (None, None);
        for layer in snapshots::layers(to_load.image) {
            let at = *unpacked.entry(layer.chain).or_insert_with(|| {
                let repack = self
                    .repacked
                    .as_ref()
                    .is_some_and(|repacked| repacked.is_for(&layer))
                    .then(|| {
                        tasks.push(Task {
                            after: repacked.into_iter().collect(),
                            work: Work::Repack(layer.clone()),
                            is_urgent: true,
                        });
                        tasks.len() - 1
                    });
                repacked = repack.or(repacked);
                let sizes = &to_load.candidate.layer_sizes;
                let size = sizes.get(&layer.diff_id).copied().unwrap_or(layer.blob.size);
                let blob = blobs.get(&layer.blob.digest).copied();
                tasks.push(Task {
                    after: parent.into_iter().chain(blob).chain(repack).collect(),
                    work: Work::Layer(layer, size),
                    is_urgent: true,
                });
                tasks.len() - 1
            });
            parent = Some(at);
        }
        parent
    }

    /// The labels of a blob that keep what it needs.
    fn references(&self, to_load: &ImageToLoad<'_, '_>, descriptor: &Descriptor, form: Form) -> Labels {
        let manifest = &to_load.image.manifest;
        if form == Form::Config {
            let top = snapshots::layers(to_load.image).pop();
            let snapshotter = self.snapshotter.as_ref();
            let label =
                snapshotter.and_then(|name| Some(labels::of_unpacked(name.name(), &top.as_ref()?.chain)));
            return label.into_iter().collect();
        }
        let mut indexes = to_load.candidate.image.graph.indexes.iter();
        match indexes.find(|(index, _)| index.digest == descriptor.digest) {
            Some((_, index)) => labels::of_children(index.manifests.iter()),
            None if form == Form::Document => {
                labels::of_children(std::iter::once(&manifest.config).chain(&manifest.layers))
            }
            None => Labels::new(),
        }
    }

    /// Makes sure that a blob is there, that the lease or a name keeps it, and that it has its labels.
    fn keep(&self, blob: &WantedBlob<'_>) -> Result<()> {
        let digest = &blob.descriptor.digest;
        if !blob.is_missing {
            let known = self.content.find(digest)?;
            // As in a pull, a layer that is unpacked needs no blob.
            let is_needed = known.is_some()
                || blob.form != Form::Layer
                || blob.is_of_referrer
                || self.snapshotter.is_none();
            if !is_needed {
                return Ok(());
            }
            if let Some(known) = known.filter(|_| blob.is_named) {
                return self
                    .content
                    .label(digest, labels::missing(blob.labels(&known.labels), &known.labels));
            }
        }
        let labels = blob.labels(&Labels::new());
        if self.write(blob.descriptor, &labels)? {
            return Ok(());
        }
        let known = self.content.find(digest)?;
        let known = known.map(|known| known.labels).unwrap_or_default();
        self.content
            .label(digest, labels::missing(blob.labels(&known), &known))
    }

    /// Writes a blob. False if it is there already.
    fn write(&self, blob: &Descriptor, labels: &Labels) -> Result<bool> {
        let open = || {
            let open = self.source.open(blob)?;
            let place = || Place::blob(blob.digest).within(self.source.label());
            let open = open.ok_or_else(|| Error::refused(place(), Problem::Missing))?;
            BlobReader::new(open, blob)
        };
        let written = self
            .content
            .write(blob, &open, labels, self.progress, self.check)?;
        if let Some(bytes) = written {
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            *sent.entry(blob.digest).or_default() += bytes;
        }
        Ok(written.is_some())
    }

    /// Writes the temporary blob of a layer that is not unpacked yet.
    fn repack(&self, layer: &Layer<'_>) -> Result<()> {
        let repacked = self.try_repack(layer);
        // The verification takes the layer back if there is no proof, which it waits for.
        let proof = repacked.as_ref().ok().copied().flatten();
        self.candidates.settle(&layer.blob.digest, proof);
        if proof.is_none()
            && let Some(places) = &self.repacked
        {
            // It may take long until the layer is unpacked.
            places.remove(layer)?;
        }
        repacked.map(|_| ())
    }

    fn try_repack(&self, layer: &Layer<'_>) -> Result<Option<VerifiedLayer>> {
        let (Some(repacked), Some(snapshotter)) = (&self.repacked, &self.snapshotter) else {
            return Ok(None);
        };
        let is_unpacked = snapshotter.has(&layer.chain)?;
        // One that the archive leaves out is unpacked from the blob that containerd has.
        let stored = self.source.open(layer.blob)?.filter(|_| !is_unpacked);
        let Some(stored) = stored else {
            return Ok(None);
        };
        let stored = BlobReader::new(stored, layer.blob)?;
        let limit = self.candidates.layer_limit();
        match repacked.add(layer, stored, limit, self.check) {
            Ok(verified) => Ok(Some(verified)),
            // The layer is unpacked from the blob of the image, which tells what is wrong if that fails too.
            Err(Error::Engine { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The temporary blob of a layer, if it has one.
    fn temporary_blob(&self, layer: &Layer<'_>) -> Option<Descriptor> {
        self.repacked.as_ref()?.of(layer)
    }

    /// Unpacks a layer.
    fn unpack(&self, layer: &Layer<'_>, size: u64) -> Result<()> {
        let Some(snapshotter) = &self.snapshotter else {
            return Ok(());
        };
        self.progress.blob_started(&layer.chain, size, 0);
        let ensure = || {
            // The snapshot and the blob may have been removed since the plan was made. The image needs the blob, also if
            // the layer is unpacked from a temporary one.
            self.write(layer.blob, &Labels::new())?;
            Ok(self.temporary_blob(layer).unwrap_or_else(|| layer.blob.clone()))
        };
        snapshotter.unpack(layer, ensure, self.check)?;
        if let Some(repacked) = &self.repacked {
            repacked.remove(layer)?;
        }
        // Also for a snapshot that was there: a run that was killed may have left it without the label.
        if let Some(known) = self.content.find(&layer.blob.digest)? {
            let labels = labels::missing(labels::of_layer(&layer.diff_id), &known.labels);
            self.content.label(&layer.blob.digest, labels)?;
        }
        self.progress.blob_finished(&layer.chain);
        Ok(())
    }
}

/// The labels of a referrer's document that keep what it names.
fn references_of(referrer: &ReferrerGraph, descriptor: &Descriptor, form: Form) -> Labels {
    if form != Form::Document {
        return Labels::new();
    }
    let graph = &referrer.graph;
    let is_it = |known: &Descriptor| known.digest == descriptor.digest;
    let index = graph.indexes.iter().find(|(known, _)| is_it(known));
    let image = graph.images.iter().find(|image| is_it(&image.descriptor));
    let children = index.map(|(_, index)| labels::of_children(index.manifests.iter()));
    let of_image = || {
        let manifest = &image?.manifest;
        let children = std::iter::once(&manifest.config).chain(&manifest.layers);
        Some(labels::of_children(children))
    };
    children.or_else(of_image).unwrap_or_default()
}

/// The layers that are repacked, which verifies them.
fn repacked(tasks: &[Task<Work<'_>>]) -> HashSet<Digest> {
    let layers = tasks.iter().filter_map(|task| match &task.work {
        Work::Repack(layer) => Some(layer.blob.digest),
        Work::Blob(_) | Work::Layer(..) => None,
    });
    layers.collect()
}

impl WantedBlob<'_> {
    /// All labels that it should have, beside those that it has.
    fn labels(&self, known: &Labels) -> Labels {
        let mut labels = labels::of_sources(self.repositories.iter().copied(), known);
        labels.extend(self.references.clone());
        labels
    }
}
