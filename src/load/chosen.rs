//! Images for a target that takes them with all their platforms, or with some of them: layouts and registries.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{
    Candidate, Candidates, Change, DigestStatus, Form, LoadOptions, Loaded, LoadedReferrers, Plan,
    PlannedImage, Platforms, UploadBlob,
};
use crate::error::{Error, Result};
use crate::image::named::{self, NamedImage};
use crate::image::provenance::Provenance;
use crate::image::referrers::{self, ReferrerGraph};
use crate::image::{Graph, Image};
use crate::oci::{Descriptor, Digest, Platform, PlatformSelection, Reference};

/// An image that a target gets.
pub struct Chosen {
    /// The position of its candidate.
    pub candidate: usize,
    /// The image, with the name that it gets.
    pub named: NamedImage,
}

/// Chooses images by the options. Those that the archives do not have are noted in the plan as skipped.
///
/// # Errors
///
/// As [`LoadOptions::select`]; if an image has none of the platforms, and is not to be skipped.
pub fn choose(candidates: &Candidates<'_>, options: &LoadOptions, plan: &mut Plan) -> Result<Vec<Chosen>> {
    let selected = options.select(candidates)?;
    plan.skipped = selected.skipped;
    let mut chosen = Vec::new();
    let mut unmatched = Vec::new();
    let mut graphs = Graphs::new(candidates);
    let mut known: HashSet<(Option<Reference>, Option<String>, Digest)> = HashSet::new();
    for (at, reference) in selected.images {
        let Some(candidate) = candidates.images.get(at) else {
            continue;
        };
        if let Some(name) = &reference {
            candidate.check_name(name)?;
        }
        let Some(manifests) = manifests(candidate, candidates, &options.platforms) else {
            unmatched.push(candidate);
            continue;
        };
        let tag = candidate.image.bare_tag.clone();
        if known.insert((reference.clone(), tag, candidate.image.graph.root.digest)) {
            chosen.push(graphs.chosen(at, reference, &manifests)?);
        }
    }
    let platforms: Vec<String> = options.platforms.iter().map(ToString::to_string).collect();
    plan.skip_unmatched(&unmatched, candidates, options, &platforms.join(","))?;
    Ok(chosen)
}

/// The images that were planned.
///
/// # Errors
///
/// If the plan was made of other candidates.
pub fn of_plan(plan: &Plan, candidates: &Candidates<'_>) -> Result<Vec<Chosen>> {
    let mut graphs = Graphs::new(candidates);
    let images = plan.images.iter();
    let images = images.map(|planned| {
        let name = Some(planned.name.clone()).filter(|name| !name.is_nameless());
        graphs.chosen(planned.candidate, name, &planned.manifests)
    });
    images.collect()
}

/// The candidates of one manifest or index: archives may have different platforms of it.
fn of_root<'c, 'a>(
    candidate: &Candidate<'_>,
    candidates: &'c Candidates<'a>,
) -> impl Iterator<Item = &'c Candidate<'a>> {
    let root = candidate.image.graph.root.digest;
    let images = candidates.images.iter();
    images.filter(move |other| other.image.graph.root.digest == root)
}

/// The manifests of an image for these platforms, or all of them without platforms. An index must have every platform, and
/// an image without an index must be for one of them; `None` otherwise. An artifact has no platform, and no manifests.
fn manifests(
    candidate: &Candidate<'_>,
    candidates: &Candidates<'_>,
    platforms: &[Platform],
) -> Option<Vec<Digest>> {
    let images = || of_root(candidate, candidates).flat_map(|candidate| candidate.image.graph.runnable());
    if images().next().is_none() {
        return Some(Vec::new());
    }
    let is_for = |image: &Image, platform: &Platform| {
        let offered = image.offered();
        offered.is_some_and(|offered| platform.matches(offered))
    };
    let is_there = |platform: &Platform| images().any(|image| is_for(image, platform));
    let is_found = match candidate.image.graph.indexes.is_empty() {
        true => platforms.is_empty() || platforms.iter().any(is_there),
        false => platforms.iter().all(is_there),
    };
    if !is_found {
        return None;
    }
    let is_wanted =
        |image: &&Image| platforms.is_empty() || platforms.iter().any(|platform| is_for(image, platform));
    let mut wanted = Vec::new();
    for image in images().filter(is_wanted) {
        if !wanted.contains(&image.descriptor.digest) {
            wanted.push(image.descriptor.digest);
        }
    }
    Some(wanted)
}

/// The graphs of chosen images: names of one image share one.
struct Graphs<'c, 'a> {
    candidates: &'c Candidates<'a>,
    known: HashMap<(Digest, Vec<Digest>), Arc<Graph>>,
}

impl<'c, 'a> Graphs<'c, 'a> {
    fn new(candidates: &'c Candidates<'a>) -> Graphs<'c, 'a> {
        Graphs {
            candidates,
            known: HashMap::new(),
        }
    }

    /// A candidate's image with these manifests, under a name.
    fn chosen(
        &mut self,
        candidate: usize,
        reference: Option<Reference>,
        manifests: &[Digest],
    ) -> Result<Chosen> {
        let found = self.candidates.images.get(candidate);
        let found = found.ok_or_else(|| Error::Usage {
            message: "the plan was made of other images".into(),
            hint: None,
        })?;
        let key = (found.image.graph.root.digest, manifests.to_vec());
        let graph = match self.known.get(&key) {
            Some(graph) => Arc::clone(graph),
            None => {
                let graph = graph(found, self.candidates, manifests)?;
                self.known.insert(key, Arc::clone(&graph));
                graph
            }
        };
        let named = NamedImage {
            bare_tag: found.image.bare_tag.clone().filter(|_| reference.is_none()),
            reference,
            provenance: provenance(found, self.candidates, &graph),
            referrers: referrers(found, self.candidates, &graph),
            graph,
        };
        Ok(Chosen { candidate, named })
    }
}

/// All that the archives have of a candidate's image with these manifests.
fn graph(candidate: &Candidate<'_>, candidates: &Candidates<'_>, manifests: &[Digest]) -> Result<Arc<Graph>> {
    let is_whole = candidate.image.graph.runnable().count() == manifests.len();
    if manifests.is_empty() || is_whole && of_root(candidate, candidates).count() == 1 {
        return Ok(Arc::clone(&candidate.image.graph));
    }
    let all_images = of_root(candidate, candidates).flat_map(|candidate| candidate.image.graph.runnable());
    let is_all = all_images
        .map(|image| image.descriptor.digest)
        .all(|digest| manifests.contains(&digest));
    let subjects: HashSet<String> = manifests.iter().map(ToString::to_string).collect();
    let mut documents: HashMap<Digest, Arc<[u8]>> = HashMap::new();
    for graph in of_root(candidate, candidates).map(|candidate| &candidate.image.graph) {
        for (descriptor, index) in &graph.indexes {
            documents.insert(descriptor.digest, Arc::clone(&index.raw));
        }
        for image in &graph.images {
            let is_wanted = match image.descriptor.attests() {
                Some(subject) => subjects.contains(subject),
                None => manifests.contains(&image.descriptor.digest) || is_all && !image.is_runnable(),
            };
            if !is_wanted {
                continue;
            }
            documents.insert(image.descriptor.digest, Arc::clone(&image.manifest.raw));
            if let Some(config) = &image.config_raw {
                documents.insert(image.manifest.config.digest, Arc::clone(config));
            }
        }
    }
    let root = &candidate.image.graph.root;
    let graph = Graph::walk(root, &PlatformSelection::Present, &mut |descriptor| {
        Ok(documents.get(&descriptor.digest).map(|bytes| bytes.to_vec()))
    })?;
    Ok(Arc::new(graph))
}

/// What the archives say of an image, as far as it concerns this part of it.
fn provenance(candidate: &Candidate<'_>, candidates: &Candidates<'_>, graph: &Graph) -> Provenance {
    let layers = graph.images.iter().flat_map(|image| &image.manifest.layers);
    let layers: HashSet<Digest> = layers.map(|layer| layer.digest).collect();
    let mut provenance = candidate.image.provenance.clone();
    for other in of_root(candidate, candidates) {
        provenance
            .uncompressed
            .extend(other.image.provenance.uncompressed.clone());
        if let (Some(origins), Some(others)) = (&mut provenance.origins, &other.image.provenance.origins) {
            for (layer, origin) in &others.layers {
                origins.layers.entry(*layer).or_insert_with(|| origin.clone());
            }
        }
    }
    provenance.uncompressed.retain(|layer, _| layers.contains(layer));
    if let Some(origins) = &mut provenance.origins {
        origins.layers.retain(|layer, _| layers.contains(layer));
    }
    provenance
}

/// What the archives have that refers to this part of an image.
fn referrers(candidate: &Candidate<'_>, candidates: &Candidates<'_>, graph: &Graph) -> Arc<[ReferrerGraph]> {
    let all = of_root(candidate, candidates);
    referrers::within(all.flat_map(|candidate| candidate.image.referrers.iter()), graph)
}

/// The images as a layout lists them.
pub fn listed(chosen: &[Chosen]) -> Vec<NamedImage> {
    let mut images: Vec<NamedImage> = chosen.iter().map(|image| image.named.clone()).collect();
    named::sort(&mut images);
    images
}

/// The images in a plan. `state` tells what becomes of a name, and whether all blobs are there.
pub fn planned(
    chosen: &[Chosen],
    candidates: &Candidates<'_>,
    state: impl Fn(&NamedImage) -> (Change, bool),
) -> Vec<PlannedImage> {
    let images = chosen.iter().filter_map(|image| {
        let candidate = candidates.images.get(image.candidate)?;
        let (change, is_present) = state(&image.named);
        Some(planned_image(image, candidate, change, is_present))
    });
    images.collect()
}

fn planned_image(
    chosen: &Chosen,
    candidate: &Candidate<'_>,
    change: Change,
    is_present: bool,
) -> PlannedImage {
    let graph = &chosen.named.graph;
    let name = chosen.named.reference.clone();
    let is_unchanged = change == Change::Unchanged;
    let runnable: Vec<&Image> = graph.runnable().collect();
    let mut platforms: Vec<Platform> = Vec::new();
    for platform in runnable.iter().filter_map(|image| image.offered()) {
        if !platforms.contains(platform) {
            platforms.push(platform.clone());
        }
    }
    PlannedImage {
        candidate: chosen.candidate,
        tag: name.as_ref().and_then(Reference::without_digest),
        name: name.unwrap_or_else(|| Reference::nameless(candidate.handle())),
        digest: candidate.digest(),
        root: graph.root.digest,
        manifests: runnable.iter().map(|image| image.descriptor.digest).collect(),
        image_id: match runnable.as_slice() {
            [image] => Some(image.id()),
            _ => None,
        },
        platforms: Platforms(platforms),
        is_foreign: false,
        evidence: chosen.named.provenance.evidence(),
        present: is_present,
        tagged: is_unchanged,
        change,
        policy: None,
        digest_status: match candidate.digest() {
            None => DigestStatus::NoDigest {
                reason: candidate.no_digest(),
            },
            Some(_) if is_unchanged && is_present => DigestStatus::Present,
            Some(_) => DigestStatus::Native,
        },
        referrers: LoadedReferrers::all_shown(chosen.named.referrers.iter()),
    }
}

/// What became of planned images, once these blobs are written for them.
pub fn loaded(plan: &Plan, written: &[UploadBlob]) -> Vec<Loaded> {
    let mut images: Vec<Loaded> = plan.images.iter().map(Loaded::planned).collect();
    for image in &mut images {
        image.shown = image.digest.map(|_| true);
    }
    for blob in written {
        if let Some(image) = images.get_mut(blob.image) {
            image.sent = image.sent.saturating_add(blob.size);
        }
    }
    images
}

/// The blobs of these images, each once and with the first image that has it.
pub fn blobs(images: &[Chosen]) -> Vec<UploadBlob> {
    let mut seen = HashSet::new();
    let mut blobs = Vec::new();
    for (at, chosen) in images.iter().enumerate() {
        let named = &chosen.named;
        let mut add = |blob: &Descriptor, form: Form| {
            if seen.insert(blob.digest) {
                blobs.push(UploadBlob {
                    digest: blob.digest,
                    size: blob.size,
                    form,
                    image: at,
                });
            }
        };
        for (index, _) in &named.graph.indexes {
            add(index, Form::Document);
        }
        for referrer in named.referrers.iter() {
            for (index, _) in &referrer.graph.indexes {
                add(index, Form::Document);
            }
            for image in &referrer.graph.images {
                add(&image.descriptor, Form::Document);
                add(&image.manifest.config, Form::Config);
                for layer in &image.manifest.layers {
                    add(layer, Form::Layer);
                }
            }
        }
        for image in &named.graph.images {
            add(&image.descriptor, Form::Document);
            add(&image.manifest.config, Form::Config);
            for layer in &image.manifest.layers {
                match named.provenance.uncompressed.get(&layer.digest) {
                    Some(tar) => add(tar, Form::Uncompressed),
                    None => add(layer, Form::Layer),
                }
            }
        }
    }
    blobs
}
