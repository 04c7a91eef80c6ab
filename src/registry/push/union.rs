//! What a tag has to name so that a repository shows its own referrers and those that are pushed.
//!
//! - the index under `sha256-<hex>`, by which a registry without an API for it lists the referrers of a manifest: OCI
//!   distribution specification 1.1, "Referrers Tag Schema"
//! - the manifest under `sha256-<hex>.sig`, whose layers are cosign's signatures: a further signature is a further layer

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::listed::Tagged;
use crate::image::graph::MAX_DESCRIPTORS;
use crate::image::referrers::ReferrerGraph;
use crate::oci::{Descriptor, Digest, Document, Kind, MAX_METADATA, Manifest, MediaType, Referrer};

/// Most manifests for one of cosign's tags that are put together: an archive has one of each place that it was saved from.
const MAX_UNITED: usize = 64;
/// When cosign says that its configs were created.
const CREATED: &str = "0001-01-01T00:00:00Z";

/// A document that was made, with its descriptor.
pub(super) type Made = (Descriptor, Arc<[u8]>);

/// What is to be under one of cosign's tags.
pub(super) enum TagContent<'r> {
    /// What is there.
    Kept,
    /// One of those that are pushed, as it is.
    Pushed(&'r ReferrerGraph),
    /// A manifest with the layers of all, after its config, if that is new.
    Union(Vec<Made>),
}

/// The list of the referrers that a repository has and of these, which have the same subject; `None` if what is there
/// lists them.
///
/// Why there can be none is an error.
pub(super) fn list(found: Option<&Tagged>, referrers: &[&ReferrerGraph]) -> Result<Option<Made>, String> {
    let (media_type, mut document) = match found {
        None => (
            MediaType::new(MediaType::OCI_INDEX),
            json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": []}),
        ),
        Some(found) => {
            let parsed = Document::parse(&found.media_type, found.bytes.clone());
            if !matches!(parsed, Ok(Document::Index(_))) {
                return Err("the tag for the list of referrers names something that is not a list".into());
            }
            (found.media_type.clone(), value(&found.bytes)?)
        }
    };
    let manifests = document
        .as_object_mut()
        .map(|document| document.entry("manifests").or_insert_with(|| json!([])));
    let Some(Value::Array(manifests)) = manifests else {
        return Err("the list of referrers is malformed".into());
    };
    let mut is_changed = false;
    for referrer in referrers {
        let fresh = listed(referrer)?;
        let digest = referrer.digest().to_string();
        let known = manifests
            .iter_mut()
            .find(|entry| entry["digest"] == digest.as_str());
        match known {
            None => {
                manifests.push(fresh.into());
                is_changed = true;
            }
            Some(known) => is_changed |= correct(known, fresh),
        }
    }
    if !is_changed {
        return Ok(None);
    }
    manifests.sort_by_cached_key(|entry| entry["digest"].to_string());
    made(media_type, &document).map(Some)
}

/// The descriptor of a referrer in a list, with the annotations of its manifest.
fn listed(referrer: &ReferrerGraph) -> Result<Map<String, Value>, String> {
    let root = referrer
        .root()
        .map(|(descriptor, raw)| Referrer::of(descriptor, raw));
    let descriptor = root.flatten().map(|root| serde_json::to_value(root.descriptor));
    match descriptor {
        Some(Ok(Value::Object(descriptor))) => Ok(descriptor),
        _ => Err("it does not say what it refers to".into()),
    }
}

/// Corrects an entry: some tools write a wrong artifact type. Its further fields and annotations stay.
fn correct(known: &mut Value, fresh: Map<String, Value>) -> bool {
    let Some(known) = known.as_object_mut() else {
        return false;
    };
    let mut is_changed = false;
    for (key, value) in fresh {
        match (known.get_mut(&key), value) {
            (Some(Value::Object(annotations)), Value::Object(fresh)) => {
                for (key, value) in fresh {
                    is_changed |= annotations.insert(key, value.clone()) != Some(value);
                }
            }
            (_, value) => is_changed |= known.insert(key, value.clone()) != Some(value),
        }
    }
    is_changed
}

/// Which of these referrers a list has as they are.
pub(super) fn listed_in(found: &Tagged, referrers: &[&ReferrerGraph]) -> BTreeSet<Digest> {
    let parsed = Document::parse(&found.media_type, found.bytes.clone());
    let (Ok(Document::Index(_)), Ok(document)) = (parsed, value(&found.bytes)) else {
        return BTreeSet::new();
    };
    let entries = document["manifests"].as_array().into_iter().flatten();
    let entries: HashMap<&str, &Value> = entries
        .filter_map(|entry| Some((entry["digest"].as_str()?, entry)))
        .collect();
    let is_listed = |referrer: &&&ReferrerGraph| {
        let entry = entries.get(referrer.digest().to_string().as_str());
        let fresh = listed(referrer).ok();
        let differs = entry
            .zip(fresh)
            .map(|(entry, fresh)| correct(&mut (*entry).clone(), fresh));
        differs == Some(false)
    };
    let shown = referrers.iter().filter(is_listed);
    shown.map(|referrer| referrer.digest()).collect()
}

/// Whether a manifest under one of cosign's tags has all layers of a referrer.
pub(super) fn has_all(found: &Tagged, referrer: &ReferrerGraph) -> bool {
    if Digest::sha256(&found.bytes) == referrer.digest() {
        return true;
    }
    let parsed = Document::parse(&found.media_type, found.bytes.clone());
    match (parsed, referrer.manifest()) {
        (Ok(Document::Manifest(found)), Some(manifest)) => has_layers(&found, manifest),
        _ => false,
    }
}

/// Whether a manifest has all layers of another one. Two signatures of one payload are the same bytes: they differ in
/// their annotations.
fn has_layers(one: &Manifest, other: &Manifest) -> bool {
    let layers: HashSet<Layer<'_>> = one.layers.iter().map(key).collect();
    other.layers.iter().all(|layer| layers.contains(&key(layer)))
}

/// What makes two layers the same.
type Layer<'l> = (Digest, &'l BTreeMap<String, String>);

fn key(layer: &Descriptor) -> Layer<'_> {
    (layer.digest, &layer.annotations)
}

/// What is to be under one of cosign's tags, so that it has the layers of what is there and of these. Why that is not
/// possible is an error.
pub(super) fn tag<'r>(
    found: Option<&Tagged>,
    referrers: &[&'r ReferrerGraph],
) -> Result<TagContent<'r>, String> {
    if let Some(found) = found
        && referrers.iter().all(|referrer| has_all(found, referrer))
    {
        return Ok(TagContent::Kept);
    }
    let known = match found {
        None => None,
        Some(found) => match Document::parse(&found.media_type, found.bytes.clone()) {
            Ok(Document::Manifest(manifest)) => Some(manifest),
            _ => return Err("its tag names something else".into()),
        },
    };
    if let ([only], None) = (referrers, &known) {
        return Ok(TagContent::Pushed(only));
    }
    if referrers.len() > MAX_UNITED {
        return Err(format!("the archives have more than {MAX_UNITED} for one tag"));
    }
    let manifests: Option<Vec<&Manifest>> = referrers.iter().map(|referrer| referrer.manifest()).collect();
    let manifests = manifests.ok_or("it is an index, and its tag names another one")?;
    let all = || known.iter().chain(manifests.iter().copied());
    let whole = referrers
        .iter()
        .zip(&manifests)
        .find(|(_, manifest)| all().all(|other| has_layers(manifest, other)));
    if let Some((referrer, _)) = whole {
        return Ok(TagContent::Pushed(referrer));
    }
    let media_type = found.map(|found| found.media_type.clone());
    let first = referrers.first().map(|first| first.graph.root.media_type.clone());
    let media_type = media_type
        .or(first)
        .unwrap_or_else(|| MediaType::new(MediaType::OCI_MANIFEST));
    union(media_type, all())
}

/// A manifest like the first of these, with the layers of all.
fn union<'r, 'm>(
    media_type: MediaType,
    mut manifests: impl Iterator<Item = &'m Manifest>,
) -> Result<TagContent<'r>, String> {
    let first = manifests.next().ok_or("there is nothing to push")?;
    let mut document = value(&first.raw)?;
    let mut layers: Vec<Digest> = first.layers.iter().map(|layer| layer.digest).collect();
    let mut seen: HashSet<Layer<'_>> = first.layers.iter().map(key).collect();
    let mut values = layer_values(&document);
    for manifest in manifests {
        let fields = layer_values(&value(&manifest.raw)?);
        for (layer, field) in manifest.layers.iter().zip(fields) {
            if seen.insert(key(layer)) {
                layers.push(layer.digest);
                values.push(field);
            }
        }
    }
    if layers.len() > MAX_DESCRIPTORS {
        return Err(format!("its tag would have more than {MAX_DESCRIPTORS} layers"));
    }
    document["layers"] = values.into();
    let config = match first.config.media_type.kind() {
        Kind::Config => Some(config(&first.config.media_type, &layers)?),
        _ => None,
    };
    if let Some((descriptor, _)) = &config {
        document["config"] = serde_json::to_value(descriptor).map_err(|error| error.to_string())?;
    }
    let manifest = made(media_type, &document)?;
    Ok(TagContent::Union(config.into_iter().chain([manifest]).collect()))
}

fn layer_values(document: &Value) -> Vec<Value> {
    document["layers"].as_array().cloned().unwrap_or_default()
}

/// A config as cosign makes it: of an image with these layers, which are not compressed.
fn config(media_type: &MediaType, layers: &[Digest]) -> Result<Made, String> {
    let history: Vec<Value> = layers.iter().map(|_| json!({"created": CREATED})).collect();
    let config = json!({
        "architecture": "",
        "created": CREATED,
        "history": history,
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": layers},
        "config": {},
    });
    made(media_type.clone(), &config)
}

fn value(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

fn made(media_type: MediaType, document: &Value) -> Result<Made, String> {
    let bytes = document.to_string().into_bytes();
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size > MAX_METADATA {
        return Err(format!(
            "with it, what the registry has would have {size} bytes, more than the {MAX_METADATA} that are read"
        ));
    }
    let descriptor = Descriptor::new(media_type, Digest::sha256(&bytes), size);
    Ok((descriptor, bytes.into()))
}
