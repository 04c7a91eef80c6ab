//! What a verification of images in a registry reads, by its options.

use std::time::SystemTime;

use super::verify::{Sample, absent, at, damaged, found, run};
use crate::error::ErrorKind;
use crate::oci::Digest;
use crate::registry::testing::Reply;
use crate::registry::verify::{Depth, Options, State, next_state};

#[test]
fn digests_are_verified_without_diff_ids() {
    let sample = Sample::new(|[one, other]| [other, one]);
    let options = Options {
        depth: Depth::Digests,
        ..Options::default()
    };
    let report = run(&sample.serve(|_, reply| reply), &["1"], &options);
    assert_eq!(report.errors(), 0, "{report:?}");
    assert_eq!((report.blobs, report.layers.len()), (5, 0));
    let layer = sample.layers[0].digest;
    let report = run(&sample.serve(at(layer, damaged)), &["1"], &options);
    assert_eq!(found(&report), [(Some(layer), "digest-differs")]);
    let report = sample.verify(|_, reply| reply);
    let codes: Vec<&str> = found(&report).into_iter().map(|(_, code)| code).collect();
    assert_eq!(codes, ["diff-id-differs"; 2]);
}

#[test]
fn a_quick_verification_fetches_no_layer() {
    let sample = Sample::new(|real| real);
    let options = Options {
        depth: Depth::Sizes,
        ..Options::default()
    };
    let server = sample.serve(|_, reply| reply);
    let report = run(&server, &["1"], &options);
    assert_eq!(report.errors(), 0, "{report:?}");
    for layer in &sample.layers {
        let asked: Vec<String> = server
            .seen()
            .into_iter()
            .filter(|seen| seen.path.ends_with(&layer.digest.to_string()))
            .map(|seen| seen.method)
            .collect();
        assert_eq!(asked, ["HEAD"]);
    }
    let server = sample.serve(at(sample.layers[1].digest, absent));
    let report = run(&server, &["1"], &options);
    assert_eq!(found(&report), [(Some(sample.layers[1].digest), "missing")]);
    let server = sample.serve(at(sample.layers[1].digest, |_| Reply::new(403, "{}")));
    let report = run(&server, &["1"], &options);
    assert_eq!((found(&report).len(), report.unread.len()), (0, 1));
}

#[test]
fn platforms_are_chosen() {
    let sample = Sample::new(|real| real);
    let server = sample.serve(|_, reply| reply);
    let of = |text: &str| Options {
        platforms: Some(vec![text.parse().unwrap()]),
        ..Options::default()
    };
    let report = run(&server, &["1"], &of("linux/amd64"));
    assert_eq!((report.errors(), report.blobs), (0, 5), "{report:?}");
    let report = run(&server, &["1"], &of("linux/arm64"));
    assert_eq!(report.failure(), Some(ErrorKind::NotFound), "{report:?}");
    assert_eq!(report.blobs, 0);
    let error = report.images[0].error.as_ref().unwrap();
    assert!(error.to_string().contains("platform linux/arm64"), "{error}");
}

#[test]
fn what_was_verified_is_not_fetched_again() {
    let sample = Sample::new(|real| real);
    let server = sample.serve(|_, reply| reply);
    let mut options = Options {
        since: Some(State::default()),
        ..Options::default()
    };
    let report = run(&server, &["1"], &options);
    let state = next_state(&report, &options, SystemTime::UNIX_EPOCH);
    let image = &state.images[&server.reference("1").to_string()];
    assert_eq!(
        (image.digest, image.time.as_str()),
        (sample.root.digest, "1970-01-01T00:00:00Z")
    );
    options.since = Some(State::parse(state.to_json().to_string().as_bytes(), "x").unwrap());
    let before = server.paths().len();
    let report = run(&server, &["1", "2"], &options);
    let asked = server.paths()[before..].to_vec();
    // The tags, and for the second the documents, because nobody knows yet that it is the same image.
    assert!(report.images[0].is_known() && !report.images[1].is_known());
    assert_eq!((report.errors(), report.known_blobs), (0, 2), "{report:?}");
    for layer in &sample.layers {
        assert!(
            !asked.iter().any(|path| path.ends_with(&layer.digest.to_string())),
            "{asked:?}"
        );
    }
    let next = next_state(&report, &options, SystemTime::now());
    assert_eq!(next.images.len(), 2);
    let [one, two] = ["1", "2"].map(|tag| &next.images[&server.reference(tag).to_string()]);
    assert_eq!((one, &one.blobs), (image, &two.blobs));
    // Another diff id is another layer.
    let mut other = state.clone();
    for image in other.images.values_mut() {
        image.digest = Digest::sha256(b"another index");
        image
            .blobs
            .insert(sample.layers[0].digest, Some(Digest::sha256(b"another tar")));
    }
    options.since = Some(other);
    let report = run(&server, &["1"], &options);
    assert_eq!(report.known_blobs, 1);
    assert!(report.layers.contains_key(&sample.layers[0].digest));
}

#[test]
fn a_registry_that_is_gone_leaves_what_is_known() {
    let sample = Sample::new(|real| real);
    let server = sample.serve(|_, reply| reply);
    let mut options = Options {
        since: Some(State::default()),
        ..Options::default()
    };
    let report = run(&server, &["1"], &options);
    let state = next_state(&report, &options, SystemTime::now());
    options.since = Some(state.clone());
    let broken = sample.serve(|_, _| Reply::new(500, "{}"));
    let report = run(&broken, &["1"], &options);
    assert_eq!(report.failure(), Some(ErrorKind::Registry));
    let other = next_state(&report, &options, SystemTime::now());
    assert_eq!(other.images.len(), 0, "another registry was never verified");
    let mut renamed = state.clone();
    let image = renamed.images.pop_first().unwrap().1;
    renamed.images.insert(broken.reference("1").to_string(), image);
    options.since = Some(renamed.clone());
    assert_eq!(next_state(&report, &options, SystemTime::now()), renamed);
}
