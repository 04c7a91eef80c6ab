//! Loading into real Dockers.

use sealift::error::ErrorKind;
use sealift::load::{DigestStatus, LoadOptions};
use serde_json::json;

use crate::loading::{
    Images, Loader, Untouched, assert_nothing_is_left, assert_runs, comparable, listed, pulled,
};
use crate::support::{Compression, Daemon, Dialect, Engine, Image, Platform, Store};

fn an_empty_daemon_ends_up_as_after_a_pull(engine: Engine, store: Store) {
    let images = Images::new();
    let httpd = images.add("httpd:2.4", &Image::sample("httpd", "2.4"));
    let redis = images.add_by_digest("redis", &Image::sample("redis", "7").dialect(Dialect::Docker));
    let nginx = images.add_by_digest("nginx:1", &Image::sample("nginx", "1").without_index());
    let by_tag = "httpd:2.4".to_string();
    let by_digest = format!("redis@{}", redis.digest);
    let by_both = format!("nginx:1@{}", nginx.digest);

    let daemon = Daemon::start(engine, store);
    let before = Untouched::of(&daemon);
    let loader = Loader::beside(&daemon);
    let report = loader.load(&images);
    assert_eq!(Untouched::of(&daemon), before);
    assert_nothing_is_left(&loader);
    assert_eq!(report.images.len(), 3);
    for image in &report.images {
        assert!(image.sent > 0 && image.obstacles.is_empty(), "{image:?}");
    }

    let pushed = [
        (&httpd, "library/httpd:2.4"),
        (&redis, "library/redis:7"),
        (&nginx, "library/nginx:1"),
    ];
    let twin = pulled(
        engine,
        store,
        &pushed,
        &[by_tag.clone(), by_digest.clone(), by_both],
    );
    assert_eq!(daemon.images(), twin.images());
    assert_eq!(listed(&daemon), listed(&twin));
    let nginx_digest = format!("nginx@{}", nginx.digest);
    let httpd_digest = format!("httpd@{}", httpd.digest);
    for name in [&by_tag, &httpd_digest, &by_digest, &nginx_digest] {
        assert_eq!(comparable(&daemon, name), comparable(&twin, name), "{name}");
    }

    assert_runs(&daemon, &by_tag, "2.4");
    assert_runs(&daemon, &httpd_digest, "2.4");
    assert_runs(&daemon, &format!("httpd:2.4@{}", httpd.digest), "2.4");
    assert_runs(&daemon, &by_digest, "7");
    assert_runs(&daemon, &nginx_digest, "1");
}

on_every_engine!(an_empty_daemon_ends_up_as_after_a_pull);

fn a_second_load_sends_nothing(engine: Engine, store: Store) {
    let images = Images::new();
    images.add("httpd:2.4", &Image::sample("httpd", "2.4"));
    images.add_by_digest("redis", &Image::sample("redis", "7"));
    let mut daemon = Daemon::start(engine, store);
    let loader = Loader::beside(&daemon);
    loader.load(&images);
    let shown = daemon.images();
    let plan = loader.plan(&images, &LoadOptions::default()).unwrap();
    assert!(plan.send.is_empty(), "{plan}");
    for image in &plan.images {
        assert!(
            image.present && image.digest_status == DigestStatus::Present,
            "{plan}"
        );
    }
    let report = loader.load(&images);
    assert!(report.images.iter().all(|image| image.sent == 0), "{report:?}");
    assert_eq!(report.sent, 0);
    assert_eq!(daemon.images(), shown);
    daemon.restart();
    assert_eq!(daemon.images(), shown);
}

on_every_engine!(a_second_load_sends_nothing);

fn an_update_sends_only_the_top_layer(engine: Engine, store: Store) {
    let (old, new) = (Images::new(), Images::new());
    old.add("app:1", &Image::sample("app", "1"));
    let update = new.add("app:2", &Image::sample("app", "2"));
    let daemon = Daemon::start(engine, store);
    let loader = Loader::beside(&daemon);
    loader.load(&old);
    let report = loader.load(&new);
    assert_runs(&daemon, "app:1", "1");
    assert_runs(&daemon, "app:2", "2");
    assert_runs(&daemon, &format!("app@{}", update.digest), "2");
    if engine == Engine::Docker26 && store == Store::Containerd {
        return; // It does not tell what content it has.
    }
    let host = update.host();
    let config = std::fs::metadata(update.blob(&host.config)).unwrap().len();
    let documents = match store {
        Store::Classic => 0,
        Store::Containerd => update.size + host.size,
    };
    let top = host.layers.last().unwrap();
    assert_eq!(report.images[0].sent, top.size + config + documents);
    // Headers, and manifest.json or index.json, of two streams.
    assert!(report.sent < report.images[0].sent + 20_000, "{report:?}");
}

on_every_engine!(an_update_sends_only_the_top_layer);

fn other_names_stay_and_a_moved_tag_moves(engine: Engine, store: Store) {
    let (one, two) = (Images::new(), Images::new());
    let first = one.add("app:latest", &Image::sample("app", "1"));
    one.add("other:9", &Image::sample("other", "9"));
    let second = two.add("app:latest", &Image::sample("app", "2"));
    let daemon = Daemon::start(engine, store);
    let loader = Loader::beside(&daemon);
    loader.load(&one);
    daemon.docker(&["tag", "app:latest", "mine:kept"]).ok();
    let other = comparable(&daemon, "other:9");
    loader.load(&two);
    assert_runs(&daemon, "app:latest", "2");
    assert_runs(&daemon, "mine:kept", "1");
    assert_runs(&daemon, &format!("app@{}", second.digest), "2");
    assert_eq!(comparable(&daemon, "other:9"), other);
    if store == Store::Classic {
        // The image keeps its digest, as after a pull; the other store keeps it with a name only.
        assert_runs(&daemon, &format!("app@{}", first.digest), "1");
    }
}

on_every_engine!(other_names_stay_and_a_moved_tag_moves);

fn renamed_images_have_the_new_names_only(engine: Engine, store: Store) {
    let images = Images::new();
    let httpd = images.add("httpd:2.4", &Image::sample("httpd", "2.4"));
    images.add("redis:7", &Image::sample("redis", "7"));
    let daemon = Daemon::start(engine, store);
    let loader = Loader::beside(&daemon);
    let options = LoadOptions {
        renames: vec![
            "httpd=team/web".parse().unwrap(),
            "redis:7=cache:1".parse().unwrap(),
        ],
        ..LoadOptions::default()
    };
    let report = loader.try_load(&images, &options).unwrap();
    assert_eq!(report.failure(), None, "{report:#?}");
    let names: Vec<String> = daemon
        .images()
        .iter()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["cache:1", "team/web:2.4"]);
    assert_runs(&daemon, &format!("team/web@{}", httpd.digest), "2.4");
}

on_every_engine!(renamed_images_have_the_new_names_only);

fn names_of_other_registries(engine: Engine, store: Store) {
    let images = Images::new();
    let tool = images.add("quay.io/team/tool:1", &Image::sample("tool", "1"));
    let httpd = images.add("httpd:2.4", &Image::sample("httpd", "2.4"));
    // The host's own /etc/hosts is not for tests to cover.
    let daemon = Daemon::options(engine, store).own_mounts().start();
    let report = Loader::beside(&daemon)
        .try_load(&images, &LoadOptions::default())
        .unwrap();
    assert_runs(&daemon, "quay.io/team/tool:1", "1");
    assert_runs(&daemon, &format!("httpd@{}", httpd.digest), "2.4");
    let shown = daemon.inspect("quay.io/team/tool:1").unwrap()["RepoDigests"].clone();
    assert_eq!(report.failure(), None, "{report:#?}");
    assert_eq!(shown, json!([format!("quay.io/team/tool@{}", tool.digest)]));
}

on_every_engine!(names_of_other_registries);

fn zstd_images(engine: Engine, store: Store) {
    let images = Images::new();
    let image = images.add("app:1", &Image::sample("app", "1").compression(Compression::Zstd));
    let daemon = Daemon::start(engine, store);
    let loader = Loader::beside(&daemon);
    loader.load(&images);
    assert_runs(&daemon, &format!("app@{}", image.digest), "1");
    // The same layers under another compression: unpacked they are there, as blobs they are not.
    let again = Images::new();
    let gzip = again.add("app:gz", &Image::sample("app", "1"));
    loader.load(&again);
    assert_runs(&daemon, &format!("app@{}", gzip.digest), "1");
    if engine != Engine::Docker26 && store == Store::Containerd {
        let list = daemon.api("/images/json?manifests=1");
        for listed in list.as_array().unwrap() {
            let manifests = listed["Manifests"].as_array().unwrap();
            assert!(
                manifests.iter().any(|manifest| manifest["Available"] == true),
                "{listed}"
            );
        }
    }
}

on_every_engine!(zstd_images);

fn a_platform_that_does_not_match(engine: Engine, store: Store) {
    let images = Images::new();
    let mut foreign = Image::sample("app", "1");
    foreign.platforms.remove(0);
    images.add("app:1", &foreign);
    images.add("httpd:2.4", &Image::sample("httpd", "2.4"));
    let daemon = Daemon::start(engine, store);
    let loader = Loader::beside(&daemon);
    let error = loader.try_load(&images, &LoadOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("of app:1 not found"), "{error}");
    let has = format!("app:1 is only for {}", Platform::foreign());
    assert!(
        error.hint().unwrap().to_string().contains(&has),
        "{:?}",
        error.hint()
    );
    assert_eq!(daemon.images(), [""; 0]);

    let options = LoadOptions {
        keep_going: true,
        ..LoadOptions::default()
    };
    let report = loader.try_load(&images, &options).unwrap();
    assert_eq!(
        (report.failure(), report.images.len(), report.skipped.len()),
        (Some(ErrorKind::NotFound), 1, 1)
    );
    assert_runs(&daemon, "httpd:2.4", "2.4");
}

on_every_engine!(a_platform_that_does_not_match);
