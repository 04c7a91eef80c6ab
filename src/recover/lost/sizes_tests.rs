use super::*;
use crate::error::Error;
use crate::recover::lost::templates::{self, Blob, Rebuilt};
use crate::recover::lost::{Candidate, Layer, LostManifest, Unrecovered};

const ENDLESS: Duration = Duration::from_secs(600);

fn blob(text: &str, size: u64) -> Blob {
    let digest = Digest::sha256(text.as_bytes());
    Blob { digest, size }
}

/// An image with these stored sizes, of which those that are `None` are to be found.
fn lost(template: &Template, sizes: &[u64], known: &[Option<u64>], near: &[u64]) -> LostManifest {
    let config = blob("config", 1234);
    let blobs: Vec<Blob> = (0..)
        .zip(sizes)
        .map(|(at, size)| blob(&format!("layer {at}"), *size))
        .collect();
    let layers = blobs.iter().zip(known).map(|(blob, size)| Layer {
        diff_id: Digest::sha256(blob.digest.to_string().as_bytes()),
        candidates: vec![Candidate {
            digest: blob.digest,
            size: *size,
        }],
        is_assumed: false,
        uncompressed: blob.size * 3,
        near: near.to_vec(),
    });
    LostManifest {
        digest: Digest::sha256(template.write(config, &blobs).as_bytes()),
        config,
        layers: layers.collect(),
    }
}

fn recover(lost: &LostManifest) -> Result<Rebuilt, Unrecovered> {
    lost.recover(Some(ENDLESS), &Interrupt::default()).unwrap()
}

#[test]
fn a_size_is_found_in_every_template() {
    for template in templates::all() {
        for (at, size, near) in [(0, 30_000, 30_100), (1, 30_000, 29_000), (2, 30_000, 30_000)] {
            let sizes = [size, size, size];
            let mut known = sizes.map(Some);
            known[at] = None;
            let lost = lost(template, &sizes, &known, &[near]);
            let rebuilt = recover(&lost).unwrap();
            assert_eq!(Digest::sha256(&rebuilt.bytes), lost.digest);
            assert_eq!(rebuilt.template, template);
        }
    }
}

#[test]
fn all_possible_sizes_are_tried_from_every_beginning() {
    for (uncompressed, made) in [
        (900, vec![]),
        (900, vec![300]),
        (900, vec![0, 10_000, 450, 460]),
        (0, vec![7]),
        (10, vec![1, 5]),
    ] {
        let near = Near::of(uncompressed, &made);
        let mut seen: Vec<u64> = Vec::new();
        for distance in 0..=near.reach() {
            for nth in 0..near.starts.len() {
                seen.extend(near.at(nth, distance));
            }
        }
        seen.sort_unstable();
        let expected: Vec<u64> = (near.least..=near.most).collect();
        assert_eq!(seen, expected, "{uncompressed} {made:?}");
        assert!(expected.contains(&uncompressed));
    }
}

#[test]
fn a_size_far_from_every_beginning_is_found_where_there_are_few() {
    let lost = lost(&DOCKER_PUSH, &[1000, 70], &[Some(1000), None], &[209]);
    assert!(recover(&lost).is_ok());
}

#[test]
fn a_layer_that_occurs_twice_has_one_size() {
    let twin = blob("twin", 500);
    let config = blob("config", 99);
    let layer = Layer {
        diff_id: Digest::sha256(b"tar"),
        candidates: vec![Candidate {
            digest: twin.digest,
            size: None,
        }],
        is_assumed: false,
        uncompressed: 2000,
        near: vec![490],
    };
    let lost = LostManifest {
        digest: Digest::sha256(DOCKER_PUSH.write(config, &[twin, twin]).as_bytes()),
        config,
        layers: vec![layer.clone(), layer],
    };
    assert!(recover(&lost).is_ok());
}

#[test]
fn every_choice_of_blobs_is_tried() {
    let config = blob("config", 99);
    let (right, wrong) = (
        |at: u64| blob(&format!("right {at}"), 100 + at),
        |at: u64| blob(&format!("wrong {at}"), 7),
    );
    for (which, known) in [(0, true), (1, true), (2, true), (1, false), (2, false)] {
        let blobs: Vec<Blob> = (0..3).map(right).collect();
        let layers = (0..3).map(|at| {
            let known = |blob: Blob| Candidate {
                digest: blob.digest,
                size: (at != 1 || known).then_some(blob.size),
            };
            let (first, second) = if at < which {
                (wrong(at), right(at))
            } else {
                (right(at), wrong(at))
            };
            Layer {
                diff_id: Digest::sha256(&[u8::try_from(at).unwrap()]),
                candidates: vec![known(first), known(second)],
                is_assumed: false,
                uncompressed: 300,
                near: vec![],
            }
        });
        let lost = LostManifest {
            digest: Digest::sha256(DOCKER_PUSH.write(config, &blobs).as_bytes()),
            config,
            layers: layers.collect(),
        };
        assert!(recover(&lost).is_ok(), "{which} {known}");
    }
}

#[test]
fn what_is_missing_is_told() {
    let says = |lost: &LostManifest| recover(lost).unwrap_err().to_string();
    let sizes = [100, 200, 300];
    let none = lost(&DOCKER_PUSH, &sizes, &[Some(100), None, None], &[]);
    assert_eq!(
        says(&none),
        "the compressed sizes of layers 2, 3 of 3 are not known"
    );
    let mut nameless = lost(&DOCKER_PUSH, &sizes, &[Some(100), None, None], &[]);
    nameless.layers[1].candidates.clear();
    assert_eq!(
        says(&nameless),
        "it is not known which blob layer 2 of 3 was in a registry"
    );
    let mut other = lost(&DOCKER_PUSH, &sizes, &[Some(100), Some(200), None], &[]);
    other.digest = Digest::sha256(b"other");
    let layer = other.layers[2].candidates[0].digest;
    assert_eq!(
        says(&other),
        format!(
            "the compressed size of layer 3 of 3 ({layer}) is not known, and no possible size reproduces the digest"
        )
    );
    let hasty = other
        .recover(Some(Duration::ZERO), &Interrupt::default())
        .unwrap();
    assert_eq!(
        hasty.unwrap_err().to_string(),
        format!("the compressed size of layer 3 of 3 ({layer}) is not known, and was not found in 0 s")
    );
    other.layers[2].candidates[0].size = Some(300);
    assert_eq!(
        says(&other),
        "no known tool writes a manifest over these layers that has the digest: it may be an index's"
    );
    other.layers[1].is_assumed = true;
    assert_eq!(
        says(&other),
        "it is not known which blob layer 2 of 3 was in a registry, and what docker push would have made of them does \
         not give the digest"
    );
    let impatient = lost(&DOCKER_PUSH, &sizes, &[Some(100), None, Some(300)], &[200]);
    let found = impatient.recover(None, &Interrupt::default()).unwrap();
    assert_eq!(
        found.unwrap_err().to_string(),
        "the compressed size of layer 2 of 3 is not known"
    );
}

#[test]
fn a_signal_ends_the_search() {
    let mut lost = lost(&DOCKER_PUSH, &[100], &[None], &[]);
    lost.layers[0].uncompressed = 1 << 40;
    lost.digest = Digest::sha256(b"other");
    let interrupt = Interrupt::default();
    interrupt.stop();
    assert!(matches!(
        lost.recover(Some(ENDLESS), &interrupt),
        Err(Error::Interrupted)
    ));
}

#[test]
fn digests_of_other_algorithms_are_searched_for_too() {
    let mut lost = lost(&DOCKER_PUSH, &[100], &[None], &[]);
    let text = DOCKER_PUSH.write(lost.config, &[blob("layer 0", 100)]);
    let sha512: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
    lost.digest = sha512.of_same_algorithm(text.as_bytes());
    assert!(recover(&lost).is_ok());
}
