//! Loads into layouts and archives that fail at any step, are killed, or do not fit.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use insta::assert_snapshot;

use crate::load_files::{archives, names, save, tree};
use crate::support::{Image, Layer, Transcript, run};

/// The steps of a load into a folder or file, and what may go wrong with each.
const STEPS: [(&str, &str); 7] = [
    ("write", "error=ENOSPC"),
    ("pwrite64", "error=ENOSPC"),
    ("fsync", "error=EIO"),
    ("fdatasync", "error=EIO"),
    ("mkdirat", "error=EACCES"),
    ("renameat", "error=EACCES"),
    ("unlinkat", "error=EACCES"),
];

#[test]
fn a_load_cut_at_any_step_leaves_what_was_there_and_the_next_completes_it() {
    let (sealift, built) = archives();
    let (old, new) = (
        ("one:1".to_owned(), built[0].digest.clone()),
        ("two:1".to_owned(), built[1].digest.clone()),
    );
    let prepare = |content: &str| {
        let _ = fs::remove_dir_all(sealift.path("out"));
        let _ = fs::remove_file(sealift.path("out.tar"));
        sealift.run(&["load", "-q", "one.tar", "--to", content]).ok();
    };
    for (target, content) in [("oci:out", "out"), ("archive:out.tar", "out.tar")] {
        let whole = match content {
            "out" => vec![old.clone(), new.clone()],
            _ => vec![new.clone()],
        };
        let load = ["load", "-q", "two.tar", "--to", target];
        let mut cut = 0;
        for (call, error) in STEPS {
            for fault in ["signal=SIGKILL", error] {
                for k in 1.. {
                    prepare(target);
                    let run = sealift.injected(call, fault, k, &load);
                    let found = names(&sealift, content);
                    let case = format!("{target} {call} {k} {fault}: {found:?} {run:?}");
                    if run.code == Some(0) {
                        assert_eq!(found, whole, "{case}");
                        break;
                    }
                    cut += 1;
                    assert!(found == std::slice::from_ref(&old) || found == whole, "{case}");
                    if fault == error {
                        let left = tree(sealift.home()).into_iter().map(|(name, _)| name);
                        let left: Vec<String> = left.filter(|name| name.contains("sealift-part")).collect();
                        assert!(call == "unlinkat" || left.is_empty(), "{case} {left:?}");
                    }
                    sealift.run(&load).ok();
                    assert_eq!(names(&sealift, content), whole, "{case}");
                    let left = tree(sealift.home());
                    assert!(
                        left.iter().all(|(name, _)| !name.contains("sealift-part")),
                        "{case}"
                    );
                }
            }
        }
        assert!(cut >= 20, "only {cut} steps were cut");
    }
}

#[test]
fn a_new_layout_cut_at_any_step_is_removed_or_completed_by_the_next_load() {
    let (sealift, built) = archives();
    let whole = [("one:1".to_owned(), built[0].digest.clone())];
    let load = ["load", "-q", "one.tar", "--to", "oci:out"];
    let mut cut = 0;
    for (call, error) in STEPS {
        for fault in ["signal=SIGKILL", error] {
            for k in 1.. {
                let _ = fs::remove_dir_all(sealift.path("out"));
                let run = sealift.injected(call, fault, k, &load);
                let case = format!("{call} {k} {fault}: {run:?}");
                if run.code == Some(0) {
                    assert_eq!(names(&sealift, "out"), whole, "{case}");
                    break;
                }
                cut += 1;
                // It is whole if only the report could not be printed.
                if fault == error && call != "unlinkat" && sealift.path("out").exists() {
                    assert_eq!(names(&sealift, "out"), whole, "{case}");
                }
                sealift.run(&load).ok();
                assert_eq!(names(&sealift, "out"), whole, "{case}");
                let left = tree(&sealift.path("out"));
                assert!(
                    left.iter().all(|(name, _)| !name.contains("sealift-part")),
                    "{case}"
                );
            }
        }
    }
    assert!(cut >= 20, "only {cut} steps were cut");
}

#[test]
fn a_signal_leaves_nothing_behind() {
    let (sealift, built) = archives();
    for (target, made) in [
        ("oci:fresh", "fresh"),
        ("oci:out", "out"),
        ("archive:out.tar", "out.tar"),
    ] {
        for (signal, number) in [("INT", 2), ("TERM", 15)] {
            sealift.run(&["load", "-q", "one.tar", "--to", "oci:out"]).ok();
            sealift
                .run(&["load", "-q", "one.tar", "--to", "archive:out.tar"])
                .ok();
            let before = tree(sealift.home());
            // Every blob takes a fifth of a second, so that the signal comes in the middle.
            let inner = sealift.command(&["load", "-q", "two.tar", "--to", target]);
            let mut slow = Command::new("strace");
            slow.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,pwrite64,write"]);
            slow.args(["-e", "inject=fsync,pwrite64,write:delay_exit=300000"]);
            slow.arg(inner.get_program())
                .args(inner.get_args())
                .current_dir(sealift.home());
            let child = slow
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let started = Instant::now();
            let is_begun = || {
                fs::read_dir(sealift.home())
                    .unwrap()
                    .chain(fs::read_dir(sealift.path("out")).unwrap())
                    .any(|entry| {
                        let entry = entry.unwrap();
                        entry.file_name().to_string_lossy().contains("sealift-part")
                            || entry.file_name() == "fresh"
                    })
            };
            while !is_begun() {
                assert!(started.elapsed() < Duration::from_secs(20), "no load began");
                std::thread::sleep(Duration::from_millis(20));
            }
            std::thread::sleep(Duration::from_millis(400));
            run(Command::new("pkill").args([&format!("-{signal}"), "-P", &child.id().to_string()])).ok();
            let ended = child.wait_with_output().unwrap();
            let ended_by = std::os::unix::process::ExitStatusExt::signal(&ended.status);
            assert_eq!(ended_by, Some(number), "{target}: {ended:?}");
            let now = tree(sealift.home());
            assert!(
                now == before,
                "{target}: {:?}",
                now.iter().map(|(name, _)| name).collect::<Vec<_>>()
            );
            assert!(made != "fresh" || !sealift.path(made).exists(), "{target}");
        }
    }
    assert_eq!(
        names(&sealift, "out"),
        [("one:1".into(), built[0].digest.clone())]
    );
}

#[test]
fn a_load_that_does_not_fit_is_refused_before_anything_is_written() {
    let (sealift, _) = archives();
    let mut image = Image::small("large");
    let noise = Layer::new().noise("noise", 1, 400_000);
    image.platforms[0].1.push(noise);
    image.build(&sealift.path("large.layout"), "1");
    save(&sealift, &["large.layout"], &["large:1"], "large.tar");
    fs::create_dir(sealift.path("disk")).unwrap();
    let disk = sealift.path("disk");
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=300k", "none"])
        .arg(&disk))
    .ok();
    let mut transcript = Transcript::of(&sealift);
    for target in ["oci:disk/out", "archive:disk/out.tar"] {
        let plan = sealift
            .run(&["load", "large.tar", "--json", "--dry-run", "--to", target])
            .code(3)
            .json();
        assert_eq!(plan["room"]["refused"], true, "{plan}");
        transcript.run(&format!("load large.tar --to {target}")).code(3);
        assert_eq!(fs::read_dir(&disk).unwrap().count(), 0);
    }
    run(Command::new("umount").arg(&disk)).ok();
    assert_snapshot!(transcript.text(), @"
    $ sealift load large.tar --to oci:disk/out
    2> error: cannot load into disk/out: 441211 bytes are needed, 307200 are free
    2> hint: nothing was sent; free some space, or load into a folder on another disk
    exit 3

    $ sealift load large.tar --to archive:disk/out.tar
    2> error: cannot load into disk: 415232 bytes are needed, 307200 are free
    2> hint: nothing was sent; free some space, or write to another disk
    exit 3
    ");
}
