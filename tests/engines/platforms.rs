//! Which platform's image is loaded, and what becomes of what is none: as a pull of the same reference.

use sealift::error::ErrorKind;
use sealift::load::LoadOptions;
use serde_json::json;

use crate::loading::{Images, Loader, assert_nothing_is_left, assert_runs, comparable, listed, pulled};
use crate::support::{Built, Daemon, Engine, Image, Layer, Platform, Registry, Sealift, Store, image};

/// An image for each platform, whose version is the platform.
fn image(platforms: &[&str]) -> Image {
    let layers = |platform: &Platform| {
        vec![
            Layer::busybox().file("etc/platform", platform.to_string()),
            Layer::new().file("app/version", platform.to_string()),
        ]
    };
    let platforms = platforms.iter().map(|text| Platform::new(text));
    Image {
        platforms: platforms
            .map(|platform| (platform.clone(), layers(&platform)))
            .collect(),
        index: true,
        ..Image::single(Vec::new())
    }
}

/// The platforms of indexes, and whether the engine takes one of them.
fn indexes(engine: Engine, store: Store) -> Vec<(&'static [&'static str], bool)> {
    let is_old = engine == Engine::Docker20;
    let knows_levels = !is_old && store == Store::Classic;
    if cfg!(target_arch = "aarch64") {
        return vec![
            (&["linux/arm/v7", "linux/arm64"], true),
            (&["linux/arm/v6", "linux/arm/v7"], !is_old),
        ];
    }
    vec![
        (&["linux/amd64", "linux/amd64/v2", "linux/amd64/v3"], true),
        (&["linux/amd64/v3", "linux/amd64/v1"], true),
        (&["linux/386", "linux/amd64"], true),
        (&["linux/386"], !is_old),
        (&["linux/amd64/v2"], knows_levels),
    ]
}

/// An index with several variants of the engine's platform: the one that a pull takes is loaded, and shows the digest.
fn the_variant_is_the_one_that_a_pull_takes(engine: Engine, store: Store) {
    let (images, others) = (Images::new(), Images::new());
    let mut built = Vec::new();
    for (number, (platforms, is_taken)) in (1..).zip(indexes(engine, store)) {
        let name = format!("app:{number}");
        match is_taken {
            true => built.push((images.add(&name, &image(platforms)), name)),
            false => drop(others.add(&name, &image(platforms))),
        }
    }
    let daemon = Daemon::start(engine, store);
    let loader = Loader::beside(&daemon);
    loader.load(&images);
    let pushed: Vec<(&Built, String)> = built
        .iter()
        .map(|(image, name)| (image, format!("library/{name}")))
        .collect();
    let pushed: Vec<(&Built, &str)> = pushed.iter().map(|(image, to)| (*image, to.as_str())).collect();
    let names: Vec<String> = built.iter().map(|(_, name)| name.clone()).collect();
    let twin = pulled(engine, store, &pushed, &names);
    assert_eq!(daemon.images(), twin.images());
    assert_eq!(listed(&daemon), listed(&twin));
    for name in &names {
        assert_eq!(comparable(&daemon, name), comparable(&twin, name), "{name}");
    }
    assert_nothing_is_left(&loader);

    if others.path().join("index.json").exists() {
        let error = loader.try_load(&others, &LoadOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert_eq!(daemon.images(), twin.images());
    }
}

on_every_engine!(the_variant_is_the_one_that_a_pull_takes);

/// What was saved for the plain platform shows its digest, also where the engine would have taken another variant.
fn a_part_of_the_variants(engine: Engine, store: Store) {
    let (sealift, images) = (Sealift::new(), Images::new());
    let plain = Platform::host().to_string();
    let variants: &[&str] = match cfg!(target_arch = "aarch64") {
        true => &["linux/arm64/v9", "linux/arm64/v8"],
        false => &["linux/amd64/v3", "linux/amd64"],
    };
    let built = images.add("app:1", &image(variants));
    let from = images.path();
    let save = [
        "save",
        "-q",
        "--from",
        from.to_str().unwrap(),
        "--platform",
        &plain,
        "app:1",
    ];
    sealift.run(&[&save[..], &["-o", "app.tar"]].concat()).ok();
    let daemon = Daemon::start(engine, store);
    let sealift = sealift.docker(&daemon);
    sealift.run(&["load", "app.tar"]).ok();
    assert_eq!(daemon.images(), [format!("app:1 {}", built.digest)]);
    assert_runs(&daemon, "app:1", &plain);
}

on_every_engine!(a_part_of_the_variants);

/// An image without an index is what it is: it is loaded as a pull takes it, with a warning. Of an index, a platform
/// that the engine does not run is loaded on request, as by `docker pull --platform`.
fn images_of_another_platform(engine: Engine, store: Store) {
    let foreign = Platform::foreign().to_string();
    let (images, registry) = (Images::new(), Registry::start());
    let single = images.add("single:1", &image(&[&foreign]).without_index());
    let indexed = images.add("indexed:1", &image(&[&foreign]));
    registry.push(&single, "library/single:1");
    registry.push(&indexed, "library/indexed:1");
    let twin = Daemon::options(engine, store).mirror(&registry).start();
    twin.docker(&["pull", "--quiet", "single:1"]).ok();
    twin.docker(&["pull", "--quiet", "--platform", &foreign, "indexed:1"])
        .ok();

    let daemon = Daemon::start(engine, store);
    let sealift = Sealift::new().docker(&daemon);
    let path = images.path().to_str().unwrap().to_owned();
    let said = sealift.run(&["load", &path]).code(7);
    let hint =
        format!("hint: indexed:1 is only for {foreign}; --keep-going loads the others; --platform {foreign}");
    assert!(said.stderr.contains(&hint), "{said:?}");
    assert_eq!(daemon.images(), [""; 0]);

    let said = sealift.run(&["load", &path, "--keep-going"]).code(7);
    let warning = format!("warning: for {foreign}, which the engine does not run by itself: single:1");
    assert!(said.stderr.contains(&warning), "{said:?}");
    let left_out = format!("warning: indexed:1 was skipped: it is only for {foreign}");
    assert!(said.stderr.contains(&left_out), "{said:?}");
    assert_eq!(daemon.images(), [format!("single:1 {}", single.digest)]);

    let said = sealift.run(&["load", &path, "--platform", &foreign]).ok();
    assert!(!said.stderr.contains("warning"), "{said:?}");
    assert_eq!(daemon.images(), twin.images());
    for name in ["single:1", "indexed:1"] {
        assert_eq!(comparable(&daemon, name), comparable(&twin, name), "{name}");
    }
    let told = sealift
        .run(&["load", &path, "--platform", &foreign, "--json"])
        .ok()
        .json();
    let told = [0, 1].map(|at| ["platform", "foreign"].map(|key| told["images"][at][key].clone()));
    assert_eq!(json!(told), json!([[foreign, true], [foreign, true]]));
}

on_every_engine!(images_of_another_platform);

/// A digest stands for one image in a classic store, of whichever platform came first: no pull moves it, and no load
/// does. The command that is told helps. In the containerd store all platforms have one name.
fn another_platform_of_the_same_index(engine: Engine, store: Store) {
    let (host, foreign) = (Platform::host().to_string(), Platform::foreign().to_string());
    let (images, registry) = (Images::new(), Registry::start());
    let built = images.add("app:1", &image(&[&host, &foreign]));
    registry.push(&built, "twin:1");
    let name = format!("app@{}", built.digest);
    let daemon = Daemon::start(engine, store);
    let sealift = Sealift::new().docker(&daemon);
    let path = images.path().to_str().unwrap().to_owned();
    sealift.run(&["load", &path]).ok();
    let before = daemon.inspect(&name).unwrap()["Id"].clone();
    let load = ["load", &path, "--platform", &foreign];
    if store == Store::Containerd {
        let said = sealift.run(&[&load[..], &["--json"]].concat()).ok().json();
        assert_eq!(said["images"][0]["change"], "unchanged", "{said:#}");
        assert!(said["images"][0]["sent"].as_u64().unwrap() > 0, "{said:#}");
        return;
    }
    let twin = format!("{}/twin@{}", registry.address(), built.digest);
    daemon.docker(&["pull", "--quiet", &twin]).ok();
    let pulled = daemon
        .docker(&["pull", "--quiet", "--platform", &foreign, &twin])
        .code(1);
    assert!(
        pulled.stderr.to_lowercase().contains("cannot overwrite digest"),
        "{pulled:?}"
    );
    let hint = format!("hint: `docker rmi {name}` takes it from that image");
    for more in [&["--dry-run"][..], &[]] {
        let said = sealift.run(&[&load[..], more].concat()).code(6);
        let all = said.stdout + &said.stderr;
        assert!(
            all.contains(&format!("{name} is the name of another image there")),
            "{all}"
        );
        assert!(all.contains(&hint), "{all}");
        assert_eq!(daemon.inspect(&name).unwrap()["Id"], before);
    }
    daemon.docker(&["rmi", &twin]).ok();
    daemon.docker(&["rmi", &name]).ok();
    sealift.run(&load).ok();
    let config = &built
        .manifests
        .iter()
        .find(|one| one.platform.to_string() == foreign)
        .unwrap()
        .config;
    assert_eq!(daemon.inspect(&name).unwrap()["Id"], config.as_str());
    assert_eq!(daemon.images(), [format!("app:1 {}", built.digest)]);
}

on_every_engine!(another_platform_of_the_same_index);

/// An artifact is called one, and is nothing that an engine loads.
fn artifacts_are_refused_by_name(engine: Engine, store: Store) {
    const CHART: &str = "application/vnd.cncf.helm.config.v1+json";
    const SIGNATURE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
    let images = Images::new();
    let app = images.add("app:1", &Image::sample("app", "1"));
    image::artifact(&images.path(), "docker.io/library/chart:1", CHART);
    image::signature(&images.path(), "docker.io/library/app:signature", SIGNATURE);
    let daemon = Daemon::start(engine, store);
    let sealift = Sealift::new().docker(&daemon);
    let path = images.path().to_str().unwrap().to_owned();
    for more in [&[][..], &["--dry-run"]] {
        let said = sealift.run(&[&["load", &path][..], more].concat()).code(7);
        for part in [
            "error: images chart:1, app:signature not found in ",
            &format!("chart:1 is an artifact of type {CHART}, not an image"),
            &format!("app:signature is an artifact of type {SIGNATURE}, not an image"),
        ] {
            assert!(said.stderr.contains(part), "{said:?}");
        }
        assert_eq!(daemon.images(), [""; 0]);
    }
    let said = sealift
        .run(&["load", &path, "--keep-going", "--json"])
        .code(7)
        .json();
    let left_out = json!([
        { "name": "chart:1", "reason": format!("it is an artifact of type {CHART}, not an image"), "exit": 7 },
        { "name": "app:signature", "reason": format!("it is an artifact of type {SIGNATURE}, not an image"), "exit": 7 },
    ]);
    assert_eq!(said["left_out"], left_out);
    assert_eq!(daemon.images(), [format!("app:1 {}", app.digest)]);
    sealift.run(&["load", &path, "--image", "app:1"]).ok();
    let saved = sealift.run(&[
        "save",
        "-q",
        "--from",
        &path,
        "app:signature",
        "-o",
        "signature.tar",
    ]);
    saved.ok();
    sealift.run(&["verify", "signature.tar"]).ok();
}

on_every_engine!(artifacts_are_refused_by_name);

/// An image without layers is all there once its config is.
fn images_without_layers(engine: Engine, store: Store) {
    let (images, only) = (Images::new(), Images::new());
    let labels = Image::single(Vec::new());
    let empty = images.add("empty:1", &labels);
    let app = images.add("app:1", &Image::sample("app", "1"));
    only.add("empty:1", &labels);
    let pushed = [(&empty, "library/empty:1"), (&app, "library/app:1")];
    let twin = pulled(engine, store, &pushed, &["empty:1".into(), "app:1".into()]);
    let (alone, daemon) = (Daemon::start(engine, store), Daemon::start(engine, store));
    Loader::beside(&alone).load(&only);
    assert_eq!(alone.images(), [format!("empty:1 {}", empty.digest)]);
    assert_eq!(comparable(&alone, "empty:1"), comparable(&twin, "empty:1"));
    let loader = Loader::beside(&daemon);
    loader.load(&images);
    assert_eq!(listed(&daemon), listed(&twin));
    assert_eq!(comparable(&daemon, "empty:1"), comparable(&twin, "empty:1"));
    let plan = loader.plan(&images, &LoadOptions::default()).unwrap();
    assert!(plan.images.iter().all(|image| image.present), "{plan}");
    daemon.docker(&["create", "empty:1", "x"]).ok();
}

on_every_engine!(images_without_layers);
