//! Signatures of notation, as JWS and COSE.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::certificate::Certificate;
use super::check::Signers;
use super::notation::{COSE, Envelope, JWS, TrustedCertificates};
use super::signer::Signer;
use super::testing::{Fixture, file, key, now, signed_by, summary};
use super::trusted_identity::TrustedIdentity;

const ACME: &str = "C=XX, ST=Test, O=Acme Test";

fn store(root: &str, identities: &[&str]) -> Vec<TrustedCertificates> {
    let identities = identities.iter().map(|one| TrustedIdentity::parse(one).unwrap());
    vec![TrustedCertificates {
        roots: Certificate::roots_of_pem(&file(&format!("notation-trust/{root}.crt"))).unwrap(),
        identities: identities.collect(),
    }]
}

fn trusting(root: &str, identities: &[&str]) -> Signers {
    Signers {
        certificates: store(root, identities),
        ..Signers::default()
    }
}

/// 2026-11-26T13:58:00Z: before the signature and the certificate that are short-lived have expired.
fn before() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_701_480)
}

#[test]
fn verdicts_on_signatures_by_certificates() {
    let by = |name: &str| trusting("ca", &[&format!("{ACME}, CN=Acme Release {name}")]);
    let anyone = || trusting("ca", &["*"]);
    let others = |count| vec!["other-identity"; count];
    let later = UNIX_EPOCH + Duration::from_secs(2_200_000_000);
    for (name, what, signers, at, good, flaws) in [
        ("notation", "top", by("EC"), now(), 2, others(4)),
        ("notation", "top", by("RSA"), now(), 2, others(4)),
        ("notation", "top", by("EC384"), now(), 2, others(4)),
        ("notation", "top", anyone(), now(), 6, vec![]),
        (
            "notation",
            "top",
            trusting("ca", &["CN=Acme Release EC", "CN=Acme Release RSA"]),
            now(),
            4,
            others(2),
        ),
        (
            "notation",
            "top",
            anyone(),
            later,
            0,
            vec!["certificate-expired"; 6],
        ),
        (
            "notation",
            "top",
            anyone(),
            UNIX_EPOCH,
            0,
            vec!["certificate-expired"; 6],
        ),
        (
            "notation",
            "top",
            trusting("evilca", &["*"]),
            now(),
            0,
            vec!["untrusted-root"; 6],
        ),
        (
            "notation",
            "top",
            signed_by(&[key("alice")]),
            now(),
            0,
            vec!["not-in-policy"; 6],
        ),
        ("notation", "amd64", by("EC"), now(), 1, vec![]),
        ("notation-intermediate", "top", by("Deep"), now(), 2, vec![]),
        (
            "notation-intermediate",
            "top",
            trusting("inter", &["*"]),
            now(),
            2,
            vec![],
        ),
        ("notation-intermediate", "top", by("EC"), now(), 0, others(2)),
        (
            "neg-notation-expired-cert",
            "top",
            anyone(),
            now(),
            0,
            vec!["certificate-expired"; 2],
        ),
        (
            "neg-notation-expired-signature",
            "top",
            by("EC"),
            now(),
            0,
            vec!["expired"; 2],
        ),
        (
            "neg-notation-expired-signature",
            "top",
            by("EC"),
            before(),
            2,
            vec![],
        ),
        (
            "neg-notation-unknown-ca",
            "top",
            by("EC"),
            now(),
            0,
            vec!["untrusted-root"; 2],
        ),
        (
            "neg-notation-unknown-ca",
            "top",
            trusting("evilca", &["*"]),
            now(),
            2,
            vec![],
        ),
        (
            "neg-notation-moved",
            "top",
            by("Deep"),
            now(),
            0,
            vec!["other-image"; 2],
        ),
    ] {
        let fixture = Fixture::open(name);
        let verdict = fixture.check_as(&fixture.subject(what), "app:1", &signers, at);
        assert_eq!(summary(&verdict), (good, flaws), "{name} {what}: {verdict:#?}");
    }
}

#[test]
fn a_good_signature_tells_the_subject_and_the_root() {
    let fixture = Fixture::open("notation");
    let verdict = fixture.check("amd64", &trusting("ca", &["CN=Acme Release EC"]));
    let signed = verdict.good().next().unwrap();
    assert_eq!(
        signed.by,
        Signer::Certificate {
            subject: format!("{ACME}, CN=Acme Release EC"),
            root: format!("{ACME}, CN=Acme Test Root CA"),
        }
    );
    assert_eq!(signed.at.as_deref(), Some("2026-11-26T13:56:53Z"));
    assert_eq!(
        verdict.signatures[0].claimed,
        Some(format!("{ACME}, CN=Acme Release EC"))
    );
}

#[test]
fn the_size_and_the_media_type_of_the_image_are_signed_too() {
    let fixture = Fixture::open("notation");
    let signers = trusting("ca", &["*"]);
    let mut subject = fixture.subject("amd64");
    subject.descriptor.size += 1;
    assert_eq!(
        summary(&fixture.check_as(&subject, "app:1", &signers, now())),
        (0, vec!["other-image"])
    );
    let mut subject = fixture.subject("amd64");
    subject.descriptor.media_type = fixture.subject("top").descriptor.media_type;
    assert_eq!(
        summary(&fixture.check_as(&subject, "app:1", &signers, now())),
        (0, vec!["other-image"])
    );
}

/// The part of an envelope that no signature covers: who made it, by their own words.
const AGENT: &[u8] = b"notation-go/1.3.2";

#[test]
fn no_byte_of_an_envelope_can_change() {
    let fixture = Fixture::open("notation");
    let subject = fixture.subject("top").descriptor;
    let trusted = store("ca", &["CN=Acme Release EC"]);
    let is_good = |media_type: &str, bytes: &[u8]| {
        let envelope = Envelope::parse(media_type, bytes);
        envelope.is_ok_and(|envelope| envelope.check(&subject, &trusted, now()).is_ok())
    };
    let mut formats = Vec::new();
    for layer in fixture.layers("top") {
        let (media_type, bytes) = (layer.media_type.as_str(), fixture.blob(&layer.digest));
        if !is_good(media_type, &bytes) {
            continue; // by another signer
        }
        formats.push(media_type.to_string());
        let agent = bytes.windows(AGENT.len()).position(|part| part == AGENT).unwrap();
        // Its name, its type and the quotes around it are before it.
        let uncovered = agent - 50..agent + AGENT.len();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 7);
            let is_uncovered = uncovered.contains(&at);
            assert!(
                !is_good(media_type, &changed) || is_uncovered,
                "{media_type} byte {at}"
            );
        }
    }
    formats.sort();
    assert_eq!(formats, [COSE, JWS]);
}

#[test]
fn envelopes_that_are_none_are_flaws() {
    for (media_type, bytes, code) in [
        (JWS, &b"{}"[..], "malformed"),
        (
            JWS,
            br#"{"payload":"","protected":"e30","header":{"x5c":[]},"signature":""}"#,
            "malformed",
        ),
        (COSE, &[0xd2, 0x84], "malformed"),
        (COSE, &[0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40], "malformed"),
        (COSE, &[0xd2, 0x84, 0x41, 0xa0, 0xa0, 0x40, 0x40], "malformed"),
        (COSE, &[], "malformed"),
        ("application/json", b"{}", "not-supported"),
    ] {
        let flaw = Envelope::parse(media_type, bytes).unwrap_err();
        assert_eq!(flaw.code(), code, "{media_type} {bytes:?}: {flaw}");
    }
    // An unknown critical header is one that must be understood.
    let header = br#"{"alg":"ES256","crit":["io.cncf.notary.verificationPlugin"],"cty":"x"}"#;
    use base64::Engine as _;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header);
    let jws = format!(r#"{{"payload":"","protected":"{header}","header":{{"x5c":[]}},"signature":""}}"#);
    let flaw = Envelope::parse(JWS, jws.as_bytes()).unwrap_err();
    assert_eq!(
        flaw.to_string(),
        "the critical header io.cncf.notary.verificationPlugin is not supported"
    );
}

#[test]
fn only_certificates_that_can_vouch_for_others_are_roots() {
    for (name, says) in [
        (
            "ec",
            "the certificate of C=XX, ST=Test, O=Acme Test, CN=Acme Release EC is neither that of a CA nor self-signed",
        ),
        ("trustpolicy", ""),
    ] {
        let path = match name {
            "trustpolicy" => "notation-trust/trustpolicy.json".to_string(),
            name => format!("notation-trust/{name}.crt"),
        };
        let error = Certificate::roots_of_pem(&file(&path)).unwrap_err();
        assert!(error.starts_with(says), "{error}");
    }
}
