//! What other tools write, and what is unusual but right.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use sealift::archive::Layout;
use sealift::archive::{self, Options};
use sealift::error::ErrorKind;
use sealift::interrupt::Interrupt;
use sealift::oci::Digest;
use sealift::progress::Silent;
use sealift::verify::{self, Report, Root, Verification};
use serde_json::json;
use tar::EntryType;

use crate::images::{self, GZIP, OCI_MANIFEST, PLAIN, Sample, ZSTD, blob, descriptor, layer, plain};
use crate::tar_builder::{TarBuilder, header, length};

pub fn open(path: &Path) -> sealift::Result<Box<dyn Layout>> {
    archive::open(&[path.to_path_buf()], &Options::default())
}

pub fn check(layout: &dyn Layout, options: &verify::Options) -> Report {
    archive::verify(layout, options, &Silent, &Interrupt::default()).unwrap()
}

/// Codes of all findings, errors and notes, sorted.
pub fn codes(report: &Report) -> Vec<&'static str> {
    let mut codes: Vec<_> = report
        .findings
        .iter()
        .map(|finding| finding.problem.code())
        .collect();
    codes.sort_unstable();
    codes
}

/// Opens and verifies an archive of these bytes; the codes of all findings.
fn verified(bytes: &[u8]) -> (Report, Vec<&'static str>) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let layout = open(file.path()).unwrap_or_else(|error| panic!("{error}"));
    let report = check(&*layout, &verify::Options::default());
    let codes = codes(&report);
    (report, codes)
}

#[test]
fn a_whole_archive_is_good() {
    let sample = Sample::new(vec![
        layer("gzip"),
        (ZSTD, images::zstd(&plain("zstd")), plain("zstd")),
        (PLAIN, plain("plain"), plain("plain")),
    ]);
    let (report, codes) = verified(&sample.tar());
    assert_eq!(codes, [""; 0]);
    assert!(report.is_good() && report.images[0].is_good);
    assert_eq!(report.images[0].reference.as_ref().unwrap().familiar(), "app:1");
    assert_eq!(report.images[0].platforms[0].to_string(), "linux/amd64");
    let layout = open_bytes(&sample.tar()).unwrap();
    assert_eq!(
        layout.digest(),
        Digest::sha256(sample.index.to_string().as_bytes())
    );
    assert_eq!((report.blobs, report.layers.len()), (5, 3));
    for (_, stored, plain) in &sample.layers {
        let found = report.layers[&Digest::sha256(stored)];
        assert_eq!(
            (found.diff_id, found.size),
            (Digest::sha256(plain), length(plain))
        );
        assert_eq!(
            report.uncompressed_size(&Digest::sha256(plain)),
            Some(length(plain))
        );
    }
}

#[test]
fn variants_of_the_tar_make_no_difference() {
    let files = Sample::plain().files();
    let dotted: Vec<_> = files
        .iter()
        .map(|(name, data)| (format!("./{name}"), data.clone()))
        .collect();
    let folders = ["./", "blobs/", "blobs/sha256", "blobs/"]
        .iter()
        .fold(TarBuilder::default(), |tar, name| {
            tar.kind(name, EntryType::Directory, b"")
        });
    let times = files.iter().fold(TarBuilder::default(), |tar, (name, data)| {
        tar.pax(&[("mtime", "1700000000.123456789"), ("SCHILY.xattr.user.x", "a\nb")])
            .file(name, data)
    });
    let pax_names = files.iter().fold(TarBuilder::default(), |tar, (name, data)| {
        let size = length(data).to_string();
        tar.pax(&[("path", name), ("size", &size)])
            .entry(&header("x", EntryType::Regular, 0, |_| {}), data)
    });
    let long_names = files.iter().fold(TarBuilder::default(), |tar, (name, data)| {
        let name = [name.as_bytes(), b"\0"].concat();
        tar.kind("././@LongLink", EntryType::GNULongName, &name)
            .file("x", data)
    });
    let base256 = files.iter().fold(TarBuilder::default(), |tar, (name, data)| {
        let change = |header: &mut tar::Header| {
            header.as_mut_bytes()[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            header.as_mut_bytes()[128..136].copy_from_slice(&length(data).to_be_bytes());
        };
        tar.entry(&header(name, EntryType::Regular, 0, change), data)
    });
    let old = files.iter().fold(TarBuilder::default(), |tar, (name, data)| {
        let change = |header: &mut tar::Header| {
            header.as_mut_bytes()[257..265].fill(0);
            header.as_mut_bytes()[156] = 0;
        };
        tar.entry(&header(name, EntryType::Regular, length(data), change), data)
    });
    let global = TarBuilder::default().kind(
        "pax_global_header",
        EntryType::XGlobalHeader,
        b"11 comment\n".as_slice(),
    );
    let comment = TarBuilder::default().kind("g", EntryType::XGlobalHeader, b"13 comment=x\n");
    assert!(
        open_bytes(&global.files(&files).end()).is_err(),
        "a record without a value"
    );
    for (form, bytes) in [
        ("leading ./", TarBuilder::default().files(&dotted).end()),
        ("folders", folders.files(&files).end()),
        ("PAX times and attributes", times.end()),
        ("PAX names and sizes", pax_names.end()),
        ("GNU long names", long_names.end()),
        ("base-256 sizes", base256.end()),
        ("headers older than ustar", old.end()),
        ("a global comment", comment.files(&files).end()),
        (
            "padded to 10 KiB",
            TarBuilder::default().files(&files).raw(&[0; 10240]).0,
        ),
    ] {
        let (report, codes) = verified(&bytes);
        assert!(report.is_good(), "{form}: {codes:?}");
        assert_eq!(codes, [""; 0], "{form}");
    }
}

fn open_bytes(bytes: &[u8]) -> sealift::Result<Box<dyn Layout>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    open(file.path())
}

#[test]
fn the_tar_crate_reads_and_writes_the_same() {
    let files = Sample::plain().files();
    let mut builder = tar::Builder::new(Vec::new());
    builder.mode(tar::HeaderMode::Deterministic);
    let long = format!("notes/{}", "long/".repeat(50));
    for (name, data) in files.iter().chain([&(format!("{long}x"), b"text".to_vec())]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(length(data));
        header.set_mode(0o600);
        builder.append_data(&mut header, name, data.as_slice()).unwrap();
    }
    let bytes = builder.into_inner().unwrap();
    let layout = open_bytes(&bytes).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        if let Ok(Some(digest)) = archive::format::digest_of_path(&name) {
            let extent = &layout.stored(&digest).unwrap().extents[0];
            assert_eq!(
                (extent.offset, extent.length),
                (entry.raw_file_position(), entry.size()),
                "{name}"
            );
        } else if name.starts_with("notes/") {
            assert_eq!(layout.unknown_files(), [name]);
        }
    }
    assert_eq!(
        codes(&check(&*layout, &verify::Options::default())),
        ["unknown-file"]
    );
}

#[test]
fn every_format_of_gnu_tar_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let files = Sample::plain().files();
    for (name, data) in &files {
        let file = folder.path().join("layout").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, data).unwrap();
    }
    let label = ["-V", "images of /dev/sda, 2024"];
    for (format, options) in [
        ("v7", &[][..]),
        ("ustar", &[]),
        ("oldgnu", &[]),
        ("gnu", &[]),
        ("posix", &[]),
        ("oldgnu", &label),
        ("gnu", &label),
        ("posix", &label),
        ("posix", &["--pax-option=globexthdr.name=%n,comment=x"]),
        (
            "gnu",
            &["--numeric-owner", "--owner=4294967294", "--mtime=@99999999999"],
        ),
        (
            "posix",
            &["--numeric-owner", "--owner=4294967294", "--mtime=@-1.5"],
        ),
    ] {
        let archive = folder.path().join("i.tar");
        let mut tar = std::process::Command::new("tar");
        tar.arg("-cf").arg(&archive).arg(format!("--format={format}"));
        tar.args(options).arg("-C").arg(folder.path().join("layout"));
        let done = tar.arg(".").output().unwrap();
        assert!(done.status.success(), "{format} {options:?}: {done:?}");
        let report = check(&*open(&archive).unwrap(), &verify::Options::default());
        assert_eq!(codes(&report), [""; 0], "{format} {options:?}");
    }
}

#[test]
fn streams_of_several_members_and_frames_are_good() {
    let (ab, ef) = (plain("ab"), plain("ef"));
    let members = [images::gzip(&ab[..700]), images::gzip(&ab[700..])].concat();
    let skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00\xff\xff\xff";
    let frames = [
        &images::zstd(&ef[..5])[..],
        skippable,
        &images::zstd(&ef[5..]),
        skippable,
    ]
    .concat();
    let sample = Sample::new(vec![(GZIP, members, ab), (ZSTD, frames, ef)]);
    assert_eq!(verified(&sample.tar()).1, [""; 0]);
}

#[test]
fn a_sparse_index_is_good_and_says_what_is_absent() {
    let mut absent = descriptor(OCI_MANIFEST, b"not here");
    absent["platform"] = json!({"os": "linux", "architecture": "arm64"});
    let mut attestation = descriptor(OCI_MANIFEST, b"not here either");
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    for declared in [None, Some("linux/amd64")] {
        let (mut sample, index) = Sample::plain().wrap(&[absent.clone(), attestation.clone()]);
        if let Some(declared) = declared {
            sample.index["manifests"][0]["annotations"]["dev.sealift.platforms"] = declared.into();
        }
        let (report, codes) = verified(
            &TarBuilder::default()
                .file(&index.0, &index.1)
                .files(&sample.files())
                .end(),
        );
        assert_eq!(codes, [""; 0]);
        let list = |platforms: &[sealift::oci::Platform]| {
            platforms.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(list(&report.images[0].platforms), ["linux/amd64"]);
        assert_eq!(list(&report.images[0].absent), ["linux/arm64"]);
    }
}

#[test]
fn an_index_may_leave_a_platform_open() {
    let arm = |variant: Option<&str>| {
        let mut sample = Sample::plain();
        sample.config["architecture"] = "arm".into();
        if let Some(variant) = variant {
            sample.config["variant"] = variant.into();
        }
        sample.reseal();
        sample
    };
    let linux = |architecture: &str| json!({"os": "linux", "architecture": architecture});
    let mut v7 = linux("arm");
    v7["variant"] = "v7".into();
    let plain = Sample::plain();
    // An image of data alone stands for every platform.
    let mut again = descriptor(OCI_MANIFEST, plain.manifest.to_string().as_bytes());
    again["platform"] = linux("amd64");
    for (sample, said, others) in [
        (arm(None), &v7, vec![]),
        (arm(Some("v6")), &v7, vec![]),
        (arm(Some("v5")), &linux("arm"), vec![]),
        (plain.clone(), &serde_json::Value::Null, vec![]),
        (plain, &linux("arm64"), vec![again]),
    ] {
        let (sample, index) = sample.wrap_as(said, &others);
        let (report, codes) = verified(
            &TarBuilder::default()
                .file(&index.0, &index.1)
                .files(&sample.files())
                .end(),
        );
        assert_eq!(codes, [""; 0], "{said}");
        assert!(report.is_good());
    }
}

#[test]
fn uncompressed_layers_beside_the_stored_ones_are_good() {
    let mut sample = Sample::new(vec![(ZSTD, images::zstd(&plain("layer")), plain("layer"))]);
    sample.manifest_json[0]["Layers"] = json!([blob(&plain("layer")).0]);
    let tar = TarBuilder::default()
        .file(&blob(&plain("layer")).0, &plain("layer"))
        .files(&sample.files());
    assert_eq!(verified(&tar.end()).1, [""; 0]);
}

#[test]
fn notes_do_not_make_an_archive_bad() {
    let tar = TarBuilder::default()
        .files(&Sample::plain().files())
        .file(&blob(b"nobody's").0, b"nobody's")
        .file("README", b"{}");
    let (report, codes) = verified(&tar.end());
    assert_eq!(codes, ["unknown-file"; 2]);
    assert!(report.is_good());
}

#[test]
fn parts_folders_and_compressed_archives_are_read_as_they_are() {
    let sample = Sample::plain();
    let bytes = sample.tar();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (at, part) in bytes.chunks(1000).enumerate() {
        std::fs::write(path(&format!("cut.tar.{:03}", at + 1)), part).unwrap();
    }
    std::fs::write(path("i.tar.gz"), images::gzip(&bytes)).unwrap();
    std::fs::write(path("i.tar.zst"), zstd::encode_all(bytes.as_slice(), 1).unwrap()).unwrap();
    for (name, data) in sample.files() {
        let file = path("layout").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, data).unwrap();
    }
    for name in ["cut.tar", "cut.tar.001", "i.tar.gz", "i.tar.zst", "layout"] {
        let layout = open(&path(name)).unwrap();
        let report = check(&*layout, &verify::Options::default());
        assert_eq!(codes(&report), [""; 0], "{name}");
        assert_eq!((report.blobs, report.layers.len()), (3, 1), "{name}");
        assert_eq!(report.label, path(name).display().to_string());
    }
    let parts: Vec<PathBuf> = (1..=bytes.len().div_ceil(1000))
        .rev()
        .map(|n| path(&format!("cut.tar.{n:03}")))
        .collect();
    assert!(
        archive::open(&parts, &Options::default()).is_ok(),
        "as a shell lists them"
    );
    std::fs::remove_file(path("cut.tar.003")).unwrap();
    assert_eq!(open(&path("cut.tar")).err().unwrap().kind(), ErrorKind::Io);
}

#[test]
fn one_image_can_be_verified_alone() {
    let (good, mut bad) = (Sample::plain(), Sample::new(vec![layer("another layer")]));
    bad.entry["annotations"] = json!({"io.containerd.image.name": "docker.io/library/bad:1"});
    let mut both = good.clone();
    both.index["manifests"] = json!([good.entry, bad.entry]);
    let mut blobs = bad.blobs();
    blobs[2].1[12] ^= 1;
    let bytes = TarBuilder::default().files(&blobs).files(&both.files()).end();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let layout = open(file.path()).unwrap();
    let all = check(&*layout, &verify::Options::default());
    assert!(!all.is_good());
    assert_eq!(
        all.images.iter().map(|image| image.is_good).collect::<Vec<_>>(),
        [false, false]
    );
    assert_eq!(codes(&all), ["digest-differs", "manifest-json"]);
    let mut one = Verification::new(&*layout);
    let images = vec![one.follow(Root::from(&layout.entries()[0]))];
    let options = verify::Options::default();
    let one = one
        .finish(images, &[], &options, &Silent, &Interrupt::default())
        .unwrap();
    assert_eq!((codes(&one).len(), one.images.len(), one.blobs), (0, 1, 3));
}

#[test]
fn a_quick_verification_skips_diff_ids() {
    let mut sample = Sample::plain();
    sample.layers[0].2 = plain("other");
    sample.config["rootfs"]["diff_ids"] = json!([Digest::sha256(&plain("other"))]);
    sample.reseal();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&sample.tar()).unwrap();
    let layout = open(file.path()).unwrap();
    assert_eq!(
        codes(&check(&*layout, &verify::Options::default())),
        ["diff-id-differs"]
    );
    let quick = verify::Options {
        quick: true,
        ..verify::Options::default()
    };
    assert!(check(&*layout, &quick).is_good());
}

#[test]
fn an_archive_is_the_expected_one_or_refused() {
    let sample = Sample::plain();
    let layout = open_bytes(&sample.tar()).unwrap();
    let right = layout.digest();
    assert!(archive::expect(&*layout, &right).is_ok());
    let error = archive::expect(&*layout, &Digest::sha256(b"")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("is archive {right}, expected ")),
        "{error}"
    );
}

#[test]
fn a_file_that_shrinks_after_it_was_opened_is_unread() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), Sample::plain().tar()).unwrap();
    let layout = open(file.path()).unwrap();
    file.as_file().set_len(3600).unwrap();
    let report = check(&*layout, &verify::Options::default());
    assert!(!report.is_good() && !report.images[0].is_good);
    let error = report.into_good().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("at byte 3600"), "{error}");
}

#[test]
fn any_number_of_threads_gives_the_same_layers() {
    let layers = (0..9_usize).map(|n| {
        let plain: Vec<u8> = (0..n * 70_000)
            .map(|at| u8::try_from(at % 253).unwrap())
            .collect();
        let plain = TarBuilder::default().file("layer", &plain).end();
        match n % 3 {
            0 => (PLAIN, plain.clone(), plain),
            1 => (ZSTD, zstd::encode_all(plain.as_slice(), 1).unwrap(), plain),
            _ => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&plain).unwrap();
                (GZIP, encoder.finish().unwrap(), plain)
            }
        }
    });
    let sample = Sample::new(layers.collect());
    let layout = open_bytes(&sample.tar()).unwrap();
    for jobs in [1, 2, 3, 16, 40] {
        let options = verify::Options {
            jobs: std::num::NonZeroUsize::new(jobs).unwrap(),
            ..verify::Options::default()
        };
        let report = check(&*layout, &options);
        assert_eq!(codes(&report), [""; 0], "{jobs}");
        assert_eq!((report.layers.len(), report.blobs), (9, 11), "{jobs}");
    }
}

#[test]
fn pipes_are_spooled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    for compress in [false, true] {
        let bytes = Sample::plain().tar();
        let bytes = if compress { images::gzip(&bytes) } else { bytes };
        let layout = std::thread::scope(|scope| {
            scope.spawn(|| std::fs::write(&path, &bytes).unwrap());
            open(&path).unwrap()
        });
        assert!(check(&*layout, &verify::Options::default()).is_good());
    }
}

#[test]
fn links_in_a_folder_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::plain();
    for (name, data) in sample.files() {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, data).unwrap();
    }
    std::fs::create_dir(folder.path().join("ingest")).unwrap();
    let report = check(&*open(folder.path()).unwrap(), &verify::Options::default());
    assert_eq!(codes(&report), ["unknown-file"]);
    assert!(report.is_good());
    let layer = folder.path().join(blob(&sample.layers[0].1).0);
    let elsewhere = folder.path().join("ingest/layer");
    std::fs::rename(&layer, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &layer).unwrap();
    let layout = open(folder.path()).unwrap();
    assert!(layout.check_opening().is_err());
    let report = check(&*layout, &verify::Options::default());
    assert_eq!(codes(&report), ["missing", "not-a-file", "unknown-file"]);
}
