//! The twin of an image that is replaced: the same layers and config, but for an author, and so another image id.
//!
//! podman pulls the twin first, and the image's names move to it before the image is removed. Each name thus leads to the
//! same content at any time, whatever ends the load, and podman keeps the layers. The tag of a twin says whose it is, so
//! that the next load completes what was begun. Anyone can give an image such a tag, so the config must be that of a twin
//! too.

use super::Podman;
use super::answers::PodmanImage;
use super::replacement::restore;
use super::storage::Storage;
use crate::error::{Error, Place, Problem, Result};
use crate::image::Image;
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, Digest, Repository};

/// How the tag of a twin begins; the hex digits of the image's id follow.
const TAG: &str = "sealift-replaces-";

/// The documents of a twin.
pub struct Twin {
    /// Its manifest.
    pub manifest: (Descriptor, Vec<u8>),
    /// Its config.
    pub config: (Descriptor, Vec<u8>),
}

/// The tag of the twin of an image.
pub fn tag(id: &Digest) -> String {
    format!("{TAG}{}", id.to_string().trim_start_matches("sha256:"))
}

/// The name of the twin of an image, which is in the same repository.
pub fn name(repository: &Repository, id: &Digest) -> String {
    format!("{}:{}", repository.full(), tag(id))
}

/// Whether a text is the tag of a twin.
pub fn is_tag(text: &str) -> bool {
    let id = text.strip_prefix(TAG).unwrap_or_default();
    id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Twin {
    /// Makes the twin of an image.
    ///
    /// # Errors
    ///
    /// If the image's manifest or config cannot be rewritten.
    pub fn of(image: &Image) -> Result<Twin> {
        let missing = || Error::refused(Place::blob(image.id()), Problem::Missing);
        let config = image.config_raw.as_deref();
        let config = config.and_then(|config| config_of(config, &image.id()));
        let config = config.ok_or_else(missing)?;
        let described = |original: &Descriptor, bytes: &[u8]| {
            let size = u64::try_from(bytes.len()).unwrap_or_default();
            Descriptor::new(original.media_type.clone(), Digest::sha256(bytes), size)
        };
        let config_descriptor = described(&image.manifest.config, &config);
        let mut manifest: serde_json::Value =
            serde_json::from_slice(&image.manifest.raw).map_err(|_| missing())?;
        let fields = manifest
            .get_mut("config")
            .and_then(serde_json::Value::as_object_mut)
            .ok_or_else(missing)?;
        fields.insert("digest".into(), config_descriptor.digest.to_string().into());
        fields.insert("size".into(), config_descriptor.size.into());
        let manifest = manifest.to_string().into_bytes();
        Ok(Twin {
            manifest: (described(&image.descriptor, &manifest), manifest),
            config: (config_descriptor, config),
        })
    }
}

/// The config of the twin of an image with this config and id.
fn config_of(config: &[u8], id: &Digest) -> Option<Vec<u8>> {
    let mut config: serde_json::Value = serde_json::from_slice(config).ok()?;
    config.as_object_mut()?.insert("author".into(), tag(id).into());
    Some(config.to_string().into_bytes())
}

/// Gives the names of twins back to their images and removes the twins, where podman has the images.
///
/// # Errors
///
/// If podman does not do it, or its storage cannot be read. The names then lead to the twins.
pub fn settle(podman: &Podman, interrupt: &Interrupt) -> Result<()> {
    let listed = podman.images()?;
    for twin in &listed {
        let Some((id, own)) = original(podman, twin, &listed)? else {
            continue;
        };
        let is_other = |name: &&String| !name.contains('@') && original_of(name).is_none();
        let names: Vec<String> = twin.names.iter().filter(is_other).cloned().collect();
        restore(&podman.program, id, &names, interrupt)?;
        podman.program.act(&["rmi", own], interrupt)?;
    }
    Ok(())
}

/// The image of podman's whose twin an image is, and the twin's own name.
fn original<'i>(
    podman: &Podman,
    twin: &'i PodmanImage,
    listed: &[PodmanImage],
) -> Result<Option<(&'i str, &'i str)>> {
    for name in &twin.names {
        let Some(id) = original_of(name) else { continue };
        if listed.iter().any(|one| one.id == id) && is_twin(podman, &twin.id, id)? {
            return Ok(Some((id, name)));
        }
    }
    Ok(None)
}

/// Whether an image is the twin of another, by their ids: its config has only another author.
fn is_twin(podman: &Podman, twin: &str, id: &str) -> Result<bool> {
    let store = &podman.info.store;
    let digest = |hex: &str| format!("sha256:{hex}").parse::<Digest>().ok();
    let (Some(twin), Some(id)) = (digest(twin), digest(id)) else {
        return Ok(false);
    };
    let storage = Storage::open(&store.graph_root, Some(&store.graph_driver_name))?;
    let config = storage.document(&id)?;
    let expected = config.and_then(|config| config_of(&config, &id));
    Ok(expected.is_some_and(|expected| Digest::sha256(&expected) == twin))
}

fn original_of(name: &str) -> Option<&str> {
    let (_, tag) = name.rsplit_once(':')?;
    tag.strip_prefix(TAG).filter(|_| is_tag(tag))
}
