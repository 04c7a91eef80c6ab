//! The manifests that tools write for a config and gzip layers, byte for byte, without annotations.
//!
//! A manifest that nobody has any more is had again if one of these has its digest.
//!
//! Sources: manifests that the tools named here wrote; distribution `manifest/schema2`, buildkit `exporter/containerimage`,
//! go-containerregistry `pkg/v1/manifest.go`, containers/image `manifest/docker_schema2.go` and `manifest/oci.go`,
//! jib `image/json`.

use std::fmt::Write as _;

use crate::oci::{Digest, MediaType};

/// A blob that a manifest names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// Stored bytes.
    pub size: u64,
}

/// How a tool writes manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// Who writes so.
    pub users: &'static str,
    types: Types,
    /// What stands for one level of indentation; `None` if all is on one line.
    indent: Option<&'static str>,
    head: Head,
    order: Order,
}

/// Whose media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Types {
    Docker,
    Oci,
}

/// What comes before the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    SchemaThenType,
    TypeThenSchema,
    SchemaOnly,
}

/// What follows the media type in a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    SizeThenDigest,
    DigestThenSize,
}

/// A manifest that was had again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// What it was made by.
    pub template: &'static Template,
    /// Its media type.
    pub media_type: MediaType,
    /// Its stored bytes.
    pub bytes: Vec<u8>,
}

const fn template(
    users: &'static str,
    types: Types,
    indent: Option<&'static str>,
    head: Head,
    order: Order,
) -> Template {
    Template {
        users,
        types,
        indent,
        head,
        order,
    }
}

/// `docker push` from the classic store.
pub static DOCKER_PUSH: Template = template(
    "docker push",
    Types::Docker,
    Some("   "),
    Head::SchemaThenType,
    Order::SizeThenDigest,
);

/// The others, the likeliest first.
static OTHERS: [Template; 10] = {
    use Head::{SchemaOnly, SchemaThenType, TypeThenSchema};
    use Order::{DigestThenSize, SizeThenDigest};
    use Types::{Docker, Oci};
    [
        template("buildkit", Oci, Some("  "), SchemaThenType, DigestThenSize),
        template("buildkit", Docker, Some("  "), SchemaThenType, DigestThenSize),
        template(
            "buildkit before 0.11",
            Docker,
            Some("  "),
            TypeThenSchema,
            DigestThenSize,
        ),
        template(
            "buildkit before 0.11",
            Oci,
            Some("  "),
            TypeThenSchema,
            DigestThenSize,
        ),
        template(
            "go-containerregistry, podman, skopeo",
            Docker,
            None,
            SchemaThenType,
            SizeThenDigest,
        ),
        template("go-containerregistry", Oci, None, SchemaThenType, SizeThenDigest),
        template("podman, skopeo", Oci, None, SchemaThenType, DigestThenSize),
        template(
            "podman, skopeo before 2023",
            Oci,
            None,
            SchemaOnly,
            DigestThenSize,
        ),
        template("jib", Docker, None, SchemaThenType, DigestThenSize),
        template("containerd", Oci, Some("   "), SchemaThenType, DigestThenSize),
    ]
};

/// All templates, the likeliest first.
pub fn all() -> impl Iterator<Item = &'static Template> {
    std::iter::once(&DOCKER_PUSH).chain(&OTHERS)
}

/// The manifest of this digest, if one of the templates gives it.
pub fn find(expected: &Digest, config: Blob, layers: &[Blob]) -> Option<Rebuilt> {
    all().find_map(|template| {
        let bytes = template.write(config, layers).into_bytes();
        (expected.of_same_algorithm(&bytes) == *expected).then(|| Rebuilt {
            template,
            media_type: template.media_type(),
            bytes,
        })
    })
}

impl Template {
    /// The media type of the manifests.
    pub fn media_type(&self) -> MediaType {
        MediaType::new(self.manifest_type())
    }

    fn manifest_type(&self) -> &'static str {
        match self.types {
            Types::Docker => MediaType::DOCKER_MANIFEST,
            Types::Oci => MediaType::OCI_MANIFEST,
        }
    }

    /// Writes the manifest of a config and gzip layers, base first.
    pub fn write(&self, config: Blob, layers: &[Blob]) -> String {
        let (config_type, layer_type) = match self.types {
            Types::Docker => (
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            ),
            Types::Oci => (
                "application/vnd.oci.image.config.v1+json",
                "application/vnd.oci.image.layer.v1.tar+gzip",
            ),
        };
        let schema = ("schemaVersion", "2".to_string());
        let media_type = ("mediaType", format!("\"{}\"", self.manifest_type()));
        let mut fields = match self.head {
            Head::SchemaThenType => vec![schema, media_type],
            Head::TypeThenSchema => vec![media_type, schema],
            Head::SchemaOnly => vec![schema],
        };
        fields.push(("config", self.descriptor(1, config_type, config)));
        let layers: Vec<String> = layers
            .iter()
            .map(|layer| self.descriptor(2, layer_type, *layer))
            .collect();
        fields.push(("layers", self.listed(1, ['[', ']'], &layers)));
        self.object(0, &fields)
    }

    fn descriptor(&self, depth: usize, media_type: &str, blob: Blob) -> String {
        let size = ("size", blob.size.to_string());
        let digest = ("digest", format!("\"{}\"", blob.digest));
        let [second, third] = match self.order {
            Order::SizeThenDigest => [size, digest],
            Order::DigestThenSize => [digest, size],
        };
        self.object(
            depth,
            &[("mediaType", format!("\"{media_type}\"")), second, third],
        )
    }

    fn object(&self, depth: usize, fields: &[(&str, String)]) -> String {
        let colon = if self.indent.is_some() { ": " } else { ":" };
        let items: Vec<String> = fields
            .iter()
            .map(|(key, value)| format!("\"{key}\"{colon}{value}"))
            .collect();
        self.listed(depth, ['{', '}'], &items)
    }

    /// Items between brackets, as Go's `encoding/json` sets them.
    fn listed(&self, depth: usize, [open, close]: [char; 2], items: &[String]) -> String {
        let mut text = String::from(open);
        for (at, item) in items.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(text, "{comma}{}{item}", self.line(depth + 1));
        }
        if !items.is_empty() {
            text.push_str(&self.line(depth));
        }
        text.push(close);
        text
    }

    /// The beginning of a line.
    fn line(&self, depth: usize) -> String {
        self.indent
            .map_or_else(String::new, |indent| format!("\n{}", indent.repeat(depth)))
    }
}
