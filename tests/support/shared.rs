//! Large documents that many names, or many images, share, and sealift with little memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::command::{Run, Sealift, run};
use super::image::{Dialect, Platform, blobs_folder, store};
use super::layer::Layer;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A layout of one image; its documents are padded to nearly 4 MiB by what readers skip.
pub struct Shared {
    /// The layout's folder.
    pub layout: PathBuf,
    /// The manifest's descriptor.
    pub manifest: Value,
}

impl Shared {
    /// Builds it.
    pub fn new(layout: &Path) -> Shared {
        let blobs = blobs_folder(layout);
        let layer = Layer::busybox().build(&blobs, Dialect::Oci);
        let platform = Platform::host();
        let mut config = json!({
            "architecture": platform.architecture,
            "os": platform.os,
            "rootfs": { "type": "layers", "diff_ids": [layer.diff_id] },
        });
        config["config"] = json!({ "Labels": { "padding": "c".repeat(4_000_000) } });
        let mut descriptor = layer.descriptor();
        descriptor["annotations"] = json!({ "padding": "m".repeat(2_000_000) });
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "layers": [descriptor] });
        manifest["config"] = put(
            &blobs,
            "application/vnd.oci.image.config.v1+json",
            &config.to_string(),
        );
        manifest["annotations"] = json!({ "padding": "m".repeat(2_000_000) });
        Shared {
            layout: layout.into(),
            manifest: put(&blobs, MANIFEST, &manifest.to_string()),
        }
    }

    /// Writes index.json: the descriptors by their names.
    pub fn name(&self, entries: impl Iterator<Item = (String, Value)>) {
        let entries: Vec<Value> = entries
            .map(|(name, mut entry)| {
                entry["annotations"] =
                    json!({ "io.containerd.image.name": format!("docker.io/library/{name}") });
                entry
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        fs::write(self.layout.join("index.json"), index.to_string()).unwrap();
    }

    /// An index of its own over the manifest.
    pub fn index(&self, number: usize) -> Value {
        let mut manifest = self.manifest.clone();
        manifest["platform"] = json!({ "os": "linux", "architecture": Platform::host().architecture });
        let mut index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] });
        index["annotations"] = json!({ "number": number.to_string() });
        put(&self.layout.join("blobs/sha256"), INDEX, &index.to_string())
    }
}

/// Stores a document, and gives its descriptor.
pub fn put(blobs: &Path, media_type: &str, text: &str) -> Value {
    let digest = store(blobs, text.as_bytes());
    json!({ "mediaType": media_type, "digest": digest, "size": text.len() })
}

/// Runs sealift with 300 MB of address space, a tenth of what a copy for each of 600 names takes.
pub fn frugal(sealift: &Sealift, args: &[&str]) -> Run {
    limited(sealift, 300, args)
}

/// The same with this much.
pub fn limited(sealift: &Sealift, megabytes: usize, args: &[&str]) -> Run {
    let inner = sealift.command(args);
    let mut limited = Command::new("bash");
    limited
        .args(["-c", &format!("ulimit -v {megabytes}000; exec \"$0\" \"$@\"")])
        .arg(inner.get_program())
        .args(inner.get_args());
    let set = inner.get_envs().filter_map(|(name, value)| Some((name, value?)));
    run(limited.current_dir(sealift.home()).env_clear().envs(set))
}
