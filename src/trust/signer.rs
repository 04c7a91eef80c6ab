//! Who may sign, and who signed.

use std::fmt;

use serde::Serialize;

use super::flaw::Flaw;
use super::key::{Mismatch, PublicKey};
use super::log::{Entry, LogEntry, Logged, Logs};
use crate::escape::Escaped;

/// A key that a policy relies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrustedKey {
    /// What the policy calls it, such as its file.
    pub(crate) name: String,
    pub(crate) key: PublicKey,
    /// The logs that must have an entry of its signatures, if the policy demands one.
    pub(crate) logs: Option<Logs>,
}

/// Who made a signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Signer {
    /// A key of the policy.
    Key {
        /// What the policy calls it, such as its file.
        name: String,
        /// The SHA-256 of its DER, in base64.
        id: String,
    },
    /// The owner of a certificate.
    Certificate {
        /// The certificate's subject.
        subject: String,
        /// The subject of the certificate in the policy that vouches for it.
        root: String,
    },
}

/// A good signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signed {
    /// Who made it.
    pub by: Signer,
    /// When, in RFC 3339, if the signer or a log signed that.
    pub at: Option<String>,
    /// The entry of a log that the policy demands.
    pub log: Option<LogEntry>,
}

/// A signature that a key made.
pub(super) struct KeySignature<'a> {
    /// The bytes that are signed.
    pub(super) message: &'a [u8],
    pub(super) signature: &'a [u8],
    /// The signature in base64.
    pub(super) text: &'a str,
    /// What logs hash of it.
    pub(super) payload: &'a [u8],
    /// The kind of entry that logs have for it.
    pub(super) kind: &'static str,
}

impl KeySignature<'_> {
    /// Finds the key that made it, and its entry of a log if the policy demands one. `entries` is asked only then.
    pub(super) fn check(
        &self,
        keys: &[TrustedKey],
        entries: impl Fn() -> Result<Vec<Entry>, Flaw>,
    ) -> Result<Signed, Flaw> {
        if keys.is_empty() {
            return Err(Flaw::NotInPolicy { lacks: "key" });
        }
        let mut flaw = Flaw::WrongKey;
        for trusted in keys {
            match trusted.key.verify(self.message, self.signature) {
                Ok(()) => {}
                Err(Mismatch::NotSupported(what)) => {
                    if flaw == Flaw::WrongKey {
                        flaw = Flaw::not_supported(what);
                    }
                    continue;
                }
                Err(Mismatch::WrongKey) => continue,
            }
            let log = match &trusted.logs {
                None => Ok(None),
                Some(logs) => self.logged(logs, &trusted.key, &entries).map(Some),
            };
            match log {
                Ok(log) => {
                    return Ok(Signed {
                        by: Signer::Key {
                            name: trusted.name.clone(),
                            id: trusted.key.id(),
                        },
                        at: log.as_ref().and_then(|entry| entry.time.clone()),
                        log,
                    });
                }
                Err(found) => flaw = found,
            }
        }
        Err(flaw)
    }

    fn logged(
        &self,
        logs: &Logs,
        key: &PublicKey,
        entries: impl Fn() -> Result<Vec<Entry>, Flaw>,
    ) -> Result<LogEntry, Flaw> {
        let logged = Logged {
            payload: self.payload,
            signature: self.text,
            key,
            kind: self.kind,
        };
        logs.check_any(&entries()?, &logged)
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Signer::Key { name, .. } => write!(f, "{}", Escaped(name)),
            Signer::Certificate { subject, .. } => write!(f, "{}", Escaped(subject)),
        }
    }
}
