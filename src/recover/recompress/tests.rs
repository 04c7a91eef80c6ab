//! Layers made by the encoders themselves, compressed again; and ones that no encoder can have made.

use std::collections::HashMap;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::sync::Mutex;

use super::compressor::Compressor;
use super::encoders::{ENCODERS, Writes};
use super::layers::Reason;
use super::*;
use crate::blob::{Stored, Uncompressed};
use crate::error::{Advice, Error, ErrorKind, Remedy, Result};
use crate::goflate::Level;
use crate::interrupt::Interrupt;
use crate::oci::testing::describe;
use crate::oci::{Compression, Digest};
use crate::progress::{Progress, Silent, Tally};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZLIB_9: Deflate = Deflate::Zlib(9);
const GO_1: Deflate = Deflate::Go(Level::FASTEST, Writes::Whole);

/// Layers in memory, with a record of what was opened and how much of it was read.
#[derive(Default)]
struct Layers {
    tars: HashMap<Digest, Vec<u8>>,
    opened: Mutex<Vec<Digest>>,
    read: std::sync::Arc<Mutex<usize>>,
}

struct Counted(io::Cursor<Vec<u8>>, std::sync::Arc<Mutex<usize>>);

impl Read for Counted {
    /// In small pieces, as from a store.
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let length = target.len().min(7777);
        let count = self.0.read(&mut target[..length])?;
        *self.1.lock().unwrap() += count;
        Ok(count)
    }
}

impl Layers {
    fn add(&mut self, tar: &[u8]) -> Digest {
        let diff_id = Digest::sha256(tar);
        self.tars.insert(diff_id, tar.to_vec());
        diff_id
    }

    fn opened(&self) -> Vec<Digest> {
        self.opened.lock().unwrap().clone()
    }
}

impl Uncompressed for Layers {
    fn size(&self, diff_id: &Digest) -> Result<Option<u64>> {
        Ok(self.tars.get(diff_id).map(|tar| tar.len() as u64))
    }

    fn open(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>> {
        self.opened.lock().unwrap().push(*diff_id);
        let tar = io::Cursor::new(self.tars[diff_id].clone());
        Ok(Box::new(Counted(tar, self.read.clone())))
    }
}

/// Compressible bytes, different for each seed.
fn tar(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend_from_slice(format!("{:x} ", state % 4099).as_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn compressed(tar: &[u8], encoder: &Encoder) -> Vec<u8> {
    let mut compressor = Compressor::new(encoder.deflate.unwrap(), Vec::new());
    compressor.take(tar).unwrap();
    let mut stored = compressor.finish().unwrap();
    stored[..10].copy_from_slice(&encoder.header);
    stored
}

fn by(deflate: Deflate) -> &'static Encoder {
    deflate.encoders().next().unwrap()
}

fn exactly(tar: &[u8], stored: &[u8]) -> MissingLayer {
    MissingLayer {
        diff_id: Digest::sha256(tar),
        expected: Expected::Exactly(describe(GZIP, stored)),
    }
}

fn one_after_the_other() -> Options {
    Options {
        jobs: NonZeroUsize::MIN,
        ..Options::default()
    }
}

fn run(layers: &Layers, wanted: &[MissingLayer], options: &Options) -> Result<Vec<Outcome>> {
    recompress(layers, wanted, options, &Silent, &Interrupt::default())
}

fn bytes(stored: &Stored) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let mut all = Vec::new();
    for extent in &stored.extents {
        let mut bytes = vec![0; usize::try_from(extent.length).unwrap()];
        extent.file.read_exact_at(&mut bytes, extent.offset).unwrap();
        all.extend(bytes);
    }
    all
}

fn hit(outcome: &Outcome) -> &Recompressed {
    match outcome {
        Outcome::Recompressed(compressed) => compressed,
        Outcome::Unmatched { reason, .. } => panic!("{reason}"),
        Outcome::Failed(error) => panic!("{error}"),
    }
}

fn missed(outcome: &Outcome) -> &Reason {
    match outcome {
        Outcome::Unmatched { reason, .. } => reason,
        Outcome::Recompressed(layer) => panic!("{}", layer.encoder.name),
        Outcome::Failed(error) => panic!("{error}"),
    }
}

#[test]
fn each_known_encoder_is_found_by_its_bytes() {
    let mut layers = Layers::default();
    let known: Vec<&Encoder> = ENCODERS
        .iter()
        .filter(|encoder| encoder.deflate.is_some())
        .collect();
    let mut wanted = Vec::new();
    let mut expected = Vec::new();
    for (seed, encoder) in (0..).zip(&known) {
        let lengths: &[usize] = match encoder.deflate {
            Some(Deflate::Go(..)) => &[0, 1, 100_000, 700_000],
            _ => &[0, 1, 100_000],
        };
        for length in lengths {
            let tar = tar(seed + 1, length + usize::try_from(seed).unwrap());
            let stored = compressed(&tar, encoder);
            layers.add(&tar);
            wanted.push(exactly(&tar, &stored));
            expected.push((encoder.header, stored));
        }
    }
    let outcomes = run(&layers, &wanted, &Options::default()).unwrap();
    assert_eq!(outcomes.len(), wanted.len());
    for (outcome, (header, stored)) in outcomes.iter().zip(&expected) {
        let found = hit(outcome);
        assert_eq!(found.digest, Digest::sha256(stored));
        assert_eq!(found.size, stored.len() as u64);
        assert_eq!(found.encoder.header, *header);
        assert!(bytes(&found.stored) == *stored, "{}", found.encoder.name);
    }
}

#[test]
fn headers_alone_cost_no_pass() {
    let zlib: Vec<&Encoder> = Deflate::Zlib(6).encoders().collect();
    assert_eq!(zlib.len(), 4);
    let tar = tar(1, 50_000);
    for encoder in &zlib {
        let mut layers = Layers::default();
        layers.add(&tar);
        let outcomes = run(
            &layers,
            &[exactly(&tar, &compressed(&tar, encoder))],
            &Options::default(),
        )
        .unwrap();
        assert_eq!(hit(&outcomes[0]).encoder.header, encoder.header);
        // Go's two levels, then zlib's: all that precede this one in the table.
        assert_eq!(layers.opened().len(), 3, "{}", encoder.name);
    }
}

#[test]
fn the_encoder_that_hit_comes_first_for_the_rest() {
    let tars: Vec<Vec<u8>> = (1..4).map(|seed| tar(seed, 60_000)).collect();
    let mut layers = Layers::default();
    let mut wanted = Vec::new();
    for tar in &tars {
        layers.add(tar);
        // Its header distinguishes it from level 6, which has the same output for these.
        let zlib_9 = ZLIB_9.encoders().last().unwrap();
        wanted.push(exactly(tar, &compressed(tar, zlib_9)));
    }
    for outcome in run(&layers, &wanted, &one_after_the_other()).unwrap() {
        assert_eq!(hit(&outcome).encoder.deflate, Some(ZLIB_9));
    }
    let first = tars.iter().map(|tar| Digest::sha256(tar)).collect::<Vec<_>>();
    assert_eq!(
        layers.opened(),
        [first[0], first[0], first[0], first[0], first[1], first[2]],
        "all are tried on the first alone"
    );
}

#[test]
fn a_small_layer_goes_ahead_where_that_saves_work() {
    for (small, large, first) in [(1000, 60_000, 0), (50_000, 60_000, 1)] {
        let tars = [tar(1, small), tar(2, large), tar(3, large - 1)];
        let mut layers = Layers::default();
        let wanted: Vec<MissingLayer> = tars
            .iter()
            .map(|tar| {
                layers.add(tar);
                exactly(tar, &compressed(tar, by(GO_1)))
            })
            .collect();
        for outcome in run(&layers, &wanted, &one_after_the_other()).unwrap() {
            assert_eq!(hit(&outcome).encoder.name, "Go gzip 1");
        }
        let opened = layers.opened();
        assert_eq!(opened[0], Digest::sha256(&tars[first]), "{small} and {large}");
        assert_eq!(opened.len(), 4, "two tries at one, and one at each other");
    }
}

#[test]
fn a_wrong_encoder_is_dropped_as_soon_as_its_output_is_too_long() {
    let tar = tar(5, 8_000_000);
    let mut layers = Layers::default();
    layers.add(&tar);
    let mut wanted = exactly(&tar, b"x");
    if let Expected::Exactly(stored) = &mut wanted.expected {
        stored.size = 1000;
    }
    let outcomes = run(&layers, &[wanted], &Options::default()).unwrap();
    let Reason::Encoder { tried } = missed(&outcomes[0]) else {
        panic!("{outcomes:?}");
    };
    // zlib's other levels do not produce so much less.
    assert_eq!(tried.join(", "), "Go gzip -1, Go gzip 1, zlib 6, zlib 9");
    // The first pass verifies the layer; of the three others a piece or two is enough.
    let read = *layers.read.lock().unwrap();
    assert!(read < tar.len() + 3 * (1 << 20), "{read}");
}

#[test]
fn a_size_rules_out_what_cannot_reach_it() {
    let tar = tar(14, 300_000);
    let mut layers = Layers::default();
    layers.add(&tar);
    let mut wanted = exactly(&tar, b"x");
    if let Expected::Exactly(stored) = &mut wanted.expected {
        stored.size = 290_000;
    }
    let outcomes = run(&layers, &[wanted], &Options::default()).unwrap();
    let Reason::Encoder { tried } = missed(&outcomes[0]) else {
        panic!("{outcomes:?}");
    };
    // Higher levels do not produce so much more than level 6, and level 1 produced less than expected, too.
    assert_eq!(tried.join(", "), "Go gzip -1, Go gzip 1, zlib 1, zlib 6");
    assert_eq!(layers.opened().len(), 4);
}

/// For some content zlib produces more at a higher level.
#[test]
fn a_level_is_found_where_higher_ones_give_more() {
    let (mut state, mut words) = (7_u32, Vec::new());
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    for _ in 0..300 {
        words.push([next(), next(), next()].map(u32::to_le_bytes).concat());
    }
    let tar: Vec<u8> = (0..20_000)
        .flat_map(|_| words[next() as usize % 300].clone())
        .collect();
    let size = |level| compressed(&tar, by(Deflate::Zlib(level))).len();
    assert!(
        size(1) < size(2) && size(2) < size(3),
        "{} {} {}",
        size(1),
        size(2),
        size(3)
    );
    for level in 1..=9 {
        let mut layers = Layers::default();
        layers.add(&tar);
        let stored = compressed(&tar, by(Deflate::Zlib(level)));
        let outcomes = run(&layers, &[exactly(&tar, &stored)], &Options::default()).unwrap();
        assert_eq!(hit(&outcomes[0]).digest, Digest::sha256(&stored), "{level}");
    }
}

#[test]
fn unknown_encoders_are_told() {
    let tar = tar(6, 30_000);
    let mut layers = Layers::default();
    let diff_id = layers.add(&tar);
    let expected = Expected::OneOf(vec![Digest::sha256(b"a"), Digest::sha256(b"b")]);
    let outcomes = run(
        &layers,
        &[MissingLayer { diff_id, expected }],
        &Options::default(),
    )
    .unwrap();
    assert_eq!(
        missed(&outcomes[0]).to_string(),
        "no known encoder reproduces it (tried Go gzip -1, Go gzip 1, zlib 1 to 9)"
    );
    assert!(matches!(outcomes[0], Outcome::Unmatched { size: 30_000, .. }));
}

#[test]
fn one_of_several_digests_is_enough() {
    let tar = tar(7, 30_000);
    let mut layers = Layers::default();
    let diff_id = layers.add(&tar);
    let stored = compressed(&tar, by(GO_1));
    let expected = Expected::OneOf(vec![Digest::sha256(b"a"), Digest::sha256(&stored)]);
    let outcomes = run(
        &layers,
        &[MissingLayer { diff_id, expected }],
        &Options::default(),
    )
    .unwrap();
    assert_eq!(hit(&outcomes[0]).digest, Digest::sha256(&stored));
    assert!(bytes(&hit(&outcomes[0]).stored) == stored);
}

#[test]
fn where_nothing_is_expected_one_pass_is_made() {
    let tar = tar(8, 30_000);
    let mut layers = Layers::default();
    let diff_id = layers.add(&tar);
    let expected = Expected::Anything(Deflate::DOCKER_PUSH);
    let outcomes = run(
        &layers,
        &[MissingLayer { diff_id, expected }],
        &Options::default(),
    )
    .unwrap();
    let stored = compressed(&tar, by(Deflate::DOCKER_PUSH));
    assert_eq!(hit(&outcomes[0]).digest, Digest::sha256(&stored));
    assert_eq!(layers.opened().len(), 1);
}

#[test]
fn a_layer_that_is_wanted_twice_is_packed_once() {
    let tar = tar(11, 1000);
    let mut layers = Layers::default();
    layers.add(&tar);
    let wanted = exactly(&tar, &compressed(&tar, by(Deflate::DOCKER_PUSH)));
    let outcomes = run(&layers, &[wanted.clone(), wanted], &Options::default()).unwrap();
    assert_eq!(hit(&outcomes[0]).digest, hit(&outcomes[1]).digest);
    assert_eq!(layers.opened().len(), 1);
}

#[test]
fn many_layers_share_few_files_and_misses_leave_no_gaps() {
    let mut layers = Layers::default();
    let mut wanted = Vec::new();
    let mut stored = Vec::new();
    for seed in 1..30 {
        let tar = tar(seed, 20_000 + usize::try_from(seed).unwrap());
        layers.add(&tar);
        let encoder = by([GO_1, ZLIB_9, Deflate::DOCKER_PUSH][usize::try_from(seed).unwrap() % 3]);
        stored.push((seed % 5 > 0).then(|| compressed(&tar, encoder)));
        let bytes = stored.last().unwrap().clone().unwrap_or_else(|| vec![0; 1 << 20]);
        wanted.push(exactly(&tar, &bytes));
    }
    let options = Options {
        jobs: NonZeroUsize::MIN.saturating_add(2),
        ..Options::default()
    };
    let outcomes = run(&layers, &wanted, &options).unwrap();
    let mut files: HashMap<*const std::fs::File, (u64, u64)> = HashMap::new();
    for (outcome, stored) in outcomes.iter().zip(&stored) {
        match stored {
            None => assert!(matches!(missed(outcome), Reason::Encoder { .. })),
            Some(stored) => {
                let found = hit(outcome);
                assert!(bytes(&found.stored) == *stored);
                let file = &found.stored.extents[0].file;
                let entry = files.entry(std::sync::Arc::as_ptr(file)).or_default();
                entry.0 += found.size;
                entry.1 = file.metadata().unwrap().len();
            }
        }
    }
    assert!(files.len() <= 3, "{files:?}");
    for (kept, length) in files.values() {
        assert_eq!(kept, length, "a miss left something behind");
    }
}

/// The size of the phase, and the bytes that were reported of it.
#[derive(Default)]
struct Reported(Mutex<(Option<u64>, Tally)>);

impl Progress for Reported {
    fn phase(&self, _: &str, total_bytes: Option<u64>) {
        *self.0.lock().unwrap() = (total_bytes, Tally::default());
    }

    fn blob_started(&self, digest: &Digest, size: u64, done: u64) {
        self.0.lock().unwrap().1.started(digest, size, done);
    }

    fn blob_advanced(&self, digest: &Digest, bytes: u64) {
        self.0.lock().unwrap().1.advanced(digest, bytes);
    }

    fn blob_finished(&self, digest: &Digest) {
        self.0.lock().unwrap().1.finished(digest);
    }
}

#[test]
fn progress_ends_at_the_uncompressed_size_however_many_encoders_are_tried() {
    let mut layers = Layers::default();
    let tars = [tar(31, 90_000), tar(32, 70_000), tar(33, 50_000)];
    for tar in &tars {
        layers.add(tar);
    }
    let wanted = [
        exactly(&tars[0], &compressed(&tars[0], by(ZLIB_9))),
        exactly(&tars[1], b"made by nothing that is known"),
        // Not tried at all.
        exactly(&tars[2], &tars[2]),
    ];
    let reported = Reported::default();
    recompress(
        &layers,
        &wanted,
        &one_after_the_other(),
        &reported,
        &Interrupt::default(),
    )
    .unwrap();
    let reported = reported.0.lock().unwrap();
    assert_eq!((reported.0, reported.1.done()), (Some(160_000), 160_000));
    assert!(
        *layers.read.lock().unwrap() > 200_000,
        "several encoders were tried"
    );
}

#[cfg(test)]
#[path = "faults_tests.rs"]
mod faults;
