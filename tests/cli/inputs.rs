//! Archives that come as streams, and files that change while they are read.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use insta::assert_snapshot;

use crate::support::{Image, Run, Sealift, Transcript, run};

/// sealift with these bytes on its standard input.
fn fed(sealift: &Sealift, args: &[&str], input: &[u8]) -> Run {
    let mut child = sealift
        .command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its input does not read it to the end.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Run {
        line: args.join(" "),
        code: output.status.code(),
        signal: None,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn a_docker_save_archive_is_refused_with_the_command_that_converts_it() {
    let sealift = Sealift::new();
    let testdata = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/bad");
    let mut transcript = Transcript::of(&sealift);
    transcript.name(testdata, "testdata");
    for form in ["20.10", "25.0", "28", "28-by-id", "crane", "skopeo"] {
        let path = format!("{testdata}/docker-save-of-{form}.tar");
        let listed = sealift.run(&["list", &path]).code(1);
        let verified = transcript.run(&format!("verify {path}")).code(1);
        assert_eq!(
            (&listed.stdout, &listed.stderr),
            (&verified.stdout, &verified.stderr)
        );
        let input = fs::read(path).unwrap();
        let run = fed(&sealift, &["verify", "--json", "-"], &input).code(1);
        assert_eq!(run.json()["error"]["code"], "docker-save");
        assert!(
            !run.stdout.contains("sha256:"),
            "no digest is shown: {}",
            run.stdout
        );
    }
    assert_snapshot!(transcript.text(), @"
    $ sealift verify testdata/docker-save-of-20.10.tar
    2> error: testdata/docker-save-of-20.10.tar: this is an archive of `docker save`, or written like one: it has layers but no manifest that a registry served, and proves no digest
    2> hint: `sealift save --from testdata/docker-save-of-20.10.tar -o images.tar` converts it into an archive that can be loaded
    exit 1

    $ sealift verify testdata/docker-save-of-25.0.tar
    2> error: testdata/docker-save-of-25.0.tar: this is an archive of `docker save`, or written like one: it has layers but no manifest that a registry served, and proves no digest
    2> hint: `sealift save --from testdata/docker-save-of-25.0.tar -o images.tar` converts it into an archive that can be loaded
    exit 1

    $ sealift verify testdata/docker-save-of-28.tar
    2> error: testdata/docker-save-of-28.tar: this is an archive of `docker save`, or written like one: it has layers but no manifest that a registry served, and proves no digest
    2> hint: `sealift save --from testdata/docker-save-of-28.tar -o images.tar` converts it into an archive that can be loaded
    exit 1

    $ sealift verify testdata/docker-save-of-28-by-id.tar
    2> error: testdata/docker-save-of-28-by-id.tar: this is an archive of `docker save`, or written like one: it has layers but no manifest that a registry served, and proves no digest
    2> hint: `sealift save --from testdata/docker-save-of-28-by-id.tar -o images.tar` converts it into an archive that can be loaded
    exit 1

    $ sealift verify testdata/docker-save-of-crane.tar
    2> error: testdata/docker-save-of-crane.tar: this is an archive of `docker save`, or written like one: it has layers but no manifest that a registry served, and proves no digest
    2> hint: `sealift save --from testdata/docker-save-of-crane.tar -o images.tar` converts it into an archive that can be loaded
    exit 1

    $ sealift verify testdata/docker-save-of-skopeo.tar
    2> error: testdata/docker-save-of-skopeo.tar: this is an archive of `docker save`, or written like one: it has layers but no manifest that a registry served, and proves no digest
    2> hint: `sealift save --from testdata/docker-save-of-skopeo.tar -o images.tar` converts it into an archive that can be loaded
    exit 1
    ");
}

#[test]
fn the_hint_for_a_docker_save_archive_can_be_pasted() {
    let sealift = Sealift::new();
    let saved = format!(
        "{}/testdata/bad/docker-save-of-28.tar",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut transcript = Transcript::of(&sealift);
    for name in ["it's mine.tar", "images.tar"] {
        fs::copy(&saved, sealift.path(name)).unwrap();
        let run = transcript.run_args(&["list", name]).code(1);
        let command = run.stderr.split('`').nth(3).unwrap();
        run_shell(&sealift, command);
    }
    let input = fs::read(saved).unwrap();
    transcript.add(
        "sealift list - < images.tar",
        &fed(&sealift, &["list", "-"], &input),
    );
    assert_snapshot!(transcript.text(), @r#"
    $ sealift list "it's mine.tar"
    2> error: it's mine.tar: this is an archive of `docker save`, or written like one: it has layers but no manifest that a registry served, and proves no digest
    2> hint: `sealift save --from 'it'\''s mine.tar' -o images.tar` converts it into an archive that can be loaded
    exit 1

    $ sealift list images.tar
    2> error: images.tar: this is an archive of `docker save`, or written like one: it has layers but no manifest that a registry served, and proves no digest
    2> hint: `sealift save --from images.tar -o sealed.tar` converts it into an archive that can be loaded
    exit 1

    $ sealift list - < images.tar
    2> error: standard input: this is an archive of `docker save`, or written like one: it has layers but no manifest that a registry served, and proves no digest
    2> hint: `sealift save --from FILE -o images.tar` converts it into an archive that can be loaded
    exit 1
    "#);
}

#[track_caller]
fn run_shell(sealift: &Sealift, command: &str) {
    run(&mut sealift.shell(&format!("{command} --offline"))).ok();
}

#[test]
fn a_stream_that_is_no_archive_is_refused_at_its_first_bytes() {
    let sealift = Sealift::new();
    // There is no room for a single byte of it.
    let verify = ["verify", "--tmpdir", "missing", "-"];
    let mut gzip = Command::new("sh");
    let bomb = gzip
        .args(["-c", "head -c 100000000 /dev/zero | gzip"])
        .output()
        .unwrap();
    let mut transcript = Transcript::of(&sealift);
    for (line, input) in [
        ("zeros", &[0; 100_000][..]),
        ("zeros, compressed", &bomb.stdout),
        ("text", &[b'x'; 100_000]),
        ("a zip file", b"PK\x03\x04 and so on"),
    ] {
        transcript.add(
            &format!("sealift verify --tmpdir missing -   # {line}"),
            &fed(&sealift, &verify, input),
        );
    }
    transcript.run("list --tmpdir missing /dev/zero");
    assert_snapshot!(transcript.text(), @"
    $ sealift verify --tmpdir missing -   # zeros
    2> error: standard input at byte 0: not a valid tar: it has no entries
    exit 1

    $ sealift verify --tmpdir missing -   # zeros, compressed
    2> error: standard input at byte 0: not a valid tar: it has no entries
    exit 1

    $ sealift verify --tmpdir missing -   # text
    2> error: standard input at byte 0: not a valid tar: a header's checksum is wrong, or this is not a tar
    exit 1

    $ sealift verify --tmpdir missing -   # a zip file
    2> error: standard input at byte 0: not a valid tar: this is a zip file
    exit 1

    $ sealift list --tmpdir missing /dev/zero
    2> error: /dev/zero at byte 0: not a valid tar: it has no entries
    exit 1
    ");
}

/// An archive of one image.
fn archive(sealift: &Sealift) -> Vec<u8> {
    Image::sample("app", "1").build(&sealift.path("layout"), "1");
    sealift
        .run(&["save", "-q", "--from", "layout", "app:1", "-o", "app.tar"])
        .ok();
    fs::read(sealift.path("app.tar")).unwrap()
}

#[test]
fn a_stream_needs_room_and_says_where() {
    let sealift = Sealift::new();
    let bytes = archive(&sealift);
    let spool = sealift.path("spool");
    fs::create_dir(&spool).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "none"])
        .arg(&spool)
        .status();
    assert!(mount.unwrap().success());
    let full = fed(&sealift, &["verify", "--tmpdir", "spool", "-"], &bytes);
    let left = fs::read_dir(&spool).unwrap().count();
    assert!(Command::new("umount").arg(&spool).status().unwrap().success());
    let full = full.code(3);
    assert!(
        full.stderr.contains("cannot write spool: ") && full.stderr.contains("--tmpdir"),
        "{}",
        full.stderr
    );
    assert_eq!(left, 0);
    fed(&sealift, &["verify", "--tmpdir", "spool", "-"], &bytes).ok();

    // 32 blocks of 1024 bytes.
    let inner = sealift.command(&["verify", "-"]);
    let mut limited = Command::new("bash");
    limited
        .args(["-c", "ulimit -f 32; \"$0\" \"$@\" < app.tar"])
        .arg(inner.get_program())
        .args(inner.get_args());
    let limited = run(limited.current_dir(sealift.home())).code(3);
    assert!(limited.stderr.contains("--tmpdir"), "{}", limited.stderr);
    let args = ["save", "--tmpdir", "missing", "--from", "-", "-o", "new.tar"];
    let saved = fed(&sealift, &args, &bytes).code(3);
    assert!(saved.stderr.contains("missing"), "{}", saved.stderr);
    fed(&sealift, &["save", "--from", "-", "-o", "new.tar"], &bytes).ok();
    assert!(fs::read(sealift.path("new.tar")).unwrap() == bytes);
}

#[test]
fn a_file_that_shrinks_under_a_verification_never_passes() {
    let sealift = Sealift::new();
    let bytes = archive(&sealift);
    for quick in [false, true] {
        fs::write(sealift.path("app.tar"), &bytes).unwrap();
        let mut args = vec!["verify", "--jobs", "1", "app.tar"];
        if quick {
            args.push("--quick");
        }
        // Every look at the file takes a twentieth of a second, and the cut comes after the first at a blob.
        let trace = sealift.path("trace");
        let inner = sealift.command(&args);
        let mut slow = Command::new("strace");
        slow.args(["-f", "-qq", "-e", "trace=pread64,madvise", "-e"])
            .arg("inject=pread64,madvise:delay_enter=50000")
            .arg("-o")
            .arg(&trace)
            .arg(inner.get_program())
            .args(inner.get_args());
        let child = slow
            .current_dir(sealift.home())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while !fs::read_to_string(&trace).is_ok_and(|text| text.contains("madvise")) {
            assert!(Instant::now() < until, "no blob was looked at");
            thread::sleep(Duration::from_millis(5));
        }
        let file = fs::OpenOptions::new()
            .write(true)
            .open(sealift.path("app.tar"))
            .unwrap();
        file.set_len(4096).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(3), "{:?}\n{said}", output.status);
        assert!(said.contains("cannot read app.tar at byte "), "{said}");
        fs::remove_file(&trace).unwrap();
    }
}

#[test]
fn every_command_works_without_threads() {
    let sealift = Sealift::new();
    archive(&sealift);
    for args in [
        &["save", "--from", "app.tar", "-o", "again.tar"][..],
        &["verify", "again.tar"],
        &["list", "again.tar"],
    ] {
        let inner = sealift.command(args);
        // Another user's limit counts: root has none.
        let mut limited = Command::new("bash");
        limited
            .args([
                "-c",
                "chmod -R a+rwX . && exec prlimit --nproc=1 setpriv --reuid=65533 -- \"$0\" \"$@\"",
            ])
            .arg(inner.get_program())
            .args(inner.get_args());
        let run = run(limited.current_dir(sealift.home())).ok();
        assert!(run.stderr.contains("signals are not handled"), "{}", run.stderr);
    }
}
