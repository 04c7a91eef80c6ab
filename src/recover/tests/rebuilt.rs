//! Manifests that are found nowhere, rebuilt from what is known about the layers.

use std::io::Write as _;
use std::path::Path;

use super::fake::{Form, Image, Registry, Store, reference};
use crate::archive::{self, ArchiveSource, Opened, Options};
use crate::oci::Reference;
use crate::recover::tests::setup::{AMD64, APP, REPOSITORY, Setup};
use crate::recover::{DockerSaveStore, Rebuild, RecoverSource};
use crate::source::{Fallback, Source};

const BASE: &str = "docker.io/library/base:1";

/// A base whose layers no known encoder made, and an image with one more layer on it, pushed by `docker push`.
fn base_and_app(form: Form) -> (Image, Image) {
    let layers = [
        (1, Form::UnknownEncoder),
        (2, Form::UnknownEncoder),
        (3, Form::UnknownEncoder),
        (4, form),
    ];
    (
        Image::unknown_encoder(AMD64, &layers[..3]),
        Image::pushed(AMD64, &layers),
    )
}

#[test]
fn the_manifest_of_the_base_has_the_sizes() {
    let (base, app) = base_and_app(Form::Push);
    let store = || {
        let base_too = Store::default().pull(BASE, &base).pull(APP, &app);
        base_too.document(&base.manifest)
    };
    let says = "verified: manifest rebuilt (docker push), 1 of 4 layers rebuilt (Go gzip -1), 3 of 4 layers \
                uncompressed (no known encoder reproduces it (tried Go gzip -1, Go gzip 1, zlib 1 to 9))";
    for store in [store(), store().remember(&app)] {
        let saved = Setup::offline().saved(store, &[APP]).unwrap();
        assert_eq!(saved.digests(), [Some(app.digest())]);
        assert_eq!(saved.says(), [says]);
    }
    // Also if its config is gone: the blobs of the layers are known from the pull.
    let store = Store::default()
        .pull(APP, &app)
        .document(&base.manifest)
        .remember(&app);
    let saved = Setup::offline().saved(store, &[APP]).unwrap();
    assert_eq!(saved.says(), [says]);
}

#[test]
fn nothing_is_packed_for_a_manifest_that_is_known_by_its_layers() {
    let (_, app) = base_and_app(Form::UnknownEncoder);
    // Another image with the same layers.
    let twin = Image {
        config: app.config.clone(),
        ..Image::unknown_encoder(
            AMD64,
            &[
                (1, Form::UnknownEncoder),
                (2, Form::UnknownEncoder),
                (3, Form::UnknownEncoder),
                (4, Form::UnknownEncoder),
            ],
        )
    };
    let store = Store::default().pull(APP, &app).document(&twin.manifest);
    let opened = store.opened.clone();
    let setup = Setup::offline().rebuild(Rebuild::Never);
    let saved = setup.saved(store, &[APP]).unwrap();
    assert_eq!(
        saved.says(),
        [
            "verified: manifest rebuilt (docker push), 4 of 4 layers uncompressed (recompression is switched off)"
        ]
    );
    // Once each, into the archive.
    assert_eq!(opened.lock().unwrap().len(), 4);
}

#[test]
fn the_registry_has_the_base() {
    let (base, app) = base_and_app(Form::Push);
    let store = || Store::default().pull(BASE, &base).pull(APP, &app);
    let registry = || {
        Registry::default()
            .has("library/base", &base.manifest)
            .has("library/base", &base.config)
    };
    let setup = Setup::with(registry());
    let saved = setup.saved(store(), &[APP]).unwrap();
    assert_eq!(saved.digests(), [Some(app.digest())]);
    assert!(
        saved.says()[0].starts_with("verified: manifest rebuilt"),
        "{:?}",
        saved.says()
    );
    assert_eq!(setup.notes(), [""; 0]);
    // Its layers are requested from where the image itself was pushed.
    let mounted = base
        .stored
        .iter()
        .fold(registry(), |registry, layer| registry.has(REPOSITORY, layer));
    let saved = Setup::with(mounted).saved(store(), &[APP]).unwrap();
    assert!(
        saved.says()[0].contains("3 of 4 layers from the registry"),
        "{:?}",
        saved.says()
    );
    // A base that was altered there proves nothing, and prevents nothing.
    let setup = Setup::with(registry().wrong(&base.manifest));
    let saved = setup.saved(store(), &[APP]).unwrap();
    assert!(saved.says()[0].starts_with("recorded: "), "{:?}", saved.says());
}

/// An archive of one image.
fn archived(image: &Image, name: &str, folder: &Path) -> ArchiveSource {
    let registry = Registry::default().has_all("library/base", image);
    let path = folder.join("base.tar");
    let pinned = Reference::digested(reference(name).repository(), image.digest());
    Setup::offline()
        .save(&registry, &[&pinned.full()], &path)
        .unwrap();
    match archive::open_any(&[path], &Options::default()).unwrap() {
        Opened::Layout(layout) => ArchiveSource::new(layout).unwrap(),
        Opened::DockerSave(_) => panic!("it is a layout"),
    }
}

/// What a save takes from a source beside an archive of the base, which is asked second.
fn beside_base(source: RecoverSource, base: &Image, name: &str) -> crate::recover::tests::setup::Saved {
    let folder = tempfile::tempdir().unwrap();
    let sources: Vec<Box<dyn Source>> = vec![Box::new(source), Box::new(archived(base, BASE, folder.path()))];
    Setup::offline()
        .saved_from(&Fallback::new(sources), &[name])
        .unwrap()
}

#[test]
fn another_source_has_the_base() {
    let folder = tempfile::tempdir().unwrap();
    let (base, app) = base_and_app(Form::Push);
    for is_first in [true, false] {
        let store = Store::default().pull(APP, &app);
        let mut sources: Vec<Box<dyn Source>> = vec![
            Box::new(Setup::offline().source(store)),
            Box::new(archived(&base, BASE, folder.path())),
        ];
        if !is_first {
            sources.reverse();
        }
        let saved = Setup::offline()
            .saved_from(&Fallback::new(sources), &[APP])
            .unwrap();
        assert_eq!(saved.digests(), [Some(app.digest())]);
        assert_eq!(
            saved.says(),
            [
                "verified: manifest rebuilt (docker push), 3 of 4 layers as stored, 1 of 4 layers rebuilt (Go gzip -1)"
            ]
        );
        for layer in &app.layers {
            assert!(saved.has(layer.digest));
        }
    }
    // Its layers are used for a known manifest, too.
    let store = Store::default().pull(APP, &app).document(&app.manifest);
    let saved = beside_base(Setup::offline().source(store), &base, APP);
    assert!(
        saved.says()[0].contains("3 of 4 layers as stored"),
        "{:?}",
        saved.says()
    );
}

#[test]
fn a_size_that_is_not_known_is_searched_for() {
    let (base, app) = base_and_app(Form::UnknownEncoder);
    let store = || {
        let known = Store::default().pull(APP, &app).remember(&app);
        known.document(&base.manifest).document(&base.config)
    };
    let saved = Setup::offline().saved(store(), &[APP]).unwrap();
    assert_eq!(
        saved.says(),
        [
            "verified: manifest rebuilt (docker push), 4 of 4 layers uncompressed (no known encoder reproduces it (tried Go \
          gzip -1, Go gzip 1, zlib 1 to 9))"
        ]
    );
    assert_eq!(saved.digests(), [Some(app.digest())]);
    // A layer that no encoder reproduced is not tried again.
    let store = store();
    let opened = store.opened.clone();
    Setup::offline().saved(store, &[APP]).unwrap();
    let opened = opened
        .lock()
        .unwrap()
        .iter()
        .filter(|layer| **layer == app.diff_id(3))
        .count();
    assert!(opened <= 12, "{opened}");
}

#[test]
fn what_is_missing_is_told_for_each_layer() {
    let (_, app) = base_and_app(Form::UnknownEncoder);
    let store = Store::default().pull(APP, &app).remember(&app);
    let saved = Setup::offline().saved(store, &[APP]).unwrap();
    let says = "recorded: no manifest: neither the store nor a registry has it, and it cannot be rebuilt: the \
                compressed sizes of layers 1, 2, 3, 4 of 4 are not known, 4 of 4 layers uncompressed (no known encoder \
                reproduces it (tried Go gzip -1, Go gzip 1, zlib 1 to 9))";
    assert_eq!(saved.says(), [says]);
}

#[test]
fn of_several_registries_blobs_the_right_ones_are_found() {
    // Pulled from one registry, where crane had compressed it; pushed to another, compressed again.
    let (pulled, pushed) = (Form::Crane, Form::Push);
    let base = Image::unknown_encoder(AMD64, &[(1, pulled), (2, pulled)]);
    for app in [
        [(1, pulled), (2, pulled), (3, pushed)],
        [(1, pushed), (2, pushed), (3, pushed)],
        [(1, pulled), (2, pushed), (3, pushed)],
    ] {
        let app = Image::pushed(AMD64, &app);
        for store in [
            Store::default().pull(APP, &app).remember(&base).remember(&app),
            Store::default().pull(APP, &app).remember(&app).remember(&base),
            Store::default()
                .pull(APP, &app)
                .document(&base.manifest)
                .document(&base.config),
        ] {
            let saved = Setup::offline().saved(store, &[APP]).unwrap();
            assert_eq!(saved.digests(), [Some(app.digest())]);
            assert!(
                saved.says()[0].starts_with("verified: manifest rebuilt"),
                "{:?}",
                saved.says()
            );
        }
    }
}

#[test]
fn an_archive_of_docker_save_and_one_of_the_base() {
    let folder = tempfile::tempdir().unwrap();
    let (base, app) = base_and_app(Form::Push);
    let mut tar = tar::Builder::new(Vec::new());
    let mut put = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(bytes.len()).unwrap());
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    put("config.json", &app.config);
    let names: Vec<String> = (0..app.tars.len()).map(|at| format!("{at}/layer.tar")).collect();
    for (name, layer) in names.iter().zip(&app.tars) {
        put(name, layer);
    }
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": ["app:1"], "Layers": names }]);
    put("manifest.json", manifest.to_string().as_bytes());
    let path = folder.path().join("app.tar");
    let bytes = tar.into_inner().unwrap();
    std::fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
    let Opened::DockerSave(save) = archive::open_any(&[path], &Options::default()).unwrap() else {
        panic!("it is an archive of docker save");
    };
    let name = format!("app@{}", app.digest());
    let saved = beside_base(
        Setup::offline().source(DockerSaveStore::new(save).unwrap()),
        &base,
        &name,
    );
    assert_eq!(saved.digests(), [Some(app.digest())]);
    assert!(
        saved.says()[0].contains("3 of 4 layers as stored"),
        "{:?}",
        saved.says()
    );
}

/// `docker push` calls every layer gzip.
#[test]
fn a_layer_that_its_manifest_calls_something_else_goes_uncompressed() {
    let base = Image::unknown_encoder(AMD64, &[(1, Form::Zstd)]);
    let app = Image::pushed(AMD64, &[(1, Form::Zstd), (2, Form::Push)]);
    let saved = beside_base(
        Setup::offline().source(Store::default().pull(APP, &app)),
        &base,
        APP,
    );
    assert_eq!(saved.digests(), [Some(app.digest())]);
    assert_eq!(
        saved.says(),
        [
            "verified: manifest rebuilt (docker push), 1 of 2 layers rebuilt (Go gzip -1), 1 of 2 layers uncompressed (it is \
          zstd, and its manifest calls it application/vnd.docker.image.rootfs.diff.tar.gzip)"
        ]
    );
}
