//! What is in an archive, for a report.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::fs::MetadataExt as _;

use sealift::archive::{Graphs, Layout};
use sealift::image::provenance::Provenance;
use sealift::image::{Graph, Image, NamedImage, Overview};
use sealift::oci::{Digest, Referrer};

/// The labels and annotations that say where an image comes from.
const LABELS: [&str; 9] = [
    "title", "version", "created", "revision", "source", "url", "vendor", "licenses", "ref.name",
];
/// What stands before them.
const PREFIX: &str = "org.opencontainers.image.";
/// Characters of a label that are shown.
const MAX_LABEL: usize = 300;

/// A file of an archive.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ArchiveFile {
    /// Its path as it was given.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
}

/// The parts of an image.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Contents {
    /// Digest of its index or manifest here, which may be a substitute.
    pub root: Digest,
    /// Its names.
    pub names: Vec<String>,
    /// Digest of the index, if there is one.
    pub index: Option<Digest>,
    /// Stored bytes of its blobs.
    pub size: u64,
    /// Number of different layers.
    pub layers: usize,
    /// Its type, if it is an artifact.
    pub artifact: Option<String>,
    /// One for each platform that is present.
    pub manifests: Vec<Variant>,
    /// Where its manifest and layers came from, as the archive says.
    pub origin: Option<String>,
}

/// One platform's image, or an artifact.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Variant {
    /// Its platform.
    pub platform: Option<String>,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Digest of the config: the image id in Docker's classic store.
    pub config: Digest,
    /// Base first.
    pub layers: Vec<Layer>,
    /// Where it comes from, according to its builder.
    pub labels: BTreeMap<String, String>,
}

/// A layer.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Layer {
    /// Digest of its stored form.
    pub digest: Digest,
    /// Stored bytes.
    pub size: u64,
    /// In which form it is here.
    pub form: Form,
}

/// In which form a layer is in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// As a registry has it.
    Stored,
    /// Only uncompressed.
    Uncompressed,
    /// The archive declares to leave it out.
    LeftOut,
    /// Not at all.
    Missing,
}

impl Form {
    /// What is remarkable about it, for people.
    pub fn remark(self) -> Option<&'static str> {
        match self {
            Form::Stored => None,
            Form::Uncompressed => Some("only uncompressed"),
            Form::LeftOut => Some("left out"),
            Form::Missing => Some("missing"),
        }
    }
}

/// A manifest that refers to another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Reference {
    /// Its type, such as `signature`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its digest.
    pub digest: Digest,
    /// Digest of the manifest or index that it refers to.
    pub subject: Digest,
}

/// The files of an archive. None of a folder, of standard input, and of an archive that was decompressed.
pub fn files(layout: &dyn Layout) -> Vec<ArchiveFile> {
    let mut files: BTreeMap<String, u64> = BTreeMap::new();
    let blobs = layout.blobs();
    let stored = blobs.iter().filter_map(|digest| layout.stored(digest));
    // A folder has a file for each blob.
    for extent in stored
        .filter(|stored| stored.offset.is_some())
        .flat_map(|stored| &stored.extents)
    {
        let path = extent.path.display().to_string();
        if !files.contains_key(&path)
            && let Ok(meta) = extent.file.metadata()
            && meta.nlink() > 0
        {
            files.insert(path, meta.len());
        }
    }
    files
        .into_iter()
        .map(|(path, size)| ArchiveFile { path, size })
        .collect()
}

/// The different images of an archive, and what refers to other manifests. Names of one image share its contents. An image
/// whose documents cannot be read is not among them.
pub fn contents(layout: &dyn Layout) -> (Vec<Contents>, BTreeSet<Reference>) {
    let mut graphs = Graphs::new(layout);
    let mut images: Vec<Contents> = Vec::new();
    let mut known: HashSet<Digest> = HashSet::new();
    let mut references = BTreeSet::new();
    for entry in layout.entries() {
        let root = entry.descriptor.digest;
        let tag = entry.reference.as_ref().and_then(|name| name.tag());
        if let Some((kind, subject)) = tag.or(entry.bare_tag.as_deref()).and_then(Referrer::of_tag) {
            references.insert(Reference {
                kind: kind.into(),
                digest: root,
                subject,
            });
        }
        if !known.insert(root) {
            continue;
        }
        let Ok(named) = graphs.named(entry) else {
            continue;
        };
        references.extend(referring(&named.graph));
        references.extend(named.referrers.iter().map(|referrer| Reference {
            kind: match referrer.tag.as_deref().and_then(Referrer::of_tag) {
                Some((kind, _)) => kind.into(),
                None => referrer.told_type().into(),
            },
            digest: referrer.digest(),
            subject: referrer.subject,
        }));
        images.push(Contents::of(layout, &named));
    }
    (images, references)
}

/// What in a graph refers to other manifests.
fn referring(graph: &Graph) -> impl Iterator<Item = Reference> {
    let indexes = graph.indexes.iter().map(|(at, index)| (at.digest, &index.raw));
    let manifests = graph
        .images
        .iter()
        .map(|image| (image.descriptor.digest, &image.manifest.raw));
    let referrers = indexes.chain(manifests).filter_map(|(digest, raw)| {
        Some(Reference {
            subject: Referrer::subject(raw)?,
            kind: Referrer::artifact_type(raw).unwrap_or_else(|| "unknown".into()),
            digest,
        })
    });
    let attestations = graph.images.iter().filter_map(|image| {
        Some(Reference {
            kind: "attestation".into(),
            digest: image.descriptor.digest,
            subject: image.descriptor.attests()?.parse().ok()?,
        })
    });
    referrers.chain(attestations)
}

impl Contents {
    fn of(layout: &dyn Layout, image: &NamedImage) -> Contents {
        let overview = Overview::of(image);
        let variants = image.graph.variants();
        let variants = variants.map(|variant| Variant::of(layout, variant, &image.provenance));
        Contents {
            root: image.graph.root.digest,
            names: Vec::new(),
            index: overview.index,
            size: overview.size,
            layers: overview.layers,
            artifact: overview.artifact_type,
            manifests: variants.collect(),
            origin: image.provenance.origins.as_ref().map(ToString::to_string),
        }
    }
}

impl Variant {
    fn of(layout: &dyn Layout, image: &Image, provenance: &Provenance) -> Variant {
        let form = |digest: &Digest| match layout.stored(digest) {
            _ if provenance.uncompressed.contains_key(digest) => Form::Uncompressed,
            Some(_) => Form::Stored,
            None if layout.omitted().layers.contains(digest) => Form::LeftOut,
            None => Form::Missing,
        };
        let layers = image.manifest.layers.iter();
        let is_runnable = image.is_runnable();
        Variant {
            platform: image.platform().filter(|_| is_runnable).map(ToString::to_string),
            digest: image.descriptor.digest,
            config: image.id(),
            layers: layers
                .map(|layer| Layer {
                    digest: layer.digest,
                    size: layer.size,
                    form: form(&layer.digest),
                })
                .collect(),
            labels: labels(image),
        }
    }
}

/// The labels of a config, the annotations of a manifest, and when the config says that it was made. Labels win.
fn labels(image: &Image) -> BTreeMap<String, String> {
    #[derive(Default, serde::Deserialize)]
    struct Fields {
        created: Option<String>,
        config: Option<Inner>,
    }
    #[derive(Default, serde::Deserialize)]
    struct Inner {
        #[serde(rename = "Labels")]
        labels: Option<BTreeMap<String, String>>,
    }
    let config = image.config_raw.as_deref().map(serde_json::from_slice);
    let config: Fields = config.and_then(std::result::Result::ok).unwrap_or_default();
    let labels = config.config.and_then(|config| config.labels).unwrap_or_default();
    let mut found = BTreeMap::new();
    for name in LABELS {
        let key = format!("{PREFIX}{name}");
        let value = labels.get(&key).or_else(|| image.manifest.annotations.get(&key));
        if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
            found.insert(name.to_string(), shortened(value));
        }
    }
    if let Some(created) = config.created {
        found
            .entry("created".into())
            .or_insert_with(|| shortened(&created));
    }
    found
}

fn shortened(text: &str) -> String {
    let mut chars = text.chars();
    let shown: String = chars.by_ref().take(MAX_LABEL).collect();
    match chars.next() {
        Some(_) => format!("{shown}..."),
        None => shown,
    }
}
