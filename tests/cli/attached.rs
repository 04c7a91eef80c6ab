//! `list --sbom` and `--attestation`: documents about images, as cosign, oras and buildkit attached them.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{Sealift, Transcript, run};

/// A folder with images of testdata/signatures.
fn prepared(images: &[&str]) -> Sealift {
    let sealift = Sealift::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/signatures");
    for name in images {
        let mut copy = sealift.shell("cp -r \"$FROM\" .");
        run(copy.env("FROM", fixtures.join(name))).ok();
    }
    sealift
}

#[test]
fn a_document_is_printed_as_it_is_stored() {
    let sealift = prepared(&["attestations", "buildkit-classic", "archives/r1.tar.gz"]);
    let print = |arguments: &[&str]| sealift.run(&[&["list"], arguments].concat()).ok().stdout;
    let text = print(&["attestations", "--attestation", "slsaprovenance1"]);
    let provenance: Value = serde_json::from_str(&text).unwrap();
    assert!(provenance["buildDefinition"].is_object(), "{text}");
    // It is a part of the statement that was signed, byte for byte.
    assert!(!text.ends_with('\n') && text.starts_with('{'), "{text}");
    assert_eq!(
        print(&["attestations", "--attestation", "https://slsa.dev/provenance/v1"]),
        text
    );
    let text = print(&["attestations", "--attestation", "cyclonedx"]);
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap()["bomFormat"],
        json!("CycloneDX")
    );
    let text = print(&["buildkit-classic", "--sbom", "--platform", "linux/amd64"]);
    let spdx: Value = serde_json::from_str(&text).unwrap();
    assert!(
        spdx["spdxVersion"].as_str().unwrap().starts_with("SPDX-"),
        "{text}"
    );
    let provenance = [
        "buildkit-classic",
        "--attestation",
        "slsaprovenance",
        "--platform",
        "linux/arm64",
    ];
    assert!(
        serde_json::from_str::<Value>(&print(&provenance))
            .unwrap()
            .is_object()
    );
}

#[test]
fn one_of_several_documents_is_chosen() {
    let sealift = prepared(&["attestations", "neg-unsigned", "archives/r2.tar.gz"]);
    let mut transcript = Transcript::of(&sealift);
    for arguments in [
        "attestations --sbom",
        "attestations --attestation vuln",
        "attestations --attestation slsaprovenance --platform linux/arm64",
        "neg-unsigned --sbom",
        "r2.tar.gz --sbom --image acme/one",
        "r2.tar.gz --sbom --image acme/two",
        "r2.tar.gz --image acme/one",
        "--json r2.tar.gz --sbom",
        "attestations neg-unsigned --sbom",
    ] {
        transcript.run(&format!("list {arguments}"));
    }
    assert_snapshot!(transcript.text(), @r#"
    $ sealift list attestations --sbom
    2> error: there are several: https://spdx.dev/Document of <digest 1> (linux/amd64) in <digest 2>; https://spdx.dev/Document of <digest 1> (linux/arm64/v8) in <digest 3>; https://cyclonedx.org/bom of <digest 1> (index) in <digest 4>; application/spdx+json of <digest 1> (linux/amd64) in <digest 5>; https://spdx.dev/Document of <digest 1> (linux/amd64) in <digest 6>; text/spdx+json of <digest 1> (linux/amd64) in <digest 7>; https://spdx.dev/Document of <digest 1> (linux/amd64) in <digest 8>
    2> hint: --image, --platform and --referrer choose one of them
    exit 2

    $ sealift list attestations --attestation vuln
    2> error: attestation of the type vuln not found in attestations
    2> hint: it has https://spdx.dev/Document of <digest 1> (linux/amd64) in <digest 2>; https://slsa.dev/provenance/v0.2 of <digest 1> (linux/amd64) in <digest 2>; https://spdx.dev/Document of <digest 1> (linux/arm64/v8) in <digest 3>; https://slsa.dev/provenance/v0.2 of <digest 1> (linux/arm64/v8) in <digest 3>; https://cyclonedx.org/bom of <digest 1> (index) in <digest 4>; application/spdx+json of <digest 1> (linux/amd64) in <digest 5>; https://slsa.dev/provenance/v1 of <digest 1> (linux/amd64) in <digest 9>; https://spdx.dev/Document of <digest 1> (linux/amd64) in <digest 6>; text/spdx+json of <digest 1> (linux/amd64) in <digest 7>; https://slsa.dev/provenance/v1 of <digest 1> (linux/amd64) in <digest 8>; https://spdx.dev/Document of <digest 1> (linux/amd64) in <digest 8>; https://example.test/review/v1 of <digest 1> (linux/amd64) in <digest 8>; https://example.test/review/v1 of <digest 1> (linux/amd64) in <digest 10>
    exit 7

    $ sealift list attestations --attestation slsaprovenance --platform linux/arm64
    {"builder": {"id": ""}, "buildType": "https://mobyproject.org/buildkit@v1", "materials": []}

    $ sealift list neg-unsigned --sbom
    2> error: SBOM not found in neg-unsigned
    2> hint: it has no SBOMs and no attestations
    exit 7

    $ sealift list r2.tar.gz --sbom --image acme/one
    2> error: SBOM not found in acme/one in r2.tar.gz
    2> hint: it has no SBOMs and no attestations
    exit 7

    $ sealift list r2.tar.gz --sbom --image acme/two
    2> error: acme/two not found in r2.tar.gz
    2> hint: it has acme/app:1.0, acme/one:1.0
    exit 7

    $ sealift list r2.tar.gz --image acme/one
    2> error: --image chooses what --sbom or --attestation prints
    2> hint: without them, list prints all images
    exit 2

    $ sealift list --json r2.tar.gz --sbom
    {
      "error": {
        "code": null,
        "exit": 2,
        "hint": null,
        "message": "a document is printed as it is stored, without --json"
      },
      "schema": 1
    }
    2> error: a document is printed as it is stored, without --json
    exit 2

    $ sealift list attestations neg-unsigned --sbom
    2> error: a document is printed from one archive
    exit 2
    "#);
    let said = sealift.run(&["list", "attestations", "--sbom"]).stderr;
    let digests = said.split("in sha256:").skip(1).map(|rest| &rest[..64]);
    let mut printed: Vec<String> = Vec::new();
    for digest in digests {
        let referrer = format!("sha256:{digest}");
        let run = sealift.run(&["list", "attestations", "--sbom", "--referrer", &referrer]);
        printed.push(run.ok().stdout);
    }
    printed.sort();
    printed.dedup();
    assert!(printed.len() > 1, "{printed:?}");
}

#[test]
fn an_attestation_of_another_image_is_noted() {
    let sealift = prepared(&["attestations"]);
    sealift.run(&["verify", "attestations"]).ok();
    // The statements are about linux/amd64: the same manifests under the tag of another image's attestations.
    let index = sealift.path("attestations/index.json");
    let text = fs::read_to_string(&index).unwrap();
    let mut layout: Value = serde_json::from_str(&text).unwrap();
    let name = "org.opencontainers.image.ref.name";
    let entries = layout["manifests"].as_array_mut().unwrap();
    let top = entries
        .iter()
        .find(|entry| entry["annotations"][name] == "1.0")
        .unwrap();
    let hex = top["digest"].as_str().unwrap()["sha256:".len()..].to_owned();
    let moved = entries.iter_mut().find_map(|entry| {
        let tag = entry["annotations"][name].as_str()?.to_owned();
        (tag.ends_with(".att") && !tag.contains(&hex)).then_some(entry)
    });
    moved.unwrap()["annotations"][name] = json!(format!("sha256-{hex}.att"));
    entries.dedup_by(|one, other| one["annotations"][name] == other["annotations"][name]);
    fs::write(&index, layout.to_string()).unwrap();
    let document = sealift.run(&["verify", "--json", "attestations"]).ok().json();
    let findings = document["archives"][0]["findings"].as_array().unwrap();
    let codes: Vec<&Value> = findings.iter().map(|finding| &finding["code"]).collect();
    assert!(codes.contains(&&json!("statement-of-another")), "{document:#}");
}
