//! Indexes that name no platforms, and indexes whose platforms the configs deny.

use serde_json::json;

use crate::loading::assert_runs;
use crate::support::{Built, Daemon, Engine, Image, Platform, Registry, Run, Sealift, Store, run};

/// An image for each of these platforms, whose version is the platform, in an index that gives others.
fn image(platforms: &[&str], index: &[&str]) -> Image {
    Image::of_platforms(platforms).index_platforms(index)
}

/// Saves `app:1` out of a registry.
fn save(sealift: &Sealift, registry: &Registry, options: &[&str], archive: &str) -> Run {
    let mirror = format!("docker.io={}", registry.address());
    let save = [
        "save", "--from", "registry", "--mirror", &mirror, "app:1", "-o", archive,
    ];
    sealift.run(&[&save[..], options].concat())
}

fn pushed(sealift: &Sealift, image: &Image) -> (Built, Registry) {
    let registry = Registry::start();
    let built = image.build(&sealift.path("layout"), "1");
    registry.push(&built, "library/app:1");
    (built, registry)
}

/// Docker from 23 on pulls the first image of an index that names no platforms, 20.10 none. sealift saves and loads the
/// one that the configs say is for this machine, and shows its digest where a pull would choose it too.
fn an_index_without_platforms(engine: Engine, store: Store) {
    let (host, foreign) = (Platform::host().to_string(), Platform::foreign().to_string());
    let is_old = engine == Engine::Docker20;
    for platforms in [&[host.as_str()][..], &[&host, &foreign], &[&foreign, &host]] {
        let sealift = Sealift::new();
        let (built, registry) = pushed(&sealift, &image(platforms, &[]));
        let puller = Daemon::start(engine, store);
        let name = format!("{}/library/app:1", registry.address());
        let pulled = puller.docker(&["pull", "--quiet", &name]);
        if is_old {
            let pulled = pulled.code(1);
            assert!(pulled.stderr.contains("no matching manifest"), "{pulled:?}");
        } else {
            pulled.ok();
            assert_runs(&puller, &name, platforms[0]);
        }

        save(&sealift, &registry, &[], "app.tar").ok();
        let verified = sealift.run(&["verify", "--json", "app.tar"]).ok().json();
        let saved = &verified["archives"][0]["images"][0];
        assert_eq!(saved["digest"], built.digest.as_str());
        assert_eq!(saved["platforms"], json!([host]));

        let daemon = Daemon::start(engine, store);
        let sealift = sealift.docker(&daemon);
        let loaded = sealift.run(&["load", "app.tar"]);
        let is_first = platforms[0] == host;
        if engine == Engine::Docker26 && store == Store::Containerd && !is_first {
            // It sees the first image alone, which is not there.
            let loaded = loaded.code(5);
            assert!(loaded.stderr.contains("nothing was named"), "{loaded:?}");
            assert!(daemon.inspect("app:1").is_none());
            continue;
        }
        if store == Store::Containerd || is_first && !is_old {
            loaded.ok();
            assert_eq!(daemon.images(), [format!("app:1 {}", built.digest)]);
        } else {
            let loaded = loaded.code(6);
            let says = match is_old {
                true => "mirror shows no image for which its index names no platform",
                false => "mirror shows only the first image of an index that names no platforms",
            };
            assert!(loaded.stderr.contains(says), "{loaded:?}");
            assert_eq!(daemon.images(), ["app:1 <none>"]);
        }
        assert_runs(&daemon, "app:1", &host);

        let error = save(&sealift, &registry, &["--platform", "linux/s390x"], "other.tar").code(7);
        let mut has: Vec<&str> = platforms.to_vec();
        has.sort_unstable();
        let hint = format!("hint: it has {}; choose with --platform", has.join(", "));
        assert!(error.stderr.contains(&hint), "{error:?}");
    }
}

on_every_engine!(an_index_without_platforms);

/// Every engine pulls and runs an image whose config denies what its index says. sealift refuses it, since it would not be
/// what it is called, and takes the manifest by its own digest.
fn an_index_that_the_config_denies(engine: Engine, store: Store) {
    let (host, foreign) = (Platform::host().to_string(), Platform::foreign().to_string());
    let sealift = Sealift::new();
    let (built, registry) = pushed(&sealift, &image(&[&foreign], &[&host]));
    let name = format!("{}/library/app", registry.address());
    let daemon = Daemon::start(engine, store);
    daemon.docker(&["pull", "--quiet", &format!("{name}:1")]).ok();
    assert_runs(&daemon, &format!("{name}:1"), &foreign);

    let manifest = &built.manifests[0].digest;
    let says = format!("{manifest}: its index says that it is for {host}, its config {foreign}");
    let refused = save(&sealift, &registry, &[], "app.tar").code(1);
    assert!(refused.stderr.contains(&says), "{refused:?}");
    let all = save(&sealift, &registry, &["--platform", "all"], "app.tar").code(1);
    assert!(all.stderr.contains(&says), "{all:?}");

    let mut copy = registry.skopeo("copy", "--src-");
    copy.args(["-q", "--all", &format!("docker://{name}:1")]);
    run(copy.arg(format!(
        "oci-archive:{}:docker.io/library/app:1",
        sealift.path("skopeo.tar").display()
    )))
    .ok();
    let found = sealift.run(&["verify", "--json", "skopeo.tar"]).code(1).json();
    let finding = &found["archives"][0]["findings"][0];
    assert_eq!(finding["code"], "platform-differs");
    assert_eq!(finding["place"]["digest"], manifest.as_str());
    let empty = Daemon::start(engine, store);
    let sealift = sealift.docker(&empty);
    let refused = sealift.run(&["load", "skopeo.tar"]).code(1);
    assert!(
        refused.stderr.contains("its index says that it is for"),
        "{refused:?}"
    );
    assert_eq!(empty.images(), [""; 0]);
    let again = sealift
        .run(&["save", "--from", "skopeo.tar", "app:1", "-o", "app.tar"])
        .code(1);
    assert!(
        again.stderr.contains("its index says that it is for"),
        "{again:?}"
    );

    let pinned = format!("{name}@{manifest}");
    let save = ["save", "-q", "--from", "registry", "--platform", &foreign];
    sealift
        .run(&[&save[..], &[&pinned, "-o", "pinned.tar"]].concat())
        .ok();
    sealift.run(&["verify", "pinned.tar"]).ok();
}

on_every_engine!(an_index_that_the_config_denies);
