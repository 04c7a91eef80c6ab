//! Images in a registry are verified like those of an archive: from streams, without a file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use crate::error::ErrorKind;
use crate::interrupt::Interrupt;
use crate::oci::testing::{TestBlob, TestImage, index};
use crate::oci::{Descriptor, Digest, MediaType, Platform, Reference};
use crate::progress::Silent;
use crate::registry::testing::{Delivery, Reply, Seen, Server, quick, ranged, source};
use crate::registry::verify::{Depth, Options, Report, next_state, verify};

/// An image with a zstd layer and an uncompressed one.
pub struct Sample {
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    pub root: Descriptor,
    manifest: Digest,
    config: Digest,
    pub layers: [Descriptor; 2],
    diff_ids: [Digest; 2],
}

fn tar(content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len().try_into().unwrap());
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", content).unwrap();
    tar.into_inner().unwrap()
}

impl Sample {
    /// `diff_ids` may differ from the layers'.
    pub fn new(diff_ids: impl Fn([Digest; 2]) -> [Digest; 2]) -> Sample {
        let mut blobs = BTreeMap::new();
        let mut put = |blob: TestBlob| {
            blobs.insert(blob.descriptor.digest, blob.bytes);
            blob.descriptor
        };
        let long: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| n.wrapping_mul(n).to_le_bytes())
            .collect();
        let tars = [tar(&long), tar(b"short")];
        let real = [Digest::sha256(&tars[0]), Digest::sha256(&tars[1])];
        let zstd = zstd::stream::encode_all(tars[0].as_slice(), 1).unwrap();
        let layers = [
            put(TestBlob::new(MediaType::OCI_LAYER_ZSTD, zstd)),
            put(TestBlob::new(MediaType::OCI_LAYER, tars[1].as_slice())),
        ];
        let image = diff_ids(real)
            .into_iter()
            .zip(&layers)
            .fold(TestImage::new(), |image, (diff_id, layer)| {
                image.stored_layer(diff_id, layer.clone())
            });
        let config = put(image.config());
        let manifest = put(image.manifest());
        let root = put(index(std::slice::from_ref(&manifest)));
        Sample {
            blobs,
            root,
            manifest: manifest.digest,
            config: config.digest,
            layers,
            diff_ids: real,
        }
    }

    /// A registry with the image, whose replies are changed.
    pub fn serve(&self, change: impl Fn(&Seen, Reply) -> Reply + Send + Sync + 'static) -> Server {
        let (blobs, root) = (self.blobs.clone(), self.root.clone());
        Server::start(move |seen| {
            let last = seen.path.rsplit('/').next().unwrap_or_default();
            let digest = match last {
                "1" | "2" => Some(root.digest),
                last => last.parse().ok(),
            };
            let bytes = digest.and_then(|digest| blobs.get(&digest));
            let reply = bytes.map_or_else(|| Reply::new(200, "{}"), |bytes| ranged(seen, bytes));
            change(
                seen,
                match seen.path.contains("/manifests/") && digest == Some(root.digest) {
                    true => reply.with("Content-Type", root.media_type.as_str()),
                    false => reply,
                },
            )
        })
    }

    /// Verifies the image over a registry whose replies are changed.
    pub fn verify(&self, change: impl Fn(&Seen, Reply) -> Reply + Send + Sync + 'static) -> Report {
        let server = self.serve(change);
        run(&server, &["1"], &Options::default())
    }
}

/// Verifies tags of a registry.
pub fn run(server: &Server, tags: &[&str], options: &Options) -> Report {
    let references: Vec<Reference> = tags.iter().map(|tag| server.reference(tag)).collect();
    let source = Arc::new(source(quick()));
    verify(&source, &references, options, &Silent, &Interrupt::default()).unwrap()
}

/// A change of the reply for one digest.
pub fn at(digest: Digest, change: impl Fn(Reply) -> Reply) -> impl Fn(&Seen, Reply) -> Reply {
    move |seen, reply| match seen.path.ends_with(&digest.to_string()) {
        true => change(reply),
        false => reply,
    }
}

pub fn absent(_: Reply) -> Reply {
    Reply::new(404, r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"unknown"}]}"#)
}

pub fn damaged(mut reply: Reply) -> Reply {
    let middle = reply.body.len() / 2;
    reply.body[middle] ^= 1;
    reply
}

/// The blobs and codes of all findings.
pub fn found(report: &Report) -> Vec<(Option<Digest>, &'static str)> {
    let findings = report.findings.iter();
    findings
        .map(|found| (found.what.place.digest, found.what.problem.code()))
        .collect()
}

#[test]
fn an_image_in_a_registry_is_verified() {
    let sample = Sample::new(|real| real);
    let report = sample.verify(|_, reply| reply);
    assert_eq!((report.errors(), report.failure()), (0, None), "{report:?}");
    assert_eq!((report.blobs, report.layers.len()), (5, 2));
    let sizes = sample.blobs.values().map(|bytes| bytes.len() as u64);
    assert_eq!(report.bytes, sizes.sum::<u64>());
    for (layer, diff_id) in sample.layers.iter().zip(sample.diff_ids) {
        assert_eq!(report.layers[&layer.digest].diff_id, diff_id);
    }
    let image = &report.images[0];
    assert_eq!((image.is_good(), image.digest), (true, Some(sample.root.digest)));
    assert_eq!(image.platforms[0].to_string(), "linux/amd64");
}

#[test]
fn damage_in_a_registry_is_found() {
    let sample = Sample::new(|real| real);
    let [zstd, plain] = [sample.layers[0].digest, sample.layers[1].digest];
    for blob in [zstd, plain] {
        let report = sample.verify(at(blob, damaged));
        assert_eq!(found(&report), [(Some(blob), "digest-differs")]);
        assert!(!report.images[0].is_good());
        assert_eq!(*report.findings[0].images, [0]);
        assert_eq!(report.failure(), Some(ErrorKind::Content));
        let text = report.findings[0].what.to_string();
        assert!(text.contains("/lib/app"), "{text}");
        let report = sample.verify(at(blob, absent));
        assert_eq!(found(&report), [(Some(blob), "missing")]);
        assert_eq!(report.blobs, 4, "the other blobs are verified all the same");
    }
    for document in [sample.manifest, sample.config] {
        let report = sample.verify(at(document, absent));
        assert_eq!(found(&report), [(Some(document), "missing")]);
        assert!(!report.images[0].is_good());
        let report = sample.verify(at(document, damaged));
        assert_eq!(found(&report), [(Some(document), "digest-differs")]);
        assert_eq!(
            (report.images[0].is_good(), &report.findings[0].images[..]),
            (false, &[0][..])
        );
    }
}

/// A registry that damages what it serves as a tag, with the digest of the right bytes.
#[test]
fn a_damaged_index_is_found_by_the_digest_that_the_registry_gives() {
    let sample = Sample::new(|real| real);
    let root = sample.root.digest;
    let report = sample.verify(move |seen, reply| match seen.path.ends_with("/manifests/1") {
        true => damaged(reply).with("Docker-Content-Digest", root.to_string()),
        false => reply,
    });
    assert_eq!(found(&report), [(Some(root), "digest-differs")]);
    assert_eq!(report.failure(), Some(ErrorKind::Content));
}

#[test]
fn bytes_of_another_length_are_wrong() {
    let sample = Sample::new(|real| real);
    let layer = sample.layers[0].digest;
    let cut = |mut reply: Reply| {
        reply.body.truncate(100);
        reply
    };
    let emptied = |mut reply: Reply| {
        reply.body.clear();
        reply
    };
    for depth in [Depth::DiffIds, Depth::Digests, Depth::Sizes] {
        let options = Options {
            depth,
            ..Options::default()
        };
        for (change, code) in [(cut as fn(Reply) -> Reply, "truncated"), (emptied, "empty")] {
            let server = sample.serve(at(layer, change));
            let report = run(&server, &["1"], &options);
            // Of a blob that is not fetched, only the size is known.
            let code = if depth == Depth::Sizes {
                "size-differs"
            } else {
                code
            };
            assert_eq!(found(&report), [(Some(layer), code)]);
            assert_eq!(report.failure(), Some(ErrorKind::Content));
        }
    }
    let report = sample.verify(at(sample.config, cut));
    assert_eq!(found(&report), [(Some(sample.config), "truncated")]);
}

#[test]
fn a_wrong_diff_id_in_a_registry_is_found() {
    let sample = Sample::new(|[_, second]| [Digest::sha256(b"another"), second]);
    let layer = sample.layers[0].digest;
    let server = sample.serve(|_, reply| reply);
    let report = run(&server, &["1"], &Options::default());
    assert_eq!(found(&report), [(Some(layer), "diff-id-differs")]);
    // Its stored bytes are right.
    assert_eq!(requests(&server, &layer), 1);
}

/// How often something was asked for.
fn requests(server: &Server, digest: &Digest) -> usize {
    let seen = server.seen().into_iter();
    seen.filter(|seen| seen.path.ends_with(&digest.to_string()))
        .count()
}

#[test]
fn a_layer_of_very_many_sizes_is_told_a_few_times() {
    let mut sample = Sample::new(|real| real);
    let layer = sample.layers[1].clone();
    let image = (0..500).fold(TestImage::new(), |image, more| {
        let other = Descriptor::new(layer.media_type.clone(), layer.digest, layer.size + 1 + more);
        image.stored_layer(sample.diff_ids[1], other)
    });
    sample.root = image.entry();
    for blob in [image.config(), image.manifest()] {
        sample.blobs.insert(blob.descriptor.digest, blob.bytes);
    }
    let options = Options {
        depth: Depth::Sizes,
        ..Options::default()
    };
    let server = sample.serve(|_, reply| reply);
    let report = run(&server, &["1"], &options);
    assert_eq!(found(&report), [(Some(layer.digest), "size-differs"); 4]);
    let last = report.findings[3].what.to_string();
    assert!(
        last.ends_with("more manifests or layers expect yet other sizes"),
        "{last}"
    );
}

#[test]
fn tags_of_one_image_share_what_is_known_about_it() {
    let sample = Sample::new(|[_, second]| [Digest::sha256(b"another"), second]);
    let server = sample.serve(|_, reply| reply);
    let report = run(&server, &["1", "2"], &Options::default());
    let [one, two] = report.images.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(*report.findings[0].images, [0, 1]);
    assert!(one.is_bad && two.is_bad);
    let [one_has, two_has] = [one, two].map(|image| image.verified.as_ref().unwrap());
    assert_eq!(one_has.len(), 5);
    assert!(Arc::ptr_eq(one_has, two_has));
    assert!(Arc::ptr_eq(&one.platforms, &two.platforms));
    let repository = one.reference.repository();
    assert_eq!(repository.clone().full().as_ptr(), repository.full().as_ptr());
}

#[test]
fn large_manifests_are_not_all_kept() {
    let mut sample = Sample::new(|real| real);
    let padding: &str = "x".repeat(3_500_000).leak();
    let images: Vec<TestImage> = (0..6)
        .map(|variant| {
            TestImage::new()
                .platform(&Platform::linux("arm", Some(&format!("v{variant}"))))
                .annotation("padding", padding)
        })
        .collect();
    let entries: Vec<Descriptor> = images.iter().map(TestImage::entry).collect();
    let root = index(&entries);
    sample.root = root.descriptor.clone();
    let documents = images.iter().flat_map(|image| [image.config(), image.manifest()]);
    for blob in documents.chain([root]) {
        sample.blobs.insert(blob.descriptor.digest, blob.bytes);
    }
    let server = sample.serve(|_, reply| reply);
    let report = run(&server, &["1"], &Options::default());
    assert_eq!((report.errors(), report.blobs), (0, 13), "{report:?}");
    let requests = entries.iter().map(|entry| requests(&server, &entry.digest));
    // Four of them are 14 MB.
    assert_eq!(requests.collect::<Vec<_>>(), [1, 1, 1, 1, 2, 2]);
}

#[test]
fn what_a_registry_does_not_send_is_not_called_wrong() {
    let sample = Sample::new(|real| real);
    let layer = sample.layers[0].digest;
    for change in [
        |reply: Reply| reply.sent(Delivery::Cut(0)),
        |_| Reply::new(403, "{}"),
    ] {
        let report = sample.verify(at(layer, change));
        assert_eq!((found(&report).len(), report.unread.len()), (0, 1), "{report:?}");
        assert_eq!(*report.unread[0].images, [0]);
        assert!(!report.images[0].is_good());
        assert_eq!(report.failure(), Some(ErrorKind::Registry));
    }
}

#[test]
fn connections_that_break_are_resumed() {
    let sample = Sample::new(|real| real);
    let layer = sample.layers[0].digest;
    let server = sample.serve(at(layer, |reply| reply.sent(Delivery::Cut(100_000))));
    let mut options = quick();
    options.retry.attempts = 20;
    let source = Arc::new(source(options));
    let references = [server.reference("1")];
    let report = verify(
        &source,
        &references,
        &Options::default(),
        &Silent,
        &Interrupt::default(),
    )
    .unwrap();
    assert_eq!(report.errors(), 0, "{report:?}");
    let ranges = server
        .seen()
        .into_iter()
        .filter(|seen| seen.header("range").is_some());
    assert!(ranges.count() > 2);
}

#[test]
fn bytes_that_are_right_the_second_time_are_right() {
    let sample = Sample::new(|real| real);
    for blob in [
        sample.layers[0].digest,
        sample.layers[1].digest,
        sample.config,
        sample.manifest,
    ] {
        let served = AtomicUsize::new(0);
        let report = sample.verify(move |seen, reply| {
            let is_first =
                seen.path.ends_with(&blob.to_string()) && served.fetch_add(1, Ordering::SeqCst) == 0;
            if is_first { damaged(reply) } else { reply }
        });
        assert_eq!(found(&report), [], "{blob}");
        assert_eq!(report.errors(), 0);
    }
}

#[test]
fn findings_about_the_same_images_share_their_list() {
    let sample = Sample::new(|real| real);
    let layers = sample.layers.clone();
    let server = sample.serve(move |seen, reply| {
        let is_layer = layers
            .iter()
            .any(|layer| seen.path.ends_with(&layer.digest.to_string()));
        if is_layer { damaged(reply) } else { reply }
    });
    let report = run(&server, &["1", "2"], &Options::default());
    let [one, two] = report.findings.as_slice() else {
        panic!("{:?}", report.findings);
    };
    assert_eq!(*one.images, [0, 1]);
    assert!(std::sync::Arc::ptr_eq(&one.images, &two.images));
}

#[test]
fn a_blob_of_several_images_is_fetched_once_and_told_for_all() {
    let sample = Sample::new(|real| real);
    let layer = sample.layers[1].digest;
    let server = sample.serve(|_, reply| reply);
    let report = run(&server, &["1", "2"], &Options::default());
    assert_eq!((report.errors(), report.blobs), (0, 5));
    let paths = server.paths();
    let fetched = paths.iter().filter(|path| path.ends_with(&layer.to_string()));
    assert_eq!(fetched.count(), 1);
    let server = sample.serve(at(layer, damaged));
    let report = run(&server, &["1", "2"], &Options::default());
    assert_eq!(*report.findings[0].images, [0, 1]);
    // Once more, to rule out the line.
    let fetched = server
        .paths()
        .into_iter()
        .filter(|path| path.ends_with(&layer.to_string()));
    assert_eq!(fetched.count(), 2);
}

#[test]
fn a_blob_is_fetched_from_each_registry() {
    let sample = Sample::new(|real| real);
    let layer = sample.layers[1].digest;
    let good = sample.serve(|_, reply| reply);
    let bad = sample.serve(at(layer, damaged));
    let references = [good.reference("1"), bad.reference("1"), good.reference("2")];
    let verify = |options: &Options| {
        let source = Arc::new(source(quick()));
        verify(&source, &references, options, &Silent, &Interrupt::default()).unwrap()
    };
    let report = verify(&Options::default());
    let names: Vec<&Reference> = report.images.iter().map(|image| &image.reference).collect();
    assert_eq!(names, references.each_ref());
    let are_good: Vec<bool> = report.images.iter().map(|image| image.is_good()).collect();
    assert_eq!(are_good, [true, false, true]);
    assert_eq!((report.blobs, &report.findings[0].images[..]), (10, &[1][..]));
    // What was verified in one registry says nothing of the other.
    let known = run(&good, &["1"], &Options::default());
    let options = Options {
        since: Some(next_state(&known, &Options::default(), SystemTime::now())),
        ..Options::default()
    };
    let report = verify(&options);
    assert!(report.images[0].is_known());
    assert_eq!(found(&report), [(Some(layer), "digest-differs")]);
}

#[test]
fn a_platform_that_is_not_there_is_absent_and_no_error() {
    let amd = TestImage::new().layer(tar(b"one"));
    let arm = TestImage::new()
        .platform(&Platform::linux("arm64", None))
        .layer(tar(b"two"));
    let root = index(&[amd.entry(), arm.entry()]);
    let mut sample = Sample::new(|real| real);
    sample.blobs.clear();
    for blob in amd.blobs().into_iter().chain([root.clone()]) {
        sample.blobs.insert(blob.descriptor.digest, blob.bytes);
    }
    sample.root = root.descriptor;
    let missing = arm.manifest().descriptor.digest;
    let report = sample.verify(at(missing, absent));
    assert_eq!(report.errors(), 0, "{report:?}");
    assert_eq!(report.images[0].absent[..], [Platform::linux("arm64", None)]);
}
