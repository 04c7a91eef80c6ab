//! A store beside other sources.

use std::io::Read;
use std::sync::{Arc, Mutex};

use super::fake::{Form, Image, Registry, Store, attestation, described, index, reference};
use super::scene::{AMD64, APP, ARM64, REPOSITORY, Scene};
use crate::error::Result;
use crate::oci::{Descriptor, Digest, MediaType, PlatformSelection, Reference, Repository};
use crate::source::{Several, Source};

#[test]
fn an_image_of_another_platform_is_left_to_the_next_source() {
    let [amd64, arm64] =
        [(AMD64, 1), (ARM64, 2)].map(|(platform, seed)| Image::odd(platform, &[(seed, Form::Push)]));
    let index = index(&[&amd64, &arm64]);
    let digest = Digest::sha256(&index);
    let shown = format!("{REPOSITORY}@{digest}");
    let held = || {
        let store = Store::default().unpack(APP, &amd64, &[&shown]);
        store.document(&index).document(&amd64.manifest)
    };
    let table = [
        (None, "the store", 1),
        (Some(AMD64), "the store", 1),
        (Some(ARM64), "whole", 1),
        (Some("linux/amd64,linux/arm64"), "whole", 2),
        (Some("all"), "whole", 2),
    ];
    for (platforms, from, images) in table {
        let scene = match platforms {
            Some(platforms) => Scene::offline().on(platforms),
            None => Scene::offline(),
        };
        let whole = Whole::of(&index, &[&amd64, &arm64, &attestation()]);
        let resolved = whole.resolved.clone();
        let several = Several::new(vec![Box::new(scene.source(held())), Box::new(whole)]);
        let saved = scene.saved_from(&several, &[APP]);
        let saved = saved.unwrap_or_else(|error| panic!("{platforms:?}: {error}"));
        assert_eq!(saved.summary.images[0].from, from, "{platforms:?}");
        assert_eq!(saved.digests(), [Some(digest)], "{platforms:?}");
        assert_eq!(saved.graph(0).0.runnable().count(), images, "{platforms:?}");
        // A registry counts how often it is asked.
        let is_held = from == "the store";
        assert_eq!(*resolved.lock().unwrap(), usize::from(!is_held), "{platforms:?}");
        if is_held {
            continue;
        }
        let source = scene.source(held());
        source
            .prepare(&[reference(APP)], scene.platforms.as_ref())
            .unwrap();
        let error = source.resolve(&reference(APP)).unwrap_err();
        assert!(
            error.hint().unwrap().starts_with("it has it for linux/amd64"),
            "{error:?}"
        );
    }
    // An image without others is all platforms.
    let store = Store::default().pull(APP, &amd64).document(&amd64.manifest);
    let source = Scene::offline().source(store);
    source
        .prepare(&[reference(APP)], Some(&PlatformSelection::All))
        .unwrap();
    assert_eq!(source.resolve(&reference(APP)).unwrap().digest, amd64.digest());
}

/// A registry where the tag is what it always was.
struct Whole {
    registry: Registry,
    index: Vec<u8>,
    /// How often it was asked what the tag is.
    resolved: Arc<Mutex<usize>>,
}

impl Whole {
    fn of(index: &[u8], images: &[&Image]) -> Whole {
        let registry = Registry::default().has(REPOSITORY, index);
        Whole {
            registry: images
                .iter()
                .fold(registry, |registry, image| registry.has_all(REPOSITORY, image)),
            index: index.to_vec(),
            resolved: Arc::default(),
        }
    }
}

impl Source for Whole {
    fn origin(&self, _: &Reference) -> String {
        "whole".into()
    }

    fn resolve(&self, _: &Reference) -> Result<Descriptor> {
        *self.resolved.lock().unwrap() += 1;
        Ok(described(MediaType::OCI_INDEX, &self.index))
    }

    fn metadata(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.registry.metadata(repository, descriptor)
    }

    fn open(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        self.registry.open(repository, descriptor, offset)
    }

    fn references(&self) -> Result<Vec<Reference>> {
        Ok(Vec::new())
    }
}

#[test]
fn platforms_that_a_store_lists_and_lacks_come_from_the_next_source() {
    let [amd64, arm64] =
        [(AMD64, 1), (ARM64, 2)].map(|(platform, seed)| Image::odd(platform, &[(seed, Form::Push)]));
    let index = index(&[&amd64, &arm64]);
    let store = Store::default().name(APP, &index).keep(&amd64);
    let scene = Scene::offline().on("all");
    let whole = Whole::of(&index, &[&arm64, &attestation()]);
    let several = Several::new(vec![Box::new(scene.source(store)), Box::new(whole)]);
    let saved = scene.saved_from(&several, &[APP]).unwrap();
    assert_eq!(saved.summary.images[0].from, "the store");
    assert_eq!(saved.graph(0).0.runnable().count(), 2);
}

#[test]
fn what_is_wrong_is_the_fault_of_the_source_that_gave_it() {
    let image = Image::odd(AMD64, &[(1, Form::Odd), (2, Form::Odd)]);
    let mut wrong = image.stored[0].clone();
    wrong[100] ^= 1;
    let store = || Store::default().pull(APP, &image).keep(&image);
    let whole = || Box::new(Whole::of(&image.manifest, &[&image]));
    let scene = Scene::offline();
    let held = scene.source(store().damaged(&image.stored[0], &wrong));
    let several = Several::new(vec![Box::new(held), whole()]);
    let error = scene.saved_from(&several, &[APP]).err().unwrap();
    assert_eq!(error.exit_code(), 1);
    let text = error.to_string();
    assert!(text.starts_with("the store: "), "{text}");
    assert!(text.contains(&image.layers[0].digest.to_string()), "{text}");
}
