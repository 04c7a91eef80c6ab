//! Signatures, SBOMs and attestations: what is saved of them, and what is printed.

use std::fs;
use std::process::Command;

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{Registry, Sealift, assert_documented, run};

/// An archive with twelve referrers, in one of the forms that tools write.
fn fixture(name: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    format!("{root}/testdata/signatures/archives/{name}.tar.gz")
}

#[test]
fn a_list_has_what_refers_to_an_image() {
    let sealift = Sealift::new();
    let listed = sealift.run(&["list", &fixture("r1")]).ok();
    let lines: Vec<&str> = listed
        .stdout
        .lines()
        .filter(|line| line.contains(" of "))
        .collect();
    assert_snapshot!(lines.join("\n"), @"
      1 signature of the index                            application/vnd.cncf.notary.signature                         2.8 kB
      1 signature of the index                            application/vnd.dev.cosign.simplesigning.v1+json              1.0 kB
      2 signatures of the index                           https://sigstore.dev/cosign/sign/v1                           3.0 kB
      1 other referrer of the index                       application/vnd.acme.note                                     762 B
      1 signature of linux/amd64                          https://sigstore.dev/cosign/sign/v1                           1.5 kB
      2 attestations of linux/amd64                       https://spdx.dev/Document                                     3.6 kB
      1 attestation of linux/amd64                        https://spdx.dev/Document, https://slsa.dev/provenance/v0.2   1.9 kB
      1 SBOM of linux/amd64                               text/spdx+json                                                950 B
      1 signature of linux/arm64/v8                       https://sigstore.dev/cosign/sign/v1                           1.5 kB
      1 attestation of linux/arm64/v8                     https://spdx.dev/Document, https://slsa.dev/provenance/v0.2   1.9 kB
      1 signature of the attestation for linux/amd64      https://sigstore.dev/cosign/sign/v1                           1.5 kB
      1 signature of the attestation for linux/arm64/v8   https://sigstore.dev/cosign/sign/v1                           1.5 kB
    ");
    let listed = sealift.run(&["list", "--json", &fixture("r1")]).ok();
    let document: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_documented(&document);
    let referrers = document["archives"][0]["images"][0]["referrers"]
        .as_array()
        .unwrap();
    // Twelve, and two attestations in the index.
    assert_eq!(referrers.len(), 14);
    assert_eq!(referrers.iter().filter(|one| one["in_index"] == true).count(), 2);
    let tags = referrers.iter().filter_map(|one| one["tag"].as_str());
    assert_eq!(tags.filter(|tag| tag.starts_with("sha256-")).count(), 3);
}

#[test]
fn a_verification_has_them_and_finds_what_is_wrong_with_them() {
    let sealift = Sealift::new();
    let verified = sealift.run(&["verify", &fixture("r1")]).ok();
    assert!(
        verified.stdout.contains("acme/app:1.0: 1 SBOM of "),
        "{verified:?}"
    );
    let verified = sealift.run(&["verify", "--json", &fixture("v5")]).ok();
    let document: Value = serde_json::from_str(&verified.stdout).unwrap();
    assert_documented(&document);
    let referrers = document["archives"][0]["images"][0]["referrers"]
        .as_array()
        .unwrap();
    assert_eq!(referrers.len(), 5);

    sealift
        .run(&["load", "-q", &fixture("r1"), "--to", "oci:layout"])
        .ok();
    let signature = referrers
        .iter()
        .find(|one| one["tag"].as_str().is_some_and(|tag| tag.ends_with(".sig")));
    let digest = signature.unwrap()["digest"].as_str().unwrap();
    let manifest = sealift
        .path("layout/blobs/sha256")
        .join(&digest["sha256:".len()..]);
    let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    let payload = manifest["layers"][0]["digest"].as_str().unwrap();
    fs::remove_file(
        sealift
            .path("layout/blobs/sha256")
            .join(&payload["sha256:".len()..]),
    )
    .unwrap();
    let path = digest.replacen(':', "/", 1);
    let path = format!("blobs/{path}");
    let said = sealift.run(&["verify", "layout"]).code(1);
    let told: Vec<&str> = said
        .stdout
        .lines()
        .filter(|line| line.starts_with("error"))
        .collect();
    assert_eq!(
        told,
        [
            format!("error: layout: {payload}: missing"),
            format!("error: layout: {path}: is damaged, and refers to acme/app:1.0"),
        ]
    );
    // Nothing of the image is loaded.
    let said = sealift.run(&["load", "layout", "--to", "oci:other"]).code(1);
    assert!(said.stderr.contains("missing"), "{said:?}");
    assert!(!sealift.path("other").exists());
}

/// Pushes all tags of a layout with skopeo.
fn push(registry: &Registry, layout: &std::path::Path, to: &str) {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    for entry in index["manifests"].as_array().unwrap() {
        let name = entry["annotations"]["org.opencontainers.image.ref.name"]
            .as_str()
            .unwrap();
        let tag = name.rsplit(':').next().unwrap();
        let mut command = registry.skopeo("copy", "--dest-");
        command.args(["--all", "--preserve-digests"]);
        command.arg(format!("oci:{}:{name}", layout.display()));
        let said = run(command.arg(format!("docker://{}/{to}:{tag}", registry.address())));
        // skopeo 1.9 wants to rewrite an index without platforms; all below it is there by then.
        if !said.stderr.contains("Manifest list must be converted") {
            said.ok();
            continue;
        }
        let digest = entry["digest"].as_str().unwrap().replacen(':', "/", 1);
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail", "-X", "PUT", "--data-binary"]);
        command.arg(format!("@{}", layout.join("blobs").join(digest).display()));
        command
            .arg("-H")
            .arg(format!("Content-Type: {}", entry["mediaType"].as_str().unwrap()));
        run(command.arg(format!("{}/v2/{to}/manifests/{tag}", registry.url()))).ok();
    }
}

/// The registry is CNCF distribution 2.8, which has no API for referrers.
#[test]
fn a_save_takes_them_from_a_registry() {
    let sealift = Sealift::new();
    let registry = Registry::start();
    // One has those with a subject, by lists under tags; the other has cosign's tags.
    for name in ["v6", "v5"] {
        let layout = sealift.path(name);
        fs::create_dir(&layout).unwrap();
        let mut command = Command::new("tar");
        run(command.arg("-xzf").arg(fixture(name)).arg("-C").arg(&layout)).ok();
        push(&registry, &layout, "acme/app");
    }
    let image = format!("{}/acme/app:1.0", registry.address());
    let rename = format!("{image}=acme/app:1.0");
    let save = |platform: &str, more: &[&str]| {
        let args = [
            "save",
            "--from",
            "registry",
            &image,
            "--platform",
            platform,
            "--rename",
            &rename,
        ];
        sealift.run(&[&args[..], &["-o", "images.tar"], more].concat())
    };
    let saved = save("all", &["--require-signed"]).ok();
    let told: Vec<&str> = saved
        .stdout
        .lines()
        .filter(|line| line.contains(" of "))
        .collect();
    assert_snapshot!(told.join("\n"), @"
    acme/app:1.0: 1 signature of the index, application/vnd.cncf.notary.signature, 2.8 kB
    acme/app:1.0: 1 signature of the index, application/vnd.dev.cosign.simplesigning.v1+json, 1.0 kB
    acme/app:1.0: 2 signatures of the index, https://sigstore.dev/cosign/sign/v1, 3.0 kB
    acme/app:1.0: 1 other referrer of the index, application/vnd.acme.note, 762 B
    acme/app:1.0: 1 signature of linux/amd64, https://sigstore.dev/cosign/sign/v1, 1.5 kB
    acme/app:1.0: 2 attestations of linux/amd64, https://spdx.dev/Document, 3.6 kB
    acme/app:1.0: 1 SBOM of linux/amd64, text/spdx+json, 950 B
    acme/app:1.0: 1 signature of linux/arm64/v8, https://sigstore.dev/cosign/sign/v1, 1.5 kB
    acme/app:1.0: 1 signature of the attestation for linux/amd64, https://sigstore.dev/cosign/sign/v1, 1.5 kB
    acme/app:1.0: 1 signature of the attestation for linux/arm64/v8, https://sigstore.dev/cosign/sign/v1, 1.5 kB
    ");
    let referrers = |path: &str| {
        let listed = sealift.run(&["list", "--json", path]).ok();
        let document: Value = serde_json::from_str(&listed.stdout).unwrap();
        document["archives"][0]["images"][0]["referrers"].clone()
    };
    assert_eq!(referrers("images.tar"), referrers(&fixture("r1")));
    assert!(
        !sealift
            .run(&["verify", "images.tar"])
            .ok()
            .stdout
            .contains("note: ")
    );

    let saved = save("linux/amd64", &["--json"]).ok();
    let document: Value = serde_json::from_str(&saved.stdout).unwrap();
    assert_documented(&document);
    assert_eq!(document["images"][0]["signed_elsewhere"][0], "linux/arm64/v8");
    assert!(
        saved
            .stderr
            .contains("is signed for linux/arm64/v8 too, which is not saved"),
        "{saved:?}"
    );
    let saved = save("all", &["--referrers", "signatures"]).ok();
    assert!(!saved.stdout.contains("SBOM"), "{saved:?}");
    let saved = save("all", &["--referrers", "none"]).ok();
    assert!(!saved.stdout.contains("signature"), "{saved:?}");
    save("all", &["--referrers", "none", "--require-signed"]).code(2);
}

#[test]
fn an_image_without_a_signature_is_refused_if_one_is_required() {
    let sealift = Sealift::new();
    for name in ["v0", "v6"] {
        let from = fixture(name);
        let args = ["save", "--from", &from, "--require-signed", "-o", "images.tar"];
        let said = sealift.run(&args);
        match name {
            "v0" => {
                let said = said.code(6);
                assert!(said.stderr.contains("acme/app:1.0 is not signed"), "{said:?}");
                assert!(!sealift.path("images.tar").exists());
            }
            _ => drop(said.ok()),
        }
    }
}
