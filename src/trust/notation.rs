//! Signatures of notation: an envelope, JWS or COSE, around the descriptor of what is signed, with the signer's
//! certificates.
//!
//! Source: Notary Project, `specs/signature-specification.md`, `specs/signature-envelope-jws.md`,
//! `specs/signature-envelope-cose.md` and `specs/trust-store-trust-policy.md`; notation-core-go, `signature`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{self, VerificationAlgorithm};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::cbor::{Cbor, signature1};
use super::certificate::{Certificate, check_chain};
use super::flaw::{Flaw, clipped};
use super::key::KeyKind;
use super::signer::{Signed, Signer};
use super::trusted_identity::TrustedIdentity;
use crate::date;
use crate::oci::{Descriptor, json};

/// The media types of the envelopes.
pub(super) const JWS: &str = "application/jose+json";
pub(super) const COSE: &str = "application/cose";
/// The media type of what is signed.
const PAYLOAD: &str = "application/vnd.cncf.notary.payload.v1+json";
const SCHEME: &str = "io.cncf.notary.signingScheme";
const SIGNING_TIME: &str = "io.cncf.notary.signingTime";
const EXPIRY: &str = "io.cncf.notary.expiry";
/// The scheme of signers who have their certificates from a CA.
const X509: &str = "notary.x509";
/// Most certificates in an envelope that are parsed.
const MAX_CERTIFICATES: usize = 20;

/// Certificates that a policy relies on, and whom they may vouch for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrustedCertificates {
    pub(crate) roots: Vec<Certificate>,
    pub(crate) identities: Vec<TrustedIdentity>,
}

/// An envelope, parsed.
#[derive(Debug)]
pub(super) struct Envelope {
    /// The bytes that are signed.
    signed: Vec<u8>,
    payload: Vec<u8>,
    signature: Vec<u8>,
    attributes: Attributes,
    /// The signer's certificate first.
    chain: Vec<Certificate>,
}

/// The signed attributes, which are signed together with the payload.
#[derive(Debug)]
struct Attributes {
    algorithm: Algorithm,
    signing_time: SystemTime,
    expiry: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Es256,
    Es384,
    Ps256,
    Ps384,
    Ps512,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Jws {
    payload: String,
    protected: String,
    header: JwsHeader,
    signature: String,
}

#[derive(Deserialize)]
struct JwsHeader {
    x5c: Vec<String>,
}

/// The headers of an envelope that are signed, in either format.
struct Headers {
    algorithm: Option<Algorithm>,
    content_type: Option<String>,
    scheme: Option<String>,
    signing_time: Option<SystemTime>,
    /// Absent, or a time.
    expiry: Option<Option<SystemTime>>,
    critical: Vec<String>,
}

impl Headers {
    fn check(self) -> Result<Attributes, Flaw> {
        if let Some(unknown) = self
            .critical
            .iter()
            .find(|name| ![SCHEME, EXPIRY].contains(&name.as_str()))
        {
            return Err(Flaw::not_supported(format!("the critical header {unknown}")));
        }
        let is_critical = |name: &str| self.critical.iter().any(|found| found == name);
        match self.scheme.as_deref() {
            Some(X509) if is_critical(SCHEME) => {}
            Some(X509) | None => return Err(Flaw::malformed(format!("no critical header {SCHEME}"))),
            Some(other) => return Err(Flaw::not_supported(format!("the signing scheme {other}"))),
        }
        if self.content_type.as_deref() != Some(PAYLOAD) {
            return Err(Flaw::malformed(format!("its content is not {PAYLOAD}")));
        }
        if self.expiry.is_some() != is_critical(EXPIRY) {
            return Err(Flaw::malformed(format!("the header {EXPIRY} must be critical")));
        }
        let expiry = match self.expiry {
            None => None,
            Some(Some(time)) => Some(time),
            Some(None) => return Err(Flaw::malformed(format!("{EXPIRY} is not a time"))),
        };
        Ok(Attributes {
            algorithm: self
                .algorithm
                .ok_or_else(|| Flaw::not_supported("its signature algorithm"))?,
            signing_time: self
                .signing_time
                .ok_or_else(|| Flaw::malformed(format!("{SIGNING_TIME} is not a time")))?,
            expiry,
        })
    }
}

impl Algorithm {
    /// Which key uses it: the specification allows one algorithm for each kind and size.
    fn fits(self, key: KeyKind) -> bool {
        match self {
            Algorithm::Es256 => key == KeyKind::P256,
            Algorithm::Es384 => key == KeyKind::P384,
            Algorithm::Ps256 => key == KeyKind::Rsa(2048),
            Algorithm::Ps384 => key == KeyKind::Rsa(3072),
            Algorithm::Ps512 => key == KeyKind::Rsa(4096),
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
            Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        }
    }
}

impl Envelope {
    /// Parses an envelope of this media type.
    pub(super) fn parse(media_type: &str, bytes: &[u8]) -> Result<Envelope, Flaw> {
        match media_type {
            JWS => Envelope::of_jws(bytes),
            COSE => Envelope::of_cose(bytes),
            other => Err(Flaw::not_supported(format!("an envelope of the type {other}"))),
        }
    }

    fn of_jws(bytes: &[u8]) -> Result<Envelope, Flaw> {
        let jws: Jws = json::from_slice(bytes).map_err(Flaw::malformed)?;
        let decode = |name: &str, text: &str| {
            let decoded = URL_SAFE_NO_PAD.decode(text);
            decoded.map_err(|error| Flaw::malformed(format!("{name}: {error}")))
        };
        let protected: Value =
            json::from_slice(&decode("protected", &jws.protected)?).map_err(Flaw::malformed)?;
        let text = |name: &str| protected.get(name).and_then(Value::as_str);
        let critical = protected.get("crit").and_then(Value::as_array);
        let critical = critical.into_iter().flatten();
        let headers = Headers {
            algorithm: match text("alg") {
                Some("ES256") => Some(Algorithm::Es256),
                Some("ES384") => Some(Algorithm::Es384),
                Some("PS256") => Some(Algorithm::Ps256),
                Some("PS384") => Some(Algorithm::Ps384),
                Some("PS512") => Some(Algorithm::Ps512),
                _ => None,
            },
            content_type: text("cty").map(Into::into),
            scheme: text(SCHEME).map(Into::into),
            signing_time: text(SIGNING_TIME).and_then(date::rfc3339),
            expiry: protected
                .get(EXPIRY)
                .map(|time| time.as_str().and_then(date::rfc3339)),
            critical: critical
                .map(|name| name.as_str().unwrap_or_default().to_string())
                .collect(),
        };
        let certificates = jws.header.x5c.iter();
        let certificates = certificates.map(|text| STANDARD.decode(text).map_err(Flaw::malformed));
        let certificates: Vec<Vec<u8>> = certificates.collect::<Result<_, _>>()?;
        Ok(Envelope {
            signed: format!("{}.{}", jws.protected, jws.payload).into_bytes(),
            payload: decode("payload", &jws.payload)?,
            signature: decode("signature", &jws.signature)?,
            attributes: headers.check()?,
            chain: chain(certificates.iter().map(Vec::as_slice))?,
        })
    }

    fn of_cose(bytes: &[u8]) -> Result<Envelope, Flaw> {
        let no_envelope = || Flaw::malformed("not a COSE_Sign1 structure");
        let parsed = Cbor::parse(bytes).map_err(Flaw::malformed)?;
        let Cbor::Tagged(18, content) = parsed else {
            return Err(no_envelope());
        };
        let Cbor::Array(parts) = *content else {
            return Err(no_envelope());
        };
        let [protected, unprotected, payload, signature] = parts.as_slice() else {
            return Err(no_envelope());
        };
        let (Some(protected), Some(payload), Some(signature)) =
            (protected.bytes(), payload.bytes(), signature.bytes())
        else {
            return Err(no_envelope());
        };
        let headers = Cbor::parse(protected).map_err(Flaw::malformed)?;
        let get = |name: &str| headers.get(&Cbor::Text(name));
        let critical = match headers.get(&Cbor::Integer(2)) {
            Some(Cbor::Array(names)) => names.as_slice(),
            _ => &[],
        };
        let headers = Headers {
            algorithm: match headers.get(&Cbor::Integer(1)) {
                Some(Cbor::Integer(-7)) => Some(Algorithm::Es256),
                Some(Cbor::Integer(-35)) => Some(Algorithm::Es384),
                Some(Cbor::Integer(-37)) => Some(Algorithm::Ps256),
                Some(Cbor::Integer(-38)) => Some(Algorithm::Ps384),
                Some(Cbor::Integer(-39)) => Some(Algorithm::Ps512),
                _ => None,
            },
            content_type: headers
                .get(&Cbor::Integer(3))
                .and_then(|found| found.text().map(Into::into)),
            scheme: get(SCHEME).and_then(|found| found.text().map(Into::into)),
            signing_time: get(SIGNING_TIME).and_then(time),
            expiry: get(EXPIRY).map(time),
            critical: critical
                .iter()
                .map(|name| name.text().unwrap_or_default().to_string())
                .collect(),
        };
        let certificates: Vec<&[u8]> = match unprotected.get(&Cbor::Integer(33)) {
            Some(Cbor::Bytes(one)) => vec![one],
            Some(Cbor::Array(all)) => all.iter().map(|one| one.bytes().unwrap_or_default()).collect(),
            _ => Vec::new(),
        };
        Ok(Envelope {
            signed: signature1(protected, payload),
            payload: payload.into(),
            signature: signature.into(),
            attributes: headers.check()?,
            chain: chain(certificates.into_iter())?,
        })
    }

    /// The subject of the signer's certificate, which nothing has checked.
    pub(super) fn claimed(&self) -> Option<String> {
        self.chain.first().map(Certificate::subject)
    }

    /// Checks who signed, and that it is about the subject.
    pub(super) fn check(
        &self,
        subject: &Descriptor,
        trusted: &[TrustedCertificates],
        now: SystemTime,
    ) -> Result<Signed, Flaw> {
        if trusted.is_empty() {
            return Err(Flaw::NotInPolicy { lacks: "certificate" });
        }
        let signer = self.chain.first().ok_or_else(|| Flaw::chain("it is empty"))?;
        let key = signer.public_key().map_err(Flaw::not_supported)?;
        let algorithm = self.attributes.algorithm;
        if !algorithm.fits(key.kind()) {
            return Err(Flaw::malformed("the signature algorithm is not that of the key"));
        }
        if !key.verify_as(algorithm.verification(), &self.signed, &self.signature) {
            return Err(Flaw::Altered);
        }
        let root = self.vouched_for(signer, trusted, now)?;
        if let Some(at) = self.attributes.expiry.filter(|at| now > *at) {
            return Err(Flaw::Expired {
                at: date::to_rfc3339(at),
            });
        }
        self.check_target(subject)?;
        Ok(Signed {
            by: Signer::Certificate {
                subject: signer.subject(),
                root,
            },
            at: Some(date::to_rfc3339(self.attributes.signing_time)),
            log: None,
        })
    }

    /// Finds the certificate of the policy that vouches for the signer; gives its subject.
    fn vouched_for(
        &self,
        signer: &Certificate,
        trusted: &[TrustedCertificates],
        now: SystemTime,
    ) -> Result<String, Flaw> {
        let mut flaw = None;
        let attributes = signer.subject_attributes();
        for one in trusted {
            let found = match check_chain(&self.chain, &one.roots, now) {
                Ok(root) if one.identities.iter().any(|identity| identity.is(&attributes)) => {
                    return Ok(root.subject());
                }
                Ok(_) => Flaw::OtherIdentity {
                    subject: signer.subject(),
                },
                Err(found) => found,
            };
            // That other certificates do not vouch for it says least.
            let says_more = !matches!(found, Flaw::UntrustedRoot { .. });
            if flaw.is_none() || says_more {
                flaw = Some(found);
            }
        }
        Err(flaw.unwrap_or(Flaw::NotInPolicy { lacks: "certificate" }))
    }

    /// Checks that the descriptor which was signed is that of the subject.
    fn check_target(&self, subject: &Descriptor) -> Result<(), Flaw> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Payload {
            target_artifact: Target,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Target {
            media_type: String,
            digest: String,
            size: u64,
            #[serde(rename = "annotations")]
            _annotations: Option<IgnoredAny>,
        }
        let payload: Payload = json::from_slice(&self.payload).map_err(Flaw::malformed)?;
        let target = payload.target_artifact;
        let is_it = target.digest == subject.digest.to_string()
            && target.size == subject.size
            && target.media_type == subject.media_type.as_str();
        match is_it {
            true => Ok(()),
            false => Err(Flaw::other_image(format!(
                "{} of {} bytes, {}",
                clipped(&target.digest),
                target.size,
                target.media_type
            ))),
        }
    }
}

fn chain<'d>(certificates: impl ExactSizeIterator<Item = &'d [u8]>) -> Result<Vec<Certificate>, Flaw> {
    if certificates.len() > MAX_CERTIFICATES {
        return Err(Flaw::malformed(format!(
            "more than {MAX_CERTIFICATES} certificates"
        )));
    }
    certificates
        .map(|der| Certificate::from_der(der).map_err(Flaw::chain))
        .collect()
}

/// A time in COSE: tag 1, seconds since 1970.
fn time(value: &Cbor<'_>) -> Option<SystemTime> {
    let Cbor::Tagged(1, seconds) = value else {
        return None;
    };
    let Cbor::Integer(seconds) = **seconds else {
        return None;
    };
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}
