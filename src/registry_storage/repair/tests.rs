//! What needs no registry. Repairs are tested on a real one in `tests/verify` and `tests/engines`.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Cursor, Read};
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{FlockOperation, flock};

use super::super::layout::{STAGING, blob_entry};
use super::super::tests::{Folder, Pushed};
use super::staging::enter;
use super::{Options, Repair, certain_target, repair};
use crate::dir::Dir;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Interrupt;
use crate::oci::testing::TestBlob;
use crate::oci::{Descriptor, Digest, Repository};
use crate::progress::{Progress, Silent};
use crate::repair::{BlobRepair, Copies, Fate, Names};
use crate::source::{Answer, Listing, Query, Source};
use crate::transfer;

/// Blobs without images.
#[derive(Default)]
struct Blobs {
    blobs: HashMap<Digest, Vec<u8>>,
    is_down: bool,
}

fn absent() -> Error {
    Error::NotFound {
        what: "it".into(),
        place: "the test".into(),
        hint: None,
    }
}

impl Source for Blobs {
    fn find(&self, query: &Query<'_>) -> Result<Vec<Answer<'_>>> {
        query.each(|_| Err(absent().into()))
    }

    fn metadata(&self, _: &Repository, blob: &Descriptor) -> Result<Vec<u8>> {
        self.blobs.get(&blob.digest).cloned().ok_or_else(absent)
    }

    fn open(&self, _: &Repository, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let mut bytes = Cursor::new(self.blobs.get(&blob.digest).cloned().ok_or_else(absent)?);
        bytes.set_position(offset);
        Ok(Box::new(bytes))
    }

    fn list(&self) -> Result<Listing> {
        match self.is_down {
            true => Err(Error::Registry {
                registry: "the test".into(),
                subject: "it".into(),
                problem: "is down".into(),
                hint: None,
                transient: false,
            }),
            false => Ok(Listing::default()),
        }
    }
}

fn options() -> Options {
    Options {
        jobs: NonZeroUsize::MIN,
        retry: transfer::RETRY,
        is_dry_run: false,
    }
}

fn run(folder: &Folder, source: Blobs) -> Repair {
    run_watched(folder, source, &Silent)
}

fn run_watched(folder: &Folder, source: Blobs, progress: &dyn Progress) -> Repair {
    let options = options();
    let mut source = Some(source);
    let mut open = |_: Arc<dyn Source>| {
        let source = source.take().unwrap();
        Ok(vec![Copies {
            label: "blobs".into(),
            source: Arc::new(source),
            names: Names::Listed { all: true },
        }])
    };
    let interrupt = Interrupt::default();
    repair(folder.home.path(), &mut open, &options, progress, &interrupt).unwrap()
}

/// A registry with an image whose second layer is damaged, and that layer's file.
fn damaged() -> (Folder, Pushed, std::path::PathBuf) {
    let folder = Folder::new();
    let app = folder.push("app", "1", "one");
    let entry = blob_entry(&app.layers[1].descriptor.digest);
    folder.write(&entry, "bad");
    let path = folder.at(&entry);
    (folder, app, path)
}

fn source_of(blob: &TestBlob, bytes: &[u8]) -> Blobs {
    Blobs {
        blobs: [(blob.descriptor.digest, bytes.to_vec())].into(),
        is_down: false,
    }
}

#[test]
fn a_link_is_certain_if_its_path_ends_in_a_digest() {
    let hex = "a".repeat(64);
    for (entry, is_certain) in [
        (format!("repositories/a/b/_layers/sha256/{hex}/link"), true),
        (
            format!("repositories/a/_manifests/revisions/sha256/{hex}/link"),
            true,
        ),
        (
            format!("repositories/a/_manifests/tags/1/index/sha256/{hex}/link"),
            true,
        ),
        ("repositories/a/_manifests/tags/1/current/link".into(), false),
        (format!("repositories/a/_uploads/sha256/{hex}/link"), false),
        (format!("repositories/a/_layers/sha256/{}/link", &hex[1..]), false),
        (format!("blobs/sha256/aa/{hex}/data"), false),
    ] {
        let found = certain_target(&entry);
        assert_eq!(found.is_some(), is_certain, "{entry}");
        assert!(found.is_none_or(|digest| digest.hex() == hex));
    }
}

#[test]
fn an_error_that_right_bytes_do_not_mend_is_left() {
    let (folder, app, path) = damaged();
    let layer = &app.layers[1];
    // Another manifest gives the layer another size.
    let digest = layer.descriptor.digest.to_string();
    let uses = |manifest: &&TestBlob| String::from_utf8_lossy(&manifest.bytes).contains(&digest);
    let manifest = app.manifests.iter().find(uses).unwrap();
    let mut lying: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap();
    for named in lying["layers"].as_array_mut().unwrap() {
        if named["digest"] == digest {
            named["size"] = 7.into();
        }
    }
    // The right one comes first: its size is taken.
    let mut bytes = lying.to_string().into_bytes();
    while Digest::sha256(&bytes) < manifest.descriptor.digest {
        bytes.push(b' ');
    }
    let size = bytes.len().try_into().unwrap();
    let media_type = manifest.descriptor.media_type.clone();
    let lying = TestBlob {
        descriptor: Descriptor::new(media_type, Digest::sha256(&bytes), size),
        bytes,
    };
    folder.manifest("app", &lying);

    let repaired = run(&folder, source_of(layer, &layer.bytes));
    assert!(matches!(repaired.blobs[0].fate, Fate::Mended(_)));
    assert_eq!(fs::read(&path).unwrap(), layer.bytes);
    let left: Vec<_> = repaired
        .left()
        .map(|found| found.finding.problem.code())
        .collect();
    assert_eq!(left, ["size-differs"]);
    assert_eq!(repaired.failure(), Some(ErrorKind::Content));
}

/// Damages a blob once it is mended.
struct Damages(std::path::PathBuf);

impl Progress for Damages {
    fn phase(&self, name: &str, _: Option<u64>) {
        if name == "verifying again" {
            fs::write(&self.0, "bad again").unwrap();
        }
    }
}

#[test]
fn a_mended_blob_that_is_bad_again_is_left() {
    for is_there in [true, false] {
        let (folder, app, path) = damaged();
        if !is_there {
            fs::remove_file(&path).unwrap();
        }
        let layer = &app.layers[1];
        let repaired = run_watched(&folder, source_of(layer, &layer.bytes), &Damages(path));
        let left = repaired.left().map(|found| found.finding.place.digest);
        assert_eq!(left.collect::<Vec<_>>(), [Some(layer.descriptor.digest)]);
        assert_eq!(repaired.failure(), Some(ErrorKind::Content));
        assert!(repaired.whole.is_empty());
    }
}

#[test]
fn only_a_blob_that_is_good_is_linked() {
    let (folder, app, path) = damaged();
    let layer = &app.layers[1];
    let hex = layer.descriptor.digest.hex();
    let link = folder.at(&format!("repositories/app/_layers/sha256/{hex}/link"));
    for is_there in [true, false] {
        fs::remove_file(&link).unwrap();
        if !is_there {
            fs::remove_file(&path).unwrap();
        }
        let repaired = run(&folder, Blobs::default());
        assert!(
            repaired.links.is_empty() && !link.exists(),
            "{:?}",
            repaired.links
        );
        let repaired = run(&folder, source_of(layer, &layer.bytes));
        assert_eq!((repaired.links.len(), repaired.failure()), (1, None));
        assert!(link.exists());
        fs::write(&path, "bad").unwrap();
    }
}

#[test]
fn a_folder_in_the_place_of_a_blob_is_replaced_unless_it_has_files() {
    let (folder, app, path) = damaged();
    let layer = &app.layers[1];
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("file"), "precious").unwrap();
    let repaired = run(&folder, source_of(layer, &layer.bytes));
    assert!(matches!(repaired.blobs[0].fate, Fate::Failed(_)));
    assert_eq!(fs::read(path.join("file")).unwrap(), b"precious");
    fs::remove_file(path.join("file")).unwrap();
    let repaired = run(&folder, source_of(layer, &layer.bytes));
    assert_eq!(repaired.failure(), None);
    assert_eq!(fs::read(&path).unwrap(), layer.bytes);
}

#[test]
fn wrong_bytes_are_not_written() {
    let (folder, app, path) = damaged();
    let layer = &app.layers[1];
    let mut wrong = layer.bytes.clone();
    wrong[0] ^= 1;
    let repaired = run(&folder, source_of(layer, &wrong));
    assert!(matches!(repaired.blobs[0].fate, Fate::Failed(_)));
    assert_eq!(fs::read(path).unwrap(), b"bad");

    // Of a manifest, too, which sources verify.
    let (folder, app, _) = damaged();
    let manifest = &app.manifests[0];
    let path = folder.at(&blob_entry(&manifest.descriptor.digest));
    fs::remove_file(&path).unwrap();
    let repaired = run(&folder, source_of(manifest, b"{}"));
    let of_manifest = |blob: &&BlobRepair| blob.digest == manifest.descriptor.digest;
    let blob = repaired.blobs.iter().find(of_manifest).unwrap();
    assert!(matches!(blob.fate, Fate::Failed(_)), "{blob:?}");
    assert!(!path.exists());
}

#[test]
fn a_source_that_could_not_be_searched_is_why_nothing_was_found() {
    let (folder, ..) = damaged();
    let down = Blobs {
        is_down: true,
        ..Blobs::default()
    };
    let repaired = run(&folder, down);
    assert!(matches!(repaired.blobs[0].fate, Fate::NotFound(None)));
    assert_eq!(repaired.failures.len(), 1);
    assert_eq!(repaired.failure(), Some(ErrorKind::Registry));
    assert_eq!(
        run(&folder, Blobs::default()).failure(),
        Some(ErrorKind::NotFound)
    );
}

#[test]
fn a_place_that_cannot_be_opened_is_told_though_the_storage_is_good() {
    let folder = Folder::new();
    folder.push("app", "1", "one");
    let hashed = CountsBlobs::default();
    let error = repair(
        folder.home.path(),
        &mut |_| Err(absent()),
        &options(),
        &hashed,
        &Interrupt::default(),
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(hashed.0.load(Ordering::Relaxed), 0);
    assert!(!folder.at(STAGING).exists());
}

/// Counts the blobs that are hashed.
#[derive(Default)]
struct CountsBlobs(AtomicUsize);

impl Progress for CountsBlobs {
    fn blob_started(&self, _: &Digest, _: u64, _: u64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_staging_folder_is_empty_and_of_this_repair_alone() {
    let home = tempfile::tempdir().unwrap();
    let blobs = Dir::open(home.path()).unwrap();
    let path = home.path().join(STAGING);
    // As others may have made it.
    fs::create_dir_all(path.join("folder")).unwrap();
    fs::write(path.join("data"), "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let theirs = fs::metadata(&path).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(1234), None).unwrap();
    }
    let dir = enter(&blobs).unwrap();
    let meta = dir.metadata().unwrap();
    assert_eq!(meta.uid(), theirs.uid());
    assert_eq!(meta.mode() & 0o777, 0o700);
    assert_eq!(dir.names().unwrap().len(), 0);
    assert_eq!(fs::metadata(&path).unwrap().ino(), meta.ino());
    assert_eq!(enter(&blobs).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    // As an interrupted repair leaves it.
    fs::write(path.join("data"), "").unwrap();
    drop(dir);
    let again = enter(&blobs).unwrap();
    assert_eq!(again.metadata().unwrap().ino(), meta.ino());
    assert_eq!(again.names().unwrap().len(), 0);
    drop(again);
    // As no repair leaves it.
    fs::create_dir_all(path.join("planted/below")).unwrap();
    let error = enter(&blobs).unwrap_err().to_string();
    assert_eq!(error, "no repair made the folder planted in it; remove it");
}

#[test]
fn a_lock_of_another_user_is_told() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(STAGING);
    fs::create_dir(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(1234), None).unwrap();
    let theirs = fs::File::open(&path).unwrap();
    flock(&theirs, FlockOperation::LockExclusive).unwrap();
    let error = enter(&Dir::open(home.path()).unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "another repair is under way, or another user locks it: it belongs to uid 1234"
    );
}
