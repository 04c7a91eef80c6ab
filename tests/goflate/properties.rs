//! What holds for any input.

use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use proptest::prelude::*;
use sealift::goflate::{Encoder, Level};

use crate::recipe::Random;
use crate::{LEVELS, encode_whole};

fn decode(gzip: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    MultiGzDecoder::new(gzip).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Pieces repeated at several distances, so that there are matches, literals and blocks of all kinds.
fn inputs() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..3000),
        (any::<u8>(), 0..5000usize).prop_map(|(byte, length)| vec![byte; length]),
        proptest::collection::vec(0..4u8, 0..9000),
    ];
    (proptest::collection::vec(piece, 1..5), 1..12usize).prop_map(|(pieces, times)| {
        let all = pieces.iter().cycle().take(pieces.len() * times);
        all.flatten().copied().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_decoder_gives_the_input_back(input in inputs(), level in LEVELS) {
        prop_assert!(decode(&encode_whole(&input, level)) == input);
    }

    #[test]
    fn calls_of_write_and_flush_make_no_difference(input in inputs(), level in LEVELS, seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let mut encoder = Encoder::new(Vec::new(), Level::new(level).unwrap());
        let mut rest = &*input;
        while !rest.is_empty() {
            let (part, further) = rest.split_at(rest.len().min(random.below(20_000)));
            encoder.write_all(part).unwrap();
            if random.below(4) == 0 {
                encoder.flush().unwrap();
            }
            rest = further;
        }
        prop_assert!(encoder.finish().unwrap() == encode_whole(&input, level));
    }
}

#[test]
fn a_boundary_between_writes_shows_only_where_go_shows_it() {
    // The position that is the last one decided before the window slides, unless it slides early, has a match
    // that is then out of reach.
    let mut random = Random::new(7);
    let mut input: Vec<u8> = (0..65_274).map(|_| random.byte()).collect();
    input.extend_from_within(65_274 - 32_700..65_274 - 32_400);
    input.extend((0..1000).map(|_| random.byte()));
    let (first, second) = input.split_at(65_535);
    let said = crate::encode([first, second], 6);
    let mut unsaid = Encoder::new(Vec::new(), Level::DEFAULT);
    unsaid.write_all(first).unwrap();
    unsaid.write_all(second).unwrap();
    assert!(unsaid.finish().unwrap() == encode_whole(&input, 6));
    assert!(said != encode_whole(&input, 6));
    assert!(decode(&said) == input);
}

/// Takes so many bytes, then fails.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_that_failed_is_not_written_to_again() {
    let noise: Vec<u8> = {
        let mut random = Random::new(1);
        (0..300_000).map(|_| random.byte()).collect()
    };
    for level in LEVELS {
        let mut encoder = Encoder::new(Full(100_000), Level::new(level).unwrap());
        let error = encoder.write_all(&noise).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(
            encoder
                .write_all(b"more")
                .unwrap_err()
                .to_string()
                .contains("failed before")
        );
        assert!(encoder.flush().is_err());
        assert!(encoder.finish().is_err());
    }
}

#[test]
fn the_levels_are_those_of_go() {
    assert_eq!(Level::new(-1), Some(Level::DEFAULT));
    assert_eq!(Level::new(1), Some(Level::FASTEST));
    assert_eq!((Level::new(-3), Level::new(10)), (None, None));
    assert_eq!(
        LEVELS
            .filter_map(|level| Some(Level::new(level)?.number()))
            .count(),
        LEVELS.count()
    );
}
