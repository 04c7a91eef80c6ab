//! Lock files: names with the digests, platforms and sizes that they stand for.
//!
//! The document is JSON: `{"kind": "SealiftLock", "schema": 1, "images": [{"name", "digest", "platforms", "size"}]}`. The
//! same images make the same bytes.

use super::Kind;
use super::collector::{Collector, Found, Path};
use super::pin::Edit;
use crate::oci::{Digest, Platform, Reference};
use crate::yaml::Yaml;

/// The kind of the document.
pub(super) const KIND: &str = "SealiftLock";
/// The version of the document.
const SCHEMA: u32 = 1;
/// Most platforms of an image. Official images have up to ten.
const MAX_PLATFORMS: usize = 1000;

/// A lock file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Lock {
    kind: &'static str,
    schema: u32,
    /// The images, by name.
    images: Vec<LockedImage>,
}

/// An image in a lock file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LockedImage {
    /// Its name, with a tag; `name@digest` if it has none.
    pub name: String,
    /// Digest of its manifest or index.
    pub digest: Digest,
    /// Its platforms; empty for an artifact.
    #[serde(serialize_with = "Platform::serialize_texts")]
    pub platforms: Vec<Platform>,
    /// Stored bytes of its blobs for these platforms.
    pub size: u64,
}

impl Lock {
    /// A lock file of these images.
    pub fn new(mut images: Vec<LockedImage>) -> Lock {
        for image in &mut images {
            image.platforms.sort();
        }
        images.sort_by(|one, other| (&one.name, &one.digest).cmp(&(&other.name, &other.digest)));
        images.dedup();
        Lock {
            kind: KIND,
            schema: SCHEMA,
            images,
        }
    }

    /// The images.
    pub fn images(&self) -> &[LockedImage] {
        &self.images
    }
}

impl LockedImage {
    /// An image by the reference that it was resolved from.
    pub fn new(reference: &Reference, digest: Digest, platforms: Vec<Platform>, size: u64) -> LockedImage {
        let name = match reference.without_digest() {
            Some(name) => name.familiar(),
            None => reference.familiar(),
        };
        LockedImage {
            name,
            digest,
            platforms,
            size,
        }
    }
}

/// Reads a lock file.
pub(super) fn read(root: Yaml<'_>, collector: &mut Collector<'_>) {
    if root.get_text("schema") != Some("1") {
        let message = "a lock file of another schema; this sealift reads schema 1".into();
        return collector.error(root, message, Some("use a newer sealift".into()));
    }
    let Some(images) = root.get("images") else { return };
    for (image, number) in images.items().zip(0..) {
        let path = format!("images[{number}]");
        if let Err(reason) = read_image(image, &path, collector) {
            let message = format!("{}: {reason}", Path(&path));
            collector.error(image, message, None);
        }
    }
}

fn read_image(image: Yaml<'_>, path: &str, collector: &mut Collector<'_>) -> Result<(), String> {
    let name = image.get("name").ok_or("it has no name")?;
    let text = name.text().ok_or("its name is no text")?;
    let written = image.get("digest").ok_or("it has no digest")?;
    let digest = written.text().ok_or("its digest is no text")?;
    let digest: Digest = digest.parse().map_err(|error| format!("its digest: {error}"))?;
    let reference: Reference = text.parse().map_err(|error| format!("its name: {error}"))?;
    if reference.digest().is_some_and(|named| named != digest) {
        return Err("its name has another digest".into());
    }
    let mut platforms = Vec::new();
    for platform in image.get("platforms").into_iter().flat_map(Yaml::items) {
        if platforms.len() == MAX_PLATFORMS {
            return Err(format!("it has more than {MAX_PLATFORMS} platforms"));
        }
        let text = platform.text().unwrap_or_default();
        platforms.push(
            text.parse()
                .map_err(|error: crate::oci::platform::PlatformError| error.to_string())?,
        );
    }
    let whole = match reference.digest() {
        Some(_) => text.to_owned(),
        None => format!("{text}@{digest}"),
    };
    let found = Found {
        platforms,
        ..Found::new(Kind::Lock, name, path.to_owned())
    };
    let mut edits = vec![Edit::digest(written)];
    edits.extend(reference.digest().map(|_| Edit::name(name)));
    collector.named(found, whole, edits);
    Ok(())
}
