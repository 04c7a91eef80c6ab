//! Why a signature does not count.

use std::fmt;

use crate::escape::Escaped;

/// Most characters of a text from outside that are kept.
const MAX_TEXT: usize = 300;

/// Why a signature does not count. Its text may come from outside; [`fmt::Display`] escapes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// None of the policy's keys made it, or what was signed has changed since.
    WrongKey,
    /// The key in its own certificate did not make it, or what was signed has changed since.
    Altered,
    /// The policy has nothing that could vouch for a signature of this format.
    NotInPolicy {
        /// What it lacks.
        lacks: &'static str,
    },
    /// It cannot be checked by this build.
    NotSupported {
        /// What is not supported.
        what: String,
    },
    /// It was made without a key of the signer's own: with a certificate of an identity provider.
    Keyless,
    /// It is not what its media type says.
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// It exceeds a limit.
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The largest one that is read, in bytes.
        limit: u64,
    },
    /// Its blob is missing or has other content.
    Unreadable {
        /// Why.
        reason: String,
    },
    /// It is a signature of something else.
    OtherImage {
        /// What was signed.
        signed: String,
    },
    /// It is a signature of this manifest under another name.
    OtherName {
        /// The name.
        name: String,
    },
    /// The policy demands a name in the signature, and signatures of this format have none.
    NoName,
    /// It is an attestation about an image, and no signature of one.
    Attestation {
        /// What it attests.
        predicate_type: String,
    },
    /// It is a signature of the manifest's bytes without a statement, which cosign does not take for an image either.
    MessageSignature,
    /// It has no entry of a transparency log.
    NotLogged,
    /// The entry is of a log that the policy does not know.
    OtherLog,
    /// The log's entry is malformed, not by the log, or about something else.
    LogEntry {
        /// What is wrong.
        reason: String,
    },
    /// The chain of certificates is broken, or one of them must not do what it does.
    CertificateChain {
        /// What is wrong, and with which certificate.
        reason: String,
    },
    /// A certificate is not valid yet, or not any more.
    CertificateExpired {
        /// The certificate's subject.
        subject: String,
        /// When it begins to be valid, in RFC 3339.
        from: String,
        /// When it ends, in RFC 3339.
        until: String,
    },
    /// No certificate of the chain is one of the policy's.
    UntrustedRoot {
        /// The subject of the chain's last certificate.
        subject: String,
    },
    /// The signer is not one that the policy names.
    OtherIdentity {
        /// The signer.
        subject: String,
    },
    /// The signature has expired.
    Expired {
        /// When, in RFC 3339.
        at: String,
    },
}

impl Flaw {
    /// A name that does not change, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Flaw::WrongKey => "wrong-key",
            Flaw::Altered => "altered",
            Flaw::NotInPolicy { .. } => "not-in-policy",
            Flaw::NotSupported { .. } => "not-supported",
            Flaw::Keyless => "keyless",
            Flaw::Malformed { .. } => "malformed",
            Flaw::TooLarge { .. } => "too-large",
            Flaw::Unreadable { .. } => "unreadable",
            Flaw::OtherImage { .. } => "other-image",
            Flaw::OtherName { .. } => "other-name",
            Flaw::NoName => "no-name",
            Flaw::Attestation { .. } => "attestation",
            Flaw::MessageSignature => "message-signature",
            Flaw::NotLogged => "not-logged",
            Flaw::OtherLog => "other-log",
            Flaw::LogEntry { .. } => "log-entry",
            Flaw::CertificateChain { .. } => "certificate-chain",
            Flaw::CertificateExpired { .. } => "certificate-expired",
            Flaw::UntrustedRoot { .. } => "untrusted-root",
            Flaw::OtherIdentity { .. } => "other-identity",
            Flaw::Expired { .. } => "expired",
        }
    }

    pub(super) fn malformed(reason: impl fmt::Display) -> Flaw {
        Flaw::Malformed {
            reason: clipped(&reason.to_string()),
        }
    }

    pub(super) fn log_entry(reason: impl fmt::Display) -> Flaw {
        Flaw::LogEntry {
            reason: clipped(&reason.to_string()),
        }
    }

    pub(super) fn not_supported(what: impl AsRef<str>) -> Flaw {
        Flaw::NotSupported {
            what: clipped(what.as_ref()),
        }
    }

    pub(super) fn other_image(signed: impl AsRef<str>) -> Flaw {
        Flaw::OtherImage {
            signed: clipped(signed.as_ref()),
        }
    }

    pub(super) fn attestation(predicate_type: &str) -> Flaw {
        Flaw::Attestation {
            predicate_type: clipped(predicate_type),
        }
    }

    pub(super) fn chain(reason: impl fmt::Display) -> Flaw {
        Flaw::CertificateChain {
            reason: clipped(&reason.to_string()),
        }
    }
}

/// The beginning of a text from outside, which may be as large as an envelope.
pub(super) fn clipped(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.into(),
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::WrongKey => f.write_str("not signed by a key of the policy, or changed since"),
            Flaw::Altered => f.write_str("not signed by the key of its certificate, or changed since"),
            Flaw::NotInPolicy { lacks } => write!(f, "the policy has no {lacks} for this image"),
            Flaw::NotSupported { what } => write!(f, "{} is not supported", Escaped(what)),
            Flaw::Keyless => f.write_str("keyless signatures are not supported by this build"),
            Flaw::Malformed { reason } => write!(f, "malformed: {}", Escaped(reason)),
            Flaw::TooLarge { size, limit } => write!(f, "{size} bytes: at most {limit} are read"),
            Flaw::Unreadable { reason } => write!(f, "cannot be read: {}", Escaped(reason)),
            Flaw::OtherImage { signed } => write!(f, "a signature of another image: {}", Escaped(signed)),
            Flaw::OtherName { name } => write!(f, "signed under another name: {}", Escaped(name)),
            Flaw::NoName => f.write_str("signatures of this format have no name, which the policy demands"),
            Flaw::Attestation { predicate_type } => write!(
                f,
                "an attestation ({}), not a signature of the image",
                Escaped(predicate_type)
            ),
            Flaw::MessageSignature => {
                f.write_str("a signature of the manifest's bytes, which does not say that it is for an image")
            }
            Flaw::NotLogged => f.write_str("no entry of a transparency log, which the policy demands"),
            Flaw::OtherLog => f.write_str("the log entry is of another log than the policy names"),
            Flaw::LogEntry { reason } => write!(f, "log entry: {}", Escaped(reason)),
            Flaw::CertificateChain { reason } => write!(f, "certificate chain: {}", Escaped(reason)),
            Flaw::CertificateExpired { subject, from, until } => write!(
                f,
                "the certificate of {} is not valid now: only from {from} to {until}",
                Escaped(subject)
            ),
            Flaw::UntrustedRoot { subject } => write!(
                f,
                "no certificate of the chain is in the policy; the last is of {}",
                Escaped(subject)
            ),
            Flaw::OtherIdentity { subject } => {
                write!(f, "signed by {}, whom the policy does not name", Escaped(subject))
            }
            Flaw::Expired { at } => write!(f, "the signature has expired at {at}"),
        }
    }
}
