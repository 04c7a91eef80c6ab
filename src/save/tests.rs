use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::fake::{Fake, Fault, noise, reference};
use super::*;
use crate::archive::Layout;
use crate::archive::{self, ArchiveSource};
use crate::error::{Hint, Remedy};
use crate::interrupt::Interrupt;
use crate::progress::Silent;

/// The options of most tests: both platforms, so that there is more than one image.
pub fn options() -> Options {
    Options {
        platforms: Some(PlatformSelection::All),
        retry: Retry::starting_with(Duration::from_millis(2)),
        ..Options::default()
    }
}

pub fn save_as(source: &dyn Source, names: &[&str], options: &Options, target: &Path) -> Result<Summary> {
    let references: Vec<Reference> = names.iter().map(|name| reference(name)).collect();
    save(
        source,
        &references,
        options,
        Output::File(target),
        &Silent,
        &Interrupt::default(),
    )
}

pub fn stream(source: &dyn Source, names: &[&str], options: &Options) -> Result<Vec<u8>> {
    let references: Vec<Reference> = names.iter().map(|name| reference(name)).collect();
    let mut bytes = Vec::new();
    let output = Output::Stream(Path::new("standard output"), &mut bytes);
    save(
        source,
        &references,
        options,
        output,
        &Silent,
        &Interrupt::default(),
    )?;
    Ok(bytes)
}

/// Two images that share a layer, one empty layer, and one that fills its blocks exactly.
pub fn two_images() -> Fake {
    let mut fake = Fake::default();
    let shared = noise(1, 300_000);
    fake.image("app:1", &[shared.clone(), noise(2, 700_001), noise(3, 1024)]);
    fake.image("quay.io/org/other:2", &[shared, Vec::new(), noise(4, 511)]);
    fake
}

pub const BOTH: [&str; 2] = ["app:1", "quay.io/org/other:2"];

pub fn open(path: &Path) -> Box<dyn Layout> {
    archive::open(&[path.to_path_buf()], &archive::Options::default()).unwrap()
}

/// The names in a folder.
pub fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_same_images_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a.tar"), folder.path().join("b.tar"));
    let summary = save_as(&two_images(), &BOTH, &options(), &first).unwrap();
    let shuffled = ["quay.io/org/other:2", "docker.io/library/app:1", "app:1"];
    let one_job = Options {
        jobs: NonZeroUsize::MIN,
        ..options()
    };
    let again = save_as(&two_images(), &shuffled, &one_job, &second).unwrap();
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    assert_eq!(summary.digest, again.digest);
    assert_eq!(summary.size, fs::metadata(&first).unwrap().len());
    assert_eq!(
        stream(&two_images(), &BOTH, &options()).unwrap(),
        fs::read(&first).unwrap()
    );
    // From the archive itself, like from another source.
    let third = folder.path().join("c.tar");
    save_as(
        &ArchiveSource::new(open(&first)).unwrap(),
        &shuffled,
        &options(),
        &third,
    )
    .unwrap();
    assert_eq!(fs::read(&first).unwrap(), fs::read(&third).unwrap());
    assert_eq!(
        listing(folder.path()),
        ["a.tar", "b.tar", "c.tar"],
        "nothing is left behind"
    );
}

#[test]
fn every_blob_is_there_once_and_names_come_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let mut fake = two_images();
    let summary = save_as(&fake, &BOTH, &options(), &path).unwrap();
    let mut tar = tar::Archive::new(fs::File::open(&path).unwrap());
    let mut names = Vec::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let name = entry.path().unwrap().to_str().unwrap().to_string();
        assert!(header.entry_type().is_file(), "{name}");
        assert_eq!(header.mode().unwrap(), 0o644);
        assert_eq!(
            (
                header.uid().unwrap(),
                header.gid().unwrap(),
                header.mtime().unwrap()
            ),
            (0, 0, 0)
        );
        let mut bytes = Vec::new();
        std::io::copy(&mut entry, &mut bytes).unwrap();
        if let Some(digest) = archive::format::digest_of_path(&name).unwrap() {
            assert_eq!(Digest::sha256(&bytes), digest);
        }
        names.push(name);
    }
    assert_eq!(names.first().unwrap(), "oci-layout");
    assert_eq!(names[names.len() - 2..], ["index.json", "manifest.json"]);
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    // 2 indexes, 4 manifests, 4 configs; 5 layers of each platform.
    assert_eq!(names.len(), 1 + 10 + 10 + 2);
    assert_eq!(summary.images.len(), 2);
    assert_eq!(summary.images[0].reference, reference("app:1"));
    assert_eq!(summary.images[0].platforms.len(), 2);
    assert_eq!(summary.digest, open(&path).digest());
    assert!(open(&path).check_opening().is_ok());
    let opened = fake.opened.get_mut().unwrap();
    let unique: HashSet<_> = opened.iter().collect();
    assert_eq!(unique.len(), opened.len(), "a shared blob is fetched once");
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert!(mode & 0o600 == 0o600 && mode & 0o133 == 0, "{mode:o}");
}

#[test]
fn a_manifest_without_an_index_is_saved_whatever_its_platform() {
    let mut fake = Fake::default();
    let other = Platform::linux("s390x", None);
    let manifest = fake.manifest(&other, &[noise(1, 3000)]);
    fake.tag("app:1", &manifest);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let saved = save_as(&fake, &["app:1"], &Options::default(), &path).unwrap();
    assert_eq!(saved.images[0].platforms, [other]);
    let host = Options {
        platforms: Some(PlatformSelection::host()),
        ..Options::default()
    };
    let error = save_as(&fake, &["app:1"], &host, &path).unwrap_err();
    assert!(
        error
            .hint()
            .unwrap()
            .to_string()
            .contains("it has no index, and is for linux/s390x only"),
        "{error}"
    );
}

#[test]
fn a_sparse_index_keeps_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let mut fake = Fake::default();
    let digest = fake.image("app:1", &[noise(1, 5000)]);
    let only = |platform: &str| Options {
        platforms: Some(platform.parse().unwrap()),
        ..Options::default()
    };
    let summary = save_as(&fake, &["app:1"], &only("linux/arm64"), &path).unwrap();
    assert_eq!(summary.images[0].digest, Some(digest));
    assert_eq!(open(&path).entries()[0].descriptor.digest, digest);
    assert_eq!(open(&path).blobs().len(), 4);
    let error = save_as(&fake, &["app:1"], &only("linux/s390x"), &path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.to_string().contains("app:1") && error.to_string().contains("linux/s390x"),
        "{error}"
    );
    assert!(
        error
            .hint()
            .unwrap()
            .to_string()
            .contains("linux/amd64, linux/arm64")
    );
}

#[test]
fn nothing_is_written_until_everything_resolves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    fs::write(&path, "old").unwrap();
    let fake = two_images();
    let error = save_as(&fake, &["app:1", "app:2"], &options(), &path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("app:2"), "{error}");
    assert!(fake.opened.lock().unwrap().is_empty());
    assert_eq!(
        save_as(&fake, &[], &options(), &path).unwrap_err().kind(),
        ErrorKind::Usage
    );
    assert_eq!(listing(folder.path()), ["images.tar"]);
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn documents_in_memory_have_a_limit_in_all() {
    let fake = two_images();
    let options = options();
    let interrupt = Interrupt::default();
    let references: Vec<Reference> = BOTH.iter().map(|name| reference(name)).collect();
    let run = |max_metadata| {
        let mut resolver = Resolver::new(&fake, &options, &interrupt);
        resolver.max_metadata = max_metadata;
        resolver
    };
    let whole = run(u64::MAX);
    let (images, _) = whole.resolve(&references).unwrap();
    assert_eq!(images.named.len(), 2);
    let all = whole.metadata.into_inner();
    let failed = |max_metadata| run(max_metadata).resolve(&references).unwrap().1;
    assert!(failed(all).is_empty());
    let error = &failed(all - 1)[0].error;
    assert_eq!(
        error.to_string(),
        format!(
            "manifests and configs of all images: {all} bytes, over the limit of {}",
            all - 1
        )
    );
}

#[test]
fn one_name_cannot_mean_two_images() {
    let folder = tempfile::tempdir().unwrap();
    let mut fake = Fake::default();
    let first = fake.image("app:1", &[noise(1, 10)]);
    let second = fake.image("app:2", &[noise(2, 10)]);
    let path = folder.path().join("a.tar");
    let pinned = format!("app:1@{second}");
    let error = save_as(&fake, &["app:1", &pinned], &options(), &path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    let same = format!("app:1@{first}");
    let digest_only = format!("app@{second}");
    let summary = save_as(&fake, &["app:1", &same, &digest_only], &options(), &path).unwrap();
    assert_eq!(summary.images.len(), 3);
}

#[test]
fn broken_bodies_are_asked_for_again() {
    let layer = noise(7, 400_000);
    let digest = Digest::sha256(&layer);
    let expected = {
        let mut fake = Fake::default();
        let manifest = fake.manifest(&Platform::host(), std::slice::from_ref(&layer));
        fake.tag("app:1", &manifest);
        stream(&fake, &["app:1"], &options()).unwrap()
    };
    for (faults, offsets) in [
        (&[][..], &[0][..]),
        (&[Fault::CutAt(100_000)], &[0, 100_000]),
        (&[Fault::CutAt(0)], &[0, 0]),
        (
            &[Fault::BreakAt(300_000), Fault::BreakAt(99_999)],
            &[0, 300_000, 399_999],
        ),
        (&[Fault::FlipAt(0)], &[0, 0]),
        (&[Fault::CutAt(1000), Fault::FlipAt(5)], &[0, 1000, 0]),
        (&[Fault::Longer], &[0, 0]),
        (
            &[Fault::Busy, Fault::CutAt(399_999), Fault::Busy],
            &[0, 0, 399_999, 399_999],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.tar");
        let mut fake = Fake::default();
        let manifest = fake.manifest(&Platform::host(), std::slice::from_ref(&layer));
        fake.tag("app:1", &manifest);
        fake.fail(digest, faults);
        save_as(&fake, &["app:1"], &options(), &path).unwrap();
        assert!(fs::read(&path).unwrap() == expected, "{faults:?}");
        assert_eq!(fake.offsets(digest), offsets, "{faults:?}");
    }
}

#[test]
fn a_body_that_stays_broken_is_an_error_that_says_what() {
    let layer = noise(7, 4000);
    let digest = Digest::sha256(&layer);
    for (fault, says) in [
        (Fault::FlipAt(17), format!("expected {digest}")),
        (Fault::CutAt(0), "truncated: 0 bytes, expected 4000".to_string()),
        (Fault::Longer, "size is 4001 bytes, expected 4000".to_string()),
        (Fault::Busy, "503".to_string()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.tar");
        fs::write(&path, "old").unwrap();
        let mut fake = Fake::default();
        let manifest = fake.manifest(&Platform::host(), &[layer.clone(), noise(8, 10)]);
        fake.tag("quay.io/org/app:1", &manifest);
        fake.fail(digest, &[fault; 5]);
        let error = save_as(&fake, &["quay.io/org/app:1"], &options(), &path).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Registry, "{text}");
        assert!(
            text.contains(&digest.to_string()) && text.contains(&says),
            "{text}"
        );
        assert_eq!(fake.offsets(digest).len(), 5, "{text}");
        assert!(matches!(fault, Fault::Busy) || text.contains("quay.io"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        // The sixth response is good, and the small layer is kept already.
        fake.opened.lock().unwrap().clear();
        save_as(&fake, &["quay.io/org/app:1"], &options(), &path).unwrap();
        assert_eq!(listing(folder.path()), ["images.tar"]);
    }
}

#[test]
fn a_large_blob_may_break_more_often_than_tries_if_it_gets_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let layer = noise(7, 8 << 20);
    let digest = Digest::sha256(&layer);
    let mut fake = Fake::default();
    let manifest = fake.manifest(&Platform::host(), &[layer]);
    fake.tag("app:1", &manifest);
    fake.fail(digest, &[Fault::BreakAt((1 << 20) + 1); 7]);
    save_as(&fake, &["app:1"], &options(), &path).unwrap();
    assert_eq!(fake.offsets(digest).len(), 8);
    fake.fail(digest, &[Fault::BreakAt(1 << 19); 7]);
    assert_eq!(
        save_as(&fake, &["app:1"], &options(), &path).unwrap_err().kind(),
        ErrorKind::Registry
    );
    assert_eq!(
        fake.offsets(digest).len(),
        8 + 5,
        "half a mebibyte each time is no headway"
    );
}

#[test]
fn a_pipe_takes_resumed_bytes_but_no_wrong_ones() {
    let mut fake = Fake::default();
    let layer = noise(7, 400_000);
    let digest = Digest::sha256(&layer);
    let manifest = fake.manifest(&Platform::host(), &[layer]);
    fake.tag("app:1", &manifest);
    let whole = stream(&fake, &["app:1"], &options()).unwrap();
    fake.fail(digest, &[Fault::CutAt(1), Fault::BreakAt(300_000)]);
    assert!(stream(&fake, &["app:1"], &options()).unwrap() == whole);
    fake.fail(digest, &[Fault::FlipAt(1)]);
    let error = stream(&fake, &["app:1"], &options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registry);
    let hint = Hint::from("bytes that went to a pipe cannot be taken back");
    assert_eq!(error.hint(), Some(hint.and(Remedy::SaveToFile)));
    let split = Options {
        split: Some(1 << 20),
        ..options()
    };
    assert_eq!(
        stream(&fake, &["app:1"], &split).unwrap_err().kind(),
        ErrorKind::Usage
    );
}

#[test]
fn a_closed_pipe_is_told_apart() {
    struct Closed(usize);
    impl Write for Closed {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or(std::io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (fake, app) = (two_images(), [reference("app:1")]);
    for room in [0, 5000, 400_000] {
        let mut closed = Closed(room);
        let output = Output::Stream(Path::new("standard output"), &mut closed);
        let error = save(&fake, &app, &options(), output, &Silent, &Interrupt::default()).unwrap_err();
        assert!(error.is_broken_pipe(), "{room}: {error}");
    }
}

#[test]
fn links_are_followed_and_devices_are_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let fake = two_images();
    fs::create_dir(at("real")).unwrap();
    fs::write(at("real/images.tar"), "old").unwrap();
    std::os::unix::fs::symlink("real/images.tar", at("link.tar")).unwrap();
    std::os::unix::fs::symlink("real/new.tar", at("dangling.tar")).unwrap();
    save_as(&fake, &BOTH, &options(), &at("link.tar")).unwrap();
    save_as(&fake, &BOTH, &options(), &at("dangling.tar")).unwrap();
    assert!(fs::symlink_metadata(at("link.tar")).unwrap().is_symlink());
    assert_eq!(
        fs::read(at("real/images.tar")).unwrap(),
        fs::read(at("real/new.tar")).unwrap()
    );
    assert_eq!(listing(&at("real")), ["images.tar", "new.tar"]);
    save_as(&fake, &BOTH, &options(), Path::new("/dev/null")).unwrap();
    assert!(
        fs::symlink_metadata("/dev/null")
            .unwrap()
            .file_type()
            .is_char_device()
    );
    assert_eq!(
        save_as(&fake, &BOTH, &options(), &at("real")).unwrap_err().kind(),
        ErrorKind::Usage
    );
    let error = save_as(&fake, &BOTH, &options(), &at("none/images.tar")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("none"), "{error}");
}

#[test]
fn parts_joined_are_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let whole = stream(&two_images(), &BOTH, &options()).unwrap();
    let split = Options {
        split: Some(100_000),
        ..options()
    };
    let summary = save_as(&two_images(), &BOTH, &split, &path).unwrap();
    assert_eq!(summary.files.len(), whole.len().div_ceil(100_000));
    assert_eq!(summary.files[0], folder.path().join("images.tar.001"));
    let joined: Vec<u8> = summary
        .files
        .iter()
        .flat_map(|part| fs::read(part).unwrap())
        .collect();
    assert!(joined == whole);
    assert_eq!(open(&path).digest(), summary.digest);
    // A subset, from the parts.
    let subset = folder.path().join("subset.tar");
    let parts = ArchiveSource::new(open(&path)).unwrap();
    save_as(&parts, &["app:1"], &options(), &subset).unwrap();
    assert_eq!(
        fs::read(&subset).unwrap(),
        stream(&two_images(), &["app:1"], &options()).unwrap()
    );
}

#[test]
fn an_older_archive_is_replaced_in_either_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let split = |size| Options {
        split: Some(size),
        ..options()
    };
    let foreign = folder.path().join("images.tar.sig");
    fs::write(&foreign, "signature").unwrap();
    let fake = two_images();
    save_as(&fake, &BOTH, &split(200_000), &path).unwrap();
    assert!(listing(folder.path()).len() > 5);
    save_as(&fake, &["app:1"], &split(2_000_000), &path).unwrap();
    assert_eq!(
        listing(folder.path()),
        ["images.tar.001", "images.tar.002", "images.tar.sig"]
    );
    save_as(&fake, &BOTH, &options(), &path).unwrap();
    assert_eq!(listing(folder.path()), ["images.tar", "images.tar.sig"]);
    save_as(&fake, &["app:1"], &split(2_000_000), &path).unwrap();
    assert_eq!(
        listing(folder.path()),
        ["images.tar.001", "images.tar.002", "images.tar.sig"]
    );
    // Files of others are not removed.
    fs::write(&path, "somebody's").unwrap();
    save_as(&fake, &["app:1"], &split(2_000_000), &path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"somebody's");
    fs::remove_file(folder.path().join("images.tar.002")).unwrap();
    fs::write(folder.path().join("images.tar.001"), vec![0; 1024]).unwrap();
    save_as(&fake, &["app:1"], &options(), &path).unwrap();
    assert_eq!(
        listing(folder.path()),
        ["images.tar", "images.tar.001", "images.tar.sig"]
    );
}

#[test]
fn a_second_save_to_the_same_path_is_told_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let mut fake = two_images();
    let (other, there) = (Arc::new(two_images()), path.clone());
    fake.hook = Some(Box::new(move |_| {
        let error = save_as(&*other, &BOTH, &options(), &there).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        let text = error.to_string();
        assert!(
            text.contains(&format!(
                "another sealift process is writing it (process {})",
                std::process::id()
            )),
            "{text}"
        );
        assert!(other.opened.lock().unwrap().is_empty());
    }));
    save_as(&fake, &BOTH, &options(), &path).unwrap();
    assert!(fs::read(&path).unwrap() == stream(&two_images(), &BOTH, &options()).unwrap());
    assert_eq!(listing(folder.path()), ["images.tar"]);
}
