//! Every byte of a small archive, cut and flipped.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;

use sealift::archive::segments::Segments;
use sealift::archive::{self, Opened};
use sealift::oci::Digest;
use sealift::oci::digest::Hasher;
use sealift::verify::Options;
use tar::EntryType;

use crate::good::check;
use crate::images::Sample;
use crate::tar_builder::{TarBuilder, header, length};

/// Whether a user who knows the archive's digest would learn that these bytes are not what they were.
fn is_found(file: &mut File, bytes: &[u8], expected: &Digest) -> bool {
    file.rewind().unwrap();
    file.set_len(0).unwrap();
    file.write_all(bytes).unwrap();
    let segments = Segments::of_file("x", file.try_clone().unwrap(), Path::new("x")).unwrap();
    let Ok(Opened::Layout(layout)) = Opened::tar(segments, &archive::Options::default()) else {
        return true;
    };
    let options = Options {
        jobs: NonZeroUsize::MIN,
        ..Options::default()
    };
    layout.digest() != *expected || !check(&*layout, &options).is_good()
}

struct Bench {
    bytes: Vec<u8>,
    expected: Digest,
    file: File,
}

impl Bench {
    fn new() -> Bench {
        let sample = Sample::plain();
        Bench {
            bytes: sample.tar(),
            expected: Digest::sha256(sample.index.to_string().as_bytes()),
            file: tempfile::tempfile().unwrap(),
        }
    }

    fn is_found(&mut self, bytes: &[u8]) -> bool {
        is_found(&mut self.file, bytes, &self.expected)
    }
}

#[test]
fn a_cut_at_any_byte_is_found() {
    let mut bench = Bench::new();
    let bytes = bench.bytes.clone();
    assert!(!bench.is_found(&bytes), "whole, it is good");
    for end in 0..bytes.len() {
        assert!(bench.is_found(&bytes[..end]), "cut at {end}");
    }
}

/// The bytes that no checksum covers: for each entry the padding up to the next block, and the blank or NUL
/// that ends its checksum.
fn uncovered(bytes: &[u8]) -> Vec<(Range<usize>, Range<usize>)> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let header = usize::try_from(entry.raw_header_position()).unwrap();
        let end = usize::try_from(entry.raw_file_position() + entry.size()).unwrap();
        (end..end.next_multiple_of(512), header + 154..header + 156)
    });
    entries.collect()
}

#[test]
fn any_flipped_byte_is_found_except_in_padding_and_after_checksums() {
    let mut bench = Bench::new();
    let uncovered = uncovered(&bench.bytes);
    for flip in [0x20, 0xff] {
        for at in 0..bench.bytes.len() {
            let mut bytes = bench.bytes.clone();
            bytes[at] ^= flip;
            let is_blank = matches!(bytes[at], 0 | b' ');
            let means_nothing = uncovered
                .iter()
                .any(|(padding, blanks)| padding.contains(&at) || (is_blank && blanks.contains(&at)));
            assert_eq!(bench.is_found(&bytes), !means_nothing, "byte {at} ^ {flip:#x}");
        }
    }
}

/// Flipping a header's byte breaks its checksum. Someone who mends the checksum changes only these without
/// being found, and none of them means anything here.
#[test]
fn only_these_header_fields_are_ignored() {
    let mut bench = Bench::new();
    let files = Sample::plain().files();
    for (field, range, means_nothing) in [
        ("name", 0..100, false),
        ("mode", 100..108, true),
        ("uid", 108..116, true),
        ("gid", 116..124, true),
        ("size", 124..136, false),
        ("mtime", 136..148, true),
        ("type", 156..157, false),
        ("link name", 157..257, true),
        ("magic", 257..262, true),
        ("owner", 265..297, true),
        ("group", 297..329, true),
        ("device major", 329..337, true),
        ("device minor", 337..345, true),
        ("prefix", 345..500, false),
        ("unused", 500..508, true),
    ] {
        for victim in 0..files.len() {
            let tar = files
                .iter()
                .enumerate()
                .fold(TarBuilder::default(), |tar, (at, (name, data))| {
                    let change = |header: &mut tar::Header| {
                        let byte = &mut header.as_mut_bytes()[range.start];
                        // Digits stay digits: a field that is not a number is found of itself.
                        *byte = if *byte == b'0' { b'1' } else { b'7' };
                    };
                    let header = match at == victim {
                        true => header(name, EntryType::Regular, length(data), change),
                        false => header(name, EntryType::Regular, length(data), |_| {}),
                    };
                    tar.entry(&header, data)
                });
            let found = bench.is_found(&tar.end());
            assert_eq!(found, !means_nothing, "{field} of {}", files[victim].0);
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn hash_of_a_stream_in_parts_is_hash_of_the_slice(bytes: Vec<u8>, cut in 0..2000_usize, jobs in 1..4_usize) {
        let bytes = TarBuilder::default().file("layer", &bytes).end();
        let (head, tail) = bytes.split_at(cut.min(bytes.len()));
        let sample = Sample::new(vec![(crate::images::PLAIN, bytes.clone(), bytes.clone())]);
        let whole = sample.tar();
        let folder = tempfile::tempdir().unwrap();
        let at = cut.min(whole.len());
        std::fs::write(folder.path().join("i.001"), &whole[..at]).unwrap();
        std::fs::write(folder.path().join("i.002"), &whole[at..]).unwrap();
        let layout = crate::good::open(&folder.path().join("i")).unwrap();
        let options = Options { jobs: NonZeroUsize::new(jobs).unwrap(), ..Options::default() };
        let report = check(&*layout, &options);
        proptest::prop_assert!(report.is_good());
        let mut hasher = Hasher::sha256();
        hasher.update(head);
        hasher.update(tail);
        proptest::prop_assert!(report.layers.contains_key(&hasher.finish()));
    }
}
