//! `manifest.json` against `index.json`. A bare `docker load` of a classic store follows `manifest.json`
//! alone, while the archive's digest pins `index.json`: what the one names must be what the other does.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::closure::{Closure, ManifestNode, Walked};
use crate::archive::content::Content;
use crate::archive::format::{DockerImage, FORMAT, MANIFEST, digest_of_path};
use crate::error::{Finding, Problem};
use crate::oci::{Digest, Document, MediaType, Reference, json, schema};

/// Checks `manifest.json`, if there is one, and gives the blobs that it names.
pub(super) fn check(closure: &mut Closure<'_>, images: &[Walked]) -> BTreeSet<Digest> {
    let place = closure.place(MANIFEST);
    let is_ours = is_ours(closure.content);
    let Some(bytes) = closure.content.manifest_json() else {
        if is_ours {
            let problem = Problem::Missing;
            closure.findings.push(Finding { place, problem });
        }
        return BTreeSet::new();
    };
    let mut check = Check {
        images,
        problems: Vec::new(),
        named: BTreeSet::new(),
        tags: BTreeSet::new(),
    };
    match json::decode::<Vec<DockerImage>>(bytes, &schema::MANIFEST_JSON) {
        Ok(list) => {
            for image in &list {
                check.image(image);
            }
            if is_ours {
                check.completeness();
            }
        }
        Err(error) => check.problems.push(Problem::Json {
            reason: error.to_string(),
        }),
    }
    let findings = check.problems.into_iter().map(|problem| Finding {
        place: place.clone(),
        problem,
    });
    closure.findings.extend(findings);
    for digest in &check.named {
        closure.require(digest);
    }
    check.named
}

struct Check<'a> {
    images: &'a [Walked],
    problems: Vec<Problem>,
    named: BTreeSet<Digest>,
    tags: BTreeSet<String>,
}

/// Whether sealift wrote the archive: then `manifest.json` is there and gives every name that it can.
fn is_ours(content: &dyn Content) -> bool {
    let index = Document::parse(&MediaType::new(MediaType::OCI_INDEX), content.index().to_vec());
    matches!(index, Ok(Document::Index(index)) if index.annotations.contains_key(FORMAT))
}

/// A name as it stands in `RepoTags`: without a digest, if it has a tag.
fn tag_of(reference: &Reference) -> String {
    let tagged = reference.without_digest();
    tagged.as_ref().unwrap_or(reference).full()
}

fn blob_at(path: &str) -> Option<Digest> {
    digest_of_path(path.strip_prefix("./").unwrap_or(path))
        .ok()
        .flatten()
}

impl Check<'_> {
    fn wrong(&mut self, reason: String) {
        self.problems.push(Problem::ManifestJson { reason });
    }

    fn image(&mut self, image: &DockerImage) {
        let Some(config) = blob_at(&image.config) else {
            return self.wrong(format!("names the config {:?}, which is no blob", image.config));
        };
        let mut layers = Vec::new();
        for path in &image.layers {
            match blob_at(path) {
                Some(layer) => layers.push(layer),
                None => return self.wrong(format!("names the layer {path:?}, which is no blob")),
            }
        }
        self.named.insert(config);
        self.named.extend(&layers);
        let same = |manifest: &Rc<ManifestNode>| is_image(manifest, &config, &layers);
        let holders: Vec<&Walked> = self
            .images
            .iter()
            .filter(|image| image.manifests.iter().any(same))
            .collect();
        if holders.is_empty() {
            self.wrong(format!(
                "names an image with config {config} and layers that no image of index.json has"
            ));
            self.tags.extend(image.repo_tags.iter().flatten().cloned());
            return;
        }
        for tag in image.repo_tags.iter().flatten() {
            if let Err(problem) = self.tag(tag, &holders) {
                self.problems.push(problem);
            }
        }
    }

    fn tag(&mut self, tag: &str, holders: &[&Walked]) -> Result<(), Problem> {
        let differs = |reason: String| Err(Problem::ManifestJson { reason });
        let name: Reference = tag.parse().map_err(|error| Problem::Name {
            reason: format!("{error}"),
        })?;
        if name.digest().is_some() || !self.tags.insert(name.full()) {
            return differs(format!("{tag:?} is no tag, or stands for two images"));
        }
        let is_named = |image: &&Walked| {
            let named = image.reference.as_ref().map(tag_of);
            named.is_some_and(|named| named == name.full())
        };
        if holders.iter().any(&is_named) {
            return Ok(());
        }
        if self.images.iter().any(|image| is_named(&image)) {
            return differs(format!("gives {tag:?} to another image than index.json does"));
        }
        // Other tools may say in index.json only the tag, or nothing.
        let open = |image: &&Walked| {
            let tag = image.bare_tag.as_deref();
            image.reference.is_none() && tag.is_none_or(|tag| name.tag() == Some(tag))
        };
        if holders.iter().any(open) {
            return Ok(());
        }
        differs(format!("gives the name {tag:?}, which index.json does not"))
    }

    fn completeness(&mut self) {
        for image in self.images {
            let is_runnable = image.manifests.iter().any(|manifest| manifest.parsed.is_some());
            let tagged = image
                .reference
                .as_ref()
                .filter(|reference| reference.tag().is_some());
            // A tag of an image that was found wrong is in the list; once is enough to say so.
            if let Some(tag) = tagged
                .map(tag_of)
                .filter(|tag| is_runnable && !self.tags.contains(tag))
            {
                self.wrong(format!("does not give the name {tag:?}, which index.json does"));
            }
        }
    }
}

/// Whether these are a manifest's config and layers, the layers as they are stored or uncompressed.
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
