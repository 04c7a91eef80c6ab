//! The `index.json` of a layout folder that has one already: images are added, what it has stays.
//!
//! Entries that are not replaced are kept as they are, whichever tool wrote them. A name that leads to another image
//! moves: its old entry goes, and the blobs stay. An entry of the same image keeps the annotations of other tools.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::lists::{self, Lists};
use crate::archive::format::{
    self, Entry, FORMAT, MANIFEST_JSON, ManifestJson, Omitted, PLATFORMS, PREFERRED,
};
use crate::error::{Error, Place, Problem, Result};
use crate::image::NamedImage;
use crate::image::provenance::Evidence;
use crate::load::{Change, KnownImage};
use crate::oci::{Digest, MAX_METADATA, Reference};

/// What sealift's own annotations begin with.
const OWN: &str = "dev.sealift.";

/// An `index.json` that was read.
#[derive(Debug, Clone)]
pub struct LayoutIndex {
    /// Its stored bytes.
    pub bytes: Vec<u8>,
    /// Its entries.
    pub entries: Vec<Entry>,
    /// The lists of referrers that these name.
    pub lists: Lists,
}

/// An `index.json` to write.
#[derive(Debug, Clone)]
pub struct NewIndex {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The lists of referrers that it names, as far as they may have to be written.
    pub lists: Lists,
}

impl LayoutIndex {
    /// Parses the `index.json` of a layout called `label`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if it is malformed, of a newer version, or if its names contradict each other.
    pub fn parse(label: &str, bytes: Vec<u8>) -> Result<LayoutIndex> {
        let place = || Place::default().within(label).entry(format::INDEX);
        let entries = format::parse_index(&bytes).map_err(|problem| Error::refused(place(), problem))?;
        match format::check_names(&entries).into_iter().next() {
            Some((_, problem)) => Err(Error::refused(place(), problem)),
            None => Ok(LayoutIndex {
                bytes,
                entries,
                lists: Lists::new(),
            }),
        }
    }

    /// Its text, which is JSON and so UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The texts of the lists of referrers.
    pub fn list_texts(&self) -> BTreeMap<Digest, String> {
        let lists = self.lists.iter();
        lists
            .map(|(digest, bytes)| (*digest, String::from_utf8_lossy(bytes).into_owned()))
            .collect()
    }

    /// Its images: manifests and indexes with their names.
    pub fn images(&self) -> Vec<KnownImage> {
        let mut images: BTreeMap<Digest, KnownImage> = BTreeMap::new();
        for entry in &self.entries {
            let root = entry.descriptor.digest;
            let known = images.entry(root).or_insert_with(|| KnownImage::new(root));
            let Some(name) = &entry.reference else { continue };
            known
                .tags
                .extend(name.without_digest().map(|name| name.familiar()));
            let digest = Reference::digested(name.repository(), root).familiar();
            if !known.digests.contains(&digest) {
                known.digests.push(digest);
            }
        }
        images.into_values().collect()
    }

    /// What becomes of an image's name, or of an image without one, when it is added.
    pub fn change(&self, image: &NamedImage) -> Change {
        let root = &image.graph.root.digest;
        let Some(name) = &image.reference else {
            let has = |entry: &Entry| match &image.bare_tag {
                Some(_) => is_replaced_by(entry, image),
                None => entry.descriptor.digest == *root,
            };
            return match self.entries.iter().any(has) {
                true => Change::Unchanged,
                false => Change::New,
            };
        };
        match self.entries.iter().find(|entry| is_named(entry, name)) {
            None => Change::New,
            Some(entry) if entry.descriptor.digest == *root => Change::Unchanged,
            Some(entry) => Change::Moved {
                from: entry.descriptor.digest.to_string(),
            },
        }
    }

    /// The `index.json` with these images.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if it would be larger than what is read.
    pub fn with(&self, label: &str, images: &[NamedImage]) -> Result<NewIndex> {
        let malformed = |reason: String| {
            let place = Place::default().within(label).entry(format::INDEX);
            Error::refused(place, Problem::Json { reason })
        };
        let mut index: Map<String, Value> =
            serde_json::from_slice(&self.bytes).map_err(|error| malformed(error.to_string()))?;
        let old = match index.remove("manifests") {
            Some(Value::Array(entries)) => entries,
            _ => Vec::new(),
        };
        if old.len() != self.entries.len() {
            return Err(malformed("its entries cannot be told apart".into()));
        }
        let mut entries: Vec<Option<Value>> = old.into_iter().map(Some).collect();
        let mut added: Vec<Value> = Vec::new();
        let mut lists = self.lists.clone();
        for image in images {
            let mut places = (0..self.entries.len()).filter(|at| {
                let entry = self.entries.get(*at);
                entry.is_some_and(|entry| is_replaced_by(entry, image))
            });
            let first = places.next();
            for place in places.collect::<Vec<_>>() {
                if let Some(entry) = entries.get_mut(place) {
                    *entry = None;
                }
            }
            let place = first.and_then(|at| Some((self.entries.get(at)?, entries.get_mut(at)?)));
            match place {
                Some((known, entry)) => {
                    let is_same = known.descriptor.digest == image.graph.root.digest;
                    let mut fresh = replaced(known, entry.take(), image)?;
                    if is_same {
                        lists::merge(label, known, &mut fresh, image, &mut lists)?;
                    }
                    *entry = Some(fresh);
                }
                None => added.push(value(image)?),
            }
        }
        let all = entries.into_iter().flatten().chain(added).collect();
        index.insert("manifests".into(), Value::Array(all));
        // That of an archive that was unpacked said which platform its `manifest.json` has.
        if let Some(Value::Object(annotations)) = index.get_mut("annotations")
            && annotations.contains_key(FORMAT)
        {
            annotations.remove(PREFERRED);
            annotations.insert(MANIFEST_JSON.into(), "none".into());
        }
        // What says the same stays as it is, down to its digest.
        if serde_json::from_slice(&self.bytes).is_ok_and(|before: Map<String, Value>| before == index) {
            return Ok(NewIndex {
                bytes: self.bytes.clone(),
                lists,
            });
        }
        lists.extend(lists_of(images)?);
        check_size(label, format::to_json(&index)?, lists)
    }
}

/// The `index.json` of a new layout with these images.
///
/// # Errors
///
/// As [`LayoutIndex::with`].
pub fn new(label: &str, images: &[NamedImage]) -> Result<NewIndex> {
    check_size(
        label,
        format::index_json(images, ManifestJson::Absent, &Omitted::default())?,
        lists_of(images)?,
    )
}

/// The lists of the referrers of these images.
fn lists_of(images: &[NamedImage]) -> Result<Lists> {
    let mut lists = Lists::new();
    for image in images {
        if let Some(list) = format::referrers_json(&image.referrers)? {
            lists.insert(Digest::sha256(&list), list);
        }
    }
    Ok(lists)
}

/// Refuses to write what is not read.
fn check_size(label: &str, bytes: Vec<u8>, mut lists: Lists) -> Result<NewIndex> {
    // Those of entries that were replaced are named no more.
    let text = String::from_utf8_lossy(&bytes);
    lists.retain(|digest, _| text.contains(&digest.to_string()));
    match u64::try_from(bytes.len()) {
        Ok(size) if size <= MAX_METADATA => Ok(NewIndex { bytes, lists }),
        _ => Err(Error::Usage {
            message: format!(
                "the {} of {label} would have {} bytes, more than the {MAX_METADATA} that are read",
                format::INDEX,
                bytes.len()
            ),
            hint: Some("load the images into several layouts".into()),
        }),
    }
}

/// The name that other tools follow.
fn followed(name: &Reference) -> String {
    name.without_digest().unwrap_or_else(|| name.clone()).full()
}

fn is_named(entry: &Entry, name: &Reference) -> bool {
    let known = entry.reference.as_ref();
    known.is_some_and(|known| followed(known) == followed(name))
}

/// Whether an entry has the name that an image gets; for an image without a full name, whether it is the same under the
/// same tag, or has none either. One tag may stand for several images.
fn is_replaced_by(entry: &Entry, image: &NamedImage) -> bool {
    match &image.reference {
        Some(name) => is_named(entry, name),
        None => {
            let is_same_name = entry.reference.is_none() && entry.bare_tag == image.bare_tag;
            is_same_name && entry.descriptor.digest == image.graph.root.digest
        }
    }
}

fn value(image: &NamedImage) -> Result<Value> {
    let bytes = format::to_json(&format::index_entry(image)?)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let reason = error.to_string();
        Error::refused(Place::default(), Problem::Json { reason })
    })
}

/// The entry of an image in the place of one that is there.
fn replaced(known: &Entry, old: Option<Value>, image: &NamedImage) -> Result<Value> {
    let mut fresh = value(image)?;
    let Some(old) = old.filter(|_| known.descriptor.digest == image.graph.root.digest) else {
        return Ok(fresh);
    };
    if rank(known.provenance().evidence()) > rank(image.provenance.evidence()) {
        return Ok(old);
    }
    let annotations = fresh
        .as_object_mut()
        .map(|fresh| fresh.entry("annotations").or_insert_with(|| Map::new().into()));
    let Some(Value::Object(annotations)) = annotations else {
        return Ok(old);
    };
    // More platforms of one index: what was there is there.
    match (
        &known.platforms,
        annotations.get(PLATFORMS).and_then(Value::as_str),
    ) {
        (None, _) => drop(annotations.remove(PLATFORMS)),
        (Some(known), Some(added)) => {
            let known = known.iter().map(ToString::to_string);
            let added = added
                .split(',')
                .filter(|text| !text.is_empty())
                .map(str::to_string);
            let all: BTreeSet<String> = known.chain(added).collect();
            let all: Vec<String> = all.into_iter().collect();
            annotations.insert(PLATFORMS.into(), all.join(",").into());
        }
        (Some(_), None) => {}
    }
    if let Some(Value::Object(others)) = old.get("annotations") {
        for (key, text) in others.iter().filter(|(key, _)| !key.starts_with(OWN)) {
            annotations.entry(key.clone()).or_insert_with(|| text.clone());
        }
    }
    Ok(fresh)
}

/// Which of two proofs is the better one.
fn rank(evidence: Evidence) -> u8 {
    match evidence {
        Evidence::None => 0,
        Evidence::Recorded => 1,
        Evidence::Verified => 2,
    }
}
