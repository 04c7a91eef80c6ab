//! Images in a registry are verified like those of an archive: from streams, without a file.

use std::collections::BTreeMap;

use crate::blob::{Blobs, OpenBlob};
use crate::error::{Error, ErrorKind, Result};
use crate::image::provenance::Evidence;
use crate::interrupt::Interrupt;
use crate::oci::testing::{TestBlob, TestImage, index};
use crate::oci::{Descriptor, Digest, MediaType, Repository};
use crate::progress::Silent;
use crate::registry::RegistrySource;
use crate::registry::testing::{Delivery, Reply, Seen, Server, quick, ranged, source};
use crate::source::Source;
use crate::verify::{Options, Report, Root, Verification};

/// One repository of a registry.
struct InRegistry {
    source: RegistrySource,
    repository: Repository,
    label: String,
}

impl Blobs for InRegistry {
    fn label(&self) -> &str {
        &self.label
    }

    fn size(&self, blob: &Descriptor) -> Result<Option<u64>> {
        Ok(self.open(blob)?.map(|_| blob.size))
    }

    fn open(&self, blob: &Descriptor) -> Result<Option<OpenBlob>> {
        match self.source.open(&self.repository, blob, 0) {
            Ok(stream) => Ok(Some(OpenBlob::Stream(stream))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// An image with a zstd layer and an uncompressed one.
struct Sample {
    blobs: BTreeMap<Digest, Vec<u8>>,
    root: Descriptor,
    manifest: Digest,
    config: Digest,
    layers: [Descriptor; 2],
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
    fn new(diff_ids: impl Fn([Digest; 2]) -> [Digest; 2]) -> Sample {
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

    /// Verifies the image over a registry whose replies are changed.
    fn verify(&self, change: impl Fn(&Seen, Reply) -> Reply + Send + Sync + 'static) -> Report {
        let blobs = self.blobs.clone();
        let server = Server::start(move |seen| {
            let last = seen.path.rsplit('/').next().unwrap_or_default();
            let bytes = last.parse().ok().and_then(|digest| blobs.get(&digest));
            change(
                seen,
                bytes.map_or_else(|| Reply::new(200, "{}"), |bytes| ranged(seen, bytes)),
            )
        });
        let repository = server.repository();
        let blobs = InRegistry {
            source: source(quick()),
            label: repository.to_string(),
            repository,
        };
        let mut verification = Verification::new(&blobs);
        let root = Root {
            descriptor: self.root.clone(),
            reference: Some(server.reference("1")),
            digest: Some(self.root.digest),
            evidence: Evidence::Verified,
            platforms: None,
            uncompressed: Default::default(),
        };
        let images = vec![verification.follow(root)];
        let options = Options::default();
        verification
            .finish(images, &[], &options, &Silent, &Interrupt::default())
            .unwrap()
    }
}

/// A change of the reply for one digest.
fn at(digest: Digest, change: impl Fn(Reply) -> Reply) -> impl Fn(&Seen, Reply) -> Reply {
    move |seen, reply| match seen.path.ends_with(&digest.to_string()) {
        true => change(reply),
        false => reply,
    }
}

fn absent(_: Reply) -> Reply {
    Reply::new(404, r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"unknown"}]}"#)
}

fn damaged(mut reply: Reply) -> Reply {
    let middle = reply.body.len() / 2;
    reply.body[middle] ^= 1;
    reply
}

/// The blobs and codes of all findings.
fn found(report: &Report) -> Vec<(Option<Digest>, &'static str)> {
    let findings = report.findings.iter();
    findings
        .map(|finding| (finding.place.digest, finding.problem.code()))
        .collect()
}

#[test]
fn an_image_in_a_registry_is_verified() {
    let sample = Sample::new(|real| real);
    let report = sample.verify(|_, reply| reply);
    assert!(report.is_good(), "{report:?}");
    assert_eq!((report.blobs, report.layers.len()), (5, 2));
    let sizes = sample.blobs.values().map(|bytes| bytes.len() as u64);
    assert_eq!(report.bytes, sizes.sum::<u64>());
    for (layer, diff_id) in sample.layers.iter().zip(sample.diff_ids) {
        assert_eq!(report.layers[&layer.digest].diff_id, diff_id);
    }
    let image = &report.images[0];
    assert_eq!((image.is_good, image.image_id), (true, Some(sample.config)));
    assert_eq!(image.platforms[0].to_string(), "linux/amd64");
}

#[test]
fn damage_in_a_registry_is_found() {
    let sample = Sample::new(|real| real);
    let [zstd, plain] = [sample.layers[0].digest, sample.layers[1].digest];
    for blob in [zstd, plain] {
        let report = sample.verify(at(blob, damaged));
        assert_eq!(found(&report), [(Some(blob), "digest-differs")]);
        assert!(!report.images[0].is_good);
        let text = report.findings[0].to_string();
        assert!(
            text.contains(&report.label) && text.contains("/lib/app"),
            "{text}"
        );
        let report = sample.verify(at(blob, absent));
        assert_eq!(found(&report), [(Some(blob), "missing")]);
        assert_eq!(report.blobs, 4, "the other blobs are verified all the same");
    }
    for document in [sample.root.digest, sample.manifest, sample.config] {
        let report = sample.verify(at(document, absent));
        assert_eq!(found(&report), [(Some(document), "missing")]);
        assert!(!report.images[0].is_good);
        let report = sample.verify(at(document, damaged));
        assert_eq!(found(&report), [(Some(document), "digest-differs")]);
        assert!(!report.images[0].is_good);
    }
}

#[test]
fn a_wrong_diff_id_in_a_registry_is_found() {
    let sample = Sample::new(|[_, second]| [Digest::sha256(b"another"), second]);
    let report = sample.verify(|_, reply| reply);
    assert_eq!(
        found(&report),
        [(Some(sample.layers[0].digest), "diff-id-differs")]
    );
}

#[test]
fn what_a_registry_does_not_send_is_not_called_wrong() {
    let sample = Sample::new(|real| real);
    let layer = sample.layers[0].digest;
    for change in [
        |reply: Reply| reply.sent(Delivery::Cut(1000)),
        |_| Reply::new(403, "{}"),
    ] {
        let report = sample.verify(at(layer, change));
        assert_eq!((found(&report).len(), report.unread.len()), (0, 1), "{report:?}");
        assert!(!report.images[0].is_good);
        assert_eq!(report.into_good().unwrap_err().kind(), ErrorKind::Registry);
    }
}
