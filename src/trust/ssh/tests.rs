//! Signatures that `ssh-keygen` made, whole and damaged, and keys of every kind.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::rand::SystemRandom;
use ring::signature::*;

use super::wire::Write as _;
use super::{AllowedSigners, PublicKey, Signature, private_key};
use crate::error::{ErrorKind, SignatureProblem};

const LINE: &[u8] = include_bytes!("../../../testdata/signatures/ssh/line.txt");
const ALTERED: &[u8] = include_bytes!("../../../testdata/signatures/ssh/line.altered.txt");
const ED25519: &[u8] = include_bytes!("../../../testdata/signatures/ssh/line.ed25519.sig");
const ECDSA: &[u8] = include_bytes!("../../../testdata/signatures/ssh/line.ecdsa.sig");
const RSA: &[u8] = include_bytes!("../../../testdata/signatures/ssh/line.rsa.sig");
const SHA256: &[u8] = include_bytes!("../../../testdata/signatures/ssh/line.sha256.sig");
const MALLORY: &[u8] = include_bytes!("../../../testdata/signatures/ssh/line.mallory.sig");
const OTHER_NAMESPACE: &[u8] = include_bytes!("../../../testdata/signatures/ssh/line.wrong-namespace.sig");
const ALLOWED: &str = include_str!("../../../testdata/signatures/ssh/allowed_signers");
const ALICE_KEY: &str = include_str!("../../../testdata/signatures/ssh/id_ed25519.pub");
const NAMESPACE: &str = "sealift-archive";
const ALICE: &str = "alice@example.test";

fn allowed(text: &str) -> AllowedSigners {
    AllowedSigners::parse(text.as_bytes(), "allowed").unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The code of the problem of a signature of [`LINE`]; "good" if it has none.
fn verdict(
    allowed: &AllowedSigners,
    signature: &[u8],
    signer: Option<&str>,
    now: SystemTime,
) -> &'static str {
    let checked = Signature::parse(signature)
        .and_then(|signature| allowed.check(&signature, NAMESPACE, LINE, signer, now));
    checked.map_or_else(|problem| problem.code(), |_| "good")
}

#[test]
fn signatures_of_ssh_keygen_are_good() {
    let allowed = allowed(ALLOWED);
    for (text, key_type) in [
        (ED25519, "ssh-ed25519"),
        (ECDSA, "ecdsa-sha2-nistp256"),
        (RSA, "ssh-rsa"),
        (SHA256, "ssh-ed25519"),
    ] {
        let signature = Signature::parse(text).unwrap();
        assert_eq!(signature.armored().as_bytes(), text);
        for signer in [None, Some(ALICE)] {
            let signer = allowed.check(&signature, NAMESPACE, LINE, signer, at(0)).unwrap();
            assert_eq!((signer.principal.as_str(), signer.key_type), (ALICE, key_type));
        }
        let differs = signature.verify(NAMESPACE, ALTERED).unwrap_err();
        assert_eq!(differs.code(), "signature-differs");
    }
    // From `ssh-keygen -l`.
    let key = Signature::parse(ED25519).unwrap().key().fingerprint();
    assert_eq!(key, "SHA256:T+sNHD9SSD0p7RXafNwRO2qfUlh5iqkZOahhCvyh49E");
}

#[test]
fn who_may_sign_what_is_checked() {
    let key = ALICE_KEY.trim();
    let fixture = allowed(ALLOWED);
    assert_eq!(
        verdict(&fixture, OTHER_NAMESPACE, None, at(0)),
        "signature-namespace"
    );
    assert_eq!(verdict(&fixture, MALLORY, None, at(0)), "good");
    assert_eq!(verdict(&fixture, MALLORY, Some(ALICE), at(0)), "signer-differs");
    assert_eq!(
        verdict(&fixture, ED25519, Some("bob@example.test"), at(0)),
        "signer-differs"
    );
    for (line, signer, expected) in [
        (format!("alice@example.test {key}"), None, "good"),
        (format!("*@example.test {key}"), Some(ALICE), "good"),
        (
            format!("!alice@example.test,* {key}"),
            Some(ALICE),
            "signer-differs",
        ),
        (format!("\"bob@x,*@example.test\" {key}"), Some(ALICE), "good"),
        (
            format!("a namespaces=\"file,git\" {key}"),
            None,
            "signer-namespace",
        ),
        (format!("a namespaces=\"sealift-*\" {key}"), None, "good"),
        (
            format!("a namespaces=\"*,!sealift-archive\" {key}"),
            None,
            "signer-namespace",
        ),
        (format!("a NAMESPACES=\"sealift-archive\" {key}"), None, "good"),
        (format!("a valid-after=\"20260101Z\" {key}"), None, "good"),
        (
            format!("a valid-after=\"20260101000001Z\" {key}"),
            None,
            "signer-not-yet-valid",
        ),
        (format!("a valid-before=\"20260101Z\" {key}"), None, "good"),
        (
            format!("a valid-before=\"20251231235959Z\" {key}"),
            None,
            "signer-expired",
        ),
        (
            format!(
                "a valid-after=\"20250101Z\",valid-before=\"20270101Z\",namespaces=\"x,sealift-archive\" {key}"
            ),
            None,
            "good",
        ),
        (format!("a cert-authority {key}"), None, "signer-unknown"),
        // Any line that allows it is enough, and of the others, the signer's own says why.
        (format!("a namespaces=\"file\" {key}\na {key}"), None, "good"),
        (
            format!("a namespaces=\"file\" {key}\nb {key}"),
            Some("a"),
            "signer-namespace",
        ),
        (
            format!("b {key}\na namespaces=\"file\" {key}"),
            Some("a"),
            "signer-namespace",
        ),
        (ALLOWED.lines().last().unwrap().into(), None, "signer-unknown"),
    ] {
        let found = verdict(&allowed(&line), ED25519, signer, at(1_767_225_600));
        assert_eq!(found, expected, "{line}");
    }
}

#[test]
fn a_file_of_allowed_signers_is_read_strictly() {
    let key = ALICE_KEY.split_whitespace().nth(1).unwrap();
    let good = format!(
        "# comment\n\n \t# comment\na ssh-ed25519 {key} and a comment\r\n  b\tssh-ed25519   {key}\nc \
         namespaces=\"a\\\"b, c\" ssh-ed25519 {key}\ndan ecdsa-sha2-nistp521 \
         AAAAE2VjZHNhLXNoYTItbmlzdHA1MjE=\ne cert-authority ssh-ed25519-cert-v01@openssh.com \
         AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t"
    );
    assert_eq!(verdict(&allowed(&good), ED25519, Some("b"), at(0)), "good");
    for (line, says) in [
        (String::new(), "it names no signer"),
        ("# only a comment".into(), "it names no signer"),
        ("alice".into(), "line 1: the key is missing"),
        ("alice ssh-ed25519".into(), "line 1: not a key"),
        (
            format!("a ssh-ed25519 {}", &key[..40]),
            "line 1: not a key: it ends too early",
        ),
        (
            format!("a ssh-ed25519 {key}A"),
            "line 1: not a key: it is not base64",
        ),
        (
            format!("a ssh-rsa {key}"),
            "line 1: not a key: it is not of type ssh-rsa",
        ),
        (
            format!("a ssh-ed25519 {key}\nb x ssh-ed25519 {key}"),
            "line 2: x is neither an option",
        ),
        (
            format!("a namespaces=file ssh-ed25519 {key}"),
            "must be in quotes",
        ),
        (
            format!("a namespaces=\"file ssh-ed25519 {key}"),
            "a quote is not closed",
        ),
        (format!("\"a ssh-ed25519 {key}"), "a quote is not closed"),
        (format!("\"a\"b ssh-ed25519 {key}"), "a space is expected"),
        (format!("a\"b ssh-ed25519 {key}"), "have a quote inside"),
        (format!("\"\" ssh-ed25519 {key}"), "the principals are empty"),
        (
            format!("a namespaces ssh-ed25519 {key}"),
            "namespaces needs a value",
        ),
        (
            format!("a cert-authority=\"x\" ssh-ed25519 {key}"),
            "cert-authority has no value",
        ),
        (
            format!("a namespaces=\"x\",namespaces=\"y\" ssh-ed25519 {key}"),
            "is there twice",
        ),
        (
            format!("a namespaces=\"x\", ssh-ed25519 {key}"),
            "an option is expected",
        ),
        (
            format!("a namespaces=\"x\"y ssh-ed25519 {key}"),
            "an option is expected",
        ),
        (
            format!("a ,namespaces=\"x\" ssh-ed25519 {key}"),
            "neither an option",
        ),
        (
            format!("a valid-after=\"2026\" ssh-ed25519 {key}"),
            "valid-after=\"2026\": it is not",
        ),
        (
            format!("a valid-after=\"20260102Z\",valid-before=\"20260101Z\" ssh-ed25519 {key}"),
            "valid-before is not after valid-after",
        ),
        (format!("a\u{1b}[2J ssh-ed25519 {key}"), "control characters"),
        (
            format!("a namespaces=\"x\" ssh-unknown {key}"),
            "ssh-unknown is not a type of key",
        ),
    ] {
        let error = AllowedSigners::parse(line.as_bytes(), "allowed").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(says), "{line}: {error}");
        assert!(!error.to_string().contains('\u{1b}'));
    }
}

#[test]
fn no_bit_of_a_signature_can_be_changed() {
    let allowed = allowed(ALLOWED);
    for text in [ED25519, ECDSA, RSA, SHA256] {
        for at_byte in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.to_vec();
                changed[at_byte] ^= 1 << bit;
                assert_ne!(
                    verdict(&allowed, &changed, None, at(0)),
                    "good",
                    "byte {at_byte}, bit {bit}"
                );
            }
            // The last line end is not part of it.
            let cut = &text[..at_byte.min(text.len() - 2)];
            assert_ne!(verdict(&allowed, cut, None, at(0)), "good", "{at_byte} bytes");
        }
    }
}

/// The bytes of a signature, and their text again.
fn blob(text: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let lines: Vec<&str> = std::str::from_utf8(text).unwrap().lines().collect();
    let letters = lines[1..lines.len() - 1].concat();
    base64::engine::general_purpose::STANDARD.decode(letters).unwrap()
}

fn armored(blob: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let letters = base64::engine::general_purpose::STANDARD.encode(blob);
    format!("-----BEGIN SSH SIGNATURE-----\n{letters}\n-----END SSH SIGNATURE-----\n").into_bytes()
}

#[test]
fn no_byte_of_a_signature_can_be_another() {
    let allowed = allowed(ALLOWED);
    for text in [ED25519, ECDSA, SHA256] {
        let whole = blob(text);
        assert_eq!(verdict(&allowed, &armored(&whole), None, at(0)), "good");
        for at_byte in 0..whole.len() {
            for other in (1..=255).step_by(if at_byte % 7 == 0 { 1 } else { 50 }) {
                let mut changed = whole.clone();
                changed[at_byte] ^= other;
                assert_ne!(
                    verdict(&allowed, &armored(&changed), None, at(0)),
                    "good",
                    "byte {at_byte}"
                );
            }
        }
        for more in [&[0_u8][..], b"SSHSIG"] {
            let longer = [&whole[..], more].concat();
            assert_eq!(
                verdict(&allowed, &armored(&longer), None, at(0)),
                "signature-malformed"
            );
        }
    }
}

#[test]
fn texts_that_are_no_signature_are_told_from_others() {
    let allowed = allowed(ALLOWED);
    let two = [ED25519, ED25519].concat();
    let crlf = String::from_utf8_lossy(ED25519).replace('\n', "\r\n");
    for (text, expected) in [
        (&b""[..], "signature-malformed"),
        (b"\xff\xfe", "signature-malformed"),
        (
            b"-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
            "signature-malformed",
        ),
        (b"-----BEGIN PGP SIGNATURE-----\n", "signature-malformed"),
        (&two, "signature-malformed"),
        (crlf.as_bytes(), "good"),
        (&armored(b"SSHSIG\x00\x00\x00\x02"), "signature-unsupported"),
        (
            &armored(b"SSHSIG\x00\x00\x00\x01\xff\xff\xff\xff"),
            "signature-malformed",
        ),
    ] {
        assert_eq!(verdict(&allowed, text, None, at(0)), expected);
    }
}

/// A signature with this key and what the key made of the bytes to sign.
fn signature_by(
    key: &[u8],
    algorithm: &str,
    hash: &str,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
    more: &[u8],
) -> Vec<u8> {
    let digest = match hash {
        "sha256" => &ring::digest::SHA256,
        _ => &ring::digest::SHA512,
    };
    let mut signed = b"SSHSIG".to_vec();
    signed.put(NAMESPACE);
    signed.put("");
    signed.put(hash);
    signed.put(ring::digest::digest(digest, LINE));
    let mut signature = Vec::new();
    signature.put(algorithm);
    signature.put(sign(&signed));
    signature.extend_from_slice(more);
    let mut blob = b"SSHSIG\x00\x00\x00\x01".to_vec();
    blob.put(key);
    blob.put(NAMESPACE);
    blob.put("");
    blob.put(hash);
    blob.put(signature);
    armored(&blob)
}

fn line_of(key: &[u8], algorithm: &str) -> String {
    use base64::Engine as _;
    format!(
        "a {algorithm} {}",
        base64::engine::general_purpose::STANDARD.encode(key)
    )
}

fn numbers(fixed: &[u8]) -> Vec<u8> {
    let (r, s) = fixed.split_at(fixed.len() / 2);
    let mut numbers = Vec::new();
    numbers.put_integer(r);
    numbers.put_integer(s);
    numbers
}

#[test]
fn p384_is_supported_and_p521_is_told() {
    let random = SystemRandom::new();
    let algorithm = &ring::signature::ECDSA_P384_SHA384_FIXED_SIGNING;
    let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pair.as_ref(), &random).unwrap();
    let mut key = Vec::new();
    key.put("ecdsa-sha2-nistp384");
    key.put("nistp384");
    key.put(pair.public_key());
    // Numbers with leading zeros come along.
    for _ in 0..50 {
        let signature = signature_by(
            &key,
            "ecdsa-sha2-nistp384",
            "sha512",
            |signed| numbers(pair.sign(&random, signed).unwrap().as_ref()),
            b"",
        );
        let allowed = allowed(&line_of(&key, "ecdsa-sha2-nistp384"));
        assert_eq!(verdict(&allowed, &signature, None, at(0)), "good");
    }
    let mut key = Vec::new();
    key.put("ecdsa-sha2-nistp521");
    let signature = signature_by(&key, "ecdsa-sha2-nistp521", "sha512", |_| vec![0; 100], b"");
    let problem = Signature::parse(&signature).unwrap_err();
    assert_eq!(
        problem.to_string(),
        "a key of type ecdsa-sha2-nistp521 (P-521) is not supported"
    );
}

#[test]
fn security_keys_are_supported_if_somebody_touched_them() {
    let random = SystemRandom::new();
    let pair = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
    let name = "sk-ssh-ed25519@openssh.com";
    let mut key = Vec::new();
    key.put(name);
    key.put(pair.public_key());
    key.put("ssh:");
    let allowed = allowed(&line_of(&key, name));
    for (flags, expected) in [
        (1, "good"),
        (5, "good"),
        (0, "signature-unsupported"),
        (4, "signature-unsupported"),
    ] {
        let more = [flags, 0, 0, 0, 7];
        let sign = |signed: &[u8]| {
            let sha256 = |bytes| ring::digest::digest(&ring::digest::SHA256, bytes);
            let whole = [sha256(b"ssh:").as_ref(), &more, sha256(signed).as_ref()].concat();
            pair.sign(&whole).as_ref().to_vec()
        };
        let signature = signature_by(&key, name, "sha512", sign, &more);
        assert_eq!(verdict(&allowed, &signature, None, at(0)), expected, "{flags}");
        let other_counter = signature_by(&key, name, "sha512", sign, &[flags, 0, 0, 0, 8]);
        assert_ne!(verdict(&allowed, &other_counter, None, at(0)), "good");
        let cut = signature_by(&key, name, "sha512", sign, &[flags, 0, 0]);
        assert_eq!(verdict(&allowed, &cut, None, at(0)), "signature-malformed");
    }
}

#[test]
fn keys_and_signatures_that_are_too_weak_are_told() {
    let key = |bits: usize| {
        let mut key = Vec::new();
        key.put("ssh-rsa");
        key.put_integer(&[1, 0, 1]);
        key.put_integer(&vec![0xff; bits / 8]);
        key
    };
    for (bits, algorithm, says) in [
        (
            1024,
            "rsa-sha2-512",
            "an RSA key of 1024 bits (it must have 2048 to 8192) is not supported",
        ),
        (
            16_384,
            "rsa-sha2-512",
            "an RSA key of 16384 bits (it must have 2048 to 8192) is not supported",
        ),
        (2048, "ssh-rsa", "a signature by RSA with SHA-1 is not supported"),
    ] {
        let signature = signature_by(&key(bits), algorithm, "sha512", |_| vec![1; bits / 8], b"");
        let problem = Signature::parse(&signature).and_then(|signature| signature.verify(NAMESPACE, LINE));
        assert_eq!(problem.unwrap_err().to_string(), says);
    }
    // A key of one kind does not take signatures of another.
    let signature = Signature::parse(ED25519).unwrap();
    let forged = signature_by(
        signature.key().blob(),
        "ecdsa-sha2-nistp256",
        "sha512",
        |_| vec![0; 64],
        b"",
    );
    let problem = Signature::parse(&forged).and_then(|signature| signature.verify(NAMESPACE, LINE));
    assert!(
        matches!(problem, Err(SignatureProblem::Malformed { .. })),
        "{problem:?}"
    );
    let hash = signature_by(
        signature.key().blob(),
        "ssh-ed25519",
        "sha1",
        |_| vec![0; 64],
        b"",
    );
    assert_eq!(
        Signature::parse(&hash).unwrap_err().code(),
        "signature-unsupported"
    );
}

proptest::proptest! {
    #[test]
    fn nothing_panics(bytes: Vec<u8>, text: String) {
        let _ = Signature::parse(&bytes);
        let _ = Signature::parse(&armored(&bytes));
        let _ = Signature::parse(&armored(&[b"SSHSIG\x00\x00\x00\x01", &bytes[..]].concat()));
        let _ = PublicKey::parse(&bytes);
        let _ = AllowedSigners::parse(&bytes, "");
        let _ = AllowedSigners::parse(format!("a {text}").as_bytes(), "");
        let _ = private_key::PrivateKey::parse(&text);
    }
}
