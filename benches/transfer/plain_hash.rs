//! The yardstick of `verify --quick`: hashes an archive's blobs on all cores, and does nothing else.
#![allow(unsafe_code)] // one map of a file that nothing writes to during the measurement

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::{Advice, Mmap};
use sha2::{Digest, Sha256};

/// Maps the archive, populates and hashes each blob, the largest first, and compares it with its name.
pub fn run(archive: &Path) {
    let mut blobs: Vec<(String, usize, usize)> = tar::Archive::new(File::open(archive).unwrap())
        .entries_with_seek()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let [start, size] =
                [entry.raw_file_position(), entry.size()].map(|n| usize::try_from(n).unwrap());
            (name, start, size)
        })
        .filter(|(name, _, _)| name.starts_with("blobs/sha256/"))
        .collect();
    blobs.sort_by_key(|(_, _, size)| std::cmp::Reverse(*size));
    // SAFETY: the archive is the measurement's own; nothing shrinks it.
    let map = unsafe { Mmap::map(&File::open(archive).unwrap()).unwrap() };
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while let Some((name, start, size)) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let _ = map.advise_range(Advice::PopulateRead, *start, *size);
                    let digest = Sha256::digest(&map[*start..start + size]);
                    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                    assert!(name.ends_with(&hex), "{name} is {hex}");
                }
            });
        }
    });
}
