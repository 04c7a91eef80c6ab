//! Digests and names, and which image is meant.

use super::fake::{Form, Image, Registry, Store, index, reference};
use super::scene::{AMD64, APP, ARM64, REPOSITORY, Scene, app};
use crate::held::digests_of;
use crate::oci::Digest;
use crate::source::Source;

const SHOWN: &str = "sha256:4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a";

#[test]
fn digests_of_the_same_repository_come_first() {
    let name = |text: &str, seed: &str| reference(&format!("{text}@{}", Digest::sha256(seed.as_bytes())));
    let shown = [
        name("b", "1"),
        name("a", "2"),
        name("c", "2"),
        reference("a:7"),
        name("a", "3"),
        name("a", "2"),
    ];
    let found = digests_of(reference("a").repository(), &shown);
    assert_eq!(found, [name("a", "2"), name("a", "3"), name("b", "1")]);
}

#[test]
fn an_index_leads_to_the_image_that_is_held() {
    let [image, other] =
        [(AMD64, 1), (ARM64, 2)].map(|(platform, seed)| Image::odd(platform, &[(seed, Form::Push)]));
    // Same platform, another image.
    let twin = Image::odd(AMD64, &[(3, Form::Push)]);
    for images in [vec![&other, &image], vec![&twin, &image], vec![&image]] {
        let index = index(&images);
        let digest = format!("{REPOSITORY}@{}", Digest::sha256(&index));
        let store = |image: &Image| Store::default().unpack(APP, image, &[&digest]).document(&index);
        let store = |image: &Image| {
            images
                .iter()
                .fold(store(image), |store, image| store.document(&image.manifest))
        };
        for name in [APP, &digest, &format!("{APP}@{}", Digest::sha256(&index))] {
            let saved = Scene::offline().saved(store(&image), &[name]).unwrap();
            assert_eq!(saved.digests(), [Some(Digest::sha256(&index))], "{name}");
            let (graph, account) = saved.graph(0);
            assert_eq!(account.stand_in, None);
            let ids: Vec<Digest> = graph.images.iter().map(|image| image.id()).collect();
            assert_eq!(ids, [image.id()], "{name}");
        }
    }
    // Its manifest is not below: the digest is the engine's word and no more.
    let index = index(&[&other, &twin]);
    let digest = format!("{REPOSITORY}@{}", Digest::sha256(&index));
    let store = Store::default().unpack(APP, &image, &[&digest]);
    let store = store
        .document(&index)
        .document(&other.manifest)
        .document(&twin.manifest);
    let saved = Scene::offline().saved(store, &[APP]).unwrap();
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
    let (image, pushed) = (Image::odd(AMD64, &layers), Image::pushed(AMD64, &layers));
    assert_eq!(image.id(), pushed.id());
    let shown = [
        format!("{REPOSITORY}@{}", image.digest()),
        format!("mirror.example/app@{}", pushed.digest()),
    ];
    let shown = [shown[0].as_str(), shown[1].as_str()];
    let store = Store::default()
        .unpack(APP, &image, &shown)
        .unpack("mirror.example/app:2", &image, &shown)
        .unpack("app:3", &image, &shown);
    let registry = Registry::default()
        .has_all(REPOSITORY, &image)
        .has_all("mirror.example/app", &pushed);
    let scene = Scene::with(registry);
    let saved = scene
        .saved(store, &[APP, "mirror.example/app:2", "app:3"])
        .unwrap();
    for named in &saved.summary.images {
        let expected = match named.reference.repository().domain() {
            "mirror.example" => pushed.digest(),
            // Tagged again: what it was pulled as still leads to its manifest.
            _ => image.digest(),
        };
        assert_eq!(named.digest, Some(expected), "{}", named.reference);
        assert_eq!(named.evidence.to_string(), "verified");
    }
    // The name that nobody ever pushed is not asked for.
    let asked = scene.registry.unwrap();
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
    let store = || Store::default().unpack(APP, &image, &[&shown[0], &shown[1]]);
    let digest = |store: Store, name: &str| {
        let saved = Scene::offline().saved(store, &[name]).unwrap();
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
    // Asked for by the other one, that it is, and the engine's word.
    let recorded: Digest = SHOWN.parse().unwrap();
    assert_eq!(digest(store(), &shown[0]), (recorded, "recorded".into()));
    assert_eq!(
        digest(store(), &format!("{APP}@{SHOWN}")),
        (recorded, "recorded".into())
    );
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let image = app(&[Form::Push]);
    let store = Store::default().pull(APP, &image).document(&image.manifest);
    let listed = store.listed.clone();
    let source = Scene::offline().source(store);
    for name in ["nginx", "quay.io/org/app:2", &format!("{REPOSITORY}@{SHOWN}")] {
        let name = reference(name);
        source.prepare(std::slice::from_ref(&name), None).unwrap();
        let error = source.resolve(&name).unwrap_err();
        assert_eq!(error.exit_code(), 7);
        assert_eq!(error.to_string(), format!("{name} not found in the store"));
        assert!(
            error.hint().unwrap().starts_with("it has quay.io/org/app"),
            "{error:?}"
        );
    }
    assert_eq!(*listed.lock().unwrap(), 1);
    let source = Scene::offline().source(Store::default());
    let error = source.resolve(&reference("nginx")).unwrap_err();
    assert_eq!(error.hint(), Some("none of its images has a name"));
}
