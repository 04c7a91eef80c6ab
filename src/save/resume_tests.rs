use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::fake::{Fake, noise, reference};
use super::tests::{BOTH, listing, options, save_as, stream, two_images};
use super::*;
use crate::interrupt::Interrupt;
use crate::progress::Silent;

/// Saves until this many bytes were sent, and then interrupts.
fn interrupted(mut fake: Fake, names: &[&str], options: &Options, target: &Path, after: usize) -> Fake {
    let interrupt = Interrupt::default();
    *fake.given.lock().unwrap() = 0;
    fake.stop_after = Some((after, interrupt.clone()));
    let references: Vec<Reference> = names.iter().map(|name| reference(name)).collect();
    let outcome = save(
        &fake,
        &references,
        options,
        Output::File(target),
        &Silent,
        &interrupt,
    );
    assert!(
        matches!(outcome, Err(Error::Interrupted)),
        "after {after}: {outcome:?}"
    );
    fake.stop_after = None;
    fake
}

#[test]
fn an_interrupted_save_goes_on_and_ends_in_the_same_bytes() {
    let whole = stream(&two_images(), &BOTH, &options()).unwrap();
    let all: usize = 2 * (300_000 + 700_001 + 1024 + 511) + 4 * 3 + 3;
    for (jobs, in_order) in [(1, false), (4, false), (1, true)] {
        let options = Options {
            in_order,
            jobs: NonZeroUsize::new(jobs).unwrap(),
            ..options()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.tar");
        // By then every worker has written a bufferful; earlier, there may be nothing to keep.
        for after in (jobs * (256 << 10) + 1000..all).step_by(90_007) {
            let fake = interrupted(two_images(), &BOTH, &options, &path, after);
            let first = std::mem::take(&mut *fake.given.lock().unwrap());
            assert!(!path.exists());
            assert!(
                listing(folder.path()).len() <= 1,
                "one recognisable thing at most"
            );
            let summary = save_as(&fake, &BOTH, &options, &path).unwrap();
            let fetched = *fake.given.lock().unwrap();
            assert!(fs::read(&path).unwrap() == whole, "{jobs} jobs, after {after}");
            assert_eq!(listing(folder.path()), ["images.tar"]);
            assert_eq!(usize::try_from(summary.reused).unwrap(), first, "after {after}");
            assert_eq!(first + fetched, all, "nothing is fetched twice");
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn a_save_goes_on_when_a_host_turns_out_to_have_a_layer() {
    let layer = noise(1, 300_000);
    let digest = Digest::sha256(&layer);
    let document = format!(
        r#"{{"schema":1,"host":null,"engines":[{{"engine":"oci","target":"x","version":null,"platform":null,
            "platforms":[],"accepts":{{"uncompressed":true,"zstd":true}},"images":[{{"id":"x","tags":[],"digests":[],
            "diff_ids":[],"manifests":[],"available":[]}}],"blobs":{{"{digest}":300000}},"chains":[],
            "unpacked_suffices":false}}]}}"#
    );
    let have = vec![KnownHost::parse(document.as_bytes(), "have.json").unwrap()];
    let with = Options { have, ..options() };
    let expected = stream(&two_images(), &BOTH, &with).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let one = NonZeroUsize::MIN;
    let without = Options {
        jobs: one,
        ..options()
    };
    // The largest come first: the second one is not begun.
    let fake = interrupted(two_images(), &BOTH, &without, &path, 1_000_000);
    let summary = save_as(&fake, &BOTH, &with, &path).unwrap();
    assert!(fs::read(&path).unwrap() == expected);
    assert!(summary.reused >= 700_000, "{}", summary.reused);
    let omitted = summary.omitted.unwrap();
    assert_eq!((omitted.layers, omitted.bytes), (1, 300_000));
    assert!(fake.offsets(digest).is_empty());
}

#[test]
fn a_save_that_is_interrupted_again_and_again_gets_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let whole = stream(&two_images(), &BOTH, &options()).unwrap();
    let mut fake = two_images();
    // Each run continues with another part size; every second one completes.
    for (round, split) in [Some(90_000), None, Some(300_001), None].into_iter().enumerate() {
        let options = Options {
            split,
            jobs: NonZeroUsize::MIN,
            ..options()
        };
        fake = interrupted(fake, &BOTH, &options, &path, 270_000);
        assert_eq!(
            listing(folder.path()),
            [".images.tar.sealift-part"],
            "round {round}"
        );
    }
    let split = Options {
        split: Some(150_000),
        ..options()
    };
    let summary = save_as(&fake, &BOTH, &split, &path).unwrap();
    assert!(summary.reused >= 1_000_000, "{}", summary.reused);
    let joined: Vec<u8> = summary
        .files
        .iter()
        .flat_map(|part| fs::read(part).unwrap())
        .collect();
    assert!(joined == whole);
    assert_eq!(listing(folder.path()).len(), summary.files.len());
}

#[test]
fn blobs_are_taken_over_when_a_tag_has_moved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let base = noise(1, 600_000);
    let one_job = Options {
        jobs: NonZeroUsize::MIN,
        ..options()
    };
    let mut fake = Fake::default();
    let platform = Platform::host();
    let manifest = fake.manifest(&platform, &[base.clone(), noise(2, 500_000)]);
    fake.tag("app:1", &manifest);
    // The larger layer comes first.
    let mut fake = interrupted(fake, &["app:1"], &one_job, &path, 900_000);
    fake.opened.lock().unwrap().clear();
    let manifest = fake.manifest(
        &platform,
        &[base.clone(), noise(3, 10), noise(5, 800_000), noise(6, 5000)],
    );
    fake.tag("app:1", &manifest);
    let summary = save_as(&fake, &["app:1"], &options(), &path).unwrap();
    assert!(fs::read(&path).unwrap() == stream(&fake, &["app:1"], &options()).unwrap());
    assert_eq!(summary.reused, 600_000);
    assert_eq!(listing(folder.path()), ["images.tar"]);
    let fetched: HashSet<Digest> = {
        let opened = fake.opened.lock().unwrap();
        opened.iter().take(3).map(|(digest, _)| *digest).collect()
    };
    assert!(!fetched.contains(&Digest::sha256(&base)));
}

#[test]
fn without_resume_nothing_is_left_and_nothing_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let never = Options {
        resume: false,
        ..options()
    };
    let fake = interrupted(two_images(), &BOTH, &never, &path, 1_500_000);
    assert!(listing(folder.path()).is_empty());
    let fake = interrupted(fake, &BOTH, &options(), &path, 1_500_000);
    assert_eq!(listing(folder.path()).len(), 1);
    let summary = save_as(&fake, &BOTH, &never, &path).unwrap();
    assert_eq!(summary.reused, 0);
    assert_eq!(listing(folder.path()), ["images.tar"]);
}

#[test]
fn what_is_left_is_never_trusted() {
    type Corruption = fn(&Path);
    let corruptions: [(&str, Corruption); 8] = [
        ("bytes", |folder| {
            for name in listing(folder).iter().filter(|name| name.ends_with(".001")) {
                let length = fs::metadata(folder.join(name)).unwrap().len();
                fs::write(folder.join(name), vec![0xaa; usize::try_from(length).unwrap()]).unwrap();
            }
        }),
        ("shorter", |folder| {
            for name in listing(folder).iter().filter(|name| name.ends_with(".001")) {
                fs::File::options()
                    .write(true)
                    .open(folder.join(name))
                    .unwrap()
                    .set_len(4096)
                    .unwrap();
            }
        }),
        ("no data", |folder| {
            for name in listing(folder).iter().filter(|name| name.ends_with(".001")) {
                fs::remove_file(folder.join(name)).unwrap();
            }
        }),
        ("cut journal", |folder| {
            let path = folder.join("journal.json");
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("no journal", |folder| {
            fs::remove_file(folder.join("journal.json")).unwrap()
        }),
        ("another version", |folder| {
            rewrite(folder, "\"version\":1", "\"version\":2")
        }),
        ("all is said to be done", |folder| {
            let text = fs::read_to_string(folder.join("journal.json")).unwrap();
            let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
            for mark in document["sets"][0]["blobs"].as_array_mut().unwrap() {
                mark["done"] = mark["size"].clone();
            }
            fs::write(folder.join("journal.json"), document.to_string()).unwrap();
        }),
        ("numbers beyond any file", |folder| {
            rewrite(folder, "\"offset\":", "\"offset\":18446744073709");
        }),
    ];
    let whole = stream(&two_images(), &BOTH, &options()).unwrap();
    for (name, corrupt) in corruptions {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.tar");
        let fake = interrupted(two_images(), &BOTH, &options(), &path, 1_500_000);
        corrupt(&folder.path().join(".images.tar.sealift-part"));
        save_as(&fake, &BOTH, &options(), &path).unwrap();
        assert!(fs::read(&path).unwrap() == whole, "{name}");
        assert_eq!(listing(folder.path()), ["images.tar"], "{name}");
    }
}

fn rewrite(folder: &Path, from: &str, to: &str) {
    let path = folder.join("journal.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn parts_that_had_their_names_already_are_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let split = Options {
        split: Some(400_000),
        ..options()
    };
    let fake = interrupted(two_images(), &BOTH, &split, &path, 1_990_000);
    // As if the run had been killed between the renames of a finished archive.
    let work = folder.path().join(".images.tar.sealift-part");
    for part in ["001", "002"] {
        let made = listing(&work)
            .into_iter()
            .find(|name| name.ends_with(part))
            .unwrap();
        fs::rename(work.join(made), folder.path().join(format!("images.tar.{part}"))).unwrap();
    }
    let summary = save_as(&fake, &BOTH, &split, &path).unwrap();
    assert!(summary.reused > 900_000, "{}", summary.reused);
    let joined: Vec<u8> = summary
        .files
        .iter()
        .flat_map(|part| fs::read(part).unwrap())
        .collect();
    assert!(joined == stream(&two_images(), &BOTH, &options()).unwrap());
    assert_eq!(listing(folder.path()).len(), summary.files.len());
}

#[test]
fn in_order_nothing_stands_behind_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    for split in [None, Some(250_000)] {
        let options = Options {
            split,
            in_order: true,
            ..options()
        };
        let mut fake = two_images();
        let work = folder.path().join(".images.tar.sealift-part");
        let opened = std::sync::atomic::AtomicU64::new(0);
        fake.hook = Some(Box::new(move |blob| {
            // The files have no more than what was sent, with a header for each.
            let there: u64 = listing(&work)
                .iter()
                .filter(|name| name.contains(".0"))
                .map(|name| fs::metadata(work.join(name)).unwrap().len())
                .sum();
            let before = opened.fetch_add(blob.size + 1024, Ordering::SeqCst);
            assert!(there <= before + 40_000, "{there} bytes, {before} came");
        }));
        let summary = save_as(&fake, &BOTH, &options, &path).unwrap();
        let joined: Vec<u8> = summary
            .files
            .iter()
            .flat_map(|part| fs::read(part).unwrap())
            .collect();
        assert!(joined == stream(&two_images(), &BOTH, &super::tests::options()).unwrap());
    }
}

#[test]
fn what_a_killed_save_left_without_a_journal_is_not_mixed_in() {
    let whole = stream(&two_images(), &BOTH, &options()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    for in_order in [true, false] {
        let left = folder.path().join(".images.tar.sealift-part");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("1.001"), vec![b'x'; whole.len() + 5000]).unwrap();
        let options = Options {
            in_order,
            ..options()
        };
        save_as(&two_images(), &BOTH, &options, &path).unwrap();
        assert!(fs::read(&path).unwrap() == whole, "in order: {in_order}");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn what_somebody_else_put_there_is_neither_cleared_nor_followed() {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
    let folder = tempfile::tempdir().unwrap();
    let precious = folder.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "mine").unwrap();
    let shared = folder.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
    let refused = |name: &str, says: &str| {
        let error = save_as(&two_images(), &BOTH, &options(), &shared.join(name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "mine");
        assert_eq!(listing(&precious), ["file"]);
    };
    for to in [precious.as_path(), Path::new("nowhere")] {
        let link = shared.join(".a.tar.sealift-part");
        symlink(to, &link).unwrap();
        refused("a.tar", "it is a symbolic link");
        fs::remove_file(link).unwrap();
    }
    if !rustix::process::geteuid().is_root() {
        return; // Only root can make files of another user.
    }
    let theirs = shared.join(".b.tar.sealift-part");
    fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(65_534), None).unwrap();
    refused("b.tar", "belongs to another user");
    let link = shared.join("c.tar");
    symlink(precious.join("file"), &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(65_534), None).unwrap();
    refused("c.tar", "a link of another user");
    std::os::unix::fs::lchown(&link, Some(0), None).unwrap();
    save_as(&two_images(), &BOTH, &options(), &link).unwrap();
    assert!(fs::metadata(precious.join("file")).unwrap().len() > 1_000_000);
}

#[test]
fn what_began_for_all_to_read_ends_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    // One blob after the other, so that some are whole by then.
    let one_job = Options {
        jobs: NonZeroUsize::MIN,
        ..options()
    };
    let mut fake = interrupted(two_images(), &BOTH, &one_job, &path, 1_500_000);
    fake.is_private = true;
    assert!(save_as(&fake, &BOTH, &options(), &path).unwrap().reused > 0);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}
