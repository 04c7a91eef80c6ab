//! A tag gets its own digest, and no digest is called proven that is not.

use serde_json::{Value, json};

use crate::loading::assert_runs;
use crate::saving::{Nobody, at, layers};
use crate::support::{Built, Daemon, Engine, Image, Registry, Run, Sealift, Store};

/// Indexes over one image for this machine, two of them with another platform's.
fn variants(sealift: &Sealift) -> [Built; 3] {
    let build = |name: &str, image: &Image| image.build(&sealift.path("layout"), name);
    let wide = Image::sample("app", "1");
    let bare = Image {
        attestations: false,
        ..Image::sample("app", "1")
    };
    let narrow = Image {
        platforms: Image::sample("app", "1").without_index().platforms,
        ..bare.clone()
    };
    [
        build("wide", &wide),
        build("bare", &bare),
        build("narrow", &narrow),
    ]
}

/// What a save says of a name: digest, evidence, number of platforms.
fn row<'a>(said: &'a Value, name: &str) -> (&'a str, &'a str, usize) {
    let images = said["images"].as_array().unwrap();
    let image = images.iter().find(|image| image["name"] == name);
    let image = image.unwrap_or_else(|| panic!("{name}: {said:#}"));
    let platforms = image["platforms"].as_array().unwrap().len();
    (
        image["digest"].as_str().unwrap(),
        image["evidence"].as_str().unwrap(),
        platforms,
    )
}

fn a_tag_gets_its_own(engine: Engine) {
    let sealift = Sealift::new();
    let hub = Registry::start();
    let variants = variants(&sealift);
    let here = Daemon::options(engine, Store::Classic).mirror(&hub).start();
    let mirror = format!("docker.io={}", hub.address());
    let mut names = Vec::new();
    for (last, own) in variants.iter().enumerate() {
        for name in [format!("app{last}:1"), format!("{}/x/app{last}:1", hub.address())] {
            let path = name.strip_prefix(hub.address()).map(|path| path[1..].to_owned());
            let path = path.unwrap_or_else(|| format!("library/{name}"));
            let earlier = variants.iter().enumerate().filter(|(at, _)| *at != last);
            for root in earlier.map(|(_, root)| root).chain([own]) {
                hub.push(root, &path);
                here.docker(&["pull", "--quiet", &name]).ok();
            }
            let shown = here.images();
            let of_name = shown.iter().filter(|line| line.starts_with(&format!("{name} ")));
            assert_eq!(of_name.count(), 3, "{shown:?}");
            names.push((name, own, last));
        }
    }
    let all: Vec<&str> = names.iter().map(|(name, ..)| name.as_str()).collect();
    let save = ["save", "--json", "--mirror", &mirror, "-o", "a.tar"];
    for what in [&["--all"][..], &["--from", "docker", "--all"], &all] {
        let said = at(&sealift, &here, &[&save[..], what].concat()).ok().json();
        for (name, own, _) in &names {
            assert_eq!(
                row(&said, name),
                (own.digest.as_str(), "verified", 1),
                "{what:?}: {name}"
            );
        }
        assert_eq!(said["images"].as_array().unwrap().len(), 18, "{said:#}");
    }
    for (name, own, last) in &names {
        let line = [&save[..], &["--platform", "all", name]].concat();
        let said = at(&sealift, &here, &line).ok();
        let platforms = if *last == 2 { 1 } else { 2 };
        assert_eq!(
            row(&said.json(), name),
            (own.digest.as_str(), "verified", platforms),
            "{name}"
        );
        for other in variants.iter().filter(|other| other.digest != own.digest) {
            let is_there = said.stderr.contains(&other.digest) || said.stdout.contains(&other.digest);
            assert!(is_there, "{name}: {said:?}");
        }
        let out_of_docker = [&line[..], &["--from", "docker"]].concat();
        let said = at(&sealift, &here, &out_of_docker);
        match last {
            2 => assert_eq!(row(&said.ok().json(), name), (own.digest.as_str(), "verified", 1)),
            _ => drop(said.code(7)),
        }
    }
    // Without a registry it is a guess, and is called one.
    let said = at(&sealift, &here, &["save", "--offline", "-o", "a.tar", "app0:1"]).ok();
    assert!(
        said.stderr
            .contains("app0:1 is saved with a guessed digest, sha256:"),
        "{said:?}"
    );
}

#[test]
fn a_tag_gets_the_digest_that_its_registry_gives_docker_20() {
    a_tag_gets_its_own(Engine::Docker20);
}

#[test]
fn a_tag_gets_the_digest_that_its_registry_gives_docker_28() {
    a_tag_gets_its_own(Engine::Docker28);
}

/// An archive of two images without their manifests: one that was never pushed, and one of which the digest is recorded,
/// which the registry has under `hub/app:1`.
struct Unproven {
    sealift: Sealift,
    app: String,
    digest: String,
    hub: Registry,
}

impl Unproven {
    /// Docker 28 compresses layers in an unknown way.
    fn new() -> Self {
        let (sealift, hub) = (Sealift::new(), Registry::start());
        let daemon = Daemon::start(Engine::Docker28, Store::Classic);
        let app = format!("{}/app:1", hub.address());
        daemon.build("app", &layers("1"));
        // Of another length: buildkit compares files by length and time.
        daemon.build("built:1", &layers("22"));
        let digest = daemon.push("app", &app);
        let save = ["save", "--from", "docker", "--offline", "-o", "source.tar"];
        at(&sealift, &daemon, &[&save[..], &["built:1", &app]].concat()).code(6);
        let from_registry = ["save", "--from", "registry", &app, "-o", "registry.tar"];
        sealift.run(&from_registry).ok();
        Self {
            sealift,
            app,
            digest,
            hub,
        }
    }

    fn load(&self, daemon: &Daemon, arguments: &[&str]) -> Run {
        at(
            &self.sealift,
            daemon,
            &[&["load", "--json"][..], arguments].concat(),
        )
    }
}

fn made_manifests_are_never_proven(engine: Engine) {
    let unproven = Unproven::new();
    let (sealift, app) = (&unproven.sealift, unproven.app.as_str());
    let middle = Daemon::start(engine, Store::Containerd);
    unproven.load(&middle, &["source.tar"]).code(6);
    let save = ["save", "--json", "--offline", "-o"];
    let all = [&save[..], &["next.tar", "--all"]].concat();
    let by_root = at(sealift, &middle, &all).ok().json();
    let nobody = Nobody::new();
    let by_nobody = nobody.run(&middle, &all).ok().json();
    let exported = middle.data_inside("exported.tar").display().to_string();
    middle.docker(&["save", "-o", &exported, "built:1", app]).ok();
    let exported = middle.data("exported.tar").display().to_string();
    let out_of_file = sealift
        .run(&[&save[..], &["other.tar", "--from", &exported]].concat())
        .ok()
        .json();
    for said in [&by_root, &by_nobody, &out_of_file] {
        let images = said["images"].as_array().unwrap();
        assert_eq!(images.len(), 2, "{said:#}");
        for image in images {
            assert_eq!(
                json!([image["digest"], image["evidence"]]),
                json!([null, "none"]),
                "{said:#}"
            );
        }
    }
    let shown = middle.inspect("built:1").unwrap()["RepoDigests"][0].clone();
    let by_digest = [&save[..], &["digest.tar", shown.as_str().unwrap()]].concat();
    let said = at(sealift, &middle, &by_digest).code(7);
    assert!(said.stdout.contains("ask for it by its tag"), "{said:?}");

    let last = Daemon::start(Engine::Docker28, Store::Classic);
    for archive in ["next.tar", "other.tar"] {
        unproven.load(&last, &[archive]).ok();
        let mut expected = vec![format!("{app} <none>"), "built:1 <none>".to_owned()];
        expected.sort();
        assert_eq!(last.images(), expected);
        assert_runs(&last, "built:1", "22");
    }
    // What is pushed is a registry's.
    let pushed = format!("{}/made:1", unproven.hub.address());
    middle.docker(&["tag", "built:1", &pushed]).ok();
    middle.docker(&["push", "--quiet", &pushed]).ok();
    let digest = unproven.hub.digest_of("made:1");
    for from in [&[][..], &["--from", "registry"], &["--from", "docker"]] {
        let line = [&["save", "--json", "-o", "pushed.tar", &pushed][..], from].concat();
        let said = at(sealift, &middle, &line).ok().json();
        assert_eq!(row(&said, &pushed), (digest.as_str(), "verified", 1), "{from:?}");
        let verified = sealift.run(&["verify", "--json", "pushed.tar"]).ok().json();
        assert_eq!(verified["archives"][0]["images"][0]["evidence"], "verified");
    }
}

#[test]
fn manifests_that_sealift_made_are_never_proven() {
    made_manifests_are_never_proven(Engine::Docker28);
    #[cfg(feature = "test-all")]
    made_manifests_are_never_proven(Engine::Docker26);
}

fn an_image_with_its_manifest_stays(engine: Engine) {
    let unproven = Unproven::new();
    let app = unproven.app.as_str();
    let line = format!("{app} {}", unproven.digest);
    let there = Daemon::start(engine, Store::Containerd);
    // Loaded without its manifest first, it gets it.
    unproven.load(&there, &["source.tar", "--image", app]).code(6);
    assert!(!there.images().contains(&line));
    unproven.load(&there, &["registry.tar"]).ok();
    let before = there.images();
    assert!(before.contains(&line), "{before:?}");
    let stays = |archive: &str, code: i32| {
        let said = unproven
            .load(&there, &[archive, "--image", app])
            .code(code)
            .json();
        let image = &said["images"][0];
        assert_eq!(image["change"], "unchanged", "{said:#}");
        assert_eq!(there.images(), before);
        assert_runs(&there, &line.replacen(":1 ", "@", 1), "1");
        image.clone()
    };
    // A digest that is only recorded is reported as recorded, though it is shown.
    let image = stays("source.tar", 6);
    assert_eq!(
        json!([image["evidence"], image["shown"]]),
        json!(["recorded", true])
    );
    let classic = Daemon::start(Engine::Docker20, Store::Classic);
    unproven.load(&classic, &["source.tar", "--image", app]).code(6);
    let exported = classic.data_inside("exported.tar").display().to_string();
    classic.docker(&["save", "-o", &exported, app]).ok();
    let exported = classic.data("exported.tar").display().to_string();
    let none = ["save", "--from", &exported, "--all", "-o", "none.tar"];
    unproven.sealift.run(&none).ok();
    stays("none.tar", 0);
    // Where the tag was moved to one without, it comes back.
    there.docker(&["rmi", app]).ok();
    unproven.load(&there, &["none.tar", "--image", app]).ok();
    assert!(!there.images().contains(&line), "{:?}", there.images());
    unproven.load(&there, &["registry.tar"]).ok();
    assert!(there.images().contains(&line), "{:?}", there.images());
}

#[test]
fn an_image_that_the_containerd_store_has_with_its_manifest_stays() {
    an_image_with_its_manifest_stays(Engine::Docker28);
    #[cfg(feature = "test-all")]
    an_image_with_its_manifest_stays(Engine::Docker26);
}

/// A digest that was attached without its manifest is proven once that was at hand.
fn a_manifest_at_hand_is_kept(engine: Engine) {
    let unproven = Unproven::new();
    let app = unproven.app.as_str();
    let mut daemon = Daemon::start(engine, Store::Classic);
    let recorded = ["source.tar", "--image", app];
    unproven.load(&daemon, &recorded).code(6);
    daemon.stop();
    let root = daemon.data_root().display().to_string();
    let trusted = ["load", "--data-root", &root, "--trust-recorded"];
    unproven.sealift.run(&[&trusted[..], &recorded].concat()).code(6);
    daemon.start_again();
    assert_eq!(daemon.images(), [format!("{app} {}", unproven.digest)]);

    let save = [
        "save",
        "--json",
        "--offline",
        "--from",
        "docker",
        "--all",
        "-o",
        "next.tar",
    ];
    let said = at(&unproven.sealift, &daemon, &save).code(6).json();
    assert_eq!(row(&said, app).1, "recorded");
    let said = unproven.load(&daemon, &["registry.tar"]).ok().json();
    assert_eq!(said["images"][0]["change"], "unchanged", "{said:#}");
    let said = at(&unproven.sealift, &daemon, &save).ok().json();
    assert_eq!(row(&said, app), (unproven.digest.as_str(), "verified", 1));
}

#[test]
fn a_manifest_that_is_at_hand_is_kept() {
    a_manifest_at_hand_is_kept(Engine::Docker20);
    a_manifest_at_hand_is_kept(Engine::Docker28);
}
