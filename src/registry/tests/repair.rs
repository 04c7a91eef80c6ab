//! Repairs of registries in this process. They differ in what they do with an upload of a blob that they have.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::push::{Images, image, layer};
use super::push_registry::{Dialect, PushRegistry};
use crate::archive::ArchiveSource;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Interrupt;
use crate::oci::testing::{TestBlob, TestImage, index};
use crate::oci::{Digest, MediaType, Platform, Reference};
use crate::progress::Silent;
use crate::registry::RegistrySource;
use crate::registry::repair::{Options, Repair, repair};
use crate::registry::testing::{Reply, Seen, Server, quick, source};
use crate::repair::{Copies, Fate, Names};

/// A registry that keeps what it has.
fn keeping(deletes: bool) -> Dialect {
    Dialect {
        keeps: true,
        deletes,
        ..Dialect::default()
    }
}

/// A registry with an image: a manifest, a config, a small layer and one that is sent in a stream.
struct Setup {
    registry: PushRegistry,
    image: TestImage,
}

impl Setup {
    fn new(dialect: Dialect) -> Setup {
        let setup = Setup {
            registry: PushRegistry::new(dialect),
            image: image(&[1000, 2 << 20]),
        };
        let mut shelf = setup.registry.shelf.lock().unwrap();
        let blobs = setup.image.blobs();
        for blob in &blobs[1..] {
            shelf
                .blobs
                .insert(key(&blob.descriptor.digest), blob.bytes.clone());
        }
        let manifest = &blobs[0];
        let media_type = MediaType::OCI_MANIFEST.to_string();
        shelf.manifests.insert(
            key(&manifest.descriptor.digest),
            (media_type, manifest.bytes.clone()),
        );
        shelf
            .tags
            .insert(("lib/app".into(), "1".into()), manifest.descriptor.digest);
        drop(shelf);
        setup
    }

    /// Its blobs: the config and the layers.
    fn blobs(&self) -> Vec<TestBlob> {
        self.image.blobs()[1..].to_vec()
    }

    fn damage(&self, blob: &TestBlob) {
        let mut shelf = self.registry.shelf.lock().unwrap();
        let bytes = shelf.blobs.get_mut(&key(&blob.descriptor.digest)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }

    fn stored(&self, blob: &TestBlob) -> Option<Vec<u8>> {
        let shelf = self.registry.shelf.lock().unwrap();
        shelf.blobs.get(&key(&blob.descriptor.digest)).cloned()
    }

    fn repair(&self, server: &Server) -> Repair {
        self.run(&[server.reference("1")], false)
    }

    fn run(&self, references: &[Reference], is_dry_run: bool) -> Repair {
        let interrupt = Interrupt::default();
        self.try_repair(references, is_dry_run, &interrupt).unwrap()
    }

    fn try_repair(
        &self,
        references: &[Reference],
        is_dry_run: bool,
        interrupt: &Interrupt,
    ) -> Result<Repair> {
        let images = Images::new().image("any:1", &self.image);
        repair_from(&images, references, is_dry_run, interrupt)
    }
}

/// Repairs images of a registry with those of a layout folder.
fn repair_from(
    images: &Images,
    references: &[Reference],
    is_dry_run: bool,
    interrupt: &Interrupt,
) -> Result<Repair> {
    let options = options(is_dry_run);
    let mut open = |_| {
        let layout = images.open().pop().unwrap();
        Ok(vec![Copies {
            label: "images".into(),
            source: Arc::new(ArchiveSource::new(layout)?),
            names: Names::Listed { all: true },
        }])
    };
    let source = RegistrySource::new(quick(), Arc::new(Silent), interrupt.clone())?;
    repair(
        &Arc::new(source),
        references,
        &mut open,
        &options,
        &Silent,
        interrupt,
    )
}

fn options(is_dry_run: bool) -> Options {
    Options {
        jobs: NonZeroUsize::MIN,
        max_layer_size: u64::MAX,
        retry: quick().retry,
        tmpdir: std::env::temp_dir(),
        is_dry_run,
    }
}

fn key(digest: &Digest) -> (String, Digest) {
    ("lib/app".into(), *digest)
}

/// The requests that write, by their methods.
fn writes(server: &Server) -> Vec<String> {
    let seen = server.seen().into_iter().map(|seen| seen.method);
    seen.filter(|method| !matches!(method.as_str(), "GET" | "HEAD"))
        .collect()
}

#[test]
fn an_upload_mends_where_the_registry_replaces() {
    let setup = Setup::new(Dialect::default());
    let blobs = setup.blobs();
    blobs.iter().for_each(|blob| setup.damage(blob));
    let server = setup.registry.start();
    let planned = setup.run(&[server.reference("1")], true);
    assert_eq!(writes(&server), [""; 0], "a dry run writes nothing");
    assert_eq!(planned.blobs.len(), 3);
    for blob in &planned.blobs {
        assert!(matches!(&blob.fate, Fate::Available(good) if good.from == "images"));
    }
    assert_eq!(planned.failure(), None);

    let repaired = setup.repair(&server);
    assert_eq!(repaired.failure(), None, "{:?}", repaired.blobs);
    assert_eq!(repaired.whole.len(), 1);
    assert_eq!(repaired.whole[0].to_string(), "lib/app:1");
    for blob in &blobs {
        assert_eq!(setup.stored(blob).as_ref(), Some(&blob.bytes));
    }
    assert!(!writes(&server).contains(&"DELETE".into()));
    let again = setup.repair(&server);
    assert!(again.blobs.is_empty() && again.whole.is_empty());
}

#[test]
fn a_blob_that_the_registry_keeps_is_deleted_first_where_that_is_allowed() {
    for deletes in [true, false] {
        let setup = Setup::new(keeping(deletes));
        let blobs = setup.blobs();
        blobs.iter().for_each(|blob| setup.damage(blob));
        let bad: Vec<_> = blobs.iter().map(|blob| setup.stored(blob)).collect();
        let server = setup.registry.start();
        let repaired = setup.repair(&server);
        let deleted = writes(&server)
            .iter()
            .filter(|method| *method == "DELETE")
            .count();
        assert_eq!(deleted, 3);
        for (blob, bad) in blobs.iter().zip(bad) {
            let found = repaired
                .blobs
                .iter()
                .find(|one| one.digest == blob.descriptor.digest);
            match (&found.unwrap().fate, deletes) {
                (Fate::Mended(_), true) => assert_eq!(setup.stored(blob).as_ref(), Some(&blob.bytes)),
                (Fate::Kept(error), false) => {
                    assert!(error.to_string().contains("keeps the wrong ones"), "{error}");
                    assert_eq!(setup.stored(blob), bad);
                }
                (fate, _) => panic!("{fate:?}"),
            }
        }
        let failure = (!deletes).then_some(ErrorKind::Registry);
        assert_eq!(repaired.failure(), failure);
        assert_eq!(repaired.whole.len(), usize::from(deletes));
        assert_eq!(repaired.left().count() + repaired.left_errors().count(), 0);
    }
}

#[test]
fn a_blob_that_cannot_be_read_again_is_not_deleted() {
    let setup = Setup::new(keeping(true));
    let layer = &setup.blobs()[1];
    setup.damage(layer);
    let registry = setup.registry.clone();
    let path = format!("/v2/lib/app/blobs/{}", layer.descriptor.digest);
    let is_uploaded = AtomicUsize::new(0);
    let server = Server::start(move |seen: &Seen| {
        if seen.method == "PUT" {
            is_uploaded.store(1, Ordering::SeqCst);
        }
        let is_read = seen.method == "GET" && seen.path == path;
        match is_read && is_uploaded.load(Ordering::SeqCst) == 1 {
            true => Reply::new(503, ""),
            false => registry.answer(seen),
        }
    });
    let repaired = setup.repair(&server);
    let Fate::Kept(error) = &repaired.blobs[0].fate else {
        panic!("{:?}", repaired.blobs);
    };
    assert!(error.to_string().contains("cannot be read"), "{error}");
    assert!(!writes(&server).contains(&"DELETE".into()));
    assert_eq!(repaired.failure(), Some(ErrorKind::Registry));
}

#[test]
fn a_place_that_cannot_be_opened_is_told_before_the_registry_is_asked() {
    let setup = Setup::new(Dialect::default());
    let server = setup.registry.start();
    let interrupt = Interrupt::default();
    let source = RegistrySource::new(quick(), Arc::new(Silent), interrupt.clone()).unwrap();
    let failed = || Error::Usage {
        message: "no such place".into(),
        hint: None,
    };
    let repaired = repair(
        &Arc::new(source),
        &[server.reference("1")],
        &mut |_| Err(failed()),
        &options(false),
        &Silent,
        &interrupt,
    );
    assert_eq!(repaired.unwrap_err().kind(), failed().kind());
    assert!(server.seen().is_empty());
}

#[test]
fn a_layer_that_is_good_is_fetched_once() {
    let setup = Setup::new(Dialect::default());
    let blobs = setup.blobs();
    setup.damage(&blobs[1]);
    let server = setup.registry.start();
    assert_eq!(setup.repair(&server).failure(), None);
    let path = format!("/v2/lib/app/blobs/{}", blobs[2].descriptor.digest);
    let seen = server.seen().into_iter();
    let fetched = seen.filter(|seen| seen.method == "GET" && seen.path == path);
    assert_eq!(fetched.count(), 1);
}

#[test]
fn blobs_are_mended_before_manifests_that_name_them() {
    let shared = layer(1000, 1);
    let one = |author: &str| TestImage::new().layer(shared.as_slice()).author(author);
    let layer = Digest::sha256(&shared);
    // By digest, the manifest would be first.
    let mut authors = (0..).map(|n: u32| one(&n.to_string()));
    let bad = authors
        .find(|image| image.manifest().descriptor.digest < layer)
        .unwrap();
    let good = one("good").platform(&Platform::linux("arm64", None));
    let root = index(&[bad.manifest().descriptor, good.manifest().descriptor]);
    let blobs: Vec<TestBlob> = bad.blobs().into_iter().chain(good.blobs()).collect();
    let registry = PushRegistry::new(Dialect::default());
    let mut shelf = registry.shelf.lock().unwrap();
    for blob in blobs.iter().filter(|blob| blob.descriptor.digest != layer) {
        let digest = &blob.descriptor.digest;
        if blob.descriptor.media_type.is_document() {
            let media_type = blob.descriptor.media_type.to_string();
            let mut bytes = blob.bytes.clone();
            if *digest == bad.manifest().descriptor.digest {
                bytes.truncate(20);
            }
            shelf.manifests.insert(key(digest), (media_type, bytes));
        } else {
            shelf.blobs.insert(key(digest), blob.bytes.clone());
        }
    }
    let media_type = root.descriptor.media_type.to_string();
    let digest = root.descriptor.digest;
    shelf
        .manifests
        .insert(key(&digest), (media_type, root.bytes.clone()));
    drop(shelf);
    let images = Images::new().named("any:1", &root.descriptor.clone(), [blobs, vec![root]].concat());
    let server = registry.start();
    let named = Reference::digested(&server.repository(), digest);
    let repaired = repair_from(&images, &[named], false, &Interrupt::default()).unwrap();
    assert_eq!(repaired.failure(), None, "{:?}", repaired.blobs);
    assert_eq!(repaired.blobs.len(), 2);
}

#[test]
fn a_manifest_is_never_deleted() {
    let setup = Setup::new(keeping(true));
    let manifest = &setup.image.blobs()[0];
    let digest = manifest.descriptor.digest;
    let mut shelf = setup.registry.shelf.lock().unwrap();
    shelf.manifests.get_mut(&key(&digest)).unwrap().1.truncate(20);
    drop(shelf);
    let server = setup.registry.start();
    let named = Reference::digested(&server.repository(), digest);
    let repaired = setup.run(&[named], false);
    assert_eq!(writes(&server), ["PUT"]);
    assert!(
        matches!(repaired.blobs[0].fate, Fate::Kept(_)),
        "{:?}",
        repaired.blobs
    );
    assert_eq!(repaired.failure(), Some(ErrorKind::Registry));
}

#[test]
fn a_retried_upload_does_not_ask_whether_the_registry_has_the_blob() {
    // The registry fails in the middle of the first upload. A push would then ask whether it has the blob.
    let setup = Setup::new(Dialect::default());
    let blobs = setup.blobs();
    blobs.iter().for_each(|blob| setup.damage(blob));
    let registry = setup.registry.clone();
    let lost = AtomicUsize::new(0);
    let server = Server::start(move |seen: &Seen| {
        let is_content = matches!(seen.method.as_str(), "PATCH" | "PUT");
        match is_content && lost.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) {
            true => Reply::new(503, ""),
            false => registry.answer(seen),
        }
    });
    let repaired = setup.repair(&server);
    assert_eq!(repaired.failure(), None, "{:?}", repaired.blobs);
    for blob in &blobs {
        assert_eq!(setup.stored(blob).as_ref(), Some(&blob.bytes));
    }
}

#[test]
fn a_blob_that_cannot_be_put_back_is_told() {
    let setup = Setup::new(keeping(true));
    let layer = &setup.blobs()[1];
    setup.damage(layer);
    let registry = setup.registry.clone();
    let is_deleted = AtomicUsize::new(0);
    let server = Server::start(move |seen: &Seen| {
        if seen.method == "DELETE" {
            is_deleted.store(1, Ordering::SeqCst);
        }
        match seen.method == "POST" && is_deleted.load(Ordering::SeqCst) == 1 {
            true => Reply::new(403, ""),
            false => registry.answer(seen),
        }
    });
    let repaired = setup.repair(&server);
    let Fate::Failed(error) = &repaired.blobs[0].fate else {
        panic!("{:?}", repaired.blobs);
    };
    assert!(
        error.to_string().contains("it was deleted to be replaced"),
        "{error}"
    );
    assert_eq!(repaired.failure(), Some(ErrorKind::Registry));
}

#[test]
fn a_blob_that_was_deleted_is_put_back_before_a_signal_takes_effect() {
    for blob in 1..3 {
        let setup = Setup::new(keeping(true));
        let layer = &setup.blobs()[blob];
        setup.damage(layer);
        let registry = setup.registry.clone();
        let interrupt = Interrupt::default();
        let signal = interrupt.clone();
        let server = Server::start(move |seen: &Seen| {
            if seen.method == "DELETE" {
                let signal = signal.clone();
                std::thread::spawn(move || signal.stop());
                // The flag is set when the response arrives.
                std::thread::sleep(Duration::from_millis(200));
            }
            registry.answer(seen)
        });
        let images = [server.reference("1")];
        let stopped = setup.try_repair(&images, false, &interrupt);
        assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
        assert!(writes(&server).contains(&"DELETE".into()));
        assert_eq!(setup.stored(layer).as_ref(), Some(&layer.bytes));
    }
}

#[test]
fn images_are_of_one_registry() {
    let setup = Setup::new(Dialect::default());
    let references = ["a.local/x:1", "b.local/x:1"].map(|name| name.parse().unwrap());
    let mut open = |_| panic!("nothing is opened");
    let options = options(false);
    let source = Arc::new(source(quick()));
    let refused = repair(
        &source,
        &references,
        &mut open,
        &options,
        &Silent,
        &Interrupt::default(),
    );
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Usage);
    drop(setup);
}
