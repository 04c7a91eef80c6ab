//! A real zlib beside this one: what it compresses is recompressed byte for byte, and the right encoder named.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use sealift::blob::Uncompressed;
use sealift::interrupt::Interrupt;
use sealift::oci::{Descriptor, Digest, MediaType};
use sealift::progress::Silent;
use sealift::recover::recompress::{Expected, MissingLayer, Options, Outcome, recompress};

use super::inputs;

/// Files by diff id.
struct Folder(PathBuf);

impl Folder {
    fn path(&self, diff_id: &Digest) -> PathBuf {
        self.0.join(diff_id.hex())
    }
}

impl Uncompressed for Folder {
    fn size(&self, diff_id: &Digest) -> sealift::Result<Option<u64>> {
        Ok(self.path(diff_id).metadata().ok().map(|found| found.len()))
    }

    fn open(&self, diff_id: &Digest) -> sealift::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(self.path(diff_id)).unwrap()))
    }
}

#[test]
fn layers_of_the_real_zlib_are_recompressed() {
    let home = tempfile::tempdir().unwrap();
    let program = inputs::program();
    for number in 0..inputs::COUNT {
        let bytes = inputs::input(number, &program);
        std::fs::write(home.path().join(Digest::sha256(&bytes).hex()), &bytes).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recompress/digests.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(home.path())
        .output()
        .expect("python3, whose zlib is the other one");
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let mut wanted = Vec::new();
    let mut kinds = Vec::new();
    for line in lines.lines() {
        let [name, size, digest, kind] = line.splitn(4, ' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let gzip = MediaType::new("application/vnd.oci.image.layer.v1.tar+gzip");
        let digest = format!("sha256:{digest}").parse().unwrap();
        wanted.push(MissingLayer {
            diff_id: format!("sha256:{name}").parse().unwrap(),
            expected: Expected::Exactly(Descriptor::new(gzip, digest, size.parse().unwrap())),
        });
        kinds.push(kind);
    }
    assert!(wanted.len() >= 5 * 100, "{}", wanted.len());
    let options = Options {
        tmpdir: home.path().into(),
        ..Options::default()
    };
    let outcomes = recompress(
        &Folder(home.path().into()),
        &wanted,
        &options,
        &Silent,
        &Interrupt::default(),
    )
    .unwrap();
    for ((outcome, wanted), kind) in outcomes.iter().zip(&wanted).zip(&kinds) {
        match outcome {
            // A lower level that gives the same bytes is as right.
            Outcome::Recompressed(layer) => assert!(
                layer.encoder.name.starts_with("zlib ") && layer.encoder.name <= *kind,
                "{}: {} for {kind}",
                wanted.diff_id,
                layer.encoder.name
            ),
            Outcome::Unmatched { reason, size, .. } => panic!("{kind}, {size} bytes: {reason}"),
            Outcome::Failed(error) => panic!("{kind}: {error}"),
        }
    }
    assert_eq!(outcomes.len(), wanted.len());
}
