//! Layers that are no tar, or are not stored as their type says: what sealift calls bad, engines refuse, and what they
//! load, it calls good.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::support::{Compression, Daemon, Engine, Image, Layer, Sealift, Store};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer's tar, of its own for each name: engines do not read a layer whose like they have.
fn tar(name: &str) -> Vec<u8> {
    Layer::new().file(name, name).tar()
}

/// Layers that no Docker unpacks.
fn bad() -> Vec<(&'static str, Layer)> {
    let again = |name| gzip(&tar(name));
    vec![
        ("text", Layer::of_tar(b"no tar".to_vec())),
        ("gzip-in-gzip", Layer::of_tar(again("gzip-in-gzip"))),
        (
            "plain-over-gzip",
            Layer::of_tar(again("plain-over-gzip")).compression(Compression::Plain),
        ),
        ("cut", Layer::of_tar(tar("cut")[..100].to_vec())),
        ("cut-in-data", Layer::of_tar(tar("cut-in-data")[..515].to_vec())),
    ]
}

/// Odd ones that all engines unpack.
fn good() -> Vec<(&'static str, Layer)> {
    let without = |name, count| tar(name)[..tar(name).len() - count].to_vec();
    vec![
        ("usual", Layer::of_tar(tar("usual"))),
        ("empty", Layer::of_tar(Vec::new())),
        ("endless", Layer::of_tar(without("endless", 1024))),
        ("half-ended", Layer::of_tar(without("half-ended", 512))),
        ("unpadded", Layer::of_tar(tar("unpadded")[..600].to_vec())),
        (
            "tailed",
            Layer::of_tar([tar("tailed"), b"tail".to_vec()].concat()),
        ),
    ]
}

/// An archive of an image with this layer, as sealift writes it.
fn archive(sealift: &Sealift, name: &str, layer: Layer) -> PathBuf {
    let base = Layer::new().file("base", "the same for all");
    let image = Image::single(vec![base, layer]).build(&sealift.path(&format!("{name}.layout")), "1");
    let (from, to) = (image.layout.to_str().unwrap(), format!("{name}.tar"));
    let wanted = format!("{name}:1");
    sealift
        .run(&["save", "-q", "--from", from, &wanted, "-o", &to])
        .ok();
    sealift.path(&to)
}

/// Whether the engine has an image that a container can be made of.
fn loads(daemon: &Daemon, archive: &Path, name: &str) -> bool {
    // The containerd store says that it loaded what it cannot unpack.
    let load = daemon.docker_with_stdin(&["load"], archive);
    let create = ["create", "--pull", "never", &format!("{name}:1"), "x"];
    load.code == Some(0) && daemon.docker(&create).code == Some(0)
}

fn bad_is_what_engines_refuse(engine: Engine, store: Store) {
    let sealift = Sealift::new();
    let daemon = Daemon::start(engine, store);
    for (name, layer) in bad() {
        let archive = archive(&sealift, name, layer);
        assert!(!loads(&daemon, &archive, name), "{name}");
        let found = sealift
            .run(&["verify", "--json", archive.to_str().unwrap()])
            .code(1)
            .json();
        let findings = found["archives"][0]["findings"].as_array().unwrap();
        assert!(
            findings.iter().any(|finding| finding["code"] == "layer"),
            "{name}: {found}"
        );
    }
    for (name, layer) in good() {
        let archive = archive(&sealift, name, layer);
        assert!(loads(&daemon, &archive, name), "{name}");
        sealift.run(&["verify", archive.to_str().unwrap()]).ok();
    }
}

on_every_engine!(bad_is_what_engines_refuse);
