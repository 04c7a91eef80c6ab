//! Digests and names, and which image they select.

use super::fake::{Form, Image, Registry, Store, index, reference};
use crate::error::ErrorKind;
use crate::image::provenance::{Evidence, Substitute};
use crate::oci::Digest;
use crate::recover::StoreImage;
use crate::recover::tests::setup::{AMD64, APP, ARM64, REPOSITORY, Setup, app, found};
use crate::source::Source;

const SHOWN: &str = "sha256:4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a";

#[test]
fn only_digests_of_the_same_repository_are_the_names() {
    let name = |text: &str, seed: &str| reference(&format!("{text}@{}", Digest::sha256(seed.as_bytes())));
    let shown = [
        name("b", "1"),
        name("a", "2"),
        name("c", "2"),
        reference("a:7"),
        name("a", "3"),
        name("a", "2"),
    ];
    let entry = StoreImage::new(reference("a").repository(), &shown, None);
    let mut own = [name("a", "2"), name("a", "3")];
    own.sort();
    assert_eq!(entry.digests, own);
    assert_eq!(entry.elsewhere, [name("b", "1"), name("c", "2")]);
}

#[test]
fn an_index_leads_to_the_image_that_is_held() {
    let [image, other] = [(AMD64, 1), (ARM64, 2)]
        .map(|(platform, seed)| Image::unknown_encoder(platform, &[(seed, Form::Push)]));
    // Same platform, another image.
    let twin = Image::unknown_encoder(AMD64, &[(3, Form::Push)]);
    for images in [vec![&other, &image], vec![&twin, &image], vec![&image]] {
        let index = index(&images);
        let digest = format!("{REPOSITORY}@{}", Digest::sha256(&index));
        let store = |image: &Image| {
            Store::default()
                .keep_uncompressed(APP, image, &[&digest])
                .document(&index)
        };
        let store = |image: &Image| {
            images
                .iter()
                .fold(store(image), |store, image| store.document(&image.manifest))
        };
        for name in [APP, &digest, &format!("{APP}@{}", Digest::sha256(&index))] {
            let saved = Setup::offline().saved(store(&image), &[name]).unwrap();
            assert_eq!(saved.digests(), [Some(Digest::sha256(&index))], "{name}");
            let (graph, provenance) = saved.graph(0);
            assert_eq!(provenance.substitute, None);
            let ids: Vec<Digest> = graph.images.iter().map(|image| image.id()).collect();
            assert_eq!(ids, [image.id()], "{name}");
        }
    }
    // Its manifest is not below: only the engine reports the digest.
    let index = index(&[&other, &twin]);
    let digest = format!("{REPOSITORY}@{}", Digest::sha256(&index));
    let store = Store::default().keep_uncompressed(APP, &image, &[&digest]);
    let store = store
        .document(&index)
        .document(&other.manifest)
        .document(&twin.manifest);
    let saved = Setup::offline().saved(store, &[APP]).unwrap();
    assert!(
        saved.says()[0].starts_with("recorded: no manifest"),
        "{:?}",
        saved.says()
    );
    assert_eq!(saved.digests(), [Some(Digest::sha256(&index))]);
}

#[test]
fn one_image_in_two_repositories_has_each_ones_digest() {
    let layers = [(1, Form::Push)];
    let (image, pushed) = (
        Image::unknown_encoder(AMD64, &layers),
        Image::pushed(AMD64, &layers),
    );
    assert_eq!(image.id(), pushed.id());
    let shown = [
        format!("{REPOSITORY}@{}", image.digest()),
        format!("mirror.example/app@{}", pushed.digest()),
    ];
    let shown = [shown[0].as_str(), shown[1].as_str()];
    let store = Store::default()
        .keep_uncompressed(APP, &image, &shown)
        .keep_uncompressed("mirror.example/app:2", &image, &shown)
        .keep_uncompressed("app:3", &image, &shown);
    let registry = Registry::default()
        .has_all(REPOSITORY, &image)
        .has_all("mirror.example/app", &pushed);
    let setup = Setup::with(registry);
    let saved = setup
        .saved(store, &[APP, "mirror.example/app:2", "app:3"])
        .unwrap();
    let told = saved.summary.images.iter();
    let told = told.map(|image| (image.reference.familiar(), image.digest, image.evidence));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            // It was never pulled or pushed under this name.
            ("app:3".into(), None, Evidence::None),
            (
                "mirror.example/app:2".into(),
                Some(pushed.digest()),
                Evidence::Verified
            ),
            (APP.into(), Some(image.digest()), Evidence::Verified),
        ]
    );
    // Its content is there once.
    let (graph, provenance) = saved.graph(0);
    assert_eq!(graph.root.digest, image.digest());
    assert!(provenance.uncompressed.is_empty() && !saved.has(image.diff_id(0)));
    let says = &saved.says()[0];
    assert!(
        says.starts_with("none: no manifest: it was never pulled or pushed under this name"),
        "{says}"
    );
    // The name that was never pushed is not requested.
    let asked = setup.registry.unwrap();
    let asked = asked.asked.lock().unwrap();
    assert!(
        !asked.iter().any(|what| what.contains("library/app")),
        "{asked:?}"
    );
}

#[test]
fn of_two_digests_of_one_tag_the_first_that_is_proven_counts() {
    let image = Image::pushed(AMD64, &[(1, Form::Push)]);
    let shown = [
        format!("{REPOSITORY}@{SHOWN}"),
        format!("{REPOSITORY}@{}", image.digest()),
    ];
    let store = || Store::default().keep_uncompressed(APP, &image, &[&shown[0], &shown[1]]);
    let digest = |store: Store, name: &str| {
        let saved = Setup::offline().saved(store, &[name]).unwrap();
        (
            saved.digests()[0].unwrap(),
            saved.summary.images[0].evidence.to_string(),
        )
    };
    assert_eq!(digest(store(), APP), (image.digest(), "verified".into()));
    assert_eq!(
        digest(store().document(&image.manifest), APP),
        (image.digest(), "verified".into())
    );
    assert_eq!(digest(store(), &shown[1]), (image.digest(), "verified".into()));
    // Requested by the other digest, it has that one, which only the engine reports.
    let recorded: Digest = SHOWN.parse().unwrap();
    assert_eq!(digest(store(), &shown[0]), (recorded, "recorded".into()));
    assert_eq!(
        digest(store(), &format!("{APP}@{SHOWN}")),
        (recorded, "recorded".into())
    );
}

#[test]
fn a_name_without_a_digest_gets_none_from_another_repository() {
    let layers = [(1, Form::Push), (2, Form::UnknownEncoder)];
    let (image, pushed) = (
        Image::unknown_encoder(AMD64, &layers),
        Image::pushed(AMD64, &layers),
    );
    let shown = format!("{REPOSITORY}@{}", image.digest());
    let store = || Store::default().keep_uncompressed("web:1", &image, &[&shown]);
    for (store, root, uncompressed) in [
        // The other repository's manifest, whose layers are present or can be recompressed.
        (store().keep(&image), Some(image.digest()), 0),
        // One layer cannot be recompressed: it stays uncompressed, the other is recompressed.
        (store().document(&image.manifest), None, 1),
        // No manifest at all.
        (store(), None, 2),
    ] {
        let saved = Setup::offline().saved(store, &["web:1"]).unwrap();
        assert_eq!(saved.digests(), [None]);
        assert_eq!(saved.summary.images[0].evidence, Evidence::None);
        let (graph, provenance) = saved.graph(0);
        assert!(provenance.uncompressed.is_empty(), "every engine takes it");
        assert_eq!(provenance.substitute, Some(Substitute { recorded: None }));
        if let Some(root) = root {
            assert_eq!(graph.root.digest, root);
        }
        let diff_ids = [0, 1].map(|at| image.diff_id(at));
        let plain = graph.images[0].manifest.layers.iter();
        let plain = plain.filter(|layer| diff_ids.contains(&layer.digest));
        assert_eq!(plain.count(), uncompressed);
    }
    // The registry's manifest for another repository's digest is not a digest of this name either.
    let registry = Registry::default()
        .has_all(REPOSITORY, &image)
        .has_all("library/web", &pushed);
    let saved = Setup::with(registry).saved(store(), &["web:1"]).unwrap();
    assert_eq!(saved.digests(), [None]);
    // By a digest of its own that the store does not show, it is not found.
    let pinned = format!("web@{}", image.digest());
    let error = Setup::offline().saved(store().keep(&image), &[&pinned]).err();
    assert_eq!(error.unwrap().kind(), ErrorKind::NotFound);
}

#[test]
fn every_digest_of_a_repository_goes_with_its_tag() {
    let image = Image::unknown_encoder(AMD64, &[(1, Form::Push)]);
    let indexes = [
        index(&[&image]),
        index(&[&image, &Image::unknown_encoder(ARM64, &[(2, Form::Push)])]),
    ];
    let digest = |bytes: &[u8]| Digest::sha256(bytes);
    let mut digests = vec![image.digest(), digest(&indexes[0]), digest(&indexes[1])];
    let mut shown: Vec<String> = digests.iter().map(|one| format!("{REPOSITORY}@{one}")).collect();
    shown.push(format!("{REPOSITORY}@{SHOWN}"));
    shown.push(format!("mirror.example/app@{}", image.digest()));
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    let store = Store::default()
        .keep_uncompressed(APP, &image, &shown)
        .keep_uncompressed("quay.io/org/app:2", &image, &shown)
        .document(&image.manifest)
        .document(&indexes[0])
        .document(&indexes[1]);
    let saved = Setup::offline()
        .saved(store, &[APP, "quay.io/org/app:2"])
        .unwrap();
    let told = saved.summary.images.iter();
    let told: Vec<_> = told
        .map(|image| (image.reference.familiar(), image.digest.unwrap(), image.evidence))
        .collect();
    // The tags get an index rather than one of its manifests, and both get the same one.
    let chosen = digests[1].min(digests[2]);
    digests.retain(|digest| *digest != chosen);
    digests.push(SHOWN.parse().unwrap());
    digests.sort();
    let mut expected = vec![
        (APP.to_string(), chosen, Evidence::Verified),
        ("quay.io/org/app:2".to_string(), chosen, Evidence::Verified),
    ];
    expected.extend(digests.iter().map(|digest| {
        let evidence = match digest.to_string() == SHOWN {
            true => Evidence::Recorded,
            false => Evidence::Verified,
        };
        (format!("{REPOSITORY}@{digest}"), *digest, evidence)
    }));
    assert_eq!(told, expected);
    // The recorded one has the content of the proven one.
    let recorded = told
        .iter()
        .position(|(_, _, evidence)| *evidence == Evidence::Recorded);
    let (graph, provenance) = saved.graph(recorded.unwrap());
    assert!(graph.root.digest != SHOWN.parse().unwrap() && provenance.uncompressed.is_empty());
    assert!(!saved.has(image.diff_id(0)));
}

#[test]
fn an_image_by_its_id_has_no_name_and_no_digest() {
    let image = Image::unknown_encoder(AMD64, &[(1, Form::UnknownEncoder)]);
    let id = image.id().to_string();
    let pulled = || Store::default().pull(APP, &image).keep(&image);
    // Under another name its manifest is known; without that a substitute is made.
    for (store, manifest) in [
        (pulled(), Some(image.digest())),
        (Store::default().keep_uncompressed("web:1", &image, &[]), None),
    ] {
        let saved = Setup::offline().saved(store, &[&id]).unwrap();
        assert_eq!(saved.digests(), [None]);
        assert_eq!(saved.layout.entries()[0].reference, None);
        let (graph, provenance) = saved.graph(0);
        assert_eq!(provenance.substitute, Some(Substitute { recorded: None }));
        assert!(manifest.is_none_or(|manifest| graph.root.digest == manifest));
        assert_eq!(graph.images[0].id(), image.id());
        let says = &saved.says()[0];
        assert!(
            says.starts_with("none: no manifest: it was saved without a name"),
            "{says}"
        );
    }
    // Beside its name.
    let saved = Setup::offline().saved(pulled(), &[APP, &id]).unwrap();
    let names = saved.layout.entries().iter().map(|entry| entry.reference.clone());
    assert_eq!(names.collect::<Vec<_>>(), [None, Some(reference(APP))]);
    assert_eq!(saved.digests(), [None, Some(image.digest())]);
    // A store of indexes has it by the digest of an index.
    let root = index(&[&image]);
    let store = || Store::default().name(APP, &root).keep(&image);
    let other = Digest::sha256(b"other").to_string();
    let error = Setup::offline().saved(store(), &[&other]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let image = app(&[Form::Push]);
    let store = Store::default().pull(APP, &image).document(&image.manifest);
    let listed = store.listed.clone();
    let source = Setup::offline().source(store);
    for name in ["nginx", "quay.io/org/app:2", &format!("{REPOSITORY}@{SHOWN}")] {
        let name = reference(name);
        let error = found(&source, &name.full(), None).err().unwrap().error;
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), format!("{name} not found in the store"));
        assert!(
            error
                .hint()
                .unwrap()
                .to_string()
                .starts_with("it has quay.io/org/app"),
            "{error:?}"
        );
    }
    assert_eq!(*listed.lock().unwrap(), 1);
    let source = Setup::offline().source(Store::default());
    let error = found(&source, "nginx", None).err().unwrap().error;
    assert_eq!(error.hint(), Some("none of its images has a name".into()));
}

#[test]
fn what_was_found_stays_when_more_is_asked_for() {
    let images = [(1, "a:1"), (2, "b:1")];
    let images = images.map(|(seed, name)| (Image::unknown_encoder(AMD64, &[(seed, Form::Push)]), name));
    let store = images.iter().fold(Store::default(), |store, (image, name)| {
        store.pull(name, image).document(&image.manifest)
    });
    let opened = store.opened.clone();
    let source = Setup::offline().source(store);
    let mut roots = Vec::new();
    for (image, name) in &images {
        let root = found(&source, name, None).unwrap().root;
        assert_eq!(root.digest, image.digest());
        roots.push(root);
    }
    let count = opened.lock().unwrap().len();
    // The first again, from what is known.
    assert_eq!(found(&source, "a:1", None).unwrap().root, roots[0]);
    let repository = reference("a").repository().clone();
    for ((image, _), root) in images.iter().zip(&roots) {
        assert_eq!(source.metadata(&repository, root).unwrap(), image.manifest);
        assert!(source.open(&repository, &image.layers[0], 0).is_ok());
    }
    assert_eq!(
        opened.lock().unwrap().len(),
        count,
        "nothing is recompressed again"
    );
}
