//! What a save would write, found out in a trial that keeps nothing.

use super::fake::{Form, Image, Store, reference, size};
use super::setup::{AMD64, APP, Setup, app, numbered};
use crate::error::{ErrorKind, Result};
use crate::interrupt::Interrupt;
use crate::progress::Silent;
use crate::recover::{Options, Rebuild, RecoverSource};
use crate::save::{self, Forecast};
use crate::source::Source;

const OTHER: &str = "quay.io/org/other:1";

/// A source whose temporary folder does not exist.
fn source(store: Store, is_trial: bool) -> RecoverSource {
    source_with(store, Rebuild::Auto, is_trial)
}

fn source_with(store: Store, rebuild: Rebuild, is_trial: bool) -> RecoverSource {
    let options = Options {
        rebuild,
        tmpdir: "/nonexistent".into(),
        is_trial,
        ..Options::default()
    };
    let (notes, interrupt) = (Setup::offline().notes, Interrupt::default());
    RecoverSource::new(Box::new(store), None, options, notes, interrupt)
}

fn forecast(store: Store, names: &[&str], options: &save::Options, is_trial: bool) -> Result<Forecast> {
    let references: Vec<_> = names.iter().map(|name| reference(name)).collect();
    let source = source(store, is_trial);
    save::forecast(&source, &references, options, &Silent, &Interrupt::default())
}

/// Two images: the second has the first layer of the first one, and one of its own.
fn store() -> (Store, [Image; 2]) {
    let one = app(&[Form::Push, Form::Crane]);
    let other = Image::unknown_encoder(AMD64, &[(1, Form::Push), (9, Form::Push)]);
    let store = Store::default().pull(APP, &one).document(&one.manifest);
    let store = store.pull(OTHER, &other).document(&other.manifest);
    (store, [one, other])
}

#[test]
fn a_trial_finds_what_a_save_writes_and_keeps_nothing() {
    let names = [APP, OTHER];
    let (store, [one, other]) = store();
    let trial = forecast(store, &names, &save::Options::default(), true).unwrap();
    let saved = Setup::offline().saved(self::store().0, &names).unwrap();
    assert_eq!(trial.summary.digest, saved.summary.digest);
    assert_eq!(trial.summary.size, size(&saved.bytes));
    assert_eq!(trial.summary.images.len(), 2);
    let layers = [&one.stored[0], &one.stored[1], &other.stored[1]];
    assert_eq!(
        trial.temporary,
        layers.iter().map(|bytes| size(bytes)).sum::<u64>()
    );
    let documents = [&one.manifest, &one.config, &other.manifest, &other.config];
    let documents: u64 = documents.iter().map(|bytes| size(bytes)).sum();
    assert_eq!(trial.blobs, trial.temporary + documents);
    // Both have the first layer at the bottom: it is unpacked once.
    let tars = [&one.tars[0], &one.tars[1], &other.tars[1]];
    assert_eq!(
        trial.unpacked,
        Some(tars.iter().map(|tar| size(tar)).sum::<u64>())
    );

    let error = forecast(self::store().0, &names, &save::Options::default(), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn images_that_only_the_classic_store_loads_are_refused_on_request() {
    let zstd = app(&[Form::Zstd]);
    let lost = Image::unknown_encoder(AMD64, &numbered(&[Form::Push, Form::Push]));
    let bare = format!("quay.io/org/bare@{}", lost.digest());
    let store = || {
        let (store, _) = store();
        let store = store.pull("quay.io/org/zstd:1", &zstd).document(&zstd.manifest);
        store.pull(&bare, &lost)
    };
    let options = save::Options {
        for_other_stores: true,
        keep_going: true,
        ..save::Options::default()
    };
    let names = [APP, "quay.io/org/zstd:1", &bare];
    let trial = forecast(store(), &names, &options, true).unwrap();
    let images = trial.summary.images.iter();
    assert_eq!(
        images.map(|image| image.reference.familiar()).collect::<Vec<_>>(),
        [APP]
    );
    let skipped: Vec<_> = trial
        .summary
        .skipped
        .iter()
        .map(|one| one.error.to_string())
        .collect();
    assert_eq!(
        skipped,
        [
            format!("{bare}: its manifest could not be recovered, and it has no tag to be loaded by"),
            "quay.io/org/zstd:1: it has 1 of its 1 layers only uncompressed (zstd layers cannot be recompressed), and \
             only the classic store of Docker takes them so"
                .into(),
        ]
    );
    assert_eq!(trial.summary.failure(), Some(ErrorKind::NotShown));

    let strict = save::Options {
        keep_going: false,
        ..options
    };
    let error = forecast(store(), &names, &strict, true).unwrap_err();
    assert_eq!((error.kind(), error.each().len()), (ErrorKind::NotShown, 2));
    // Otherwise they are saved.
    let all = forecast(store(), &names, &save::Options::default(), true).unwrap();
    assert_eq!((all.summary.images.len(), all.summary.skipped.len()), (3, 0));
}

#[test]
fn digests_are_found_without_recompressing_the_layers_of_known_manifests() {
    let (store, images) = store();
    let references = [reference(APP), reference(OTHER)];
    // Recompressed layers would have no place.
    let source = source_with(store, Rebuild::Manifests, false);
    let (options, interrupt) = (save::Options::default(), Interrupt::default());
    let roots = save::digests(&source, &references, &options, &interrupt).unwrap();
    let resolved = save::resolve(&source, &references, &options, &interrupt).unwrap();
    for ((root, resolved), image) in roots.into_iter().zip(resolved).zip(&images) {
        let resolved = resolved.unwrap();
        assert_eq!(root.unwrap().digest, Some(image.digest()));
        assert_eq!(resolved.digest, Some(image.digest()));
        let stored: u64 = image.stored.iter().map(|bytes| size(bytes)).sum();
        assert_eq!(
            resolved.size,
            stored + size(&image.manifest) + size(&image.config)
        );
    }
}

#[test]
fn a_lost_manifest_is_recovered_for_its_digest_else_the_recorded_one_counts() {
    let recoverable = Image::pushed(AMD64, &numbered(&[Form::Push, Form::Push]));
    let lost = Image::unknown_encoder(AMD64, &numbered(&[Form::Push, Form::Push]));
    for (image, rebuild, is_proven) in [
        (&recoverable, Rebuild::Manifests, true),
        (&recoverable, Rebuild::Never, false),
        (&lost, Rebuild::Manifests, false),
    ] {
        let source = source_with(Store::default().pull(APP, image), rebuild, true);
        let (options, interrupt) = (save::Options::default(), Interrupt::default());
        let mut roots = save::digests(&source, &[reference(APP)], &options, &interrupt).unwrap();
        let root = roots.remove(0).unwrap();
        assert_eq!(root.digest, Some(image.digest()));
        let source: &dyn Source = &source;
        assert_eq!(
            source.find_one(&reference(APP), None).unwrap().is_proven,
            is_proven
        );
    }
}
