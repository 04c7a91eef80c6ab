//! What an engine is shown.

use std::io::{Read as _, Write as _};

use sealift::archive::Layout;
use sealift::archive::View;
use sealift::archive::view::Item;
use sealift::oci::{Descriptor, Digest, MediaType};
use sealift::{Error, ErrorKind};
use serde_json::Value;

use crate::good::open;
use crate::images::{self, GZIP, PLAIN, Sample, ZSTD, blob};
use crate::tar_builder::length;

struct Shown {
    sample: Sample,
    file: tempfile::NamedTempFile,
    layout: Box<dyn Layout>,
}

fn shown() -> Shown {
    let plain: Vec<u8> = (0..900_000_u32)
        .flat_map(|n| (n * 7 % 65_521).to_le_bytes())
        .collect();
    let sample = Sample::new(vec![
        (ZSTD, zstd::encode_all(plain.as_slice(), 1).unwrap(), plain),
        (GZIP, images::gzip(b"gzip"), b"gzip".to_vec()),
        (PLAIN, b"plain".to_vec(), b"plain".to_vec()),
    ]);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&sample.tar()).unwrap();
    let layout = open(file.path()).unwrap();
    Shown { sample, file, layout }
}

fn descriptor(layer: &Value) -> Descriptor {
    serde_json::from_value(layer.clone()).unwrap()
}

impl Shown {
    fn stored(&self, at: usize) -> Descriptor {
        descriptor(&self.sample.manifest["layers"][at])
    }

    fn uncompressed(&self, at: usize) -> Item {
        let plain = &self.sample.layers[at].2;
        Item::Uncompressed {
            layer: self.stored(at),
            diff_id: Digest::sha256(plain),
            size: length(plain),
        }
    }

    fn items(&self) -> Vec<Item> {
        let file = |name: &str| Item::Bytes {
            name: name.into(),
            bytes: name.as_bytes().to_vec(),
        };
        vec![
            file("index.json"),
            file("manifest.json"),
            self.uncompressed(0),
            self.uncompressed(1),
            Item::Blob(self.stored(0)),
            Item::Blob(self.stored(2)),
            file("oci-layout"),
        ]
    }

    /// Everything that came, and how it ended.
    fn stream(&self, items: Vec<Item>) -> (Vec<u8>, Result<(), Error>) {
        let view = View::new(items).unwrap();
        let mut reader = view.open(&*self.layout);
        let mut all = Vec::new();
        let mut buffer = [0; 5000];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => {
                    assert_eq!(length(&all), view.size());
                    return (all, Ok(()));
                }
                Ok(count) => all.extend_from_slice(&buffer[..count]),
                Err(error) => {
                    assert!(reader.read(&mut buffer).is_err(), "it does not go on");
                    assert!(length(&all) < view.size(), "it fails before its end");
                    return (all, Err(Error::from_reader(error, |error| panic!("{error}"))));
                }
            }
        }
    }
}

#[test]
fn any_reader_of_tars_sees_the_entries_with_names_last() {
    let shown = shown();
    let (bytes, outcome) = shown.stream(shown.items());
    outcome.unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries: Vec<(String, Vec<u8>)> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.mode().unwrap(), header.mtime().unwrap()), (0o644, 0));
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), bytes)
        })
        .collect();
    let layers = &shown.sample.layers;
    let expected = [
        ("oci-layout".to_string(), b"oci-layout".to_vec()),
        blob(&layers[0].2),
        blob(&layers[1].2),
        blob(&layers[0].1),
        blob(&layers[2].1),
        ("index.json".to_string(), b"index.json".to_vec()),
        ("manifest.json".to_string(), b"manifest.json".to_vec()),
    ];
    assert!(entries == expected);
}

#[test]
fn content_that_changed_since_it_was_verified_ends_the_stream() {
    for (layer, uncompressed) in [(0, true), (0, false), (2, false)] {
        let shown = shown();
        let stored = shown.layout.stored(&shown.stored(layer).digest).unwrap();
        let mut bytes = std::fs::read(shown.file.path()).unwrap();
        let last = stored.extents[0].offset + stored.size - 1;
        bytes[usize::try_from(last).unwrap()] ^= 1;
        // The same file, not a new one under its name: that would leave the open one as it was.
        std::fs::OpenOptions::new()
            .write(true)
            .open(shown.file.path())
            .unwrap()
            .write_all(&bytes)
            .unwrap();
        let item = match uncompressed {
            true => shown.uncompressed(layer),
            false => Item::Blob(shown.stored(layer)),
        };
        let mut items = shown.items();
        items.truncate(2);
        items.push(item);
        let (sent, outcome) = shown.stream(items);
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Content, "{error}");
        let named = |name: &[u8]| sent.windows(name.len()).any(|window| window == name);
        assert!(
            !named(b"index.json") && !named(b"manifest.json"),
            "nothing was named"
        );
    }
}

#[test]
fn a_file_that_shrank_ends_the_stream_as_unreadable() {
    let shown = shown();
    shown.file.as_file().set_len(5000).unwrap();
    let (_, outcome) = shown.stream(shown.items());
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("at byte 5000"), "{error}");
}

#[test]
fn the_media_type_of_a_layer_must_be_true() {
    let shown = shown();
    let (layer, diff_id) = (shown.stored(0), Digest::sha256(&shown.sample.layers[0].2));
    let size = length(&shown.sample.layers[0].2);
    let item = |layer: &Descriptor, diff_id, size| Item::Uncompressed {
        layer: layer.clone(),
        diff_id,
        size,
    };
    let document = Descriptor::new(MediaType::new("application/json"), layer.digest, layer.size);
    let elsewhere = Descriptor::new(layer.media_type.clone(), Digest::sha256(b"elsewhere"), 9);
    for (item, says) in [
        (item(&layer, diff_id, size - 1), "size is"),
        (item(&layer, diff_id, size + 1), "size is"),
        (item(&layer, Digest::sha256(b""), size), "diff id is"),
        (item(&document, diff_id, size), "is not a layer"),
        (item(&elsewhere, diff_id, size), "missing"),
        (Item::Blob(elsewhere), "missing"),
        (
            Item::Blob(Descriptor {
                size: 9,
                ..layer.clone()
            }),
            "expected 9",
        ),
    ] {
        let error = shown.stream(vec![item]).1.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Content);
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}

#[test]
fn a_view_has_each_name_once() {
    let shown = shown();
    let twice = vec![Item::Blob(shown.stored(0)), Item::Blob(shown.stored(0))];
    assert!(View::new(twice).unwrap_err().to_string().contains("occurs twice"));
}

#[test]
fn names_and_sizes_beyond_ustar_are_read() {
    let size = 9 << 30;
    let digest: Digest = format!("sha512:{}", "ab".repeat(64)).parse().unwrap();
    let view = View::new(vec![Item::Blob(Descriptor::new(
        MediaType::new("x"),
        digest,
        size,
    ))])
    .unwrap();
    // A PAX header and its records, the header, the data, the end.
    assert_eq!(view.size(), 2 * 512 + 512 + size + 1024);
}
