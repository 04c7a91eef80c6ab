//! Images from podman: pulled, loaded and built, after the registry is gone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::{Value, json};

use crate::load_podman::assert_equal;
use crate::saving::origins;
use crate::support::podman::{Podman, User, Version};
use crate::support::{Built, Compression, Image, Layer, Registry, Run, run};

/// A registry, and the images that are pushed to it.
pub struct Origin {
    pub registry: Registry,
    layouts: tempfile::TempDir,
}

impl Origin {
    pub fn new() -> Self {
        Self {
            registry: Registry::start(),
            layouts: tempfile::tempdir().unwrap(),
        }
    }

    /// Adds an image, such as `library/app:1`.
    pub fn push(&self, path: &str, image: &Image) -> Built {
        let built = image.build(&self.layouts.path().join(path.replace(['/', ':'], "-")), "x");
        self.registry.push(&built, path);
        built
    }
}

/// A layer with a file that only one of the image's own users may read.
fn private() -> Layer {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, uid, mode) in [("open", 0, 0o644), ("private", 999, 0o600), ("sealed", 0, 0)] {
        let bytes = name.repeat(40_000);
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(uid);
        header.set_size(u64::try_from(bytes.len()).unwrap());
        tar.append_data(&mut header, name, bytes.as_bytes()).unwrap();
    }
    Layer::of_tar(tar.into_inner().unwrap())
}

pub fn save_command(podman: &Podman, args: &[&str]) -> Command {
    let mut command = podman.command("sealift");
    command.args(["save", "--json", "--offline"]);
    if podman.user() == User::Root {
        // What its storage has is read without it.
        command.args(podman.storage());
    }
    command.args(args);
    command
}

/// `sealift save` of its images.
#[track_caller]
pub fn save(podman: &Podman, args: &[&str]) -> Run {
    run(&mut save_command(podman, &[&["--from", "podman"], args].concat()))
}

/// Name, digest and evidence of each image of a save.
pub fn saved(document: &Value) -> Vec<[String; 3]> {
    let images = document["images"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut images: Vec<_> = images
        .iter()
        .map(|image| ["name", "digest", "evidence"].map(|key| text(&image[key])))
        .collect();
    images.sort();
    images
}

/// Moves an archive to another podman.
pub fn carry(from: &Podman, to: &Podman, name: &str) -> String {
    let archive = to.outside(name);
    fs::copy(from.outside("home").join(name), &archive).unwrap();
    fs::set_permissions(&archive, fs::Permissions::from_mode(0o644)).unwrap();
    to.inside(name)
}

fn what_was_pulled_is_saved_and_loaded_as_it_was(version: Version, user: User) {
    let mut origin = Origin::new();
    let app = origin.push("library/app:1", &Image::sample("app", "1"));
    let web = origin.push("team/web:2", &Image::sample("web", "2").without_index());
    let secret = origin.push(
        "library/secret:3",
        &Image::single(vec![Layer::busybox(), private()]),
    );
    let zstd = origin.push(
        "library/zstd:4",
        &Image::sample("zstd", "4").compression(Compression::Zstd),
    );
    let podman = Podman::new(version, user);
    let pinned = format!("quay.io/team/web@{}", web.digest);
    let names = ["docker.io/library/app:1", &pinned, "docker.io/library/secret:3"].map(String::from);
    podman.pull(&origin.registry, &names);
    origin.registry.stop();

    let archive = format!("{}/all.tar", podman.inside("home"));
    let document = save(&podman, &["--all", "-o", &archive]).ok().json();
    let verified = |name: &str, digest: &str| [name, digest, "verified"].map(String::from);
    let mut expected = [
        verified("app:1", &app.digest),
        verified("secret:3", &secret.digest),
        verified(&pinned, &web.digest),
    ];
    expected.sort();
    assert_eq!(saved(&document), expected, "{document:#}");
    for image in document["images"].as_array().unwrap() {
        assert_eq!(image["provenance"]["manifest"]["from"], "engine");
        for (way, _) in origins(image) {
            assert!(way.starts_with("rebuilt"), "{image:#}");
        }
    }
    run(podman.command("sealift").args(["verify", &archive])).ok();

    // Another podman shows the same, and gives the same archive.
    let other = Podman::new(version, user);
    other.load(&[&carry(&podman, &other, "all.tar")]).ok();
    assert_equal(&podman, &other);
    let again = format!("{}/again.tar", other.inside("home"));
    let again = save(&other, &["--all", "-o", &again]).ok().json();
    assert_eq!(again["digest"], document["digest"]);

    // The layers of an encoder that is not known are saved uncompressed.
    origin.registry.start_again();
    podman.pull(&origin.registry, &["docker.io/library/zstd:4".into()]);
    origin.registry.stop();
    let archive = format!("{}/zstd.tar", podman.inside("home"));
    let document = save(&podman, &["zstd:4", "-o", &archive]).ok().json();
    assert_eq!(saved(&document), [verified("zstd:4", &zstd.digest)]);
    for (way, _) in origins(&document["images"][0]) {
        assert!(way.starts_with("uncompressed"), "{document:#}");
    }
    run(podman.command("sealift").args(["verify", &archive])).ok();
    let mut printed = podman.command("sealift");
    printed.args(["save", "--offline", "--from", "podman", "zstd:4", "-o", &archive]);
    if user == User::Root {
        printed.args(podman.storage());
    }
    let told = run(&mut printed).ok().stderr;
    assert!(
        told.contains("only Docker's classic store takes them: zstd:4\n"),
        "{told}"
    );

    // By its image id, by the digests of its index and its manifest, also shortened, and by a name with a digest.
    let id = app.host().config.clone();
    let archive = format!("{}/id.tar", podman.inside("home"));
    let by_id = save(&podman, &[&id, "-o", &archive]).ok().json();
    assert_eq!(by_id["images"][0]["evidence"], "none");
    for digest in [&app.digest, &app.host().digest] {
        for given in [&digest[..], &digest[7..19]] {
            let archive = format!("{}/nameless.tar", podman.inside("home"));
            let by_digest = save(&podman, &[given, "-o", &archive]).ok().json();
            let image = &by_digest["images"][0];
            assert_eq!(
                (&image["digest"], &image["evidence"]),
                (&json!(digest), &json!("verified"))
            );
        }
    }
    let by_digest = format!("app@{}", app.host().digest);
    let archive = format!("{}/digest.tar", podman.inside("home"));
    let by_digest = save(&podman, &[&by_digest, "-o", &archive]).ok().json();
    assert_eq!(
        by_digest["images"][0]["digest"],
        app.host().digest.as_str(),
        "{by_digest:#}"
    );
    let archive = format!("{}/missing.tar", podman.inside("home"));
    let missing = save(&podman, &["none:1", "-o", &archive]).code(7);
    let told = missing
        .stderr
        .replace(&podman.graph_root(), "ROOT")
        .replace(&web.digest, "DIGEST");
    insta::allow_duplicates!(insta::assert_snapshot!(told, @"
    error: none:1 not found in podman with ROOT
    hint: it has app:1, quay.io/team/web@DIGEST, secret:3, zstd:4
    "));
}

on_every_podman!(what_was_pulled_is_saved_and_loaded_as_it_was);

fn what_was_built_has_no_digest(version: Version, user: User) {
    let mut origin = Origin::new();
    origin.push("library/base:1", &Image::sample("base", "1").without_index());
    let podman = Podman::new(version, user);
    podman.pull(&origin.registry, &["docker.io/library/base:1".into()]);
    origin.registry.stop();
    podman.write_home(
        "context/Containerfile",
        "FROM docker.io/library/base:1\nCOPY more /app/more\n",
    );
    podman.write_home("context/more", "more");
    let context = format!("{}/context", podman.inside("home"));
    podman
        .podman(&["build", "--quiet", "--layers", "-t", "localhost/mine:1", &context])
        .ok();

    let archive = format!("{}/built.tar", podman.inside("home"));
    let document = save(&podman, &["--all", "-o", &archive]).ok().json();
    let names: Vec<_> = saved(&document)
        .into_iter()
        .map(|[name, _, evidence]| (name, evidence))
        .collect();
    let expected = [("base:1", "verified"), ("localhost/mine:1", "none")];
    assert_eq!(
        names,
        expected.map(|(name, evidence)| (name.to_owned(), evidence.to_owned()))
    );
    // `podman images` hides what only the build has left.
    assert_eq!(document["nameless"], serde_json::json!([]));
    run(podman.command("sealift").args(["verify", &archive])).ok();
}

on_both_podmans!(what_was_built_has_no_digest);

#[test]
fn auto_asks_podman() {
    let mut origin = Origin::new();
    let app = origin.push("library/app:1", &Image::sample("app", "1"));
    let podman = Podman::new(Version::Five, User::Rootless);
    podman.pull(&origin.registry, &["docker.io/library/app:1".into()]);
    origin.registry.stop();
    let archive = format!("{}/auto.tar", podman.inside("home"));
    let socket = format!("unix://{}/podman/podman.sock", podman.inside("state"));
    let mut auto = save_command(&podman, &["app:1", "-o", &archive]);
    let document = run(auto.env("DOCKER_HOST", socket)).ok().json();
    assert_eq!(
        saved(&document),
        [["app:1", &app.digest, "verified"].map(String::from)]
    );
}

/// Two additional stores, of which podman 4.3 lists only the last.
fn additional_stores_are_read(version: Version, user: User) {
    let mut origin = Origin::new();
    let app = origin.push("library/app:1", &Image::sample("app", "1"));
    let web = origin.push("library/web:2", &Image::sample("web", "2"));
    let podman = Podman::new(version, user);
    let home = podman.inside("home");
    podman.pull(&origin.registry, &["docker.io/library/app:1".into()]);
    let storage = |name: &str| {
        format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{home}/{name}\"\nrunroot = \"{home}/run-{name}\"\n"
        )
    };
    podman.write_home("second.conf", &storage("second"));
    let name = format!("{}/library/web:2", origin.registry.address());
    let mut pull = podman.command("podman");
    pull.env("CONTAINERS_STORAGE_CONF", format!("{home}/second.conf"));
    run(pull.args(["pull", "--quiet", "--tls-verify=false", &name])).ok();
    origin.registry.stop();

    let stores = format!("[\"{home}/second\", {:?}]", podman.graph_root());
    let options = format!("[storage.options]\nadditionalimagestores = {stores}\n");
    podman.write_home("third.conf", &(storage("third") + &options));
    let archive = format!("{home}/additional.tar");
    let mut additional = podman.command("sealift");
    additional.args([
        "save",
        "--json",
        "--offline",
        "--from",
        "podman",
        "--all",
        "-o",
        &archive,
    ]);
    let said = run(additional.env("CONTAINERS_STORAGE_CONF", format!("{home}/third.conf"))).ok();
    let verified = |name: &str, digest: &str| [name, digest, "verified"].map(String::from);
    let (web, app) = (verified(&name, &web.digest), verified("app:1", &app.digest));
    let told = said.stderr.replace(&podman.graph_root(), "ROOT");
    match version {
        Version::Four => {
            assert_eq!(saved(&said.json()), [app]);
            insta::assert_snapshot!(told, @"note: podman 4.3.1 lists only the last additional image store: images in others are not found; ROOT is read");
        }
        Version::Five => {
            assert_eq!(saved(&said.json()), [web, app]);
            assert_eq!(told, "");
        }
    }
}

#[test]
fn additional_stores_are_read_by_podman_4() {
    additional_stores_are_read(Version::Four, User::Root);
}

#[test]
fn additional_stores_are_read_by_podman_5() {
    additional_stores_are_read(Version::Five, User::Rootless);
}

/// podman refuses another folder for its state than that of its database, and says so.
#[test]
fn podman_is_asked_with_the_runroot_of_the_command_line() {
    for version in [Version::Four, Version::Five] {
        let podman = Podman::new(version, User::Rootless);
        assert!(podman.images().is_empty());
        let other = podman.inside("home/other-run");
        let archive = podman.inside("home/all.tar");
        let refused = save(&podman, &["--runroot", &other, "--all", "-o", &archive]).code(5);
        assert!(refused.stderr.contains(&other), "{}", refused.stderr);
    }
}
