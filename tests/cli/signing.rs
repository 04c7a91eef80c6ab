//! Archives and receipts that are signed by SSH keys.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use insta::assert_snapshot;
use serde_json::json;

use crate::support::ssh::{Agent, Ssh};
use crate::support::{Image, Layer, Registry, Sealift, Transcript, assert_documented, run};

pub const SAVE: [&str; 7] = ["save", "-q", "--from", "layout", "app:1", "-o", "images.tar"];

/// A layout with an image, and the keys of alice and mallory. `allowed` allows alice.
pub fn setup() -> Sealift {
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
pub fn save_signed(sealift: &Sealift, key: &str) -> String {
    sealift.run(&[&SAVE[..], &["--sign", key]].concat()).ok().stdout
}

/// The names in HOME that begin with a text.
pub fn names(sealift: &Sealift, start: &str) -> Vec<String> {
    let entries = fs::read_dir(sealift.home()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.contains(start)).collect();
    names.sort();
    names
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
    assert_snapshot!(transcript.text(), @"
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
    ");

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
