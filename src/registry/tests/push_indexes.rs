//! Indexes of which not all manifests are at hand.

use super::push::{Images, changes, image, push, push_into, target};
use super::push_registry::{Dialect, PushRegistry};
use crate::error::{Advice, ErrorKind, Remedy};
use crate::load::{Change, LoadOptions};
use crate::oci::Platform;
use crate::registry::testing::patient;

#[test]
fn an_index_without_its_manifests_is_refused_before_anything_is_sent() {
    let both = [
        image(&[2 << 20]),
        image(&[1000]).platform(&Platform::linux("arm64", None)),
    ];
    let images = Images::new().index("httpd:2.4", &both, 1);
    let registry = PushRegistry::new(Dialect::default());
    let server = registry.start();
    let before = Images::new().image("httpd:2.4", &image(&[10]));
    push(&server, &before).unwrap();
    let tags = registry.shelf.lock().unwrap().tags.clone();
    let count = server.seen().len();
    let error = push(&server, &images).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registry);
    let text = error.to_string();
    assert!(
        text.contains("does not take the index of this image without 1 manifest"),
        "{text}"
    );
    let hint = error.hint().unwrap();
    assert!(
        hint.advice().contains(&Advice::Remedy(Remedy::PushPlatform)),
        "{hint}"
    );
    let seen = server.seen();
    let sent = changes(&seen[count..]);
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(
        sent[0].starts_with("PUT /v2/mirror/library/httpd/manifests/sha256:"),
        "{sent:?}"
    );
    assert_eq!(registry.shelf.lock().unwrap().tags, tags);
    // The platform's own manifest is taken.
    let (of_platform, _) = target(&server.host(), true, patient());
    let report = push_into(&of_platform, &images, &LoadOptions::default()).unwrap();
    let manifest = both[0].manifest().descriptor.digest;
    assert_eq!(report.images[0].digest, Some(manifest));
    assert_eq!(report.images[0].shown, Some(true));
    let Change::Moved { from } = &report.images[0].change else {
        panic!("{:?}", report.images[0].change);
    };
    let key = ("mirror/library/httpd".to_string(), "2.4".to_string());
    assert_eq!(*from, tags[&key].to_string());
    assert_eq!(registry.shelf.lock().unwrap().tags[&key], manifest);
    // Manifests that the registry has need not be in the archive.
    let other = Images::new().image("httpd:arm", &both[1]);
    push(&server, &other).unwrap();
    let report = push(&server, &images).unwrap();
    assert_eq!(report.images[0].shown, Some(true));
}

#[test]
fn the_others_are_pushed_if_asked() {
    let both = [
        image(&[1000]),
        image(&[1000]).platform(&Platform::linux("arm64", None)),
    ];
    let other = image(&[2000]).author("another");
    let images = Images::new()
        .index("httpd:2.4", &both, 1)
        .image("redis:7", &other);
    let images = images.index("httpd:3", &both, 1);
    let registry = PushRegistry::new(Dialect::default());
    let server = registry.start();
    let options = LoadOptions {
        keep_going: true,
        ..LoadOptions::default()
    };
    let report = push_into(&target(&server.host(), false, patient()).0, &images, &options).unwrap();
    assert_eq!(report.images.len(), 1);
    assert_eq!(report.images[0].shown, Some(true));
    let skipped: Vec<&str> = report.skipped.iter().map(|image| image.name.as_str()).collect();
    let names = ["httpd:2.4", "httpd:3"].map(|name| format!("{}/mirror/library/{name}", server.host()));
    assert_eq!(skipped, names);
    assert_eq!(report.failure(), Some(ErrorKind::Registry));
    let hint = report.skipped[0].hint.as_ref().unwrap().to_string();
    assert!(!hint.contains("no blob was sent"), "{hint}");
    let shelf = registry.shelf.lock().unwrap();
    assert_eq!(shelf.tags.len(), 1);
    assert!(
        shelf
            .blobs
            .keys()
            .all(|(repository, _)| repository == "mirror/library/redis")
    );
    drop(shelf);
    // It is asked once.
    let asked = changes(&server.seen());
    let asked = asked
        .iter()
        .filter(|one| one.starts_with("PUT") && one.contains("httpd/manifests/"));
    assert_eq!(asked.count(), 1);
    // If none is left, that is an error.
    let images = Images::new().index("httpd:2.4", &both, 1);
    let target = target(&server.host(), false, patient()).0;
    assert_eq!(
        push_into(&target, &images, &options).unwrap_err().kind(),
        ErrorKind::Registry
    );
}

#[test]
fn a_registry_that_takes_sparse_indexes_keeps_nothing_of_the_question() {
    let both = [
        image(&[1000]),
        image(&[1000]).platform(&Platform::linux("arm64", None)),
    ];
    let images = Images::new().index("httpd:2.4", &both, 1);
    let registry = PushRegistry::new(Dialect {
        takes_sparse: true,
        ..Dialect::default()
    });
    let server = registry.start();
    let report = push(&server, &images).unwrap();
    assert_eq!(report.images[0].shown, Some(true));
    let shelf = registry.shelf.lock().unwrap();
    assert_eq!(shelf.manifests.len(), 2, "the index and one manifest");
}

#[test]
fn several_platforms_have_no_common_manifest() {
    let both = [
        image(&[10]),
        image(&[10]).platform(&Platform::linux("arm64", None)),
    ];
    let images = Images::new().index("httpd:2.4", &both, 2);
    let server = PushRegistry::new(Dialect::default()).start();
    let (target, _) = target(&server.host(), true, patient());
    let error = push_into(&target, &images, &LoadOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(server.seen().len(), 0);
    let options = LoadOptions {
        platforms: vec!["linux/arm64".parse().unwrap()],
        ..LoadOptions::default()
    };
    let report = push_into(&target, &images, &options).unwrap();
    assert_eq!(
        report.images[0].digest,
        Some(both[1].manifest().descriptor.digest)
    );
}
