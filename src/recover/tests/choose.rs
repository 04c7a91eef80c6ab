//! Which of several digests a tag gets.

use super::fake::{Form, Image, Registry, Store, attestation, index, reference};
use crate::error::Error;
use crate::oci::Digest;
use crate::recover::tests::setup::{AMD64, APP, ARM64, REPOSITORY, Setup};

/// An image in two indexes, of which the second names another platform too, and by its manifest alone.
struct Shared {
    image: Image,
    roots: [Vec<u8>; 3],
    digests: [Digest; 3],
}

impl Shared {
    fn new() -> Shared {
        let image = Image::pushed(AMD64, &[(1, Form::Push)]);
        let other = Image::pushed(ARM64, &[(2, Form::Push)]);
        let roots = [
            index(&[&image, &attestation()]),
            index(&[&image, &other]),
            image.manifest.clone(),
        ];
        let digests = [0, 1, 2].map(|at: usize| Digest::sha256(&roots[at]));
        Shared {
            image,
            roots,
            digests,
        }
    }

    /// An engine that shows the image by some of them.
    fn store(&self, shown: &[usize]) -> Store {
        let names: Vec<String> = shown
            .iter()
            .map(|at| format!("{REPOSITORY}@{}", self.digests[*at]))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let store = Store::default().keep_uncompressed(APP, &self.image, &names);
        self.roots
            .iter()
            .fold(store, |store, bytes| store.document(bytes))
    }

    fn registry(&self, tagged: Option<usize>) -> Registry {
        let has = |registry: Registry, root: &Vec<u8>| registry.has(REPOSITORY, root);
        let mut registry = self.roots.iter().fold(Registry::default(), has);
        let tagged = tagged.map(|at| (reference(APP).full(), self.digests[at]));
        registry.tags.extend(tagged);
        registry
    }

    /// The one of two indexes that an engine lists first.
    fn first(&self) -> usize {
        usize::from(self.digests[1] < self.digests[0])
    }
}

#[test]
fn a_tag_gets_the_digest_that_the_registry_gives() {
    let shared = Shared::new();
    let first = shared.first();
    for (setup, tag, is_guess) in [
        (Setup::with(shared.registry(Some(0))), 0, false),
        (Setup::with(shared.registry(Some(1))), 1, false),
        // Also if it is that of a manifest, which is named by the indexes.
        (Setup::with(shared.registry(Some(2))), 2, false),
        (Setup::with(shared.registry(None)), first, true),
        (Setup::offline(), first, true),
    ] {
        let saved = setup.saved(shared.store(&[0, 1, 2]), &[APP]).unwrap();
        let names = saved.summary.images.iter().map(|image| image.reference.tag());
        let at = names.clone().position(|tag| tag.is_some()).unwrap();
        assert_eq!(names.count(), 3, "the others are there, too");
        assert_eq!(saved.digests()[at], Some(shared.digests[tag]));
        let guesses = setup
            .notes()
            .iter()
            .filter(|note| note.contains("a guessed digest"))
            .count();
        assert_eq!(guesses, usize::from(is_guess), "{:?}", setup.notes());
    }
    // A single digest is not a guess.
    let setup = Setup::offline();
    setup.saved(shared.store(&[0]), &[APP]).unwrap();
    assert_eq!(setup.notes(), [""; 0]);
}

#[test]
fn a_digest_that_has_only_the_platforms_at_hand_is_not_the_tags_for_that() {
    let shared = Shared::new();
    let setup = |tagged| Setup::with(shared.registry(tagged)).on("all");
    let left_out = setup(Some(1)).saved(shared.store(&[1, 2]), &[APP]);
    let Err(Error::NotFound { hint, .. }) = left_out else {
        panic!("its tag is an index of two platforms");
    };
    assert_eq!(hint, Some("it has linux/amd64, one of several platforms".into()));
    // A guess is no better.
    assert!(
        Setup::offline()
            .on("all")
            .saved(shared.store(&[1, 2]), &[APP])
            .is_err()
    );
    let setup = setup(Some(2));
    let saved = setup.saved(shared.store(&[1, 2]), &[APP]).unwrap();
    assert_eq!(saved.digests(), [Some(shared.digests[2])]);
    let told = format!(
        "{REPOSITORY}@{} also belongs to the image of {APP}",
        shared.digests[1]
    );
    assert!(
        matches!(&setup.notes()[..], [note] if note.starts_with(&told)),
        "{:?}",
        setup.notes()
    );
}
