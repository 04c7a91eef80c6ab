//! Images of an engine that have no digest, where a registry has one under the name.

use serde_json::json;

use crate::saving::{at, layers};
use crate::support::{Daemon, Engine, Image, Registry, Run, Sealift, Store};

/// The one image of a document: name, source, digest and evidence.
#[track_caller]
fn told(said: &Run) -> serde_json::Value {
    let document = said.json();
    let image = &document["images"][0];
    assert_eq!(document["images"].as_array().unwrap().len(), 1, "{document}");
    json!([image["from"], image["digest"], image["evidence"]])
}

fn an_image_without_a_digest_comes_from_the_registry(engine: Engine) {
    let mut registry = Registry::start();
    let sealift = Sealift::new();
    let remote = Image::sample("app", "1").build(&sealift.path("layout"), "app");
    registry.push(&remote, "library/app:1");
    let daemon = Daemon::options(engine, Store::Classic).mirror(&registry).start();
    for name in ["app:1", "only:1"] {
        daemon.build(name, &layers("here"));
    }
    let mirror = format!("docker.io={}", registry.address());
    let line = |name: &'static str| {
        ["save", "--json", "--mirror", &mirror, "-o", "images.tar", name].map(str::to_owned)
    };
    let save = |name: &'static str, more: &[&str]| {
        let line = line(name);
        let line: Vec<&str> = line
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        at(&sealift, &daemon, &line)
    };
    let label = format!(
        "Docker {} (classic store)",
        daemon.api("/version")["Version"].as_str().unwrap()
    );

    let said = save("app:1", &[]).ok();
    let mirrored = format!("mirror {} of docker.io", registry.address());
    assert_eq!(told(&said), json!([mirrored, remote.digest, "verified"]));
    let note = format!("app:1 is taken from the registry: the digest of the one in {label} is not proven");
    assert!(said.stderr.contains(&note), "{}", said.stderr);
    sealift.run(&["verify", "-q", "images.tar"]).ok();

    // Where no registry has it, it is saved, and that is not what was hoped for.
    let local = json!([label, null, "none"]);
    for (name, more) in [("only:1", &[][..]), ("app:1", &["--offline"])] {
        let said = save(name, more).code(6);
        assert_eq!(told(&said), local, "{name}");
        sealift.run(&["verify", "-q", "images.tar"]).ok();
    }
    let said = at(
        &sealift,
        &daemon,
        &["save", "only:1", "--mirror", &mirror, "-o", "images.tar"],
    )
    .code(6);
    let warning = "warning: no digest was found, here or in a registry: only:1\nhint: --from docker ";
    assert!(said.stderr.contains(warning), "{}", said.stderr);
    // As it is in the engine that was named.
    assert_eq!(told(&save("app:1", &["--from", "docker"]).ok()), local);
    let all = at(
        &sealift,
        &daemon,
        &["save", "--all", "--json", "-o", "images.tar"],
    )
    .ok();
    assert_eq!(all.json()["images"].as_array().unwrap().len(), 2);

    registry.stop();
    let said = save("app:1", &[]).code(6);
    assert_eq!(told(&said), local);
    assert!(said.stderr.contains("continuing without"), "{}", said.stderr);
}

#[test]
fn docker_20_leaves_it_to_the_registry() {
    an_image_without_a_digest_comes_from_the_registry(Engine::Docker20);
}

#[cfg(feature = "test-all")]
#[test]
fn docker_26_leaves_it_to_the_registry() {
    an_image_without_a_digest_comes_from_the_registry(Engine::Docker26);
}

#[test]
fn docker_28_leaves_it_to_the_registry() {
    an_image_without_a_digest_comes_from_the_registry(Engine::Docker28);
}
