//! Archives and layout folders that other tools wrote: their signatures travel on.

use std::collections::BTreeSet;
use std::path::Path;

use super::signed::Signed;
use super::tree::tree;
use crate::support::containerd::Version;
use crate::support::{Built, Containerd, Daemon, Engine, Sealift, Store, folder};

/// What refers to an image in an archive as `list` prints it, in the words of [`tree`].
fn listed(sealift: &Sealift, archive: &str, image: &Built) -> BTreeSet<String> {
    let document = sealift.run(&["list", "--json", archive]).ok().json();
    let [it] = document["archives"][0]["images"].as_array().unwrap().as_slice() else {
        panic!("not one image: {document}");
    };
    assert_eq!(it["digest"], image.digest.as_str());
    let is_in_index = |digest: &str| image.attestations.iter().any(|one| one.digest == digest);
    let mut found = BTreeSet::new();
    for one in it["referrers"].as_array().into_iter().flatten() {
        let [digest, subject] = ["digest", "subject"].map(|key| one[key].as_str().unwrap());
        if !is_in_index(digest) {
            let end = one["tag"].as_str().and_then(|tag| tag.split_once('.'));
            let end = end.map_or(String::new(), |(_, end)| format!(" .{end}"));
            found.insert(format!("{subject} <- {digest}{end}"));
        }
    }
    found
}

/// Verifies it, saves it again, and gives what refers to its image in both.
#[track_caller]
fn saved(from: &Path, name: &str, image: &Built) -> BTreeSet<String> {
    let sealift = Sealift::new();
    let from = from.to_str().unwrap();
    sealift.run(&["verify", "-q", from]).ok();
    let save = [
        "save",
        "-q",
        "--from",
        from,
        name,
        "--platform",
        "all",
        "-o",
        "all.tar",
    ];
    sealift.run(&save).ok();
    sealift.run(&["verify", "-q", "all.tar"]).ok();
    let found = listed(&sealift, "all.tar", image);
    assert_eq!(listed(&sealift, from, image), found);
    found
}

#[test]
fn of_oras_with_all_that_has_a_subject() {
    let signed = Signed::get();
    let (tools, repository) = (&signed.tools, format!("{}/acme/all", signed.registry.address()));
    let target = format!("{}:1.0", tools.inside("by-oras"));
    let copy = ["cp", "-r", "--from-plain-http", "--to-oci-layout"];
    tools
        .run(
            "oras",
            &[&copy[..], &[&format!("{repository}:1.0"), &target]].concat(),
        )
        .ok();
    let mut expected = tree(tools, &repository);
    expected.retain(|line| !line.contains(" ."));
    assert_eq!(
        saved(&tools.outside("by-oras"), "all:1.0", signed.image("all")),
        expected
    );
    let [folder, tar] = ["by-oras", "by-oras.tar"].map(|name| tools.inside(name));
    tools.run("tar", &["-cf", &tar, "-C", &folder, "."]).ok();
    assert_eq!(
        saved(&tools.outside("by-oras.tar"), "all:1.0", signed.image("all")),
        expected
    );
}

#[test]
fn of_cosign_with_its_signatures_and_attestations() {
    let signed = Signed::get();
    let (tools, repository) = (&signed.tools, format!("{}/acme/all", signed.registry.address()));
    let folder = tools.inside("by-cosign");
    tools
        .run(
            "cosign",
            &["save", "--dir", &folder, &format!("{repository}:1.0")],
        )
        .ok();
    // cosign 3.1.1 saves those of the index in the old format, and no bundles.
    let image = signed.image("all");
    let mut expected = tree(tools, &repository);
    expected.retain(|line| line.starts_with(&image.digest) && line.contains(" ."));
    assert_eq!(expected.len(), 2, "{expected:?}");
    assert_eq!(saved(&tools.outside("by-cosign"), &image.digest, image), expected);
}

/// These keep no signatures.
#[test]
fn of_docker_and_containerd_without() {
    let (signed, sealift) = (Signed::get(), Sealift::new());
    let image = signed.image("all");
    let mirror = format!("docker.io={}", signed.registry.address());
    let name = "docker.io/acme/all:1.0";
    let save = [
        "save",
        "-q",
        name,
        "--platform",
        "all",
        "--mirror",
        &mirror,
        "-o",
        "signed.tar",
    ];
    sealift.run(&save).ok();

    let daemon = Daemon::start(Engine::Docker28, Store::Containerd);
    daemon
        .docker_with_stdin(&["load"], &sealift.path("signed.tar"))
        .ok();
    let out = daemon.data_inside("saved.tar").display().to_string();
    daemon.docker(&["save", "-o", &out, "acme/all:1.0"]).ok();
    assert_eq!(saved(&daemon.data("saved.tar"), name, image), BTreeSet::new());

    let containerd = Containerd::start(Version::V2_1);
    folder::linked(&sealift.path("signed.tar"), &containerd.data("signed.tar"));
    let [from, to] =
        ["signed.tar", "exported.tar"].map(|name| containerd.data_inside(name).display().to_string());
    for args in [
        &["images", "import", "--all-platforms", &from][..],
        &["images", "export", "--local", "--all-platforms", &to, name],
    ] {
        containerd.ctr("default", args).ok();
    }
    assert_eq!(
        saved(&containerd.data("exported.tar"), name, image),
        BTreeSet::new()
    );
}
