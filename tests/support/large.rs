//! The image for measurements: five gzip layers of this machine's own files, over 700 MB stored.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use super::Daemon;
use super::folder::linked;
use super::image::{Built, Dialect, Image, Platform, blobs_folder, hex_digest, manifest, sha256};
use super::layer::{BuiltLayer, Compression, Layer, append, media_type, noise_bytes};

/// Raise it when what is built changes.
const RECIPE: &str = "1";
/// Stored bytes of each layer, at least; in all 750 MB.
const SIZES: [u64; 5] = [300_000_000, 200_000_000, 120_000_000, 80_000_000, 50_000_000];

/// The image, built once and kept below the target folder.
pub fn image() -> Built {
    image_of(&SIZES, "large")
}

/// An image with a gzip layer of at least each of these stored sizes, kept below the target folder under `name`.
pub fn image_of(sizes: &[u64], name: &str) -> Built {
    let files = real_files();
    let listing: String = files
        .iter()
        .map(|(path, size)| format!("{} {size}\n", path.display()))
        .collect();
    let key = sha256(format!("{RECIPE}\n{sizes:?}\n{listing}").as_bytes());
    let images = Path::new(env!("CARGO_TARGET_TMPDIR")).join("images");
    let folder = images.join(format!("{name}-{}", &key["sha256:".len()..][..16]));
    if !folder.join("layers.json").exists() {
        fs::create_dir_all(&images).unwrap();
        remove_outdated(&images, name);
        let part = tempfile::Builder::new()
            .prefix(".part-")
            .tempdir_in(&images)
            .unwrap();
        // A machine with too few files gets them again, under other names.
        let mut supply = (0u32..)
            .flat_map(|round| files.iter().map(move |(path, _)| (round, path)))
            .map(|(round, path)| {
                let bytes = fs::read(path).unwrap_or_default();
                (format!("round-{round}{}", path.display()), bytes)
            });
        build(sizes, &mut supply, part.path());
        if fs::rename(part.path(), &folder).is_err() {
            assert!(
                folder.join("layers.json").exists(),
                "{} cannot be built",
                folder.display()
            );
        }
    }
    built(folder, name)
}

/// An image of noise, which does not compress: as large unpacked as stored. Built in `folder`, for once.
pub fn noise(sizes: &[u64], folder: &Path, name: &str) -> Built {
    let file = |seed: u64| (format!("noise-{seed}"), noise_bytes(seed, 64 << 20));
    build(sizes, &mut (1..).map(file), folder);
    built(folder.to_path_buf(), name)
}

/// Builds an image of 500 MB and more in five layers on a daemon, of large files of this machine: an engine takes
/// its time with each.
pub fn build_on(daemon: &Daemon, tag: &str) {
    let mut files = real_files();
    files.retain(|(_, size)| (1_000_000..50_000_000).contains(size));
    let files = RefCell::new(files.into_iter());
    daemon.build_of(tag, 5, |at, folder| {
        if at == 0 {
            return Layer::busybox().file("app/version", "1").write_to(folder);
        }
        let mut bytes = 0;
        while bytes < 125_000_000 {
            let next = files.borrow_mut().next();
            let (file, more) = next.expect("this machine has enough large files");
            let to = folder.join(file.strip_prefix("/").unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            linked(&file, &to);
            bytes += more;
        }
    });
}

fn built(folder: PathBuf, name: &str) -> Built {
    let layers: Vec<(String, String, u64)> =
        serde_json::from_slice(&fs::read(folder.join("layers.json")).unwrap()).unwrap();
    let layers = layers
        .into_iter()
        .map(|(digest, diff_id, size)| BuiltLayer {
            digest,
            diff_id,
            size,
            media_type: media_type(Dialect::Oci, Compression::Gzip).into(),
        })
        .collect();
    let manifest = manifest(
        &folder.join("blobs/sha256"),
        Dialect::Oci,
        &Platform::host(),
        layers,
        &["/bin/sh".into()],
    );
    Built {
        digest: manifest.digest.clone(),
        size: manifest.size,
        media_type: manifest.media_type.clone(),
        manifests: vec![manifest],
        attestations: Vec::new(),
        layout: folder,
        tag: name.into(),
    }
}

/// Removes what was built under that name of files that have changed since.
fn remove_outdated(images: &Path, name: &str) {
    for entry in fs::read_dir(images).unwrap().flatten() {
        let outdated = entry.file_name().to_str().is_some_and(|file| {
            file.strip_prefix(name)
                .is_some_and(|rest| rest.len() == 17 && rest.starts_with('-'))
        });
        if outdated {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Regular files with their sizes that a machine with Rust and the engines has: programs, libraries, documentation.
fn real_files() -> Vec<(PathBuf, u64)> {
    let sysroot = std::process::Command::new("rustc")
        .args(["--print", "sysroot"])
        .output();
    let sysroot = sysroot
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    let mut files = Vec::new();
    let mut open: Vec<PathBuf> = ["/usr/bin", "/usr/lib", "/usr/share", &sysroot]
        .iter()
        .map(PathBuf::from)
        .collect();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                open.push(entry.path());
            } else if meta.is_file() && meta.len() > 0 && File::open(entry.path()).is_ok() {
                files.push((entry.path(), meta.len()));
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "no files to build an image from");
    files
}

fn build(sizes: &[u64], supply: &mut dyn Iterator<Item = (String, Vec<u8>)>, folder: &Path) {
    let blobs = blobs_folder(folder);
    let layers: Vec<_> = sizes
        .iter()
        .map(|size| build_layer(*size, supply, &blobs))
        .collect();
    fs::write(folder.join("layers.json"), serde_json::to_vec(&layers).unwrap()).unwrap();
}

fn build_layer(
    size: u64,
    supply: &mut dyn Iterator<Item = (String, Vec<u8>)>,
    blobs: &Path,
) -> (String, String, u64) {
    let temporary = tempfile::NamedTempFile::new_in(blobs).unwrap();
    let stored = Hashing::new(BufWriter::with_capacity(
        1 << 20,
        temporary.as_file().try_clone().unwrap(),
    ));
    let raw = Hashing::new(GzEncoder::new(stored, flate2::Compression::fast()));
    let mut builder = tar::Builder::new(raw);
    while builder.get_ref().inner.get_ref().written < size {
        let (name, bytes) = supply.next().expect("it never ends");
        append(&mut builder, &name, 0o644, tar::EntryType::Regular, &bytes);
    }
    let raw = builder.into_inner().unwrap();
    let diff_id = hex_digest(raw.hasher);
    let mut stored = raw.inner.finish().unwrap();
    stored.flush().unwrap();
    let (digest, written) = (hex_digest(stored.hasher), stored.written);
    temporary.persist(blobs.join(&digest["sha256:".len()..])).unwrap();
    (digest, diff_id, written)
}

/// Hashes and counts what goes through.
struct Hashing<W> {
    inner: W,
    hasher: Sha256,
    written: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            written: 0,
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
