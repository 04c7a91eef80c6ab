//! The tools check what a registry has.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use super::cases::{CASES, Case, Says, Verifier};
use super::signed::{ATTACHMENTS, ORIGIN, Signed, side_by_side};
use crate::support::Run;
use crate::support::podman::{Podman, User, Version};

/// Fails unless every tool says of every case in this registry what it has to say.
#[track_caller]
pub fn assert_verdicts(signed: &Signed, address: &str, cases: &[Case]) {
    let wrong = Mutex::new(Vec::new());
    let checks: Vec<_> = cases
        .iter()
        .flat_map(|case| {
            case.says
                .iter()
                .map(move |(verifier, says)| (case.name, *verifier, *says))
        })
        .collect();
    write_policy(signed, address);
    side_by_side(&checks, |(case, verifier, says)| {
        let run = check(signed, address, case, *verifier);
        if !is_so(&run, *says) {
            let told = format!(
                "{case}: {verifier:?} {says:?}, but {:?}: {}{}",
                run.code, run.stdout, run.stderr
            );
            wrong.lock().unwrap().push(told);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "of {}:\n{}", checks.len(), wrong.join("\n"));
}

fn is_so(run: &Run, says: Says) -> bool {
    match says {
        Says::Passes => run.code == Some(0),
        Says::Refuses(why) => {
            run.code.is_some_and(|code| code != 0) && (run.stderr.contains(why) || run.stdout.contains(why))
        }
    }
}

/// Asks a tool about a case in a registry.
pub fn check(signed: &Signed, address: &str, case: &str, verifier: Verifier) -> Run {
    let name = format!("{address}/acme/{case}:1.0");
    let cosign = |subcommand: &str, more: &[&str]| {
        let key = ["--key", "/sealift/keys/alice.pub", "--insecure-ignore-tlog"];
        let args = [&[subcommand][..], &key, more, &[&name]].concat();
        signed.tools.run("cosign", &args)
    };
    let old = "--new-bundle-format=false";
    match verifier {
        Verifier::Cosign => cosign("verify", &[]),
        Verifier::CosignOld => cosign("verify", &[old]),
        Verifier::Attestation(kind) => cosign("verify-attestation", &["--type", kind]),
        Verifier::AttestationOld(kind) => cosign("verify-attestation", &["--type", kind, old]),
        Verifier::Notation => signed
            .tools
            .run("notation", &["verify", "--insecure-registry", &name]),
        Verifier::Skopeo => {
            static COPIES: AtomicU32 = AtomicU32::new(0);
            let copy = format!("copy-{}", COPIES.fetch_add(1, Ordering::Relaxed));
            let args = [
                "--policy",
                &signed.tools.inside(&policy(address)),
                "copy",
                "--src-tls-verify=false",
                &format!("docker://{name}"),
                &format!("dir:{}", signed.tools.inside(&copy)),
            ];
            signed.tools.run("skopeo", &args)
        }
    }
}

/// The name of the policy.json for a registry.
fn policy(address: &str) -> String {
    format!("policy-{}.json", address.replace(':', "-"))
}

/// Writes a policy.json that demands alice's signature for the names that the images have at their origin.
fn write_policy(signed: &Signed, address: &str) {
    let text = demands(address, "/sealift/keys/alice.pub");
    signed.tools.write(&policy(address), text);
}

fn demands(address: &str, key: &str) -> String {
    json!({
        "default": [{ "type": "reject" }],
        "transports": { "docker": { address: [{
            "type": "sigstoreSigned",
            "keyPath": key,
            "signedIdentity": { "type": "remapIdentity", "prefix": address, "signedPrefix": ORIGIN },
        }] } },
    })
    .to_string()
}

/// Fails unless podman 5 pulls what skopeo has to pass, and nothing else.
#[track_caller]
pub fn assert_podman_agrees(signed: &Signed, address: &str) {
    let podman = Podman::new(Version::Five, User::Root);
    let home = [
        (
            "alice.pub",
            fs::read_to_string(signed.tools.outside("keys/alice.pub")).unwrap(),
        ),
        ("policy.json", demands(address, &podman.inside("home/alice.pub"))),
        (
            ".config/containers/registries.d/default.yaml",
            ATTACHMENTS.to_owned(),
        ),
    ];
    home.iter().for_each(|(name, text)| podman.write_home(name, text));
    let asked = CASES
        .iter()
        .flat_map(|case| case.says.iter().map(move |says| (case.name, says)));
    for (case, (_, says)) in asked.filter(|(_, (verifier, _))| *verifier == Verifier::Skopeo) {
        let policy = podman.inside("home/policy.json");
        let name = format!("{address}/acme/{case}:1.0");
        let run = podman.podman(&[
            "pull",
            "--quiet",
            "--tls-verify=false",
            "--signature-policy",
            &policy,
            &name,
        ]);
        assert!(is_so(&run, *says), "{case}: {says:?}, but {run:?}");
        let is_there = podman.podman(&["image", "exists", &name]).code == Some(0);
        assert_eq!(is_there, *says == Says::Passes, "{case}");
    }
}
