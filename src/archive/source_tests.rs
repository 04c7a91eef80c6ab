use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::archive;
use crate::error::{Error, ErrorKind};
use crate::image::Graph;
use crate::image::provenance::Evidence;
use crate::oci::testing::{self, TestBlob, TestImage};
use crate::oci::{Platform, PlatformSelection};

const NAME: &str = "io.containerd.image.name";
const REF: &str = "org.opencontainers.image.ref.name";

/// A layout folder as tools write it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        fs::create_dir_all(folder.0.path().join("blobs/sha256")).unwrap();
        fs::write(
            folder.0.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        folder
    }

    fn blob(&self, blob: TestBlob) -> Descriptor {
        fs::write(self.path(&blob.descriptor.digest), blob.bytes).unwrap();
        blob.descriptor
    }

    fn path(&self, digest: &Digest) -> std::path::PathBuf {
        self.0.path().join("blobs/sha256").join(digest.hex())
    }

    fn image(&self, layer: &str, architecture: &str) -> Descriptor {
        let platform = Platform::linux(architecture, None);
        let image = TestImage::new().platform(&platform).layer(layer);
        for blob in image.blobs() {
            self.blob(blob);
        }
        image.entry()
    }

    fn index(&self, manifests: &[Descriptor]) -> Descriptor {
        self.blob(testing::index(manifests))
    }

    fn source(&self, entries: &[(&Descriptor, Value)]) -> Result<ArchiveSource> {
        let manifests: Vec<Value> = entries
            .iter()
            .map(|(descriptor, annotations)| {
                let mut entry = serde_json::to_value(descriptor).unwrap();
                entry["annotations"] = annotations.clone();
                entry
            })
            .collect();
        let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        fs::write(self.0.path().join("index.json"), index).unwrap();
        open(self.0.path())
    }
}

fn open(path: &Path) -> Result<ArchiveSource> {
    ArchiveSource::new(archive::open(
        &[path.to_path_buf()],
        &archive::Options::default(),
    )?)
}

fn resolve(source: &ArchiveSource, name: &str) -> Result<Digest> {
    source
        .resolve(&name.parse().unwrap())
        .map(|descriptor| descriptor.digest)
}

#[test]
fn names_as_each_tool_writes_them() {
    let folder = Folder::new();
    let (a, b) = (folder.image("a", "amd64"), folder.image("b", "amd64"));
    // The annotations of an entry, and the references that find it.
    for (tool, annotations, finds, misses) in [
        (
            "sealift, containerd",
            json!({NAME: "docker.io/library/app:1", REF: "docker.io/library/app:1"}),
            &["app:1", "docker.io/library/app:1"][..],
            &["app", "quay.io/library/app:1", "other:1"][..],
        ),
        (
            "buildx -t, ctr",
            json!({NAME: "docker.io/library/app:1", REF: "1"}),
            &["app:1"],
            &["other:1", "app:2"],
        ),
        (
            "podman",
            json!({REF: "localhost/app:latest"}),
            &["localhost/app"],
            &["app", "localhost/app:1"],
        ),
        (
            "skopeo oci:DIR:TAG, oras",
            json!({REF: "1"}),
            &["app:1", "quay.io/any/thing:1"],
            &["app", "app:2"],
        ),
        (
            "skopeo oci-archive:FILE, crane, buildx without -t",
            json!({}),
            &["app:1", "app", "quay.io/any/thing:2"],
            &[],
        ),
    ] {
        let alone = folder.source(&[(&a, annotations.clone())]).unwrap();
        for name in finds {
            assert_eq!(resolve(&alone, name).unwrap(), a.digest, "{tool}: {name}");
        }
        for name in misses {
            let error = resolve(&alone, name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{tool}: {name}");
            assert!(
                error
                    .hint()
                    .is_some_and(|hint| hint.to_string().starts_with("it holds ")),
                "{tool}: {name}"
            );
        }
        // By digest, whatever its name.
        assert_eq!(
            resolve(&alone, &format!("some/thing@{}", a.digest)).unwrap(),
            a.digest,
            "{tool}"
        );
        assert_eq!(
            resolve(&alone, &format!("app:1@{}", b.digest))
                .unwrap_err()
                .kind(),
            ErrorKind::NotFound,
            "{tool}"
        );
        // Beside another image, only its own name finds it.
        let other = json!({REF: "docker.io/library/zzz:9"});
        let beside = folder.source(&[(&b, other), (&a, annotations.clone())]).unwrap();
        let found = resolve(&beside, finds[0]);
        if annotations == json!({}) {
            assert!(
                found
                    .unwrap_err()
                    .hint()
                    .unwrap()
                    .to_string()
                    .contains("without a name"),
                "{tool}"
            );
        } else {
            assert_eq!(found.unwrap(), a.digest, "{tool}");
        }
        assert_eq!(resolve(&beside, "zzz:9").unwrap(), b.digest);
    }
}

#[test]
fn a_name_of_two_images_is_not_guessed() {
    let folder = Folder::new();
    let (a, b) = (folder.image("a", "amd64"), folder.image("b", "amd64"));
    let name = json!({REF: "docker.io/library/app:1"});
    let refused = folder
        .source(&[(&a, name.clone()), (&b, name.clone())])
        .err()
        .unwrap();
    assert_eq!(refused.kind(), ErrorKind::Content, "{refused}");
    // Several entries may have the same bare tag.
    let tag = json!({REF: "1"});
    let source = folder.source(&[(&a, tag.clone()), (&b, tag)]).unwrap();
    let error = resolve(&source, "app:1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains(&b.digest.to_string()), "{error}");
    assert_eq!(resolve(&source, &format!("app@{}", b.digest)).unwrap(), b.digest);
    let source = folder.source(&[(&a, name.clone()), (&a, name)]).unwrap();
    assert_eq!(resolve(&source, "app:1").unwrap(), a.digest);
    assert_eq!(source.list().unwrap().references, ["app:1".parse().unwrap()]);
    let source = folder.source(&[(&a, json!({})), (&b, json!({}))]).unwrap();
    assert_eq!(resolve(&source, "app:1").unwrap_err().kind(), ErrorKind::NotFound);
    let mut nameless = [&a, &b].map(|image| Reference::nameless(image.digest));
    nameless.sort();
    assert_eq!(source.list().unwrap().references, nameless);
}

#[test]
fn an_image_without_a_name_is_had_by_its_digest() {
    let folder = Folder::new();
    let (a, b) = (folder.image("a", "amd64"), folder.image("b", "amd64"));
    let recorded = Digest::sha256(b"recorded");
    let name = json!({REF: "docker.io/library/app:1", "dev.sealift.recorded": recorded});
    let source = folder
        .source(&[(&a, name), (&b, json!({})), (&b, json!({REF: "1"}))])
        .unwrap();
    let nameless = |digest| Reference::nameless(digest);
    assert_eq!(
        source.list().unwrap().references,
        [nameless(b.digest), "app:1".parse().unwrap()]
    );
    let save = |references: &[Reference], target: &Path| {
        crate::save::save(
            &source,
            references,
            &crate::save::Options::default(),
            crate::save::Output::File(target),
            &crate::progress::Silent,
            &crate::interrupt::Interrupt::default(),
        )
    };
    let target = folder.0.path().join("sub.tar");
    let saved = save(&[nameless(a.digest), nameless(b.digest)], &target).unwrap();
    let told = |image: &crate::save::Saved| (image.reference.clone(), image.digest, image.evidence);
    let mut told: Vec<_> = saved.images.iter().map(told).collect();
    told.sort_by_key(|(reference, ..)| *reference != nameless(a.digest));
    assert_eq!(
        told,
        [
            // A recorded digest belongs to a name.
            (nameless(a.digest), None, Evidence::None),
            (nameless(b.digest), Some(b.digest), Evidence::Verified),
        ]
    );
    let json = serde_json::to_value(&saved.images).unwrap();
    assert_eq!((&json[0]["name"], &json[1]["name"]), (&Value::Null, &Value::Null));
    let again = archive::open(&[target], &archive::Options::default()).unwrap();
    assert!(again.entries().iter().all(|entry| entry.reference.is_none()));
    assert!(!String::from_utf8_lossy(again.index()).contains(&recorded.to_string()));
    let error = save(&[nameless(recorded)], &folder.0.path().join("none.tar")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.hint().unwrap().to_string().contains("app:1"), "{error:?}");
}

#[test]
fn a_sparse_index_gives_what_is_there_and_says_what_is_not() {
    let folder = Folder::new();
    let (amd64, arm64) = (folder.image("a", "amd64"), folder.image("b", "arm64"));
    let index = folder.index(&[amd64.clone(), arm64.clone()]);
    let nested = folder.index(std::slice::from_ref(&index));
    fs::remove_file(folder.path(&arm64.digest)).unwrap();
    let source = folder.source(&[(&nested, json!({}))]).unwrap();
    assert_eq!(
        resolve(&source, &format!("app@{}", amd64.digest)).unwrap(),
        amd64.digest,
        "two indexes down"
    );
    let walk = |selection: &PlatformSelection| {
        Graph::walk(&index, selection, &mut |descriptor| {
            source
                .metadata("app".parse().as_ref().unwrap(), descriptor)
                .map(Some)
        })
    };
    assert_eq!(walk(&"linux/amd64".parse().unwrap()).unwrap().images.len(), 1);
    let error = walk(&"linux/arm64".parse().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("linux/arm64"), "{error}");
    // Everything that is present.
    let present = crate::save::Options {
        platforms: Some(PlatformSelection::Present),
        ..crate::save::Options::default()
    };
    let target = folder.0.path().join("sub.tar");
    let saved = crate::save::save(
        &source,
        &["app:1".parse().unwrap()],
        &present,
        crate::save::Output::File(&target),
        &crate::progress::Silent,
        &crate::interrupt::Interrupt::default(),
    )
    .unwrap();
    assert_eq!(saved.images[0].platforms, [Platform::linux("amd64", None)]);
    assert_eq!(saved.images[0].digest, Some(nested.digest));
    let again = open(&target).unwrap();
    assert_eq!(resolve(&again, "app:1").unwrap(), nested.digest);
}

#[test]
fn wrong_content_is_the_archives_fault_and_not_asked_for_twice() {
    let save = |source: &ArchiveSource| {
        let mut bytes = Vec::new();
        crate::save::save(
            source,
            &["app:1".parse().unwrap()],
            &crate::save::Options {
                platforms: Some(PlatformSelection::All),
                ..crate::save::Options::default()
            },
            crate::save::Output::Stream(Path::new("-"), &mut bytes),
            &crate::progress::Silent,
            &crate::interrupt::Interrupt::default(),
        )
    };
    let layer = Digest::sha256(b"layer");
    type Corruption = fn(&Path);
    let corruptions: [(&str, Corruption); 4] = [
        ("digest-differs", |path| fs::write(path, "lAyer").unwrap()),
        ("size-differs", |path| fs::write(path, "lay").unwrap()),
        ("size-differs", |path| fs::write(path, "layers").unwrap()),
        ("missing", |path| fs::remove_file(path).unwrap()),
    ];
    for (code, corrupt) in corruptions {
        let folder = Folder::new();
        let image = folder.image("layer", "amd64");
        corrupt(&folder.path(&layer));
        let source = folder.source(&[(&image, json!({}))]).unwrap();
        let started = std::time::Instant::now();
        let Err(Error::Refused(finding)) = save(&source) else {
            panic!("{code}: accepted");
        };
        assert_eq!(finding.problem.code(), code);
        assert_eq!(finding.place.digest, Some(layer));
        assert_eq!(finding.place.archive.as_deref(), folder.0.path().to_str());
        assert!(
            started.elapsed() < crate::transfer::RETRY.first_pause * 3 / 4,
            "{code}: no pause, no second try"
        );
    }
    // A file that shrinks after it was opened.
    let folder = Folder::new();
    let image = folder.image("layer", "amd64");
    let source = folder.source(&[(&image, json!({}))]).unwrap();
    fs::File::options()
        .write(true)
        .open(folder.path(&layer))
        .unwrap()
        .set_len(2)
        .unwrap();
    let error = save(&source).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let says = "the file is shorter than it was";
    assert!(error.to_string().ends_with(says), "{error}");
}
