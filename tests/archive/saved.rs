//! Archives of `docker save` in the forms that tools write, put together as those tools do.

use sealift::oci::Digest;
use serde_json::{Value, json};
use tar::EntryType;

use crate::images::{gzip, zstd};
use crate::tar_builder::{TarBuilder, header};

/// An image before a tool writes it.
#[derive(Clone)]
pub struct Image {
    pub config: String,
    pub tags: Vec<&'static str>,
    /// Uncompressed layers.
    pub layers: Vec<&'static str>,
}

impl Image {
    pub fn new(layers: &[&'static str], tags: &[&'static str]) -> Image {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| digest(layer)).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Image {
            config: config.to_string(),
            tags: tags.to_vec(),
            layers: layers.to_vec(),
        }
    }

    pub fn id(&self) -> Digest {
        digest(&self.config)
    }

    pub fn item(&self, config: String, layers: Vec<String>) -> Value {
        let tags = Some(&self.tags).filter(|tags| !tags.is_empty());
        json!({"Config": config, "RepoTags": tags, "Layers": layers})
    }
}

/// Two layers, one of them twice, and two names.
pub fn app() -> Image {
    Image::new(&["base", "top", "base"], &["app:1", "quay.io/org/app:1"])
}

pub fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

pub fn hex(text: &str) -> String {
    digest(text).hex()
}

pub trait Links {
    fn link(self, kind: EntryType, name: &str, target: &str) -> TarBuilder;
    fn symlink(self, name: &str, target: &str) -> TarBuilder;
}

impl Links for TarBuilder {
    fn link(self, kind: EntryType, name: &str, target: &str) -> TarBuilder {
        let set = |header: &mut tar::Header| {
            header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        };
        self.entry(&header(name, kind, 0, set), b"")
    }

    fn symlink(self, name: &str, target: &str) -> TarBuilder {
        self.link(EntryType::Symlink, name, target)
    }
}

/// The files, in the order of their names; each once.
fn sorted(mut files: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    files.sort();
    files.dedup();
    files
}

fn named(path: &str, items: &[Value]) -> (String, Vec<u8>) {
    (path.into(), Value::from(items).to_string().into_bytes())
}

fn repositories(image: &Image) -> Option<(String, Vec<u8>)> {
    let (name, tag) = image.tags.first()?.split_once(':')?;
    let text = json!({name: {tag: hex("v1")}}).to_string();
    Some(("repositories".into(), text.into_bytes()))
}

/// Docker before 25: a folder for each layer; a repeated layer is a link.
pub fn docker20(image: &Image) -> TarBuilder {
    let folder = |at: usize| hex(&format!("v1 {at}"));
    let mut tar = TarBuilder::default().file(&format!("{}.json", image.id().hex()), image.config.as_bytes());
    for (at, layer) in image.layers.iter().enumerate() {
        let name = folder(at);
        tar = tar
            .kind(&format!("{name}/"), EntryType::Directory, b"")
            .file(&format!("{name}/VERSION"), b"1.0")
            .file(&format!("{name}/json"), b"{}");
        let path = format!("{name}/layer.tar");
        tar = match image.layers.iter().position(|other| other == layer) {
            Some(first) if first < at => tar.symlink(&path, &format!("../{}/layer.tar", folder(first))),
            _ => tar.file(&path, layer.as_bytes()),
        };
    }
    let layers = (0..image.layers.len()).map(|at| format!("{}/layer.tar", folder(at)));
    let item = image.item(format!("{}.json", image.id().hex()), layers.collect());
    let (name, text) = named("manifest.json", &[item]);
    tar = tar.file(&name, &text);
    match repositories(image) {
        Some((name, text)) => tar.file(&name, &text),
        None => tar,
    }
}

/// Docker from 25 on, classic store: an OCI layout with a manifest that Docker makes up. `sources`: whether
/// manifest.json has `LayerSources`; 25.0 wrote neither those nor layers in the manifest.
pub fn docker28(image: &Image, sources: bool) -> Vec<(String, Vec<u8>)> {
    let kind = "application/vnd.oci.image.layer.v1.tar";
    let blob = |text: &str| (format!("blobs/sha256/{}", hex(text)), text.as_bytes().to_vec());
    let layer = |text: &&str| json!({"mediaType": kind, "size": text.len(), "digest": digest(text)});
    let layers: Vec<Value> = image.layers.iter().filter(|_| sources).map(layer).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": crate::images::OCI_MANIFEST, "layers": layers,
        "config": {"mediaType": crate::images::OCI_CONFIG, "digest": image.id(), "size": image.config.len()},
    });
    let manifest = manifest.to_string();
    let entry = |tag: &&str| {
        let name: sealift::oci::Reference = tag.parse().unwrap();
        json!({
            "mediaType": crate::images::OCI_MANIFEST, "digest": digest(&manifest), "size": manifest.len(),
            "annotations": {
                "io.containerd.image.name": name.full(), "org.opencontainers.image.ref.name": name.tag(),
            },
        })
    };
    let entries: Vec<Value> = image.tags.iter().map(entry).collect();
    // Go writes an empty list as null.
    let entries = Some(entries).filter(|entries| !entries.is_empty());
    let index = json!({"schemaVersion": 2, "mediaType": crate::images::OCI_INDEX, "manifests": entries});
    let mut item = image.item(
        blob(&image.config).0,
        image.layers.iter().map(|layer| blob(layer).0).collect(),
    );
    if sources {
        item["LayerSources"] = image
            .layers
            .iter()
            .map(|text| (digest(text).to_string(), layer(text)))
            .collect();
    }
    let mut files = vec![
        blob(&image.config),
        blob(&manifest),
        ("index.json".into(), index.to_string().into_bytes()),
        named("manifest.json", &[item]),
        (
            "oci-layout".into(),
            br#"{"imageLayoutVersion": "1.0.0"}"#.to_vec(),
        ),
    ];
    files.extend(image.layers.iter().map(|layer| blob(layer)));
    files.extend(repositories(image));
    sorted(files)
}

/// skopeo and podman: layers by diff id at the top, and links to them as Docker before 25 has layers.
pub fn skopeo(images: &[Image]) -> TarBuilder {
    let layer = |text: &str| format!("{}.tar", hex(text));
    let config = |image: &Image| format!("{}.json", image.id().hex());
    let mut files = Vec::new();
    let mut items = Vec::new();
    for image in images {
        files.extend(
            image
                .layers
                .iter()
                .map(|text| (layer(text), text.as_bytes().to_vec())),
        );
        files.push((config(image), image.config.clone().into_bytes()));
        items.push(image.item(
            config(image),
            image.layers.iter().map(|text| layer(text)).collect(),
        ));
    }
    let mut tar = TarBuilder::default().files(&sorted(files));
    for (at, image) in images.iter().enumerate() {
        for (below, text) in image.layers.iter().enumerate() {
            let folder = hex(&format!("{at} {below}"));
            tar = tar.symlink(&format!("{folder}/layer.tar"), &format!("../{}", layer(text)));
        }
    }
    let (name, text) = named("manifest.json", &items);
    tar.file(&name, &text)
}

/// Any tool that gives each image's config and layers paths of its own, and compresses layers or not.
pub fn plain(
    images: &[Image],
    config: fn(&Image) -> String,
    layer: fn(&str) -> (String, Vec<u8>),
) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut items = Vec::new();
    for image in images {
        files.push((config(image), image.config.clone().into_bytes()));
        files.extend(image.layers.iter().map(|text| layer(text)));
        let layers = image.layers.iter().map(|text| layer(text).0).collect();
        items.push(image.item(config(image), layers));
    }
    let mut files = sorted(files);
    files.push(named("manifest.json", &items));
    files
}

/// crane, ko, kaniko.
pub fn crane(images: &[Image]) -> Vec<(String, Vec<u8>)> {
    plain(
        images,
        |image| image.id().to_string(),
        |text| {
            let stored = gzip(text.as_bytes());
            (format!("{}.tar.gz", Digest::sha256(&stored).hex()), stored)
        },
    )
}

/// Bazel's rules_oci, in Docker's format.
pub fn rules_oci(images: &[Image]) -> Vec<(String, Vec<u8>)> {
    plain(
        images,
        |image| format!("blobs/sha256/{}", image.id().hex()),
        |text| {
            let stored = gzip(text.as_bytes());
            (
                format!("blobs/sha256/{}.tar.gz", Digest::sha256(&stored).hex()),
                stored,
            )
        },
    )
}

/// Bazel's rules_docker.
pub fn rules_docker(images: &[Image]) -> Vec<(String, Vec<u8>)> {
    plain(
        images,
        |image| format!("{}.json", image.id().hex()),
        |text| (format!("{}/layer.tar", hex(text)), text.into()),
    )
}

/// As Jib names its files, here with zstd, and with `./` in front of every path.
pub fn zstd_dotted(image: &Image) -> Vec<(String, Vec<u8>)> {
    plain(
        std::slice::from_ref(image),
        |_| "./config.json".into(),
        |text| (format!("./layers/{}.tar.zst", hex(text)), zstd(text.as_bytes())),
    )
}
