//! X.509 certificates of signers, and the rules for chains of them.
//!
//! Source: RFC 5280; Notary Project, `specs/signature-specification.md`, "Certificate Requirements"; notation-core-go,
//! `x509/codesigning_cert_validations.go`.

use std::time::SystemTime;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::oid::{AssociatedOid, ObjectIdentifier};
use x509_cert::der::{Decode, Encode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::name::Name;

use super::flaw::{Flaw, clipped};
use super::key::PublicKey;
use crate::date;

/// Most certificates of a chain.
const MAX_CHAIN: usize = 10;
/// Largest certificate, in bytes.
const MAX_CERTIFICATE: usize = 64 << 10;
const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
/// Extended key usages that a certificate for signing must not have as well: any, server and client authentication, email
/// protection, timestamping, OCSP signing.
const OTHER_PURPOSES: [ObjectIdentifier; 6] = [
    ObjectIdentifier::new_unwrap("2.5.29.37.0"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.4"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9"),
];
/// The names of attributes: RFC 4514, section 3, and those that other tools show.
const ATTRIBUTES: [(&str, &str); 12] = [
    ("2.5.4.6", "C"),
    ("2.5.4.8", "ST"),
    ("2.5.4.7", "L"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.17", "POSTALCODE"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.3", "CN"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "EMAILADDRESS"),
];

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    der: Vec<u8>,
    parsed: x509_cert::Certificate,
}

/// What a certificate in a chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Signer,
    /// With the number of certificates of CAs below it.
    Issuer(usize),
}

impl Certificate {
    /// Parses DER.
    ///
    /// # Errors
    ///
    /// If it is not strictly DER, or not a certificate.
    pub(super) fn from_der(der: &[u8]) -> Result<Certificate, String> {
        if der.len() > MAX_CERTIFICATE {
            return Err(format!("a certificate of more than {MAX_CERTIFICATE} bytes"));
        }
        let parsed = x509_cert::Certificate::from_der(der);
        Ok(Certificate {
            der: der.into(),
            parsed: parsed.map_err(|error| format!("not a certificate: {error}"))?,
        })
    }

    /// Reads the certificates of a PEM file that a policy may rely on: those of CAs, and self-signed ones.
    ///
    /// # Errors
    ///
    /// The error says what is wrong, to come after the file's name.
    pub(crate) fn roots_of_pem(text: &[u8]) -> Result<Vec<Certificate>, String> {
        let mut roots = Vec::new();
        for block in CertificateDer::pem_slice_iter(text) {
            let block = block.map_err(|error| format!("not PEM: {error}"))?;
            let root = Certificate::from_der(&block)?;
            if !root.is_ca() && root.check_issued_by(&root).is_err() {
                return Err(format!(
                    "the certificate of {} is neither that of a CA nor self-signed",
                    root.subject()
                ));
            }
            roots.push(root);
        }
        match roots.is_empty() {
            true => Err("it has no block -----BEGIN CERTIFICATE-----".into()),
            false => Ok(roots),
        }
    }

    /// The subject: `C=XX, O=Acme, CN=Release`.
    pub(super) fn subject(&self) -> String {
        clipped(&written(self.parsed.tbs_certificate().subject()))
    }

    /// The attributes of the subject, by their short names or else their numbers.
    pub(super) fn subject_attributes(&self) -> Vec<(String, String)> {
        let subject = self.parsed.tbs_certificate().subject();
        subject.iter().map(attribute).collect()
    }

    pub(super) fn public_key(&self) -> Result<PublicKey, String> {
        let key = self.parsed.tbs_certificate().subject_public_key_info();
        let der = key.to_der().map_err(|error| error.to_string())?;
        PublicKey::from_der(&der)
    }

    fn is_ca(&self) -> bool {
        matches!(self.extension::<BasicConstraints>(), Ok(Some((_, basic))) if basic.ca)
    }

    /// An extension, and whether it is critical.
    fn extension<T: for<'a> Decode<'a> + AssociatedOid>(&self) -> Result<Option<(bool, T)>, String> {
        let found = self.parsed.tbs_certificate().get_extension::<T>();
        found.map_err(|_| {
            format!(
                "the extension {} of the certificate of {} is malformed",
                T::OID,
                self.subject()
            )
        })
    }

    /// Whether another certificate's key signed this one, and its subject is the issuer of this one.
    fn check_issued_by(&self, issuer: &Certificate) -> Result<(), String> {
        let failed = |why: &str| {
            Err(format!(
                "the certificate of {} is not by {}: {why}",
                self.subject(),
                issuer.subject()
            ))
        };
        let (own, above) = (self.parsed.tbs_certificate(), issuer.parsed.tbs_certificate());
        if own.issuer() != above.subject() {
            return failed("it names another issuer");
        }
        let algorithm = self.parsed.signature_algorithm();
        if own.signature() != algorithm {
            return failed("it names two algorithms");
        }
        let contents = |algorithm: &x509_cert::spki::AlgorithmIdentifierOwned| {
            let der = algorithm.to_der().ok()?;
            AnyRef::from_der(&der).ok().map(|any| any.value().to_vec())
        };
        let key = above.subject_public_key_info();
        let (Some(signed_by), Some(key_of)) = (contents(algorithm), contents(&key.algorithm)) else {
            return failed("its algorithm is malformed");
        };
        let (Ok(message), Some(signature), Some(bits)) = (
            own.to_der(),
            self.parsed.signature().as_bytes(),
            key.subject_public_key.as_bytes(),
        ) else {
            return failed("it is malformed");
        };
        let provider = default_provider();
        let mut fitting = provider
            .signature_verification_algorithms
            .all
            .iter()
            .filter(|one| *one.signature_alg_id() == *signed_by && *one.public_key_alg_id() == *key_of)
            .peekable();
        if fitting.peek().is_none() {
            return failed(&format!(
                "the algorithm {} is not supported for its key",
                algorithm.oid
            ));
        }
        match fitting.any(|one| one.verify_signature(bits, &message, signature).is_ok()) {
            true => Ok(()),
            false => failed("its signature is wrong"),
        }
    }

    /// Checks what the certificate may be used for.
    fn check_use(&self, purpose: Use) -> Result<(), String> {
        let name = || format!("the certificate of {}", self.subject());
        self.check_critical()?;
        let basic = self.extension::<BasicConstraints>()?;
        let usage = self.extension::<KeyUsage>()?;
        let Some((true, usage)) = usage else {
            return Err(format!("{} has no critical key usage", name()));
        };
        if let Use::Issuer(below) = purpose {
            let Some((
                true,
                BasicConstraints {
                    ca: true,
                    path_len_constraint,
                },
            )) = basic
            else {
                return Err(format!("{} is not that of a CA", name()));
            };
            if !usage.key_cert_sign() {
                return Err(format!("{} is not for signing certificates", name()));
            }
            if path_len_constraint.is_some_and(|most| usize::from(most) < below) {
                return Err(format!("{} has too many certificates of CAs below it", name()));
            }
            return Ok(());
        }
        if basic.is_some_and(|(_, basic)| basic.ca) {
            return Err(format!("{} is that of a CA, which must not sign images", name()));
        }
        let is_for_more = usage.key_encipherment()
            || usage.data_encipherment()
            || usage.key_agreement()
            || usage.key_cert_sign()
            || usage.crl_sign();
        if !usage.digital_signature() || is_for_more {
            return Err(format!("{} is not for digital signatures only", name()));
        }
        if let Some((_, ExtendedKeyUsage(purposes))) = self.extension::<ExtendedKeyUsage>()? {
            let is_for_others = purposes.iter().any(|one| OTHER_PURPOSES.contains(one));
            if !purposes.contains(&CODE_SIGNING) || is_for_others {
                return Err(format!("{} is not for signing code only", name()));
            }
        }
        Ok(())
    }

    /// Refuses extensions that must be understood and are not, such as constraints of names, and those that occur twice.
    fn check_critical(&self) -> Result<(), String> {
        let known = [
            BasicConstraints::OID,
            KeyUsage::OID,
            ExtendedKeyUsage::OID,
            SubjectAltName::OID,
        ];
        let mut seen = Vec::new();
        for extension in self.parsed.tbs_certificate().extensions().into_iter().flatten() {
            let id = extension.extn_id;
            if seen.contains(&id) {
                return Err(format!(
                    "the certificate of {} has the extension {id} twice",
                    self.subject()
                ));
            }
            if extension.critical && !known.contains(&id) {
                return Err(format!(
                    "the critical extension {id} of the certificate of {} is not supported",
                    self.subject()
                ));
            }
            seen.push(id);
        }
        Ok(())
    }

    fn check_time(&self, now: SystemTime) -> Result<(), Flaw> {
        let validity = self.parsed.tbs_certificate().validity();
        let (from, until) = (
            validity.not_before.to_system_time(),
            validity.not_after.to_system_time(),
        );
        match now >= from && now <= until {
            true => Ok(()),
            false => Err(Flaw::CertificateExpired {
                subject: self.subject(),
                from: date::to_rfc3339(from),
                until: date::to_rfc3339(until),
            }),
        }
    }
}

/// Checks a chain, the signer's certificate first: each is by the next, the last is by itself, each may do what it does
/// and is valid now, and one of them is a root of the policy's. Gives that root.
pub(super) fn check_chain<'c>(
    chain: &'c [Certificate],
    roots: &[Certificate],
    now: SystemTime,
) -> Result<&'c Certificate, Flaw> {
    let Some(last) = chain.last() else {
        return Err(Flaw::chain("it is empty"));
    };
    if chain.len() > MAX_CHAIN {
        return Err(Flaw::chain(format!("more than {MAX_CHAIN} certificates")));
    }
    for (at, certificate) in chain.iter().enumerate() {
        let issuer = chain.get(at + 1).unwrap_or(last);
        certificate.check_issued_by(issuer).map_err(Flaw::chain)?;
        let purpose = match at {
            0 => Use::Signer,
            _ => Use::Issuer(at - 1),
        };
        certificate.check_use(purpose).map_err(Flaw::chain)?;
    }
    let root = chain
        .iter()
        .find(|one| roots.iter().any(|root| root.der == one.der));
    let root = root.ok_or_else(|| Flaw::UntrustedRoot {
        subject: last.subject(),
    })?;
    for certificate in chain {
        certificate.check_time(now)?;
    }
    Ok(root)
}

fn written(name: &Name) -> String {
    let parts = name.iter().map(|one| {
        let (name, value) = attribute(one);
        let mut escaped = String::new();
        for char in value.chars() {
            if ",+=\\\"<>;#".contains(char) {
                escaped.push('\\');
            }
            escaped.push(char);
        }
        format!("{name}={escaped}")
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// The name of an attribute, and its value as text.
fn attribute(attribute: &AttributeTypeAndValue) -> (String, String) {
    let id = attribute.oid.to_string();
    let known = ATTRIBUTES.iter().find(|(known, _)| *known == id);
    let name = known.map_or(id, |(_, name)| (*name).to_string());
    let bytes = attribute.value.value();
    let text = match attribute.value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => String::from_utf8(bytes.into()).ok(),
        Tag::BmpString => {
            let units = bytes
                .chunks_exact(2)
                .map(|pair| pair.iter().fold(0, |unit, byte| unit << 8 | u16::from(*byte)));
            String::from_utf16(&units.collect::<Vec<u16>>()).ok()
        }
        _ => None,
    };
    let hex = || bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    (name, text.unwrap_or_else(|| format!("#{}", hex())))
}
