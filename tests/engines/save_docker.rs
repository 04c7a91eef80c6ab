//! Images out of Docker whose registry is gone: they were built and pushed there, or pulled.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::saving::{BY_PUSH, GO, Served, Targets, assert_proven, at, layers_with_twins, saved};
use crate::support::{
    Compression, Daemon, Dialect, Engine, Folder, Image, Layer, Platform, Registry, Sealift, Store, engine,
    large, run,
};

const REQUIRED: [&str; 4] = ["--from", "docker", "--rebuild", "require"];

/// An image that one engine built and pushed, and others pulled, is saved out of each with the digest that the
/// registry gave while there was one.
fn keeps_its_digest(builder: Engine, pullers: &[Engine]) {
    let registry = Registry::start();
    let built = Daemon::start(builder, Store::Classic);
    let repository = format!("{}/library/app", registry.address());
    let name = format!("{repository}:1");
    built.build("app", &layers_with_twins("1"));
    let digest = built.push("app", &name);
    let served = Served::by(&registry, "library/app:1");
    assert_eq!(served.digest, digest);
    let pulled = pull(&registry, pullers, &["app:1"]);
    drop(registry);

    let sealift = Sealift::new();
    let image = saved(&sealift, &built, &[&REQUIRED[..], &[&name]].concat(), "built.tar");
    assert_proven(&image, &digest, BY_PUSH, &[(GO, 4)]);
    let text = at(
        &sealift,
        &built,
        &["save", "--from", "docker", &name, "-o", "again.tar"],
    )
    .ok();
    let line = format!("{name}: manifest rebuilt (docker push), 4 of 4 layers rebuilt (Go gzip -1)\n");
    assert!(text.stdout.contains(&line), "{text:?}");
    assert_same(&sealift, "built.tar", "again.tar");
    let pinned = format!("{name}@{digest}");
    let image = saved(
        &sealift,
        &built,
        &[&REQUIRED[..], &[&pinned]].concat(),
        "pinned.tar",
    );
    assert_proven(&image, &digest, BY_PUSH, &[(GO, 4)]);
    drop(built);

    let targets = Targets::start(builder);
    targets.take(&sealift, "built.tar", &repository, "built", &served);
    for mut daemon in pulled {
        let image = saved_thrice(&sealift, &mut daemon, "app:1", "pulled.tar");
        assert_proven(&image, &digest, "engine", &[(GO, 4)]);
        let name = format!("pulled-{:?}", daemon.engine()).to_lowercase();
        targets.take(&sealift, "pulled.tar", "app", &name, &served);
    }
}

/// Classic stores that have pulled these from a registry, as from docker.io.
fn pull(registry: &Registry, engines: &[Engine], names: &[&str]) -> Vec<Daemon> {
    let pull = |engine: &Engine| {
        let daemon = Daemon::options(*engine, Store::Classic).mirror(registry).start();
        for name in names {
            daemon.docker(&["pull", "--quiet", name]).ok();
        }
        daemon
    };
    engines.iter().map(pull).collect()
}

/// The document of an image that is saved offline, again after a restart, and again while Docker is stopped: each time
/// the same bytes.
fn saved_thrice(sealift: &Sealift, daemon: &mut Daemon, name: &str, archive: &str) -> Value {
    let out_of = [&REQUIRED[..], &["--offline", name]].concat();
    let image = saved(sealift, daemon, &out_of, archive);
    daemon.restart();
    assert_eq!(saved(sealift, daemon, &out_of, "again.tar"), image);
    assert_same(sealift, archive, "again.tar");
    daemon.stop();
    let root = daemon.data_root().to_str().unwrap().to_owned();
    let out_of = [&out_of[..], &["--data-root", &root]].concat();
    let stopped = saved(sealift, daemon, &out_of, "again.tar");
    let label = format!("the classic store in {root}");
    assert_eq!(stopped["from"], label.as_str());
    assert_same(sealift, archive, "again.tar");
    image
}

#[track_caller]
fn assert_same(sealift: &Sealift, one: &str, other: &str) {
    let [one, other] = [one, other].map(|name| fs::read(sealift.path(name)).unwrap());
    assert!(one == other, "two saves differ");
}

#[test]
fn built_with_docker_20() {
    keeps_its_digest(Engine::Docker20, &[Engine::Docker20, Engine::Docker28]);
}

#[cfg(feature = "test-all")]
#[test]
fn built_with_docker_26() {
    keeps_its_digest(Engine::Docker26, &[Engine::Docker26]);
}

/// An index with attestations, a list of Docker's, layers that two encoders made under a manifest of crane's, and
/// layers that zlib compressed at unusual levels.
fn keeps_what_others_pushed(puller: Engine) {
    let registry = Registry::start();
    let sealift = Sealift::new();
    let layout = sealift.path("layout");
    let index = Image::sample("index", "1").build(&layout, "index");
    let list = Image::sample("list", "1")
        .dialect(Dialect::Docker)
        .build(&layout, "list");
    registry.push(&index, "library/index:1");
    registry.push(&list, "library/list:1");
    append_by_crane(&registry, "library/list:1", "library/crane:1");
    let levels = (1..=9).map(|level| {
        let layer = Layer::busybox().real("/bin/bash").file("app/version", "1");
        layer
            .file("level", level.to_string())
            .compression(Compression::Zlib(level))
    });
    let levels = Image::single(levels.collect()).build(&layout, "levels");
    registry.push(&levels, "library/levels:1");
    let served =
        ["index", "list", "crane", "levels"].map(|name| Served::by(&registry, &format!("library/{name}:1")));
    assert_eq!(
        (&served[0].digest, &served[1].digest),
        (&index.digest, &list.digest)
    );
    let names = ["index:1", "list:1", "crane:1", "levels:1"];
    let mut daemons = pull(&registry, &[puller], &names);
    drop(registry);

    let daemon = &mut daemons[0];
    let zlib = "rebuilt: zlib 6";
    let each_level: Vec<String> = (1..=9).map(|level| format!("rebuilt: zlib {level}")).collect();
    let each_level: Vec<(&str, usize)> = each_level.iter().map(|way| (way.as_str(), 1)).collect();
    let mut images = Vec::new();
    for (name, served) in names.into_iter().zip(&served) {
        let archive = format!("{name}.tar");
        let image = saved(
            &sealift,
            daemon,
            &[&REQUIRED[..], &["--offline", name]].concat(),
            &archive,
        );
        let ways: &[(&str, usize)] = match name {
            "crane:1" => &[("rebuilt: Go gzip 1", 2), (zlib, 3)],
            "levels:1" => &each_level,
            _ => &[(zlib, 3)],
        };
        assert_proven(&image, &served.digest, "engine", ways);
        images.push(image);
    }
    let again = saved_thrice(&sealift, daemon, "index:1", "once-more.tar");
    assert_eq!(again, images[0]);
    assert_same(&sealift, "index:1.tar", "once-more.tar");
    let text = sealift.run(&["list", "crane:1.tar"]).ok().stdout;
    let line = "2 of 5 layers rebuilt (Go gzip 1), 3 of 5 layers rebuilt (zlib 6)";
    assert!(text.contains(line), "{text}");
    drop(daemons);

    let targets = Targets::start(puller);
    for (name, served) in names.into_iter().zip(&served) {
        let repository = name.trim_end_matches(":1");
        targets.take(&sealift, &format!("{name}.tar"), repository, repository, served);
    }
}

/// Puts two layers on top of an image, compressed at Go's level 1 as go-containerregistry does. The Go that Debian's
/// crane is built with may be a newer one, which compresses otherwise: crane keeps the bytes of a compressed layer.
fn append_by_crane(registry: &Registry, base: &str, to: &str) {
    let folder = Folder::new();
    let root = engine::Root::new(Engine::Docker28, folder.path());
    static GO: OnceLock<PathBuf> = OnceLock::new();
    let go = GO.get_or_init(crate::go::digests);
    let mut crane = root.command("crane");
    crane.args([
        "append",
        "--insecure",
        "--platform",
        &Platform::host().to_string(),
    ]);
    crane.arg("--base").arg(format!("{}/{base}", registry.address()));
    crane.arg("--new_tag").arg(format!("{}/{to}", registry.address()));
    let above = [
        Layer::new().real("/usr/bin/curl").real("/bin/bash"),
        Layer::new().noise("app/more", 9, 300_000),
    ];
    for (at, layer) in above.iter().enumerate() {
        let (tar, compressed) = (format!("{at}.tar"), format!("{at}.tar.gz"));
        fs::write(root.outside(&tar), layer.tar()).unwrap();
        let stdin = File::open(root.outside(&tar)).unwrap();
        let stdout = File::create(root.outside(&compressed)).unwrap();
        let mut level_1 = Command::new(go);
        let status = level_1.arg("1").stdin(stdin).stdout(stdout).status().unwrap();
        assert!(status.success(), "{status}");
        crane.arg("--new_layer").arg(root.inside(&compressed));
    }
    run(&mut crane).ok();
}

#[test]
fn pulled_with_docker_20() {
    keeps_what_others_pushed(Engine::Docker20);
}

#[cfg(feature = "test-all")]
#[test]
fn pulled_with_docker_26() {
    keeps_what_others_pushed(Engine::Docker26);
}

#[test]
fn pulled_with_docker_28() {
    keeps_what_others_pushed(Engine::Docker28);
}

/// Half a gigabyte of this machine's files in five layers, out of the engine that built it and of those that pulled it.
fn half_a_gigabyte(builder: Engine, pullers: &[Engine]) {
    let registry = Registry::start();
    let built = Daemon::start(builder, Store::Classic);
    let repository = format!("{}/library/large", registry.address());
    let name = format!("{repository}:1");
    large::build_on(&built, "large");
    let digest = built.push("large", &name);
    let served = Served::by(&registry, "library/large:1");
    assert_eq!(served.digest, digest);
    let pulled = pull(&registry, pullers, &["large:1"]);
    drop(registry);

    let sealift = Sealift::new();
    let out_of = |name| [&REQUIRED[..], &["--offline", name]].concat();
    let image = saved(&sealift, &built, &out_of(&name), "large.tar");
    assert_proven(&image, &digest, BY_PUSH, &[(GO, 5)]);
    for daemon in pulled {
        let image = saved(&sealift, &daemon, &out_of("large:1"), "pulled.tar");
        assert_proven(&image, &digest, "engine", &[(GO, 5)]);
    }
    let targets = Targets::start(Engine::Docker28);
    targets.take(&sealift, "large.tar", &repository, "large", &served);
}

#[test]
fn half_a_gigabyte_built_with_docker_20() {
    half_a_gigabyte(Engine::Docker20, &[]);
}

#[cfg(feature = "test-all")]
#[test]
fn half_a_gigabyte_built_with_docker_26() {
    half_a_gigabyte(Engine::Docker26, &[Engine::Docker20, Engine::Docker28]);
}
