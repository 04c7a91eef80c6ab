//! Every digest of testdata/goflate/vectors.json.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;

use crate::recipe::{Cook, Op, Tables};
use crate::{encode, encode_whole, sha256};

#[derive(Deserialize)]
struct File {
    words: Vec<String>,
    tables: Tables,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    #[serde(rename = "gen")]
    parts: Vec<Op>,
    len: usize,
    sha256: String,
    /// Length and digest of one write's output, by level.
    gzip: BTreeMap<String, (usize, String)>,
    #[serde(default)]
    chunked: Vec<Chunked>,
}

/// The output for writes of a size.
#[derive(Deserialize)]
struct Chunked {
    write: usize,
    level: i8,
    len: usize,
    sha256: String,
    differs: bool,
}

#[test]
fn every_vector_is_reproduced_at_every_level() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/goflate/vectors.json");
    let file: File = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(file.vectors.len(), 205);
    let (next, outputs) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some(vector) = file.vectors.get(next.fetch_add(1, Ordering::Relaxed)) {
            outputs.fetch_add(vector.check(&file), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    assert_eq!(
        outputs.into_inner(),
        205 * 12 + 40,
        "a file with fewer outputs proves less"
    );
}

impl Vector {
    /// Checks all outputs, and gives their number.
    fn check(&self, file: &File) -> usize {
        let mut cook = Cook {
            words: &file.words,
            tables: &file.tables,
            input: Vec::new(),
        };
        for part in &self.parts {
            cook.add(part);
        }
        let input = cook.input;
        assert_eq!(
            (input.len(), sha256(&input)),
            (self.len, self.sha256.clone()),
            "input of {}",
            self.name
        );
        for (level, expected) in &self.gzip {
            let output = encode_whole(&input, level.parse().unwrap());
            assert_eq!(
                (output.len(), sha256(&output)),
                *expected,
                "{} at level {level}",
                self.name
            );
        }
        for chunked in &self.chunked {
            let Chunked { write, level, .. } = chunked;
            let output = encode(input.chunks(*write), *level);
            let expected = (chunked.len, chunked.sha256.clone());
            let what = format!("{} at level {level} in writes of {write}", self.name);
            assert_eq!((output.len(), sha256(&output)), expected, "{what}");
            assert_eq!(encode_whole(&input, *level) != output, chunked.differs, "{what}");
        }
        self.gzip.len() + self.chunked.len()
    }
}
