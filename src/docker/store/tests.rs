//! Stores made for tests, file by file.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::error::ErrorKind;
use crate::oci::Hasher;
use crate::oci::chain_ids;
use crate::store::files::digest_path;

struct Made {
    home: tempfile::TempDir,
    files: Files,
}

/// A piece of a tar: bytes, or a file's name and content.
enum Part<'p> {
    Bytes(&'p [u8]),
    File(&'p str, &'p [u8]),
}

impl Made {
    fn new(driver: &str) -> Made {
        let home = tempfile::tempdir().unwrap();
        let files = Files {
            data_root: home.path().into(),
            driver: driver.into(),
            through: None,
        };
        fs::create_dir_all(files.configs()).unwrap();
        Made { home, files }
    }

    fn store(&self) -> ClassicStore {
        ClassicStore::open(self.files.clone()).unwrap()
    }

    fn write(&self, path: PathBuf, bytes: &[u8]) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn folder(&self, id: &str) -> PathBuf {
        match self.files.driver.as_str() {
            "vfs" => self.home.path().join("vfs/dir").join(id),
            driver => self.home.path().join(driver).join(id).join("diff"),
        }
    }

    /// Writes a layer as the top of a chain, and returns its diff id.
    fn layer(&self, chain: &Digest, id: &str, parts: &[Part<'_>]) -> Digest {
        let mut hasher = Hasher::sha256();
        let mut lines = String::new();
        fs::create_dir_all(self.folder(id)).unwrap();
        for (at, part) in parts.iter().enumerate() {
            let line = match part {
                Part::Bytes(bytes) => json!({ "type": 2, "payload": STANDARD.encode(bytes), "position": at }),
                Part::File(name, bytes) => {
                    self.write(self.folder(id).join(name), bytes);
                    json!({ "type": 1, "name": name, "size": bytes.len(), "payload": "AAAAAAAAAAA=", "position": at })
                }
            };
            let (Part::Bytes(bytes) | Part::File(_, bytes)) = part;
            hasher.update(bytes);
            lines += &format!("{line}\n");
        }
        let diff_id = hasher.finish();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(lines.as_bytes()).unwrap();
        let folder = digest_path(&self.files.chains(), chain);
        self.write(folder.join("tar-split.json.gz"), &encoder.finish().unwrap());
        self.write(folder.join("cache-id"), id.as_bytes());
        self.write(folder.join("diff"), diff_id.to_string().as_bytes());
        diff_id
    }
}

fn read(store: &ClassicStore, diff_id: &Digest, piece: usize) -> Result<Vec<u8>> {
    let mut tar = store.open(diff_id)?;
    let mut all = Vec::new();
    let mut buffer = vec![0; piece];
    loop {
        match tar.read(&mut buffer) {
            Ok(0) => return Ok(all),
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(Error::from_reader(error, |error| panic!("{error}"))),
        }
    }
}

const SEVERAL: &[Part<'static>] = &[
    Part::Bytes(b"header"),
    Part::File("a/file", b"content"),
    Part::Bytes(b"padding"),
    Part::Bytes(b"header"),
    Part::File("a/other", &[7; 5000]),
    Part::File("top", b"x"),
    Part::Bytes(b"end"),
];

#[test]
fn a_layer_is_put_together_again() {
    for driver in ["overlay2", "vfs", "fuse-overlayfs"] {
        let made = Made::new(driver);
        let diff_id = made.layer(&Digest::sha256(b"chain"), "id", SEVERAL);
        let empty = made.layer(&Digest::sha256(b"empty"), "none", &[]);
        let store = made.store();
        assert_eq!(store.layers_obstacle(), None);
        for piece in [1, 7, 4096, 1 << 20] {
            let tar = read(&store, &diff_id, piece).unwrap();
            assert_eq!(Digest::sha256(&tar), diff_id);
            assert_eq!(store.size(&diff_id).unwrap(), Some(tar.len() as u64));
        }
        assert_eq!(read(&store, &empty, 9).unwrap(), b"");
        assert_eq!(store.size(&empty).unwrap(), Some(0));
        let none = Digest::sha256(b"none");
        assert_eq!(store.size(&none).unwrap(), None);
        assert_eq!(read(&store, &none, 9).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn a_file_that_is_not_what_it_was_is_named() {
    let made = Made::new("overlay2");
    let diff_id = made.layer(&Digest::sha256(b"chain"), "id", SEVERAL);
    let (store, file) = (made.store(), made.folder("id").join("a/other"));
    let says = |expected: &str| {
        let error = read(&store, &diff_id, 1000).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("a/other") && text.contains(expected), "{text}");
        assert_eq!(error.kind(), ErrorKind::Content);
        fs::remove_file(&file).unwrap_or_default();
    };
    for (length, expected) in [
        (4999, "4999 bytes, expected 5000"),
        (5001, "5001 bytes, expected 5000"),
    ] {
        fs::write(&file, vec![7; length]).unwrap();
        says(expected);
    }
    says("missing");
    fs::write(made.home.path().join("outside"), [7; 5000]).unwrap();
    symlink("../../../outside", &file).unwrap();
    says("symbolic link");
    // One that shrinks while it is read.
    fs::write(&file, [7; 5000]).unwrap();
    let mut tar = store.open(&diff_id).unwrap();
    let mut buffer = vec![0; 1000];
    tar.read_exact(&mut buffer).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(2000)
        .unwrap();
    let error = std::io::copy(&mut tar, &mut std::io::sink()).unwrap_err();
    let error = Error::from_reader(error, |error| panic!("{error}")).to_string();
    assert!(
        error.ends_with("a/other: truncated: 2000 bytes, expected 5000"),
        "{error}"
    );
}

#[test]
fn a_layer_over_the_limit_is_refused() {
    let made = Made::new("vfs");
    let diff_id = made.layer(&Digest::sha256(b"chain"), "id", SEVERAL);
    let size = made.store().size(&diff_id).unwrap().unwrap();
    let fits = made.store().with_max_layer_size(size);
    assert!(read(&fits, &diff_id, 100).is_ok());
    let error = read(&made.store().with_max_layer_size(size - 1), &diff_id, 100).unwrap_err();
    assert!(error.to_string().contains("decompresses to more than"), "{error}");
}

#[test]
fn one_folder_of_a_layer_is_enough() {
    let made = Made::new("overlay2");
    let mut chains = [Digest::sha256(b"one"), Digest::sha256(b"two")];
    chains.sort();
    let diff_id = made.layer(&chains[0], "broken", SEVERAL);
    assert_eq!(made.layer(&chains[1], "whole", SEVERAL), diff_id);
    fs::remove_dir_all(made.folder("broken")).unwrap();
    assert_eq!(
        Digest::sha256(&read(&made.store(), &diff_id, 100).unwrap()),
        diff_id
    );
    fs::remove_file(digest_path(&made.files.chains(), &chains[0]).join("tar-split.json.gz")).unwrap();
    assert!(made.store().size(&diff_id).unwrap().is_some());
    for id in ["../escape", "", "a/b"] {
        made.write(
            digest_path(&made.files.chains(), &chains[1]).join("cache-id"),
            id.as_bytes(),
        );
        let error = read(&made.store(), &diff_id, 100).unwrap_err();
        assert!(error.to_string().contains("no id in it"), "{error}");
    }
}

#[test]
fn what_a_driver_keeps_otherwise_comes_from_the_engine() {
    let made = Made::new("btrfs");
    let diff_id = made.layer(&Digest::sha256(b"chain"), "id", SEVERAL);
    let store = made.store();
    assert!(store.layers_obstacle().unwrap().reason.contains("btrfs"));
    assert_eq!(store.size(&diff_id).unwrap(), None);
    let error = store.open(&diff_id).err().unwrap();
    assert!(error.hint().unwrap().to_string().contains("btrfs"), "{error}");
}

#[test]
fn images_with_all_their_names() {
    let made = Made::new("overlay2");
    assert_eq!(made.store().images().unwrap(), []);
    let configs = [&b"{\"a\":1}"[..], b"{\"b\":2}"];
    let ids = configs.map(Digest::sha256);
    for (id, config) in ids.iter().zip(configs) {
        made.write(made.files.config(id), config);
    }
    let (gone, digest) = (Digest::sha256(b"gone"), Digest::sha256(b"index"));
    let by_digest = format!("httpd@{digest}");
    let names = json!({ "Repositories": {
        "httpd": { "httpd:2.4": ids[0], by_digest.as_str(): ids[0], "httpd:gone": gone },
        "quay.io/a/b": { "quay.io/a/b:1": ids[0], "no name!": ids[0] },
    }});
    made.write(made.files.names(), names.to_string().as_bytes());
    let store = made.store();
    let reference = |text: &str| text.parse::<Reference>().unwrap();
    let mut expected = vec![
        StoredImage {
            id: ids[0],
            tags: vec![reference("httpd:2.4"), reference("quay.io/a/b:1")],
            digests: vec![reference(&by_digest)],
        },
        StoredImage::unnamed(ids[1]),
    ];
    expected.sort_by_key(|kept| kept.id);
    assert_eq!(store.images().unwrap(), expected);
    assert_eq!(store.config(&ids[1]).unwrap().as_deref(), Some(configs[1]));
    assert_eq!(store.config(&gone).unwrap(), None);
    made.write(made.files.config(&ids[1]), b"other");
    assert_eq!(store.config(&ids[1]).unwrap_err().kind(), ErrorKind::Content);
    made.write(made.files.names(), b"{\"Repositories\":{},\"Repositories\":{}}");
    let error = store.images().unwrap_err().to_string();
    assert!(error.contains("occurs twice"), "{error}");
}

#[test]
fn blobs_of_a_layer_the_newest_first() {
    let made = Made::new("overlay2");
    let (diff_id, one, two) = (Digest::sha256(b"tar"), Digest::sha256(b"1"), Digest::sha256(b"2"));
    let store = made.store();
    assert_eq!(store.pushed(&diff_id).unwrap(), []);
    let list = json!([
        { "Digest": "sha256:12", "SourceRepository": "docker.io/library/httpd" },
        { "Digest": one, "SourceRepository": "docker.io/library/httpd", "HMAC": "" },
        { "Digest": two, "SourceRepository": "harbor.local/a", "HMAC": "x" },
    ]);
    made.write(made.files.blobs(&diff_id), list.to_string().as_bytes());
    let pushed = |digest, repository: &str| Pushed {
        digest,
        repository: repository.into(),
    };
    let expected = [
        pushed(two, "harbor.local/a"),
        pushed(one, "docker.io/library/httpd"),
    ];
    assert_eq!(store.pushed(&diff_id).unwrap(), expected);
    for bad in ["", "{}", "[{}]", "[{\"Digest\":\"sha256:12\"}]", "[1]"] {
        made.write(made.files.blobs(&diff_id), bad.as_bytes());
        assert_eq!(store.pushed(&diff_id).unwrap(), [], "{bad}");
    }
    made.write(made.files.blobs(&diff_id), &vec![b' '; (1 << 20) + 1]);
    assert_eq!(store.pushed(&diff_id).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn a_store_is_found_by_its_data_root() {
    let made = Made::new("vfs");
    assert_eq!(Files::find(Some(made.home.path())).unwrap(), made.files);
    fs::create_dir_all(made.home.path().join("image/overlay2/imagedb")).unwrap();
    let error = Files::find(Some(made.home.path())).unwrap_err();
    assert!(error.to_string().contains("overlay2, vfs"), "{error}");
    let chains = chain_ids(&[Digest::sha256(b"a"), Digest::sha256(b"b")]);
    made.layer(&chains[1], "id", SEVERAL);
    let strange = made.files.chains().join("sha256/not-a-digest");
    fs::create_dir_all(strange).unwrap();
    made.store();
}
