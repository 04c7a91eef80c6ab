//! `--policy`: images that the right people signed, and others, verified, loaded and saved. The images are those of
//! testdata/signatures, which cosign and notation signed.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{Sealift, Serving, Transcript, assert_documented, run};

/// A folder with keys, certificates, and policies by alice's key, by mallory's, and by certificates of a CA.
fn prepared(images: &[&str]) -> Sealift {
    let sealift = Sealift::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/signatures");
    for name in images.iter().chain(&["keys", "notation-trust"]) {
        let mut copy = sealift.shell("cp -r \"$FROM\" .");
        run(copy.env("FROM", fixtures.join(name))).ok();
    }
    let rule = |signers: &str| {
        format!("kind: SealiftPolicy\nschema: 1\ndefault: reject\nimages:\n  - name: '**'\n    {signers}\n")
    };
    let certificates = "certificates: [{ roots: [notation-trust/ca.crt], identities: ['C=XX, ST=Test, O=Acme Test, CN=Acme Release EC'] }]";
    for (file, signers) in [
        ("alice.yaml", "keys: [keys/alice.pub]"),
        ("alice-each.yaml", "require: both\n    keys: [keys/alice.pub]"),
        ("mallory.yaml", "keys: [keys/mallory.pub]"),
        (
            "logged.yaml",
            "keys: [{ file: keys/alice.pub, log: keys/rekor.pub }]",
        ),
        ("ca.yaml", certificates),
        (
            "ca-any.yaml",
            "certificates: [{ roots: [notation-trust/ca.crt], identities: ['*'] }]",
        ),
        (
            "ca-platform.yaml",
            &format!("require: platform\n    {certificates}"),
        ),
    ] {
        fs::write(sealift.path(file), rule(signers)).unwrap();
    }
    sealift
}

/// What `verify --json` says of the first image: whether it is accepted, the exit code, and the codes of what is wrong.
fn verdict(sealift: &Sealift, folder: &str, policy: &str) -> (bool, Option<i32>, Vec<String>) {
    let run = sealift.run(&["verify", "--json", "--policy", policy, folder]);
    let document = run.json();
    assert_documented(&document);
    let policy = &document["archives"][0]["images"][0]["policy"];
    let mut codes = Vec::new();
    for unmet in policy["unmet"].as_array().unwrap() {
        codes.push(unmet["code"].as_str().unwrap().to_owned());
    }
    for manifest in policy["manifests"].as_array().unwrap() {
        for signature in manifest["signatures"].as_array().unwrap() {
            codes.extend(signature["code"].as_str().map(str::to_owned));
        }
    }
    codes.sort();
    codes.dedup();
    (policy["accepted"] == json!(true), run.code, codes)
}

#[test]
fn verify_accepts_what_the_right_people_signed_and_nothing_else() {
    let cases: &[(&str, &str, bool, &[&str])] = &[
        ("cosign-old", "alice-each.yaml", true, &["wrong-key"]),
        ("cosign-old", "mallory.yaml", true, &["wrong-key"]),
        ("cosign-bundle", "alice-each.yaml", true, &["wrong-key"]),
        (
            "cosign-bundle",
            "ca.yaml",
            false,
            &["no-good-signature", "not-in-policy"],
        ),
        ("cosign-old-tlog", "logged.yaml", true, &[]),
        ("cosign-bundle-tlog", "logged.yaml", true, &[]),
        (
            "cosign-bundle",
            "logged.yaml",
            false,
            &["no-good-signature", "not-logged", "wrong-key"],
        ),
        (
            "cosign-bundle-message",
            "alice.yaml",
            false,
            &["message-signature", "no-good-signature"],
        ),
        (
            "attestations",
            "alice.yaml",
            false,
            &["attestation", "not-signed"],
        ),
        ("notation", "ca.yaml", true, &["other-identity"]),
        (
            "notation",
            "alice.yaml",
            false,
            &["no-good-signature", "not-in-policy"],
        ),
        ("neg-unsigned", "alice.yaml", false, &["not-signed"]),
        (
            "neg-wrong-key",
            "alice.yaml",
            false,
            &["no-good-signature", "wrong-key"],
        ),
        ("neg-wrong-key", "mallory.yaml", true, &[]),
        (
            "neg-tampered",
            "alice.yaml",
            false,
            &["no-good-signature", "wrong-key"],
        ),
        (
            "neg-moved-old",
            "alice.yaml",
            false,
            &["no-good-signature", "other-image"],
        ),
        (
            "neg-moved-bundle",
            "alice.yaml",
            false,
            &["no-good-signature", "other-image"],
        ),
        ("neg-tag-swapped", "alice.yaml", false, &["not-signed"]),
        (
            "neg-notation-moved",
            "ca-any.yaml",
            false,
            &["no-good-signature", "other-image"],
        ),
        (
            "neg-notation-expired-cert",
            "ca.yaml",
            false,
            &["certificate-expired", "no-good-signature"],
        ),
        (
            "neg-notation-expired-signature",
            "ca.yaml",
            false,
            &["expired", "no-good-signature"],
        ),
        (
            "neg-notation-unknown-ca",
            "ca.yaml",
            false,
            &["no-good-signature", "untrusted-root"],
        ),
    ];
    let mut folders: Vec<&str> = cases.iter().map(|(folder, ..)| *folder).collect();
    folders.dedup();
    folders.sort_unstable();
    folders.dedup();
    let sealift = prepared(&folders);
    let mut wrong = Vec::new();
    for (folder, policy, is_accepted, codes) in cases {
        let found = verdict(&sealift, folder, policy);
        let is_good = found.1 == Some(0);
        if found.0 != *is_accepted || is_good != *is_accepted || found.2 != *codes {
            wrong.push(format!("{folder} {policy}: {found:?}"));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn verify_tells_each_signature() {
    let sealift = prepared(&["cosign-bundle", "neg-moved-old"]);
    let mut transcript = Transcript::of(&sealift);
    transcript.run("verify --policy alice.yaml cosign-bundle").ok();
    transcript.run("verify --policy alice.yaml neg-moved-old");
    transcript.run("verify -q --policy alice.yaml neg-moved-old");
    transcript.run("verify --policy absent.yaml cosign-bundle");
    transcript.run("verify --policy keys/alice.pub cosign-bundle");
    assert_snapshot!(transcript.text(), @r#"
    $ sealift verify --policy alice.yaml cosign-bundle
    <digest 1>: signed as the policy demands (rule **)
      index            <digest 1>   signed by keys/alice.pub                                              cosign signature
      index            <digest 1>   does not count: not signed by a key of the policy, or changed since   cosign signature in <digest 2>
      linux/amd64      <digest 3>   signed by keys/alice.pub                                              cosign signature
      linux/arm64/v8   <digest 4>   signed by keys/alice.pub                                              cosign signature
      attestation      <digest 5>   signed by keys/alice.pub                                              cosign signature
      attestation      <digest 6>   signed by keys/alice.pub                                              cosign signature
    cosign-bundle: 35 blobs, 19.2 kB: all good
    archive <digest 7>

    $ sealift verify --policy alice.yaml neg-moved-old
    error: neg-moved-old: <digest 8>: the image does not meet the policy: linux/amd64: its signature does not count (<digest 8>); cosign signature in <digest 9>: a signature of another image: <digest 10>
    <digest 8>: not accepted (rule **)
      linux/amd64   <digest 8>   does not count: a signature of another image: <digest 10>   cosign signature in <digest 9>
    neg-moved-old: 7 blobs, 2.4 kB: 1 error
    archive <digest 11>
    exit 1

    $ sealift verify -q --policy alice.yaml neg-moved-old
    error: neg-moved-old: <digest 8>: the image does not meet the policy: linux/amd64: its signature does not count (<digest 8>); cosign signature in <digest 9>: a signature of another image: <digest 10>
    archive <digest 11>
    exit 1

    $ sealift verify --policy absent.yaml cosign-bundle
    2> error: cannot read absent.yaml: No such file or directory (os error 2)
    exit 3

    $ sealift verify --policy keys/alice.pub cosign-bundle
    2> error: keys/alice.pub: neither a policy of sealift, which begins with "kind: SealiftPolicy", nor a policy.json of podman and skopeo
    exit 2
    "#);
}

#[test]
fn a_report_has_the_verdicts() {
    let sealift = prepared(&["neg-wrong-key"]);
    let verify = [
        "verify",
        "-q",
        "neg-wrong-key",
        "--policy",
        "alice.yaml",
        "--report",
    ];
    for file in ["report.md", "report.html", "report.json"] {
        assert_eq!(sealift.run(&[&verify[..], &[file]].concat()).code, Some(1));
    }
    let text = fs::read_to_string(sealift.path("report.md")).unwrap();
    let (_, rest) = text.split_once("### Policy").unwrap();
    let (policy, _) = rest.split_once("\n### ").unwrap();
    assert_snapshot!(policy.trim(), @r"
    | Image | Outcome | Signatures |
    | --- | --- | --- |
    | sha256:794a8e1321b3c4a7bc9df134454407f5747c60a3169caa037146e0660cea216f | **not accepted \(rule \*\*\)** | linux/amd64: a cosign signature that does not count: not signed by a key of the policy, or changed since `sha256:794a8e1321b3c4a7bc9df134454407f5747c60a3169caa037146e0660cea216f`; linux/amd64: a cosign signature that does not count: not signed by a key of the policy, or changed since `sha256:794a8e1321b3c4a7bc9df134454407f5747c60a3169caa037146e0660cea216f` |
    ");
    let page = fs::read_to_string(sealift.path("report.html")).unwrap();
    let told = "linux/amd64: a cosign signature that does not count: not signed by a key of the policy, or changed since";
    assert!(page.contains(told), "{page}");
    let document: Value = serde_json::from_slice(&fs::read(sealift.path("report.json")).unwrap()).unwrap();
    assert_eq!(
        document["archives"][0]["images"][0]["policy"]["accepted"],
        json!(false)
    );
}

/// Unpacks an archive of testdata/signatures with the images acme/app:1.0, which alice signed, and acme/one:1.0, which
/// nobody did, and writes a policy that demands alice's signature of the former.
fn two_images() -> Sealift {
    let sealift = prepared(&["archives/r2.tar.gz"]);
    run(&mut sealift.shell("gunzip r2.tar.gz")).ok();
    let policy = "kind: SealiftPolicy\nschema: 1\ndefault: accept\nimages:\n  \
                  - name: acme/*\n    rule: reject\n";
    let policy = policy.replace(
        "acme/*\n    rule: reject",
        "docker.io/acme/*\n    require: platform\n    keys: [keys/alice.pub]",
    );
    fs::write(sealift.path("acme.yaml"), policy).unwrap();
    sealift
}

#[test]
fn load_takes_only_what_the_policy_accepts() {
    let sealift = two_images();
    let mut transcript = Transcript::of(&sealift);
    transcript.run("load r2.tar --policy acme.yaml --to oci:new");
    assert!(!sealift.path("new").exists());
    transcript.run("load r2.tar --policy acme.yaml --to oci:new --keep-going");
    // The policy is asked for the name in the archive.
    let renamed = "load -q r2.tar --policy acme.yaml --to oci:other --image acme/one:1.0 --rename acme/one=example.com/one";
    transcript.run(renamed);
    assert!(!sealift.path("other").exists());
    transcript
        .run("load -q r2.tar --policy acme.yaml --to archive:app.tar --image acme/app --platform linux/arm64")
        .ok();
    assert_snapshot!(transcript.text(), @"
    $ sealift load r2.tar --policy acme.yaml --to oci:new
    2> error: r2.tar: <digest 1>: acme/one:1.0 does not meet the policy: linux/amd64: no signature (<digest 1>)
    exit 1

    $ sealift load r2.tar --policy acme.yaml --to oci:new --keep-going
    NAME       TAG   DIGEST       EVIDENCE   SHOWN   CHANGE
    acme/app   1.0   <digest 2>   verified   yes     new
    1 image in OCI layout new, 26.9 kB sent
    acme/app:1.0: signed as the policy demands (rule docker.io/acme/*)
      index            <digest 2>   signed by keys/alice.pub                                       cosign signature
      index            <digest 2>   signed by keys/alice.pub                                       cosign signature
      index            <digest 2>   signed by keys/alice.pub                                       cosign signature
      index            <digest 2>   does not count: the policy has no certificate for this image   notation signature in <digest 3>
      linux/amd64      <digest 4>   signed by keys/alice.pub                                       cosign signature
      linux/arm64/v8   <digest 5>   signed by keys/alice.pub                                       cosign signature
      attestation      <digest 6>   signed by keys/alice.pub                                       cosign signature
      attestation      <digest 7>   signed by keys/alice.pub                                       cosign signature
    archive <digest 8>
    2> warning: acme/one:1.0 was skipped: it does not meet the policy: linux/amd64: no signature (<digest 1>)
    exit 1

    $ sealift load -q r2.tar --policy acme.yaml --to oci:other --image acme/one:1.0 --rename acme/one=example.com/one
    2> error: r2.tar: <digest 1>: acme/one:1.0 does not meet the policy: linux/amd64: no signature (<digest 1>)
    exit 1

    $ sealift load -q r2.tar --policy acme.yaml --to archive:app.tar --image acme/app --platform linux/arm64
    archive <digest 9>
    ");
    let load = [
        "load",
        "--json",
        "r2.tar",
        "--policy",
        "acme.yaml",
        "--to",
        "oci:json",
        "--image",
        "acme/app",
    ];
    let document = sealift.run(&load).ok().json();
    assert_documented(&document);
    let policy = &document["images"][0]["policy"];
    assert_eq!(
        (&policy["accepted"], &policy["scope"]),
        (&json!(true), &json!("docker.io/acme/*"))
    );
    // What was loaded has its signatures still.
    sealift
        .run(&["verify", "-q", "--policy", "acme.yaml", "app.tar"])
        .ok();
    sealift
        .run(&["verify", "-q", "--policy", "acme.yaml", "json"])
        .ok();
}

#[test]
fn the_platforms_that_are_loaded_have_to_be_signed() {
    // EC signed the index and linux/amd64.
    let sealift = prepared(&["notation"]);
    let load = |platform: &str, to: &str| {
        let load = [
            "load",
            "-q",
            "notation",
            "--policy",
            "ca-platform.yaml",
            "--platform",
            platform,
            "--to",
            to,
        ];
        sealift.run(&load)
    };
    load("linux/amd64", "oci:amd64").ok();
    let refused = load("linux/arm64", "oci:arm64");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("linux/arm64/v8: no signature"),
        "{}",
        refused.stderr
    );
    let refused = load("linux/amd64,linux/arm64", "oci:both");
    assert_eq!(refused.code, Some(1));
    assert!(!sealift.path("arm64").exists() && !sealift.path("both").exists());
}

#[test]
fn save_writes_nothing_that_the_policy_does_not_accept() {
    let sealift = two_images();
    let mut transcript = Transcript::of(&sealift);
    transcript.run("save --from r2.tar --policy acme.yaml -o saved.tar");
    assert!(!sealift.path("saved.tar").exists());
    transcript.run("save -q --from r2.tar --policy acme.yaml -o saved.tar --keep-going");
    transcript
        .run("save --from r2.tar --policy acme.yaml -o app.tar acme/app:1.0 --platform linux/amd64")
        .ok();
    transcript.run("save --from r2.tar --policy acme.yaml -o acme.yaml acme/app:1.0");
    assert_snapshot!(transcript.text(), @"
    $ sealift save --from r2.tar --policy acme.yaml -o saved.tar
    2> error: <digest 1>: acme/one:1.0 does not meet the policy: linux/amd64: no signature (<digest 1>)
    2> hint: --keep-going saves the other images
    exit 1

    $ sealift save -q --from r2.tar --policy acme.yaml -o saved.tar --keep-going
    archive <digest 2>
    2> warning: acme/one:1.0 was skipped: <digest 1>: acme/one:1.0 does not meet the policy: linux/amd64: no signature (<digest 1>)
    exit 1

    $ sealift save --from r2.tar --policy acme.yaml -o app.tar acme/app:1.0 --platform linux/amd64
    NAME           DIGEST       EVIDENCE   PLATFORMS     SIZE      FROM
    acme/app:1.0   <digest 3>   verified   linux/amd64   20.4 kB   r2.tar
    acme/app:1.0: signed as the policy demands (rule docker.io/acme/*)
      index         <digest 3>   signed by keys/alice.pub                                       cosign signature
      index         <digest 3>   signed by keys/alice.pub                                       cosign signature
      index         <digest 3>   signed by keys/alice.pub                                       cosign signature
      index         <digest 3>   does not count: the policy has no certificate for this image   notation signature in <digest 4>
      linux/amd64   <digest 5>   signed by keys/alice.pub                                       cosign signature
      attestation   <digest 6>   signed by keys/alice.pub                                       cosign signature
    app.tar: 55.2 kB
    archive <digest 7>
    2> note: acme/app:1.0 is signed for linux/arm64/v8 too, which is not saved

    $ sealift save --from r2.tar --policy acme.yaml -o acme.yaml acme/app:1.0
    2> error: acme.yaml is both read and written
    2> hint: name another target
    exit 2
    ");
    sealift
        .run(&["verify", "-q", "--policy", "acme.yaml", "app.tar"])
        .ok();
    let save = [
        "save",
        "--json",
        "--from",
        "r2.tar",
        "--policy",
        "acme.yaml",
        "-o",
        "x.tar",
        "acme/app:1.0",
    ];
    let document = sealift.run(&save).ok().json();
    assert_documented(&document);
    assert_eq!(document["images"][0]["policy"]["accepted"], json!(true));
}

#[test]
fn a_policy_of_podman_is_enforced_too() {
    let sealift = two_images();
    let policy = |identity: Value| {
        let signed =
            json!({ "type": "sigstoreSigned", "keyPath": "keys/alice.pub", "signedIdentity": identity });
        let policy = json!({
            "default": [{ "type": "reject" }],
            "transports": { "docker": { "docker.io/acme/app": [signed] } },
        });
        fs::write(sealift.path("policy.json"), policy.to_string()).unwrap();
    };
    let codes = |image: &str| {
        let verify = [
            "load",
            "--json",
            "r2.tar",
            "--policy",
            "policy.json",
            "--dry-run",
            "--to",
            "oci:new",
            "--image",
            image,
        ];
        sealift.run(&verify)
    };
    policy(json!({ "type": "exactRepository", "dockerRepository": "docker.io/acme/app" }));
    let refused = codes("acme/app:1.0");
    assert_eq!(
        (refused.code, &refused.json()["error"]["code"]),
        (Some(1), &json!("not-accepted"))
    );
    let refused = codes("acme/one:1.0");
    assert!(
        refused.stderr.contains("the policy rejects images of this name"),
        "{}",
        refused.stderr
    );
}

#[test]
fn images_in_a_registry_are_checked_too() {
    let sealift = two_images();
    let registry = Serving::start(&sealift, &["r2.tar"]);
    let policy = format!(
        "kind: SealiftPolicy\nschema: 1\ndefault: reject\nimages:\n  - name: {}/acme/*\n    require: both\n    keys: [keys/alice.pub]\n",
        registry.address
    );
    fs::write(sealift.path("registry.yaml"), policy).unwrap();
    let name = |image: &str| format!("{}/acme/{image}:1.0", registry.address);
    let verify = ["verify", "--policy", "registry.yaml"];
    let said = sealift.run(&[&verify[..], &[&name("app")]].concat()).ok().stdout;
    assert!(said.contains("signed as the policy demands"), "{said}");
    let refused = sealift.run(&[&verify[..], &[&name("app"), &name("one")]].concat());
    assert_eq!(refused.code, Some(1));
    let told = "/acme/one:1.0 does not meet the policy: linux/amd64: no signature";
    assert!(refused.stdout.contains(told), "{}", refused.stdout);
    let verify = ["verify", "--json", "--policy", "registry.yaml", &name("one")];
    let document = sealift.run(&verify).json();
    assert_documented(&document);
    let image = &document["registry"]["images"][0];
    assert_eq!(
        (&image["good"], &image["policy"]["accepted"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(document["registry"]["findings"][0]["code"], json!("not-accepted"));
}
