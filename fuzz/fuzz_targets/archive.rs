//! Whole archives: opened and verified, whatever the bytes are.

#![no_main]

use std::fs::File;
use std::io::Write;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sealift::archive::segments::Segments;
use sealift::archive::verify::{self, verify};
use sealift::archive::{Archive, Options};
use sealift::interrupt::Interrupt;
use sealift::progress::Silent;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("/dev/shm/sealift-fuzz");
    let path = path.with_extension(std::process::id().to_string());
    let mut file =
        File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("a file in memory");
    file.write_all(bytes).expect("room");
    let _ = std::fs::remove_file(&path);
    let segments = Segments::of_file("fuzz", file, &path).expect("an open file");
    if let Ok(archive) = Archive::tar(segments, &Options::default()) {
        let options = verify::Options { max_layer_size: 1 << 20, ..verify::Options::default() };
        let _ = verify(&archive, &options, &Silent, &Interrupt::default());
    }
});
