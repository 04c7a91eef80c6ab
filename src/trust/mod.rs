//! Who vouches for what: signatures, and whose count. Nothing here needs a network.
//!
//! Signatures of images are checked by the keys and certificates of a policy, which is never read out of an archive. Only
//! the policy and the files that it names are opened; blobs come from a [`Fetch`].
//!
//! - [`ssh`]: signatures by SSH keys, of files
//! - `key`: public keys; `signer`: the keys of a policy, and who signed
//! - `signed_identity`: the names that signatures may be for
//! - `simple_signing`: cosign's first format; `bundle`: bundles of sigstore; `statement`: the envelopes and statements in
//!   them
//! - `log`: entries of transparency logs
//! - `notation`: signatures of notation; `certificate`: the certificates in them, and chains of those; `cbor`: the
//!   encoding of COSE; `trusted_identity`: the subjects that a policy names
//! - `check`: the signatures of one manifest
//! - `policy`: what an operator demands of images, by their names
//! - `artifact`: what a referrer is, without checking it; `attestation`: the statements in one
//! - `subjects`: the manifests of an image with what refers to them, and the blobs of those
//! - `told`: verdicts in words and as documents
//! - `document`: what attestations state, and SBOMs
//! - `flaw`: why a signature does not count

mod artifact;
mod attestation;
mod bundle;
mod cbor;
mod certificate;
#[cfg(test)]
mod certificate_tests;
mod check;
mod document;
mod flaw;
mod key;
mod log;
mod notation;
#[cfg(test)]
mod notation_tests;
pub(crate) mod policy;
mod signed_identity;
mod signer;
mod simple_signing;
pub mod ssh;
mod statement;
mod subjects;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod told;
mod trusted_identity;

use crate::error::{ErrorKind, Result};
use crate::oci::Descriptor;

pub use artifact::{Artifact, ArtifactKind};
pub use attestation::statement_of;
pub use check::{CheckedSignature, MAX_SIGNATURES, ManifestVerdict, ReferringManifest, Role, Subject};
pub use document::{AttachedDocument, MAX_DOCUMENT};
pub use flaw::Flaw;
pub use log::LogEntry;
pub use policy::{Policy, Rule, RuleKind, Subjects, Unmet, UnmetReason, Verdict};
pub use signer::{Signed, Signer};
pub use statement::Statement;
pub use subjects::{FetchFrom, PolicyCheck};

/// Largest bundle, envelope or document of a signature that is read, in bytes. Attestations with a whole SBOM in them
/// have a few megabytes.
pub const MAX_ENVELOPE: u64 = 16 << 20;

/// Reads blobs of referrers.
pub trait Fetch {
    /// Reads a blob, verified against its descriptor.
    ///
    /// # Errors
    ///
    /// If it has more than `limit` bytes, is missing, has other content, or cannot be read now.
    fn blob(&mut self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>>;
}

impl<F: FnMut(&Descriptor, u64) -> Result<Vec<u8>>> Fetch for F {
    fn blob(&mut self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        self(descriptor, limit)
    }
}

/// A blob, unless it is missing or bad. Whoever cannot be asked at the moment, or was interrupted, is an error.
fn optional(read: Result<Vec<u8>>) -> Result<Option<Vec<u8>>> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::Content => Ok(None),
            _ => Err(error),
        },
    }
}
