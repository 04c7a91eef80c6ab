//! Compares `manifest.json` with `index.json`. A bare `docker load` on a classic store reads only
//! `manifest.json`, while the archive's digest pins `index.json`. Both must name the same images.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use crate::archive::Layout;
use crate::archive::format::{
    DockerImage, Entry, FORMAT, MANIFEST, MANIFEST_JSON, PREFERRED, digest_of_path,
};
use crate::error::{Finding, Place, Problem};
use crate::image::choice;
use crate::oci::{Digest, Document, Index, MediaType, Platform, Reference, json, schema};
use crate::verify::{Followed, ManifestNode, Nodes, Parts, Verification};

/// Checks `manifest.json`, if it is present. `images` are those of the layout's entries.
pub(super) fn check(verification: &mut Verification<'_>, layout: &dyn Layout, images: &[Followed]) {
    let place = Place::default().within(layout.label()).entry(MANIFEST);
    let ours = ours(layout);
    let is_ours = ours.is_some();
    let Some(bytes) = layout.manifest_json() else {
        let is_absent = |index: &Index| index.annotations.contains_key(MANIFEST_JSON);
        if ours.is_some_and(|index| !is_absent(&index)) {
            let problem = Problem::Missing;
            verification.add(Finding { place, problem });
        }
        return;
    };
    let mut check = Check::new(layout.entries(), images, is_ours);
    match json::decode::<Vec<DockerImage>>(bytes, &schema::MANIFEST_JSON) {
        Ok(list) => {
            for image in &list {
                check.image(image);
            }
            if let Some(index) = &ours {
                check.completeness();
                // Other errors explain more.
                if !verification.has_errors() && check.problems.is_empty() {
                    check.sameness(&list, index, &verification.nodes());
                }
            }
        }
        Err(error) => check.problems.push(Problem::Json {
            reason: error.to_string(),
        }),
    }
    for problem in check.problems {
        let place = place.clone();
        verification.add(Finding { place, problem });
    }
    for digest in &check.named {
        verification.refer(digest);
    }
}

struct Check<'a> {
    images: &'a [Followed],
    is_ours: bool,
    /// Manifests with this config, each once, and the images that they belong to.
    by_config: HashMap<Digest, Vec<Part<'a>>>,
    /// The candidates for a config and layers: both lists may be long.
    candidates: HashMap<(Digest, Vec<Digest>), Rc<Candidates>>,
    /// The images by their names in `RepoTags`.
    by_tag: HashMap<String, Vec<&'a Followed>>,
    /// The possible names of images without a name in `index.json`.
    nameless: HashMap<*const Parts, Nameless>,
    problems: Vec<Problem>,
    named: BTreeSet<Digest>,
    tags: BTreeSet<String>,
}

/// A manifest, and the images that it belongs to.
type Part<'a> = (&'a Rc<ManifestNode>, Vec<&'a Rc<Parts>>);

/// The images of `index.json` that an image of `manifest.json` may be.
#[derive(Default)]
struct Candidates {
    parts: HashSet<*const Parts>,
    /// Those of them without a name.
    nameless: Nameless,
}

/// The names that `manifest.json` may give to images without one in `index.json`.
#[derive(Default)]
struct Nameless {
    /// Any name.
    is_open: bool,
    /// Any name with one of these tags.
    tags: HashSet<String>,
}

/// `index.json`, if sealift wrote the archive: then `manifest.json` must be present and be the one that sealift
/// writes for it. A layout folder says that it has none.
fn ours(layout: &dyn Layout) -> Option<Index> {
    match Document::parse(&MediaType::new(MediaType::OCI_INDEX), layout.index().to_vec()) {
        Ok(Document::Index(index)) if index.annotations.contains_key(FORMAT) => Some(index),
        _ => None,
    }
}

/// The image that `manifest.json` must name for one of `index.json`, by its config.
fn expected(image: &Followed, preferred: Option<&Platform>, nodes: &Nodes<'_>) -> Option<Digest> {
    let chosen = preferred.and_then(|wanted| {
        choice::choose(nodes, &image.root.descriptor.digest, std::slice::from_ref(wanted))
    });
    let chosen = chosen.and_then(|digest| nodes.manifest(&digest));
    let mut runnable = image.parts.manifests.iter().filter(|one| one.is_runnable());
    let manifest = chosen.or_else(|| runnable.next())?;
    Some(manifest.config.digest)
}

/// A name in the form of `RepoTags`: without a digest, if it has a tag.
fn tag_of(reference: &Reference) -> String {
    let tagged = reference.without_digest();
    tagged.as_ref().unwrap_or(reference).full()
}

fn blob_at(path: &str) -> Option<Digest> {
    digest_of_path(path.strip_prefix("./").unwrap_or(path))
        .ok()
        .flatten()
}

impl<'a> Check<'a> {
    fn new(entries: &[Entry], images: &'a [Followed], is_ours: bool) -> Check<'a> {
        let mut check = Check {
            images,
            is_ours,
            by_config: HashMap::new(),
            candidates: HashMap::new(),
            by_tag: HashMap::new(),
            nameless: HashMap::new(),
            problems: Vec::new(),
            named: BTreeSet::new(),
            tags: BTreeSet::new(),
        };
        let mut seen = HashSet::new();
        let mut parts: HashMap<*const ManifestNode, Part<'_>> = HashMap::new();
        for (entry, image) in entries.iter().zip(images) {
            if seen.insert(Rc::as_ptr(&image.parts)) {
                for manifest in &image.parts.manifests {
                    let part = parts
                        .entry(Rc::as_ptr(manifest))
                        .or_insert((manifest, Vec::new()));
                    part.1.push(&image.parts);
                }
            }
            match &entry.reference {
                Some(reference) => check.by_tag.entry(tag_of(reference)).or_default().push(image),
                None => {
                    let nameless = check.nameless.entry(Rc::as_ptr(&image.parts)).or_default();
                    match &entry.bare_tag {
                        Some(tag) => drop(nameless.tags.insert(tag.clone())),
                        None => nameless.is_open = true,
                    }
                }
            }
        }
        for part in parts.into_values() {
            let config = part.0.config.digest;
            check.by_config.entry(config).or_default().push(part);
        }
        check
    }

    /// The images that have this config and these layers.
    fn candidates(&mut self, config: Digest, layers: Vec<Digest>) -> Rc<Candidates> {
        let key = (config, layers);
        if let Some(known) = self.candidates.get(&key) {
            return Rc::clone(known);
        }
        let mut found = Candidates::default();
        for (manifest, parts) in self.by_config.get(&config).into_iter().flatten() {
            if manifest.may_be_runnable() && is_image(manifest, &config, &key.1) {
                found.parts.extend(parts.iter().map(|parts| Rc::as_ptr(parts)));
            }
        }
        // An archive of sealift's has every name in index.json.
        let nameless = found.parts.iter().filter_map(|one| self.nameless.get(one));
        for nameless in nameless.filter(|_| !self.is_ours) {
            found.nameless.is_open |= nameless.is_open;
            found.nameless.tags.extend(nameless.tags.iter().cloned());
        }
        let found = Rc::new(found);
        self.candidates.insert(key, Rc::clone(&found));
        found
    }

    fn wrong(&mut self, reason: String) {
        self.problems.push(Problem::ManifestJson { reason });
    }

    fn image(&mut self, image: &DockerImage) {
        let Some(config) = blob_at(&image.config) else {
            return self.wrong(format!(
                "names the config {:?}, which is not a blob",
                image.config
            ));
        };
        let mut layers = Vec::new();
        for path in &image.layers {
            match blob_at(path) {
                Some(layer) => layers.push(layer),
                None => return self.wrong(format!("names the layer {path:?}, which is not a blob")),
            }
        }
        self.named.insert(config);
        self.named.extend(&layers);
        let candidates = self.candidates(config, layers);
        if candidates.parts.is_empty() {
            self.wrong(format!(
                "names an image with config {config} and layers that no image of index.json has"
            ));
            self.tags.extend(image.repo_tags.iter().flatten().cloned());
            return;
        }
        for tag in image.repo_tags.iter().flatten() {
            if let Err(problem) = self.tag(tag, &candidates) {
                self.problems.push(problem);
            }
        }
    }

    fn tag(&mut self, tag: &str, candidates: &Candidates) -> Result<(), Problem> {
        let differs = |reason: String| Err(Problem::ManifestJson { reason });
        let name: Reference = tag.parse().map_err(|error| Problem::Name {
            reason: format!("{error}"),
        })?;
        if !self.tags.insert(name.full()) {
            return differs(format!("{tag:?} names two images"));
        }
        let is_in = |image: &Followed| candidates.parts.contains(&Rc::as_ptr(&image.parts));
        // containerd also writes names with a digest here.
        let is_pinned = |image: &Followed| name.digest().is_none() || name.digest() == image.root.digest;
        if let Some(named) = self.by_tag.get(&tag_of(&name)) {
            return match named.iter().any(|image| is_in(image) && is_pinned(image)) {
                true => Ok(()),
                false => differs(format!("gives {tag:?} to another image than index.json does")),
            };
        }
        // Other tools may write only the tag into index.json, or nothing.
        let Nameless { is_open, tags } = &candidates.nameless;
        let is_given = *is_open || name.tag().is_some_and(|tag| tags.contains(tag));
        if is_given && name.digest().is_none() {
            return Ok(());
        }
        differs(format!("gives the name {tag:?}, which index.json does not"))
    }

    fn completeness(&mut self) {
        for image in self.images {
            let mut manifests = image.parts.manifests.iter();
            let is_runnable = manifests.any(|manifest| manifest.is_runnable());
            let tagged = image
                .root
                .reference
                .as_ref()
                .filter(|reference| reference.tag().is_some());
            // A tag of an image with errors is in the list; one report is enough.
            if let Some(tag) = tagged
                .map(tag_of)
                .filter(|tag| is_runnable && !self.tags.contains(tag))
            {
                self.wrong(format!("does not give the name {tag:?}, which index.json does"));
            }
        }
    }

    /// Compares the images with those that sealift writes for this `index.json`, whose digest thereby pins both
    /// files.
    fn sameness(&mut self, list: &[DockerImage], index: &Index, nodes: &Nodes<'_>) {
        let preferred = index
            .annotations
            .get(PREFERRED)
            .map(|text| text.parse::<Platform>());
        let preferred = match preferred.transpose() {
            Ok(preferred) => preferred,
            Err(error) => {
                let reason = format!("{PREFERRED}: {error}");
                return self.problems.push(Problem::Document { reason });
            }
        };
        let mut wanted = BTreeSet::new();
        let mut named = HashMap::new();
        for image in self.images {
            if let Some(config) = expected(image, preferred.as_ref(), nodes) {
                wanted.insert(config);
                named.extend(image.root.reference.as_ref().map(|name| (tag_of(name), config)));
            }
        }
        let mut found = BTreeSet::new();
        for image in list {
            let Some(config) = blob_at(&image.config) else {
                continue;
            };
            found.insert(config);
            for tag in image.repo_tags.iter().flatten() {
                let name = tag.parse::<Reference>().map(|name| tag_of(&name));
                let other = name.ok().and_then(|name| named.get(&name));
                if let Some(other) = other.filter(|other| **other != config) {
                    self.wrong(format!(
                        "gives {tag:?} the image with config {config}, and index.json the one with {other}"
                    ));
                }
            }
        }
        if !self.problems.is_empty() {
            return;
        }
        for config in found.symmetric_difference(&wanted) {
            self.wrong(match found.contains(config) {
                true => format!("names the image with config {config}, which index.json does not choose"),
                false => format!("does not name the image with config {config}, which index.json does"),
            });
        }
    }
}

/// Whether these are a manifest's config and layers, stored or uncompressed.
fn is_image(manifest: &ManifestNode, config: &Digest, layers: &[Digest]) -> bool {
    let diff_ids = manifest.parsed.as_ref().map(|parsed| parsed.diff_ids.as_slice());
    manifest.config.digest == *config
        && manifest.layers.len() == layers.len()
        && layers
            .iter()
            .zip(&manifest.layers)
            .enumerate()
            .all(|(at, (named, layer))| {
                let diff_id = diff_ids.and_then(|diff_ids| diff_ids.get(at));
                *named == layer.digest || Some(named) == diff_id
            })
}
