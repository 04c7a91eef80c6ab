//! The documents of an archive: entry names, annotations, `index.json`, `manifest.json`.
//!
//! Sources: OCI image specification, "Image Layout"; `docker load`'s `manifest.json` (moby,
//! `image/tarexport`); containerd's annotation for names (`core/images/annotations.go`).

mod entry;
mod names;
mod omitted;
mod referrers;

use std::collections::BTreeMap;

use crate::error::{Error, Place, Problem, Result};
use crate::image::{Image, NamedImage};
use crate::oci::{Descriptor, Digest, Document, MediaType, Platform, json, schema};

pub use entry::{Entry, parse_index};
pub(super) use entry::{is_own, recognise_substitutes};
pub(crate) use names::check as check_names;
pub use omitted::Omitted;
pub use referrers::{REFERRERS, SUBJECT, TAG, parse_referrers, referrers_json};
pub(crate) use referrers::{list_json, listed_descriptor};

/// The file that marks an OCI layout.
pub const OCI_LAYOUT: &str = "oci-layout";
/// Its content.
pub const OCI_LAYOUT_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The file that lists the images of a layout.
pub const INDEX: &str = "index.json";
/// The file that lists the images of a `docker save` archive.
pub const MANIFEST: &str = "manifest.json";
/// The names in a `docker save` archive, for Docker before 1.10.
pub const REPOSITORIES: &str = "repositories";
/// The name of an image for containerd and Docker's containerd store.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The name of an image in an OCI layout, or only its tag.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The version of sealift's annotations; on `index.json`.
pub const FORMAT: &str = "dev.sealift.format";
/// The highest [`FORMAT`] that is read, and the one that is written.
pub const FORMAT_VERSION: u32 = 1;
/// The reference as requested, if it has both a tag and a digest, which the names above cannot express.
pub const REFERENCE: &str = "dev.sealift.reference";
/// On the entry of a substitute manifest: the digest that the source engine reported, or `none`. On the entry of another
/// manifest or index: its own digest, if nothing shows that a registry ever served it.
pub const RECORDED: &str = "dev.sealift.recorded";
/// Digests, comma-separated, of layers that are present only uncompressed, under their diff ids.
pub const UNCOMPRESSED: &str = "dev.sealift.uncompressed";
/// Where manifest and layers came from, as JSON
/// ([`Origins`](crate::image::provenance::Origins)). It proves nothing.
pub const PROVENANCE: &str = "dev.sealift.provenance";
/// The platforms that are present, comma-separated; on the entry of a sparse index.
pub const PLATFORMS: &str = "dev.sealift.platforms";

/// Digests, comma-separated, of layers that are not in the archive because the host that it is for has them; on
/// `index.json`.
pub const OMITTED: &str = "dev.sealift.omitted";
/// The inventories by which they were left out, as JSON (a list of [`InventoryId`](crate::inventory::InventoryId)); on
/// `index.json`.
pub const OMITTED_FOR: &str = "dev.sealift.omitted-for";

/// On a manifest that sealift made because the original could not be recovered: it is recognised in every store.
pub const SUBSTITUTE: &str = "dev.sealift.stand-in";
/// What [`SUBSTITUTE`] says, for people.
const SUBSTITUTE_TEXT: &str = "sealift made this manifest: the image's own was not there";
/// Why an image has no digest whose manifest is a substitute, for people.
pub const MADE: &str = "sealift made its manifest, as its own was not there when it was saved";
/// The platform of `manifest.json`, if an image has several and it is not the first; on `index.json`, so that
/// the archive's digest pins `manifest.json` too.
pub const PREFERRED: &str = "dev.sealift.manifest-json-platform";

/// The value of [`RECORDED`] for an image without a digest.
const NONE: &str = "none";
/// On the `index.json` of a layout folder: `none`, as it has no `manifest.json`. An archive has one.
pub const MANIFEST_JSON: &str = "dev.sealift.manifest-json";

/// Stored bytes of a substitute manifest. They are the same for the same image.
///
/// # Errors
///
/// Only if it cannot be serialised.
pub fn substitute(config: Descriptor, layers: &[Descriptor]) -> Result<Vec<u8>> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Fields<'a> {
        schema_version: u8,
        media_type: &'a str,
        config: Descriptor,
        layers: &'a [Descriptor],
        annotations: BTreeMap<&'a str, &'a str>,
    }
    to_json(&Fields {
        schema_version: 2,
        media_type: MediaType::OCI_MANIFEST,
        config,
        layers,
        annotations: BTreeMap::from([(SUBSTITUTE, SUBSTITUTE_TEXT)]),
    })
}

/// Whether a document is a substitute manifest.
pub fn is_substitute(document: &[u8]) -> bool {
    // Documents may be large, and few are substitutes.
    if !std::str::from_utf8(document).is_ok_and(|text| text.contains(SUBSTITUTE)) {
        return false;
    }
    let parsed = Document::sniff(document).map(|kind| Document::parse(&kind, document.to_vec()));
    matches!(parsed, Some(Ok(Document::Manifest(manifest))) if manifest.annotations.contains_key(SUBSTITUTE))
}

/// Checks the content of [`OCI_LAYOUT`].
///
/// # Errors
///
/// If it is malformed, or says another version.
pub fn check_layout(bytes: &[u8]) -> Result<(), Problem> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let marker: Marker = json::decode(bytes, &schema::LAYOUT).map_err(|error| Problem::Json {
        reason: error.to_string(),
    })?;
    if marker.image_layout_version != "1.0.0" {
        return Err(Problem::Document {
            reason: format!(
                "imageLayoutVersion is {:?}, expected \"1.0.0\"",
                marker.image_layout_version
            ),
        });
    }
    Ok(())
}

/// The path of a blob: `blobs/sha256/<hex>`.
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// The digest in the path of a blob; `None` for other paths.
///
/// # Errors
///
/// If a path below `blobs/` has no digest.
pub fn digest_of_path(path: &str) -> Result<Option<Digest>, Problem> {
    let Some(rest) = path.strip_prefix("blobs/") else {
        return Ok(None);
    };
    let parsed = rest
        .replacen('/', ":", 1)
        .parse()
        .map_err(|error| Problem::BadDigest {
            reason: format!("{error}"),
        })?;
    Ok(Some(parsed))
}

/// The entry of an image in `index.json`: the original descriptor with names.
///
/// # Errors
///
/// Only if serialising fails.
pub fn index_entry(image: &NamedImage) -> Result<Descriptor> {
    let mut entry = image.graph.root.bare();
    let mut note = |key: &str, value: String| entry.annotations.insert(key.into(), value);
    if let Some(substitute) = image.provenance.substitute {
        let recorded = substitute.recorded.map(|digest| digest.to_string());
        note(RECORDED, recorded.unwrap_or_else(|| NONE.into()));
    } else if image.provenance.is_unproven {
        note(RECORDED, image.graph.root.digest.to_string());
    }
    if !image.provenance.uncompressed.is_empty() {
        let layers = image.provenance.uncompressed.keys().map(ToString::to_string);
        note(UNCOMPRESSED, layers.collect::<Vec<_>>().join(","));
    }
    if let Some(origins) = &image.provenance.origins {
        let json = to_json(origins)?;
        note(PROVENANCE, String::from_utf8_lossy(&json).into_owned());
    }
    if let Some(list) = referrers_json(&image.referrers)? {
        note(REFERRERS, Digest::sha256(&list).to_string());
    }
    if let Some(reference) = &image.reference {
        let name = reference.without_digest().unwrap_or_else(|| reference.clone());
        entry.annotations.insert(CONTAINERD_NAME.into(), name.full());
        entry.annotations.insert(REF_NAME.into(), name.full());
        if name != *reference {
            entry.annotations.insert(REFERENCE.into(), reference.full());
        }
    } else if let Some(tag) = &image.bare_tag {
        entry.annotations.insert(REF_NAME.into(), tag.clone());
    }
    if !image.graph.absent.is_empty() {
        let mut here: Vec<String> = image
            .graph
            .images
            .iter()
            .filter(|one| one.descriptor.attests().is_none())
            .filter_map(Image::offered)
            .filter(|platform| !platform.is_unknown())
            .map(ToString::to_string)
            .filter(|text| text.parse::<Platform>().is_ok())
            .collect();
        here.sort();
        here.dedup();
        entry.annotations.insert(PLATFORMS.into(), here.join(","));
    }
    Ok(entry)
}

/// Whether a layout has a `manifest.json`, and of which platform.
#[derive(Debug, Clone, Copy)]
pub enum ManifestJson<'a> {
    /// It has none: a folder, which a bare `docker load` does not read.
    Absent,
    /// The first of each image.
    First,
    /// This one where an image has it: as for [`manifest_json`].
    Preferred(&'a Platform),
}

/// Makes `index.json` for images in order.
///
/// # Errors
///
/// Only if serialising fails.
pub fn index_json(
    images: &[NamedImage],
    manifest_json: ManifestJson<'_>,
    omitted: &Omitted,
) -> Result<Vec<u8>> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        schema_version: u8,
        media_type: &'static str,
        manifests: Vec<Descriptor>,
        annotations: BTreeMap<&'static str, String>,
    }
    let mut annotations = BTreeMap::from([(FORMAT, FORMAT_VERSION.to_string())]);
    match manifest_json {
        ManifestJson::Absent => drop(annotations.insert(MANIFEST_JSON, NONE.into())),
        ManifestJson::First => {}
        ManifestJson::Preferred(platform) => drop(annotations.insert(PREFERRED, platform.to_string())),
    }
    annotations.extend(omitted.annotations()?);
    to_json(&Layout {
        schema_version: 2,
        media_type: MediaType::OCI_INDEX,
        manifests: images.iter().map(index_entry).collect::<Result<_>>()?,
        annotations,
    })
}

/// One image in `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerImage {
    /// Path of the config.
    pub config: String,
    /// Full names with tags.
    pub repo_tags: Option<Vec<String>>,
    /// Paths of the layers, base first.
    pub layers: Vec<String>,
}

impl DockerImage {
    /// An image whose config and layers are at their paths in an OCI layout. `here` returns the form of a layer
    /// that is present.
    pub fn new<'a>(image: &'a Image, here: impl Fn(&'a Descriptor) -> &'a Descriptor) -> DockerImage {
        DockerImage {
            config: blob_path(&image.manifest.config.digest),
            repo_tags: None,
            layers: image
                .manifest
                .layers
                .iter()
                .map(|layer| blob_path(&here(layer).digest))
                .collect(),
        }
    }
}

/// Makes `manifest.json`, which a bare `docker load` reads. It has no platforms, so each name is the image of
/// `preferred`, or else the first one.
///
/// # Errors
///
/// Only if serialising fails.
pub fn manifest_json(images: &[NamedImage], preferred: Option<&Platform>) -> Result<Vec<u8>> {
    let mut list: Vec<DockerImage> = Vec::new();
    for named in images {
        let chosen = preferred.and_then(|wanted| named.graph.image_for(std::slice::from_ref(wanted)));
        let Some(image) = chosen.or_else(|| named.graph.runnable().next()) else {
            continue;
        };
        let tag = named
            .reference
            .as_ref()
            .and_then(|reference| match reference.digest() {
                None => Some(reference.full()),
                Some(_) => reference.without_digest().map(|name| name.full()),
            });
        let fresh = DockerImage::new(image, |layer| named.provenance.layer(layer));
        let known = list
            .iter()
            .position(|known| known.config == fresh.config && known.layers == fresh.layers);
        let at = known.unwrap_or_else(|| {
            list.push(fresh);
            list.len() - 1
        });
        if let (Some(entry), Some(tag)) = (list.get_mut(at), tag) {
            let tags = entry.repo_tags.get_or_insert_default();
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
    }
    to_json(&list)
}

/// Serialises a document of sealift's own.
///
/// # Errors
///
/// Only if a value cannot be JSON.
pub fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| {
        Error::refused(
            Place::default(),
            Problem::Json {
                reason: error.to_string(),
            },
        )
    })
}
