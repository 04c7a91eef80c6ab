//! What the tools say where they signed, and of copies that they made.

use super::cases::CASES;
use super::signed::{Signed, side_by_side};
use super::verifiers::{assert_podman_agrees, assert_verdicts};
use crate::support::{Engine, Folder, ReferrersRegistry};

/// A registry with the referrers API.
pub fn referrers_registry() -> ReferrersRegistry {
    let sources = Engine::Docker28.root().unwrap().join("usr/share/gocode");
    let program = crate::go::build("tests/support/referrers.go", Some(&sources));
    ReferrersRegistry::start(&program, Folder::new())
}

#[test]
fn the_tools_pass_what_is_signed_and_refuse_the_rest() {
    let signed = Signed::get();
    assert_verdicts(signed, signed.registry.address(), CASES);
}

#[test]
fn podman_agrees_with_skopeo() {
    let signed = Signed::get();
    assert_podman_agrees(signed, signed.registry.address());
}

/// Without the tags that stand in for the referrers API.
#[test]
fn they_say_the_same_where_there_is_the_referrers_api() {
    let (signed, registry) = (Signed::get(), referrers_registry());
    side_by_side(CASES, |case| copy(signed, &registry, case.name));
    assert_verdicts(signed, registry.address(), CASES);
}

/// Copies an image with everything that refers to it.
fn copy(signed: &Signed, registry: &ReferrersRegistry, case: &str) {
    let tools = &signed.tools;
    let [from, to] = [signed.registry.address(), registry.address()];
    let [from, to] = [from, to].map(|address| format!("{address}/acme/{case}"));
    let plain = ["cp", "-r", "--from-plain-http", "--to-plain-http"];
    let names = [&format!("{from}:1.0")[..], &format!("{to}:1.0")];
    tools.run("oras", &[&plain[..], &names].concat()).ok();
    for tag in tools.run("crane", &["ls", &from]).ok().stdout.lines() {
        let is_attached = [".sig", ".att", ".sbom"].iter().any(|end| tag.ends_with(end));
        if is_attached {
            let names = [from.as_str(), &to].map(|name| format!("{name}:{tag}"));
            tools.run("crane", &["copy", &names[0], &names[1]]).ok();
        }
    }
    for tag in tools.run("crane", &["ls", &to]).ok().stdout.lines() {
        let is_list = tag.starts_with("sha256-") && !tag.contains('.');
        if is_list {
            tools.run("crane", &["delete", &format!("{to}:{tag}")]).ok();
        }
    }
    let left = tools.run("crane", &["ls", &to]).ok().stdout;
    assert!(
        left.lines().all(|tag| tag == "1.0" || tag.contains('.')),
        "{left}"
    );
}
