//! Images that have no name: they are counted, saved by their ids, and named when they are loaded.

use std::fs;

use serde_json::{Value, json};

use crate::loading::assert_runs;
use crate::saving::{Nobody, at, layers};
use crate::support::{Daemon, Engine, Image, Layer, Registry, Sealift, Store};

/// Images of a daemon that it lists as `<none>:<none>`.
fn without_a_name(daemon: &Daemon) -> Vec<String> {
    let list = daemon.api("/images/json");
    let is_nameless = |image: &&Value| {
        let tags = image["RepoTags"].to_string();
        tags.contains("<none>") || !tags.contains(':')
    };
    let ids = list.as_array().unwrap().iter().filter(is_nameless);
    ids.map(|image| image["Id"].as_str().unwrap().to_owned())
        .collect()
}

fn images_are_saved_by_their_ids(engine: Engine, store: Store) {
    let sealift = Sealift::new();
    let daemon = Daemon::start(engine, store);
    daemon.build("built:1", &layers("2"));
    let all = ["save", "--from", "docker", "--offline", "--all", "-o", "all.tar"];
    let said = at(&sealift, &daemon, &all).ok();
    assert!(!said.stderr.contains("without a name"), "{said:?}");
    let system = Layer::busybox().file("app/version", "1").tar();
    fs::write(daemon.data("system.tar"), system).unwrap();
    let file = daemon.data_inside("system.tar");
    let first = daemon.docker(&["import", file.to_str().unwrap()]).ok().stdout;
    let first = first.trim().to_owned();
    assert_eq!(without_a_name(&daemon), [first.as_str()]);

    let nobody = Nobody::new();
    for said in [at(&sealift, &daemon, &all), nobody.run(&daemon, &all)] {
        let said = said.ok();
        let told = "note: 1 image without a name (<none>:<none>) is skipped";
        assert!(
            said.stderr.contains(told) && said.stderr.contains(&first),
            "{said:?}"
        );
    }
    let told = at(&sealift, &daemon, &[&all[..], &["--json"]].concat())
        .ok()
        .json();
    assert_eq!(told["nameless"], json!([first]));
    assert_eq!(told["images"][0]["name"], "built:1");
    assert_eq!(told["images"].as_array().unwrap().len(), 1);

    let by_id = [
        "save",
        "--from",
        "docker",
        "--offline",
        &first,
        "--json",
        "-o",
        "one.tar",
    ];
    for said in [nobody.run(&daemon, &by_id), at(&sealift, &daemon, &by_id)] {
        let image = &said.ok().json()["images"][0];
        assert_eq!(image["name"], Value::Null, "{image:#}");
        let evidence = match store {
            Store::Classic => json!([null, "none"]),
            Store::Containerd => json!([first, "verified"]),
        };
        assert_eq!(json!([image["digest"], image["evidence"]]), evidence);
    }
    sealift.run(&["verify", "one.tar"]).ok();
    let short = &first["sha256:".len()..][..12];
    for id in [short, &first["sha256:".len()..], &first[..20]] {
        let line = ["save", "--offline", "--json", id, "-o", "short.tar"];
        let code = if store == Store::Classic { 6 } else { 0 };
        let said = at(&sealift, &daemon, &line).code(code);
        assert_eq!(said.json()["images"][0]["name"], Value::Null, "{id}");
        let same = ["one.tar", "short.tar"].map(|archive| fs::read(sealift.path(archive)).unwrap());
        assert!(same[0] == same[1], "{id}");
    }
    let unknown = ["save", "--offline", "sha256:0123456", "-o", "short.tar"];
    let said = at(&sealift, &daemon, &unknown).code(7);
    let told = "error: an image id that begins with sha256:0123456 not found in the local Docker";
    assert!(said.stderr.contains(told), "{said:?}");
    // As a name it counts first.
    daemon.docker(&["tag", "built:1", short]).ok();
    let line = [
        "save",
        "--from",
        "docker",
        "--offline",
        "--json",
        short,
        "-o",
        "short.tar",
    ];
    let said = at(&sealift, &daemon, &line).ok().json();
    assert_eq!(said["images"][0]["name"], format!("{short}:latest"), "{said:#}");
    daemon.docker(&["rmi", &format!("{short}:latest")]).ok();
    let there = Daemon::start(engine, store);
    let said = at(&sealift, &there, &["load", "one.tar"]).code(2);
    let told =
        format!("error: image {first} has no name in one.tar\nhint: --rename {first}=NAME:TAG names it");
    assert!(said.stderr.contains(&told), "{said:?}");
    let rename = format!("{short}=web:7");
    at(&sealift, &there, &["load", "-q", "one.tar", "--rename", &rename]).ok();
    assert_runs(&there, "web:7", "1");
    assert_eq!(there.inspect("web:7").unwrap()["Id"], first.as_str());

    // Where nothing has a name there is nothing to save.
    daemon.docker(&["rmi", "built:1"]).ok();
    let said = at(&sealift, &daemon, &all).code(2);
    assert!(said.stderr.contains("1 image without a name"), "{said:?}");
}

on_every_engine!(images_are_saved_by_their_ids);

/// An image of which the containerd store lacks the config is shown by a digest without a name, which is none.
#[test]
fn a_partial_image_has_the_name_that_it_has() {
    let (sealift, registry) = (Sealift::new(), Registry::start());
    let daemon = Daemon::options(Engine::Docker28, Store::Containerd)
        .mirror(&registry)
        .start();
    let layout = sealift.path("layout");
    let [partial, whole] = ["partial", "whole"].map(|name| {
        let image = Image::sample(name, "1").build(&layout, name);
        registry.push(&image, &format!("library/{name}:1"));
        daemon.docker(&["pull", "--quiet", &format!("{name}:1")]).ok();
        image
    });
    let blobs = daemon
        .data_root()
        .join("containerd/daemon/io.containerd.content.v1.content/blobs");
    fs::remove_file(blobs.join(partial.host().config.replace(':', "/"))).unwrap();
    let list = daemon.api("/images/json");
    let listed = list
        .as_array()
        .unwrap()
        .iter()
        .find(|image| image["Id"] == partial.digest.as_str());
    assert_eq!(
        listed.unwrap()["RepoDigests"],
        json!([partial.digest]),
        "{list:#}"
    );
    drop(registry);
    let all = [
        "save",
        "--from",
        "docker",
        "--offline",
        "--all",
        "--json",
        "-o",
        "all.tar",
    ];
    let told = at(&sealift, &daemon, &all).code(7).json();
    assert_eq!(told["images"][0]["digest"], whole.digest.as_str(), "{told:#}");
    assert_eq!(told["left_out"][0]["name"], "partial:1", "{told:#}");
    assert_eq!(told["nameless"], json!([]));
}
