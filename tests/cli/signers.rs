//! The signatures that archives must have: whose count, and what is refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use insta::assert_snapshot;
use serde_json::json;

use crate::signing::{names, save_signed, setup};
use crate::support::command::bounded;
use crate::support::ssh::Ssh;
use crate::support::{Image, Run, Sealift, Serving, Transcript, run};

/// The code of the error of a run with `--json`.
#[track_caller]
fn code_of(run: &Run) -> String {
    let document = run.json();
    let error = &document["error"];
    assert_eq!(error["exit"], json!(run.code), "{}", run.stdout);
    error["code"].as_str().unwrap_or_default().to_string()
}

#[test]
fn a_signature_that_does_not_count_loads_nothing() {
    let sealift = setup();
    let ssh = Ssh(sealift.home());
    let line = save_signed(&sealift, "alice");
    let good = fs::read(sealift.path("images.tar.sig")).unwrap();
    let with = |name: &str, namespace: &str, key: &str, message: &str| {
        fs::write(sealift.path(name), message).unwrap();
        ssh.sign(namespace, key, name);
    };
    with("theirs", "sealift-archive", "mallory", &line);
    with("namespace", "file", "alice", &line);
    with("other", "sealift-archive", "alice", "archive sha256:0000\n");
    ssh.key("p521", ("ecdsa", "521"), "");
    with("p521-signed", "sealift-archive", "p521", &line);
    let mut altered = good.clone();
    altered[200] ^= 1;
    fs::write(sealift.path("altered.sig"), altered).unwrap();
    fs::write(sealift.path("large.sig"), vec![b'A'; 10 << 20]).unwrap();
    fs::write(sealift.path("empty.sig"), "").unwrap();
    fs::write(sealift.path("text.sig"), "\u{1b}[2Jnothing").unwrap();
    let mut transcript = Transcript::of(&sealift);
    transcript.name(line.trim().trim_start_matches("archive "), "<images.tar>");
    transcript.name(ssh.fingerprint("alice"), "<alice>");
    transcript.name(ssh.fingerprint("mallory"), "<mallory>");
    for (name, code) in [
        ("absent", "signature-missing"),
        ("theirs", "signer-unknown"),
        ("namespace", "signature-namespace"),
        ("other", "signature-differs"),
        ("altered", "signature-differs"),
        ("p521-signed", "signature-unsupported"),
        ("large", "signature-malformed"),
        ("empty", "signature-malformed"),
        ("text", "signature-malformed"),
    ] {
        let options = format!("images.tar --allowed-signers allowed --signature {name}.sig");
        let load = format!("load {options} --to oci:new");
        transcript.run(&load);
        for command in [
            format!("{load} --json"),
            format!("verify {options} --json"),
            format!("list {options} --json"),
        ] {
            let words: Vec<&str> = command.split(' ').collect();
            let refused = sealift.run(&words).code(1);
            let document = refused.json();
            let error = document
                .pointer("/archives/0/error")
                .unwrap_or(&document["error"]);
            assert_eq!(error["code"], code, "{command}");
        }
        assert!(!sealift.path("new").exists(), "{name}");
    }
    for (signers, signer, code) in [
        ("alice {alice}", "bob", "signer-differs"),
        ("alice namespaces=\"file\" {alice}", "alice", "signer-namespace"),
        (
            "alice valid-before=\"20200101Z\" {alice}",
            "alice",
            "signer-expired",
        ),
        (
            "alice valid-after=\"29990101Z\" {alice}",
            "alice",
            "signer-not-yet-valid",
        ),
        ("alice cert-authority {alice}", "alice", "signer-unknown"),
    ] {
        let text = signers.replace("{alice}", &ssh.public("alice"));
        fs::write(sealift.path("signers"), text).unwrap();
        let arguments = format!("load images.tar --allowed-signers signers --signer {signer} --to oci:new");
        transcript.run(&arguments);
        let words: Vec<&str> = arguments.split(' ').chain(["--json"]).collect();
        assert_eq!(code_of(&sealift.run(&words)), code);
        assert!(!sealift.path("new").exists());
    }
    assert_snapshot!(transcript.text(), @"
    $ sealift load images.tar --allowed-signers allowed --signature absent.sig --to oci:new
    2> error: images.tar: absent.sig: no such file, so the archive is not signed
    exit 1

    $ sealift load images.tar --allowed-signers allowed --signature theirs.sig --to oci:new
    2> error: images.tar: theirs.sig: signed by <mallory>, which is not the key of an allowed signer
    exit 1

    $ sealift load images.tar --allowed-signers allowed --signature namespace.sig --to oci:new
    2> error: images.tar: namespace.sig: made for the namespace file, not for sealift-archive
    exit 1

    $ sealift load images.tar --allowed-signers allowed --signature other.sig --to oci:new
    2> error: images.tar: other.sig: the signature by <alice> does not match: it is of another archive, or was altered
    exit 1

    $ sealift load images.tar --allowed-signers allowed --signature altered.sig --to oci:new
    2> error: images.tar: altered.sig: the signature by <alice> does not match: it is of another archive, or was altered
    exit 1

    $ sealift load images.tar --allowed-signers allowed --signature p521-signed.sig --to oci:new
    2> error: images.tar: p521-signed.sig: a key of type ecdsa-sha2-nistp521 (P-521) is not supported
    exit 1

    $ sealift load images.tar --allowed-signers allowed --signature large.sig --to oci:new
    2> error: images.tar: large.sig: not a valid SSH signature: it has 10485760 bytes, over the limit of 65536
    exit 1

    $ sealift load images.tar --allowed-signers allowed --signature empty.sig --to oci:new
    2> error: images.tar: empty.sig: not a valid SSH signature: it does not begin with -----BEGIN SSH SIGNATURE-----
    exit 1

    $ sealift load images.tar --allowed-signers allowed --signature text.sig --to oci:new
    2> error: images.tar: text.sig: not a valid SSH signature: it does not begin with -----BEGIN SSH SIGNATURE-----
    exit 1

    $ sealift load images.tar --allowed-signers signers --signer bob --to oci:new
    2> error: images.tar: images.tar.sig: signed by <alice>, which is a key of alice, not of bob
    exit 1

    $ sealift load images.tar --allowed-signers signers --signer alice --to oci:new
    2> error: images.tar: images.tar.sig: signed by <alice>, which is not allowed in the namespace sealift-archive
    exit 1

    $ sealift load images.tar --allowed-signers signers --signer alice --to oci:new
    2> error: images.tar: images.tar.sig: signed by <alice>, which is not allowed after 2020-01-01T00:00:00Z
    exit 1

    $ sealift load images.tar --allowed-signers signers --signer alice --to oci:new
    2> error: images.tar: images.tar.sig: signed by <alice>, which is not allowed before 2999-01-01T00:00:00Z
    exit 1

    $ sealift load images.tar --allowed-signers signers --signer alice --to oci:new
    2> error: images.tar: images.tar.sig: signed by <alice>, which is not the key of an allowed signer
    exit 1
    ");
    // The signature may have come through Windows.
    let crlf = String::from_utf8(good).unwrap().replace('\n', "\r\n");
    fs::write(sealift.path("images.tar.sig"), crlf).unwrap();
    sealift
        .run(&["verify", "images.tar", "--allowed-signers", "allowed"])
        .ok();
}

#[test]
fn every_archive_has_its_own_signature() {
    let sealift = setup();
    save_signed(&sealift, "alice");
    Image::small("web").build(&sealift.path("layout"), "1");
    let web = [
        "save", "-q", "--from", "layout", "web:1", "-o", "web.tar", "--split", "8kB", "--sign", "alice",
    ];
    sealift.run(&web).ok();
    assert_eq!(
        names(&sealift, "web.tar."),
        ["web.tar.001", "web.tar.002", "web.tar.sig"]
    );
    let load = [
        "load",
        "images.tar",
        "web.tar.001",
        "web.tar.002",
        "--to",
        "oci:new",
        "--allowed-signers",
        "allowed",
    ];
    let loaded = sealift.run(&[&load[..], &["--json"]].concat()).ok().json();
    assert_eq!(loaded["signatures"].as_array().unwrap().len(), 2);
    // One for the other is wrong, and so is another number of them.
    let swapped = ["--signature", "web.tar.sig", "--signature", "images.tar.sig"];
    assert_eq!(
        code_of(&sealift.run(&[&load[..], &swapped, &["--json"]].concat())),
        "signature-differs"
    );
    let one = sealift
        .run(&[&load[..], &["--signature", "web.tar.sig"]].concat())
        .code(2);
    assert!(
        one.stderr.contains("2 archives, but 1 --signature"),
        "{}",
        one.stderr
    );
    // A folder, whose own digest is signed by hand.
    let digest = sealift.run(&["verify", "-q", "layout"]).ok().stdout;
    // Notes may be above it.
    let line = format!("{}\n", digest.lines().last().unwrap());
    fs::write(sealift.path("layout.line"), line).unwrap();
    Ssh(sealift.home()).sign("sealift-archive", "alice", "layout.line");
    fs::rename(sealift.path("layout.line.sig"), sealift.path("layout.sig")).unwrap();
    sealift
        .run(&["verify", "layout/", "--allowed-signers", "allowed"])
        .ok();
}

#[test]
fn a_registry_serves_only_what_is_signed() {
    let sealift = setup();
    save_signed(&sealift, "alice");
    let arguments = ["images.tar", "--allowed-signers", "allowed"];
    let served = Serving::start(&sealift, &arguments);
    assert_eq!(served.get("/v2/library/app/manifests/1").status, 200);
    // Another archive in its place is not served, unless it has its signature.
    Image::small("web").build(&sealift.path("layout"), "1");
    let save = ["save", "-q", "--from", "layout", "web:1", "-o", "images.tar"];
    sealift.run(&save).ok();
    let told = |served: &Serving, says: &str| {
        for _ in 0..200 {
            if served.log().contains(says) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{says} is not in {}", served.log());
    };
    told(&served, "images.tar.sig: the signature by");
    assert_eq!(served.get("/v2/library/web/manifests/1").status, 404);
    // A signature that comes later is seen.
    sealift.run(&[&save[..], &["--sign", "alice"]].concat()).ok();
    told(&served, "serving archive");
    assert_eq!(served.get("/v2/library/web/manifests/1").status, 200);
    sealift.run(&save).ok();
    fs::write(sealift.path("images.tar.sig"), "").unwrap();
    drop(served);
    let refused =
        run(&mut sealift.command(&[&["serve", "--listen", "127.0.0.1:0"], &arguments[..]].concat())).code(1);
    assert!(
        refused.stderr.contains("not a valid SSH signature"),
        "{}",
        refused.stderr
    );
}

/// A load that demands a signature by these signers.
fn load_by(sealift: &Sealift, signers: &Path) -> Run {
    let signers = signers.to_str().unwrap();
    bounded(&mut sealift.command(&[
        "load",
        "images.tar",
        "--to",
        "oci:new",
        "--allowed-signers",
        signers,
    ]))
}

#[test]
fn allowed_signers_that_another_user_could_have_written_are_refused() {
    assert!(rustix::process::geteuid().is_root(), "root trusts no other user");
    let sealift = setup();
    save_signed(&sealift, "alice");
    let text = fs::read(sealift.path("allowed")).unwrap();
    let file = |name: &str, mode: u32, owner: u32| {
        let path = sealift.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(owner), Some(owner)).unwrap();
        path
    };
    file("theirs", 0o644, 65_534);
    file("group", 0o664, 0);
    file("world", 0o666, 0);
    fs::create_dir(sealift.path("open")).unwrap();
    fs::set_permissions(sealift.path("open"), fs::Permissions::from_mode(0o777)).unwrap();
    file("open/allowed", 0o644, 0);
    symlink("allowed", sealift.path("link")).unwrap();
    std::os::unix::fs::lchown(sealift.path("link"), Some(65_534), Some(65_534)).unwrap();
    run(std::process::Command::new("mkfifo").arg(sealift.path("fifo"))).ok();
    fs::write(sealift.path("large"), vec![b'#'; 10 << 20]).unwrap();
    for (name, says) in [
        ("theirs", "another user can write to"),
        ("group", "another user can write to"),
        ("world", "another user can write to"),
        ("open/allowed", "another user can write to"),
        ("link", "link"),
        ("fifo", "it is a FIFO"),
        ("large", "not a file of a reasonable size"),
        ("absent", "No such file"),
        (".", "cannot read the allowed signers"),
    ] {
        let refused = load_by(&sealift, &sealift.path(name)).code(3);
        assert!(refused.stderr.contains(says), "{name}: {}", refused.stderr);
        assert!(!sealift.path("new").exists());
    }
    fs::write(sealift.path("wrong"), "alice ssh-ed25519\n").unwrap();
    let refused = load_by(&sealift, &sealift.path("wrong")).code(2);
    assert!(refused.stderr.contains("wrong: line 1"), "{}", refused.stderr);
    // A signature may be anybody's file: its bytes say whose it is. But it is not waited for.
    chown(sealift.path("images.tar.sig"), Some(65_534), Some(65_534)).unwrap();
    load_by(&sealift, &sealift.path("allowed")).ok();
    fs::remove_file(sealift.path("images.tar.sig")).unwrap();
    run(std::process::Command::new("mkfifo").arg(sealift.path("images.tar.sig"))).ok();
    let refused = load_by(&sealift, &sealift.path("allowed")).code(3);
    assert!(refused.stderr.contains("it is a FIFO"), "{}", refused.stderr);
}

#[test]
fn local_times_are_those_of_ssh_keygen() {
    let sealift = setup();
    let ssh = Ssh(sealift.home());
    let line = save_signed(&sealift, "alice");
    let key = ssh.public("alice");
    let shell = |script: &str| run(&mut sealift.shell(script)).ok().stdout.trim().to_string();
    // Around now, in a zone that is in its summer time now, in one that is not, and in one without any.
    let day: u32 = shell("date -u +%-j").parse().unwrap();
    let (from, to) = (day.saturating_sub(20).max(1), (day + 20).min(365));
    for zone in [
        format!("AAA-1BBB-2,J{from},J{to}"),
        "AAA-1BBB-2,J1,J1/1".into(),
        "<+0545>-5:45".into(),
        "Europe/Berlin".into(),
        String::new(),
    ] {
        for minutes in [-130, -70, -50, -10, 10, 50, 70, 130] {
            let local = shell(&format!("TZ='{zone}' date -d '{minutes} minutes' +%Y%m%d%H%M%S"));
            for option in ["valid-after", "valid-before"] {
                fs::write(
                    sealift.path("times"),
                    format!("alice {option}=\"{local}\" {key}\n"),
                )
                .unwrap();
                let mut theirs = ssh.keygen(&[
                    "-Y",
                    "verify",
                    "-f",
                    "times",
                    "-I",
                    "alice",
                    "-n",
                    "sealift-archive",
                    "-s",
                    "images.tar.sig",
                ]);
                fs::write(sealift.path("message"), &line).unwrap();
                theirs.stdin(fs::File::open(sealift.path("message")).unwrap());
                let theirs = run(theirs.env("TZ", &zone)).code == Some(0);
                let mut ours = sealift.command(&["list", "-q", "images.tar", "--allowed-signers", "times"]);
                let ours = run(ours.env("TZ", &zone)).code == Some(0);
                assert_eq!(ours, theirs, "{zone}: {option} {local}, {minutes} minutes");
            }
        }
    }
    fs::write(
        sealift.path("times"),
        format!("alice valid-after=\"20260101\" {key}\n"),
    )
    .unwrap();
    let mut unknown = sealift.command(&["list", "images.tar", "--allowed-signers", "times"]);
    let unknown = run(unknown.env("TZ", "Nowhere/Land")).code(2);
    assert!(unknown.stderr.contains("add a Z for UTC"), "{}", unknown.stderr);
}
