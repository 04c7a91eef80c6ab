//! Saves to disks that are too small.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::fake::reference;
use super::tests::{BOTH, listing, options, save_as, stream, two_images};
use super::*;
use crate::progress::Silent;

/// A file system of a given size, unmounted at the end.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(size: &str) -> Tmpfs {
        let folder = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={size}")).unwrap();
        rustix::mount::mount(
            "tmpfs",
            folder.path(),
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            options.as_c_str(),
        )
        .unwrap();
        Tmpfs(folder)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_disk_that_is_too_small_is_told_before_writing() {
    let disk = Tmpfs::new("1M");
    let path = disk.0.path().join("images.tar");
    fs::write(&path, "old").unwrap();
    let fake = two_images();
    let error = save_as(&fake, &BOTH, &options(), &path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("bytes are needed"), "{error}");
    assert!(fake.opened.lock().unwrap().is_empty());
    assert_eq!(listing(disk.0.path()), ["images.tar"]);
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn what_comes_beside_the_archive_must_fit_too() {
    let disk = Tmpfs::new("4M");
    let path = disk.0.path().join("images.tar");
    let with = |beside| Options { beside, ..options() };
    let error = save_as(&two_images(), &BOTH, &with(4 << 20), &path).unwrap_err();
    assert!(error.to_string().contains("bytes are needed"), "{error}");
    assert!(listing(disk.0.path()).is_empty());
    let references: Vec<Reference> = BOTH.iter().map(|name| reference(name)).collect();
    let (fake, interrupt) = (two_images(), Interrupt::default());
    for (beside, fits) in [(0, true), (4 << 20, false)] {
        let options = with(beside);
        let forecast = forecast(&fake, &references, &options, &Silent, &interrupt).unwrap();
        let rooms = rooms(&forecast, &options, Some(&path), disk.0.path()).unwrap();
        assert_eq!(rooms[0].needed, forecast.summary.size + beside);
        assert_eq!(rooms[0].check().is_ok(), fits);
    }
    save_as(&two_images(), &BOTH, &with(1 << 20), &path).unwrap();
}

#[test]
fn a_disk_that_fills_up_leaves_the_old_archive_and_what_came() {
    let disk = Tmpfs::new("4M");
    let path = disk.0.path().join("images.tar");
    let filler: PathBuf = disk.0.path().join("filler");
    fs::write(&path, "old").unwrap();
    let mut fake = two_images();
    let grown = filler.clone();
    fake.hook = Some(Box::new(move |_| {
        // Another program uses up the rest.
        let _ = fs::write(&grown, vec![1; 3_500_000]);
    }));
    let error = save_as(&fake, &BOTH, &options(), &path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.to_string().contains("No space left"), "{error}");
    assert!(error.hint().is_some());
    assert_eq!(fs::read(&path).unwrap(), b"old");
    fs::remove_file(&filler).unwrap();
    fake.hook = None;
    save_as(&fake, &BOTH, &options(), &path).unwrap();
    assert!(fs::read(&path).unwrap() == stream(&two_images(), &BOTH, &options()).unwrap());
    assert_eq!(listing(disk.0.path()), ["images.tar"]);
    assert_eq!(fs::metadata(&path).unwrap().nlink(), 1);
}
