//! Registries that do not help.

use super::fake::{Form, Image, Registry, Store, attestation, index};
use crate::error::ErrorKind;
use crate::oci::Digest;
use crate::recover::tests::setup::{AMD64, APP, ARM64, REPOSITORY, Setup, app};

#[test]
fn a_registry_out_of_reach_is_asked_once() {
    let images = [1, 2, 3].map(|seed| Image::pushed(AMD64, &[(seed, Form::Push), (9, Form::Push)]));
    let names = [APP, "quay.io/other/app:1", "quay.io/org/app:3"];
    let store = || {
        let pairs = names.iter().zip(&images);
        pairs.fold(Store::default(), |store, (name, image)| store.pull(name, image))
    };
    let setup = Setup::with(Registry::default().closed("quay.io"));
    let saved = setup.saved(store(), &names).unwrap();
    assert!(
        saved
            .summary
            .images
            .iter()
            .all(|image| image.evidence.to_string() == "verified")
    );
    assert_eq!(setup.registry.as_ref().unwrap().asked(), 1);
    let notes = setup.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].ends_with("no; continuing without this registry"),
        "{notes:?}"
    );
    // Another registry is asked all the same.
    let other = Image::unknown_encoder(AMD64, &[(4, Form::UnknownEncoder)]);
    let registry = Registry::default()
        .closed("quay.io")
        .has_all("mirror.example/other", &other);
    let setup = Setup::with(registry);
    let store = store().pull("mirror.example/other:1", &other);
    let saved = setup
        .saved(store, &[names[0], "mirror.example/other:1", names[1]])
        .unwrap();
    assert_eq!(
        saved.says()[0],
        "verified: manifest from the registry, 1 of 1 layers from the registry"
    );
    assert_eq!(setup.notes().len(), 1);
}

#[test]
fn a_repository_that_is_kept_from_us_is_not_all_of_a_registry() {
    let [first, private, last] = [1, 2, 3].map(|seed| Image::unknown_encoder(AMD64, &[(seed, Form::Push)]));
    let registry = Registry::default()
        .has_all("app", &first)
        .has_all("app", &last)
        .closed("docker.io/library/private");
    let setup = Setup::with(registry);
    let store = Store::default()
        .pull("app:1", &first)
        .pull("private:1", &private)
        .pull("private:2", &private)
        .pull("app:3", &last);
    let saved = setup
        .saved(store, &["app:1", "private:1", "private:2", "app:3"])
        .unwrap();
    let evidence: Vec<String> = saved
        .summary
        .images
        .iter()
        .map(|image| image.evidence.to_string())
        .collect();
    assert_eq!(evidence, ["verified", "verified", "recorded", "recorded"]);
    let notes = setup.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].ends_with("no; continuing without this repository"),
        "{notes:?}"
    );
}

#[test]
fn a_registry_that_lies_is_not_believed() {
    let image = app(&[Form::Push]);
    let store = || Store::default().pull(APP, &image);
    let all = || Registry::default().has_all(REPOSITORY, &image);
    // Other bytes for the manifest.
    let setup = Setup::with(all().wrong(&image.manifest));
    let saved = setup.saved(store(), &[APP]).unwrap();
    assert!(
        saved.says()[0].starts_with("recorded: no manifest"),
        "{:?}",
        saved.says()
    );
    let notes = setup.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].ends_with("; continuing without it"), "{notes:?}");
    // It is useful for the next image.
    let next = Image::unknown_encoder(AMD64, &[(5, Form::UnknownEncoder)]);
    let registry = all().wrong(&image.manifest).has_all(REPOSITORY, &next);
    let name = "quay.io/org/app:2";
    let saved = Setup::with(registry)
        .saved(store().pull(name, &next), &[APP, name])
        .unwrap();
    assert_eq!(saved.digests(), [Some(image.digest()), Some(next.digest())]);
    assert!(
        saved.says()[1].starts_with("verified: manifest from the registry"),
        "{:?}",
        saved.says()
    );
    // Another manifest of the same image.
    let other = Image::pushed(AMD64, &[(1, Form::Push)]);
    assert_eq!(other.id(), image.id());
    let mut registry = all().has_all(REPOSITORY, &other);
    registry.confused = Some(other.root.bare());
    let saved = Setup::with(registry).saved(store(), &[APP]).unwrap();
    assert!(
        saved.says()[0].starts_with("recorded: no manifest"),
        "{:?}",
        saved.says()
    );
    assert_eq!(saved.digests(), [Some(image.digest())]);
    // Another image under the digest, as by a store that is mistaken.
    let other = Image::unknown_encoder(AMD64, &[(7, Form::Push)]);
    let shown = format!("{REPOSITORY}@{}", other.digest());
    let registry = Registry::default().has_all(REPOSITORY, &other);
    let wrong = Store::default().keep_uncompressed(APP, &image, &[&shown]);
    let saved = Setup::with(registry).saved(wrong, &[APP]).unwrap();
    assert!(
        saved.says()[0].starts_with("recorded: no manifest"),
        "{:?}",
        saved.says()
    );
    assert!(!saved.has(other.layers[0].digest));
    // Other bytes for the layer, which arrive only when it is fetched.
    let error = Setup::with(all().wrong(&image.stored[0]))
        .saved(store(), &[APP])
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Registry);
    assert!(error.to_string().starts_with("quay.io: "), "{error}");
}

#[test]
fn documents_that_cannot_be_used_are_passed_over() {
    let image = Image::pushed(AMD64, &[(1, Form::Push)]);
    let schema1 = br#"{"schemaVersion":1,"name":"org/app","tag":"1","fsLayers":[],"history":[]}"#;
    let nonsense = b"what is this";
    for bytes in [&schema1[..], nonsense] {
        let digest = Digest::sha256(bytes);
        let shown = [
            format!("{REPOSITORY}@{digest}"),
            format!("{REPOSITORY}@{}", image.digest()),
        ];
        let store = || Store::default().keep_uncompressed(APP, &image, &[&shown[0], &shown[1]]);
        let in_store = (store().document(bytes), Setup::offline());
        let upstream = (store(), Setup::with(Registry::default().has(REPOSITORY, bytes)));
        for (store, setup) in [in_store, upstream] {
            let saved = setup.saved(store, &[APP]).unwrap();
            assert_eq!(saved.digests(), [Some(image.digest()), Some(digest)]);
            assert!(saved.says()[1].starts_with("recorded: "), "{:?}", saved.says());
            let notes = setup.notes();
            assert_eq!(notes.len(), 2, "{notes:?}");
            assert!(notes[0].contains(&digest.to_string()), "{notes:?}");
            assert!(notes[1].contains("a guessed digest"), "{notes:?}");
        }
    }
    // A manifest that is damaged in the store may be intact elsewhere.
    let store = Store::default().pull(APP, &image).document(&image.manifest);
    let store = store.damaged(&image.manifest, b"damaged");
    let setup = Setup::with(Registry::default().has_all(REPOSITORY, &image));
    let saved = setup.saved(store, &[APP]).unwrap();
    assert!(
        saved.says()[0].starts_with("verified: manifest from the registry"),
        "{:?}",
        saved.says()
    );
    assert_eq!(setup.notes().len(), 1);
}

#[test]
fn only_what_is_missing_is_asked_for() {
    let [amd64, arm64] = [(AMD64, 1), (ARM64, 2)].map(|(platform, seed)| {
        Image::unknown_encoder(platform, &[(seed, Form::Push), (7, Form::UnknownEncoder)])
    });
    let index = index(&[&arm64, &amd64, &attestation()]);
    let registry = [&amd64, &arm64, &attestation()]
        .into_iter()
        .fold(Registry::default(), |registry, image| {
            registry.has_all(REPOSITORY, image)
        })
        .has(REPOSITORY, &index);
    let digest = Digest::sha256(&index);
    let shown = format!("{REPOSITORY}@{digest}");
    let setup = Setup::with(registry);
    let store = Store::default()
        .keep_uncompressed(APP, &amd64, &[&shown])
        .blob(&amd64.stored[1]);
    let saved = setup.saved(store, &[APP]).unwrap();
    assert_eq!(saved.digests(), [Some(digest)]);
    assert_eq!(
        saved.says(),
        ["verified: manifest from the registry, 1 of 2 layers as stored, 1 of 2 layers from the registry"]
    );
    let registry = setup.registry.unwrap();
    let asked = registry.asked.lock().unwrap().clone();
    let short = |what: &str, digest: Digest| format!("{what} {REPOSITORY}@{}", digest.short());
    let layer = short("open", amd64.layers[0].digest);
    let expected = [
        short("resolve", digest),
        short("metadata", digest),
        short("metadata", amd64.digest()),
        // Whether it exists, and then all of it.
        layer.clone(),
        layer,
    ];
    assert_eq!(asked, expected);
}

#[test]
fn a_layer_is_fetched_from_the_repository_that_has_it() {
    // Both names have it. Only the second one's repository serves it, and the first one's is asked first.
    let image = Image::unknown_encoder(AMD64, &[(1, Form::UnknownEncoder)]);
    let registry = Registry::default()
        .has("app", b"something")
        .has("other", &image.stored[0]);
    let setup = Setup::with(registry);
    let store = Store::default()
        .pull("app:1", &image)
        .pull("other:1", &image)
        .document(&image.manifest);
    let saved = setup.saved(store, &["app:1", "other:1"]).unwrap();
    let says = "verified: manifest from the engine's store, 1 of 1 layers from the registry";
    assert_eq!(saved.says(), [says, says]);
    assert!(saved.has(image.layers[0].digest) && !saved.has(image.diff_id(0)));
}
