//! Archives in which many names, or many images, share large documents: memory goes by documents, not by names.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::shared::{INDEX, Shared, frugal, limited, put};
use crate::support::{Layer, Platform, Sealift, image, layer};

fn fits(sealift: &Sealift) {
    for args in [
        &["verify", "--jobs", "2", "layout"][..],
        &["list", "layout"],
        &["save", "--jobs", "2", "--from", "layout", "-o", "saved.tar"],
        &["verify", "--jobs", "2", "saved.tar"],
        &["list", "saved.tar"],
    ] {
        frugal(sealift, args).ok();
    }
}

#[test]
fn many_names_of_one_image_fit_into_memory() {
    let sealift = Sealift::new();
    let shared = Shared::new(&sealift.path("layout"));
    for names in [600, 10_000] {
        shared.name((0..names).map(|name| (format!("a:{name}"), shared.manifest.clone())));
        fits(&sealift);
    }
    let listed = sealift.run(&["list", "--json", "saved.tar"]).ok().json();
    let images = listed["archives"][0]["images"].as_array().unwrap();
    assert_eq!(images.len(), 10_000);
    assert!(images.iter().all(|image| image["complete"] == true));
}

#[test]
fn many_images_that_share_a_manifest_fit_into_memory() {
    let sealift = Sealift::new();
    let shared = Shared::new(&sealift.path("layout"));
    shared.name((0..600).map(|number| (format!("a:{number}"), shared.index(number))));
    fits(&sealift);
}

/// An archive of `docker save` of one image with many tags. Its layer is in it once, and is named `layers` times.
fn docker_save(path: &Path, tags: usize, layers: usize) {
    let layer = Layer::new().file("a", "a").tar();
    let diff_id = image::sha256(&layer);
    let config = json!({
        "architecture": Platform::host().architecture,
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": vec![diff_id; layers] },
        "config": { "Labels": { "padding": "c".repeat(3_000_000) } },
    })
    .to_string();
    let name = image::sha256(config.as_bytes()).replace("sha256:", "") + ".json";
    let tags: Vec<String> = (0..tags).map(|number| format!("a:{number}")).collect();
    let list = json!([{ "Config": name, "RepoTags": tags, "Layers": vec!["layer.tar"; layers] }]);
    let mut tar = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in [
        ("layer.tar", &layer[..]),
        (&name, config.as_bytes()),
        ("manifest.json", list.to_string().as_bytes()),
    ] {
        layer::append(&mut tar, name, 0o644, tar::EntryType::Regular, bytes);
    }
    tar.finish().unwrap();
}

#[test]
fn many_tags_in_a_docker_save_archive_fit_into_memory() {
    let sealift = Sealift::new();
    let save = ["save", "-q", "--from", "docker.tar", "-o", "saved.tar"];
    docker_save(&sealift.path("docker.tar"), 600, 1);
    frugal(&sealift, &save).ok();
    frugal(&sealift, &["list", "saved.tar"]).ok();

    docker_save(&sealift.path("docker.tar"), 600, 9_000);
    let said = frugal(&sealift, &save).code(1);
    assert!(said.stderr.contains("more than 500000 entries"), "{said:?}");
}

#[test]
fn small_indexes_over_one_large_index_fit_into_memory() {
    let sealift = Sealift::new();
    let shared = Shared::new(&sealift.path("layout"));
    // Nothing of what it names is here but the one manifest.
    let entries = (0..9_000_u64).map(|number| {
        let mut entry = shared.manifest.clone();
        if number > 0 {
            entry["digest"] = json!(format!("sha256:{number:064x}"));
        }
        entry
    });
    let entries: Vec<Value> = entries.collect();
    let large = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    let large = put(&shared.layout.join("blobs/sha256"), INDEX, &large.to_string());
    let small = |number: usize| {
        let mut small = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [large] });
        small["annotations"] = json!({ "number": number.to_string() });
        let blobs = shared.layout.join("blobs/sha256");
        (format!("a:{number}"), put(&blobs, INDEX, &small.to_string()))
    };
    shared.name((0..600).map(small));
    for args in [
        &["verify", "--jobs", "2", "layout"][..],
        &["list", "layout"],
        &["save", "--from", "layout", "-o", "saved.tar"],
    ] {
        // A third of what 600 lists of 9000 descriptors take.
        let said = limited(&sealift, 700, args).code(1);
        let said = said.stdout + &said.stderr;
        assert!(said.contains("more than 500000 entries"), "{said}");
    }
}
