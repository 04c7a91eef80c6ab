use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::blob::{BlobReader, Blobs, OpenBlob};
use crate::error::{Error, Problem};
use crate::oci::testing::describe;
use crate::oci::{Compression, Descriptor, MediaType};
use crate::progress::{Progress, Silent};
use crate::verify::blobs::{Job, Outcome, check_all};
use crate::verify::{LayerReader, Options};

/// Layers, and how often each was opened.
#[derive(Default)]
struct Layers {
    blobs: BTreeMap<Digest, (Vec<u8>, AtomicUsize)>,
}

/// A layer with its stored bytes, or what is said to be one.
struct Sample {
    blob: Descriptor,
    diff_id: Digest,
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn tar(content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len().try_into().unwrap());
    builder.append_data(&mut header, "file", content).unwrap();
    builder.into_inner().unwrap()
}

impl Layers {
    fn add(&mut self, uncompressed: &[u8]) -> Sample {
        self.add_stored(&gzip(uncompressed), Digest::sha256(uncompressed))
    }

    fn add_stored(&mut self, stored: &[u8], diff_id: Digest) -> Sample {
        let blob = describe(MediaType::OCI_LAYER_GZIP, stored);
        self.blobs
            .insert(blob.digest, (stored.to_vec(), AtomicUsize::new(0)));
        Sample { blob, diff_id }
    }

    fn opened(&self, sample: &Sample) -> usize {
        self.blobs[&sample.blob.digest].1.load(Ordering::Relaxed)
    }

    /// Reads a layer as what it is delegated to does.
    fn read(&self, sample: &Sample, limit: u64) -> Result<VerifiedLayer> {
        let open = self.open(&sample.blob)?.unwrap();
        let stored = BlobReader::new(open, &sample.blob)?;
        let mut layer = LayerReader::new(stored, Compression::Gzip, &sample.diff_id, limit)?;
        let mut piece = [0; 700];
        while layer.next_bytes(&mut piece)? > 0 {}
        layer.finish()
    }

    fn verify(
        &self,
        samples: &[&Sample],
        delegated: &Delegated,
        limit: u64,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<BTreeMap<Digest, Outcome>> {
        let jobs = samples.iter().map(|sample| Job {
            digest: sample.blob.digest,
            size: sample.blob.size,
            compression: Some(Compression::Gzip),
            diff_ids: vec![sample.diff_id],
        });
        let options = Options {
            max_layer_size: limit,
            jobs: 1.try_into().unwrap(),
            ..Options::default()
        };
        check_all(
            self,
            jobs.collect(),
            Some(delegated),
            &options,
            progress,
            interrupt,
        )
    }
}

impl Blobs for Layers {
    fn label(&self) -> &'static str {
        "layers"
    }

    fn size(&self, blob: &Descriptor) -> Result<Option<u64>> {
        Ok(Some(blob.size))
    }

    fn open(&self, blob: &Descriptor) -> Result<Option<OpenBlob>> {
        Ok(self.blobs.get(&blob.digest).map(|(bytes, opened)| {
            opened.fetch_add(1, Ordering::Relaxed);
            OpenBlob::Stream(Box::new(std::io::Cursor::new(bytes.clone())))
        }))
    }
}

fn delegated(samples: &[&Sample]) -> Delegated {
    let delegated = Delegated::default();
    delegated.begin(samples.iter().map(|sample| sample.blob.digest).collect());
    delegated
}

fn code(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Good(Some(_)) => "good",
        Outcome::Good(None) => "not a layer",
        Outcome::Wrong(problems) => problems[0].code(),
        Outcome::Unread(_) => "unread",
    }
}

fn refusal(error: &Error) -> &'static str {
    match error {
        Error::Refused(finding) => finding.problem.code(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_layer_that_was_verified_elsewhere_is_not_read_again() {
    let mut layers = Layers::default();
    let sample = layers.add(&tar(&[7; 5000]));
    let delegated = delegated(&[&sample]);
    let proof = layers.read(&sample, 10_000).unwrap();
    delegated.settle(&sample.blob.digest, Some(proof));
    let outcomes = layers.verify(&[&sample], &delegated, 10_000, &Silent, &Interrupt::default());
    match &outcomes.unwrap()[&sample.blob.digest] {
        Outcome::Good(Some(layer)) => assert_eq!((layer.diff_id, layer.size), (sample.diff_id, 6656)),
        other => panic!("{}", code(other)),
    }
    assert_eq!(layers.opened(&sample), 1);
}

#[test]
fn whoever_reads_a_bad_layer_refuses_it_for_the_same_reason() {
    let good = tar(b"content");
    let stored = gzip(&good);
    let other = Digest::sha256(b"other");
    let mut layers = Layers::default();
    let flipped = layers.add(&tar(b"flipped"));
    layers.blobs.get_mut(&flipped.blob.digest).unwrap().0[9] ^= 1;
    for (sample, limit, expected) in [
        (flipped, 10_000, "digest-differs"),
        (layers.add_stored(&stored, other), 10_000, "diff-id-differs"),
        (layers.add(&tar(&[0; 10_001])), 10_000, "expands"),
        (layers.add(&[b'x'; 600]), 10_000, "layer"),
        (
            layers.add_stored(&stored[..stored.len() - 4], Digest::sha256(&good)),
            10_000,
            "compression",
        ),
    ] {
        let error = layers.read(&sample, limit).unwrap_err();
        assert_eq!(refusal(&error), expected);
        let delegated = delegated(&[&sample]);
        delegated.settle(&sample.blob.digest, None);
        let outcomes = layers.verify(&[&sample], &delegated, limit, &Silent, &Interrupt::default());
        assert_eq!(code(&outcomes.unwrap()[&sample.blob.digest]), expected);
        assert_eq!(layers.opened(&sample), 2);
    }
}

#[test]
fn a_reader_that_stops_before_the_end_proves_nothing() {
    let mut layers = Layers::default();
    let sample = layers.add(&tar(&[7; 5000]));
    let stored = BlobReader::new(layers.open(&sample.blob).unwrap().unwrap(), &sample.blob).unwrap();
    let mut layer = LayerReader::new(stored, Compression::Gzip, &sample.diff_id, 10_000).unwrap();
    layer.next_bytes(&mut [0; 512]).unwrap();
    assert_eq!(refusal(&layer.finish().unwrap_err()), "diff-id-differs");
}

#[test]
fn a_proof_of_something_else_does_not_count() {
    let mut layers = Layers::default();
    let sample = layers.add(&tar(b"content"));
    let proof = layers.read(&sample, 10_000).unwrap();
    let other = Sample {
        diff_id: Digest::sha256(b"other"),
        ..sample
    };
    let delegated = delegated(&[&other]);
    delegated.settle(&other.blob.digest, Some(proof));
    let outcomes = layers.verify(&[&other], &delegated, 10_000, &Silent, &Interrupt::default());
    let outcome = &outcomes.unwrap()[&other.blob.digest];
    assert!(
        matches!(outcome, Outcome::Wrong(problems) if matches!(problems[..], [Problem::DiffIdDiffers { .. }]))
    );
}

/// Ends delegations when layers are verified.
struct Then<'d> {
    delegated: &'d Delegated,
    /// When the first is verified, the second is settled.
    steps: Vec<(Digest, Digest)>,
    verified: Mutex<Vec<Digest>>,
}

impl Progress for Then<'_> {
    fn blob_verified(&self, digest: &Digest) {
        self.verified.lock().unwrap().push(*digest);
        for (_, next) in self.steps.iter().filter(|(before, _)| before == digest) {
            self.delegated.settle(next, None);
        }
    }
}

#[test]
fn a_layer_that_is_not_settled_keeps_no_other_waiting() {
    let mut layers = Layers::default();
    let [last, middle, own] = [1, 2, 3].map(|byte| layers.add(&tar(&[byte; 900])));
    let delegated = delegated(&[&last, &middle]);
    let order = [&own, &middle, &last].map(|sample| sample.blob.digest);
    let progress = Then {
        delegated: &delegated,
        steps: vec![(order[0], order[1]), (order[1], order[2])],
        verified: Mutex::default(),
    };
    let samples = [&last, &middle, &own];
    let outcomes = layers.verify(&samples, &delegated, 10_000, &progress, &Interrupt::default());
    assert!(outcomes.unwrap().values().all(|outcome| code(outcome) == "good"));
    assert_eq!(progress.verified.into_inner().unwrap(), order);
}

#[test]
fn a_verification_waits_for_the_beginning_and_takes_everything_back_at_the_end() {
    let mut layers = Layers::default();
    let sample = layers.add(&tar(b"content"));
    let delegated = Delegated::default();
    let verified = Then {
        delegated: &delegated,
        steps: Vec::new(),
        verified: Mutex::default(),
    };
    thread::scope(|scope| {
        let verification = scope.spawn(|| {
            let interrupt = Interrupt::default();
            let outcomes = layers.verify(&[&sample], &delegated, 10_000, &verified, &interrupt);
            code(&outcomes.unwrap()[&sample.blob.digest])
        });
        delegated.begin([sample.blob.digest].into());
        // Only the first call counts.
        delegated.begin(HashSet::new());
        assert!(verified.verified.lock().unwrap().is_empty());
        delegated.end();
        assert_eq!(verification.join().unwrap(), "good");
    });
    assert_eq!(layers.opened(&sample), 1);
}

#[test]
fn an_interruption_ends_the_wait() {
    let mut layers = Layers::default();
    let sample = layers.add(&tar(b"content"));
    let interrupt = Interrupt::default();
    interrupt.stop();
    for delegated in [Delegated::default(), delegated(&[&sample])] {
        let outcomes = layers.verify(&[&sample], &delegated, 10_000, &Silent, &interrupt);
        assert!(matches!(outcomes, Err(Error::Interrupted)));
    }
    assert_eq!(layers.opened(&sample), 0);
}
