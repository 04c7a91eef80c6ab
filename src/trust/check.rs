//! The signatures of one manifest, each checked by what a policy relies on.

use std::time::SystemTime;

use serde::Serialize;
use serde::ser::SerializeMap as _;

use super::artifact::{ArtifactKind, is_notation};
use super::bundle::{self, Bundle};
use super::flaw::{Flaw, clipped};
use super::notation::{Envelope, TrustedCertificates};
use super::signed_identity::SignedIdentity;
use super::signer::{Signed, TrustedKey};
use super::{Fetch, MAX_ENVELOPE, simple_signing, statement};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, Digest, Document, Manifest, Platform, Reference, Referrer};

/// Most signatures of a manifest that are checked.
pub const MAX_SIGNATURES: usize = 1000;

/// What a manifest is to its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Its index, or one in it.
    Index,
    /// The image for one platform.
    Platform,
    /// Attestations of buildkit, inside the index.
    Attestation,
}

/// A manifest of an image, and what refers to it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Media type, digest and size, which signatures of notation are about; the platform, for reports.
    pub descriptor: Descriptor,
    /// What it is to its image.
    pub role: Role,
    /// What refers to it, by a subject or by a tag of cosign's.
    pub referring: Vec<ReferringManifest>,
}

/// A manifest that refers to another.
#[derive(Debug, Clone)]
pub struct ReferringManifest {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// Its stored bytes.
    pub manifest: Vec<u8>,
}

/// Who may sign an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Signers {
    pub(crate) keys: Vec<TrustedKey>,
    pub(crate) certificates: Vec<TrustedCertificates>,
    /// The name that a signature must have.
    pub(crate) identity: Option<SignedIdentity>,
}

/// A signature, and whether it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedSignature {
    /// Its format. [`ArtifactKind::Attestation`] is no signature of an image, and there only because a bundle says so late.
    pub kind: ArtifactKind,
    /// Digest of the manifest that it is in.
    pub artifact: Digest,
    /// Who it claims to be by: the id of a key, or the subject of a certificate.
    pub claimed: Option<String>,
    /// Who made it, or why it does not count.
    pub outcome: Result<Signed, Flaw>,
}

/// The signatures of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManifestVerdict {
    /// The manifest.
    pub digest: Digest,
    /// What it is to its image.
    pub role: Role,
    /// Its platform, if the index says so.
    pub platform: Option<Platform>,
    /// Its signatures that were checked.
    pub signatures: Vec<CheckedSignature>,
    /// Number of further ones, beyond [`MAX_SIGNATURES`].
    pub unchecked: usize,
}

/// Checks the signatures of a manifest.
pub(super) struct Check<'a> {
    /// The image's name, for the names in signatures.
    pub(super) image: &'a Reference,
    pub(super) signers: &'a Signers,
    pub(super) now: SystemTime,
}

impl ManifestVerdict {
    /// The good signatures.
    pub fn good(&self) -> impl Iterator<Item = &Signed> {
        self.signatures.iter().filter_map(|one| one.outcome.as_ref().ok())
    }

    /// The signatures that do not count. Attestations are left out, because they are no signatures.
    pub fn bad(&self) -> impl Iterator<Item = (&CheckedSignature, &Flaw)> {
        let all = self.signatures.iter();
        let all = all.filter(|one| one.kind != ArtifactKind::Attestation);
        all.filter_map(|one| Some((one, one.outcome.as_ref().err()?)))
    }
}

impl Check<'_> {
    /// # Errors
    ///
    /// If blobs cannot be fetched at the moment. That one is missing or bad is a flaw of its signature.
    pub(super) fn manifest(&self, subject: &Subject, fetch: &mut dyn Fetch) -> Result<ManifestVerdict> {
        let mut verdict = ManifestVerdict {
            digest: subject.descriptor.digest,
            role: subject.role,
            platform: subject.descriptor.platform.clone(),
            signatures: Vec::new(),
            unchecked: 0,
        };
        for referring in &subject.referring {
            let artifact = &referring.descriptor;
            let flawed = |flaw| CheckedSignature {
                kind: ArtifactKind::Other,
                artifact: artifact.digest,
                claimed: None,
                outcome: Err(flaw),
            };
            if artifact.digest.of_same_algorithm(&referring.manifest) != artifact.digest {
                let reason = "its manifest has other content".into();
                verdict.signatures.push(flawed(Flaw::Unreadable { reason }));
                continue;
            }
            let named = Referrer::subject(&referring.manifest);
            if named.is_some_and(|named| named != subject.descriptor.digest) {
                continue; // a list may name it, but it does not refer to this manifest
            }
            let parsed = Document::parse(&artifact.media_type, referring.manifest.clone());
            match parsed {
                Ok(Document::Manifest(manifest)) => {
                    self.artifact(&manifest, artifact, subject, fetch, &mut verdict)?;
                }
                Ok(Document::Index(_)) => {}
                Err(error) => {
                    let reason = crate::error::Problem::from(error).to_string();
                    verdict.signatures.push(flawed(Flaw::malformed(reason)));
                }
            }
        }
        Ok(verdict)
    }

    /// Checks the signatures in a referrer. Everything else in it is skipped.
    fn artifact(
        &self,
        manifest: &Manifest,
        artifact: &Descriptor,
        subject: &Subject,
        fetch: &mut dyn Fetch,
        verdict: &mut ManifestVerdict,
    ) -> Result<()> {
        let is_notation = is_notation(manifest);
        for layer in &manifest.layers {
            let media_type = layer.media_type.as_str();
            let kind = match () {
                () if is_notation => ArtifactKind::NotationSignature,
                () if media_type == simple_signing::MEDIA_TYPE => ArtifactKind::CosignSignature,
                () if bundle::is_bundle(media_type) => ArtifactKind::CosignBundle,
                () => continue,
            };
            if verdict.signatures.len() >= MAX_SIGNATURES {
                verdict.unchecked += 1;
                continue;
            }
            let mut signature = CheckedSignature {
                kind,
                artifact: artifact.digest,
                claimed: None,
                outcome: Err(Flaw::WrongKey),
            };
            signature.outcome = match self.read(layer, fetch)? {
                Ok(_) if is_notation && manifest.layers.len() > 1 => {
                    Err(Flaw::malformed("a signature of notation has one layer"))
                }
                Ok(bytes) => self.layer(&bytes, layer, subject, &mut signature),
                Err(flaw) => Err(flaw),
            };
            if matches!(signature.outcome, Err(Flaw::Attestation { .. })) {
                signature.kind = ArtifactKind::Attestation;
            }
            verdict.signatures.push(signature);
        }
        Ok(())
    }

    /// Checks one layer; also says who it claims to be by.
    fn layer(
        &self,
        bytes: &[u8],
        layer: &Descriptor,
        subject: &Subject,
        signature: &mut CheckedSignature,
    ) -> Result<Signed, Flaw> {
        let digest = &subject.descriptor.digest;
        let keys = &self.signers.keys;
        let (signed, name) = match signature.kind {
            ArtifactKind::NotationSignature => {
                let envelope = Envelope::parse(layer.media_type.as_str(), bytes)?;
                signature.claimed = envelope.claimed();
                let certificates = &self.signers.certificates;
                (envelope.check(&subject.descriptor, certificates, self.now)?, None)
            }
            ArtifactKind::CosignSignature => simple_signing::check(bytes, &layer.annotations, digest, keys)?,
            _ => {
                let bundle = Bundle::parse(bytes)?;
                signature.claimed = bundle.key_hint().map(clipped);
                (bundle.check(digest, keys, statement::SIGNATURE)?, None)
            }
        };
        match (&self.signers.identity, name) {
            (None, _) => Ok(signed),
            (Some(_), None) => Err(Flaw::NoName),
            (Some(identity), Some(name)) if identity.accepts(self.image, &name) => Ok(signed),
            (Some(_), Some(name)) => Err(Flaw::OtherName { name: clipped(&name) }),
        }
    }

    /// Reads a layer within the limit, and hashes it again: nothing is checked that is not what the manifest names.
    fn read(&self, layer: &Descriptor, fetch: &mut dyn Fetch) -> Result<Result<Vec<u8>, Flaw>> {
        if layer.size > MAX_ENVELOPE {
            return Ok(Err(Flaw::TooLarge {
                size: layer.size,
                limit: MAX_ENVELOPE,
            }));
        }
        let bytes = match fetch.blob(layer, MAX_ENVELOPE) {
            Ok(bytes) => bytes,
            Err(error) => return unreadable(error).map(Err),
        };
        match layer.digest.of_same_algorithm(&bytes) == layer.digest {
            true => Ok(Ok(bytes)),
            false => Ok(Err(Flaw::Unreadable {
                reason: format!("{} has other content", layer.digest),
            })),
        }
    }
}

fn unreadable(error: Error) -> Result<Flaw> {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Content => Ok(Flaw::Unreadable {
            reason: clipped(&error.to_string()),
        }),
        _ => Err(error),
    }
}

impl Serialize for CheckedSignature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", &self.kind)?;
        map.serialize_entry("artifact", &self.artifact)?;
        map.serialize_entry("claimed", &self.claimed)?;
        map.serialize_entry("good", &self.outcome.is_ok())?;
        match &self.outcome {
            Ok(signed) => {
                map.serialize_entry("by", &signed.by)?;
                map.serialize_entry("at", &signed.at)?;
                map.serialize_entry("log", &signed.log)?;
            }
            Err(flaw) => {
                map.serialize_entry("code", flaw.code())?;
                map.serialize_entry("message", &flaw.to_string())?;
            }
        }
        map.end()
    }
}
