//! What `list` says that Docker will show as IMAGE ID, beside what it shows after a load.

use serde_json::Value;

use crate::saving::{at, layers};
use crate::support::{Daemon, Engine, Image, Platform, Sealift, Store};

/// The image ids that a list of an archive promises for a kind of store, with names, sorted.
fn promised(sealift: &Sealift, archive: &str, store: Store) -> Vec<String> {
    let listed = sealift.run(&["list", "--json", archive]).ok().json();
    let kind = match store {
        Store::Classic => "classic",
        Store::Containerd => "containerd",
    };
    let images = listed["archives"][0]["images"].as_array().unwrap();
    let host = Platform::host().to_string();
    let id = |image: &Value| {
        let variants = image["manifests"].as_array().unwrap();
        let variant = variants.iter().find(|one| one["platform"] == host.as_str());
        let id = variant.unwrap()["image_id"][kind].as_str().unwrap().to_owned();
        format!("{} {id}", image["name"].as_str().unwrap())
    };
    let mut ids: Vec<_> = images.iter().map(id).collect();
    ids.sort();
    ids
}

fn shown(daemon: &Daemon) -> Vec<String> {
    let format = "{{.Repository}}:{{.Tag}} {{.ID}}";
    let said = daemon.docker(&["images", "--no-trunc", "--format", format]).ok();
    let mut ids: Vec<_> = said.stdout.lines().map(str::to_owned).collect();
    ids.sort();
    ids
}

fn a_list_tells_the_image_id(engine: Engine, store: Store) {
    let sealift = Sealift::new();
    let layout = sealift.path("layout");
    Image::sample("many", "1").build(&layout, "docker.io/library/many:1");
    Image::sample("one", "1")
        .without_index()
        .build(&layout, "docker.io/library/one:1");
    let builder = Daemon::start(Engine::Docker20, Store::Classic);
    builder.build("built:1", &layers("1"));
    let line = ["save", "--from", "docker", "built:1", "-o", "built.tar"];
    at(&sealift, &builder, &line).ok();
    sealift
        .run(&["save", "--from", "layout", "-o", "images.tar"])
        .ok();
    let daemon = Daemon::start(engine, store);
    at(&sealift, &daemon, &["load", "-q", "images.tar", "built.tar"]).ok();
    let mut expected = promised(&sealift, "images.tar", store);
    expected.extend(promised(&sealift, "built.tar", store));
    expected.sort();
    assert_eq!(expected.len(), 3);
    assert_eq!(shown(&daemon), expected);
}

on_every_engine!(a_list_tells_the_image_id);
