//! Chains of certificates that openssl made, one rule broken in each.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::certificate::{Certificate, check_chain};
use super::testing::file;

/// A day in 2027, on which all of them are valid.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn certificate(name: &str) -> Certificate {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let pem = file(&format!("chains/{name}.pem"));
    Certificate::from_der(&CertificateDer::from_pem_slice(&pem).unwrap()).unwrap()
}

fn verdict(chain: &str, root: &str) -> String {
    let chain: Vec<Certificate> = chain.split_whitespace().map(certificate).collect();
    let found = check_chain(&chain, &[certificate(root)], now());
    found.map_or_else(|flaw| flaw.to_string(), Certificate::subject)
}

#[test]
fn each_rule_of_a_chain_is_checked() {
    let broken = |name: &str, why: &str| {
        format!("certificate chain: the certificate of C=XX, O=Acme Test, CN={name} {why}")
    };
    for (chain, root, expected) in [
        ("good root", "root", "C=XX, O=Acme Test, CN=Root".to_string()),
        ("deep inter root", "root", "C=XX, O=Acme Test, CN=Root".into()),
        (
            "deep inter root",
            "inter",
            "C=XX, O=Acme Test, CN=Intermediate".into(),
        ),
        ("self", "self", "C=XX, O=Acme Test, CN=Self".into()),
        ("", "root", "certificate chain: it is empty".into()),
        // The same subject, and another key.
        (
            "good root2",
            "root2",
            broken(
                "Good",
                "is not by C=XX, O=Acme Test, CN=Root: its signature is wrong",
            ),
        ),
        (
            "good root",
            "root2",
            "no certificate of the chain is in the policy; the last is of C=XX, O=Acme Test, CN=Root".into(),
        ),
        (
            "deep root",
            "root",
            broken(
                "Deep",
                "is not by C=XX, O=Acme Test, CN=Root: it names another issuer",
            ),
        ),
        (
            "deep inter",
            "inter",
            broken(
                "Intermediate",
                "is not by C=XX, O=Acme Test, CN=Intermediate: it names another issuer",
            ),
        ),
        (
            "toodeep inter2 inter root",
            "root",
            broken("Intermediate", "has too many certificates of CAs below it"),
        ),
        (
            "nousage root",
            "root",
            broken("No usage", "has no critical key usage"),
        ),
        (
            "uncritical root",
            "root",
            broken("Uncritical usage", "has no critical key usage"),
        ),
        (
            "enciphers root",
            "root",
            broken("Enciphers", "is not for digital signatures only"),
        ),
        (
            "server root",
            "root",
            broken("Server", "is not for signing code only"),
        ),
        (
            "both root",
            "root",
            broken("Both", "is not for signing code only"),
        ),
        (
            "leafca root",
            "root",
            broken("Leaf CA", "is that of a CA, which must not sign images"),
        ),
        ("byleaf noca root", "root", broken("No CA", "is not that of a CA")),
        (
            "bynosign nosign root",
            "root",
            broken("CA without signing", "is not for signing certificates"),
        ),
        (
            "byconstrained constrained root",
            "root",
            "certificate chain: the critical extension 2.5.29.30 of the certificate of C=XX, O=Acme Test, \
             CN=Constrained is not supported"
                .into(),
        ),
        (
            "sha512 root",
            "root",
            broken(
                "By SHA-512",
                "is not by C=XX, O=Acme Test, CN=Root: the algorithm 1.2.840.10045.4.3.4 is not supported for its key",
            ),
        ),
    ] {
        assert_eq!(verdict(chain, root), expected, "{chain}");
    }
    let long = "good ".to_string() + &"root ".repeat(10);
    assert_eq!(
        verdict(&long, "root"),
        "certificate chain: more than 10 certificates"
    );
}

#[test]
fn no_bit_of_a_certificate_can_change() {
    let pem = file("chains/good.pem");
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let der = CertificateDer::from_pem_slice(&pem).unwrap();
    let root = certificate("root");
    for at in 0..der.len() {
        let mut changed = der.to_vec();
        changed[at] ^= 1 << (at % 8);
        let Ok(changed) = Certificate::from_der(&changed) else {
            continue;
        };
        let chain = [changed, root.clone()];
        assert!(check_chain(&chain, &chain[1..], now()).is_err(), "byte {at}");
    }
}
