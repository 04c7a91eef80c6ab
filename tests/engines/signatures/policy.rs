//! Sealift's verdict by a policy is that of each tool.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::cases::{CASES, Says, Verifier};
use super::round::archive;
use super::signed::{ORIGIN, Signed};
use crate::support::Sealift;

/// Cases in which sealift differs. Cosign 3.1.1 takes an attestation for a signature of the image, sealift does not.
const DIFFERS: [(&str, Verifier); 1] = [("attested", Verifier::Cosign)];

/// Writes the policies, and gives whose demands they are.
fn policies(signed: &Signed, sealift: &Sealift) -> [(Verifier, &'static str); 3] {
    for (from, to) in [("keys/alice.pub", "alice.pub"), ("pki/acme.crt", "acme.crt")] {
        fs::copy(signed.tools.outside(from), sealift.path(to)).unwrap();
    }
    let own = |signers: Value| {
        let mut rule = json!({ "name": format!("{ORIGIN}/acme/*"), "require": "index" });
        rule.as_object_mut()
            .unwrap()
            .extend(signers.as_object().unwrap().clone());
        json!({ "kind": "SealiftPolicy", "schema": 1, "default": "reject", "images": [rule] })
    };
    let identities = ["x509.subject: C=DE, ST=HE, O=Acme, CN=Acme Release"];
    let containers = json!({
        "default": [{ "type": "reject" }],
        "transports": { "docker": { ORIGIN: [{ "type": "sigstoreSigned", "keyPath": sealift.path("alice.pub") }] } },
    });
    for (name, policy) in [
        ("cosign.json", own(json!({ "keys": ["alice.pub"] }))),
        (
            "notation.json",
            own(json!({ "certificates": [{ "roots": ["acme.crt"], "identities": identities }] })),
        ),
        ("policy.json", containers),
    ] {
        fs::write(sealift.path(name), policy.to_string()).unwrap();
    }
    [
        (Verifier::Cosign, "cosign.json"),
        (Verifier::Notation, "notation.json"),
        (Verifier::Skopeo, "policy.json"),
    ]
}

/// Fails unless the policy accepts the images of those cases that the tool passes, and no others.
#[track_caller]
fn assert_agrees(images: &Value, verifier: Verifier, address: &str) {
    let images = images.as_array().unwrap();
    let accepted: BTreeMap<&str, bool> = images
        .iter()
        .map(|image| {
            let name = image["name"].as_str().unwrap();
            (name, image["policy"]["accepted"].as_bool().unwrap())
        })
        .collect();
    let mut wrong = Vec::new();
    let asked = CASES
        .iter()
        .flat_map(|case| case.says.iter().map(move |says| (case.name, says)));
    for (case, (_, says)) in asked.filter(|(_, (asked, _))| *asked == verifier) {
        let expected = (*says == Says::Passes) != DIFFERS.contains(&(case, verifier));
        let found = accepted[format!("{address}/acme/{case}:1.0").as_str()];
        if found != expected {
            wrong.push(format!("{case}: {verifier:?} {says:?}, sealift: {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{images:#?}", wrong.join("\n"));
}

#[test]
fn a_policy_accepts_what_the_tools_pass_and_nothing_else() {
    let (signed, sealift) = (Signed::get(), Sealift::new());
    let (path, _) = archive(signed);
    for (verifier, policy) in policies(signed, &sealift) {
        let run = sealift.run(&["verify", "--json", "--policy", policy, path.to_str().unwrap()]);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert_agrees(&run.json()["archives"][0]["images"], verifier, ORIGIN);
    }
}
