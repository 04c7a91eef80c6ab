//! Power, disks, signals, neighbours.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Image, Layer, Run, Sealift, assert_documented, image, run};

/// A layout folder with a small image of several layers.
fn small(sealift: &Sealift) -> String {
    let layers = vec![
        Layer::new().noise("a", 1, 300_000),
        Layer::new().noise("b", 2, 200_000),
        Layer::new().noise("c", 3, 100_000),
    ];
    let layout = sealift.path("layout");
    Image::single(layers).build(&layout, "1");
    layout.to_str().unwrap().to_owned()
}

fn save_args(layout: &str) -> [&str; 7] {
    ["save", "-q", "--from", layout, "small:1", "-o", "out/images.tar"]
}

/// What a folder holds besides the archive itself.
fn remains(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with("images.tar")).collect()
}

#[test]
fn a_save_killed_at_any_step_leaves_nothing_or_all_and_the_next_completes_it() {
    let sealift = Sealift::new();
    let layout = small(&sealift);
    let out = sealift.path("out");
    let whole = {
        fs::create_dir(&out).unwrap();
        sealift.run(&save_args(&layout)).ok();
        fs::read(out.join("images.tar")).unwrap()
    };
    let old = b"the archive that was there before".to_vec();
    let mut killed = 0;
    for call in [
        "pwrite64",
        "write",
        "fsync",
        "fdatasync",
        "sync_file_range",
        "ftruncate",
        "renameat",
        "unlinkat",
    ] {
        for k in 1.. {
            fs::remove_dir_all(&out).unwrap();
            fs::create_dir(&out).unwrap();
            fs::write(out.join("images.tar"), &old).unwrap();
            let run = sealift.injected(call, "signal=SIGKILL", k, &save_args(&layout));
            let found = fs::read(out.join("images.tar")).unwrap();
            assert!(
                found == old || found == whole,
                "{call} {k}: {} bytes",
                found.len()
            );
            if run.code == Some(0) {
                break; // there is no further call of this kind
            }
            killed += 1;
            let left = remains(&out);
            assert!(
                left.len() <= 1 && left.iter().all(|name| name.contains("sealift-part")),
                "{call} {k}: {left:?}"
            );
            sealift.run(&save_args(&layout)).ok();
            assert!(fs::read(out.join("images.tar")).unwrap() == whole, "{call} {k}");
            assert_eq!(remains(&out), [""; 0], "{call} {k}");
        }
    }
    assert!(killed >= 15, "only {killed} steps were cut");
}

#[test]
fn a_failing_disk_is_reported_and_the_old_archive_stays() {
    let sealift = Sealift::new();
    let layout = small(&sealift);
    let out = sealift.path("out");
    fs::create_dir(&out).unwrap();
    let old = b"the archive that was there before";
    let mut failed = 0;
    for (call, fault) in [
        ("pwrite64", "error=ENOSPC"),
        ("fsync", "error=EIO"),
        ("fdatasync", "error=EIO"),
        ("renameat", "error=EACCES"),
    ] {
        for k in 1.. {
            fs::write(out.join("images.tar"), old).unwrap();
            let run = sealift.injected(call, fault, k, &save_args(&layout));
            if run.code == Some(0) {
                break;
            }
            failed += 1;
            let run = run.code(3);
            assert!(
                run.stderr.starts_with("error: cannot "),
                "{call} {k}: {}",
                run.stderr
            );
            // The journal of a save is a help, not a must: a failed write of it fails nothing.
            if fs::read(out.join("images.tar")).unwrap() != old {
                assert_eq!(
                    call, "fsync",
                    "{call} {k}: only the folder's own fsync comes after the rename"
                );
            }
        }
    }
    assert!(failed >= 6, "only {failed} calls failed");
}

#[test]
fn too_many_open_files_have_a_hint() {
    let sealift = Sealift::new();
    let layout = small(&sealift);
    let blobs = Path::new(&layout).join("blobs/sha256");
    for n in 0..30 {
        fs::write(blobs.join(format!("{n:064}")), "").unwrap();
    }
    let inner = sealift.command(&["verify", &layout]);
    let mut limited = Command::new("bash");
    limited
        .args(["-c", "ulimit -n 25; exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args());
    let limited = run(limited.current_dir(sealift.home())).code(3);
    assert!(
        limited.stderr.contains("Too many open files"),
        "{}",
        limited.stderr
    );
    assert!(limited.stderr.contains("hint: each blob of a folder stays open"));
}

#[test]
fn room_is_checked_before_anything_is_written() {
    let sealift = Sealift::new();
    let layout = small(&sealift);
    let out = sealift.path("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("images.tar"), "old").unwrap();
    // 100 blocks of 1024 bytes.
    let inner = sealift.command(&save_args(&layout));
    let mut limited = Command::new("bash");
    limited
        .args(["-c", "ulimit -f 100; exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args());
    let limited = run(limited.current_dir(sealift.home())).code(3);
    assert!(limited.stderr.contains("limit"), "{}", limited.stderr);

    assert!(
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=300k", "none"])
            .arg(&out)
            .status()
            .unwrap()
            .success()
    );
    let full = sealift.run(&save_args(&layout));
    let left = fs::read_dir(&out).unwrap().count();
    assert!(Command::new("umount").arg(&out).status().unwrap().success());
    assert!(
        full.code(3).stderr.contains("free"),
        "the message says how much is free"
    );
    assert_eq!(left, 0);
    assert_eq!(fs::read(out.join("images.tar")).unwrap(), b"old");
}

#[test]
fn power_loss_after_success_loses_nothing() {
    let sealift = Sealift::new();
    let layout = small(&sealift);
    let out = sealift.path("out");
    fs::create_dir(&out).unwrap();
    let (disk, copy) = (sealift.path("disk.img"), sealift.path("copy.img"));
    let shell = |script: String| {
        assert!(
            Command::new("bash")
                .args(["-ec", &script])
                .status()
                .unwrap()
                .success(),
            "{script}"
        );
    };
    let (out_, disk_, copy_) = (out.display(), disk.display(), copy.display());
    shell(format!(
        "truncate -s 64M {disk_}; mkfs.ext4 -q {disk_}; mount -o loop,commit=1000 {disk_} {out_}"
    ));
    let saved = sealift.run(&save_args(&layout));
    // What is on the disk at this moment, without what the kernel still holds back.
    let device = run(Command::new("findmnt").args(["-no", "SOURCE"]).arg(&out))
        .ok()
        .stdout
        .trim()
        .to_owned();
    shell(format!(
        "dd if={device} of={copy_} bs=1M iflag=direct status=none || cp {disk_} {copy_}; umount {out_}"
    ));
    let saved = saved.ok();
    shell(format!("mount -o loop {copy_} {out_}"));
    let verified = sealift.run(&[
        "verify",
        "--expect",
        saved.stdout.trim().rsplit(' ').next().unwrap(),
        "out/images.tar",
    ]);
    shell(format!("umount {out_}"));
    verified.ok();
}

#[test]
fn two_saves_to_one_path_end_well() {
    let sealift = Sealift::new();
    let layout = small(&sealift);
    fs::create_dir(sealift.path("out")).unwrap();
    let mut children: Vec<_> = (0..6)
        .map(|_| {
            sealift
                .command(&save_args(&layout))
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let codes: Vec<Option<i32>> = children
        .iter_mut()
        .map(|child| child.wait().unwrap().code())
        .collect();
    assert!(
        codes.contains(&Some(0)) && codes.iter().all(|code| matches!(code, Some(0 | 3))),
        "{codes:?}"
    );
    sealift.run(&["verify", "out/images.tar"]).ok();
    assert_eq!(remains(&sealift.path("out")), [""; 0]);
}

/// Writes of a small save that have begun when smaller layers are complete, and the second part of the largest is not: four
/// of headers, three of layers, and this one. strace tells of each before it delays it.
const WRITES: usize = 8;

#[test]
fn a_signal_kills_by_that_signal_and_keeps_what_came() {
    for (no_resume, signal, number, json) in [
        (false, "INT", 2, true),
        (false, "TERM", 15, false),
        (true, "TERM", 15, true),
    ] {
        let sealift = Sealift::new();
        let layout = small(&sealift);
        let out = sealift.path("out");
        fs::create_dir(&out).unwrap();
        let mut args = save_args(&layout).to_vec();
        if no_resume {
            args.push("--no-resume");
        }
        if json {
            args.push("--json");
        }
        // Every write takes long, so that the signal comes in the middle.
        let writes = sealift.path("writes");
        let inner = sealift.command(&args);
        let mut slow = Command::new("strace");
        slow.args([
            "-f",
            "-qq",
            "-e",
            "trace=pwrite64",
            "-e",
            "inject=pwrite64:delay_exit=400000",
            "-o",
        ]);
        slow.arg(&writes);
        slow.arg(inner.get_program())
            .args(inner.get_args())
            .current_dir(sealift.home())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = slow.spawn().unwrap();
        let started = Instant::now();
        let written = || {
            fs::read_to_string(&writes)
                .unwrap_or_default()
                .matches("(DELAYED)")
                .count()
        };
        while written() < WRITES {
            assert!(started.elapsed() < Duration::from_secs(60), "nothing is written");
            std::thread::sleep(Duration::from_millis(20));
        }
        run(Command::new("pkill").args([&format!("-{signal}"), "-P", &child.id().to_string()])).ok();
        let ended = child.wait_with_output().unwrap();
        let status = ended.status;
        let ended_by = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(
            ended_by,
            Some(number),
            "strace ends as what it traced: {status:?}"
        );
        assert!(!out.join("images.tar").exists());
        assert_eq!(remains(&out).is_empty(), no_resume, "{:?}", remains(&out));
        let told = String::from_utf8(ended.stderr).unwrap();
        assert!(
            told.contains(&format!("error: interrupted by SIG{signal}\n")),
            "{told}"
        );
        let hint = "out/.images.tar.sealift-part: the same command resumes";
        assert_eq!(told.contains(hint), !no_resume, "{told}");
        match json {
            true => {
                let document: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
                assert_eq!(document["error"]["exit"], 128 + number, "{document}");
                let said = document["error"]["hint"].as_str().unwrap_or_default();
                assert_eq!(said.contains(hint), !no_resume, "{document}");
                assert_documented(&document);
            }
            false => assert!(ended.stdout.is_empty()),
        }
    }
}

/// sealift on a file system that says it is FAT; strace changes what the kernel answers.
fn on_fat(sealift: &Sealift, args: &[&str]) -> Run {
    let inner = sealift.command(args);
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fstatfs", "-e"])
        .arg("inject=fstatfs:poke_exit=@arg2=444d000000000000")
        .arg(inner.get_program())
        .args(inner.get_args());
    run(command
        .current_dir(sealift.home())
        .stdin(std::process::Stdio::null()))
}

#[test]
fn fat_takes_no_file_of_4_gib_and_that_is_told_before_it_is_written() {
    let sealift = Sealift::new();
    let layout = small(&sealift);
    let out = sealift.path("out");
    fs::create_dir(&out).unwrap();
    sealift.run(&save_args(&layout)).ok();
    let whole = fs::read(out.join("images.tar")).unwrap();
    fs::remove_file(out.join("images.tar")).unwrap();
    on_fat(&sealift, &save_args(&layout)).ok();
    assert!(fs::read(out.join("images.tar")).unwrap() == whole);

    // A layer of 5 GiB that takes no space; nothing of it is read, so its digest may be any.
    let layout = std::path::PathBuf::from(layout);
    let index = fs::read_to_string(layout.join("index.json")).unwrap();
    let mut index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let blob = |digest: &str| layout.join("blobs").join(digest.replace(':', "/"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(blob(&digest)).unwrap()).unwrap();
    let large = format!("sha256:{}", "5".repeat(64));
    manifest["layers"][0]["digest"] = large.as_str().into();
    manifest["layers"][0]["size"] = (5_u64 << 30).into();
    fs::File::create(blob(&large)).unwrap().set_len(5 << 30).unwrap();
    let manifest = manifest.to_string();
    let digest = image::sha256(manifest.as_bytes());
    fs::write(blob(&digest), &manifest).unwrap();
    index["manifests"][0]["digest"] = digest.into();
    index["manifests"][0]["size"] = manifest.len().into();
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    let run = on_fat(&sealift, &save_args(layout.to_str().unwrap())).code(3);
    assert!(
        run.stderr
            .contains("this FAT file system allows 4294967295 at most")
            && run.stderr.contains("--split"),
        "{}",
        run.stderr
    );
    assert!(
        fs::read(out.join("images.tar")).unwrap() == whole,
        "the old one stays"
    );
    assert_eq!(remains(&out), [""; 0]);
}
