//! Signatures: documents, bundles and envelopes. None is of the image that they are checked for.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;
use std::time::UNIX_EPOCH;

use libfuzzer_sys::fuzz_target;
use sealift::Result;
use sealift::oci::{Descriptor, Digest, Document, MediaType};
use sealift::trust::{Artifact, Policy, ReferringManifest, Role, Statement, Subject, Subjects};

const POLICY: &str = "{kind: SealiftPolicy, schema: 1, default: reject, images: [{name: '**', \
                      keys: [alice.pub, {file: alice.pub, log: rekor.pub}], \
                      certificates: {roots: ca.crt, identities: '*'}}]}";

static PARSED: LazyLock<Policy> = LazyLock::new(|| {
    let mut read = |path: &Path| -> Result<Vec<u8>> {
        let file: &[u8] = match path.to_str() {
            Some("ca.crt") => include_bytes!("../../testdata/signatures/notation-trust/ca.crt"),
            Some("rekor.pub") => include_bytes!("../../testdata/signatures/keys/rekor.pub"),
            _ => include_bytes!("../../testdata/signatures/keys/alice.pub"),
        };
        Ok(file.to_vec())
    };
    Policy::parse(Path::new("policy"), POLICY.as_bytes(), &mut read).unwrap()
});

fn describe(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(MediaType::new(media_type), Digest::sha256(bytes), bytes.len() as u64)
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for (config, media_type) in [
        (MediaType::OCI_EMPTY, "application/vnd.dev.cosign.simplesigning.v1+json"),
        (MediaType::OCI_EMPTY, "application/vnd.dev.sigstore.bundle.v0.3+json"),
        ("application/vnd.cncf.notary.signature", "application/jose+json"),
        ("application/vnd.cncf.notary.signature", "application/cose"),
    ] {
        let mut layer = describe(media_type, bytes);
        for name in ["dev.cosignproject.cosign/signature", "dev.sigstore.cosign/bundle"] {
            layer.annotations.insert(name.into(), text.clone().into());
        }
        let manifest = serde_json::json!({
            "schemaVersion": 2, "config": describe(config, b"{}"), "layers": [layer],
        });
        let manifest = manifest.to_string().into_bytes();
        let descriptor = describe(MediaType::OCI_MANIFEST, &manifest);
        let mut fetch = |_: &Descriptor, _: u64| -> Result<Vec<u8>> { Ok(bytes.to_vec()) };
        let document = Document::parse(&descriptor.media_type, manifest.clone()).unwrap();
        let _ = Artifact::read(&document, &mut fetch);
        let image = describe(MediaType::OCI_MANIFEST, b"image");
        let subjects = Subjects {
            name: "quay.io/acme/app:1".parse().unwrap(),
            root: image.digest,
            manifests: vec![Subject {
                descriptor: image,
                role: Role::Platform,
                referring: vec![ReferringManifest { descriptor, manifest }],
            }],
        };
        let verdict = PARSED.check(&subjects, UNIX_EPOCH, &mut fetch).unwrap();
        assert!(!verdict.is_met());
        let _ = serde_json::to_string(&verdict).unwrap();
    }
    let _ = Statement::parse(bytes);
});
