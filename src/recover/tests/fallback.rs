//! A store beside other sources.

use std::io::Read;
use std::sync::{Arc, Mutex};

use super::fake::{Form, Image, Registry, Store, attestation, index};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::testing::describe;
use crate::oci::{Descriptor, Digest, MediaType, PlatformSelection, Repository};
use crate::recover::tests::setup::{AMD64, APP, ARM64, REPOSITORY, Setup, found};
use crate::source::{Answer, Fallback, Found, Listing, Query, Source};
use crate::transfer::JOBS;

#[test]
fn an_image_of_another_platform_is_left_to_the_next_source() {
    let [amd64, arm64] = [(AMD64, 1), (ARM64, 2)]
        .map(|(platform, seed)| Image::unknown_encoder(platform, &[(seed, Form::Push)]));
    let index = index(&[&amd64, &arm64]);
    let digest = Digest::sha256(&index);
    let shown = format!("{REPOSITORY}@{digest}");
    let held = || {
        let store = Store::default().keep_uncompressed(APP, &amd64, &[&shown]);
        store.document(&index).document(&amd64.manifest)
    };
    let table = [
        (None, "the store", 1),
        (Some(AMD64), "the store", 1),
        (Some(ARM64), "complete", 1),
        (Some("linux/amd64,linux/arm64"), "complete", 2),
        (Some("all"), "complete", 2),
    ];
    for (platforms, from, images) in table {
        let setup = match platforms {
            Some(platforms) => Setup::offline().on(platforms),
            None => Setup::offline(),
        };
        let complete = CompleteRegistry::of(&index, &[&amd64, &arm64, &attestation()]);
        let resolved = complete.resolved.clone();
        let several = Fallback::new(vec![Box::new(setup.source(held())), Box::new(complete)]);
        let saved = setup.saved_from(&several, &[APP]);
        let saved = saved.unwrap_or_else(|error| panic!("{platforms:?}: {error}"));
        assert_eq!(saved.summary.images[0].from, from, "{platforms:?}");
        assert_eq!(saved.digests(), [Some(digest)], "{platforms:?}");
        assert_eq!(saved.graph(0).0.runnable().count(), images, "{platforms:?}");
        // A registry counts the requests.
        let is_held = from == "the store";
        assert_eq!(*resolved.lock().unwrap(), usize::from(!is_held), "{platforms:?}");
        if is_held {
            continue;
        }
        let source = setup.source(held());
        let found = found(&source, APP, setup.platforms.as_ref());
        let error = found.err().unwrap().error;
        assert!(
            error
                .hint()
                .unwrap()
                .to_string()
                .starts_with("it has linux/amd64"),
            "{error:?}"
        );
    }
    // A single image is all platforms.
    let store = Store::default().pull(APP, &amd64).document(&amd64.manifest);
    let source = Setup::offline().source(store);
    let found = found(&source, APP, Some(&PlatformSelection::All));
    assert_eq!(found.unwrap().root.digest, amd64.digest());
}

#[test]
fn an_image_without_proof_comes_from_the_registry_if_that_has_it() {
    let [local, remote] = [1, 2].map(|seed| Image::unknown_encoder(AMD64, &[(seed, Form::UnknownEncoder)]));
    let recorded = format!("{REPOSITORY}@{}", local.digest());
    let setup = Setup::offline();
    // The store's digests are not added to the registry's.
    let other = format!("{REPOSITORY}@{}", Digest::sha256(b"another"));
    for (shown, evidence) in [
        (&[][..], "none"),
        (&[&recorded[..]], "recorded"),
        (&[&recorded[..], &other[..]], "recorded"),
    ] {
        let store = || Store::default().keep_uncompressed(APP, &local, shown);
        let root = index(&[&remote]);
        let complete = || CompleteRegistry::of(&root, &[&remote]);
        let several = || Fallback::new(vec![Box::new(setup.source(store())), Box::new(complete())]);
        // Sources that are named are asked in their order.
        let saved = setup.saved_from(&several(), &[APP]).unwrap();
        assert_eq!(saved.summary.images[0].from, "the store", "{evidence}");
        assert_eq!(saved.summary.images[0].evidence.to_string(), evidence);

        let proven = several().preferring_proof(Box::new(complete()), setup.notes.clone());
        let saved = setup.saved_from(&proven, &[APP]).unwrap();
        assert_eq!(saved.summary.images[0].from, "complete", "{evidence}");
        assert_eq!(saved.digests(), [Some(Digest::sha256(&root))], "{evidence}");
        let note = setup.notes().pop().unwrap();
        assert!(
            note.starts_with(&format!("{APP} is taken from the registry: ")),
            "{note}"
        );

        // One that does not have it, and one that does not answer, which is soon not asked any more.
        let names: Vec<String> = (1..40).map(|tag| format!("{REPOSITORY}:{tag}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let down = Down(Arc::default());
        let probes: [(Box<dyn Source>, usize); 2] =
            [(Box::new(Registry::default()), 0), (Box::new(down.clone()), 1)];
        for (probe, notes) in probes {
            setup.notes.0.lock().unwrap().clear();
            let keep = |store: Store, name: &&str| store.keep_uncompressed(name, &local, shown);
            let store = names.iter().fold(Store::default(), keep);
            let sources: Vec<Box<dyn Source>> =
                vec![Box::new(setup.source(store)), Box::new(Registry::default())];
            let several = Fallback::new(sources).preferring_proof(probe, setup.notes.clone());
            let saved = setup.saved_from(&several, &names).unwrap();
            for image in &saved.summary.images {
                assert_eq!(image.from, "the store");
                assert_eq!(image.evidence.to_string(), evidence);
            }
            assert_eq!(setup.notes().len(), notes, "{:?}", setup.notes());
        }
        assert!(*down.0.lock().unwrap() <= JOBS.get());
    }
}

/// A registry that does not answer, and the number of requests.
#[derive(Clone)]
struct Down(Arc<Mutex<usize>>);

impl Source for Down {
    fn find(&self, query: &Query<'_>) -> Result<Vec<Answer<'_>>> {
        query.each(|reference| {
            *self.0.lock().unwrap() += 1;
            let error = Error::Registry {
                registry: reference.repository().domain().into(),
                subject: String::new(),
                problem: "no answer".into(),
                hint: None,
                transient: true,
            };
            Err(error.into())
        })
    }

    fn metadata(&self, _: &Repository, _: &Descriptor) -> Result<Vec<u8>> {
        unreachable!()
    }

    fn open(&self, _: &Repository, _: &Descriptor, _: u64) -> Result<Box<dyn Read + Send>> {
        unreachable!()
    }

    fn list(&self) -> Result<Listing> {
        Ok(Listing::default())
    }
}

/// A registry in which the tag is unchanged.
struct CompleteRegistry {
    registry: Registry,
    index: Vec<u8>,
    /// Number of times that the tag was resolved.
    resolved: Arc<Mutex<usize>>,
}

impl CompleteRegistry {
    fn of(index: &[u8], images: &[&Image]) -> CompleteRegistry {
        let registry = Registry::default().has(REPOSITORY, index);
        CompleteRegistry {
            registry: images
                .iter()
                .fold(registry, |registry, image| registry.has_all(REPOSITORY, image)),
            index: index.to_vec(),
            resolved: Arc::default(),
        }
    }
}

impl Source for CompleteRegistry {
    fn find(&self, query: &Query<'_>) -> Result<Vec<Answer<'_>>> {
        query.each(|_| {
            *self.resolved.lock().unwrap() += 1;
            let root = describe(MediaType::OCI_INDEX, &self.index);
            Ok(Found::in_store(root, "complete".into(), query.platforms))
        })
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

    fn list(&self) -> Result<Listing> {
        Ok(Listing::default())
    }
}

#[test]
fn platforms_that_a_store_lists_and_lacks_come_from_the_next_source() {
    let [amd64, arm64] = [(AMD64, 1), (ARM64, 2)]
        .map(|(platform, seed)| Image::unknown_encoder(platform, &[(seed, Form::Push)]));
    let index = index(&[&amd64, &arm64]);
    let store = Store::default().name(APP, &index).keep(&amd64);
    let setup = Setup::offline().on("all");
    let complete = CompleteRegistry::of(&index, &[&arm64, &attestation()]);
    let several = Fallback::new(vec![Box::new(setup.source(store)), Box::new(complete)]);
    let saved = setup.saved_from(&several, &[APP]).unwrap();
    assert_eq!(saved.summary.images[0].from, "the store");
    assert_eq!(saved.graph(0).0.runnable().count(), 2);
}

#[test]
fn what_is_wrong_is_the_fault_of_the_source_that_gave_it() {
    let image = Image::unknown_encoder(AMD64, &[(1, Form::UnknownEncoder), (2, Form::UnknownEncoder)]);
    let mut wrong = image.stored[0].clone();
    wrong[100] ^= 1;
    let store = || Store::default().pull(APP, &image).keep(&image);
    let complete = || Box::new(CompleteRegistry::of(&image.manifest, &[&image]));
    let setup = Setup::offline();
    let held = setup.source(store().damaged(&image.stored[0], &wrong));
    let several = Fallback::new(vec![Box::new(held), complete()]);
    let error = setup.saved_from(&several, &[APP]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Content);
    let text = error.to_string();
    assert!(text.starts_with("the store: "), "{text}");
    assert!(text.contains(&image.layers[0].digest.to_string()), "{text}");
}
