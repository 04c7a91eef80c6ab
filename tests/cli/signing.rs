//! Archives and receipts that are signed by SSH keys, and the signatures that are demanded.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use insta::assert_snapshot;
use serde_json::json;

use crate::support::command::bounded;
use crate::support::ssh::{Agent, Ssh};
use crate::support::{Image, Layer, Registry, Run, Sealift, Serving, Transcript, assert_documented, run};

const SAVE: [&str; 7] = ["save", "-q", "--from", "layout", "app:1", "-o", "images.tar"];

/// A layout with an image, and the keys of alice and mallory. `allowed` allows alice.
fn setup() -> Sealift {
    let sealift = Sealift::new();
    let mut image = Image::small("app");
    image.platforms[0].1.push(Layer::new().noise("app", 1, 30_000));
    image.build(&sealift.path("layout"), "1");
    let ssh = Ssh(sealift.home());
    ssh.key("alice", ("ed25519", "256"), "");
    ssh.key("mallory", ("ed25519", "256"), "");
    ssh.allow(
        "allowed",
        &[("alice@example.test namespaces=\"sealift-*\"", "alice")],
    );
    sealift
}

/// Saves it, signed by a key. Returns the line that is signed.
fn save_signed(sealift: &Sealift, key: &str) -> String {
    sealift.run(&[&SAVE[..], &["--sign", key]].concat()).ok().stdout
}

/// The names in HOME that begin with a text.
fn names(sealift: &Sealift, start: &str) -> Vec<String> {
    let entries = fs::read_dir(sealift.home()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.contains(start)).collect();
    names.sort();
    names
}

/// The code of the error of a run with `--json`.
#[track_caller]
fn code_of(run: &Run) -> String {
    let document = run.json();
    let error = &document["error"];
    assert_eq!(error["exit"], json!(run.code), "{}", run.stdout);
    error["code"].as_str().unwrap_or_default().to_string()
}

#[test]
fn a_signed_archive_is_loaded_by_who_trusts_its_signer() {
    let sealift = setup();
    let ssh = Ssh(sealift.home());
    let saved = sealift
        .run(&[
            "save",
            "--from",
            "layout",
            "app:1",
            "-o",
            "images.tar",
            "--sign",
            "alice",
            "--json",
        ])
        .ok()
        .json();
    assert_documented(&saved);
    let key = ssh.fingerprint("alice");
    assert_eq!(
        saved["signature"],
        json!({ "file": "images.tar.sig", "key_type": "ssh-ed25519", "key": key })
    );
    let digest = saved["digest"].as_str().unwrap().to_string();
    let line = format!("archive {digest}\n");
    ssh.verify(
        "allowed",
        "alice@example.test",
        "sealift-archive",
        "images.tar.sig",
        &line,
    )
    .ok();
    ssh.verify("allowed", "alice@example.test", "file", "images.tar.sig", &line)
        .code(255);

    let mut transcript = Transcript::of(&sealift);
    transcript.name(&digest, "<images.tar>").name(&key, "<alice>");
    let signers = "--allowed-signers allowed";
    transcript.run("save -q --from layout app:1 -o images.tar --sign alice");
    transcript.run(&format!("verify images.tar {signers}"));
    transcript.run(&format!(
        "verify -q images.tar {signers} --signer alice@example.test"
    ));
    transcript.run(&format!("load images.tar {signers} --to oci:new --dry-run"));
    assert_snapshot!(transcript.text(), @r#"
    $ sealift save -q --from layout app:1 -o images.tar --sign alice
    archive <images.tar>

    $ sealift verify images.tar --allowed-signers allowed
    images.tar: 9 blobs, 33.7 kB: all good
    images.tar: signed by alice@example.test (ssh-ed25519 <alice>)
    archive <images.tar>

    $ sealift verify -q images.tar --allowed-signers allowed --signer alice@example.test
    archive <images.tar>

    $ sealift load images.tar --allowed-signers allowed --to oci:new --dry-run
    images.tar: signed by alice@example.test (ssh-ed25519 <alice>)
    to OCI layout new
    send 4 layers, 33782 bytes in 9 blobs
    needs 71090 bytes in new, which are free
    app:1 (linux/amd64, linux/arm64)
      tag     app:1
      digest  <digest 1>
    "#);

    let documents = [
        ("verify", &[][..], "/archives/0/signature"),
        ("list", &[], "/archives/0/signature"),
        ("load", &["--to", "oci:new"], "/signatures/0"),
    ];
    for (command, more, place) in documents {
        let arguments = [
            &[command, "images.tar", "--json", "--allowed-signers", "allowed"],
            more,
        ]
        .concat();
        let document = sealift.run(&arguments).ok().json();
        assert_documented(&document);
        let signature = document.pointer(place).unwrap();
        assert_eq!(signature["principal"], "alice@example.test", "{command}");
        assert_eq!(signature["key"], json!(key));
        assert_eq!(signature["file"], "images.tar.sig");
        if command == "load" {
            assert_eq!(
                (&signature["archive"], &signature["digest"]),
                (&json!("images.tar"), &json!(digest))
            );
        }
    }
    for (file, place) in [
        ("report.html", "Signed by"),
        ("report.md", "Signed by"),
        ("report.json", "principal"),
    ] {
        let verify = [
            "verify",
            "-q",
            "images.tar",
            "--allowed-signers",
            "allowed",
            "--report",
            file,
        ];
        sealift.run(&verify).ok();
        let report = fs::read_to_string(sealift.path(file)).unwrap();
        assert!(report.contains(place) && report.contains(&key), "{report}");
    }
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
    assert_snapshot!(transcript.text(), @r#"
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
    "#);
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
    fs::write(sealift.path("layout").with_extension("line"), &digest).unwrap();
    Ssh(sealift.home()).sign("sealift-archive", "alice", "layout.line");
    fs::rename(sealift.path("layout.line.sig"), sealift.path("layout.sig")).unwrap();
    sealift
        .run(&["verify", "layout/", "--allowed-signers", "allowed"])
        .ok();
}

#[test]
fn standard_streams_need_a_file_for_the_signature() {
    let sealift = setup();
    let to_stdout = ["save", "--from", "layout", "app:1", "-o", "-", "--sign", "alice"];
    let refused = sealift.run(&to_stdout).code(2);
    assert!(refused.stdout.is_empty());
    assert!(refused.stderr.contains("--signature"), "{}", refused.stderr);
    let line = "sealift save --from layout app:1 -o - --sign alice --signature pipe.sig > pipe.tar";
    let piped = run(&mut sealift.shell(line)).ok();
    assert!(
        piped.stderr.contains("pipe.sig: signed by ssh-ed25519 SHA256:"),
        "{}",
        piped.stderr
    );
    run(&mut sealift
        .shell("sealift load - --to oci:new --allowed-signers allowed --signature pipe.sig < pipe.tar"))
    .ok();
    let unnamed = "sealift load - --to oci:none --allowed-signers allowed < pipe.tar";
    let refused = run(&mut sealift.shell(unnamed)).code(2);
    assert!(
        refused
            .stderr
            .contains("name the file of the signature with --signature"),
        "{}",
        refused.stderr
    );
    let cut = "head -c 20000 pipe.tar | sealift load - --to oci:none --allowed-signers allowed --signature pipe.sig";
    run(&mut sealift.shell(cut)).code(1);
    assert!(!sealift.path("none").exists());
    let refused = sealift
        .run(&["verify", ".", "--allowed-signers", "allowed"])
        .code(2);
    assert!(
        refused.stderr.contains("name the file of the signature"),
        "{}",
        refused.stderr
    );
    let refused = sealift
        .run(&["verify", "localhost/a:1", "--allowed-signers", "allowed"])
        .code(2);
    assert!(
        refused.stderr.contains("--allowed-signers is for archives"),
        "{}",
        refused.stderr
    );
}

#[test]
fn what_cannot_be_signed_is_not_fetched() {
    let sealift = setup();
    let ssh = Ssh(sealift.home());
    let registry = Registry::start();
    let image = Image::small("app").build(&sealift.path("source"), "1");
    registry.push(&image, "library/app:1");
    let asked = registry.requests().len();
    let name = format!("{}/library/app:1", registry.address());
    let save = |more: &[&str]| sealift.run(&[&["save", &name, "-o", "new.tar"], more].concat());
    ssh.key("locked", ("ed25519", "256"), "secret");
    fs::create_dir(sealift.path("folder")).unwrap();
    fs::set_permissions(sealift.path("mallory"), fs::Permissions::from_mode(0o644)).unwrap();
    for (more, code, says) in [
        (&["--sign", "absent"][..], 3, "cannot read the key absent"),
        (
            &["--sign", "locked"],
            2,
            "it is encrypted, and there is no ssh-agent",
        ),
        (
            &["--sign", "alice.pub"],
            2,
            "it is a public key, and there is no ssh-agent",
        ),
        (&["--sign", "mallory"], 3, "other users may read it"),
        (
            &["--sign", "alice", "--signature", "absent/x.sig"],
            3,
            "mkdir -p absent",
        ),
        (
            &["--sign", "alice", "--signature", "folder"],
            2,
            "folder is not a regular file",
        ),
        (
            &["--sign", "alice", "--signature", "/dev/null"],
            2,
            "/dev/null is not a regular file",
        ),
        (
            &["--sign", "alice", "--signature", "alice"],
            2,
            "alice is both read and written",
        ),
        (
            &["--sign", "alice", "--signature", "new.tar"],
            2,
            "new.tar belongs to the target",
        ),
        (&["--signature", "x.sig"], 2, "--sign <KEY>"),
    ] {
        let refused = save(more).code(code);
        assert!(refused.stderr.contains(says), "{more:?}: {}", refused.stderr);
        assert_eq!(names(&sealift, "new.tar"), [""; 0]);
    }
    assert_eq!(
        registry.requests().len(),
        asked,
        "nothing was asked of the registry"
    );
    // A dry run says so too, and signs nothing.
    save(&["--dry-run", "--sign", "locked"]).code(2);
    save(&["--dry-run", "--sign", "alice"]).ok();
    assert_eq!(names(&sealift, "new.tar"), [""; 0]);
}

#[test]
fn an_agent_signs_and_one_that_refuses_leaves_nothing() {
    let sealift = setup();
    let ssh = Ssh(sealift.home());
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(folder.path());
    for file in ["alice", "alice.pub", "mallory", "mallory.pub"] {
        fs::copy(sealift.path(file), folder.path().join(file)).unwrap();
    }
    agent.add(&["alice"]).ok();
    let save = |key: &str| {
        let mut command = sealift.command(&[&SAVE[..], &["--sign", key]].concat());
        run(command.env("SSH_AUTH_SOCK", agent.socket()))
    };
    let line = save("alice.pub").ok().stdout;
    ssh.verify(
        "allowed",
        "alice@example.test",
        "sealift-archive",
        "images.tar.sig",
        &line,
    )
    .ok();
    let before = fs::read(sealift.path("images.tar.sig")).unwrap();
    // A key that asks a person each time, who says no.
    agent.add(&["-D"]).ok();
    agent.add(&["-c", "alice"]).ok();
    fs::remove_file(sealift.path("images.tar")).unwrap();
    let refused = save("alice.pub").code(3);
    assert!(
        refused.stderr.contains("it refused to sign"),
        "{}",
        refused.stderr
    );
    assert!(!sealift.path("images.tar").exists());
    assert_eq!(fs::read(sealift.path("images.tar.sig")).unwrap(), before);
    assert_eq!(names(&sealift, ".tmp"), [""; 0]);
    save("mallory.pub").code(2);
}

#[test]
fn a_failure_at_any_step_leaves_no_signature_of_something_else() {
    let sealift = setup();
    let signed = [&SAVE[..], &["--sign", "alice"]].concat();
    for (call, fault) in [
        ("renameat,renameat2,rename", "error=EIO"),
        ("fsync,fdatasync", "error=EIO"),
        ("renameat,renameat2,rename", "signal=SIGKILL"),
    ] {
        for k in 1.. {
            assert!(k < 30, "{call}");
            for file in ["images.tar", "images.tar.sig"] {
                let _ = fs::remove_file(sealift.path(file));
            }
            let run = sealift.injected(call, fault, k, &signed);
            if run.code == Some(0) {
                break;
            }
            if fault.starts_with("error") {
                assert_eq!(run.code, Some(3), "{call} {k}: {}", run.stderr);
                assert_eq!(names(&sealift, ".tmp"), [""; 0], "{call} {k}");
            }
            if sealift.path("images.tar").exists() && sealift.path("images.tar.sig").exists() {
                sealift
                    .run(&["verify", "-q", "images.tar", "--allowed-signers", "allowed"])
                    .ok();
            }
        }
        // What is left after a kill does not disturb.
        save_signed(&sealift, "alice");
        sealift
            .run(&["verify", "-q", "images.tar", "--allowed-signers", "allowed"])
            .ok();
    }
}

#[test]
fn a_signature_of_an_older_archive_is_told() {
    let sealift = setup();
    save_signed(&sealift, "alice");
    let unsigned = |image: &str| {
        let save = ["save", "-q", "--from", "layout", image, "-o", "images.tar"];
        sealift.run(&save).ok().stderr
    };
    assert_eq!(unsigned("app:1"), "", "the same archive has the same signature");
    Image::small("web").build(&sealift.path("layout"), "1");
    let told = unsigned("web:1");
    assert!(
        told.contains("images.tar.sig is of the archive that was there before"),
        "{told}"
    );
    // Another kind of file is not ours to judge.
    fs::write(sealift.path("images.tar.sig"), "gpg").unwrap();
    assert_eq!(unsigned("app:1"), "");
}

#[test]
fn a_receipt_is_signed_as_it_was_written() {
    let sealift = setup();
    let ssh = Ssh(sealift.home());
    save_signed(&sealift, "alice");
    fs::write(sealift.path("receipt.json.sig"), "of an earlier load").unwrap();
    let load = |to: &str, receipt: &str, more: &[&str]| {
        let to = format!("oci:{to}");
        sealift.run(
            &[
                &[
                    "load",
                    "images.tar",
                    "--to",
                    &to,
                    "--receipt",
                    receipt,
                    "--sign",
                    "alice",
                ],
                more,
            ]
            .concat(),
        )
    };
    load("new", "receipt.json", &["--allowed-signers", "allowed"]).ok();
    let text = fs::read_to_string(sealift.path("receipt.json")).unwrap();
    let verify = |text: &str| {
        ssh.verify(
            "allowed",
            "alice@example.test",
            "sealift-receipt",
            "receipt.json.sig",
            text,
        )
    };
    verify(&text).ok();
    verify(&text.replace("app", "web")).code(255);
    let receipt: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_documented(&receipt);
    assert_eq!(
        receipt["archives"][0]["signature"]["principal"],
        "alice@example.test"
    );
    // One of a load that fails is signed too.
    fs::write(sealift.path("images.tar.sig"), "").unwrap();
    load("other", "receipt.json", &["--allowed-signers", "allowed"]).code(1);
    let text = fs::read_to_string(sealift.path("receipt.json")).unwrap();
    assert!(text.contains("signature-malformed"), "{text}");
    verify(&text).ok();
    // What cannot be signed is not loaded, and leaves the last receipt as it is.
    for (receipt, key, code, says) in [
        ("receipt.json", "absent", 3, "cannot read the key absent"),
        ("receipt.json", "alice.pub", 2, "there is no ssh-agent"),
        ("/dev/null", "alice", 2, "/dev/null is not a regular file"),
        ("alice", "alice", 2, "alice is both read and written"),
        ("images.tar", "alice", 2, "images.tar is both read and written"),
    ] {
        let refused = sealift.run(&[
            "load",
            "images.tar",
            "--to",
            "oci:none",
            "--receipt",
            receipt,
            "--sign",
            key,
        ]);
        assert!(refused.code(code).stderr.contains(says), "{receipt} {key}");
        assert!(!sealift.path("none").exists());
    }
    verify(&text).ok();
    let alone = sealift.run(&["load", "images.tar", "--sign", "alice"]).code(2);
    assert!(alone.stderr.contains("--receipt <FILE>"), "{}", alone.stderr);
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

#[test]
fn the_commands_of_the_document_work() {
    let sealift = Sealift::new();
    Image::sample("httpd", "2.4").build(&sealift.path("layout"), "2.4");
    let [sign] = documented("Sign");
    let [check] = documented("Check");
    let [by_hand, without_sealift] = documented("By hand");
    let [receipt, check_receipt] = documented("Receipts");
    let script = [
        &sign.replace("save httpd:2.4", "save --from layout httpd:2.4"),
        &check,
        "cp images.tar.sig first.sig\n",
        &by_hand,
        "cmp images.tar.sig first.sig\n",
        &without_sealift,
        &receipt.replace(
            "sudo sealift load images.tar",
            "sealift load images.tar --to oci:more",
        ),
        "echo \"host@example.com $(cut -d' ' -f1,2 release.pub)\" > signers\n",
        &check_receipt,
    ];
    let said = run(&mut sealift.shell(&format!("set -euo pipefail\n{}", script.concat()))).ok();
    let good: Vec<&str> = said
        .stdout
        .lines()
        .filter(|line| line.starts_with("Good "))
        .collect();
    assert_eq!(good.len(), 2, "{}", said.stdout);
}

/// The blocks of code below a heading of the document.
#[track_caller]
fn documented<const N: usize>(heading: &str) -> [String; N] {
    crate::support::documented::code_of("signing.md", heading)
}
