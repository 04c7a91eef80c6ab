//! Saves of several images, some of which cannot be saved, and renames.

use std::fs;
use std::path::Path;

use super::fake::{Fake, Fault, noise};
use super::tests::{BOTH, listing, open, options, save_as, stream, two_images};
use super::*;

fn going_on() -> Options {
    Options {
        keep_going: true,
        retry: options().retry.at_most(2),
        ..options()
    }
}

/// The names that were skipped, each with the kind of its error.
fn skipped(summary: &Summary) -> Vec<(String, ErrorKind)> {
    let skipped = summary.skipped.iter();
    skipped
        .map(|image| (image.reference.familiar(), image.error.kind()))
        .collect()
}

#[test]
fn every_name_that_is_not_there_is_told_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let names = ["app:3", "app:1", "app:2", "quay.io/org/none:1"];
    let error = save_as(&two_images(), &names, &options(), &path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let told: Vec<String> = error.each().iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    for (told, name) in told.iter().zip(["app:2", "app:3", "quay.io/org/none:1"]) {
        assert!(told.contains(name), "{told}");
    }
    assert_eq!(listing(folder.path()), [""; 0]);
}

#[test]
fn what_is_not_there_is_left_out_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let [path, expected] = ["images.tar", "expected.tar"].map(|name| folder.path().join(name));
    let names = ["app:2", BOTH[0], "app:3", BOTH[1]];
    let summary = save_as(&two_images(), &names, &going_on(), &path).unwrap();
    assert_eq!(
        skipped(&summary),
        [
            ("app:2".into(), ErrorKind::NotFound),
            ("app:3".into(), ErrorKind::NotFound)
        ]
    );
    assert_eq!(summary.failure(), Some(ErrorKind::NotFound));
    let whole = save_as(&two_images(), &BOTH, &options(), &expected).unwrap();
    assert_eq!((whole.failure(), whole.skipped.len()), (None, 0));
    assert!(fs::read(&path).unwrap() == fs::read(&expected).unwrap());

    let error = save_as(&two_images(), &["app:2", "app:3"], &going_on(), &path).unwrap_err();
    assert_eq!((error.kind(), error.each().len()), (ErrorKind::NotFound, 2));
    assert!(
        fs::read(&path).unwrap() == fs::read(&expected).unwrap(),
        "the old file stays"
    );
}

/// Three images, of which the second and third share a layer.
fn three() -> (Fake, Digest) {
    let mut fake = Fake::default();
    fake.image("app:1", &[noise(1, 200_000)]);
    fake.image("app:2", &[noise(2, 3000), noise(3, 1000)]);
    fake.image("app:3", &[noise(2, 3000), noise(4, 1000)]);
    (fake, Digest::sha256(&noise(2, 3000)))
}

#[test]
fn images_of_a_layer_that_stays_broken_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let [path, expected] = ["images.tar", "expected.tar"].map(|name| folder.path().join(name));
    let names = ["app:1", "app:2", "app:3"];
    save_as(&three().0, &names[..1], &options(), &expected).unwrap();
    for fault in [Fault::Busy, Fault::FlipAt(5)] {
        let kind = ErrorKind::Registry;
        let (fake, broken) = three();
        fake.fail(broken, &[fault; 10]);
        let error = save_as(&fake, &names, &options(), &path).unwrap_err();
        assert_eq!(error.kind(), kind, "{fault:?}");

        let (fake, broken) = three();
        fake.fail(broken, &[fault; 10]);
        let summary = save_as(&fake, &names, &going_on(), &path).unwrap();
        assert_eq!(
            skipped(&summary),
            [("app:2".into(), kind), ("app:3".into(), kind)]
        );
        assert_eq!(summary.failure(), Some(kind));
        assert!(
            fs::read(&path).unwrap() == fs::read(&expected).unwrap(),
            "{fault:?}"
        );
        assert!(summary.reused >= 200_000, "the run before had left it");
        assert_eq!(listing(folder.path()), ["expected.tar", "images.tar"]);
        // Without an earlier run no image has reused bytes, although what arrived is not fetched again.
        let (fake, broken) = three();
        fake.fail(broken, &[fault; 10]);
        fs::remove_file(&path).unwrap();
        let summary = save_as(&fake, &names, &going_on(), &path).unwrap();
        assert_eq!(fake.offsets(Digest::sha256(&noise(1, 200_000))), [0]);
        assert_eq!((summary.reused, summary.images[0].reused), (0, 0));
    }
    // If no image is left, there is no archive.
    let (fake, broken) = three();
    fake.fail(broken, &[Fault::Busy; 10]);
    fs::remove_file(&path).unwrap();
    let error = save_as(&fake, &names[1..], &going_on(), &path).unwrap_err();
    assert_eq!((error.kind(), error.each().len()), (ErrorKind::Registry, 2));
    assert!(!path.exists());
}

#[test]
fn a_pipe_ends_with_the_first_layer_that_stays_broken() {
    let (fake, broken) = three();
    fake.fail(broken, &[Fault::Busy; 10]);
    let error = stream(&fake, &["app:1", "app:2"], &going_on()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registry);
    // Images that are known to fail before a byte is written are skipped in a stream too.
    let whole = stream(&three().0, &["app:1"], &options()).unwrap();
    let rest = stream(&three().0, &["app:1", "app:9"], &going_on()).unwrap();
    assert!(whole == rest);
}

/// The names in an archive.
fn names(path: &Path) -> Vec<String> {
    let layout = open(path);
    let entries = layout.entries().iter();
    entries
        .map(|entry| entry.reference.as_ref().unwrap().familiar())
        .collect()
}

#[test]
fn images_get_other_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let renaming = |renames: &[&str]| Options {
        renames: renames.iter().map(|text| text.parse().unwrap()).collect(),
        ..options()
    };
    let options = renaming(&["quay.io=harbor.local/quay", "app:1=zoo:2"]);
    let summary = save_as(&two_images(), &BOTH, &options, &path).unwrap();
    assert_eq!(names(&path), ["zoo:2", "harbor.local/quay/org/other:2"]);
    let told: Vec<_> = summary
        .images
        .iter()
        .map(|image| {
            (
                image.reference.familiar(),
                image.renamed_from.as_ref().unwrap().familiar(),
            )
        })
        .collect();
    let expected = [("zoo:2", BOTH[0]), ("harbor.local/quay/org/other:2", BOTH[1])];
    assert_eq!(
        told,
        expected.map(|(new, old)| (new.to_string(), old.to_string()))
    );

    for renames in [&["none:1=x:1"][..], &["app:1=quay.io/org/other:2"]] {
        let error = save_as(&two_images(), &BOTH, &renaming(renames), &path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{renames:?}");
    }
}
