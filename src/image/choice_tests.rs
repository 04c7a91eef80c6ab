use super::*;
use crate::error::Error;
use crate::image::Graph;
use crate::image::testing::Store;
use crate::oci::PlatformSelection;
use crate::oci::testing::{TestBlob, TestImage, index};

const ACME: &str = "application/vnd.acme.config+json";

impl Store {
    /// An entry in words: `PLATFORM NAME [CONFIG]`. The platform is that of the index or `-`, and images differ
    /// by their names. A config is `acme`, `empty` or `unknown`, or a platform. `attests` is an attestation of
    /// buildkit.
    fn entry(&mut self, text: &str) -> Descriptor {
        let words: Vec<&str> = text.split(' ').collect();
        let [platform, name, rest @ ..] = words.as_slice() else {
            panic!("{text}");
        };
        let config = rest.iter().copied().find(|word| *word != "attests");
        let (os, architecture, variant) = match config.unwrap_or(platform) {
            "-" | "acme" | "empty" => ("linux", "amd64", None),
            "unknown" => ("unknown", "unknown", None),
            other => {
                let mut parts = other.split('/');
                let os = parts.next().filter(|os| !os.is_empty()).unwrap_or("linux");
                (os, parts.next().unwrap(), parts.next())
            }
        };
        let config_type = match config {
            Some("acme") => ACME,
            Some("empty") => MediaType::OCI_EMPTY,
            _ => MediaType::OCI_CONFIG,
        };
        let version = platform.split_once('@').map(|(_, version)| version);
        let platform = platform.split('@').next().unwrap();
        let image = TestImage::new()
            .platform(&Platform {
                os: os.split('@').next().unwrap().into(),
                architecture: architecture.split('@').next().unwrap().into(),
                variant: variant.map(Into::into),
                os_version: None,
                os_features: Vec::new(),
            })
            .author(name)
            .config_media_type(config_type);
        let mut entry = self.add_image(&image);
        if platform != "-" {
            let mut parts = platform.split('/');
            entry.platform = Some(Platform {
                os: parts.next().unwrap().into(),
                architecture: parts.next().unwrap().into(),
                variant: parts.next().map(Into::into),
                os_version: version.map(Into::into),
                os_features: Vec::new(),
            });
        }
        if rest.contains(&"attests") {
            let of = Digest::sha256(b"image").to_string();
            let kind = "vnd.docker.reference.type".to_string();
            entry.annotations.insert(kind, "attestation-manifest".into());
            entry.annotations.insert("vnd.docker.reference.digest".into(), of);
        }
        entry
    }

    /// Entries, comma-separated; those in brackets are in an index of their own.
    fn index_of(&mut self, text: &str) -> Descriptor {
        let mut manifests = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = match rest.strip_prefix('[') {
                Some(inner) => {
                    let end = inner.find(']').unwrap();
                    manifests.push(self.index_of(&inner[..end]));
                    end + 2
                }
                None => {
                    let end = rest.find(", ").unwrap_or(rest.len());
                    manifests.push(self.entry(&rest[..end]));
                    end
                }
            };
            rest = rest[end..].trim_start_matches(", ");
        }
        self.add(index(&manifests))
    }

    /// The name of the image that an engine takes for amd64, or why the index is refused.
    fn chosen(&self, root: &Descriptor, platforms: &str) -> String {
        let graph = Graph::walk(root, &PlatformSelection::Present, &mut |descriptor| {
            Ok(self.0.get(&descriptor.digest).cloned())
        });
        let platforms: Vec<Platform> = platforms.split(' ').map(|text| text.parse().unwrap()).collect();
        match graph {
            Ok(graph) => match graph.image_for(&platforms) {
                Some(image) => {
                    let config: serde_json::Value =
                        serde_json::from_slice(image.config_raw.as_deref().unwrap()).unwrap();
                    config["author"].as_str().unwrap().into()
                }
                None => "none".into(),
            },
            Err(Error::Refused(finding)) => finding.problem.code().into(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn an_index_is_read_as_engines_read_it() {
    const TWO: &str = "platform-of-two-images";
    const NO: &str = "platform-of-no-image";
    for (entries, expected) in [
        ("linux/amd64 a", "a"),
        ("linux/amd64 a, linux/amd64 a", "a"),
        ("linux/amd64 a, linux/arm64 b", "a"),
        // Some engines prefer an entry with a platform or one that is not nested, others take the first.
        ("- a, linux/amd64 b", TWO),
        ("[linux/amd64 a], linux/amd64 b", TWO),
        ("- a, - b linux/arm64, linux/amd64 c", TWO),
        // Or they prefer an image for a platform that they accept in place of their own.
        ("- a, linux/386 b", TWO),
        ("linux/386 b, - a", TWO),
        ("- a linux/386, - b", TWO),
        ("[linux/amd64 a], linux/386 b", TWO),
        ("- a linux/arm64, linux/arm/v7 b", TWO),
        ("- a linux/arm/v7, linux/arm/v6 b", TWO),
        ("- a, linux/386 x acme", NO),
        ("- a, - b linux/386", "a"),
        ("- a linux/386, linux/amd64 b", "b"),
        ("linux/amd64 a, linux/386 b", "a"),
        ("- a, linux/386 a linux/amd64", "a"),
        ("- a linux/arm64, - b", "b"),
        ("[linux/arm64 a], [linux/amd64 b]", "b"),
        ("/amd64 a", "a"),
        ("/amd64 a, - b", TWO),
        ("/ a linux/amd64, linux/amd64 b", TWO),
        // Equal platforms, and different ones.
        ("linux/amd64 a, linux/amd64 b", TWO),
        ("linux/amd64 a, linux/x86_64 b", TWO),
        ("linux/amd64 a, linux/amd64/v1 b", TWO),
        ("linux/amd64 a, Linux/AMD64 b", TWO),
        ("linux/amd64 a, linux/amd64@1 b", TWO),
        ("linux/amd64 a, /amd64 b", TWO),
        ("linux/arm64 a, linux/arm64/v8 b", TWO),
        ("- a, - b", TWO),
        ("/ a linux/amd64, - b", TWO),
        ("[- a], - b", TWO),
        ("[linux/amd64 a], - b", TWO),
        ("[linux/amd64 a], [linux/amd64 b]", TWO),
        ("linux/arm64 c, - a, - b", TWO),
        ("linux/amd64 c, - a, - b", TWO),
        // Variants, and versions of Windows, differ.
        ("linux/amd64 a, linux/amd64/v3 b", "a"),
        ("linux/arm/v6 a, linux/arm/v7 b", "none"),
        ("windows/amd64@10.1 a, windows/amd64@10.2 b, linux/amd64 c", "c"),
        ("windows/amd64@10.1 a, windows/amd64@10.1 b", TWO),
        // Not an image.
        ("linux/amd64 x acme, linux/amd64 a", NO),
        ("linux/amd64 x acme, - a", NO),
        ("linux/amd64 x acme, [linux/amd64 a]", NO),
        ("linux/amd64 x empty, linux/amd64 a", NO),
        ("linux/amd64/v3 x acme, linux/amd64 a", NO),
        ("linux/amd64 x linux/amd64 attests, linux/amd64 a", TWO),
        ("- x acme, - a", NO),
        ("[- x acme], - a", NO),
        ("linux/amd64 a, linux/amd64 x acme", "a"),
        ("- x acme, linux/amd64 a", NO),
        ("- x acme, [linux/amd64 a]", NO),
        ("- x empty, - a", "a"),
        ("- a, - x acme", "a"),
        ("[linux/amd64 x acme], linux/amd64 a", NO),
        ("linux/arm64 x acme, linux/amd64 a", "a"),
        ("wasi/wasm x acme, linux/amd64 a", "a"),
        ("linux/amd64 a, unknown/unknown x unknown attests", "a"),
        ("unknown/unknown x unknown attests, - a", "a"),
        ("- x unknown attests, - a", "a"),
        ("linux/amd64 x acme, linux/arm64 y acme", "none"),
        ("linux/amd64 x acme, linux/386 a", "none"),
    ] {
        let mut store = Store::default();
        let index = store.index_of(entries);
        assert_eq!(
            store.chosen(&index, "linux/amd64 linux/386"),
            expected,
            "{entries}"
        );
    }
}

#[test]
fn one_image_for_many_platforms_is_no_contest() {
    let mut store = Store::default();
    let image = store.entry("- data linux/amd64");
    let said = |text: &str| Descriptor {
        platform: Some(text.parse().unwrap()),
        ..image.clone()
    };
    let entries = [said("linux/arm64"), said("linux/amd64"), image.clone()];
    let index = store.add(index(&entries));
    for platform in ["linux/arm64", "linux/amd64"] {
        assert_eq!(store.chosen(&index, platform), "data", "{platform}");
    }
}

#[test]
fn indexes_that_share_indexes_are_looked_at_once() {
    let mut store = Store::default();
    let mut inner = store.index_of("linux/amd64 a, linux/arm64 b");
    for level in 0..6 {
        let again: Vec<Descriptor> = (0..100).map(|_| inner.clone()).collect();
        let index = serde_json::json!({"schemaVersion": 2, "manifests": again, "annotations": {"n": level.to_string()}});
        inner = store.add(TestBlob::json(MediaType::OCI_INDEX, &index));
    }
    assert_eq!(store.chosen(&inner, "linux/amd64"), "a");
    assert_eq!(store.chosen(&inner, "linux/s390x"), "none");
}
