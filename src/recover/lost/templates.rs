//! The manifests that tools write for a config and gzip layers, byte for byte, without annotations.
//!
//! A lost manifest is recovered when one of these templates reproduces its digest.
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
    /// The tools that write it.
    pub users: &'static str,
    types: Types,
    /// One level of indentation; `None` if everything is on one line.
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

/// A rebuilt manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The template that wrote it.
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
static OTHERS: [Template; 12] = {
    use Head::{SchemaOnly, SchemaThenType, TypeThenSchema};
    use Order::{DigestThenSize, SizeThenDigest};
    use Types::{Docker, Oci};
    const BUILDKIT: &str = "buildkit";
    const OLDER_BUILDKIT: &str = "older buildkit";
    const GO_CONTAINERREGISTRY: &str = "go-containerregistry: crane, ko, kaniko";
    const COMPACT: &str = "go-containerregistry: crane, ko, kaniko; containers/image: skopeo, podman";
    const CONTAINERS_IMAGE: &str = "containers/image: skopeo, podman";
    [
        template(BUILDKIT, Oci, Some("  "), SchemaThenType, DigestThenSize),
        template(BUILDKIT, Docker, Some("  "), SchemaThenType, DigestThenSize),
        template(OLDER_BUILDKIT, Docker, Some("  "), TypeThenSchema, DigestThenSize),
        template(OLDER_BUILDKIT, Oci, Some("  "), TypeThenSchema, DigestThenSize),
        template(
            OLDER_BUILDKIT,
            Docker,
            Some("   "),
            TypeThenSchema,
            DigestThenSize,
        ),
        template(OLDER_BUILDKIT, Oci, Some("   "), TypeThenSchema, DigestThenSize),
        template(COMPACT, Docker, None, SchemaThenType, SizeThenDigest),
        template(GO_CONTAINERREGISTRY, Oci, None, SchemaThenType, SizeThenDigest),
        template(CONTAINERS_IMAGE, Oci, None, SchemaThenType, DigestThenSize),
        template(CONTAINERS_IMAGE, Oci, None, SchemaOnly, DigestThenSize),
        template("jib", Docker, None, SchemaThenType, DigestThenSize),
        template(
            "nerdctl commit",
            Docker,
            Some("    "),
            TypeThenSchema,
            DigestThenSize,
        ),
    ]
};

/// All templates, the likeliest first.
pub fn all() -> impl Iterator<Item = &'static Template> {
    std::iter::once(&DOCKER_PUSH).chain(&OTHERS)
}

/// The manifest with this digest, if one of the templates reproduces it.
pub fn find(expected: &Digest, config: Blob, layers: &[Blob]) -> Option<Rebuilt> {
    all().find_map(|template| {
        let bytes = template.write(config, layers).into_bytes();
        (expected.of_same_algorithm(&bytes) == *expected).then(|| Rebuilt::new(template, bytes))
    })
}

impl Rebuilt {
    pub(super) fn new(template: &'static Template, bytes: Vec<u8>) -> Rebuilt {
        Rebuilt {
            template,
            media_type: template.media_type(),
            bytes,
        }
    }
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

    /// Items between brackets, formatted like Go's `encoding/json`.
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

    /// The start of a line.
    fn line(&self, depth: usize) -> String {
        self.indent
            .map_or_else(String::new, |indent| format!("\n{}", indent.repeat(depth)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::oci::{Descriptor, Document};

    fn blob(of: &Descriptor) -> Blob {
        Blob {
            digest: of.digest,
            size: of.size,
        }
    }

    /// Finds the template of a manifest, by its parsed content.
    fn found(bytes: &[u8], media_type: &str) -> Option<Rebuilt> {
        let parsed = Document::parse(&MediaType::new(media_type), bytes.to_vec()).unwrap();
        let Document::Manifest(manifest) = parsed else {
            panic!("an index");
        };
        let layers: Vec<Blob> = manifest.layers.iter().map(blob).collect();
        find(&Digest::sha256(bytes), blob(&manifest.config), &layers)
    }

    #[test]
    fn manifests_that_real_tools_wrote() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/manifests");
        let (docker, oci) = (MediaType::DOCKER_MANIFEST, MediaType::OCI_MANIFEST);
        let expected = [
            // docker push of 20.10
            (
                "4bb5adad38fb04b7cd27832518f238a9f97b2c1cd4c538ffd8d69c21deb14d32",
                "docker push",
                docker,
            ),
            // skopeo copy of 1.9 and 1.22, to OCI and to Docker's types
            (
                "20ed79eaa12598a3ebf98b270cc3a7e78d10cdc37445a84de819486ae05c9d57",
                "containers/image: skopeo, podman",
                oci,
            ),
            (
                "dcb4187f98538c835a53dbaf5819ae036fcdec32b68ef9ec936ec0e804dc2897",
                "go-containerregistry: crane, ko, kaniko; containers/image: skopeo, podman",
                docker,
            ),
            // crane append of 0.20, to both
            (
                "5298d4ac725fe21539ba55c8f7f0e909609963fe7467724128d836509c7c2406",
                "go-containerregistry: crane, ko, kaniko; containers/image: skopeo, podman",
                docker,
            ),
            (
                "c912e47c57bff10126df9d6b620d711484b36afc39ce048cce4752f4f2cec894",
                "go-containerregistry: crane, ko, kaniko",
                oci,
            ),
        ];
        for (digest, users, media_type) in expected {
            let bytes = std::fs::read(folder.join(format!("{digest}.json"))).unwrap();
            assert_eq!(Digest::sha256(&bytes).hex(), digest);
            let found = found(&bytes, media_type).unwrap();
            assert_eq!((found.template.users, &found.bytes), (users, &bytes));
            assert_eq!(found.media_type.as_str(), media_type);
        }
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), expected.len());
    }

    #[test]
    fn no_two_templates_write_the_same_and_all_can_be_read() {
        let one = |text: &[u8], size| Blob {
            digest: Digest::sha256(text),
            size,
        };
        for layers in [
            vec![],
            vec![one(b"a", 1)],
            vec![one(b"a", 1), one(b"b", u64::MAX >> 1)],
        ] {
            let mut written = Vec::new();
            for template in all() {
                let text = template.write(one(b"config", 7), &layers);
                assert!(!written.contains(&text), "{text}");
                let back = found(text.as_bytes(), template.media_type().as_str()).unwrap();
                assert_eq!(back.template, template);
                written.push(text);
            }
        }
    }

    #[test]
    fn what_no_template_gives_is_not_found() {
        let config = Blob {
            digest: Digest::sha256(b"config"),
            size: 7,
        };
        let mut text = DOCKER_PUSH.write(config, &[config]);
        assert!(find(&Digest::sha256(text.as_bytes()), config, &[config]).is_some());
        text.push('\n');
        assert!(find(&Digest::sha256(text.as_bytes()), config, &[config]).is_none());
    }

    #[test]
    fn buildkits_layout() {
        let digest = Digest::sha256(b"x");
        let blob = Blob { digest, size: 5 };
        let text = OTHERS[3].write(blob, &[blob]);
        let expected = format!(
            r#"{{
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "schemaVersion": 2,
  "config": {{
    "mediaType": "application/vnd.oci.image.config.v1+json",
    "digest": "{digest}",
    "size": 5
  }},
  "layers": [
    {{
      "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
      "digest": "{digest}",
      "size": 5
    }}
  ]
}}"#
        );
        assert_eq!(text, expected);
    }
}
