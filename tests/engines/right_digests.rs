//! A tag gets its own digest, and no digest is called proven that is not.

use serde_json::Value;

use crate::saving::at;
use crate::support::*;

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
