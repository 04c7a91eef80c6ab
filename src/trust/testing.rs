//! The signed images below `testdata/signatures`, which cosign, notation and others wrote.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::check::{Check, ManifestVerdict, ReferringManifest, Role, Signers, Subject};
use super::key::PublicKey;
use super::log::Logs;
use super::signer::TrustedKey;
use crate::error::{Error, Result};
use crate::oci::testing::describe;
use crate::oci::{Descriptor, Digest, Document, MediaType, Reference, Referrer};

/// A day in 2026 on which the certificates are valid, but one.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_796_000_000)
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/signatures")
}

pub(crate) fn file(path: &str) -> Vec<u8> {
    fs::read(folder().join(path)).unwrap()
}

/// A public key of the fixtures.
pub(crate) fn key(name: &str) -> TrustedKey {
    TrustedKey {
        name: name.into(),
        key: PublicKey::from_pem(&file(&format!("keys/{name}.pub"))).unwrap(),
        logs: None,
    }
}

/// The same with a log that must have an entry.
pub(crate) fn logged_key(name: &str, log: &str) -> TrustedKey {
    TrustedKey {
        logs: Some(Logs::parse(&file(log)).unwrap()),
        ..key(name)
    }
}

pub(crate) fn signed_by(keys: &[TrustedKey]) -> Signers {
    Signers {
        keys: keys.to_vec(),
        ..Signers::default()
    }
}

/// A repository with an image and what refers to it.
#[derive(Clone)]
pub(crate) struct Fixture {
    name: String,
    blobs: BTreeMap<Digest, Vec<u8>>,
    /// By tag.
    tags: BTreeMap<String, Descriptor>,
}

impl Fixture {
    pub(crate) fn open(name: &str) -> Fixture {
        let root = folder().join(name);
        let mut blobs = BTreeMap::new();
        for blob in fs::read_dir(root.join("blobs/sha256")).unwrap() {
            let bytes = fs::read(blob.unwrap().path()).unwrap();
            blobs.insert(Digest::sha256(&bytes), bytes);
        }
        let index: Value = serde_json::from_slice(&fs::read(root.join("index.json")).unwrap()).unwrap();
        let mut tags = BTreeMap::new();
        for entry in index["manifests"].as_array().unwrap() {
            let entry: Descriptor = serde_json::from_value(entry.clone()).unwrap();
            let tag = entry
                .annotations
                .get("org.opencontainers.image.ref.name")
                .cloned();
            tags.insert(tag.unwrap_or_default(), entry);
        }
        Fixture {
            name: name.into(),
            blobs,
            tags,
        }
    }

    /// The digest of one of its manifests: `top`, `amd64`, `att-amd64` and so on.
    pub(crate) fn digest(&self, what: &str) -> Digest {
        let all: Value = serde_json::from_slice(&file("digests.json")).unwrap();
        all[&self.name][what].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Vec<u8> {
        self.blobs[digest].clone()
    }

    pub(crate) fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = describe(media_type, &bytes);
        self.blobs.insert(descriptor.digest, bytes);
        descriptor
    }

    /// One of its manifests with everything that refers to it: by the list of its fallback tag, and by cosign's tags.
    pub(crate) fn subject(&self, what: &str) -> Subject {
        let digest = self.digest(what);
        let bytes = self.blobs.get(&digest).cloned().unwrap_or_default();
        let media_type = Document::sniff(&bytes).unwrap_or_else(|| MediaType::new(MediaType::OCI_MANIFEST));
        let role = match (media_type.as_str(), what.starts_with("att-")) {
            (MediaType::OCI_INDEX, _) => Role::Index,
            (_, true) => Role::Attestation,
            _ => Role::Platform,
        };
        let mut referring = Vec::new();
        let tag = format!("sha256-{}", digest.hex());
        if let Some(list) = self.tags.get(&tag) {
            let media_type = MediaType::new(MediaType::OCI_INDEX);
            let Ok(Document::Index(list)) = Document::parse(&media_type, self.blob(&list.digest)) else {
                panic!("not an index");
            };
            referring.extend(list.manifests);
        }
        for (name, descriptor) in &self.tags {
            if Referrer::of_tag(name).is_some_and(|(_, of)| of == digest) {
                referring.push(descriptor.clone());
            }
        }
        Subject {
            descriptor: Descriptor {
                digest,
                ..describe(media_type.as_str(), &bytes)
            },
            role,
            referring: referring
                .into_iter()
                .map(|descriptor| ReferringManifest {
                    manifest: self.blob(&descriptor.digest),
                    descriptor,
                })
                .collect(),
        }
    }

    /// A manifest of this fixture's with only this layer of a signature.
    pub(crate) fn with_layer(&mut self, what: &str, layer: &Descriptor) -> Subject {
        let config = describe(MediaType::OCI_EMPTY, b"{}");
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": [layer],
        });
        let manifest = manifest.to_string().into_bytes();
        let descriptor = self.add(MediaType::OCI_MANIFEST, manifest.clone());
        let mut subject = self.subject(what);
        subject.referring = vec![ReferringManifest { descriptor, manifest }];
        subject
    }

    /// The layers of what refers to a manifest.
    pub(crate) fn layers(&self, what: &str) -> Vec<Descriptor> {
        let referring = self.subject(what).referring.into_iter();
        referring
            .flat_map(
                |one| match Document::parse(&one.descriptor.media_type, one.manifest).unwrap() {
                    Document::Manifest(manifest) => manifest.layers,
                    Document::Index(_) => Vec::new(),
                },
            )
            .collect()
    }

    pub(crate) fn fetch(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let found = self.blobs.get(&descriptor.digest).cloned();
        found.ok_or_else(|| Error::NotFound {
            what: descriptor.digest.to_string(),
            place: self.name.clone(),
            hint: None,
        })
    }

    pub(crate) fn check_as(
        &self,
        subject: &Subject,
        image: &str,
        signers: &Signers,
        now: SystemTime,
    ) -> ManifestVerdict {
        let image: Reference = image.parse().unwrap();
        let check = Check {
            image: &image,
            signers,
            now,
        };
        let mut fetch = |descriptor: &Descriptor, _: u64| self.fetch(descriptor);
        check.manifest(subject, &mut fetch).unwrap()
    }

    pub(crate) fn check(&self, what: &str, signers: &Signers) -> ManifestVerdict {
        self.check_as(
            &self.subject(what),
            "registry.example.test/acme/app:1",
            signers,
            now(),
        )
    }
}

/// The number of good signatures, and the codes of the flaws.
pub(crate) fn summary(verdict: &ManifestVerdict) -> (usize, Vec<&'static str>) {
    let flaws = verdict
        .signatures
        .iter()
        .filter_map(|one| one.outcome.as_ref().err());
    (verdict.good().count(), flaws.map(|flaw| flaw.code()).collect())
}
