//! A folder of skopeo's `dir:` transport, read as a layout with one image without a name.
//!
//! `manifest.json` is the manifest or index. Blobs are named by the hex of their digests, manifests of an index
//! `<hex>.manifest.json`. `skopeo copy ... dir:` keeps a registry's bytes. `podman save --format docker-dir`
//! and other copies from podman's store write a manifest over uncompressed layers, which may even call them
//! compressed. Such a folder is read like an archive of `docker save`.
//!
//! Source: containers/image, `directory/directory_transport.go`, `directory_dest.go`.

use std::collections::BTreeMap;

use super::docker_save::{DockerSave, Files, compression};
use super::reader::{Archive, Opened, read_small};
use super::spool::Options;
use super::tar_plan::length;
use super::{containers_image, format};
use crate::blob::Stored;
use crate::error::{Error, Finding, Place, Problem, Result};
use crate::oci::{Compression, Descriptor, Digest, Document, Manifest, MediaType};

/// The file that marks such a folder.
pub(super) const VERSION: &str = "version";
/// Its first bytes.
const VERSION_PREFIX: &[u8] = b"Directory Transport Version: 1.";
/// Suffix of the names of an index's manifests.
const INSTANCE: &str = ".manifest.json";

/// Whether these are the files of such a folder.
///
/// # Errors
///
/// If they cannot be read.
pub(super) fn is_one(label: &str, files: &BTreeMap<String, Stored>) -> Result<bool> {
    let others = [format::OCI_LAYOUT, format::INDEX, format::REPOSITORIES];
    let is_other = others.iter().any(|name| files.contains_key(*name));
    match files.get(VERSION) {
        Some(version) if !is_other && files.contains_key(format::MANIFEST) => {
            Ok(read_small(label, version)?.starts_with(VERSION_PREFIX))
        }
        _ => Ok(false),
    }
}

/// Opens the folder, given its files.
///
/// # Errors
///
/// [`Error::Refused`] if `manifest.json` is neither a manifest nor an index.
pub(super) fn open(
    label: &str,
    mut files: BTreeMap<String, Stored>,
    findings: Vec<Finding>,
    options: &Options,
) -> Result<Opened> {
    let refuse = |problem: Problem| {
        let place = Place::default().within(label).entry(format::MANIFEST);
        Error::refused(place, problem)
    };
    let stored = files.get(format::MANIFEST);
    let bytes = stored.map_or(Ok(Vec::new()), |stored| read_small(label, stored))?;
    let media_type = Document::sniff(&bytes).ok_or_else(|| {
        refuse(Problem::Document {
            reason: "neither a manifest nor an index".into(),
        })
    })?;
    let root = Descriptor::new(media_type, Digest::sha256(&bytes), length(&bytes));
    let document = Document::parse(&root.media_type, bytes.clone()).map_err(|error| refuse(error.into()))?;
    if let Document::Manifest(manifest) = &document
        && containers_image::may_have_written(&bytes)
        && is_unpacked(&files, manifest)?
    {
        let layers = manifest
            .layers
            .iter()
            .map(|layer| file_of(&layer.digest))
            .collect();
        let config = file_of(&manifest.config.digest);
        let files = Files::new(label, files, Vec::new());
        return Ok(Opened::DockerSave(DockerSave::of_image(
            files, config, layers, options,
        )?));
    }
    files.remove(VERSION);
    let mut blobs = BTreeMap::new();
    let mut unknown = Vec::new();
    for (name, stored) in files {
        match name.as_str() {
            format::MANIFEST => drop(blobs.insert(root.digest, stored)),
            name => match digest_of(name) {
                Some(digest) => drop(blobs.insert(digest, stored)),
                None => unknown.push(name.into()),
            },
        }
    }
    let index = index_json(&root)?;
    let archive = Archive::of_blobs(label, index, blobs, unknown, findings)?;
    Ok(Opened::Layout(Box::new(archive)))
}

/// Whether a layer is uncompressed, whatever its media type.
fn is_unpacked(files: &BTreeMap<String, Stored>, manifest: &Manifest) -> Result<bool> {
    for layer in &manifest.layers {
        if let Some(stored) = files.get(&file_of(&layer.digest))
            && compression(stored)? == Compression::None
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The file name of a blob.
fn file_of(digest: &Digest) -> String {
    match digest.algorithm() {
        "sha256" => digest.hex(),
        algorithm => format!("{algorithm}-{}", digest.hex()),
    }
}

/// The digest in a file name.
fn digest_of(name: &str) -> Option<Digest> {
    let name = name.strip_suffix(INSTANCE).unwrap_or(name);
    let (algorithm, hex) = name.split_once('-').unwrap_or(("sha256", name));
    format!("{algorithm}:{hex}").parse().ok()
}

/// The `index.json` that skopeo would write for the image in a layout. It pins the folder's content.
fn index_json(root: &Descriptor) -> Result<Vec<u8>> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout<'a> {
        schema_version: u8,
        media_type: &'static str,
        manifests: [&'a Descriptor; 1],
    }
    format::to_json(&Layout {
        schema_version: 2,
        media_type: MediaType::OCI_INDEX,
        manifests: [root],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_digests() {
        let digest = Digest::sha256(b"x");
        let long: Digest = format!("sha512:{}", "ab".repeat(64)).parse().unwrap();
        for digest in [digest, long] {
            let name = file_of(&digest);
            assert_eq!(digest_of(&name), Some(digest));
            assert_eq!(digest_of(&format!("{name}.manifest.json")), Some(digest));
            assert_eq!(digest_of(&format!("{name}.signature-1")), None);
        }
        for other in ["version", "signature-1", "manifest.json", "../x"] {
            assert_eq!(digest_of(other), None, "{other}");
        }
    }
}
