//! What is wrong with a signature, or with who made it.

use crate::date;
use crate::escape::Escaped;

use std::time::SystemTime;

/// Why a signature does not count. Texts from outside are escaped when displayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureProblem {
    /// The file of the signature does not exist.
    #[error("there is no such file, so nothing says who made this")]
    Absent,
    /// It cannot be read as a signature.
    #[error("not a whole SSH signature: {}", Escaped(reason))]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// It may be good, but this program cannot tell.
    #[error("{} is not supported", Escaped(what))]
    Unsupported {
        /// The kind of key or signature.
        what: String,
    },
    /// It was made for another purpose.
    #[error("signs for the namespace {}, not for {expected}", Escaped(found))]
    Namespace {
        /// The purpose that is asked for.
        expected: &'static str,
        /// The one in the signature.
        found: String,
    },
    /// The key did not sign this. What it did sign cannot be told.
    #[error("the signature by {key} is of something else, or one of the two was altered")]
    Differs {
        /// The fingerprint of the key.
        key: String,
    },
    /// None of the allowed signers has this key.
    #[error("signed by {key}, which is not a key of an allowed signer")]
    UnknownKey {
        /// The fingerprint of the key.
        key: String,
    },
    /// The key is allowed, but not for the signer that was asked for.
    #[error(
        "signed by {key}, which is a key of {}, not of {}",
        Escaped(principals),
        Escaped(signer)
    )]
    OtherSigner {
        /// The fingerprint of the key.
        key: String,
        /// Whose it is.
        principals: String,
        /// Whose it should be.
        signer: String,
    },
    /// The key is allowed in other namespaces only.
    #[error("signed by {key}, which its signer may not use in the namespace {namespace}")]
    NamespaceNotAllowed {
        /// The fingerprint of the key.
        key: String,
        /// The namespace.
        namespace: &'static str,
    },
    /// The key is not allowed yet.
    #[error("signed by {key}, which is not allowed before {}", date::to_rfc3339(*after))]
    NotYetValid {
        /// The fingerprint of the key.
        key: String,
        /// When it will be.
        after: SystemTime,
    },
    /// The key is not allowed any more.
    #[error("signed by {key}, which is not allowed after {}", date::to_rfc3339(*before))]
    Expired {
        /// The fingerprint of the key.
        key: String,
        /// When it ended.
        before: SystemTime,
    },
}

impl SignatureProblem {
    /// A stable name for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            SignatureProblem::Absent => "signature-missing",
            SignatureProblem::Malformed { .. } => "signature-malformed",
            SignatureProblem::Unsupported { .. } => "signature-unsupported",
            SignatureProblem::Namespace { .. } => "signature-namespace",
            SignatureProblem::Differs { .. } => "signature-differs",
            SignatureProblem::UnknownKey { .. } => "signer-unknown",
            SignatureProblem::OtherSigner { .. } => "signer-differs",
            SignatureProblem::NamespaceNotAllowed { .. } => "signer-namespace",
            SignatureProblem::NotYetValid { .. } => "signer-not-yet-valid",
            SignatureProblem::Expired { .. } => "signer-expired",
        }
    }
}
