//! `tar-split.json.gz`, and the layers that it makes of a folder.
//!
//! The first byte selects the size of the reads, and whether the rest is the file itself, its uncompressed content,
//! or the end of a line that is too long for one read.

#![no_main]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use sealift::dir::Dir;
use sealift::store::layer::{LayerTar, size};
use sealift::store::rooted::Rooted;
use sealift::store::tar_split::{Entries, Entry};
use sealift::error::Place;
use sealift::goflate::{Encoder, Level};

const LIMIT: u64 = 1 << 20;

/// A layer's files: `a` of 3 bytes, `d/b` of 5, `l` that leads to `a`, `o` and `u` that lead out.
fn folder() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let path = PathBuf::from("/dev/shm/sealift-fuzz-layer");
        fs::create_dir_all(path.join("d")).expect("a folder in memory");
        fs::write(path.join("a"), "abc").expect("room");
        fs::write(path.join("d/b"), "12345").expect("room");
        for (name, target) in [("l", "a"), ("o", "/etc/passwd"), ("u", "../../etc/passwd")] {
            // Every run makes the same.
            let _ = std::os::unix::fs::symlink(target, path.join(name));
        }
        path
    };
    FOLDER.get_or_init(make).clone()
}

fn entries(bytes: &[u8]) -> Entries<&[u8]> {
    Entries::new(bytes, LIMIT, Place::default()).expect("memory for a decompressor")
}

/// The tar's bytes, read in pieces.
fn read(bytes: &[u8], piece: usize) -> Option<Vec<u8>> {
    let folder = Rooted::new(Dir::open(&folder()).expect("the folder that was made"));
    let mut tar = LayerTar::new(entries(bytes), folder, LIMIT);
    let mut all = Vec::new();
    let mut buffer = vec![0; piece];
    loop {
        match tar.next_bytes(&mut buffer).ok()? {
            0 => return Some(all),
            count => all.extend_from_slice(&buffer[..count]),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let mut packed = Vec::new();
    if how & 1 == 0 {
        let mut encoder = Encoder::new(&mut packed, Level::STORED);
        if how & 2 != 0 {
            encoder.write_all(br#"{"type":2,"payload":""#).expect("memory");
            encoder.write_all(&[b'A'; 70_000]).expect("memory");
        }
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory");
    } else {
        packed.extend_from_slice(bytes);
    }
    let (one, other) = (read(&packed, usize::from(how >> 2) * 16 + 1), read(&packed, 1 << 16));
    assert_eq!(one, other);
    let expected = size(&mut entries(&packed), Path::new("layer"));
    if let Some(tar) = &one {
        assert!(tar.len() as u64 <= LIMIT);
        assert_eq!(expected.ok(), Some(tar.len() as u64));
    }
    // What is not taken makes no difference to what comes next.
    let mut entries = entries(&packed);
    let mut skipped = Vec::new();
    while let Ok(Some(entry)) = entries.next_entry() {
        if let Entry::File { size, .. } = &entry {
            assert!(*size > 0);
        }
        skipped.push(entry);
    }
    if one.is_some() {
        assert!(entries.next_entry().is_ok_and(|entry| entry.is_none()));
    }
});
