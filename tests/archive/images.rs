//! Small images, whole or with something wrong in them, and archives of them.
//!
//! Compressed layers are put together by hand, so that the same bytes come out of every version of every
//! library.

use sealift::archive::format::blob_path;
use sealift::oci::Digest;
use serde_json::{Value, json};

use crate::tar_builder::{TarBuilder, length};

pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub const NAME: &str = "docker.io/library/app:1";

/// One gzip member that stores its bytes as they are.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    let length: u16 = bytes.len().try_into().unwrap();
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    member.extend(length.to_le_bytes());
    member.extend((!length).to_le_bytes());
    member.extend(bytes);
    member.extend(crc.sum().to_le_bytes());
    member.extend(u32::from(length).to_le_bytes());
    member
}

/// One zstd frame that stores its bytes as they are, with a window of two to the power of `log`.
pub fn zstd_window(bytes: &[u8], log: u8) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3];
    let block = u32::try_from(bytes.len()).unwrap() << 3 | 1;
    frame.extend(&block.to_le_bytes()[..3]);
    frame.extend(bytes);
    frame
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd_window(bytes, 17)
}

pub fn blob(bytes: &[u8]) -> (String, Vec<u8>) {
    (blob_path(&Digest::sha256(bytes)), bytes.to_vec())
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::sha256(bytes), "size": length(bytes)})
}

/// A layer: its media type, stored and uncompressed bytes.
pub type Layer = (&'static str, Vec<u8>, Vec<u8>);

/// A layer's uncompressed bytes: a tar of one file with this text.
pub fn plain(text: &str) -> Vec<u8> {
    TarBuilder::default().file("text", text.as_bytes()).end()
}

pub fn layer(text: &str) -> Layer {
    let plain = plain(text);
    (GZIP, gzip(&plain), plain)
}

/// The stored bytes of the layer of [`Sample::plain`].
pub fn only() -> Vec<u8> {
    layer("the only layer").1
}

/// One image, all of it open to change before [`Sample::files`] seals it into files.
#[derive(Clone)]
pub struct Sample {
    pub layers: Vec<Layer>,
    pub config: Value,
    pub manifest: Value,
    /// Descriptor of the manifest, with annotations, as in `index.json`.
    pub entry: Value,
    pub index: Value,
    pub manifest_json: Value,
}

impl Sample {
    /// An image of one manifest under [`NAME`].
    pub fn new(layers: Vec<Layer>) -> Sample {
        let diff_ids: Vec<Digest> = layers.iter().map(|(_, _, plain)| Digest::sha256(plain)).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let mut sample = Sample {
            layers,
            config,
            manifest: Value::Null,
            entry: Value::Null,
            index: Value::Null,
            manifest_json: Value::Null,
        };
        sample.reseal();
        sample
    }

    /// The image that most tests start from: one gzip layer.
    pub fn plain() -> Sample {
        Sample::new(vec![layer("the only layer")])
    }

    /// Makes manifest, entry, index and `manifest.json` anew after the config or layers were changed.
    pub fn reseal(&mut self) {
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|(kind, stored, _)| descriptor(kind, stored))
            .collect();
        let paths: Vec<String> = self.layers.iter().map(|(_, stored, _)| blob(stored).0).collect();
        let config = self.config.to_string().into_bytes();
        self.manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(OCI_CONFIG, &config),
            "layers": layers,
        });
        self.rename();
        self.manifest_json = json!([{"Config": blob(&config).0, "RepoTags": [NAME], "Layers": paths}]);
    }

    /// Makes entry and index anew after the manifest was changed.
    pub fn rename(&mut self) {
        self.entry = descriptor(OCI_MANIFEST, self.manifest.to_string().as_bytes());
        self.entry["annotations"] = json!({
            "io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": NAME,
        });
        self.index = json!({
            "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [self.entry],
            "annotations": {"dev.sealift.format": "1"},
        });
    }

    /// Puts an index between `index.json` and the manifest, with further entries in it.
    pub fn wrap(self, others: &[Value]) -> (Sample, (String, Vec<u8>)) {
        self.wrap_as(&json!({"os": "linux", "architecture": "amd64"}), others)
    }

    /// The same with a platform of one's own for the manifest; none, if it is null.
    pub fn wrap_as(mut self, platform: &Value, others: &[Value]) -> (Sample, (String, Vec<u8>)) {
        let mut manifests = vec![descriptor(OCI_MANIFEST, self.manifest.to_string().as_bytes())];
        if !platform.is_null() {
            manifests[0]["platform"] = platform.clone();
        }
        manifests.extend(others.iter().cloned());
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).to_string();
        let entry = &mut self.index["manifests"][0];
        let annotations = entry["annotations"].take();
        *entry = descriptor(OCI_INDEX, index.as_bytes());
        entry["annotations"] = annotations;
        (self, blob(index.as_bytes()))
    }

    /// Puts uncompressed layers in the place of some of the stored ones, without a change to the manifest.
    pub fn uncompress(mut self, places: &[usize]) -> Sample {
        let mut digests = Vec::new();
        for at in places {
            let (_, stored, plain) = &mut self.layers[*at];
            digests.push(Digest::sha256(stored).to_string());
            stored.clone_from(plain);
            self.manifest_json[0]["Layers"][*at] = blob(plain).0.into();
        }
        self.index["manifests"][0]["annotations"]["dev.sealift.uncompressed"] = digests.join(",").into();
        self
    }

    pub fn blobs(&self) -> Vec<(String, Vec<u8>)> {
        let mut blobs = vec![
            blob(self.manifest.to_string().as_bytes()),
            blob(self.config.to_string().as_bytes()),
        ];
        blobs.extend(self.layers.iter().map(|(_, stored, _)| blob(stored)));
        blobs
    }

    /// Every file of the archive: the marker, blobs, then what names them.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = vec![(
            "oci-layout".to_string(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        )];
        files.extend(self.blobs());
        files.push(("index.json".into(), self.index.to_string().into_bytes()));
        files.push((
            "manifest.json".into(),
            self.manifest_json.to_string().into_bytes(),
        ));
        files
    }

    pub fn tar(&self) -> Vec<u8> {
        TarBuilder::default().files(&self.files()).end()
    }
}
