//! Policies of both formats, on real signed images.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::trust::testing::{Fixture, file, folder, now};

/// Parses a policy whose files are those of the fixtures.
fn parse(text: &str) -> Result<Policy> {
    Policy::parse(Path::new("policy"), text.as_bytes(), &mut |path| {
        let found = fs::read(folder().join(path));
        found.map_err(Error::io("read", path))
    })
}

/// A policy with these rules, and `reject` for everything else.
fn policy(rules: &str) -> Policy {
    parse(&format!(
        "kind: SealiftPolicy\nschema: 1\ndefault: reject\nimages:\n{rules}"
    ))
    .unwrap()
}

/// An image of a fixture's with all its manifests.
fn image(fixture: &Fixture, name: &str, manifests: &[&str]) -> Subjects {
    Subjects {
        name: name.parse().unwrap(),
        root: fixture.digest("top"),
        manifests: manifests.iter().map(|what| fixture.subject(what)).collect(),
    }
}

fn check(policy: &Policy, fixture: &Fixture, subjects: &Subjects) -> Verdict {
    let mut fetch = |descriptor: &crate::oci::Descriptor, _: u64| fixture.fetch(descriptor);
    policy.check(subjects, now(), &mut fetch).unwrap()
}

fn unmet(verdict: &Verdict) -> Vec<&'static str> {
    verdict.unmet.iter().map(|one| one.reason.code()).collect()
}

const ALL: [&str; 5] = ["top", "amd64", "arm64", "att-amd64", "att-arm64"];

#[test]
fn a_rule_demands_the_index_the_platforms_or_both() {
    let alice = "keys: [keys/alice.pub]";
    let mallory = "keys: keys/mallory.pub";
    let release = "certificates: [{roots: notation-trust/ca.crt, identities: [\"CN=Acme Release EC\"]}]";
    for (name, signers, require, expected) in [
        ("cosign-old", alice, "index", vec![]),
        ("cosign-old", alice, "platform", vec![]),
        ("cosign-old", alice, "both", vec![]),
        ("cosign-bundle", alice, "both", vec![]),
        // mallory signed the index only.
        ("cosign-old", mallory, "index", vec![]),
        (
            "cosign-old",
            mallory,
            "platform",
            vec!["no-good-signature", "no-good-signature"],
        ),
        (
            "cosign-old",
            mallory,
            "both",
            vec!["no-good-signature", "no-good-signature"],
        ),
        ("notation", release, "index", vec![]),
        // Of the platforms, only amd64 is signed.
        ("notation", release, "platform", vec!["not-signed"]),
        ("notation", alice, "index", vec!["no-good-signature"]),
        ("attestations", alice, "index", vec!["not-signed"]),
        (
            "attestations",
            alice,
            "platform",
            vec!["not-signed", "not-signed"],
        ),
    ] {
        let fixture = Fixture::open(name);
        let policy = policy(&format!(
            "- {{name: quay.io/acme/*, require: {require}, {signers}}}\n"
        ));
        let subjects = image(&fixture, "quay.io/acme/app:1", &ALL);
        let verdict = check(&policy, &fixture, &subjects);
        assert_eq!(unmet(&verdict), expected, "{name} {require}: {verdict:#?}");
        assert_eq!(verdict.is_met(), expected.is_empty());
        assert_eq!(verdict.manifests.len(), 5);
        assert_eq!(verdict.scope.as_deref(), Some("quay.io/acme/*"));
    }
}

#[test]
fn something_always_has_to_be_signed() {
    let policy = policy("- {name: '**', require: platform, keys: keys/alice.pub}\n");
    let fixture = Fixture::open("neg-unsigned");
    let verdict = check(&policy, &fixture, &image(&fixture, "app:1", &["top"]));
    assert_eq!(unmet(&verdict), ["not-signed"]);
    // An index whose platforms are not there, and an image of which nothing is.
    let fixture = Fixture::open("attestations");
    for manifests in [&["top", "att-amd64"][..], &["att-amd64"], &[]] {
        let verdict = check(&policy, &fixture, &image(&fixture, "app:1", manifests));
        assert_eq!(unmet(&verdict), ["not-signed"], "{manifests:?}");
        assert_eq!(verdict.unmet[0].manifest, Some(fixture.digest("top")));
    }
}

#[test]
fn the_most_specific_rule_counts_or_the_default() {
    let policy = policy(
        "- {name: quay.io/**, rule: accept}\n\
         - {name: quay.io/acme/*, keys: keys/alice.pub}\n\
         - {name: [quay.io/acme/old, quay.io/acme/older], rule: reject}\n\
         - {name: quay.io/acme/old:2, rule: accept}\n",
    );
    for (name, kind, scope) in [
        ("quay.io/other/app:1", RuleKind::Accept, Some("quay.io/**")),
        ("quay.io/acme/app:1", RuleKind::Verify, Some("quay.io/acme/*")),
        ("quay.io/acme/old:1", RuleKind::Reject, Some("quay.io/acme/old")),
        (
            "quay.io/acme/older:1",
            RuleKind::Reject,
            Some("quay.io/acme/older"),
        ),
        ("quay.io/acme/old:2", RuleKind::Accept, Some("quay.io/acme/old:2")),
        ("httpd", RuleKind::Reject, None),
    ] {
        let name = name.parse().unwrap();
        let rule = policy.rule(&name);
        assert_eq!((rule.kind(), rule.scope()), (kind, scope), "{name}");
    }
    let fixture = Fixture::open("neg-unsigned");
    for (name, expected) in [
        ("quay.io/other/app:1", vec![]),
        ("quay.io/acme/app:1", vec!["not-signed"]),
        ("quay.io/acme/old:1", vec!["rejected"]),
        ("httpd", vec!["rejected"]),
    ] {
        let verdict = check(&policy, &fixture, &image(&fixture, name, &["top"]));
        assert_eq!(unmet(&verdict), expected, "{name}");
    }
    let accepting = parse("kind: SealiftPolicy\nschema: 1\ndefault: accept\n").unwrap();
    assert_eq!(accepting.rule(&"httpd".parse().unwrap()).kind(), RuleKind::Accept);
}

#[test]
fn a_verdict_tells_programs_who_signed_what() {
    let policy = policy("- {name: '**', keys: [{file: keys/alice.pub, log: keys/trusted-root.json}]}\n");
    let fixture = Fixture::open("cosign-bundle-tlog");
    let verdict = check(
        &policy,
        &fixture,
        &image(&fixture, "quay.io/acme/app:1", &["top"]),
    );
    let top = fixture.digest("top");
    let found = serde_json::to_value(&verdict).unwrap();
    let alice = "ep1TBLI6iRfeECYOzx47gpExBqZIETYAtBGxIqp5h8M=";
    assert_eq!(
        found,
        json!({
            "name": "quay.io/acme/app:1", "digest": top, "scope": "**", "rule": "verify",
            "manifests": [{
                "digest": top, "role": "platform", "platform": null, "unchecked": 0,
                "signatures": [{
                    "kind": "cosign-bundle",
                    "artifact": found["manifests"][0]["signatures"][0]["artifact"],
                    "claimed": alice,
                    "good": true,
                    "by": {"key": {"name": "keys/alice.pub", "id": alice}},
                    "at": "2026-11-26T14:03:02Z",
                    "log": {
                        "log_id": "4b44685109d39d14e7b282ffb7a4b017faec3a79b7562786870eeda48217e58e",
                        "index": 5, "time": "2026-11-26T14:03:02Z",
                    },
                }],
            }],
            "unmet": [],
        })
    );
    let fixture = Fixture::open("neg-moved-old");
    let verdict = check(&policy, &fixture, &image(&fixture, "app:1", &["top"]));
    let found = serde_json::to_value(&verdict).unwrap();
    let signature = &found["manifests"][0]["signatures"][0];
    assert_eq!(
        (&signature["good"], &signature["code"]),
        (&json!(false), &json!("not-logged"))
    );
    assert_eq!(found["unmet"][0]["code"], "no-good-signature");
    let top = fixture.digest("top");
    assert_eq!(
        found["unmet"][0]["message"],
        format!("its signature does not count ({top})")
    );
}

#[test]
fn mistakes_in_a_policy_are_errors_with_their_line() {
    let head = "kind: SealiftPolicy\nschema: 1\ndefault: reject\nimages:\n";
    let rule = |rule: &str| format!("{head}- {rule}\n");
    let p384 = String::from_utf8(file("keys/k-p384.pub")).unwrap();
    assert!(parse(&rule(&json!({"name": "a", "keys": [{"pem": p384}]}).to_string())).is_ok());
    assert!(
        parse(
            &json!({"kind": "SealiftPolicy", "schema": 1, "default": "accept", "images": [
        {"name": ["**"], "require": "both", "keys": ["keys/alice.pub"]}]})
            .to_string()
        )
        .is_ok()
    );
    let neither = "policy: neither a policy of sealift, which begins with \"kind: SealiftPolicy\", nor a policy.json of \
                   podman and skopeo";
    for (text, expected) in [
        (String::new(), neither),
        ("[]".into(), neither),
        ("default: reject".into(), neither),
        ("{".into(), "policy, line 1: not valid YAML: "),
        (
            "kind: Other\n".into(),
            "policy, line 1: its kind is not SealiftPolicy",
        ),
        (
            "kind: SealiftPolicy\n".into(),
            "policy, line 1: the field \"schema\" is missing",
        ),
        (
            "kind: SealiftPolicy\nschema: 2\n".into(),
            "policy, line 2: only schema 1 is known",
        ),
        (
            "kind: SealiftPolicy\nschema: 1\n".into(),
            "policy, line 1: the field \"default\" is missing",
        ),
        (
            "kind: SealiftPolicy\nschema: 1\ndefault: yes\n".into(),
            "policy, line 3: expected accept or reject",
        ),
        (
            "kind: SealiftPolicy\nschema: 1\ndefault: reject\ndefault: accept\n".into(),
            "policy, line 4: the key \"default\" occurs twice in one mapping",
        ),
        (
            "kind: SealiftPolicy\nschema: 1\ndefault: reject\nimage: []\n".into(),
            "policy, line 4: a policy has no field \"image\"; it has kind, schema, default, images",
        ),
        (
            format!("{head}---\na: 1\n"),
            "policy: several YAML documents, expected one",
        ),
        (
            rule("{keys: keys/alice.pub}"),
            "policy, line 5: a rule needs a field \"name\"",
        ),
        (rule("{name: []}"), "policy, line 5: the field \"name\" is empty"),
        (
            rule("{name: a*}"),
            "policy, line 5: \"a*\": an asterisk stands for the last part of a name only",
        ),
        (
            rule("{name: acme/*}"),
            "policy, line 5: \"acme/*\": the registry is missing; for Docker Hub write docker.io/acme/*",
        ),
        (rule("{name: UPPER}"), "policy, line 5: "),
        (
            rule("{name: a}"),
            "policy, line 5: a rule needs \"keys\", \"certificates\", or \"rule: accept\" or \"rule: reject\"",
        ),
        (
            rule("{name: a, rule: maybe}"),
            "policy, line 5: expected accept or reject",
        ),
        (
            rule("{name: a, rule: accept, keys: keys/alice.pub}"),
            "policy, line 5: a rule has \"rule\" or \"keys\", not both",
        ),
        (
            rule("{name: a, key: keys/alice.pub}"),
            "policy, line 5: a rule has no field \"key\"; it has name, rule, require, keys, certificates, keyless",
        ),
        (
            rule("{name: a, require: all, keys: keys/alice.pub}"),
            "policy, line 5: \"all\" is not index, platform or both",
        ),
        (
            rule("{name: a, keys: keys/none.pub}"),
            "cannot read keys/none.pub: ",
        ),
        (
            rule("{name: a, keys: digests.json}"),
            "policy, line 5: digests.json: it has no block -----BEGIN PUBLIC KEY-----",
        ),
        (
            rule("{name: a, keys: [{file: keys/alice.pub, pem: x}]}"),
            "policy, line 5: a key has either \"file\" or \"pem\"",
        ),
        (
            rule("{name: a, keys: [{file: keys/alice.pub, logs: x}]}"),
            "policy, line 5: a key has no field \"logs\"; it has file, pem, log",
        ),
        (
            rule("{name: a, keys: [{file: keys/alice.pub, log: digests.json}]}"),
            "policy, line 5: digests.json: not a trusted root: ",
        ),
        (
            rule("{name: a, certificates: [{roots: notation-trust/ca.crt}]}"),
            "policy, line 5: certificates need \"roots\" and \"identities\"",
        ),
        (
            rule("{name: a, certificates: [{roots: notation-trust/ec.crt, identities: '*'}]}"),
            "policy, line 5: notation-trust/ec.crt: the certificate of ",
        ),
        (
            rule("{name: a, certificates: [{roots: notation-trust/ca.crt, identities: nobody}]}"),
            "policy, line 5: \"nobody\" is not a subject",
        ),
        (
            rule("{name: a, keyless: [{issuer: a, subject: b}]}"),
            "policy, line 5: the field \"trusted-root\" is missing",
        ),
        (
            rule("{name: a, keyless: [{issuer: a, subject: b, trusted-root: c}]}"),
            "policy, line 5: keyless signatures are not supported by this build",
        ),
        (
            rule("{name: [a, docker.io/library/a], rule: accept}"),
            "policy, line 5: two rules are for docker.io/library/a",
        ),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}\n{error}");
    }
}

#[test]
fn rules_of_podman_are_read() {
    let alice = "/alice.pub";
    let text = |requirement: &serde_json::Value| {
        json!({
            "default": [{"type": "reject"}],
            "transports": {
                "docker": {"registry.example.test/acme": [requirement], "quay.io": [{"type": "insecureAcceptAnything"}]},
                "docker-daemon": {"": [{"type": "insecureAcceptAnything"}]},
            },
        })
        .to_string()
    };
    let read = |text: &str| {
        Policy::parse(Path::new("policy.json"), text.as_bytes(), &mut |path| {
            assert_eq!(path, Path::new(alice));
            Ok(file("keys/alice.pub"))
        })
    };
    let (name, other) = (
        "registry.example.test/acme/fold:1.0",
        "registry.example.test/acme/fold:2.0",
    );
    let pem = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(file("keys/alice.pub"))
    };
    let signed = |identity: serde_json::Value| json!({"type": "sigstoreSigned", "keyPath": alice, "signedIdentity": identity});
    let repository = || json!({"type": "matchRepository"});
    for (fixture, name, requirement, expected) in [
        (
            "cosign-old",
            name,
            json!({"type": "sigstoreSigned", "keyPath": alice}),
            vec![],
        ),
        (
            "cosign-old",
            other,
            json!({"type": "sigstoreSigned", "keyPath": alice}),
            vec!["no-good-signature"; 2],
        ),
        ("cosign-old", other, signed(repository()), vec![]),
        (
            "cosign-old",
            other,
            json!({"type": "sigstoreSigned", "keyDatas": [pem], "signedIdentity": repository()}),
            vec![],
        ),
        ("cosign-old", name, signed(json!({"type": "matchExact"})), vec![]),
        (
            "cosign-old",
            other,
            signed(json!({"type": "exactReference", "dockerReference": name})),
            vec![],
        ),
        (
            "cosign-old",
            other,
            signed(json!({"type": "exactRepository", "dockerRepository": "registry.example.test/other"})),
            vec!["no-good-signature"; 2],
        ),
        (
            "cosign-old",
            "registry.example.test/acme/mirror/fold:1.0",
            signed(json!({
                "type": "remapIdentity",
                "prefix": "registry.example.test/acme/mirror",
                "signedPrefix": "registry.example.test/acme",
            })),
            vec![],
        ),
        // podman does not look at bundles. They have no name, which it would demand.
        (
            "cosign-bundle",
            name,
            signed(repository()),
            vec!["no-good-signature"; 2],
        ),
        (
            "cosign-old",
            other,
            json!({"type": "sigstoreSigned", "keyPath": alice, "rekorPublicKeyData": pem, "signedIdentity": repository()}),
            vec!["no-good-signature"; 2],
        ),
        ("cosign-old", name, json!({"type": "reject"}), vec!["rejected"]),
        (
            "cosign-old",
            name,
            json!({"type": "insecureAcceptAnything"}),
            vec![],
        ),
        (
            "cosign-old",
            name,
            json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/a"}),
            vec!["not-supported"],
        ),
        (
            "cosign-old",
            name,
            json!({"type": "sigstoreSigned", "fulcio": {}}),
            vec!["not-supported"],
        ),
        (
            "cosign-old",
            "quay.io/acme/app:1",
            json!({"type": "reject"}),
            vec![],
        ),
        (
            "cosign-old",
            "docker.io/acme/app:1",
            json!({"type": "insecureAcceptAnything"}),
            vec!["rejected"],
        ),
    ] {
        let fixture = Fixture::open(fixture);
        let policy = read(&text(&requirement)).unwrap();
        let verdict = check(&policy, &fixture, &image(&fixture, name, &ALL));
        assert_eq!(unmet(&verdict), expected, "{name} {requirement}");
    }
    // Both of two requirements have to be met.
    let both = json!({"default": [
        {"type": "sigstoreSigned", "keyPath": alice, "signedIdentity": {"type": "matchRepository"}},
        {"type": "sigstoreSigned", "keyPath": alice, "signedIdentity": {"type": "matchExact"}},
    ]});
    let policy = read(&both.to_string()).unwrap();
    let fixture = Fixture::open("cosign-old");
    assert!(check(&policy, &fixture, &image(&fixture, name, &ALL)).is_met());
    assert_eq!(
        unmet(&check(&policy, &fixture, &image(&fixture, other, &ALL))),
        ["no-good-signature"; 2]
    );
    for (requirement, says) in [
        (json!({"type": "sigstoreSigned"}), "sigstoreSigned needs one of"),
        (
            json!({"type": "sigstoreSigned", "keyPath": alice, "keyData": pem}),
            "sigstoreSigned needs one of",
        ),
        (
            json!({"type": "sigstoreSigned", "keyDatas": []}),
            "sigstoreSigned has no key",
        ),
        (json!({"type": "sigstoreSigned", "keyData": "?"}), "keyData: "),
        (
            json!({"type": "sigstoreSigned", "keyPath": alice, "keypath": alice}),
            "unknown field",
        ),
        (json!({"type": "unknown"}), "unknown variant"),
        (json!({"type": "reject", "also": 1}), "unknown field"),
        (signed(json!({"type": "matchNothing"})), "unknown variant"),
        (
            signed(json!({"type": "exactReference", "dockerReference": "a"})),
            "neither a tag nor a digest",
        ),
    ] {
        let error = read(&text(&requirement)).unwrap_err().to_string();
        assert!(
            error.starts_with("policy.json: ") && error.contains(says),
            "{requirement}: {error}"
        );
    }
    let empty = read(r#"{"default":[]}"#).unwrap_err().to_string();
    assert_eq!(empty, "policy.json: a list of requirements is empty");
}

#[test]
fn the_files_of_a_policy_are_beside_it_and_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.yaml");
    let key = folder.path().join("keys/alice.pub");
    fs::create_dir(folder.path().join("keys")).unwrap();
    fs::write(&key, file("keys/alice.pub")).unwrap();
    let text =
        "kind: SealiftPolicy\nschema: 1\ndefault: reject\nimages: [{name: '**', keys: keys/alice.pub}]\n";
    fs::write(&path, text).unwrap();
    for file in [&path, &key] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    assert_eq!(Policy::read(&path).unwrap().path(), path);
    let missing = Policy::read(&folder.path().join("none")).unwrap_err();
    assert!(missing.to_string().starts_with("cannot read "), "{missing}");
    let large = folder.path().join("large");
    fs::File::create(&large).unwrap().set_len(MAX_FILE + 1).unwrap();
    assert!(Policy::read(&large).is_err());
    if !rustix::process::geteuid().is_root() {
        return; // others' files cannot be made
    }
    for file in [&path, &key] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o666)).unwrap();
        let error = Policy::read(&path).unwrap_err();
        assert!(error.to_string().contains("another user can write to"), "{error}");
        assert_eq!(error.kind(), crate::error::ErrorKind::Io);
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::chown(file, Some(65534), None).unwrap();
        let error = Policy::read(&path).unwrap_err();
        assert!(error.to_string().contains("another user can write to"), "{error}");
        std::os::unix::fs::chown(file, Some(0), None).unwrap();
    }
    assert!(Policy::read(&path).is_ok());
}
