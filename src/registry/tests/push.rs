//! Pushes into registries in this process.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::push_registry::{Dialect, PushRegistry};
use crate::archive::{self, Layout};
use crate::error::{Error, ErrorKind, Remedy, Result};
use crate::interrupt::Interrupt;
use crate::load::{self, Candidates, Change, LoadOptions, Outcome, Plan, Report, Target};
use crate::oci::testing::{TestBlob, TestImage, index};
use crate::oci::{Descriptor, Digest, MediaType, Platform};
use crate::progress::Silent;
use crate::registry::testing::{Notes, Reply, Seen, Server, patient};
use crate::registry::{Inventory, Options, RegistryTarget};
use crate::transfer::JOBS;

/// A layout folder that is written for a test.
pub(super) struct Images {
    folder: tempfile::TempDir,
    entries: Vec<serde_json::Value>,
}

impl Images {
    pub(super) fn new() -> Images {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        fs::write(
            folder.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        Images {
            folder,
            entries: Vec::new(),
        }
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> std::path::PathBuf {
        self.folder.path().join("blobs/sha256").join(digest.hex())
    }

    /// Adds blobs, and names one of them.
    pub(super) fn named(self, name: &str, root: &Descriptor, blobs: Vec<TestBlob>) -> Images {
        let annotations = json!({"org.opencontainers.image.ref.name": name});
        self.annotated(annotations, root, blobs)
    }

    /// Adds blobs, and an entry for one of them with these annotations.
    pub(super) fn annotated(
        mut self,
        annotations: serde_json::Value,
        root: &Descriptor,
        blobs: Vec<TestBlob>,
    ) -> Images {
        for blob in blobs {
            fs::write(self.blob_path(&blob.descriptor.digest), blob.bytes).unwrap();
        }
        let mut entry = serde_json::to_value(root).unwrap();
        entry["annotations"] = annotations;
        self.entries.push(entry);
        self
    }

    /// Adds an image of one platform.
    pub(super) fn image(self, name: &str, image: &TestImage) -> Images {
        let root = image.manifest().descriptor;
        self.named(name, &root, image.blobs())
    }

    /// Adds an index over these images, and the content of those that are `there`.
    pub(super) fn index(self, name: &str, images: &[TestImage], there: usize) -> Images {
        let entries: Vec<Descriptor> = images.iter().map(TestImage::entry).collect();
        let root = index(&entries);
        let mut blobs: Vec<TestBlob> = images[..there].iter().flat_map(TestImage::blobs).collect();
        let descriptor = root.descriptor.clone();
        blobs.push(root);
        self.named(name, &descriptor, blobs)
    }

    pub(super) fn open(&self) -> Vec<Box<dyn Layout>> {
        let index = json!({"schemaVersion": 2, "manifests": self.entries});
        fs::write(self.folder.path().join("index.json"), index.to_string()).unwrap();
        vec![archive::open(&[self.folder.path().into()], &archive::Options::default()).unwrap()]
    }
}

/// A layer with one file of this many bytes.
pub(super) fn layer(size: usize, seed: u8) -> Vec<u8> {
    let content: Vec<u8> = (0..size)
        .map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ seed)
        .collect();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "content", content.as_slice())
        .unwrap();
    tar.into_inner().unwrap()
}

pub(super) fn image(sizes: &[usize]) -> TestImage {
    let layers = sizes.iter().zip(1..);
    layers.fold(TestImage::new(), |image, (size, seed)| {
        image.layer(layer(*size, seed))
    })
}

pub(super) fn target(host: &str, of_platform: bool, options: Options) -> (RegistryTarget, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let destination = format!("{host}/mirror").parse().unwrap();
    let target = RegistryTarget::new(
        destination,
        of_platform,
        options,
        notes.clone(),
        Interrupt::default(),
    );
    (target.unwrap(), notes)
}

pub(super) fn push_into(target: &RegistryTarget, images: &Images, options: &LoadOptions) -> Result<Report> {
    let archives = images.open();
    match load::load(
        target,
        &archives,
        options,
        &mut (),
        &Silent,
        &Interrupt::default(),
    )? {
        Outcome::Loaded(report) => Ok(report),
        Outcome::Planned(plan) => panic!("{plan:?}"),
    }
}

pub(super) fn push(server: &Server, images: &Images) -> Result<Report> {
    push_into(
        &target(&server.host(), false, patient()).0,
        images,
        &LoadOptions::default(),
    )
}

/// The requests that change something.
pub(super) fn changes(seen: &[Seen]) -> Vec<String> {
    let changes = seen
        .iter()
        .filter(|seen| !matches!(seen.method.as_str(), "GET" | "HEAD"));
    changes
        .map(|seen| format!("{} {}", seen.method, seen.path))
        .collect()
}

fn key(repository: &str, blob: &TestBlob) -> (String, Digest) {
    (repository.into(), blob.descriptor.digest)
}

#[test]
fn an_image_is_pushed_as_it_is() {
    for dialect in [
        Dialect::default(),
        Dialect {
            is_relative: true,
            tells_digests: false,
            ..Dialect::default()
        },
    ] {
        let registry = PushRegistry::new(dialect);
        let server = registry.start();
        let both = [
            image(&[1000, 3 << 20]),
            image(&[1000]).platform(&Platform::linux("arm64", None)),
        ];
        let images = Images::new().index("httpd:2.4", &both, 2);
        let report = push(&server, &images).unwrap();
        let name = format!("{}/mirror/library/httpd:2.4", server.host());
        assert_eq!(report.images[0].tag.as_ref().unwrap().full(), name);
        assert_eq!(report.images[0].shown, Some(true));
        assert_eq!(report.failure(), None);
        let repository = "mirror/library/httpd";
        {
            let shelf = registry.shelf.lock().unwrap();
            for blob in both.iter().flat_map(TestImage::blobs) {
                let manifest = shelf
                    .manifests
                    .get(&key(repository, &blob))
                    .map(|(_, bytes)| bytes);
                let found = manifest.or_else(|| shelf.blobs.get(&key(repository, &blob)));
                assert_eq!(found, Some(&blob.bytes));
            }
            let tagged = shelf.tags[&(repository.to_string(), "2.4".to_string())];
            let root = index(&both.each_ref().map(TestImage::entry));
            assert_eq!(tagged, root.descriptor.digest);
            let (media_type, bytes) = &shelf.manifests[&key(repository, &root)];
            assert_eq!(
                (media_type.as_str(), bytes),
                (root.descriptor.media_type.as_str(), &root.bytes)
            );
        }
        let all: u64 = {
            let shelf = registry.shelf.lock().unwrap();
            let blobs = shelf.blobs.values().map(Vec::len);
            let manifests = shelf.manifests.values().map(|(_, bytes)| bytes.len());
            blobs.chain(manifests).sum::<usize>() as u64
        };
        assert_eq!(report.sent, all);
        // Manifests come after blobs, the index after them, and it is what the tag names.
        let seen = changes(&server.seen());
        let first_manifest = seen.iter().position(|one| one.contains("/manifests/")).unwrap();
        assert!(
            seen[first_manifest..]
                .iter()
                .all(|one| one.contains("/manifests/"))
        );
        assert_eq!(seen.len() - first_manifest, 3, "{seen:?}");
        assert!(seen.last().unwrap().ends_with("/manifests/2.4"), "{seen:?}");
        // A second push has nothing to do.
        let before = changes(&server.seen()).len();
        let report = push(&server, &images).unwrap();
        assert_eq!((report.sent, &report.images[0].change), (0, &Change::Unchanged));
        assert_eq!(changes(&server.seen()).len(), before);
    }
}

#[test]
fn a_large_blob_is_completed_only_once_it_is_hashed() {
    let server = PushRegistry::new(Dialect::default()).start();
    let large = image(&[3 << 20]);
    let images = Images::new().image("app:1", &large);
    let (target, _) = target(&server.host(), false, patient());
    let archives = images.open();
    let candidates = verified(&archives);
    let plan = planned(&target, &candidates, &LoadOptions::default()).0;
    // The medium changes after the verification.
    let layer = large.blobs()[2].descriptor.digest;
    let mut bytes = fs::read(images.blob_path(&layer)).unwrap();
    bytes[2 << 20] ^= 1;
    fs::write(images.blob_path(&layer), bytes).unwrap();
    let error = target
        .apply(&candidates, &plan, &Silent, &Interrupt::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Content, "{error}");
    let seen = server.seen();
    let completed = |seen: &&Seen| seen.method == "PUT" && seen.query.contains(&layer.hex());
    assert_eq!(seen.iter().filter(completed).count(), 0);
    assert!(
        seen.iter().any(|seen| seen.method == "DELETE"),
        "the upload is cancelled"
    );
    assert!(
        !seen
            .iter()
            .any(|seen| seen.method == "PUT" && seen.path.contains("/manifests/"))
    );
}

#[test]
fn an_image_with_a_wrong_diff_id_gets_no_manifest() {
    let registry = PushRegistry::new(Dialect::default());
    // The digests are right, so all blobs can be sent.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&layer(3 << 20, 1)).unwrap();
    let stored = TestBlob::new(MediaType::OCI_LAYER_GZIP, gzip.finish().unwrap());
    let image = TestImage::new().stored_layer(Digest::sha256(b"something else"), stored.descriptor.clone());
    let root = image.manifest().descriptor;
    let blobs = image.blobs().into_iter().chain([stored]).collect();
    let images = Images::new().named("app:1", &root, blobs);
    let error = push(&registry.start(), &images).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Content, "{error}");
    {
        let shelf = registry.shelf.lock().unwrap();
        assert!(shelf.manifests.is_empty() && shelf.tags.is_empty());
    }
    let digests_only = LoadOptions {
        verify: crate::verify::Options {
            quick: true,
            ..Default::default()
        },
        ..LoadOptions::default()
    };
    let server = registry.start();
    let target = target(&server.host(), false, patient()).0;
    push_into(&target, &images, &digests_only).unwrap();
    let shelf = registry.shelf.lock().unwrap();
    let manifests = shelf.manifests.keys().map(|(_, digest)| *digest);
    assert_eq!(manifests.collect::<Vec<_>>(), [root.digest]);
}

fn verified(archives: &[Box<dyn Layout>]) -> Candidates<'_> {
    let mut candidates = Candidates::default();
    for archive in archives {
        let (options, interrupt) = (crate::verify::Options::default(), Interrupt::default());
        let report = archive::verify(archive.as_ref(), &options, &Silent, &interrupt).unwrap();
        candidates.add(archive.as_ref(), &report).unwrap();
    }
    candidates
}

/// The plan for a target, which must be the same from an inventory that was written and read back.
fn planned(target: &RegistryTarget, candidates: &Candidates<'_>, options: &LoadOptions) -> (Plan, Inventory) {
    let inventory = target.probe(candidates, options).unwrap();
    let read: Inventory = serde_json::from_str(&serde_json::to_string(&inventory).unwrap()).unwrap();
    assert_eq!(read, inventory);
    let plan = target.plan(candidates, options, &inventory).unwrap();
    let again = target.plan(candidates, options, &read).unwrap();
    assert_eq!(format!("{again:?}"), format!("{plan:?}"));
    (plan, inventory)
}

#[test]
fn only_what_is_sent_is_hashed_if_digests_are_enough() {
    let digests_only = LoadOptions {
        verify: crate::verify::Options {
            quick: true,
            ..Default::default()
        },
        ..LoadOptions::default()
    };
    let image = image(&[2 << 20]);
    let layer = image.blobs()[2].descriptor.digest;
    let images = Images::new().image("lib/one:1", &image);
    let path = images.blob_path(&layer);
    let mut bytes = fs::read(&path).unwrap();
    bytes[1 << 20] ^= 1;
    let registry = PushRegistry::new(Dialect::default());
    let server = registry.start();
    push(&server, &images).unwrap();
    fs::write(path, bytes).unwrap();
    // The registry has the layer.
    let there = target(&server.host(), false, patient()).0;
    push_into(&there, &images, &digests_only).unwrap();
    assert_eq!(push(&server, &images).unwrap_err().kind(), ErrorKind::Content);
    let empty = PushRegistry::new(Dialect::default());
    let server = empty.start();
    let elsewhere = target(&server.host(), false, patient()).0;
    let error = push_into(&elsewhere, &images, &digests_only).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Content, "{error}");
    let shelf = empty.shelf.lock().unwrap();
    assert!(shelf.manifests.is_empty() && shelf.tags.is_empty());
    assert!(shelf.blobs.keys().all(|(_, digest)| *digest != layer));
}

#[test]
fn a_mount_that_the_registry_only_claims_is_no_mount() {
    let shared = layer(2 << 20, 9);
    let one = TestImage::new().layer(shared.as_slice());
    let registry = PushRegistry::new(Dialect::default());
    let inner = registry.clone();
    let server = Server::start(move |seen| match seen.query.contains("mount=") {
        true => Reply::new(201, ""),
        false => inner.answer(seen),
    });
    let images = Images::new().image("lib/one:1", &one).image("lib/other:1", &one);
    push(&server, &images).unwrap();
    let shelf = registry.shelf.lock().unwrap();
    let digest = Digest::sha256(&shared);
    for repository in ["mirror/lib/one", "mirror/lib/other"] {
        assert!(
            shelf.blobs.contains_key(&(repository.into(), digest)),
            "{repository}"
        );
    }
}

#[test]
fn a_repository_mounts_what_another_has() {
    let shared = layer(2 << 20, 9);
    let (one, other) = (
        TestImage::new().layer(shared.as_slice()).author("one"),
        TestImage::new().layer(shared.as_slice()).author("other"),
    );
    let digest = Digest::sha256(&shared);
    for mounts in [true, false] {
        let registry = PushRegistry::new(Dialect {
            mounts,
            ..Dialect::default()
        });
        let server = registry.start();
        let images = Images::new()
            .image("lib/one:1", &one)
            .image("lib/other:1", &other);
        push(&server, &images).unwrap();
        let seen = server.seen();
        let sent = seen.iter().filter(|seen| seen.method == "PATCH").count();
        assert_eq!(sent, if mounts { 1 } else { 2 });
        let mount = seen
            .iter()
            .filter(|seen| seen.query.contains(&format!("mount=sha256%3A{}", digest.hex())));
        let mount: Vec<&Seen> = mount.collect();
        assert_eq!(mount.len(), 1);
        assert!(
            mount[0].query.contains("from=mirror%2Flib%2F"),
            "{}",
            mount[0].query
        );
        // What a repository had before is mounted as well.
        let images = Images::new().image("lib/one:1", &one).image("lib/third:1", &one);
        let report = push(&server, &images).unwrap();
        let third = server.seen();
        let patched = third[seen.len()..]
            .iter()
            .filter(|seen| seen.method == "PATCH")
            .count();
        assert_eq!(patched, if mounts { 0 } else { 1 });
        assert_eq!(report.images.len(), 2);
        let shelf = registry.shelf.lock().unwrap();
        assert!(shelf.blobs.contains_key(&("mirror/lib/third".into(), digest)));
    }
}

#[test]
fn a_blob_that_the_registry_has_a_part_of_or_cannot_find_is_sent_again() {
    for (status, body) in [(200, "a part"), (500, "")] {
        let whole = image(&[3 << 20]);
        let layer = whole.blobs()[2].descriptor.digest;
        let registry = PushRegistry::new(Dialect::default());
        let upstream = registry.clone();
        let server = Server::start(move |seen| match seen.method.as_str() {
            "HEAD" if seen.path.ends_with(&layer.to_string()) => Reply::new(status, body),
            _ => upstream.answer(seen),
        });
        push(&server, &Images::new().image("lib/one:1", &whole)).unwrap();
        let shelf = registry.shelf.lock().unwrap();
        assert!(shelf.blobs.contains_key(&("mirror/lib/one".into(), layer)));
    }
}

#[test]
fn a_registry_that_changes_a_manifest_is_told() {
    let registry = PushRegistry::new(Dialect::default());
    let server = Server::start(move |seen| {
        let reply = registry.answer(seen);
        match seen.method.as_str() {
            "PUT" if seen.path.contains("/manifests/") => reply
                .without("Docker-Content-Digest")
                .with("Docker-Content-Digest", Digest::sha256(b"converted").to_string()),
            _ => reply,
        }
    });
    let error = push(&server, &Images::new().image("lib/one:1", &image(&[10]))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registry);
    assert!(error.to_string().contains("stored it as sha256:"), "{error}");
}

#[test]
fn what_the_registry_shows_after_a_push_is_told() {
    let count = 20;
    for (status, says, most) in [
        (200, "names another image now", count),
        (403, "is not known", JOBS.get()),
    ] {
        let registry = PushRegistry::new(Dialect::default());
        let upstream = registry.clone();
        let server = Server::start(move |seen| {
            let is_tag = seen.method == "HEAD" && seen.path.ends_with("/manifests/1");
            let are_pushed = upstream.shelf.lock().unwrap().tags.len() == count;
            match is_tag && are_pushed {
                true => {
                    Reply::new(status, "").with("Docker-Content-Digest", Digest::sha256(b"other").to_string())
                }
                false => upstream.answer(seen),
            }
        });
        let images = (0..count).fold(Images::new(), |images, at| {
            images.image(&format!("lib/app{at}:1"), &image(&[at]))
        });
        let report = push(&server, &images).unwrap();
        assert_eq!(report.images.len(), count);
        for image in &report.images {
            assert_eq!(image.shown, Some(false));
            let obstacles = format!("{:?}", image.obstacles);
            assert!(obstacles.contains(says), "{obstacles}");
        }
        assert_eq!(report.failure(), Some(ErrorKind::NotShown));
        let seen = server.seen();
        let last = seen.iter().rposition(|seen| seen.method == "PUT").unwrap();
        assert!(seen.len() - last - 1 <= most, "{}", seen.len() - last - 1);
    }
}

#[test]
fn two_images_never_get_one_name() {
    let images = Images::new()
        .image("docker.io/lib/app:1", &image(&[10]))
        .image("quay.io/lib/app:1", &image(&[20]));
    let server = PushRegistry::new(Dialect::default()).start();
    let error = push(&server, &images).unwrap_err();
    assert!(
        matches!(&error, Error::Usage { hint: Some(hint), .. }
        if *hint == Remedy::SelectOrRename.into()),
        "{error}"
    );
    assert_eq!(server.seen().len(), 0);
    // The same image under two names that become one is pushed once.
    let images = Images::new()
        .image("docker.io/lib/app:1", &image(&[10]))
        .image("quay.io/lib/app:1", &image(&[10]));
    assert_eq!(push(&server, &images).unwrap().images.len(), 1);
}

#[test]
fn a_plan_says_what_is_new() {
    let server = PushRegistry::new(Dialect::default()).start();
    let images = Images::new().image("app:1", &image(&[10, 20]));
    let archives = images.open();
    let candidates = verified(&archives);
    let (target, _) = target(&server.host(), false, patient());
    let (plan, inventory) = planned(&target, &candidates, &LoadOptions::default());
    assert_eq!((plan.send.len(), inventory.blobs.len()), (4, 0));
    assert_eq!(plan.images[0].change, Change::New);
    assert!(changes(&server.seen()).is_empty());
    push(&server, &images).unwrap();
    let (plan, inventory) = planned(&target, &candidates, &LoadOptions::default());
    assert_eq!((plan.send.len(), inventory.blobs.len()), (0, 4));
    assert_eq!(plan.images[0].change, Change::Unchanged);
    assert!(plan.images[0].present);
}

/// The sample is what other tests of layouts use.
#[test]
fn a_layout_of_other_tools_is_pushed() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/layout");
    let registry = PushRegistry::new(Dialect::default());
    let server = registry.start();
    let archives = vec![archive::open(&[sample], &archive::Options::default()).unwrap()];
    let (target, _) = target(&server.host(), false, patient());
    let interrupt = Interrupt::default();
    load::load(
        &target,
        &archives,
        &LoadOptions::default(),
        &mut (),
        &Silent,
        &interrupt,
    )
    .unwrap();
    let shelf = registry.shelf.lock().unwrap();
    assert!(shelf.tags.contains_key(&("mirror/hello".into(), "1".into())));
}
