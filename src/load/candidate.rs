//! The candidates for a target: the images of verified archives.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::early::Proof;
use super::{Evidence, Obstacle};
use crate::archive::Graphs;
use crate::archive::Layout;
use crate::archive::format::{Entry, Omitted};
use crate::blob::Blobs;
use crate::error::{Error, Result};
use crate::image::provenance::ManifestOrigin;
use crate::image::selector::Identity;
use crate::image::{Image, NamedImage};
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, Digest, Platform, Reference};
use crate::verify::{self, VerifiedLayer};

/// An image that could be loaded: one entry of an archive.
pub struct Candidate<'a> {
    /// The archive with its blobs.
    pub blobs: &'a dyn Blobs,
    /// The image, named as in the archive.
    pub image: NamedImage,
    /// Uncompressed bytes of layers by their diff ids, as far as they were counted, for the whole archive.
    pub layer_sizes: Arc<BTreeMap<Digest, u64>>,
    /// Layers of it that no archive has, because they were left out for a host that has them. They are never sent: a
    /// load ends before anything is sent if the target lacks one.
    pub omitted: Omitted,
}

impl Candidate<'_> {
    /// The image that a target gets which takes one platform: for the requested platform, else the one of those that the
    /// target takes that a pull would choose. An image without an index is loaded as it is, like in a pull.
    pub fn image_to_load(&self, platform: Option<&Platform>, taken: &[Platform]) -> Option<&Image> {
        let graph = &self.image.graph;
        match platform {
            Some(platform) => graph.image_for(std::slice::from_ref(platform)),
            None if graph.indexes.is_empty() => graph.runnable().next(),
            None => graph.image_for(taken),
        }
    }

    /// Its name in messages: as given, or a digest that selects it.
    pub fn label(&self) -> String {
        self.identity().label()
    }

    /// Its digest: that of its manifest or index, or the recorded one; `None` if not known.
    pub fn digest(&self) -> Option<Digest> {
        self.image.digest()
    }

    /// A digest that selects it.
    pub fn handle(&self) -> Digest {
        self.identity().handle()
    }

    /// Whether no archive has a layer of it, because it was left out.
    pub fn is_omitted(&self, layer: &Descriptor) -> bool {
        self.omitted.layers.contains(&layer.digest)
    }

    /// What selects and renames it.
    pub fn identity(&self) -> Identity<'_> {
        self.image.identity()
    }

    /// Refuses a name that pins another digest than the image's.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`].
    pub fn check_name(&self, name: &Reference) -> Result<()> {
        let usage = |message: String| Err(Error::Usage { message, hint: None });
        match (name.digest(), self.digest()) {
            (Some(_), None) => usage(format!(
                "{name} names a digest, and the image has none that is known"
            )),
            (Some(pinned), Some(digest)) if pinned != digest => {
                usage(format!("{name} names another digest than the image's, {digest}"))
            }
            _ => Ok(()),
        }
    }

    /// The evidence for its digest.
    pub fn evidence(&self) -> Evidence {
        self.image.evidence()
    }

    /// Why it has no digest, as far as the archive says.
    pub fn no_digest(&self) -> String {
        match self.image.provenance.origins.as_ref().map(|said| &said.manifest) {
            Some(ManifestOrigin::Substitute { reason }) => reason.clone(),
            _ => "where it was saved from it had none".into(),
        }
    }

    /// Why a target that needs compressed layers cannot get one of its images; `None` if it can.
    pub fn layer_obstacle(&self, image: &Image) -> Option<Obstacle> {
        let uncompressed = self.image.uncompressed_layers(image)?;
        Some(Obstacle::new(
            format!("it has {uncompressed}, and they are needed as they were stored"),
            "load it into the classic store of Docker, or save it again where its registry can be reached",
        ))
    }
}

/// A damaged image of an archive.
#[derive(Debug, Clone)]
pub struct DamagedImage {
    /// Its name there.
    pub reference: Option<Reference>,
    /// Digest of its manifest or index in the archive, which may be a substitute.
    pub root: Digest,
    /// Its digest, if it is known.
    pub digest: Option<Digest>,
    /// Digest of its config, if it has only one.
    pub image_id: Option<Digest>,
}

impl DamagedImage {
    /// What it can be chosen and renamed by.
    pub(super) fn identity(&self) -> Identity<'_> {
        Identity {
            reference: self.reference.as_ref(),
            digest: self.digest,
            root: self.root,
            image_ids: self.image_id.into_iter().collect(),
        }
    }

    /// Its name in messages.
    pub(super) fn label(&self) -> String {
        self.identity().label()
    }
}

/// What is offered to a target: the images of archives that were verified.
#[derive(Default)]
pub struct Candidates<'a> {
    /// Images without errors.
    pub images: Vec<Candidate<'a>>,
    /// Damaged images.
    pub damaged: Vec<DamagedImage>,
    /// The archives.
    pub archives: Vec<&'a dyn Layout>,
    /// The verification of the archives, if it has not ended yet.
    pub proof: Option<Proof>,
}

impl<'a> Candidates<'a> {
    /// Adds the images of an archive, according to its verification.
    ///
    /// # Errors
    ///
    /// If the documents of a verified image cannot be read any more.
    pub fn add(&mut self, layout: &'a dyn Layout, report: &verify::Report) -> Result<()> {
        self.archives.push(layout);
        let layers = report.layers.values();
        let layer_sizes = Arc::new(layers.map(|layer| (layer.diff_id, layer.size)).collect());
        let mut graphs = Graphs::new(layout);
        let mut entries: HashMap<_, VecDeque<&Entry>> = HashMap::new();
        for entry in layout.entries() {
            let same = entries.entry((entry.descriptor.digest, &entry.reference));
            same.or_default().push_back(entry);
        }
        for image in &report.images {
            let same = entries.get_mut(&(image.root, &image.reference));
            let Some(entry) = same.and_then(VecDeque::pop_front).filter(|_| image.is_good) else {
                self.damaged.push(DamagedImage {
                    reference: image.reference.clone(),
                    root: image.root,
                    digest: image.digest,
                    image_id: image.image_id,
                });
                continue;
            };
            let named = graphs.named(entry)?;
            let layers = named.graph.images.iter().flat_map(|image| &image.manifest.layers);
            let layers = layers.map(|layer| layer.digest);
            let declared = layout.omitted();
            let omitted = Omitted {
                layers: layers.filter(|layer| declared.layers.contains(layer)).collect(),
                inventories: declared.inventories.clone(),
            };
            self.images.push(Candidate {
                blobs: layout,
                image: named,
                omitted,
                layer_sizes: Arc::clone(&layer_sizes),
            });
        }
        self.complement();
        Ok(())
    }

    /// Forgets damaged images that another archive has whole.
    pub(super) fn forget_replaced(&mut self) {
        let images = &self.images;
        self.damaged.retain(|damaged| {
            let is_same = |whole: &Candidate<'_>| {
                whole.image.reference == damaged.reference && whole.image.graph.root.digest == damaged.root
            };
            !images.iter().any(is_same)
        });
    }

    /// A layer that one image has only uncompressed may be present in its stored form for another image, if
    /// both give it the same diff id. One that an archive leaves out may be in another archive.
    fn complement(&mut self) {
        let mut stored = HashSet::new();
        let mut seen = HashMap::new();
        for candidate in &self.images {
            let uncompressed = &candidate.image.provenance.uncompressed;
            let omitted = &candidate.omitted.layers;
            // Several names of one image have the same layers.
            let layers = (uncompressed, omitted);
            if seen.insert(Arc::as_ptr(&candidate.image.graph), layers) == Some(layers) {
                continue;
            }
            let is_here = |layer: &Digest| !uncompressed.contains_key(layer) && !omitted.contains(layer);
            for image in &candidate.image.graph.images {
                let diff_ids = image.config.iter().flat_map(|config| &config.diff_ids);
                let layers = image.manifest.layers.iter().map(|layer| layer.digest);
                let pairs = layers.zip(diff_ids.copied());
                stored.extend(pairs.filter(|(layer, _)| is_here(layer)));
            }
        }
        let blobs: HashSet<Digest> = stored.iter().map(|(layer, _)| *layer).collect();
        for candidate in &mut self.images {
            let uncompressed = &mut candidate.image.provenance.uncompressed;
            uncompressed.retain(|layer, tar| !stored.contains(&(*layer, tar.digest)));
            candidate.omitted.layers.retain(|layer| !blobs.contains(layer));
        }
    }
}

impl Candidates<'_> {
    /// Whether every byte of the archives is verified by now.
    pub fn are_verified(&self) -> bool {
        self.proof.as_ref().is_none_or(Proof::is_known)
    }

    /// Waits until every byte of the archives is verified. A target that starts before calls it before it names anything.
    ///
    /// # Errors
    ///
    /// If an archive is damaged.
    pub fn wait_until_verified(&self, interrupt: &Interrupt) -> Result<()> {
        match &self.proof {
            Some(proof) => proof.wait(interrupt),
            None => Ok(()),
        }
    }

    /// Starts the verification of everything but these layers, if it has not ended yet. It leaves them to the target, until
    /// [`Candidates::settle`] is called for each: they are decompressed once then.
    pub(crate) fn verify_all_but(&self, layers: HashSet<Digest>) {
        if let Some(proof) = &self.proof {
            // Each of several archives is verified for itself, and a layer is read from one of them.
            let is_only = self.archives.len() == 1;
            proof
                .delegated
                .begin(if is_only { layers } else { HashSet::new() });
        }
    }

    /// Has the verification verify the layers too that were left to the target and are not settled.
    pub(crate) fn verify_all(&self) {
        if let Some(proof) = &self.proof {
            proof.delegated.end();
        }
    }

    /// Gives the verification the proof of a layer, or has it verify the layer.
    pub(crate) fn settle(&self, layer: &Digest, proof: Option<VerifiedLayer>) {
        if let Some(early) = &self.proof {
            early.delegated.settle(layer, proof);
        }
    }

    /// Whether a blob is verified by now: its stored bytes, and for a layer its uncompressed bytes and their size. A target
    /// that starts before all is verified unpacks no other layer, unless it has verified it itself.
    ///
    /// # Errors
    ///
    /// As [`Candidates::wait_until_verified`].
    pub fn is_proven(&self, blob: &Digest) -> Result<bool> {
        self.proof.as_ref().map_or(Ok(true), |proof| proof.has(blob))
    }

    /// Most bytes that a layer may decompress to. A target that decompresses layers before all is verified refuses more.
    pub fn layer_limit(&self) -> u64 {
        self.proof.as_ref().map_or(u64::MAX, Proof::layer_limit)
    }

    /// Fails once an archive has turned out to be damaged, so that the work for it ends early.
    ///
    /// # Errors
    ///
    /// As [`Candidates::wait_until_verified`].
    pub fn check(&self) -> Result<()> {
        self.proof.as_ref().map_or(Ok(()), Proof::check)
    }

    /// The archives' names, for messages.
    pub fn place(&self) -> String {
        let mut labels: Vec<&str> = self
            .images
            .iter()
            .map(|candidate| candidate.blobs.label())
            .collect();
        labels.dedup();
        if labels.is_empty() {
            "the archive".into()
        } else {
            labels.join(", ")
        }
    }
}
