//! Media types of the OCI image specification and of Docker's schema 2.

use std::fmt;

/// A media type as a descriptor or document has it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct MediaType(String);

/// What a media type means to sealift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An OCI image index or Docker manifest list.
    Index,
    /// An OCI image manifest or Docker schema 2 manifest.
    Manifest,
    /// A Docker schema 1 manifest, which is refused: it has no config and no stable digest.
    Schema1,
    /// An image config.
    Config,
    /// A layer: a tar in this compression.
    Layer(Compression),
    /// Anything else: an artifact's content.
    Other,
}

/// How a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip, possibly of several members.
    Gzip,
    /// zstd, possibly of several frames.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "plain",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        })
    }
}

impl MediaType {
    /// `application/vnd.oci.image.config.v1+json`
    pub const OCI_CONFIG: &'static str = "application/vnd.oci.image.config.v1+json";
    /// `application/vnd.oci.empty.v1+json`: the config of an artifact that has none.
    pub const OCI_EMPTY: &'static str = "application/vnd.oci.empty.v1+json";
    /// `application/vnd.oci.image.layer.v1.tar+gzip`
    pub const OCI_LAYER_GZIP: &'static str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// `application/vnd.oci.image.layer.v1.tar+zstd`
    pub const OCI_LAYER_ZSTD: &'static str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// `application/vnd.oci.image.layer.v1.tar`
    pub const OCI_LAYER: &'static str = "application/vnd.oci.image.layer.v1.tar";
    /// `application/vnd.oci.image.index.v1+json`
    pub const OCI_INDEX: &'static str = "application/vnd.oci.image.index.v1+json";
    /// `application/vnd.oci.image.manifest.v1+json`
    pub const OCI_MANIFEST: &'static str = "application/vnd.oci.image.manifest.v1+json";
    /// `application/vnd.docker.distribution.manifest.list.v2+json`
    pub const DOCKER_LIST: &'static str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// `application/vnd.docker.distribution.manifest.v2+json`
    pub const DOCKER_MANIFEST: &'static str = "application/vnd.docker.distribution.manifest.v2+json";

    /// Makes a media type of text from outside, unchanged.
    pub fn new(text: impl Into<String>) -> MediaType {
        MediaType(text.into())
    }

    /// The text, unchanged.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What this media type means.
    pub fn kind(&self) -> Kind {
        match self.0.as_str() {
            Self::OCI_INDEX | Self::DOCKER_LIST => Kind::Index,
            Self::OCI_MANIFEST | Self::DOCKER_MANIFEST => Kind::Manifest,
            "application/vnd.docker.distribution.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v1+prettyjws" => Kind::Schema1,
            "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json" => {
                Kind::Config
            }
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Kind::Layer(Compression::None),
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Kind::Layer(Compression::Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Kind::Layer(Compression::Zstd),
            _ => Kind::Other,
        }
    }

    /// Whether this is a manifest or an index: a document that names other blobs.
    pub fn is_document(&self) -> bool {
        matches!(self.kind(), Kind::Index | Kind::Manifest)
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
