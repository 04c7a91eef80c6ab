//! Layers: deterministic tars of files, plain or compressed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, Write};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::image::{Dialect, sha256};

/// How a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As it is: digest and diff id are the same.
    Plain,
    /// gzip, by zlib at its default level.
    Gzip,
    /// gzip, by zlib at this level, with the header of Python's.
    Zlib(u32),
    /// gzip, by GNU's own encoder.
    GnuGzip,
    /// zstd; OCI only.
    Zstd,
}

/// A layer to be built.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Path, mode and bytes of each.
    pub(super) files: Vec<(String, u32, Vec<u8>)>,
    tar: Option<Vec<u8>>,
    /// What its type in the manifest says, right or wrong; `None` for what it is.
    said: Option<Compression>,
    /// How it is stored.
    pub compression: Compression,
}

/// A layer that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltLayer {
    /// Digest of the stored bytes.
    pub digest: String,
    /// Digest of the uncompressed tar.
    pub diff_id: String,
    /// Stored bytes.
    pub size: u64,
    /// Its type in the manifest.
    pub media_type: String,
}

impl Layer {
    /// A gzip layer without files.
    pub fn new() -> Self {
        Self {
            files: Vec::new(),
            tar: None,
            said: None,
            compression: Compression::Gzip,
        }
    }

    /// A gzip layer of this tar as it is.
    pub fn of_tar(tar: Vec<u8>) -> Self {
        Self {
            tar: Some(tar),
            ..Self::new()
        }
    }

    /// Adds a file that all may read.
    #[must_use]
    pub fn file(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.into(), 0o644, bytes.into()));
        self
    }

    /// Adds a file that all may run.
    #[must_use]
    pub fn program(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.into(), 0o755, bytes.into()));
        self
    }

    /// Adds a file of this machine under its own path.
    #[must_use]
    pub fn real(self, path: &str) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        self.file(path.trim_start_matches('/'), bytes)
    }

    /// Adds bytes that do not compress, the same for the same seed.
    #[must_use]
    pub fn noise(self, path: &str, seed: u64, size: usize) -> Self {
        self.file(path, noise_bytes(seed, size))
    }

    /// Sets how it is stored.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Says of it in the manifest that it is stored otherwise.
    #[must_use]
    pub fn said_to_be(mut self, compression: Compression) -> Self {
        self.said = Some(compression);
        self
    }

    /// A base with a shell and tools that run without any library.
    pub fn busybox() -> Self {
        let busybox = fs::read("/bin/busybox")
            .unwrap_or_else(|e| panic!("/bin/busybox: {e}: run tests/engines/install.sh"));
        Self::new()
            .program("bin/busybox", busybox)
            .program("bin/sh", "#!/bin/busybox sh\nexec /bin/busybox sh \"$@\"\n")
            .file("etc/passwd", "root:x:0:0:root:/:/bin/sh\n")
    }

    /// The uncompressed tar.
    pub fn tar(&self) -> Vec<u8> {
        if let Some(tar) = &self.tar {
            return tar.clone();
        }
        let mut builder = tar::Builder::new(Vec::new());
        let mut folders = std::collections::BTreeSet::new();
        for (path, mode, bytes) in &self.files {
            for parent in Path::new(path)
                .ancestors()
                .skip(1)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
            {
                let name = format!("{}/", parent.display());
                if name != "/" && folders.insert(name.clone()) {
                    append(&mut builder, &name, 0o755, tar::EntryType::Directory, &[]);
                }
            }
            append(&mut builder, path, *mode, tar::EntryType::Regular, bytes);
        }
        builder.into_inner().unwrap()
    }

    /// Builds it into a `blobs/sha256` folder.
    pub fn build(&self, blobs: &Path, dialect: Dialect) -> BuiltLayer {
        let tar = self.tar();
        let diff_id = sha256(&tar);
        let stored = match self.compression {
            Compression::Plain => tar,
            Compression::Gzip => zlib(6, &tar, &diff_id),
            Compression::Zlib(level) => zlib(level, &tar, &diff_id),
            Compression::GnuGzip => gnu_gzip(&tar),
            Compression::Zstd => zstd::encode_all(&tar[..], 3).unwrap(),
        };
        let digest = super::image::store(blobs, &stored);
        let media_type = media_type(dialect, self.said.unwrap_or(self.compression)).into();
        BuiltLayer {
            digest,
            diff_id,
            size: stored.len() as u64,
            media_type,
        }
    }
}

/// What zlib made of layers, by their diff ids and its level. Most images have the same base: compressing it for each took a
/// third of the tests' processor time.
static COMPRESSED: Mutex<BTreeMap<(String, u32), Vec<u8>>> = Mutex::new(BTreeMap::new());
/// Larger layers are compressed each time, in bytes.
const MAX_KEPT: usize = 4 << 20;

/// What zlib makes of a layer, in gzip's format.
fn zlib(level: u32, tar: &[u8], diff_id: &str) -> Vec<u8> {
    let key = (diff_id.to_owned(), level);
    let known = || COMPRESSED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stored) = known().get(&key) {
        return stored.clone();
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(tar).unwrap();
    let stored = encoder.finish().unwrap();
    if tar.len() <= MAX_KEPT {
        known().insert(key, stored.clone());
    }
    stored
}

/// What `gzip -n` makes of bytes.
fn gnu_gzip(bytes: &[u8]) -> Vec<u8> {
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(bytes).unwrap();
    input.rewind().unwrap();
    let mut command = Command::new("/usr/bin/gzip");
    let output = command.arg("-nc").stdin(input).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise_bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// A layer's type.
pub fn media_type(dialect: Dialect, compression: Compression) -> &'static str {
    match (dialect, compression) {
        (Dialect::Oci, Compression::Plain) => "application/vnd.oci.image.layer.v1.tar",
        (Dialect::Oci, Compression::Gzip | Compression::Zlib(_) | Compression::GnuGzip) => {
            "application/vnd.oci.image.layer.v1.tar+gzip"
        }
        (Dialect::Oci, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
        (Dialect::Docker, Compression::Plain) => "application/vnd.docker.image.rootfs.diff.tar",
        (Dialect::Docker, Compression::Gzip | Compression::Zlib(_) | Compression::GnuGzip) => {
            "application/vnd.docker.image.rootfs.diff.tar.gzip"
        }
        (Dialect::Docker, Compression::Zstd) => panic!("Docker's media types know no zstd"),
    }
}

/// Appends an entry whose every header field is fixed.
pub fn append(
    builder: &mut tar::Builder<impl Write>,
    path: &str,
    mode: u32,
    kind: tar::EntryType,
    bytes: &[u8],
) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_700_000_000);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(bytes.len() as u64);
    builder.append_data(&mut header, path, bytes).unwrap();
}

impl BuiltLayer {
    /// Its descriptor.
    pub fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.size })
    }
}
