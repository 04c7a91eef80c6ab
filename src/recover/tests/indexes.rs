//! Stores that keep everything in its stored form, under indexes.

use super::fake::{Form, Image, Registry, Store, attestation, index, reference};
use crate::error::ErrorKind;
use crate::oci::testing::describe;
use crate::oci::{Digest, MediaType, Reference};
use crate::recover::tests::setup::{AMD64, APP, ARM64, REPOSITORY, Setup};
use crate::source::{Query, Source};

fn both() -> [Image; 2] {
    [(AMD64, 1), (ARM64, 2)].map(|(platform, seed)| {
        Image::unknown_encoder(platform, &[(seed, Form::UnknownEncoder), (seed + 10, Form::Zstd)])
    })
}

#[test]
fn what_is_there_of_an_index_is_given() {
    let [amd64, arm64] = both();
    let root = index(&[&amd64, &arm64]);
    let store = || Store::default().name(APP, &root);
    let all = || store().keep(&amd64).keep(&arm64).keep(&attestation());
    // As after a pull: of the other platforms there may be the manifests, and no configs.
    let pulled = || {
        store()
            .keep(&amd64)
            .document(&arm64.manifest)
            .keep(&attestation())
    };
    let table = [
        ("all, nothing asked for", all(), None, 2, 1),
        ("all, one platform", all(), Some(ARM64), 1, 0),
        ("all, all platforms", all(), Some("all"), 2, 1),
        ("one pulled, nothing asked for", pulled(), None, 1, 1),
        ("one pulled, asked for", pulled(), Some(AMD64), 1, 1),
        ("bare", store().keep(&arm64), None, 1, 0),
    ];
    for (what, store, platforms, images, attestations) in table {
        let setup = match platforms {
            Some(platforms) => Setup::offline().on(platforms),
            None => Setup::offline(),
        };
        let saved = setup
            .saved(store, &[APP])
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(saved.digests(), [Some(Digest::sha256(&root))], "{what}");
        let (graph, provenance) = saved.graph(0);
        assert_eq!(graph.runnable().count(), images, "{what}");
        assert_eq!(graph.images.len() - images, attestations, "{what}");
        assert!(provenance.uncompressed.is_empty(), "{what}");
        let layers = graph
            .images
            .iter()
            .map(|image| image.manifest.layers.len())
            .sum::<usize>();
        let says =
            format!("verified: manifest from the engine's store, {layers} of {layers} layers as stored");
        assert_eq!(saved.says(), [says], "{what}");
    }
    // A manifest alone.
    let saved = Setup::offline()
        .saved(Store::default().name(APP, &amd64.manifest).keep(&amd64), &[APP])
        .unwrap();
    assert_eq!(saved.digests(), [Some(amd64.digest())]);
}

#[test]
fn a_platform_that_is_not_all_there_is_not_given() {
    let [amd64, arm64] = both();
    let root = index(&[&amd64, &arm64]);
    let pulled = || {
        Store::default()
            .name(APP, &root)
            .keep(&amd64)
            .document(&arm64.manifest)
    };
    let fails = |store: Store, platforms: &str| {
        let setup = Setup::offline().on(platforms);
        let error = setup.saved(store, &[APP]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        (error.to_string(), error.hint().unwrap_or_default().to_string())
    };
    // It is listed, so another source may have it. This one does not.
    let (error, _) = fails(pulled(), ARM64);
    assert!(error.contains(&arm64.digest().to_string()), "{error}");
    let (error, _) = fails(pulled(), "all");
    assert!(error.contains(&arm64.digest().to_string()), "{error}");
    // It is not listed, so there is no image for that platform.
    let (error, hint) = fails(pulled(), "linux/s390x");
    assert_eq!(error, format!("{APP} not found in the store"));
    assert_eq!(hint, "it has linux/amd64, linux/arm64");
    let store = Store::default().name(APP, &amd64.manifest).keep(&amd64);
    let (_, hint) = fails(store, ARM64);
    assert_eq!(hint, "it has linux/amd64");
}

#[test]
fn a_missing_layer_is_named_or_fetched() {
    let [amd64, arm64] = both();
    let root = index(&[&amd64, &arm64]);
    let store = || {
        let store = Store::default().name(APP, &root).keep(&arm64);
        let store = store.document(&amd64.manifest).document(&amd64.config);
        store.blob(&amd64.stored[0])
    };
    let error = Setup::offline().saved(store(), &[APP]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let layer = amd64.layers[1].digest;
    assert_eq!(
        error.to_string(),
        format!("layer {layer} of {APP} not found in the store")
    );
    assert!(
        error.hint().unwrap().to_string().contains("registry"),
        "{error:?}"
    );
    // It is not needed for the other platform.
    let saved = Setup::offline().on(ARM64).saved(store(), &[APP]).unwrap();
    assert_eq!(saved.graph(0).0.images.len(), 1);
    let registry = Registry::default().has(REPOSITORY, &amd64.stored[1]);
    let saved = Setup::with(registry).saved(store(), &[APP]).unwrap();
    assert_eq!(
        saved.says(),
        [
            "verified: manifest from the engine's store, 3 of 4 layers as stored, 1 of 4 layers from the registry"
        ]
    );
}

#[test]
fn an_index_that_is_gone_is_said_to_be() {
    let [amd64, _] = both();
    let root = index(&[&amd64]);
    let lost = Store::default().name(APP, &root).damaged(&root, b"other");
    assert_eq!(
        Setup::offline().saved(lost, &[APP]).err().unwrap().kind(),
        ErrorKind::Content
    );
    let source = Setup::offline().source(Store::default().name(APP, &root));
    // Documents whose size differs from their descriptors.
    assert!(source.find(&Query::new(&[], None)).unwrap().is_empty());
    let mut larger = describe(MediaType::OCI_INDEX, &root);
    let names: Vec<Reference> = vec![reference(APP)];
    let source = Setup::offline().source(Store::default().name(APP, &root).keep(&amd64));
    source.find(&Query::new(&names, None)).unwrap();
    assert!(source.metadata(names[0].repository(), &larger).is_ok());
    larger.size += 1;
    let error = source.metadata(names[0].repository(), &larger).unwrap_err();
    assert!(error.to_string().contains("size is"), "{error}");
}

#[test]
fn a_blob_that_cannot_be_opened_is_not_one_that_is_not_there() {
    let [amd64, arm64] = both();
    let root = index(&[&amd64, &arm64]);
    for blob in [amd64.id(), amd64.layers[0].digest] {
        let mut store = Store::default().name(APP, &root).keep(&amd64).keep(&arm64);
        store.unreadable = Some(blob);
        let error = Setup::offline().saved(store, &[APP]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    }
}
