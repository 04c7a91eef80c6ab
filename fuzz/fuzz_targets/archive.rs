//! Whole archives of any bytes: opened and verified.

#![no_main]

use std::fs::File;
use std::io::Write;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sealift::archive::segments::Segments;
use sealift::archive::{self, Opened, Options};
use sealift::blob::Uncompressed as _;
use sealift::interrupt::Interrupt;
use sealift::progress::Silent;
use sealift::verify;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("/dev/shm/sealift-fuzz");
    let path = path.with_extension(std::process::id().to_string());
    let mut file =
        File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("a file in memory");
    file.write_all(bytes).expect("room");
    let _ = std::fs::remove_file(&path);
    let segments = Segments::of_file("fuzz", file, &path).expect("an open file");
    let options = Options { max_layer_size: 1 << 20, ..Options::default() };
    match Opened::tar(segments, &options) {
        Ok(Opened::Layout(layout)) => {
            let options = verify::Options { max_layer_size: 1 << 20, ..verify::Options::default() };
            let _ = archive::verify(&*layout, &options, &Silent, &Interrupt::default());
        }
        Ok(Opened::DockerSave(save)) => {
            for diff_id in save.images().iter().flat_map(|image| &image.config.diff_ids) {
                let Ok(Some(size)) = save.size(diff_id) else { continue };
                let mut layer = save.open(diff_id).expect("what has a size can be read");
                let read = std::io::copy(&mut layer, &mut std::io::sink()).expect("as it could before");
                assert_eq!(read, size);
            }
        }
        Err(_) => {}
    }
});
