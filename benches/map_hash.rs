//! What `verify --quick` is compared with: a program that does nothing but map, populate and hash the same
//! stretches of the same file on all cores, the largest first.

use std::fs::File;
use std::sync::Mutex;

use sha2::{Digest as _, Sha256};

/// Hashes `offset:length` stretches of the file named first.
pub fn run(arguments: &[String]) {
    let (path, stretches) = arguments.split_first().expect("a file and its stretches");
    let file = File::open(path).expect("the file opens");
    let mut work: Vec<(u64, usize)> = stretches
        .iter()
        .map(|text| {
            let (offset, length) = text.split_once(':').expect("offset:length");
            (
                offset.parse().expect("an offset"),
                length.parse().expect("a length"),
            )
        })
        .collect();
    work.sort_by_key(|(_, length)| *length);
    let work = Mutex::new(work);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some((offset, length)) = { work.lock().expect("no panic").pop() } {
                    let mut options = memmap2::MmapOptions::new();
                    // SAFETY: nothing writes to the archive while it is measured.
                    #[allow(unsafe_code)]
                    let map = unsafe { options.offset(offset).len(length).populate().map(&file) };
                    println!("{:x?}", Sha256::digest(map.expect("the file can be mapped")));
                }
            });
        }
    });
}
