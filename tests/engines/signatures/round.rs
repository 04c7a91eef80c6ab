//! From the registry in which the tools signed, in an archive, to registries that have never seen any of it.

use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::json;

use super::cases::CASES;
use super::signed::{ORIGIN, Signed, side_by_side};
use super::source::referrers_registry;
use super::tree::tree;
use super::verifiers::{assert_podman_agrees, assert_verdicts};
use crate::support::{Registry, Sealift, Serving};

/// Saves the images of all cases from a registry, and gives the digest of the archive.
fn save_all(signed: &Signed, sealift: &Sealift, address: &str, archive: &str) -> String {
    let names: Vec<String> = CASES.iter().map(|case| signed.name(case.name)).collect();
    let mirror = format!("{ORIGIN}={address}");
    let mut save = sealift.command(&[
        "save",
        "--json",
        "--platform",
        "all",
        "--mirror",
        &mirror,
        "-o",
        archive,
    ]);
    let report = crate::support::run(save.args(&names)).ok().json();
    report["digest"].as_str().unwrap().to_owned()
}

/// The archive of all cases with its digest, for all tests.
pub fn archive(signed: &Signed) -> (PathBuf, &'static str) {
    static DIGEST: OnceLock<String> = OnceLock::new();
    let path = signed.tools.outside("all.tar");
    let digest = DIGEST.get_or_init(|| {
        let (sealift, address) = (Sealift::new(), signed.registry.address());
        save_all(signed, &sealift, address, path.to_str().unwrap())
    });
    (path, digest)
}

/// Fails unless everything that refers to an image in the first registry does in the second, and nothing else.
#[track_caller]
fn assert_trees_are_equal(signed: &Signed, address: &str) {
    side_by_side(CASES, |case| {
        let [before, after] = [signed.registry.address(), address]
            .map(|address| tree(&signed.tools, &format!("{address}/acme/{}", case.name)));
        assert_eq!(before, after, "{}", case.name);
    });
}

/// Loads all cases into a registry, and fails unless the tools say there what they said where they signed, and an archive
/// that is saved from there is the same.
#[track_caller]
fn assert_arrives(signed: &Signed, sealift: &Sealift, address: &str) {
    let (archive, digest) = archive(signed);
    let to = format!("registry://{address}");
    let load = |more: &str| sealift.run(&["load", more, archive.to_str().unwrap(), "--to", &to]);
    load("-q").ok();
    assert_verdicts(signed, address, CASES);
    assert_trees_are_equal(signed, address);
    let again = load("--json").ok().json();
    assert_eq!(
        (&again["sent"], &again["changed"]),
        (&json!(0), &json!(false)),
        "{again}"
    );
    assert_trees_are_equal(signed, address);
    assert_eq!(save_all(signed, sealift, address, "again.tar"), digest);
}

#[test]
fn a_registry_gets_what_the_tools_signed() {
    let (signed, sealift, registry) = (Signed::get(), Sealift::new(), Registry::start());
    sealift
        .run(&["verify", "-q", archive(signed).0.to_str().unwrap()])
        .ok();
    assert_arrives(signed, &sealift, registry.address());
    assert_podman_agrees(signed, registry.address());
}

/// Its lists are made of the manifests alone.
#[test]
fn so_does_a_registry_with_the_referrers_api() {
    assert_arrives(Signed::get(), &Sealift::new(), referrers_registry().address());
}

#[test]
fn serve_has_what_the_tools_signed() {
    let (signed, sealift) = (Signed::get(), Sealift::new());
    let (archive, digest) = archive(signed);
    let serving = Serving::start(&sealift, &[archive.to_str().unwrap()]);
    assert_verdicts(signed, &serving.address, CASES);
    assert_podman_agrees(signed, &serving.address);
    assert_trees_are_equal(signed, &serving.address);
    assert_eq!(save_all(signed, &sealift, &serving.address, "again.tar"), digest);
}
