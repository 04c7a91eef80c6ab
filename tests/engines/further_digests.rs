//! Further digests of a tag's image go where it goes: chosen with it, named anew with it, saved with it.

use crate::saving::at;
use crate::support::{Daemon, Engine, Image, Layer, Registry, Sealift, Store};

/// `docker images --digests` without the ids.
fn shown(daemon: &Daemon) -> Vec<String> {
    let lines = daemon.images();
    for id in daemon.docker(&["images", "-aq"]).ok().stdout.lines() {
        daemon.docker(&["rmi", "-f", id]);
    }
    lines
}

fn they_go_with_the_tag(engine: Engine, store: Store) {
    let sealift = Sealift::new();
    let hub = Registry::start();
    let layout = sealift.path("layout");
    let single = |content: &str| Image::single(vec![Layer::new().file("app/content", content)]);
    let index = |attestations| Image {
        index: true,
        attestations,
        ..single("one")
    };
    let first = index(true).build(&layout, "first");
    let second = index(false).build(&layout, "second");
    let here = Daemon::options(engine, store).mirror(&hub).start();
    for (root, tag) in [(&first, "1"), (&second, "1")] {
        hub.push(root, &format!("library/app:{tag}"));
        here.docker(&["pull", "--quiet", &format!("app:{tag}")]).ok();
    }
    let other = single("two").build(&layout, "other");
    hub.push(&other, "library/app:2");
    here.docker(&["pull", "--quiet", "app:2"]).ok();
    let images = here.images();
    assert_eq!(images.len(), 3, "{images:?}");
    let there = Daemon::options(engine, store)
        .own_mounts()
        .own_network(true)
        .start();

    let both = |name: &str, tag: &str| {
        let mut lines = [&first, &second]
            .map(|root| format!("{name}:{tag} {}", root.digest))
            .to_vec();
        lines.sort();
        lines
    };
    let load = |arguments: &[&str]| {
        at(&sealift, &there, &[&["load"][..], arguments].concat()).ok();
        shown(&there)
    };
    let from_docker = ["save", "--from", "docker", "--offline", "-o"];
    at(
        &sealift,
        &here,
        &[&from_docker[..], &["all.tar", "--all"]].concat(),
    )
    .ok();
    assert_eq!(load(&["all.tar", "--image", "app:1"]), both("app", "1"));
    assert_eq!(
        load(&["all.tar", "--image", "app:1", "--rename", "app:1=web:3"]),
        both("web", "3")
    );
    let rest = load(&["all.tar", "--rename", "app:1=web:3"]);
    assert_eq!(rest[..1], [format!("app:2 {}", other.digest)]);
    assert_eq!(rest[1..], both("web", "3"));
    // In a save, too, from the engine and from an archive.
    let one = ["one.tar", "app:1", "--rename", "app:1=web:3"];
    at(&sealift, &here, &[&from_docker[..], &one].concat()).ok();
    assert_eq!(load(&["one.tar"]), both("web", "3"));
    sealift
        .run(&["save", "--from", "all.tar", "app:1", "-o", "part.tar"])
        .ok();
    assert_eq!(load(&["part.tar"]), both("app", "1"));
}

#[test]
fn a_classic_store() {
    they_go_with_the_tag(Engine::Docker20, Store::Classic);
    they_go_with_the_tag(Engine::Docker28, Store::Classic);
}
