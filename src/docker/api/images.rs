//! Docker's images: one list of all, and an inspection where the list is not enough.
//!
//! A list has every tag, and in the containerd store every `name@digest` that is a name of its own. There it
//! has the digest for one repository only, though the engine shows it for each that has a tag (Docker 26 and
//! 28).

use std::collections::HashMap;

use crate::docker::api::info::Store;
use crate::docker::api::{ApiVersion, Client, encode};
use crate::error::Result;
use crate::load::KnownImage;
use crate::oci::{Digest, Reference};
use crate::workers;

/// From this API version on (Docker 27), the containerd store reports which manifests are complete.
const MANIFESTS_SINCE: ApiVersion = ApiVersion { major: 1, minor: 47 };
/// Number of images inspected at the same time.
const JOBS: usize = 8;

/// One image of `GET /images/json`.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    manifests: Option<Vec<ManifestSummary>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestSummary {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    available: bool,
    #[serde(default)]
    image_data: Option<ImageData>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageData {
    #[serde(default)]
    size: Option<Unpacked>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Unpacked {
    #[serde(default)]
    unpacked: i64,
}

/// The relevant fields of `GET /images/NAME/json`.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspected {
    /// The engine's id.
    pub id: String,
    /// Tags that name it.
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    /// `name@digest` that it shows.
    #[serde(default)]
    pub repo_digests: Option<Vec<String>>,
    #[serde(rename = "RootFS", default)]
    root_fs: RootFs,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Inspected {
    /// Uncompressed layers, base first; empty if the engine does not know them all.
    pub fn diff_ids(&self) -> Vec<Digest> {
        let layers = self.root_fs.layers.as_deref().unwrap_or_default();
        layers
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()
            .unwrap_or_default()
    }
}

impl ManifestSummary {
    /// Whether all of its blobs are present and its layers are unpacked.
    fn is_complete(&self) -> bool {
        let size = self.image_data.as_ref().and_then(|data| data.size.as_ref());
        self.available && size.is_some_and(|size| size.unpacked > 0)
    }
}

/// Images by the engine's ids.
pub struct Known<'a>(HashMap<&'a str, &'a KnownImage>);

impl<'a> Known<'a> {
    /// Indexes a list.
    pub fn of(images: &'a [KnownImage]) -> Known<'a> {
        Known(images.iter().map(|image| (image.id.as_str(), image)).collect())
    }

    /// The image with this id.
    pub fn get(&self, id: &Digest) -> Option<&'a KnownImage> {
        self.0.get(id.to_string().as_str()).copied()
    }
}

/// Inspects an image by name, digest or id; `None` if the engine does not have it.
///
/// # Errors
///
/// [`crate::Error::Engine`].
pub fn find_image(client: &Client, name: &str) -> Result<Option<Inspected>> {
    // Slashes stay: the engine's router reads the rest of the path as the name.
    let name: Vec<String> = name.split('/').map(encode).collect();
    client.find("look at an image", &format!("/images/{}/json", name.join("/")))
}

/// Whether an engine reports which content of its images is present.
pub fn tells_content(client: &Client, store: Store) -> bool {
    store == Store::Containerd && client.version() >= MANIFESTS_SINCE
}

/// Lists all images, without their layers.
///
/// # Errors
///
/// [`crate::Error::Engine`].
pub fn list(client: &Client, store: Store) -> Result<Vec<KnownImage>> {
    match tells_content(client, store) {
        true => list_at(client, store, "/images/json?all=1&manifests=1"),
        false => names(client, store),
    }
}

/// Lists all images with their names only.
///
/// # Errors
///
/// [`crate::Error::Engine`].
pub fn names(client: &Client, store: Store) -> Result<Vec<KnownImage>> {
    list_at(client, store, "/images/json?all=1")
}

fn list_at(client: &Client, store: Store, path: &str) -> Result<Vec<KnownImage>> {
    let summaries: Vec<Summary> = client.get("look at its images", path)?;
    Ok(summaries
        .into_iter()
        .map(|summary| engine_image(summary, store))
        .collect())
}

fn engine_image(summary: Summary, store: Store) -> KnownImage {
    let of = |is_meant: &dyn Fn(&ManifestSummary) -> bool| -> Vec<Digest> {
        let manifests = summary.manifests.iter().flatten();
        let meant = manifests.filter(|manifest| is_meant(manifest));
        meant.filter_map(|manifest| manifest.id.parse().ok()).collect()
    };
    let (manifests, available) = (
        of(&ManifestSummary::is_complete),
        of(&|manifest| manifest.available),
    );
    // Docker before 25 reports `<none>:<none>` and `<none>@<none>` for an image without a name.
    let named = |names: Option<Vec<String>>| -> Vec<String> {
        let names = names.into_iter().flatten();
        names.filter(|name| !name.starts_with("<none>")).collect()
    };
    let tags = named(summary.repo_tags);
    let mut digests = named(summary.repo_digests);
    if let (Store::Containerd, Ok(root)) = (store, summary.id.parse::<Digest>()) {
        let names = tags.iter().filter_map(|tag| tag.parse::<Reference>().ok());
        for name in names {
            let shown = Reference::digested(name.repository(), root).familiar();
            if !digests.contains(&shown) {
                digests.push(shown);
            }
        }
    }
    KnownImage {
        id: summary.id,
        tags,
        digests,
        diff_ids: Vec::new(),
        manifests,
        available,
        image_ids: Vec::new(),
        configs: None,
    }
}

/// Inspects the layers of the selected images, several at a time.
///
/// # Errors
///
/// [`crate::Error::Engine`].
pub fn look_at_layers(
    client: &Client,
    images: &mut [KnownImage],
    is_meant: impl Fn(&KnownImage) -> bool,
) -> Result<()> {
    let meant: Vec<&mut KnownImage> = images.iter_mut().filter(|image| is_meant(image)).collect();
    let ids: Vec<String> = meant.iter().map(|image| image.id.clone()).collect();
    let found = workers::map(JOBS, &ids, |id| find_image(client, id), |_| false);
    for (image, inspected) in meant.into_iter().zip(found.into_iter().flatten()) {
        // It may have been removed since the list was made.
        if let Some(inspected) = inspected? {
            image.diff_ids = inspected.diff_ids();
        }
    }
    Ok(())
}
