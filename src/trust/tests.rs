//! Real signatures, good and bad, with the verdicts that cosign and an independent verifier have on them.

use std::collections::BTreeMap;

use serde_json::json;

use super::bundle::Bundle;
use super::check::{MAX_SIGNATURES, ReferringManifest, Signers};
use super::flaw::Flaw;
use super::signed_identity::SignedIdentity;
use super::signer::Signer;
use super::testing::{Fixture, file, key, logged_key, now, signed_by, summary};
use super::{Artifact, ArtifactKind, MAX_ENVELOPE, statement};
use crate::oci::{Descriptor, Document, MediaType};

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

#[test]
fn verdicts_on_signatures_by_keys() {
    let by = |name: &str| signed_by(&[key(name)]);
    let logged = |log: &str| signed_by(&[logged_key("alice", log)]);
    let (rekor, root) = ("keys/rekor.pub", "keys/trusted-root.json");
    let cases: &[(&str, &str, Signers, usize, &[&str])] = &[
        ("cosign-old", "top", by("alice"), 1, &["wrong-key"]),
        ("cosign-old", "top", by("mallory"), 1, &["wrong-key"]),
        (
            "cosign-old",
            "top",
            signed_by(&[key("mallory"), key("alice")]),
            2,
            &[],
        ),
        ("cosign-old", "amd64", by("alice"), 1, &[]),
        ("cosign-old", "amd64", by("mallory"), 0, &["wrong-key"]),
        ("cosign-old", "arm64", by("alice"), 1, &[]),
        ("cosign-old", "att-amd64", by("alice"), 1, &[]),
        ("cosign-old", "att-arm64", by("alice"), 1, &[]),
        (
            "cosign-old",
            "top",
            logged(rekor),
            0,
            &["not-logged", "wrong-key"],
        ),
        (
            "cosign-old",
            "top",
            Signers::default(),
            0,
            &["not-in-policy", "not-in-policy"],
        ),
        ("cosign-bundle", "top", by("alice"), 1, &["wrong-key"]),
        ("cosign-bundle", "top", by("mallory"), 1, &["wrong-key"]),
        ("cosign-bundle", "amd64", by("alice"), 1, &[]),
        ("cosign-bundle", "arm64", by("alice"), 1, &[]),
        ("cosign-bundle", "att-amd64", by("alice"), 1, &[]),
        ("cosign-bundle", "att-arm64", by("alice"), 1, &[]),
        ("cosign-bundle", "amd64", logged(rekor), 0, &["not-logged"]),
        (
            "cosign-bundle-message",
            "top",
            by("alice"),
            0,
            &["message-signature"],
        ),
        ("cosign-bundle-tlog", "top", by("alice"), 1, &[]),
        ("cosign-bundle-tlog", "top", by("mallory"), 0, &["wrong-key"]),
        ("cosign-bundle-tlog", "top", logged(rekor), 1, &[]),
        ("cosign-bundle-tlog", "top", logged(root), 1, &[]),
        (
            "cosign-bundle-tlog",
            "top",
            logged("keys/alice.pub"),
            0,
            &["other-log"],
        ),
        ("cosign-old-tlog", "top", by("alice"), 1, &[]),
        ("cosign-old-tlog", "top", logged(rekor), 1, &[]),
        ("cosign-old-tlog", "top", logged(root), 1, &[]),
        (
            "cosign-old-tlog",
            "top",
            logged("keys/mallory.pub"),
            0,
            &["other-log"],
        ),
        ("cosign-key-p384", "top", by("k-p384"), 2, &[]),
        (
            "cosign-key-p384",
            "top",
            by("alice"),
            0,
            &["wrong-key", "wrong-key"],
        ),
        ("cosign-key-rsa2048", "top", by("k-rsa2048"), 2, &[]),
        (
            "cosign-key-rsa2048",
            "top",
            by("k-rsa4096"),
            0,
            &["wrong-key", "wrong-key"],
        ),
        // cosign refuses its own signatures of these.
        (
            "cosign-key-p521",
            "top",
            by("k-p521"),
            0,
            &["not-supported", "not-supported"],
        ),
        (
            "cosign-key-ed25519",
            "top",
            by("k-ed25519"),
            0,
            &["not-supported", "not-supported"],
        ),
        // cosign takes these for signatures of the image.
        (
            "attestations",
            "amd64",
            by("alice"),
            0,
            &["attestation", "attestation", "attestation"],
        ),
        ("attestations", "top", by("alice"), 0, &["attestation"]),
        ("neg-unsigned", "top", by("alice"), 0, &[]),
        (
            "neg-wrong-key",
            "top",
            by("alice"),
            0,
            &["wrong-key", "wrong-key"],
        ),
        ("neg-wrong-key", "top", by("mallory"), 2, &[]),
        ("neg-tampered", "top", by("alice"), 0, &["wrong-key", "wrong-key"]),
        ("neg-moved-old", "top", by("alice"), 0, &["other-image"]),
        ("neg-moved-bundle", "top", by("alice"), 0, &["other-image"]),
        ("neg-tag-swapped", "top", by("alice"), 0, &[]),
        ("neg-tag-swapped", "signed", by("alice"), 2, &[]),
        ("buildkit-classic", "top", by("alice"), 0, &[]),
        ("buildkit-oci-artifact", "top", by("alice"), 0, &[]),
    ];
    for (name, what, signers, good, flaws) in cases {
        let verdict = Fixture::open(name).check(what, signers);
        assert_eq!(
            summary(&verdict),
            (*good, flaws.to_vec()),
            "{name} {what}: {verdict:#?}"
        );
    }
}

#[test]
fn a_good_signature_tells_by_whom_and_when() {
    let signers = signed_by(&[logged_key("alice", "keys/rekor.pub")]);
    for name in ["cosign-old-tlog", "cosign-bundle-tlog"] {
        let verdict = Fixture::open(name).check("top", &signers);
        let signed = verdict.good().next().unwrap();
        let Signer::Key { name, id } = &signed.by else {
            panic!("{signed:?}");
        };
        assert_eq!(
            (name.as_str(), id.as_str()),
            ("alice", "ep1TBLI6iRfeECYOzx47gpExBqZIETYAtBGxIqp5h8M=")
        );
        let log = signed.log.as_ref().unwrap();
        assert!(
            signed.at.as_ref().unwrap().starts_with("2026-11-26T14:03:0"),
            "{signed:?}"
        );
        assert_eq!(
            log.log_id,
            "4b44685109d39d14e7b282ffb7a4b017faec3a79b7562786870eeda48217e58e"
        );
        assert!([5, 7].contains(&log.index));
    }
}

#[test]
fn one_bad_signature_beside_a_good_one_is_reported() {
    for (name, media_type) in [("cosign-old", SIMPLE_SIGNING), ("cosign-bundle", BUNDLE)] {
        let mut fixture = Fixture::open(name);
        let layer = fixture.layers("amd64").remove(0);
        let mut bad = layer.clone();
        let mut bytes = fixture.blob(&layer.digest);
        match media_type {
            SIMPLE_SIGNING => {
                let text = bad.annotations.values_mut().next().unwrap();
                *text = text.replacen('A', "B", 1);
                assert_ne!(bad, layer);
            }
            _ => {
                let text = String::from_utf8(bytes).unwrap().replacen("IDW", "IDX", 1);
                let text = text.replacen("\"sig\":\"MEQCIE", "\"sig\":\"MEQCIF", 1);
                bytes = text.into_bytes();
                bad = fixture.add(media_type, bytes);
                assert_ne!(bad, layer);
            }
        }
        let good = fixture.subject("amd64").referring;
        let mut subject = fixture.with_layer("amd64", &bad);
        subject.referring.extend(good);
        let verdict = fixture.check_as(&subject, "app:1", &signed_by(&[key("alice")]), now());
        assert_eq!(summary(&verdict), (1, vec!["wrong-key"]), "{name}");
        assert_eq!(verdict.bad().count(), 1);
    }
}

#[test]
fn a_referrer_of_another_manifest_is_none_of_this() {
    let fixture = Fixture::open("cosign-bundle");
    let mut subject = fixture.subject("amd64");
    subject.referring = fixture.subject("arm64").referring;
    let verdict = fixture.check_as(&subject, "app:1", &signed_by(&[key("alice")]), now());
    assert_eq!(summary(&verdict), (0, vec![]));
}

#[test]
fn the_name_in_a_signature_counts_if_asked_for() {
    let identity = |identity| Signers {
        identity: Some(identity),
        ..signed_by(&[key("alice")])
    };
    let old = Fixture::open("cosign-old");
    let bundle = Fixture::open("cosign-bundle");
    for (fixture, image, rule, expected) in [
        (
            &old,
            "registry.example.test/acme/fold:1.0",
            SignedIdentity::MatchExact,
            (1, vec![]),
        ),
        (
            &old,
            "registry.example.test/acme/fold:1.1",
            SignedIdentity::MatchExact,
            (0, vec!["other-name"]),
        ),
        (
            &old,
            "registry.example.test/acme/fold:1.1",
            SignedIdentity::MatchRepository,
            (1, vec![]),
        ),
        (
            &old,
            "registry.example.test/acme/other:1.0",
            SignedIdentity::MatchRepository,
            (0, vec!["other-name"]),
        ),
        (
            &bundle,
            "registry.example.test/acme/fold:1.0",
            SignedIdentity::MatchRepository,
            (0, vec!["no-name"]),
        ),
    ] {
        let verdict = fixture.check_as(&fixture.subject("amd64"), image, &identity(rule), now());
        assert_eq!(summary(&verdict), expected, "{image}");
    }
}

#[test]
fn attestations_are_checked_by_their_type_and_subject() {
    let fixture = Fixture::open("attestations");
    let about = fixture.digest("amd64");
    let bundles: Vec<Bundle> = fixture
        .layers("amd64")
        .iter()
        .filter(|layer| layer.media_type.as_str() == BUNDLE)
        .map(|layer| Bundle::parse(&fixture.blob(&layer.digest)).unwrap())
        .collect();
    assert_eq!(bundles.len(), 3);
    for predicate in [
        "https://slsa.dev/provenance/v1",
        "https://spdx.dev/Document",
        "https://example.test/review/v1",
    ] {
        let count = |subject, keys: &[_]| {
            let results = bundles.iter().map(|one| one.check(&subject, keys, predicate));
            results.filter(Result::is_ok).count()
        };
        assert_eq!(count(about, &[key("alice")]), 1, "{predicate}");
        assert_eq!(count(about, &[key("mallory")]), 0, "{predicate}");
        assert_eq!(count(fixture.digest("arm64"), &[key("alice")]), 0, "{predicate}");
    }
}

/// Each byte, changed in one bit: none may pass.
fn flips(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len()).map(|at| {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1 << (at % 7);
        (at, changed)
    })
}

#[test]
fn no_byte_of_a_simple_signing_document_or_its_signature_can_change() {
    let mut fixture = Fixture::open("cosign-old");
    let layer = fixture.layers("amd64").remove(0);
    let signers = signed_by(&[key("alice")]);
    let bytes = fixture.blob(&layer.digest);
    for (at, changed) in flips(&bytes) {
        let mut other = fixture.add(SIMPLE_SIGNING, changed);
        other.annotations.clone_from(&layer.annotations);
        let subject = fixture.with_layer("amd64", &other);
        let verdict = fixture.check_as(&subject, "app:1", &signers, now());
        assert_eq!(summary(&verdict), (0, vec!["wrong-key"]), "byte {at}");
    }
    let signature = &layer.annotations["dev.cosignproject.cosign/signature"];
    for (at, changed) in flips(signature.as_bytes()) {
        let mut other = layer.clone();
        let changed = String::from_utf8(changed).unwrap();
        other.annotations = BTreeMap::from([("dev.cosignproject.cosign/signature".into(), changed)]);
        let subject = fixture.with_layer("amd64", &other);
        let verdict = fixture.check_as(&subject, "app:1", &signers, now());
        assert_eq!(verdict.good().count(), 0, "byte {at}");
    }
}

#[test]
fn no_byte_of_an_envelope_or_a_log_entry_can_change() {
    let fixture = Fixture::open("cosign-bundle-tlog");
    let (digest, layer) = (fixture.digest("top"), fixture.layers("top").remove(0));
    let bytes = fixture.blob(&layer.digest);
    let keys = [logged_key("alice", "keys/rekor.pub")];
    let is_good = |bytes: &[u8]| {
        Bundle::parse(bytes).is_ok_and(|bundle| bundle.check(&digest, &keys, statement::SIGNATURE).is_ok())
    };
    assert!(is_good(&bytes));
    let text = String::from_utf8(bytes.clone()).unwrap();
    let uncovered: Vec<std::ops::Range<usize>> = [
        // The hint at the key, and the name beside the signature under the checkpoint.
        r#""publicKey":{"hint":"ep1TBLI6iRfeECYOzx47gpExBqZIETYAtBGxIqp5h8M="},"#,
        "sealift.test S0Ro",
        // The entry says it again, and what the log signed counts.
        r#"{"kind":"dsse","version":"0.0.1"}"#,
    ]
    .iter()
    .filter_map(|part| text.find(part).map(|start| start..start + part.len()))
    .collect();
    assert_eq!(uncovered.len(), 3, "{text}");
    let mut passed = 0;
    for (at, changed) in flips(&bytes) {
        if is_good(&changed) {
            passed += 1;
            assert!(
                uncovered.iter().any(|range| range.contains(&at)),
                "byte {at}: {}",
                &text[at..]
            );
        }
    }
    assert!(passed > 40, "{passed}");
}

#[test]
fn no_byte_of_the_entry_beside_an_old_signature_can_change() {
    let mut fixture = Fixture::open("cosign-old-tlog");
    let layer = fixture.layers("top").remove(0);
    let signers = signed_by(&[logged_key("alice", "keys/rekor.pub")]);
    let name = "dev.sigstore.cosign/bundle";
    for (at, changed) in flips(layer.annotations[name].as_bytes()) {
        let mut other = layer.clone();
        let Ok(changed) = String::from_utf8(changed) else {
            continue;
        };
        other.annotations.insert(name.into(), changed);
        let subject = fixture.with_layer("top", &other);
        let verdict = fixture.check_as(&subject, "app:1", &signers, now());
        assert_eq!(verdict.good().count(), 0, "byte {at}");
    }
}

#[test]
fn what_is_large_missing_or_other_content_is_a_flaw() {
    let mut fixture = Fixture::open("cosign-bundle");
    let signers = signed_by(&[key("alice")]);
    let layer = fixture.layers("amd64").remove(0);
    let large = Descriptor {
        size: MAX_ENVELOPE + 1,
        ..layer.clone()
    };
    let missing = Descriptor {
        digest: crate::oci::Digest::sha256(b"missing"),
        ..layer.clone()
    };
    for (layer, code) in [(large, "too-large"), (missing, "unreadable")] {
        let subject = fixture.with_layer("amd64", &layer);
        let verdict = fixture.check_as(&subject, "app:1", &signers, now());
        assert_eq!(summary(&verdict), (0, vec![code]));
    }
    let mut subject = fixture.subject("amd64");
    subject.referring[0].manifest.push(b' ');
    let verdict = fixture.check_as(&subject, "app:1", &signers, now());
    assert_eq!(summary(&verdict), (0, vec!["unreadable"]));
    for (text, code) in [
        ("{}", "malformed"),
        ("[", "malformed"),
        (
            r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.4+json"}"#,
            "not-supported",
        ),
        (
            r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{}}"#,
            "malformed",
        ),
        (&"[".repeat(100_000), "malformed"),
    ] {
        let layer = fixture.add(BUNDLE, text.into());
        let subject = fixture.with_layer("amd64", &layer);
        let verdict = fixture.check_as(&subject, "app:1", &signers, now());
        assert_eq!(
            summary(&verdict),
            (0, vec![code]),
            "{}",
            &text[..text.len().min(80)]
        );
    }
}

#[test]
fn a_keyless_signature_is_not_supported_rather_than_bad() {
    let mut fixture = Fixture::open("cosign-bundle");
    let layer = fixture.layers("amd64").remove(0);
    let text = String::from_utf8(fixture.blob(&layer.digest)).unwrap();
    let start = text.find(r#""publicKey""#).unwrap();
    let end = text.find(r#"},"dsseEnvelope""#).unwrap();
    let text = format!(
        "{}\"certificate\":{{\"rawBytes\":\"MAA=\"}}{}",
        &text[..start],
        &text[end..]
    );
    let layer = fixture.add(BUNDLE, text.into());
    let subject = fixture.with_layer("amd64", &layer);
    let verdict = fixture.check_as(&subject, "app:1", &signed_by(&[key("alice")]), now());
    assert_eq!(summary(&verdict), (0, vec!["keyless"]));
}

#[test]
fn at_most_a_thousand_signatures_are_checked() {
    let mut fixture = Fixture::open("cosign-old");
    let layer = fixture.layers("amd64").remove(0);
    let config = fixture.add(MediaType::OCI_EMPTY, b"{}".to_vec());
    let layers = vec![layer; MAX_SIGNATURES + 5];
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": layers,
    });
    let manifest = manifest.to_string().into_bytes();
    let descriptor = fixture.add(MediaType::OCI_MANIFEST, manifest.clone());
    let mut subject = fixture.subject("amd64");
    subject.referring = vec![ReferringManifest { descriptor, manifest }];
    let verdict = fixture.check_as(&subject, "app:1", &Signers::default(), now());
    assert_eq!((verdict.signatures.len(), verdict.unchecked), (MAX_SIGNATURES, 5));
}

#[test]
fn artifacts_are_told_by_what_is_in_them() {
    use ArtifactKind::{Attestation, CosignBundle, CosignSignature, Sbom};
    let alice = "ep1TBLI6iRfeECYOzx47gpExBqZIETYAtBGxIqp5h8M=";
    let slsa = "https://slsa.dev/provenance/v1";
    let sign = "https://sigstore.dev/cosign/sign/v1";
    let found = |name: &str, what: &str| -> Vec<(ArtifactKind, String, Vec<String>, Vec<String>)> {
        let fixture = Fixture::open(name);
        let referring = fixture.subject(what).referring.into_iter();
        let mut found: Vec<_> = referring
            .map(|one| {
                let document = Document::parse(&one.descriptor.media_type, one.manifest).unwrap();
                let mut fetch = |descriptor: &Descriptor, _: u64| fixture.fetch(descriptor);
                let artifact = Artifact::read(&document, &mut fetch).unwrap();
                assert_eq!(Artifact::of(&document).kind, artifact.kind);
                (
                    artifact.kind,
                    artifact.artifact_type,
                    artifact.predicate_types,
                    artifact.signers,
                )
            })
            .collect();
        found.sort();
        found
    };
    let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        found("cosign-old", "amd64"),
        [(CosignSignature, SIMPLE_SIGNING.into(), vec![], vec![])]
    );
    assert_eq!(
        found("cosign-bundle", "amd64"),
        [(CosignBundle, BUNDLE.into(), texts(&[sign]), texts(&[alice]))]
    );
    let all = found("attestations", "amd64");
    let kinds: Vec<ArtifactKind> = all.iter().map(|one| one.0).collect();
    assert_eq!(
        kinds,
        [Attestation, Attestation, Attestation, Attestation, Sbom, Sbom],
        "{all:#?}"
    );
    assert!(
        all.contains(&(Attestation, BUNDLE.into(), texts(&[slsa]), texts(&[alice]))),
        "{all:#?}"
    );
    assert!(
        all.contains(&(Sbom, "text/spdx+json".into(), vec![], vec![])),
        "{all:#?}"
    );
    assert!(
        all.contains(&(Sbom, "application/spdx+json".into(), vec![], vec![])),
        "{all:#?}"
    );
    let fixture = Fixture::open("buildkit-oci-artifact");
    let index = fixture.blob(&fixture.digest("top"));
    let Ok(Document::Index(index)) = Document::parse(&MediaType::new(MediaType::OCI_INDEX), index) else {
        panic!("not an index");
    };
    let entry = index
        .manifests
        .iter()
        .find(|entry| entry.attests().is_some())
        .unwrap();
    let document = Document::parse(&entry.media_type, fixture.blob(&entry.digest)).unwrap();
    let artifact = Artifact::of(&document);
    assert_eq!(artifact.kind, Attestation);
    assert_eq!(
        artifact.artifact_type,
        "application/vnd.docker.attestation.manifest.v1+json"
    );
    assert_eq!(artifact.predicate_types, texts(&[slsa]));
}

#[test]
fn flaws_escape_what_comes_from_outside() {
    let flaw = Flaw::other_image(format!("a\u{1b}[2J{}", "x".repeat(10_000)));
    let text = flaw.to_string();
    assert!(
        text.starts_with("a signature of another image: a\\u{1b}[2Jxx"),
        "{text}"
    );
    assert!(text.len() < 400, "{}", text.len());
}

#[test]
fn keys_that_no_signature_can_be_checked_with_are_refused() {
    use super::key::PublicKey;
    let certificate = file("notation-trust/ca.crt");
    for (text, says) in [
        (&b""[..], "no block -----BEGIN PUBLIC KEY-----"),
        (&certificate, "no block -----BEGIN PUBLIC KEY-----"),
        (
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "not a public key",
        ),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n", "not PEM"),
    ] {
        let error = PublicKey::from_pem(text).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    let two = [file("keys/alice.pub"), file("keys/mallory.pub")].concat();
    assert!(
        PublicKey::from_pem(&two)
            .unwrap_err()
            .contains("several public keys")
    );
}
