//! Layers that are damaged or cannot be read, and work that stops.

use super::*;
use crate::oci::{Descriptor, MediaType};

#[test]
fn damaged_layers_are_errors_whatever_is_expected() {
    let good = tar(9, 600_000);
    let mut damaged = good.clone();
    damaged[599_999] ^= 1;
    let diff_id = Digest::sha256(&good);
    let mut layers = Layers::default();
    layers.tars.insert(diff_id, damaged);
    let mut early = exactly(&good, b"dropped at once");
    if let Expected::Exactly(stored) = &mut early.expected {
        stored.size = 20;
    }
    let others = [
        exactly(&good, &compressed(&good, by(Deflate::DOCKER_PUSH))),
        early,
        MissingLayer {
            diff_id,
            expected: Expected::Anything(GO_1),
        },
    ];
    for wanted in others {
        let outcomes = run(&layers, &[wanted], &Options::default()).unwrap();
        let [Outcome::Failed(error)] = &outcomes[..] else {
            panic!("{outcomes:?}");
        };
        assert_eq!(error.kind(), ErrorKind::Content);
        let text = error.to_string();
        assert!(text.starts_with(&diff_id.to_string()), "{text}");
        assert!(text.contains("diff id is sha256:"), "{text}");
    }
}

#[test]
fn what_cannot_be_recompressed_is_not_read() {
    let tar = tar(10, 1000);
    let mut layers = Layers::default();
    let diff_id = layers.add(&tar);
    let of_type = |media_type: &str, digest: Digest| MissingLayer {
        diff_id,
        expected: Expected::Exactly(Descriptor::new(MediaType::new(media_type), digest, 10)),
    };
    let other = Digest::sha256(b"other");
    let absent = MissingLayer {
        diff_id: other,
        expected: Expected::OneOf(vec![diff_id]),
    };
    let outcomes = run(
        &layers,
        &[
            of_type("application/vnd.oci.image.layer.v1.tar+zstd", other),
            of_type(GZIP, diff_id),
            of_type("application/vnd.oci.image.layer.v1.tar", other),
            of_type("application/x\u{1b}", other),
            absent,
            MissingLayer {
                diff_id,
                expected: Expected::OneOf(vec![other, diff_id]),
            },
        ],
        &Options::default(),
    )
    .unwrap();
    let reasons: Vec<&Reason> = outcomes.iter().map(missed).collect();
    assert_eq!(
        reasons,
        [
            &Reason::Compression(Compression::Zstd),
            &Reason::Plain,
            &Reason::Compression(Compression::None),
            &Reason::MediaType("application/x\u{1b}".into()),
            &Reason::Absent,
            &Reason::Plain,
        ]
    );
    assert_eq!(reasons[0].to_string(), "zstd layers cannot be recompressed");
    assert!(!reasons[3].to_string().contains('\u{1b}'));
    assert!(layers.opened().is_empty());
}

#[test]
fn work_stops_when_it_is_to_stop() {
    let tar = tar(12, 1000);
    let mut layers = Layers::default();
    layers.add(&tar);
    let interrupt = Interrupt::default();
    interrupt.stop();
    let wanted = [exactly(&tar, b"x")];
    let stopped = recompress(&layers, &wanted, &Options::default(), &Silent, &interrupt);
    assert!(matches!(stopped, Err(Error::Interrupted)));
}

#[test]
fn a_folder_that_takes_nothing_is_an_error_with_a_hint() {
    let home = tempfile::tempdir().unwrap();
    let tar = tar(13, 1000);
    let mut layers = Layers::default();
    layers.add(&tar);
    let options = Options {
        tmpdir: home.path().join("absent"),
        ..Options::default()
    };
    let error = run(&layers, &[exactly(&tar, b"x")], &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let hint = error.hint().unwrap();
    assert!(
        hint.advice()
            .contains(&Advice::Remedy(Remedy::OtherTemporaryFolder)),
        "{error}"
    );
}

#[test]
fn too_little_space_is_an_error_before_a_layer_is_read() {
    /// Layers of any size; reading one is a failure.
    struct Sized(u64);
    impl Uncompressed for Sized {
        fn size(&self, _: &Digest) -> Result<Option<u64>> {
            Ok(Some(self.0))
        }
        fn open(&self, _: &Digest) -> Result<Box<dyn Read + Send>> {
            Err(Error::Interrupted)
        }
    }
    let mut large = exactly(b"tar", b"x");
    if let Expected::Exactly(stored) = &mut large.expected {
        stored.size = u64::MAX;
    }
    let run = |uncompressed: u64, is_trial: bool| {
        let options = Options {
            is_trial,
            ..Options::default()
        };
        let wanted = std::slice::from_ref(&large);
        recompress(
            &Sized(uncompressed),
            wanted,
            &options,
            &Silent,
            &Interrupt::default(),
        )
        .unwrap_err()
    };
    let error = run(u64::MAX, false);
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("bytes are needed"), "{error}");
    // A trial writes nothing, and a manifest that lies about the size of a small layer keeps no other from being saved.
    assert!(matches!(run(u64::MAX, true), Error::Interrupted));
    assert!(matches!(run(1000, false), Error::Interrupted));
}

#[test]
fn errors_of_the_reader_keep_their_meaning() {
    struct Broken(fn() -> io::Error);
    struct Breaks(fn() -> io::Error);
    impl Read for Breaks {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(self.0())
        }
    }
    impl Uncompressed for Broken {
        fn size(&self, _: &Digest) -> Result<Option<u64>> {
            Ok(Some(5))
        }
        fn open(&self, _: &Digest) -> Result<Box<dyn Read + Send>> {
            Ok(Box::new(Breaks(self.0)))
        }
    }
    let wanted = [exactly(b"tar", b"x")];
    let not_found = || {
        io::Error::other(Error::NotFound {
            what: "a file of the layer".into(),
            place: "the store".into(),
            hint: None,
        })
    };
    let compressed = |made: fn() -> io::Error| {
        let options = Options::default();
        recompress(&Broken(made), &wanted, &options, &Silent, &Interrupt::default())
    };
    let outcomes = compressed(not_found).unwrap();
    assert!(matches!(&outcomes[..], [Outcome::Failed(error)] if error.kind() == ErrorKind::NotFound));
    let error = compressed(|| io::Error::from_raw_os_error(5)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

#[test]
fn a_layer_that_is_damaged_keeps_none_of_the_others_from_being_packed() {
    let (mut layers, mut wanted, mut stored) = (Layers::default(), Vec::new(), Vec::new());
    for seed in 30..36 {
        let tar = tar(seed, 20_000);
        layers.add(&tar);
        stored.push(compressed(&tar, by(GO_1)));
        wanted.push(exactly(&tar, stored.last().unwrap()));
    }
    let damaged = wanted[2].diff_id;
    layers.tars.get_mut(&damaged).unwrap()[700] ^= 1;
    let options = Options {
        jobs: NonZeroUsize::MIN,
        ..Options::default()
    };
    let outcomes = run(&layers, &wanted, &options).unwrap();
    for (at, (outcome, stored)) in outcomes.iter().zip(&stored).enumerate() {
        match at {
            2 => assert!(matches!(outcome, Outcome::Failed(error) if error.kind() == ErrorKind::Content)),
            _ => assert!(bytes(&hit(outcome).stored) == *stored),
        }
    }
}
