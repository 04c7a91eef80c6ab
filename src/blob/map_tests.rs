use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::oci::{Digest, Hasher};

/// `length` bytes that never repeat within a page, in a file, as one extent from `offset` on.
fn stored(file: &File, offset: u64, length: u64) -> Stored {
    Stored {
        extents: vec![Extent {
            file: Arc::new(file.try_clone().unwrap()),
            path: Arc::new(PathBuf::from("/data/images.tar")),
            offset,
            length,
        }],
        size: length,
        entry: "blobs/sha256/00".into(),
        offset: None,
    }
}

fn file(length: usize) -> (File, Vec<u8>) {
    let bytes: Vec<u8> = (0..length)
        .map(|at| u8::try_from(at % 251).unwrap() | 1)
        .collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    (file, bytes)
}

fn collect(windows: &mut Windows<'_>) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(piece) = windows.next_piece()? {
        all.extend_from_slice(piece);
    }
    Ok(all)
}

#[test]
fn gives_the_files_bytes_mapped_or_read() {
    let (file, bytes) = file(70_000);
    for may_map in [true, false] {
        for (offset, length) in [(0, 70_000), (1, 69_999), (5_000, 10), (4_096, 8_192), (70_000, 0)] {
            let stored = stored(&file, offset, length);
            let mut windows = Windows::new(&stored);
            windows.window = 16_384;
            windows.may_map = may_map;
            let expected = &bytes[to_usize(offset)..to_usize(offset + length)];
            assert_eq!(
                collect(&mut windows).unwrap(),
                expected,
                "{may_map} {offset} {length}"
            );
        }
    }
}

#[test]
fn extents_follow_each_other() {
    let (first, a) = file(10_000);
    let (second, b) = file(20_000);
    let mut stored = stored(&first, 9_000, 1_000);
    let tail = self::stored(&second, 0, 20_000).extents;
    stored.extents.extend(tail);
    stored.size = 21_000;
    let expected: Vec<u8> = a[9_000..].iter().chain(&b).copied().collect();
    assert_eq!(collect(&mut Windows::new(&stored)).unwrap(), expected);
}

#[test]
fn a_file_that_is_too_short_is_an_error_with_the_offset() {
    let (file, _) = file(40_000);
    for may_map in [true, false] {
        let stored = stored(&file, 100, 50_000);
        let mut windows = Windows::new(&stored);
        windows.window = 16_384;
        windows.may_map = may_map;
        let error = collect(&mut windows).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(
            error.to_string(),
            "cannot read /data/images.tar at byte 40000: the file is shorter than it was"
        );
    }
}

#[test]
fn truncated_between_populate_and_touch_is_an_error_and_no_death() {
    let (file, bytes) = file(100_000);
    let stored = stored(&file, 1_000, 90_000);
    let mut windows = Windows::new(&stored);
    let piece = windows.next_piece().unwrap().unwrap();
    assert_eq!(piece[0], bytes[1_000]);
    file.set_len(30_000).unwrap();
    // This would be a SIGBUS: pages after the new end read as zeros now.
    assert_eq!(piece[20_000], bytes[21_000]);
    assert_eq!(piece[80_000], 0);
    assert_eq!(piece[60_000], 0);
    let error = windows.next_piece().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    let Error::Io { offset, .. } = error else {
        unreachable!()
    };
    assert_eq!(
        offset,
        Some(81_000 / 4096 * 4096 + 81_000 % 4096),
        "the first touch that failed"
    );
}

#[test]
fn a_window_owns_its_map_and_notices_that_its_file_shrank() {
    let (file, bytes) = file(100_000);
    let mut stored = stored(&file, 0, 60_000);
    stored.extents.push(Extent {
        offset: 70_000,
        length: 20_000,
        ..stored.extents[0].clone()
    });
    stored.size = 80_000;
    let map = |offset, most| Window::map(&stored, offset, most).unwrap();
    for (offset, most, begin, end) in [
        (0, 10, 0, 10),
        (50_000, 30_000, 50_000, 60_000),
        (60_000, 30_000, 70_000, 90_000),
        (79_999, 1, 89_999, 90_000),
    ] {
        let window = map(offset, most).unwrap();
        assert_eq!(window.as_ref(), &bytes[begin..end]);
        window.check().unwrap();
    }
    assert!(map(80_000, 1).is_none());
    let window = map(60_000, 20_000).unwrap();
    file.set_len(89_999).unwrap();
    let error = window.check().unwrap_err();
    assert!(error.to_string().contains("at byte 89999"), "{error}");
    file.set_len(75_000).unwrap();
    assert!(Window::map(&stored, 60_000, 20_000).is_err());
}

#[test]
fn a_page_that_became_half_zeros_does_not_pass() {
    let (file, _) = file(8_192);
    let stored = stored(&file, 0, 8_192);
    let mut windows = Windows::new(&stored);
    let last = *windows.next_piece().unwrap().unwrap().last().unwrap();
    assert_ne!(last, 0);
    file.set_len(8_000).unwrap();
    let error = windows.next_piece().unwrap_err();
    assert!(error.to_string().contains("at byte 8000"), "{error}");
}

#[test]
fn truncation_under_many_threads_never_passes() {
    let (file, bytes) = file(3 << 20);
    let whole = Digest::sha256(&bytes);
    let stored = stored(&file, 0, 3 << 20);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let mut windows = Windows::new(&stored);
                        windows.window = 65_536;
                        let mut hasher = Hasher::sha256();
                        let end = loop {
                            match windows.next_piece() {
                                Ok(Some(piece)) => hasher.update(piece),
                                Ok(None) => break Ok(()),
                                Err(error) => break Err(error),
                            }
                        };
                        match end {
                            Ok(()) => assert_eq!(hasher.finish(), whole),
                            Err(error) => break error.kind(),
                        }
                    }
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(100));
        file.set_len(1 << 20).unwrap();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), ErrorKind::Io);
        }
    });
}

#[test]
fn slots_are_given_back() {
    let (file, bytes) = file(5_000);
    let stored = stored(&file, 0, 5_000);
    for _ in 0..2 * SLOTS {
        assert_eq!(collect(&mut Windows::new(&stored)).unwrap(), bytes);
    }
    let mut held: Vec<Windows<'_>> = (0..SLOTS + 3).map(|_| Windows::new(&stored)).collect();
    for windows in &mut held {
        assert_eq!(
            windows.next_piece().unwrap(),
            Some(&bytes[..]),
            "also without a slot"
        );
    }
}

/// Runs one test of this file again in its own process, which may die.
fn alone(test: &str) -> std::process::ExitStatus {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("blob::map::tests::{test}")])
        .env("SEALIFT_TEST_DIES", "1")
        .output()
        .unwrap()
        .status
}

fn is_alone() -> bool {
    std::env::var_os("SEALIFT_TEST_DIES").is_some()
}

#[test]
fn a_fault_outside_of_windows_kills_as_before() {
    use std::os::unix::process::ExitStatusExt as _;
    if !is_alone() {
        let status = alone("a_fault_outside_of_windows_kills_as_before");
        assert_eq!(status.signal(), Some(libc::SIGBUS));
        return;
    }
    let (file, _) = file(10_000);
    let stored = stored(&file, 0, 10_000);
    let mut windows = Windows::new(&stored);
    assert!(
        windows.next_piece().unwrap().is_some(),
        "the handler is installed"
    );
    // SAFETY: not safe, and meant to be so: the touch below is the fault that is tried.
    let map = unsafe { memmap2::Mmap::map(&file).unwrap() };
    file.set_len(0).unwrap();
    assert_eq!(map[5_000], 0, "is not reached");
}

#[test]
fn a_sigbus_that_somebody_sends_kills_as_before() {
    use std::os::unix::process::ExitStatusExt as _;
    if !is_alone() {
        let status = alone("a_sigbus_that_somebody_sends_kills_as_before");
        assert_eq!(status.signal(), Some(libc::SIGBUS));
        return;
    }
    let (file, _) = file(10_000);
    assert!(
        collect(&mut Windows::new(&stored(&file, 0, 10_000))).is_ok(),
        "the handler is installed"
    );
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::BUS).unwrap();
    std::thread::sleep(Duration::from_secs(5));
}
