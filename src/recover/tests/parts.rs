//! The origin of each part of an image, and its report.

use super::fake::{Form, Image, Registry, Store};
use crate::error::{ErrorKind, Remedy};
use crate::recover::Rebuild;
use crate::recover::tests::setup::{AMD64, APP, REPOSITORY, Setup, app, numbered};

/// The report of a manifest that cannot be recovered.
const NOWHERE: &str = "neither the store nor a registry has it, and it cannot be rebuilt";

/// The origin of everything of one image, and its report.
#[test]
fn each_part_is_taken_from_where_it_is() {
    let pushed = |forms: &[Form]| Image::pushed(AMD64, &numbered(forms));
    let two = || app(&[Form::Push, Form::Crane]);
    let registry = || Registry::default().has_all(REPOSITORY, &two());
    let documents = || Registry::default().has(REPOSITORY, &two().manifest);
    let pull = |image: &Image| Store::default().pull(APP, image);
    let rebuilt = "1 of 2 layers rebuilt (Go gzip -1), 1 of 2 layers rebuilt (Go gzip 1)";
    let tried = "(no known encoder reproduces it (tried Go gzip -1, Go gzip 1, zlib 1 to 9))";
    let table = [
        (
            "all of it is in the store",
            pull(&two()).keep(&two()),
            Setup::offline(),
            "verified: manifest from the engine's store, 2 of 2 layers as stored".to_string(),
        ),
        (
            "the store has the manifest",
            pull(&two()).document(&two().manifest),
            Setup::offline(),
            format!("verified: manifest from the engine's store, {rebuilt}"),
        ),
        (
            "the registry has the manifest",
            pull(&two()),
            Setup::with(documents()),
            format!("verified: manifest from the registry, {rebuilt}"),
        ),
        (
            "the registry has it all",
            pull(&two()),
            Setup::with(registry()),
            "verified: manifest from the registry, 2 of 2 layers from the registry".into(),
        ),
        (
            "the registry has one layer",
            pull(&two()),
            Setup::with(documents().has(REPOSITORY, &two().stored[1])),
            "verified: manifest from the registry, 1 of 2 layers from the registry, 1 of 2 layers rebuilt (Go gzip \
             -1)"
                .into(),
        ),
        (
            "nobody has the manifest, and layers have known digests",
            pull(&pushed(&[Form::Push, Form::Crane])).remember(&pushed(&[Form::Push, Form::Crane])),
            Setup::offline(),
            format!("verified: manifest rebuilt (docker push), {rebuilt}"),
        ),
        (
            "nobody has the manifest of what was pushed from here",
            pull(&pushed(&[Form::Push, Form::Push])),
            Setup::offline(),
            "verified: manifest rebuilt (docker push), 2 of 2 layers rebuilt (Go gzip -1)".into(),
        ),
        (
            "a layer of an encoder that is not known",
            pull(&app(&[Form::Push, Form::UnknownEncoder])).document(&app(&[Form::Push, Form::UnknownEncoder]).manifest),
            Setup::offline(),
            format!(
                "verified: manifest from the engine's store, 1 of 2 layers rebuilt (Go gzip -1), 1 of 2 layers \
                 uncompressed {tried}"
            ),
        ),
        (
            "a zstd layer",
            pull(&app(&[Form::Zstd])).document(&app(&[Form::Zstd]).manifest),
            Setup::offline(),
            "verified: manifest from the engine's store, 1 of 1 layers uncompressed (zstd layers cannot be \
             recompressed)"
                .into(),
        ),
        (
            "a layer that is stored uncompressed",
            pull(&app(&[Form::Plain])).document(&app(&[Form::Plain]).manifest),
            Setup::offline(),
            "verified: manifest from the engine's store, 1 of 1 layers as stored".into(),
        ),
        (
            "nothing is to be rebuilt",
            pull(&two()).document(&two().manifest),
            Setup::offline().rebuild(Rebuild::Never),
            "verified: manifest from the engine's store, 2 of 2 layers uncompressed (recompression is switched off)"
                .into(),
        ),
        (
            "nobody has the manifest and nothing is to be rebuilt",
            pull(&pushed(&[Form::Push])),
            Setup::offline().rebuild(Rebuild::Never),
            format!(
                "recorded: no manifest: {NOWHERE}: it is not known which blob layer 1 of 1 was in a registry, 1 of 1 \
                 layers uncompressed (recompression is switched off)"
            ),
        ),
        (
            "no layers at all",
            pull(&app(&[])).document(&app(&[]).manifest),
            Setup::offline(),
            "verified: manifest from the engine's store".into(),
        ),
    ];
    for (what, store, setup, expected) in table {
        let saved = setup
            .saved(store, &[APP])
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(saved.says(), [expected], "{what}");
        assert_eq!(setup.notes(), [""; 0], "{what}");
        let known = saved.digests()[0].unwrap();
        let (graph, provenance) = saved.graph(0);
        assert_eq!(provenance.digest(graph.root.digest), Some(known), "{what}");
        for layer in &graph.images[0].manifest.layers {
            assert!(saved.has(provenance.layer(layer).digest), "{what}");
        }
    }
}

#[test]
fn images_that_share_layers_have_them_packed_once() {
    let first = Image::unknown_encoder(AMD64, &[(1, Form::Push), (2, Form::Push)]);
    let second = Image::unknown_encoder(AMD64, &[(1, Form::Push), (3, Form::Push)]);
    let third = Image::pushed(AMD64, &[(1, Form::Push)]);
    let store = Store::default()
        .pull("app:1", &first)
        .pull("quay.io/org/app:2", &second)
        .pull("app:3", &third)
        .document(&first.manifest)
        .document(&second.manifest);
    let opened = store.opened.clone();
    let setup = Setup::offline();
    let saved = setup
        .saved(store, &["app:1", "quay.io/org/app:2", "app:3"])
        .unwrap();
    assert_eq!(saved.digests().len(), 3);
    assert!(
        saved.says().iter().all(|says| says.starts_with("verified")),
        "{:?}",
        saved.says()
    );
    let mut opened = opened.lock().unwrap().clone();
    // The third image's manifest is rebuilt from what those of the others say about the layer.
    opened.sort();
    let mut all = [first.diff_id(0), first.diff_id(1), second.diff_id(1)];
    all.sort();
    assert_eq!(opened, all);
}

#[test]
fn a_substitute_keeps_the_order_of_its_layers() {
    for shown in [true, false] {
        let image = Image::unknown_encoder(
            AMD64,
            &[
                (1, Form::UnknownEncoder),
                (2, Form::UnknownEncoder),
                (3, Form::Zstd),
                (4, Form::UnknownEncoder),
            ],
        );
        let store = Store::default()
            .remember(&image)
            .blob(&image.stored[1])
            .blob(&image.stored[2]);
        let store = match shown {
            true => store.pull(APP, &image),
            false => store.keep_uncompressed(APP, &image, &[]),
        };
        let saved = Setup::offline().saved(store, &[APP]).unwrap();
        let (graph, provenance) = saved.graph(0);
        let layers: Vec<_> = graph.images[0]
            .manifest
            .layers
            .iter()
            .map(|layer| layer.digest)
            .collect();
        let expected = [
            image.diff_id(0),
            image.layers[1].digest,
            image.layers[2].digest,
            image.diff_id(3),
        ];
        assert_eq!(layers, expected);
        let recorded = shown.then(|| image.digest());
        assert_eq!(provenance.substitute.unwrap().recorded, recorded);
        assert_eq!(saved.digests(), [recorded]);
    }
}

#[test]
fn a_substitute_is_the_same_each_time() {
    let image = app(&[Form::UnknownEncoder, Form::Push]);
    let shown = format!("{REPOSITORY}@{}", image.digest());
    let table = [
        (
            &[shown.as_str()][..],
            format!(
                "recorded: no manifest: {NOWHERE}: it is not known which blobs layers 1, 2 of 2 were in a registry, \
                 and what docker push would have made of them does not give the digest, 2 of 2 layers uncompressed \
                 (without the manifest nothing proves how it was compressed)"
            ),
        ),
        (
            &[],
            "none: no manifest: the image has no digest of a registry: it was never pulled or pushed".into(),
        ),
    ];
    for (shown, says) in table {
        let saved = || {
            let store = Store::default().keep_uncompressed(APP, &image, shown);
            Setup::offline().saved(store, &[APP]).unwrap()
        };
        let (first, second) = (saved(), saved());
        assert_eq!(first.summary.digest, second.summary.digest);
        assert!(first.bytes == second.bytes);
        assert_eq!(first.says(), [says]);
    }
}

#[test]
fn what_was_packed_again_gives_the_same_archive_each_time() {
    let image = Image::pushed(AMD64, &numbered(&[Form::Push, Form::Crane, Form::Push]));
    let saved = || {
        let store = Store::default().pull(APP, &image).remember(&image);
        Setup::offline().saved(store, &[APP]).unwrap()
    };
    let first = saved();
    assert!(first.bytes == saved().bytes);
    // And the same documents and layers as the registry's.
    let online = Setup::with(Registry::default().has_all(REPOSITORY, &image));
    let online = online.saved(Store::default().pull(APP, &image), &[APP]).unwrap();
    let mut blobs = [first.layout.blobs(), online.layout.blobs()];
    blobs.iter_mut().for_each(|blobs| blobs.sort());
    assert_eq!(blobs[0], blobs[1]);
}

#[test]
fn what_must_be_proven_is_refused_otherwise() {
    let tried = "no known encoder reproduces it (tried Go gzip -1, Go gzip 1, zlib 1 to 9)";
    let table = [
        (
            app(&[Form::Push, Form::UnknownEncoder]),
            true,
            format!(
                "manifest from the engine's store, 1 of 2 layers rebuilt (Go gzip -1), 1 of 2 layers uncompressed ({tried})"
            ),
        ),
        (
            app(&[Form::Push]),
            false,
            format!(
                "no manifest: {NOWHERE}: it is not known which blob layer 1 of 1 was in a registry, and what \
                 docker push would have made of them does not give the digest, 1 of 1 layers uncompressed (without the manifest nothing proves how it \
                 was compressed)"
            ),
        ),
    ];
    for (image, has_manifest, reason) in table {
        let store = Store::default().pull(APP, &image);
        let store = match has_manifest {
            true => store.document(&image.manifest),
            false => store,
        };
        let setup = Setup::offline().rebuild(Rebuild::Require);
        let error = setup.saved(store, &[APP]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotShown);
        assert_eq!(error.to_string(), format!("{APP}: {reason}"));
        assert_eq!(error.hint(), Some(Remedy::SaveWhatCanBeRecovered.into()));
    }
    let image = app(&[Form::Push]);
    let store = Store::default().pull(APP, &image).document(&image.manifest);
    let setup = Setup::offline().rebuild(Rebuild::Require);
    assert_eq!(
        setup.saved(store, &[APP]).unwrap().digests(),
        [Some(image.digest())]
    );
}

#[test]
fn a_layer_that_is_not_what_it_is_called_is_refused() {
    // A manifest proves its stored and its recompressed layers. A substitute proves nothing.
    let image = app(&[Form::UnknownEncoder]);
    let other = app(&[Form::UnknownEncoder, Form::UnknownEncoder]);
    let lying = Image {
        layers: vec![other.layers[1].clone()],
        ..image.clone()
    };
    let store = Store::default()
        .pull(APP, &image)
        .remember(&lying)
        .blob(&other.stored[1]);
    let error = Setup::offline().saved(store, &[APP]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Content);
    assert!(error.to_string().contains("diff id is"), "{error}");
    // Damaged where it is stored.
    let store = Store::default().pull(APP, &image).keep(&image);
    let mut bytes = image.stored[0].clone();
    bytes[100] ^= 1;
    let error = Setup::offline()
        .saved(store.damaged(&image.stored[0], &bytes), &[APP])
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Content);
    assert!(error.to_string().contains("the store"), "{error}");
    // Only half of it is there, as while an engine fetches it: it is fetched or recompressed.
    let image = app(&[Form::Push]);
    let half = &image.stored[0][..100];
    let store = || {
        Store::default()
            .pull(APP, &image)
            .keep(&image)
            .damaged(&image.stored[0], half)
    };
    for setup in [
        Setup::offline(),
        Setup::with(Registry::default().has_all(REPOSITORY, &image)),
    ] {
        let saved = setup.saved(store(), &[APP]).unwrap();
        assert_eq!(saved.digests(), [Some(image.digest())]);
        assert!(saved.has(image.layers[0].digest));
    }
}

#[test]
fn a_signal_stops_it() {
    let image = app(&[Form::UnknownEncoder, Form::UnknownEncoder]);
    let setup = Setup::offline();
    let mut store = Store::default().pull(APP, &image).document(&image.manifest);
    store.stops = Some(setup.interrupt.clone());
    let opened = store.opened.clone();
    let error = setup.saved(store, &[APP]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(opened.lock().unwrap().len() <= 2);
    // Before anything is looked for.
    let store = Store::default().pull(APP, &image);
    assert_eq!(
        setup.saved(store, &[APP]).err().unwrap().kind(),
        ErrorKind::Interrupted
    );
}

#[test]
fn a_layer_that_is_nowhere_is_an_error_that_names_it() {
    let image = app(&[Form::Push, Form::Push]);
    let lost = image.diff_id(1);
    let store = || Store::default().pull(APP, &image).without(lost);
    for (store, layer) in [
        (store().document(&image.manifest), image.layers[1].digest),
        (store(), lost),
    ] {
        let error = Setup::offline().saved(store, &[APP]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(
            error.to_string(),
            format!("layer {layer} of {APP} not found in the store")
        );
    }
    let setup = Setup::with(Registry::default().has_all(REPOSITORY, &image));
    assert_eq!(
        setup.saved(store(), &[APP]).unwrap().digests(),
        [Some(image.digest())]
    );
}
