//! Images in OCI layout folders, with the digests that a registry has to serve.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::layer::{BuiltLayer, Compression, Layer};

/// Whose media types an image speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OCI image and index.
    Oci,
    /// Docker schema 2 and manifest list.
    Docker,
}

/// A platform of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `v8`.
    pub variant: Option<String>,
}

/// An image to be built.
#[derive(Debug, Clone)]
pub struct Image {
    /// Each platform with its layers, the lowest first.
    pub platforms: Vec<(Platform, Vec<Layer>)>,
    /// Whose media types.
    pub dialect: Dialect,
    /// An index, even over a single platform; false only with one.
    pub index: bool,
    /// For each platform an attestation manifest in the index, as buildkit makes them.
    pub attestations: bool,
    /// The platforms that the index gives its manifests, in their order, where it does not repeat the configs; those
    /// beyond the list get none.
    pub index_platforms: Option<Vec<Platform>>,
    /// What a container runs.
    pub cmd: Vec<String>,
}

/// A manifest that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its platform; `unknown/unknown` for an attestation.
    pub platform: Platform,
    /// Its digest.
    pub digest: String,
    /// Its bytes.
    pub size: u64,
    /// Its type.
    pub media_type: String,
    /// Digest of its config: the image id.
    pub config: String,
    /// Its layers, the lowest first.
    pub layers: Vec<BuiltLayer>,
}

/// An image that was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// The OCI layout folder that holds it.
    pub layout: PathBuf,
    /// Its name there.
    pub tag: String,
    /// Digest of the index, or of the manifest when there is none.
    pub digest: String,
    /// Its bytes.
    pub size: u64,
    /// Its type.
    pub media_type: String,
    /// The images' manifests, in order of their platforms.
    pub manifests: Vec<Manifest>,
    /// The attestations', in the same order.
    pub attestations: Vec<Manifest>,
}

impl Platform {
    /// From `os/architecture[/variant]`.
    pub fn new(text: &str) -> Self {
        let mut parts = text.split('/').map(str::to_owned);
        let os = parts.next().unwrap();
        Self {
            os,
            architecture: parts.next().expect("os/architecture"),
            variant: parts.next(),
        }
    }

    /// linux on this machine.
    pub fn host() -> Self {
        Self::new(if cfg!(target_arch = "aarch64") {
            "linux/arm64/v8"
        } else {
            "linux/amd64"
        })
    }

    /// linux on the machine that this one is not.
    pub fn foreign() -> Self {
        Self::new(if cfg!(target_arch = "aarch64") {
            "linux/amd64"
        } else {
            "linux/arm64/v8"
        })
    }

    fn json(&self) -> Value {
        let mut value = json!({ "architecture": self.architecture, "os": self.os });
        if let Some(variant) = &self.variant {
            value["variant"] = json!(variant);
        }
        value
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .iter()
            .try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl Image {
    /// One manifest, of this machine's platform.
    pub fn single(layers: Vec<Layer>) -> Self {
        Self {
            platforms: vec![(Platform::host(), layers)],
            dialect: Dialect::Oci,
            index: false,
            attestations: false,
            index_platforms: None,
            cmd: vec!["/bin/busybox".into(), "sh".into()],
        }
    }

    /// An index of an image for each platform, whose `app/version` is the platform.
    pub fn of_platforms(platforms: &[&str]) -> Self {
        let layers = |platform: &Platform| {
            let version = Layer::new().file("app/version", platform.to_string());
            vec![Layer::busybox(), version]
        };
        let platforms = platforms.iter().map(|text| Platform::new(text));
        Self {
            platforms: platforms
                .map(|platform| (platform.clone(), layers(&platform)))
                .collect(),
            index: true,
            ..Self::single(Vec::new())
        }
    }

    /// An index over this machine's and another platform, with attestations, of three gzip layers:
    /// a base that all images share, one of `name`, one of `name` and `version`.
    pub fn sample(name: &str, version: &str) -> Self {
        let layers = |platform: &Platform| {
            vec![
                Layer::busybox().file("etc/platform", platform.to_string()),
                Layer::new()
                    .file("app/name", name)
                    .noise("app/data", seed(name), 200_000),
                Layer::new().file("app/version", version).noise(
                    "app/extra",
                    seed(name) ^ seed(version),
                    50_000,
                ),
            ]
        };
        let platforms = [Platform::host(), Platform::foreign()];
        Self {
            platforms: platforms
                .into_iter()
                .map(|platform| (platform.clone(), layers(&platform)))
                .collect(),
            index: true,
            attestations: true,
            ..Self::single(Vec::new())
        }
    }

    /// An index over two platforms, the same on every machine, with two layers of a few hundred bytes each.
    pub fn small(name: &str) -> Self {
        let layers = |platform: &Platform| {
            vec![
                Layer::new().file("name", name),
                Layer::new().file("platform", platform.to_string()),
            ]
        };
        let platforms = ["linux/amd64", "linux/arm64"].map(Platform::new);
        Self {
            platforms: platforms
                .into_iter()
                .map(|platform| (platform.clone(), layers(&platform)))
                .collect(),
            index: true,
            ..Self::single(Vec::new())
        }
    }

    /// The same with other media types; Docker's has no attestations.
    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self.attestations &= dialect == Dialect::Oci;
        self
    }

    /// The same with all layers stored otherwise.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        for layer in self.platforms.iter_mut().flat_map(|(_, layers)| layers) {
            layer.compression = compression;
        }
        self
    }

    /// The same with an index that gives other platforms than the configs; none with an empty list.
    #[must_use]
    pub fn index_platforms(mut self, platforms: &[&str]) -> Self {
        self.index_platforms = Some(platforms.iter().map(|text| Platform::new(text)).collect());
        self
    }

    /// The same without the index: only the first platform's manifest.
    #[must_use]
    pub fn without_index(mut self) -> Self {
        self.platforms.truncate(1);
        self.index = false;
        self.attestations = false;
        self
    }

    /// Builds it into an OCI layout folder, which may hold others already, under a tag.
    pub fn build(&self, layout: &Path, tag: &str) -> Built {
        let blobs = blobs_folder(layout);
        let manifests: Vec<_> = self
            .platforms
            .iter()
            .map(|(platform, layers)| {
                let layers: Vec<_> = layers
                    .iter()
                    .map(|layer| layer.build(&blobs, self.dialect))
                    .collect();
                manifest(&blobs, self.dialect, platform, layers, &self.cmd)
            })
            .collect();
        let attestations: Vec<_> = if self.attestations {
            manifests
                .iter()
                .map(|subject| attestation(&blobs, subject))
                .collect()
        } else {
            Vec::new()
        };
        finish(layout, tag, self, manifests, attestations)
    }
}

impl Built {
    /// The manifest of this machine's platform.
    pub fn host(&self) -> &Manifest {
        self.of(&Platform::host())
    }

    /// The manifest of a platform.
    pub fn of(&self, platform: &Platform) -> &Manifest {
        self.manifests
            .iter()
            .find(|manifest| manifest.platform == *platform)
            .expect("a manifest of that platform")
    }

    /// The path of a blob in the layout.
    pub fn blob(&self, digest: &str) -> PathBuf {
        self.layout.join("blobs").join(digest.replace(':', "/"))
    }

    /// Every blob of it, each once, sorted: manifests, configs, layers.
    pub fn blobs(&self) -> Vec<String> {
        let mut all = vec![self.digest.clone()];
        for manifest in self.manifests.iter().chain(&self.attestations) {
            all.extend([manifest.digest.clone(), manifest.config.clone()]);
            all.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
        }
        all.sort();
        all.dedup();
        all
    }
}

/// `sha256:` and the hex digest of bytes.
pub fn sha256(bytes: &[u8]) -> String {
    hex_digest(Sha256::new_with_prefix(bytes))
}

/// `sha256:` and the hex digest that a hasher has come to.
pub fn hex_digest(hasher: Sha256) -> String {
    hasher
        .finalize()
        .iter()
        .fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// Stores bytes under their digest in a `blobs/sha256` folder.
pub fn store(blobs: &Path, bytes: &[u8]) -> String {
    let digest = sha256(bytes);
    fs::write(blobs.join(&digest["sha256:".len()..]), bytes).unwrap();
    digest
}

/// Makes the folders of a layout and gives the one with the blobs.
pub fn blobs_folder(layout: &Path) -> PathBuf {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap_or_else(|e| panic!("{}: {e}", blobs.display()));
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    blobs
}

fn seed(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Writes config and manifest of one platform over layers that are there.
pub fn manifest(
    blobs: &Path,
    dialect: Dialect,
    platform: &Platform,
    layers: Vec<BuiltLayer>,
    cmd: &[String],
) -> Manifest {
    let created = "2023-11-14T22:13:20Z";
    let mut config = json!({
        "created": created,
        "config": { "Cmd": cmd, "Env": ["PATH=/bin"], "Labels": { "dev.sealift.test": "yes" } },
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>() },
        "history": (0..layers.len())
            .map(|n| json!({ "created": created, "created_by": format!("layer {n} of a test") }))
            .collect::<Vec<_>>(),
    });
    for (key, value) in platform.json().as_object().unwrap() {
        config[key] = value.clone();
    }
    let config_type = match dialect {
        Dialect::Oci => "application/vnd.oci.image.config.v1+json",
        Dialect::Docker => "application/vnd.docker.container.image.v1+json",
    };
    write_manifest(blobs, dialect, platform.clone(), &config, config_type, layers)
}

fn write_manifest(
    blobs: &Path,
    dialect: Dialect,
    platform: Platform,
    config: &Value,
    config_type: &str,
    layers: Vec<BuiltLayer>,
) -> Manifest {
    let config = config.to_string();
    let config_digest = store(blobs, config.as_bytes());
    let media_type = match dialect {
        Dialect::Oci => "application/vnd.oci.image.manifest.v1+json",
        Dialect::Docker => "application/vnd.docker.distribution.manifest.v2+json",
    };
    let bytes = pretty(&json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": { "mediaType": config_type, "digest": config_digest, "size": config.len() },
        "layers": layers.iter().map(descriptor_of_layer).collect::<Vec<_>>(),
    }));
    let digest = store(blobs, &bytes);
    Manifest {
        platform,
        digest,
        size: bytes.len() as u64,
        media_type: media_type.into(),
        config: config_digest,
        layers,
    }
}

fn descriptor_of_layer(layer: &BuiltLayer) -> Value {
    let mut descriptor = layer.descriptor();
    if layer.media_type == IN_TOTO {
        descriptor["annotations"] =
            json!({ "in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2" });
    }
    descriptor
}

/// With spaces and newlines, so that a manifest that is written again gets another digest.
fn pretty(value: &Value) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap()
}

const IN_TOTO: &str = "application/vnd.in-toto+json";

/// A provenance attestation of a manifest, as buildkit attaches it.
fn attestation(blobs: &Path, subject: &Manifest) -> Manifest {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": "https://slsa.dev/provenance/v0.2",
        "subject": [{ "name": "a-test", "digest": { "sha256": &subject.digest["sha256:".len()..] } }],
        "predicate": { "builder": { "id": "" }, "buildType": "https://mobyproject.org/buildkit@v1" },
    })
    .to_string();
    let digest = store(blobs, statement.as_bytes());
    let layer = BuiltLayer {
        diff_id: digest.clone(),
        digest,
        size: statement.len() as u64,
        media_type: IN_TOTO.into(),
    };
    let unknown = Platform::new("unknown/unknown");
    let config = json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer.diff_id] },
    });
    write_manifest(
        blobs,
        Dialect::Oci,
        unknown,
        &config,
        "application/vnd.oci.image.config.v1+json",
        vec![layer],
    )
}

/// Builds an artifact that no engine runs: a manifest whose config is of this type, such as a Helm chart's.
pub fn artifact(layout: &Path, tag: &str, config_type: &str) -> Built {
    let image = Image::small("artifact").without_index();
    let built = image.build(layout, tag);
    let (blobs, first) = (layout.join("blobs/sha256"), &built.manifests[0]);
    let (platform, layers) = (first.platform.clone(), first.layers.clone());
    let config = json!({ "name": tag });
    let manifest = write_manifest(&blobs, Dialect::Oci, platform, &config, config_type, layers);
    finish(layout, tag, &image, vec![manifest], Vec::new())
}

/// Builds an artifact with the config of an image, as cosign stores signatures.
pub fn signature(layout: &Path, tag: &str, layer_type: &str) -> Built {
    let blobs = blobs_folder(layout);
    let payload = json!({ "critical": { "type": "cosign container image signature" } }).to_string();
    let digest = store(&blobs, payload.as_bytes());
    let layer = BuiltLayer {
        diff_id: digest.clone(),
        digest,
        size: payload.len() as u64,
        media_type: layer_type.into(),
    };
    let config = json!({
        "architecture": "",
        "os": "",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer.diff_id] },
    });
    let media_type = "application/vnd.oci.image.config.v1+json";
    let platform = Platform::host();
    let manifest = write_manifest(&blobs, Dialect::Oci, platform, &config, media_type, vec![layer]);
    let image = Image::single(Vec::new());
    finish(layout, tag, &image, vec![manifest], Vec::new())
}

/// Writes the index, where there is to be one, and names the image in the layout.
fn finish(
    layout: &Path,
    tag: &str,
    image: &Image,
    manifests: Vec<Manifest>,
    attestations: Vec<Manifest>,
) -> Built {
    let (digest, size, media_type) = if image.index {
        let media_type = match image.dialect {
            Dialect::Oci => "application/vnd.oci.image.index.v1+json",
            Dialect::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        };
        let mut descriptors: Vec<_> = manifests.iter().map(Manifest::descriptor).collect();
        descriptors.extend(manifests.iter().zip(&attestations).map(|(subject, attestation)| {
            let mut descriptor = attestation.descriptor();
            descriptor["annotations"] = json!({
                "vnd.docker.reference.digest": subject.digest,
                "vnd.docker.reference.type": "attestation-manifest",
            });
            descriptor
        }));
        if let Some(platforms) = &image.index_platforms {
            for (at, descriptor) in descriptors.iter_mut().enumerate() {
                match platforms.get(at) {
                    Some(platform) => descriptor["platform"] = platform.json(),
                    None => drop(descriptor.as_object_mut().unwrap().remove("platform")),
                }
            }
        }
        let bytes = pretty(&json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": descriptors }));
        (
            store(&layout.join("blobs/sha256"), &bytes),
            bytes.len() as u64,
            media_type.to_owned(),
        )
    } else {
        assert_eq!(manifests.len(), 1, "several platforms need an index");
        let only = &manifests[0];
        (only.digest.clone(), only.size, only.media_type.clone())
    };
    let built = Built {
        layout: layout.into(),
        tag: tag.into(),
        digest,
        size,
        media_type,
        manifests,
        attestations,
    };
    name_in_layout(&built);
    built
}

impl Manifest {
    fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type, "digest": self.digest, "size": self.size, "platform": self.platform.json(),
        })
    }
}

/// Enters the image in index.json, in place of what had its tag.
fn name_in_layout(built: &Built) {
    let path = built.layout.join("index.json");
    let mut index: Value = fs::read(&path).map_or_else(
        |_| json!({ "schemaVersion": 2, "manifests": [] }),
        |bytes| serde_json::from_slice(&bytes).unwrap(),
    );
    let entries = index["manifests"].as_array_mut().unwrap();
    entries.retain(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] != built.tag.as_str());
    entries.push(json!({
        "mediaType": built.media_type,
        "digest": built.digest,
        "size": built.size,
        "annotations": { "org.opencontainers.image.ref.name": built.tag },
    }));
    fs::write(path, index.to_string()).unwrap();
}
